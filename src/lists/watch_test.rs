//! Watching: every way in which a file changes is noticed, and nothing else is.

use super::*;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::fs;
use std::os::unix::fs::symlink;

/// How long a notice may take on a busy machine.
const PATIENCE_MS: u16 = 10_000;

struct Stand {
    dir: tempfile::TempDir,
}

impl Stand {
    fn new() -> Stand {
        let stand = Stand { dir: tempfile::tempdir().unwrap() };
        fs::create_dir(stand.at("lists")).unwrap();
        stand
    }

    fn at(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn watch(&self, paths: &[&str]) -> Watch {
        Watch::new(paths.iter().map(|path| self.at(path))).unwrap()
    }

    /// Does something and checks that it is noticed, for exactly these files.
    #[track_caller]
    fn check(&self, watch: &mut Watch, wanted: &[&str], what: impl FnOnce()) {
        what();
        let wanted: BTreeSet<PathBuf> = wanted.iter().map(|path| self.at(path)).collect();
        let mut found = BTreeSet::new();
        while found != wanted {
            assert!(readable(watch, PATIENCE_MS), "only {found:?} of {wanted:?}");
            found.extend(watch.changed().unwrap());
            assert!(found.is_subset(&wanted), "{found:?} instead of {wanted:?}");
        }
        self.settle(watch);
    }

    /// Takes up what belongs to the same deed.
    fn settle(&self, watch: &mut Watch) {
        while readable(watch, 0) {
            watch.changed().unwrap();
        }
    }

    /// inotify is synchronous: what is not there at once never comes.
    #[track_caller]
    fn silent(&self, watch: &mut Watch, what: impl FnOnce()) {
        what();
        assert_eq!(watch.changed().unwrap(), BTreeSet::new());
    }
}

fn readable(watch: &Watch, timeout: u16) -> bool {
    let mut fds = [PollFd::new(watch.fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::from(timeout)).unwrap() == 1
}

const A: &str = "lists/a.txt";
const B: &str = "lists/b.txt";

#[test]
fn writing_creating_replacing_and_deleting_are_noticed() {
    let stand = Stand::new();
    let mut watch = stand.watch(&[A, B]);
    stand.check(&mut watch, &[A], || fs::write(stand.at(A), "1").unwrap());
    stand.check(&mut watch, &[A], || fs::write(stand.at(A), "2").unwrap());
    stand.silent(&mut watch, || fs::write(stand.at("lists/.a.txt.swp"), "3").unwrap());
    stand.check(&mut watch, &[A], || {
        fs::rename(stand.at("lists/.a.txt.swp"), stand.at(A)).unwrap();
    });
    stand.check(&mut watch, &[A], || fs::write(stand.at(A), "4").unwrap());
    stand.check(&mut watch, &[A], || fs::rename(stand.at(A), stand.at("lists/old")).unwrap());
    stand.check(&mut watch, &[B], || fs::write(stand.at(B), "5").unwrap());
    stand.check(&mut watch, &[B], || fs::remove_file(stand.at(B)).unwrap());
    stand.check(&mut watch, &[A, B], || {
        fs::write(stand.at(A), "6").unwrap();
        fs::write(stand.at(B), "7").unwrap();
    });
}

#[test]
fn the_folder_may_go_and_come_back() {
    let stand = Stand::new();
    fs::write(stand.at(A), "1").unwrap();
    let mut watch = stand.watch(&[A]);
    stand.check(&mut watch, &[A], || fs::remove_dir_all(stand.at("lists")).unwrap());
    stand.silent(&mut watch, || fs::write(stand.at("other"), "x").unwrap());
    stand.check(&mut watch, &[A], || {
        fs::create_dir(stand.at("lists")).unwrap();
        fs::write(stand.at(A), "2").unwrap();
    });
    stand.check(&mut watch, &[A], || fs::write(stand.at(A), "3").unwrap());
    // Another folder in its place, without a moment between.
    fs::create_dir(stand.at("next")).unwrap();
    fs::write(stand.at("next/a.txt"), "4").unwrap();
    stand.check(&mut watch, &[A], || {
        fs::rename(stand.at("lists"), stand.at("gone")).unwrap();
        fs::rename(stand.at("next"), stand.at("lists")).unwrap();
    });
    stand.check(&mut watch, &[A], || fs::write(stand.at(A), "5").unwrap());
    stand.silent(&mut watch, || fs::write(stand.at("gone/a.txt"), "6").unwrap());
}

#[test]
fn a_whole_tree_may_appear_and_move_away() {
    let stand = Stand::new();
    let deep = "x/y/z/a.txt";
    let mut watch = stand.watch(&[deep]);
    stand.check(&mut watch, &[deep], || {
        fs::create_dir_all(stand.at("x/y/z")).unwrap();
        fs::write(stand.at(deep), "1").unwrap();
    });
    stand.check(&mut watch, &[deep], || fs::write(stand.at(deep), "2").unwrap());
    stand.silent(&mut watch, || fs::write(stand.at("x/noise"), "x").unwrap());
    stand.check(&mut watch, &[deep], || fs::rename(stand.at("x"), stand.at("w")).unwrap());
    stand.silent(&mut watch, || fs::write(stand.at("w/y/z/a.txt"), "3").unwrap());
    stand.check(&mut watch, &[deep], || fs::rename(stand.at("w"), stand.at("x")).unwrap());
    stand.check(&mut watch, &[deep], || fs::write(stand.at(deep), "4").unwrap());
}

#[test]
fn symbolic_links_are_followed_and_their_change_is_noticed() {
    let stand = Stand::new();
    for version in ["v1", "v2"] {
        fs::create_dir(stand.at(version)).unwrap();
        fs::write(stand.at(version).join("real.txt"), version).unwrap();
    }
    // As Kubernetes and many deployment tools do it: a file through a link to a folder that is swapped.
    symlink("v1", stand.at("current")).unwrap();
    symlink("../current/real.txt", stand.at(A)).unwrap();
    let mut watch = stand.watch(&[A]);
    stand.check(&mut watch, &[A], || fs::write(stand.at("v1/real.txt"), "new").unwrap());
    stand.check(&mut watch, &[A], || {
        symlink("v2", stand.at("next")).unwrap();
        fs::rename(stand.at("next"), stand.at("current")).unwrap();
    });
    stand.check(&mut watch, &[A], || fs::write(stand.at("v2/real.txt"), "new").unwrap());
    stand.silent(&mut watch, || fs::write(stand.at("v1/real.txt"), "old").unwrap());
    stand.check(&mut watch, &[A], || fs::remove_file(stand.at(A)).unwrap());
    stand.check(&mut watch, &[A], || symlink(stand.at("later"), stand.at(A)).unwrap());
    stand.check(&mut watch, &[A], || fs::write(stand.at("later"), "now").unwrap());
}

#[test]
fn a_loop_of_links_ends_and_can_be_mended() {
    let stand = Stand::new();
    symlink("b.txt", stand.at(A)).unwrap();
    symlink("a.txt", stand.at(B)).unwrap();
    let mut watch = stand.watch(&[A]);
    stand.check(&mut watch, &[A], || {
        fs::remove_file(stand.at(B)).unwrap();
        fs::write(stand.at(B), "1").unwrap();
    });
    stand.check(&mut watch, &[A], || fs::write(stand.at(B), "2").unwrap());
}

#[test]
fn a_file_written_under_another_name_is_noticed() {
    let stand = Stand::new();
    fs::write(stand.at("elsewhere"), "1").unwrap();
    fs::hard_link(stand.at("elsewhere"), stand.at(A)).unwrap();
    let mut watch = stand.watch(&[A]);
    stand.check(&mut watch, &[A], || fs::write(stand.at("elsewhere"), "2").unwrap());
}

#[test]
fn everything_is_taken_for_changed_when_the_kernel_could_not_keep_up() {
    let stand = Stand::new();
    fs::write(stand.at(A), "1").unwrap();
    let mut watch = stand.watch(&[A, B]);
    let limit = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap();
    let limit: usize = limit.trim().parse().unwrap();
    // Two events each, so that none is joined with the one before.
    for turn in 0..=limit {
        let (from, to) = if turn % 2 == 0 { (A, "lists/c") } else { ("lists/c", A) };
        fs::rename(stand.at(from), stand.at(to)).unwrap();
    }
    assert_eq!(watch.changed().unwrap().len(), 2);
}

#[test]
fn edits_of_ours_are_noticed_once_and_our_status_is_not() {
    use crate::lists::{Addition, Folder, Own, Status, add};
    let stand = Stand::new();
    let folder = Folder::new(stand.dir.path());
    let mut watch = Watch::new(Own::ALL.map(|own| folder.own(own))).unwrap();
    stand.check(&mut watch, &["lists/block.txt"], || {
        let entry = "192.0.2.1".parse().unwrap();
        let addition = Addition { entry, until: None, from: None, force: false, note: None };
        add(&folder, Own::Block, &[addition]).unwrap();
    });
    stand.silent(&mut watch, || Status::default().save(&folder).unwrap());
}
