//! The writer thread: events in through a bounded queue, lines out; what does not fit is counted, never waited for.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::time::Duration;

use nix::sys::eventfd::EventFd;
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

use super::human::append_counts;
use super::tap::{Tapped, Taps, Wants};
use super::{Counts, append_human, append_json};
use crate::engine::event::Event;
use crate::engine::limits::{EVENTS_NAP, EVENTS_QUEUED_MAX};

/// Bytes gathered for one write: a nap's worth of events under load.
const BATCH_BYTES: usize = 64 << 10;
/// How long the last events may take to be written at stop; whoever does not read us must not keep us.
const FINISH_PATIENCE: Duration = Duration::from_secs(2);

/// What standard output gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One line for a person.
    #[default]
    Human,
    /// JSON Lines.
    Json,
}

/// Where events go.
#[derive(Debug)]
pub struct Outputs {
    /// What standard output gets, if anything.
    pub stdout: Option<LogFormat>,
    /// What people are shown of it, by the level of each event.
    pub level: LevelFilter,
    /// The event file, JSON Lines, if any.
    pub file: Option<PathBuf>,
}

/// Why the event file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot write events to {path}: {why}; choose another --events file")]
pub struct Error {
    path: PathBuf,
    why: io::Error,
}

enum Message {
    Event(Box<Event>),
    Counts(Counts),
    Finish,
}

/// What the writer thread shares with those who send, and those who read along.
#[derive(Debug, Default)]
struct Flags {
    shed: AtomicU64,
    reopen: AtomicBool,
    finish: AtomicBool,
    taps: Taps,
}

/// The way to the writer; cheap to clone, never blocks a verdict.
#[derive(Clone, Debug)]
pub struct EventSender {
    queue: SyncSender<Message>,
    flags: Arc<Flags>,
}

/// The writer thread's handle. Dropping it writes what is queued and ends the thread, unless that takes too long.
#[derive(Debug)]
pub struct EventWriter {
    sender: EventSender,
    ended: Receiver<()>,
}

impl EventSender {
    /// Hands an event over, or counts it as shed if the queue is full.
    pub fn send(&self, event: Event) {
        if self.queue.try_send(Message::Event(Box::new(event))).is_err() {
            self.flags.shed.fetch_add(1, Relaxed);
        }
    }

    /// Reads along: every event that `wants` says yes to, as long as no more than `room` of them wait to be read.
    pub fn tap(&self, room: usize, wants: Wants) -> Tapped {
        self.flags.taps.add(room, wants, None).1
    }

    /// The same for whoever waits for descriptors: `bell` is rung when there is something. Beside it the events of late, so
    /// that none is missed or told twice.
    pub fn follow(
        &self,
        room: usize,
        wants: Wants,
        bell: &Arc<EventFd>,
    ) -> (Vec<Arc<Event>>, Tapped) {
        self.flags.taps.add(room, wants, Some(Arc::clone(bell)))
    }

    /// The events of late, the oldest first: as many as there is room for ([`super::RECENT_MAX`]), and neither records nor
    /// accepted flows.
    pub fn recent(&self) -> Vec<Arc<Event>> {
        self.flags.taps.recent()
    }

    /// Tells people what became of a minute's packets, if they are not told of each.
    pub fn sum_up(&self, counts: Counts) {
        // What a full queue loses here is in the next totals.
        let _ = self.queue.try_send(Message::Counts(counts));
    }

    /// Events not written since start.
    pub fn shed(&self) -> u64 {
        self.flags.shed.load(Relaxed)
    }
}

impl EventWriter {
    /// Opens the outputs and starts the thread.
    ///
    /// # Errors
    /// If the event file cannot be opened or the thread not started.
    pub fn start(outputs: Outputs) -> Result<EventWriter, Error> {
        let file = outputs.file.as_deref().map(open).transpose()?;
        let flags = Arc::new(Flags::default());
        let (queue, incoming) = sync_channel(EVENTS_QUEUED_MAX);
        let (alive, ended) = channel();
        let path = outputs.file.clone().unwrap_or_default();
        let mut sink = Sink {
            stdout: outputs.stdout.map(|_| Output::new(io::stdout())),
            file: file.map(Output::new),
            outputs,
            flags: Arc::clone(&flags),
        };
        std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || {
                sink.serve(&incoming);
                drop(alive);
            })
            .map_err(|why| Error { path, why })?;
        Ok(EventWriter { sender: EventSender { queue, flags }, ended })
    }

    /// A way to the writer.
    pub fn sender(&self) -> EventSender {
        self.sender.clone()
    }

    /// Has the event file opened again before the next event is written, as after a rotation by rename.
    pub fn reopen(&self) {
        self.sender.flags.reopen.store(true, Relaxed);
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        // If the queue is full the thread is at work, and looks at the flag when it has emptied it.
        self.sender.flags.finish.store(true, Relaxed);
        let _ = self.sender.queue.try_send(Message::Finish);
        if self.ended.recv_timeout(FINISH_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::error!(
                "standard output or the event file takes no more; the last events are lost"
            );
        }
    }
}

struct Sink {
    outputs: Outputs,
    stdout: Option<Output<io::Stdout>>,
    file: Option<Output<File>>,
    flags: Arc<Flags>,
}

