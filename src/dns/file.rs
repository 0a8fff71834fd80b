//! A log file, followed: inotify says when, stat(2) says what became of it; nothing written to a rotated file is lost.

use std::fs::{File, Metadata, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use nix::sys::statvfs::{FsFlags, fstatvfs};

use crate::engine::health::Disk;
use crate::engine::limits::BACKLOG_BYTES_MAX;

use super::framing::Framing;
use super::pump::{Pump, Read};
use super::stamp::Stamps;
use super::{Backoff, Sink, Status, Stop, nap, persevere};

/// How often the file is looked at although inotify says nothing (a directory that was itself replaced, NFS).
const SAFETY_TICK: Duration = Duration::from_secs(1);
/// Quiet after which nobody is taken to write to a rotated file any more, counted from its rotation or its last bytes,
/// whichever came later. dnsmasq writes to it until it is told (SIGUSR2), its TCP children until they end.
const QUIET: Duration = Duration::from_secs(10);

/// First bytes of a file by which a rewritten one is known: timestamp, process, serial and client of its first line.
const HEAD_BYTES: usize = 64;

/// Follows `path` until `stop` is raised.
pub fn run(path: &Path, stop: &Stop, sink: &mut dyn Sink) {
    persevere(path, stop, sink, |pump, status, backoff, sink| {
        // The history of a file says when it was written; what comes later is of this moment.
        pump.date_by(Stamps::of(path).ok());
        match Follower::new(path) {
            Ok(follower) => follower.follow(stop, pump, status, backoff, sink),
            Err(error) => error,
        }
    });
}

/// One file that is being read, by inode.
struct Tail {
    file: File,
    id: (u64, u64),
    position: u64,
    head: Vec<u8>,
    framing: Framing,
    watch: WatchDescriptor,
    /// Last bytes, or the rotation if that came later.
    busy_at: Instant,
}

struct Follower<'a> {
    path: &'a Path,
    inotify: Inotify,
    /// Folders that are watched: the one of the path, and the one a symlink leads to.
    folders: Vec<(PathBuf, WatchDescriptor)>,
    current: Option<Tail>,
    rotated: Option<Tail>,
    /// What is there now is history. False once it was looked for: whatever appears later is read from its start.
    first: bool,
    disk_seen: Option<Instant>,
}

impl<'a> Follower<'a> {
    fn new(path: &'a Path) -> std::io::Result<Follower<'a>> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let (folders, current, rotated) = (Vec::new(), None, None);
        Ok(Follower { path, inotify, folders, current, rotated, first: true, disk_seen: None })
    }

    /// Returns only with a failure, or when stopped.
    fn follow(
        mut self,
        stop: &Stop,
        pump: &mut Pump,
        status: &mut Status,
        backoff: &mut Backoff,
        sink: &mut dyn Sink,
    ) -> std::io::Error {
        self.watch_folders();
        loop {
            if let Err(error) = self.look(pump, sink, stop) {
                return error;
            }
            if self.current.is_some() {
                backoff.reset();
                pump.date_by(None);
                status.up(sink);
            } else {
                status.down(&format!("{} does not exist yet", self.path.display()), sink);
            }
            self.look_at_disk(sink);
            let nap = nap(Some(SAFETY_TICK), sink);
            if stop.poll(&[self.inotify.as_fd()], nap).stopped {
                return std::io::Error::other("stopped");
            }
            // An event with a name comes from a folder. What it was does not matter: the files are looked at anyway.
            let renamed = match self.inotify.read_events() {
                Ok(events) => events.iter().any(|event| event.name.is_some()),
                Err(_) => true,
            };
            if renamed {
                self.watch_folders();
            }
        }
    }

    /// Reads what is new, and finds out whether the path still leads to the file being read.
    fn look(&mut self, pump: &mut Pump, sink: &mut dyn Sink, stop: &Stop) -> std::io::Result<()> {
        sink.looking();
        for tail in [&mut self.rotated, &mut self.current].into_iter().flatten() {
            tail.drain(pump, sink, stop)?;
        }
        match std::fs::metadata(self.path) {
            Ok(found) => self.compare(&found, pump, sink, stop)?,
            // The writer goes on writing to a file without a name, and so do we go on reading it.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.first = false,
            Err(error) => return Err(error),
        }
        pump.caught_up(sink);
        if self.rotated.as_ref().is_some_and(|tail| tail.busy_at.elapsed() > QUIET) {
            self.leave_rotated(pump, sink, stop)?;
        }
        Ok(())
    }

