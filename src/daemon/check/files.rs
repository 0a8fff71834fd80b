//! What is written and read on disk: whose it is, and whether there is room.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nix::sys::statvfs::statvfs;
use nix::unistd::{AccessFlags, access};

use super::Finding;
use crate::config::{Config, DEFAULT_FILE};

/// Less than this is soon full: a snapshot of a million addresses takes some 100 MB beside the one before.
const ROOM_MIN: u64 = 256 << 20;
/// Others may write to it.
const OTHERS_WRITE: u32 = 0o022;

/// What is known of a file or folder.
#[derive(Clone, Copy, Debug)]
struct Kept {
    owner: u32,
    mode: u32,
    writable: bool,
}

/// Looks.
pub fn look(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    if config.memory_only {
        found.push(Finding::ok("state-dir", "nothing is kept on disk (--memory-only)"));
    } else {
        found.extend(state_dir(&config.state_dir));
    }
    if let Some(path) = &config.events {
        found.push(events(path));
    }
    let file = config.file.as_deref().unwrap_or(Path::new(DEFAULT_FILE));
    found.extend(kept(file).map(|kept| configuration(file, kept)));
    found
}

fn kept(path: &Path) -> Option<Kept> {
    let meta = std::fs::metadata(path).ok()?;
    let writable = access(path, AccessFlags::W_OK).is_ok();
    Some(Kept { owner: meta.uid(), mode: meta.permissions().mode() & 0o7777, writable })
}

/// The nearest folder above that is there.
fn there(path: &Path) -> Option<&Path> {
    path.ancestors().find(|folder| folder.is_dir())
}

fn state_dir(path: &Path) -> Vec<Finding> {
    let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut found = vec![match (kept(path), there(path).and_then(kept)) {
        (Some(_), _) if !path.is_dir() => Finding::fail(
            "state-dir",
            format!("{} is no folder", path.display()),
            "say --state-dir FOLDER",
        ),
        (Some(kept), _) => folder(path, kept),
        (None, Some(above)) if above.writable => {
            Finding::ok("state-dir", format!("{} will be made", path.display()))
        }
        (None, _) => Finding::fail(
            "state-dir",
            format!("{} is not there and cannot be made", path.display()),
            format!("mkdir -p -m 0700 {}", path.display()),
        ),
    }];
    let free = there(path).and_then(|folder| statvfs(folder).ok());
    found.extend(free.map(|free| room(path, free.blocks_available() * free.fragment_size())));
    found
}

fn folder(path: &Path, kept: Kept) -> Finding {
    let shown = path.display();
    if !kept.writable {
        return Finding::fail(
            "state-dir",
            format!("{shown} cannot be written: what is learned would be lost at a stop"),
            format!("chown root {shown} && chmod 0700 {shown}, on a disk that is not read-only"),
        );
    }
    if kept.mode & OTHERS_WRITE != 0 {
        return Finding::warn(
            "state-dir",
            format!(
                "{shown} may be written by others (mode {:04o}): so may the lists in it",
                kept.mode
            ),
            format!("chmod go-w {shown}"),
        );
    }
    if kept.owner != 0 {
        return Finding::warn(
            "state-dir",
            format!("{shown} belongs to user {}, who may change the lists in it", kept.owner),
            format!("chown root {shown}"),
        );
    }
    Finding::ok("state-dir", format!("{shown} is root's and can be written"))
}

fn room(path: &Path, free: u64) -> Finding {
    let shown = format!("{} MB are free for {}", free >> 20, path.display());
    match free < ROOM_MIN {
        true => Finding::warn(
            "state-room",
            shown,
            "make room on that disk, or say --state-dir elsewhere",
        ),
        false => Finding::ok("state-room", shown),
    }
}

fn events(path: &Path) -> Finding {
    let path = &std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let shown = path.display();
    let above = path.parent().and_then(kept);
    match (kept(path), above) {
        (Some(file), _) if file.writable => {
            Finding::ok("events-file", format!("{shown} can be written"))
        }
        (None, Some(above)) if above.writable => {
            Finding::ok("events-file", format!("{shown} will be made"))
        }
        _ => Finding::fail(
            "events-file",
            format!("{shown} cannot be written"),
            format!("mkdir -p {}", path.parent().unwrap_or(path).display()),
        ),
    }
}

fn configuration(path: &Path, kept: Kept) -> Finding {
    let shown = path.display();
    if kept.mode & OTHERS_WRITE != 0 {
        return Finding::fail(
            "config-file",
            format!(
                "{shown} may be written by others (mode {:04o}), who could switch all of this off",
                kept.mode
            ),
            format!("chmod go-w {shown}"),
        );
    }
    if kept.owner != 0 {
        return Finding::warn(
            "config-file",
            format!("{shown} belongs to user {}, who may change it", kept.owner),
            format!("chown root {shown}"),
        );
    }
    Finding::ok("config-file", format!("{shown} is understood, and nobody but root changes it"))
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn whoever_may_write_counts() {
        let kept = |owner, mode, writable| Kept { owner, mode, writable };
        let path = Path::new("/x");
        for (kept, of_folder, of_config) in [
            (kept(0, 0o700, true), State::Ok, State::Ok),
            (kept(0, 0o755, true), State::Ok, State::Ok),
            (kept(0, 0o777, true), State::Warn, State::Fail),
            (kept(1000, 0o700, true), State::Warn, State::Warn),
            (kept(0, 0o700, false), State::Fail, State::Ok),
        ] {
            assert_eq!(folder(path, kept).state, of_folder, "{kept:?}");
            assert_eq!(configuration(path, kept).state, of_config, "{kept:?}");
        }
        assert_eq!(room(path, ROOM_MIN).state, State::Ok);
        assert_eq!(room(path, ROOM_MIN - 1).state, State::Warn);
    }

    #[test]
    fn what_is_not_there_yet_is_made_below_what_is() {
        let above = tempfile::tempdir().unwrap();
        let found = state_dir(&above.path().join("not/yet"));
        assert_eq!(found[0].state, State::Ok, "{found:?}");
        assert!(found[0].what.ends_with("will be made"));
        assert!(!above.path().join("not").exists(), "nothing is made by looking");
        let file = above.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(state_dir(&file)[0].state, State::Fail);
        assert_eq!(events(&above.path().join("no/such/events")).state, State::Fail);
        assert_eq!(events(&file).state, State::Ok);
    }
}
