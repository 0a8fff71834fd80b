//! Notices that list files change: written, renamed over, deleted, made again, and their folders with them.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, InotifyEvent, WatchDescriptor};

use super::folder::{Folder, Own};

/// How long to wait after the first notice before reading: an editor truncates, writes and renames within a few
/// milliseconds, and one reading of all lists should do for it.
pub const DEBOUNCE: Duration = Duration::from_millis(150);

/// A folder is not where it was.
const GONE: AddWatchFlags = AddWatchFlags::IN_IGNORED
    .union(AddWatchFlags::IN_MOVE_SELF)
    .union(AddWatchFlags::IN_DELETE_SELF);

/// Watches folders rather than files: a file that is renamed over is another file, its folder stays.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    folders: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// What matters in it: other files there, such as the registry, change all the time.
    names: BTreeSet<OsString>,
    /// None while it is not there; its parent is watched for its return.
    at: Option<WatchDescriptor>,
}

impl Watch {
    /// Watches our own lists and `others` in their folders, and those folders in their parents.
    ///
    /// # Errors
    /// If the system gives no inotify instance.
    pub fn open(folder: &Folder, others: &[PathBuf]) -> io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let mut folders: BTreeMap<PathBuf, BTreeSet<OsString>> = BTreeMap::new();
        for file in Own::ALL.map(|own| folder.own(own)).iter().chain(others) {
            let mut path = file.as_path();
            // The file in its folder, and the folder in its parent.
            for _ in 0..2 {
                let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { break };
                folders.entry(parent.to_path_buf()).or_default().insert(name.to_owned());
                path = parent;
            }
        }
        let folders =
            folders.into_iter().map(|(path, names)| Watched { path, names, at: None }).collect();
        let mut watch = Watch { inotify, folders };
        watch.follow();
        Ok(watch)
    }

    /// Whether anything happened since the last time, in any of the folders.
    pub fn changed(&mut self) -> bool {
        let mut changed = false;
        loop {
            match self.inotify.read_events() {
                Ok(events) => {
                    for event in &events {
                        changed |= self.matters(event);
                        if event.mask.intersects(GONE) {
                            self.lose(event.wd);
                        }
                    }
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                // Nothing more will come from it; the lists are read at the next expiry or restart.
                Err(_) => break,
            }
        }
        // A folder that was not there may be now.
        self.follow();
        changed
    }

    /// Without a name it is about the folder itself, or about notices that were lost.
    fn matters(&self, event: &InotifyEvent) -> bool {
        let Some(name) = &event.name else {
            return !event.mask.contains(AddWatchFlags::IN_IGNORED);
        };
        let mut here = self.folders.iter().filter(|folder| folder.at == Some(event.wd));
        here.any(|folder| folder.names.contains(name))
    }

    fn lose(&mut self, at: WatchDescriptor) {
        for folder in self.folders.iter_mut().filter(|folder| folder.at == Some(at)) {
            // A folder that was renamed away would go on telling of itself.
            let _ = self.inotify.rm_watch(at);
            folder.at = None;
        }
    }

    /// Watches what is there and not watched yet.
    fn follow(&mut self) {
        let flags = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_ONLYDIR;
        for folder in self.folders.iter_mut().filter(|folder| folder.at.is_none()) {
            folder.at = self.inotify.add_watch(&folder.path, flags).ok();
        }
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::fs;

    /// Waits until something is noticed; the deadline is only for a test that fails.
    fn noticed(watch: &mut Watch) -> bool {
        let mut descriptors = [PollFd::new(watch.as_fd(), PollFlags::POLLIN)];
        poll(&mut descriptors, PollTimeout::from(5000_u16)).unwrap();
        watch.changed()
    }

    #[test]
    fn every_way_to_change_a_file_is_noticed() {
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::new(state.path());
        fs::create_dir(folder.lists()).unwrap();
        let mut watch = Watch::open(&folder, &[]).unwrap();
        assert!(!watch.changed());
        let (file, other) = (folder.lists().join("block.txt"), folder.lists().join("new"));
        fs::write(&file, "192.0.2.1\n").unwrap();
        assert!(noticed(&mut watch), "made");
        fs::write(&file, "192.0.2.2\n").unwrap();
        assert!(noticed(&mut watch), "written over");
        fs::write(&other, "192.0.2.3\n").unwrap();
        fs::rename(&other, &file).unwrap();
        assert!(noticed(&mut watch), "renamed over");
        fs::remove_file(&file).unwrap();
        assert!(noticed(&mut watch), "deleted");
        fs::write(folder.status(), "{}").unwrap();
        fs::write(state.path().join("registry.json"), "{}").unwrap();
        assert!(!watch.changed(), "what is not a list does not matter");
    }

    #[test]
    fn the_folder_itself_may_go_and_come_back() {
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::new(state.path());
        let mut watch = Watch::open(&folder, &[]).unwrap();
        for round in 0..2 {
            fs::create_dir(folder.lists()).unwrap();
            assert!(noticed(&mut watch), "made, {round}");
            fs::write(folder.lists().join("allow.txt"), "192.0.2.1\n").unwrap();
            assert!(noticed(&mut watch), "file made, {round}");
            let away = state.path().join(format!("away-{round}"));
            fs::rename(folder.lists(), away).unwrap();
            assert!(noticed(&mut watch), "moved away, {round}");
            watch.changed();
        }
    }

    #[test]
    fn a_feed_elsewhere_is_watched_too() {
        let (state, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let feed = elsewhere.path().join("feed.netset");
        let mut watch =
            Watch::open(&Folder::new(state.path()), std::slice::from_ref(&feed)).unwrap();
        fs::write(&feed, "192.0.2.0/24\n").unwrap();
        assert!(noticed(&mut watch));
    }
}