    /// Whether dnsmasq, as the ordinary user it becomes, can go on writing the log.
    fn look_at_disk(&mut self, sink: &mut dyn Sink) {
        if self.disk_seen.is_some_and(|seen| seen.elapsed() < SAFETY_TICK) {
            return;
        }
        let Some(current) = &self.current else { return };
        self.disk_seen = Some(Instant::now());
        let Ok(found) = fstatvfs(&current.file) else { return };
        sink.disk(match (found.blocks(), found.blocks_available()) {
            _ if found.flags().contains(FsFlags::ST_RDONLY) => Disk::ReadOnly,
            (1.., 0) => Disk::Full,
            // What counts no blocks at all has no bound of its own.
            _ => Disk::Fine,
        });
    }

    fn compare(
        &mut self,
        found: &Metadata,
        pump: &mut Pump,
        sink: &mut dyn Sink,
        stop: &Stop,
    ) -> std::io::Result<()> {
        if self.current.as_ref().is_some_and(|tail| tail.id == id(found)) {
            return Ok(());
        }
        if self.rotated.as_ref().is_some_and(|tail| tail.id == id(found)) {
            // Rotation undone: both are still open where they were left.
            std::mem::swap(&mut self.rotated, &mut self.current);
            self.rotated_now();
            return Ok(());
        }
        let next = Tail::open(self.path, &self.inotify, std::mem::take(&mut self.first))?;
        let Some(mut next) = next else { return Ok(()) };
        self.leave_rotated(pump, sink, stop)?;
        next.drain(pump, sink, stop)?;
        self.rotated = self.current.replace(next);
        self.rotated_now();
        Ok(())
    }

    /// A log may have been silent for hours when it is rotated, and its writer has still to be told.
    fn rotated_now(&mut self) {
        if let Some(tail) = &mut self.rotated {
            tail.busy_at = Instant::now();
        }
    }

    fn leave_rotated(
        &mut self,
        pump: &mut Pump,
        sink: &mut dyn Sink,
        stop: &Stop,
    ) -> std::io::Result<()> {
        let Some(mut tail) = self.rotated.take() else { return Ok(()) };
        tail.drain(pump, sink, stop)?;
        // Fails when the file is gone and the kernel has removed the watch itself.
        let _ = self.inotify.rm_watch(tail.watch);
        Ok(())
    }

    fn watch_folders(&mut self) {
        let near = self.path.parent().map(Path::to_owned);
        let far = std::fs::canonicalize(self.path).ok();
        let far = far.as_deref().and_then(Path::parent).map(Path::to_owned);
        let names = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_ONLYDIR;
        for folder in [near, far].into_iter().flatten() {
            let folder = if folder.as_os_str().is_empty() { PathBuf::from(".") } else { folder };
            // Adding a watch again is how a folder that was replaced is noticed; it is one cheap system call.
            let Ok(watch) = self.inotify.add_watch(&folder, names) else { continue };
            if self.folders.iter().any(|(_, known)| *known == watch) {
                continue;
            }
            self.folders.retain(|(known, old)| {
                let replaced = *known == folder;
                if replaced {
                    let _ = self.inotify.rm_watch(*old);
                }
                !replaced
            });
            self.folders.push((folder, watch));
        }
    }
}