impl Sink {
    fn serve(&mut self, incoming: &Receiver<Message>) {
        while let Ok(message) = incoming.recv() {
            let mut next = Some(message);
            while let Some(message) = next {
                match message {
                    Message::Event(event) => self.write(*event),
                    Message::Counts(counts) => self.sum_up(&counts),
                    Message::Finish => {}
                }
                next = incoming.try_recv().ok();
            }
            self.flush();
            if self.flags.finish.load(Relaxed) {
                return;
            }
            // Nobody waits for the channel now, so events that come in wake nobody: under load the verdict threads make
            // one wake-up a nap instead of one a packet, and a lone event is still written at once.
            std::thread::sleep(EVENTS_NAP);
        }
    }

    fn write(&mut self, event: Event) {
        if self.flags.reopen.swap(false, Relaxed) {
            self.reopen();
        }
        if let Some(file) = &mut self.file {
            append_json(&mut file.batch, &event);
            file.end_line();
        }
        match (&mut self.stdout, self.outputs.stdout) {
            (Some(stdout), Some(LogFormat::Json)) => {
                append_json(&mut stdout.batch, &event);
                stdout.end_line();
            }
            (Some(stdout), Some(LogFormat::Human)) => {
                if append_human(&mut stdout.batch, &event, self.outputs.level) {
                    stdout.end_line();
                }
            }
            (Some(_), None) => {}
            // Whoever read us is gone, and there is no file: nobody learns of this event.
            (None, _) if self.file.is_none() => {
                self.flags.shed.fetch_add(1, Relaxed);
            }
            (None, _) => {}
        }
        self.flags.taps.offer(event);
        let full = |length: usize| length >= BATCH_BYTES;
        if self.file.as_ref().is_some_and(|file| full(file.batch.len()))
            || self.stdout.as_ref().is_some_and(|stdout| full(stdout.batch.len()))
        {
            self.flush();
        }
    }

    /// Whoever is told of every accepted flow, or of refusals alone, needs no sum.
    fn sum_up(&mut self, counts: &Counts) {
        if let (Some(stdout), Some(LogFormat::Human), LevelFilter::INFO) =
            (&mut self.stdout, self.outputs.stdout, self.outputs.level)
        {
            append_counts(&mut stdout.batch, counts);
            stdout.end_line();
        }
    }

    fn flush(&mut self) {
        if let Some(file) = &mut self.file {
            let _ = file.flush().map_err(|lost| self.flags.shed.fetch_add(lost, Relaxed));
        }
        if let Some(Err(lost)) = self.stdout.as_mut().map(Output::flush) {
            if self.file.is_none() {
                self.flags.shed.fetch_add(lost, Relaxed);
            }
            self.stdout = None;
        }
    }

    fn reopen(&mut self) {
        self.flush();
        let Some(path) = self.outputs.file.as_deref() else { return };
        match open(path) {
            Ok(file) => self.file = Some(Output::new(file)),
            // The old file is better than none.
            Err(error) => tracing::error!("{error}; the old file stays in use"),
        }
    }
}

/// Somewhere lines go, a batch at a time.
struct Output<W> {
    to: W,
    batch: Vec<u8>,
    lines: u64,
    /// The last write failed, perhaps within a line.
    torn: bool,
}

impl<W: Write> Output<W> {
    fn new(to: W) -> Output<W> {
        Output { to, batch: Vec::with_capacity(BATCH_BYTES), lines: 0, torn: false }
    }

    fn end_line(&mut self) {
        self.batch.push(b'\n');
        self.lines += 1;
    }

    /// Writes the batch; the error is how many lines it held.
    fn flush(&mut self) -> Result<(), u64> {
        if self.batch.is_empty() {
            return Ok(());
        }
        let healed = if self.torn { self.to.write_all(b"\n") } else { Ok(()) };
        let written =
            healed.and_then(|()| self.to.write_all(&self.batch)).and_then(|()| self.to.flush());
        self.batch.clear();
        self.torn = written.is_err();
        let lines = std::mem::take(&mut self.lines);
        written.map_err(|_| lines)
    }
}

/// Whom containers talk to is nobody else's business; a file that is there keeps the mode it was given.
fn open(path: &Path) -> Result<File, Error> {
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    file.map_err(|why| Error { path: path.to_owned(), why })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_event_file_is_its_owners_alone() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().unwrap();
        let file = open(&dir.path().join("events.jsonl")).unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    /// Takes a number of bytes, then fails for a while, then takes bytes again.
    struct Disk {
        written: Vec<u8>,
        room: usize,
    }

    impl Write for Disk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            if self.room == 0 {
                return Err(io::Error::from_raw_os_error(libc::ENOSPC));
            }
            let count = bytes.len().min(self.room);
            self.room -= count;
            self.written.extend_from_slice(bytes.get(..count).unwrap_or_default());
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn lines_a_full_disk_did_not_take_are_counted_and_later_ones_stand_alone() {
        let mut output = Output::new(Disk { written: vec![], room: 10 });
        let write = |output: &mut Output<Disk>, line: &str| {
            output.batch.extend_from_slice(line.as_bytes());
            output.end_line();
        };
        write(&mut output, "first");
        assert_eq!(output.flush(), Ok(()));
        write(&mut output, "second");
        write(&mut output, "third");
        assert_eq!(output.flush(), Err(2));
        output.to.room = 100;
        write(&mut output, "fourth");
        assert_eq!(output.flush(), Ok(()));
        assert_eq!(String::from_utf8(output.to.written).unwrap(), "first\nseco\nfourth\n");
    }
}
