//! Edits of files: links, owners, modes, crashes, and two editors at once.

use super::*;
use crate::testing::quick_folder;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink};

fn folder() -> (tempfile::TempDir, Folder) {
    let dir = quick_folder();
    let folder = Folder::new(dir.path());
    (dir, folder)
}

fn addition(entry: &str) -> Addition {
    Addition { entry: entry.parse().unwrap(), until: None, from: None, force: false, note: None }
}

fn removal(entry: &str) -> Removal {
    Removal { entry: entry.parse().unwrap(), from: None }
}

fn text(folder: &Folder, own: Own) -> String {
    std::fs::read_to_string(folder.own(own)).unwrap()
}

#[test]
fn a_new_file_explains_itself_and_reads_back_as_what_was_added() {
    let (_dir, folder) = folder();
    for own in Own::ALL {
        assert_eq!(add(&folder, own, &[addition("192.0.2.1")]).unwrap(), [Added::New]);
        let text = text(&folder, own);
        assert!(text.starts_with("# ") && text.ends_with("\n192.0.2.1\n"), "{text}");
        assert_eq!(folder.own(own).metadata().unwrap().mode() & 0o777, 0o640);
        let mut lines = Vec::new();
        let counts = crate::lists::Source::own(&folder, own)
            .read(&mut |line| lines.push(format!("{line:?}")))
            .unwrap();
        assert_eq!((counts.items, counts.bad), (1, 0), "{lines:?}");
    }
    assert_eq!(folder.lists().metadata().unwrap().mode() & 0o777, 0o750);
}

#[test]
fn nothing_to_do_touches_nothing() {
    let (_dir, folder) = folder();
    assert!(remove(&folder, Own::Block, &[removal("192.0.2.1")]).unwrap().is_empty());
    assert!(!folder.own(Own::Block).exists());
    add(&folder, Own::Block, &[addition("192.0.2.1")]).unwrap();
    let inode = || folder.own(Own::Block).metadata().unwrap().ino();
    let before = inode();
    assert_eq!(add(&folder, Own::Block, &[addition("192.0.2.1")]).unwrap(), [Added::Unchanged]);
    assert!(prune_expired(&folder, Own::Block, Wall(u64::MAX)).unwrap().is_empty());
    assert_eq!(inode(), before);
}

#[test]
fn owner_mode_and_link_stay() {
    let (dir, folder) = folder();
    let elsewhere = dir.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::create_dir(folder.lists()).unwrap();
    let real = elsewhere.join("mine.txt");
    std::fs::write(&real, "# mine\n").unwrap();
    std::fs::set_permissions(&real, std::fs::Permissions::from_mode(0o604)).unwrap();
    if nix::unistd::geteuid().is_root() {
        std::os::unix::fs::chown(&real, Some(12), Some(34)).unwrap();
    }
    let before = real.metadata().unwrap();
    symlink("../elsewhere/mine.txt", folder.own(Own::Block)).unwrap();
    add(&folder, Own::Block, &[addition("evil.example")]).unwrap();
    assert!(folder.own(Own::Block).symlink_metadata().unwrap().is_symlink());
    assert_eq!(std::fs::read_to_string(&real).unwrap(), "# mine\nevil.example\n");
    let after = real.metadata().unwrap();
    assert_eq!(
        (after.mode(), after.uid(), after.gid()),
        (before.mode(), before.uid(), before.gid())
    );
    assert_eq!(std::fs::read_dir(&elsewhere).unwrap().count(), 1, "nothing is left behind");
}

#[test]
fn a_link_to_nothing_is_written_through() {
    let (dir, folder) = folder();
    std::fs::create_dir(folder.lists()).unwrap();
    symlink(dir.path().join("later.txt"), folder.own(Own::Allow)).unwrap();
    add(&folder, Own::Allow, &[addition("192.0.2.1")]).unwrap();
    assert!(dir.path().join("later.txt").is_file());
    assert!(text(&folder, Own::Allow).ends_with("192.0.2.1\n"));
}

#[test]
fn a_crash_at_any_byte_leaves_the_old_file_and_the_next_edit_works() {
    let (_dir, folder) = folder();
    add(&folder, Own::Block, &[addition("192.0.2.1"), addition("evil.example")]).unwrap();
    let old = text(&folder, Own::Block);
    let new = format!("{old}192.0.2.2\n");
    let temporary = folder.lists().join(".block.txt.new");
    for cut in 0..=new.len() {
        // What is left when power goes at this byte, before the rename.
        std::fs::write(&temporary, &new.as_bytes()[..cut]).unwrap();
        assert_eq!(text(&folder, Own::Block), old);
        add(&folder, Own::Block, &[addition("192.0.2.2")]).unwrap();
        assert_eq!(text(&folder, Own::Block), new);
        assert!(!temporary.exists());
        assert_eq!(remove(&folder, Own::Block, &[removal("192.0.2.2")]).unwrap(), ["192.0.2.2"]);
        assert_eq!(text(&folder, Own::Block), old);
    }
}

#[test]
fn many_editors_lose_nothing() {
    let (_dir, folder) = folder();
    std::thread::scope(|scope| {
        for thread in 0..4_u8 {
            let folder = &folder;
            scope.spawn(move || {
                for number in 0..10_u8 {
                    let entry = addition(&format!("192.0.{thread}.{number}"));
                    add(folder, Own::Block, &[entry]).unwrap();
                }
            });
        }
    });
    let entries = text(&folder, Own::Block).lines().filter(|line| !line.starts_with('#')).count();
    assert_eq!(entries, 40);
}

#[test]
fn what_cannot_be_in_a_list_is_refused_before_anything_is_written() {
    let (_dir, folder) = folder();
    let mut pair = addition("192.0.2.1");
    pair.from = Some("172.17.0.2".parse().unwrap());
    assert!(matches!(add(&folder, Own::Allow, &[pair.clone()]), Err(EditError::NotForOne)));
    assert!(matches!(add(&folder, Own::Quarantine, &[pair.clone()]), Err(EditError::NotForOne)));
    assert!(add(&folder, Own::Auto, &[pair.clone()]).is_ok());
    pair.entry = "192.0.2.0/24".parse().unwrap();
    assert!(matches!(add(&folder, Own::Block, &[pair.clone()]), Err(EditError::Pair)));
    pair.entry = "2001:db8::1".parse().unwrap();
    assert!(matches!(add(&folder, Own::Block, &[pair]), Err(EditError::Pair)));
    let domain = [addition("evil.example")];
    assert!(matches!(add(&folder, Own::Quarantine, &domain), Err(EditError::Container)));
    assert!(!folder.own(Own::Block).exists() && !folder.own(Own::Quarantine).exists());
}

#[test]
fn errors_name_the_file() {
    let (dir, folder) = folder();
    std::fs::write(dir.path().join("lists"), "not a folder").unwrap();
    let error = add(&folder, Own::Block, &[addition("192.0.2.1")]).unwrap_err().to_string();
    assert!(error.starts_with("cannot make ") && error.contains("/lists"), "{error}");
}