impl Tail {
    /// Opens what `path` leads to: at the last bytes of its past, or at its start. `None` if nothing is there.
    fn open(path: &Path, inotify: &Inotify, with_past: bool) -> std::io::Result<Option<Tail>> {
        // Without O_NONBLOCK the open of a FIFO would hang.
        let mut file = match OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)
        {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(std::io::Error::other("is not a regular file (for a FIFO use fifo:PATH)"));
        }
        // Through the descriptor, so that it is this very file that is watched.
        let link = format!("/proc/self/fd/{}", file.as_raw_fd());
        let changes =
            AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_MOVE_SELF | AddWatchFlags::IN_ATTRIB;
        // Without it, answers would be up to a tick late: rather down, and saying why.
        let watch = inotify.add_watch(link.as_str(), changes).map_err(|errno| {
            std::io::Error::other(format!(
                "cannot be watched: {errno} (see sysctl fs.inotify.max_user_watches)"
            ))
        })?;
        let start = if with_past { found.len().saturating_sub(BACKLOG_BYTES_MAX) } else { 0 };
        // One byte earlier, so that a line which starts exactly there is not taken for the rest of one.
        let position = file.seek(SeekFrom::Start(start.saturating_sub(1)))?;
        let framing = if start > 0 { Framing::inside_line() } else { Framing::default() };
        Ok(Some(Tail {
            file,
            id: id(&found),
            position,
            head: Vec::new(),
            framing,
            watch,
            busy_at: Instant::now(),
        }))
    }

    /// Reads to the end of what is there.
    fn drain(&mut self, pump: &mut Pump, sink: &mut dyn Sink, stop: &Stop) -> std::io::Result<()> {
        loop {
            let size = self.file.metadata()?.len();
            if self.is_rewritten()? || size < self.position {
                // Truncated in place: what is there now was written after.
                self.position = self.file.seek(SeekFrom::Start(0))?;
                self.framing.reset();
            }
            if size == self.position || stop.is_raised() {
                return Ok(());
            }
            pump.behind(sink);
            match pump.read(&self.file, &mut self.framing, sink)? {
                Read::Bytes(count) => {
                    self.position += count as u64;
                    self.busy_at = Instant::now();
                }
                Read::Nothing | Read::End => return Ok(()),
            }
        }
    }
}

impl Tail {
    /// True if the file begins with other bytes than it did: truncated, and grown past our position since. Should
    /// that happen between this look and the read after it, the next look finds it, and lines come twice at worst.
    fn is_rewritten(&mut self) -> std::io::Result<bool> {
        let mut head = [0; HEAD_BYTES];
        let length = self.file.read_at(&mut head, 0)?;
        let head = head.get(..length).unwrap_or_default();
        let rewritten = !head.starts_with(&self.head);
        if head.len() != self.head.len() || rewritten {
            self.head = head.to_vec();
        }
        Ok(rewritten)
    }
}

fn id(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use crate::dns::Answer;
    use crate::dns::testing::lookup;
    use crate::engine::health::Batch;

    use super::*;

    #[derive(Default)]
    struct Names(Vec<String>);

    impl Sink for Names {
        fn behind(&mut self) {}
        fn answer(&mut self, answer: Answer<'_>) {
            self.0.push(answer.name.to_owned());
        }
        fn lines(&mut self, _: Batch) {}
        fn caught_up(&mut self) {}
        fn up(&mut self) {}
        fn down(&mut self, _: &str) {}
    }

    /// Makes `tail` look as if nothing had happened to it for longer than [`QUIET`].
    fn let_rest(tail: &mut Option<Tail>) {
        tail.as_mut().unwrap().busy_at -= QUIET + Duration::from_secs(1);
    }

    #[test]
    fn a_log_rotated_after_a_long_silence_is_read_until_its_writer_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (path, aside) = (folder.path().join("dns.log"), folder.path().join("dns.log.1"));
        let mut log = File::create(&path).unwrap();
        let (mut pump, mut names, stop) = (Pump::new(), Names::default(), Stop::new().unwrap());
        let mut follower = Follower::new(&path).unwrap();
        follower.look(&mut pump, &mut names, &stop).unwrap();

        let mut write = |name: &str| log.write_all(lookup(name).as_bytes()).unwrap();
        for name in ["rotated", "undone"] {
            let_rest(&mut follower.current);
            if name == "rotated" {
                std::fs::rename(&path, &aside).unwrap();
                File::create(&path).unwrap();
            } else {
                // Now it is the second file that is put aside, and the first one that is written to.
                std::fs::rename(&aside, &path).unwrap();
            }
            follower.look(&mut pump, &mut names, &stop).unwrap();
            assert!(follower.rotated.is_some(), "{name}");
            write(name);
            follower.look(&mut pump, &mut names, &stop).unwrap();
        }
        assert_eq!(names.0, ["rotated.example", "undone.example"]);

        let_rest(&mut follower.rotated);
        follower.look(&mut pump, &mut names, &stop).unwrap();
        assert!(follower.rotated.is_none(), "it is let go once it has been quiet");
    }
}
