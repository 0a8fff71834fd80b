//! Notices by inotify when a file changes, appears or goes, however its editor or its administrator does it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

use super::atomic::LINKS_MAX;

/// How long to let changes gather before reading. An editor's save is several steps within milliseconds; a person does
/// not notice a sixth of a second.
pub const DEBOUNCE: Duration = Duration::from_millis(150);
/// Times the paths are walked again because something changed meanwhile. A stranger who swaps links without pause
/// keeps us busy for this long only; the next event goes on.
const WALKS_MAX: usize = 8;

/// In a folder that holds something we look for, by name.
const INSIDE: AddWatchFlags = AddWatchFlags::IN_CREATE
    .union(AddWatchFlags::IN_MOVED_TO)
    .union(AddWatchFlags::IN_MOVED_FROM)
    .union(AddWatchFlags::IN_DELETE)
    .union(AddWatchFlags::IN_CLOSE_WRITE)
    .union(AddWatchFlags::IN_MODIFY)
    .union(AddWatchFlags::IN_ATTRIB);
/// Of a folder on the way: only whether it is still there, so that a busy folder above costs nothing.
const ITSELF: AddWatchFlags = AddWatchFlags::IN_DELETE_SELF.union(AddWatchFlags::IN_MOVE_SELF);
/// Of the file: it may be written under another name, by a hard link or a bind mount.
const CONTENT: AddWatchFlags = AddWatchFlags::IN_MODIFY.union(AddWatchFlags::IN_CLOSE_WRITE);

/// Watches files, whether they are there or not, and every folder and symbolic link on the way to them.
#[derive(Debug)]
pub struct Watch {
    inotify: Inotify,
    /// As the caller calls them, and with the working directory in front.
    files: BTreeMap<PathBuf, PathBuf>,
    /// What each watch is for; an event of any other is over.
    places: HashMap<WatchDescriptor, Place>,
}

/// A folder or a file that is watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Place {
    /// What is looked for in it, and on behalf of which files.
    names: BTreeMap<OsString, BTreeSet<PathBuf>>,
    /// Files that it is, or is on the way to.
    way_to: BTreeSet<PathBuf>,
    /// True if it is one of the files.
    is_file: bool,
}

impl Watch {
    /// Watches these files. What is not there is noticed when it appears.
    ///
    /// # Errors
    /// When the kernel's limits for inotify are reached.
    pub fn new(files: impl IntoIterator<Item = PathBuf>) -> io::Result<Watch> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let with_base = |file: PathBuf| Ok((file.clone(), std::path::absolute(file)?));
        let files = files.into_iter().map(with_base).collect::<io::Result<_>>()?;
        let mut watch = Watch { inotify, files, places: HashMap::new() };
        watch.arm()?;
        Ok(watch)
    }

    /// Readable when there is something to ask [`Watch::changed`] about.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// The files that may have changed since the last call; never waits. Nothing that changes after the call is lost:
    /// it makes the descriptor readable again.
    ///
    /// # Errors
    /// When the kernel's limits for inotify are reached; everything is then to be taken for changed.
    pub fn changed(&mut self) -> io::Result<BTreeSet<PathBuf>> {
        let mut changed = BTreeSet::new();
        let mut moved = false;
        loop {
            let events = match self.inotify.read_events() {
                Ok(events) => events,
                Err(Errno::EAGAIN) => break,
                Err(Errno::EINTR) => continue,
                Err(error) => return Err(error.into()),
            };
            for event in events {
                if event.mask.contains(AddWatchFlags::IN_Q_OVERFLOW) {
                    changed.extend(self.files.keys().cloned());
                    moved = true;
                    continue;
                }
                let Some(place) = self.places.get(&event.wd) else { continue };
                let files = match &event.name {
                    Some(name) => place.names.get(name),
                    None => Some(&place.way_to),
                };
                // Writing to a file moves nothing; anything else may have moved the way to one.
                if let Some(files) = files {
                    moved |= !event.mask.intersects(CONTENT);
                    changed.extend(files.iter().cloned());
                }
            }
        }
        if moved {
            self.arm()?;
        }
        Ok(changed)
    }

    /// Walks to every file and watches every place on the way, until the way is the same as before the walk.
    fn arm(&mut self) -> io::Result<()> {
        for _ in 0..WALKS_MAX {
            let wanted = self.wanted();
            let mut places: HashMap<WatchDescriptor, Place> = HashMap::new();
            // Two paths may lead to one folder, and the last mask counts: the widest.
            let mut by_mask: Vec<(AddWatchFlags, &PathBuf, &Place)> =
                wanted.iter().map(|(path, place)| (place.mask(), path, place)).collect();
            by_mask.sort_by_key(|(mask, ..)| mask.bits().count_ones());
            for (mask, path, place) in by_mask {
                match self.inotify.add_watch(path, mask) {
                    Ok(watch) => places.entry(watch).or_default().extend(place),
                    // Gone meanwhile: the next walk sees it.
                    Err(Errno::ENOENT | Errno::ENOTDIR | Errno::EACCES) => {}
                    Err(error) => return Err(error.into()),
                }
            }
            for old in self.places.keys().filter(|old| !places.contains_key(old)) {
                // Fails when the folder is gone and the kernel has removed the watch itself.
                let _ = self.inotify.rm_watch(*old);
            }
            self.places = places;
            if self.wanted() == wanted {
                break;
            }
        }
        Ok(())
    }

    fn wanted(&self) -> BTreeMap<PathBuf, Place> {
        let mut places = BTreeMap::new();
        for (file, absolute) in &self.files {
            let end = walk(absolute, file, &mut places, &mut 0);
            if end.is_file() {
                let place = places.entry(end).or_default();
                place.is_file = true;
                place.way_to.insert(file.clone());
            }
        }
        places
    }
}

