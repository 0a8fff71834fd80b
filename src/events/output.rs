//! Where lines go: each output has a thread of its own, so that one that takes nothing keeps nobody else waiting, neither
//! the other output nor whoever reads along.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, Sender, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Bytes gathered for one write: a nap's worth of events under load.
const BATCH_BYTES: usize = 64 << 10;
/// Batches that wait for an output: 16 MiB, half a second of a stuck disk at 50,000 verdicts a second.
const BATCHES_MAX: usize = 256;
/// One is being written and one waits: more of them are gathered until they are worth a write.
const BATCHES_AHEAD: usize = 2;
/// How long a write may take until it is said that the output takes nothing: a disk that is busy takes less.
const STALLED_AFTER: Duration = Duration::from_secs(3);

/// What lines are written to.
pub(super) trait Target: Write + Send + 'static {
    /// Whether an error is the end of it: whoever read has gone.
    const ENDS_WITH_ERROR: bool;

    /// Begins anew, as after a rotation by rename.
    fn reopen(&mut self) {}
}

impl Target for io::Stdout {
    const ENDS_WITH_ERROR: bool = true;
}

/// The event file.
#[derive(Debug)]
pub(super) struct EventFile {
    path: PathBuf,
    file: File,
}

impl EventFile {
    pub(super) fn open(path: PathBuf) -> Result<EventFile, (PathBuf, io::Error)> {
        match append_to(&path) {
            Ok(file) => Ok(EventFile { path, file }),
            Err(why) => Err((path, why)),
        }
    }
}

/// Whom containers talk to is nobody else's business; a file that is there keeps the mode it was given.
fn append_to(path: &std::path::Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(0o600).open(path)
}

impl Write for EventFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Target for EventFile {
    const ENDS_WITH_ERROR: bool = false;

    fn reopen(&mut self) {
        match append_to(&self.path) {
            Ok(file) => self.file = file,
            // The old file is better than none.
            Err(why) => tracing::error!(
                "cannot write events to {}: {why}; the old file stays in use",
                self.path.display()
            ),
        }
    }
}

/// Whole lines.
#[derive(Debug, Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
    /// These belong into a file that is opened again.
    reopen: bool,
}

/// How an output is, as both sides and whoever asks know it.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// Batches that are not written yet.
    unwritten: AtomicUsize,
    gone: AtomicBool,
    /// Since when a write has been under way.
    writing: Mutex<Option<Instant>>,
}

impl Condition {
    /// True if a write takes longer than it should.
    pub(super) fn is_stalled(&self) -> bool {
        let since = *self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| since.elapsed() >= STALLED_AFTER)
    }

    fn set_writing(&self, since: Option<Instant>) {
        *self.writing.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

/// The near end of an output, where lines are gathered. Dropped, it has its thread write what it was given, and end.
pub(super) struct Output {
    batch: Batch,
    way: SyncSender<Batch>,
    condition: Arc<Condition>,
}

impl Output {
    /// Starts its thread, which keeps `alive` as long as it lives and says how many lines an error cost.
    pub(super) fn start<T: Target>(
        target: T,
        condition: &Arc<Condition>,
        alive: Sender<()>,
        lost: impl Fn(u64) + Send + 'static,
    ) -> io::Result<Output> {
        let (way, batches) = sync_channel(BATCHES_MAX);
        let far = Far { target, torn: false };
        let state = Arc::clone(condition);
        std::thread::Builder::new().name("event-output".to_owned()).spawn(move || {
            far.serve(&batches, &state, lost);
            drop(alive);
        })?;
        Ok(Output { batch: Batch::default(), way, condition: Arc::clone(condition) })
    }

    /// Where the next line is put together; [`Output::end_line`] makes it one.
    pub(super) fn line(&mut self) -> &mut Vec<u8> {
        if self.batch.bytes.capacity() == 0 {
            self.batch.bytes.reserve(BATCH_BYTES);
        }
        &mut self.batch.bytes
    }

    pub(super) fn end_line(&mut self) {
        self.batch.bytes.push(b'\n');
        self.batch.lines += 1;
    }

    /// Whether there is enough for a write.
    pub(super) fn is_full(&self) -> bool {
        self.batch.bytes.len() >= BATCH_BYTES
    }

    /// Whether lines are kept back since the thread is behind.
    pub(super) fn is_behind(&self) -> bool {
        !self.batch.bytes.is_empty()
    }

    /// Nobody reads it any more.
    pub(super) fn is_gone(&self) -> bool {
        self.condition.gone.load(Relaxed)
    }

    /// Hands over what there is, without waiting; while the thread is behind, only whole batches. Returns how many lines
    /// there was no room for.
    #[must_use]
    pub(super) fn hand_over(&mut self) -> u64 {
        if !self.is_full() && self.condition.unwritten.load(Relaxed) >= BATCHES_AHEAD {
            return 0;
        }
        self.hand_over_all()
    }

    /// The same, however little it is.
    #[must_use]
    pub(super) fn hand_over_all(&mut self) -> u64 {
        if self.batch.bytes.is_empty() {
            return 0;
        }
        self.condition.unwritten.fetch_add(1, Relaxed);
        match self.way.try_send(std::mem::take(&mut self.batch)) {
            Ok(()) => 0,
            Err(TrySendError::Full(batch) | TrySendError::Disconnected(batch)) => {
                self.condition.unwritten.fetch_sub(1, Relaxed);
                self.batch.reopen = batch.reopen;
                batch.lines
            }
        }
    }

    /// Has the file opened again before the next line. Returns how many lines there was no room for.
    #[must_use]
    pub(super) fn reopen(&mut self) -> u64 {
        let lost = self.hand_over_all();
        self.batch.reopen = true;
        lost
    }
}

/// The far end, on a thread that may wait.
struct Far<T> {
    target: T,
    /// The last write failed, perhaps within a line.
    torn: bool,
}

impl<T: Target> Far<T> {
    fn serve(mut self, batches: &Receiver<Batch>, condition: &Condition, lost: impl Fn(u64)) {
        while let Ok(batch) = batches.recv() {
            if condition.gone.load(Relaxed) {
                condition.unwritten.fetch_sub(1, Relaxed);
                lost(batch.lines);
                continue;
            }
            condition.set_writing(Some(Instant::now()));
            if batch.reopen {
                self.target.reopen();
                self.torn = false;
            }
            if self.write(&batch.bytes).is_err() {
                lost(batch.lines);
                condition.gone.store(T::ENDS_WITH_ERROR, Relaxed);
            }
            condition.set_writing(None);
            condition.unwritten.fetch_sub(1, Relaxed);
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let healed = if self.torn { self.target.write_all(b"\n") } else { Ok(()) };
        let written =
            healed.and_then(|()| self.target.write_all(bytes)).and_then(|()| self.target.flush());
        self.torn = written.is_err();
        written
    }
}

#[cfg(test)]
#[path = "output_test.rs"]
mod tests;
