//! Notices that list files change: written, renamed over, deleted, made again, and their folders with them.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::folder::Folder;

/// How long to wait after the first notice before reading: an editor truncates, writes and renames within a few
/// milliseconds, and one reading of all lists should do for it.
pub const DEBOUNCE: Duration = Duration::from_millis(150);

/// Watches folders rather than files: a file that is renamed over is another file, its folder stays.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    folders: Vec<Watched>,
}

#[derive(Debug)]
struct Watched {
    path: PathBuf,
    /// None while it is not there; its parent is watched for its return.
    at: Option<WatchDescriptor>,
}

impl Watch {
    /// Watches the folder of lists, that of each file of `others`, and the parents of all these.
    ///
    /// # Errors
    /// If the system gives no inotify instance.
    pub fn open(folder: &Folder, others: &[PathBuf]) -> io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let direct = others.iter().filter_map(|file| file.parent()).map(Path::to_path_buf);
        let direct: BTreeSet<PathBuf> = direct.chain([folder.lists()]).collect();
        let parents = direct.iter().filter_map(|folder| folder.parent()).map(Path::to_path_buf);
        let all: BTreeSet<PathBuf> = parents.chain(direct.iter().cloned()).collect();
        let folders = all.into_iter().map(|path| Watched { path, at: None }).collect();
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
                        let gone = AddWatchFlags::IN_IGNORED
                            | AddWatchFlags::IN_MOVE_SELF
                            | AddWatchFlags::IN_DELETE_SELF;
                        if event.mask.intersects(gone) {
                            self.lose(event.wd);
                        }
                    }
                    changed |= !events.is_empty();
                }
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => {}
                // Nothing more will come from it; the lists are read at the next expiry or restart.
                Err(_) => break,
            }
        }
        if changed {
            self.follow();
        }
        changed
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
        assert!(!watch.changed(), "and then it is quiet");
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
        let mut watch = Watch::open(&Folder::new(state.path()), std::slice::from_ref(&feed)).unwrap();
        fs::write(&feed, "192.0.2.0/24\n").unwrap();
        assert!(noticed(&mut watch));
    }
}