impl Place {
    fn mask(&self) -> AddWatchFlags {
        match (self.is_file, self.names.is_empty()) {
            (true, _) => ITSELF.union(CONTENT),
            (false, true) => ITSELF.union(AddWatchFlags::IN_ONLYDIR),
            (false, false) => ITSELF.union(INSIDE).union(AddWatchFlags::IN_ONLYDIR),
        }
    }

    fn extend(&mut self, other: &Place) {
        for (name, files) in &other.names {
            self.names.entry(name.clone()).or_default().extend(files.iter().cloned());
        }
        self.way_to.extend(other.way_to.iter().cloned());
    }
}

/// Goes along `path` as the kernel would, and notes what to watch on behalf of `file`: the folder of every symbolic
/// link and of the last part by name, and every folder on the way itself. Stops where something is missing.
fn walk(
    path: &Path,
    file: &Path,
    places: &mut BTreeMap<PathBuf, Place>,
    links: &mut usize,
) -> PathBuf {
    let mut here = PathBuf::new();
    let mut parts = path.components().peekable();
    while let Some(part) = parts.next() {
        let Component::Normal(name) = part else {
            match part {
                // The folder above the one a link led to, not above the link.
                Component::ParentDir => drop(here.pop()),
                Component::CurDir => {}
                _ => here.push(part),
            }
            continue;
        };
        note(places, &here, file, None);
        let next = here.join(name);
        let found = std::fs::symlink_metadata(&next);
        let is_folder = found.as_ref().is_ok_and(std::fs::Metadata::is_dir);
        if !is_folder || parts.peek().is_none() {
            note(places, &here, file, Some(name));
        }
        match std::fs::read_link(&next) {
            Ok(to) if *links < LINKS_MAX => {
                *links += 1;
                here = walk(&here.join(to), file, places, links);
            }
            _ if found.is_err() => return next,
            _ => here = next,
        }
    }
    here
}

fn note(places: &mut BTreeMap<PathBuf, Place>, folder: &Path, file: &Path, name: Option<&OsStr>) {
    let place = places.entry(folder.to_owned()).or_default();
    let files = match name {
        Some(name) => place.names.entry(name.to_owned()).or_default(),
        None => &mut place.way_to,
    };
    files.insert(file.to_owned());
}

#[cfg(test)]
#[path = "watch_test.rs"]
mod tests;
