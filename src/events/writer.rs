//! The writer thread: events in through a bounded queue, lines out; what does not fit is counted, never waited for.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::time::Duration;

use nix::sys::eventfd::EventFd;
use serde::{Deserialize, Serialize};
use tracing::level_filters::LevelFilter;

use super::human::append_counts;
use super::output::{Condition, EventFile, Output, Target};
use super::tap::{Tapped, Taps, Wants};
use super::{Counts, append_human, append_json};
use crate::engine::event::Event;
use crate::engine::limits::{EVENTS_NAP, EVENTS_QUEUED_MAX};

/// Pause between two tries to hand over what an output had no time for.
const RETRY_AFTER: Duration = Duration::from_millis(100);
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
    stdout: Arc<Condition>,
    file: Arc<Condition>,
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

    /// The same, and beside it the events of late, so that none is missed or told twice.
    pub fn tap_with_recent(&self, room: usize, wants: Wants) -> (Vec<Arc<Event>>, Tapped) {
        self.flags.taps.add(room, wants, None)
    }

    /// The same for whoever waits for descriptors: `bell` is rung when there is something.
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

    /// The outputs that have taken nothing for some seconds, by the words for them.
    pub fn stalled(&self) -> Vec<&'static str> {
        let all = [("standard output", &self.flags.stdout), ("the event file", &self.flags.file)];
        all.into_iter().filter(|(_, output)| output.is_stalled()).map(|(word, _)| word).collect()
    }

    /// Events not written since start.
    pub fn shed(&self) -> u64 {
        self.flags.shed.load(Relaxed)
    }
}

impl EventWriter {
    /// Opens the outputs and starts the threads.
    ///
    /// # Errors
    /// If the event file cannot be opened or a thread not started.
    pub fn start(outputs: Outputs) -> Result<EventWriter, Error> {
        let path = outputs.file.clone().unwrap_or_default();
        let failed = |why| Error { path: path.clone(), why };
        let file = outputs.file.map(EventFile::open).transpose();
        let file = file.map_err(|(path, why)| Error { path, why })?;
        let stdout = outputs.stdout.map(|format| (format, io::stdout()));
        EventWriter::start_on(stdout, file, outputs.level).map_err(failed)
    }

    fn start_on(
        stdout: Option<(LogFormat, impl Target)>,
        file: Option<impl Target>,
        level: LevelFilter,
    ) -> io::Result<EventWriter> {
        let flags = Arc::new(Flags::default());
        let (queue, incoming) = sync_channel(EVENTS_QUEUED_MAX);
        let (alive, ended) = channel();
        let lose = |counts: bool| {
            let flags = Arc::clone(&flags);
            move |lines: u64| {
                flags.shed.fetch_add(if counts { lines } else { 0 }, Relaxed);
            }
        };
        // What whoever read us does not get is in the file, if there is one.
        let of_stdout = lose(file.is_none());
        let log_format = stdout.as_ref().map(|(format, _)| *format);
        let start_file = |target| Output::start(target, &flags.file, alive.clone(), lose(true));
        let start_stdout =
            |(_, target)| Output::start(target, &flags.stdout, alive.clone(), of_stdout);
        let mut sink = Sink {
            log_format,
            level,
            file: file.map(start_file).transpose()?,
            stdout: stdout.map(start_stdout).transpose()?,
            flags: Arc::clone(&flags),
        };
        std::thread::Builder::new().name("events".to_owned()).spawn(move || {
            sink.serve(&incoming);
            drop((sink, alive));
        })?;
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
    log_format: Option<LogFormat>,
    level: LevelFilter,
    stdout: Option<Output>,
    file: Option<Output>,
    flags: Arc<Flags>,
}

impl Sink {
    fn serve(&mut self, incoming: &Receiver<Message>) {
        loop {
            let mut next = match self.is_behind() {
                false => incoming.recv().map_err(|_| RecvTimeoutError::Disconnected),
                true => incoming.recv_timeout(RETRY_AFTER),
            };
            while let Ok(message) = next {
                match message {
                    Message::Event(event) => self.write(*event),
                    Message::Counts(counts) => self.sum_up(&counts),
                    Message::Finish => {}
                }
                next = incoming.try_recv().map_err(|_| RecvTimeoutError::Timeout);
            }
            self.hand_over(Output::hand_over);
            if matches!(next, Err(RecvTimeoutError::Disconnected))
                || self.flags.finish.load(Relaxed)
            {
                return self.hand_over(Output::hand_over_all);
            }
            // Nobody waits for the channel now, so events that come in wake nobody: under load the verdict threads make
            // one wake-up a nap instead of one a packet, and a lone event is still written at once.
            std::thread::sleep(EVENTS_NAP);
        }
    }

    fn write(&mut self, event: Event) {
        if let Some(file) = &mut self.file {
            if self.flags.reopen.swap(false, Relaxed) {
                let lost = file.reopen();
                self.flags.shed.fetch_add(lost, Relaxed);
            }
            append_json(file.line(), &event);
            file.end_line();
        }
        match (&mut self.stdout, self.log_format) {
            (Some(stdout), Some(LogFormat::Json)) => {
                append_json(stdout.line(), &event);
                stdout.end_line();
            }
            (Some(stdout), Some(LogFormat::Human)) => {
                if append_human(stdout.line(), &event, self.level) {
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
        if self.outputs().any(|output| output.is_full()) {
            self.hand_over(Output::hand_over);
        }
    }

    /// Whoever is told of every accepted flow, or of refusals alone, needs no sum.
    fn sum_up(&mut self, counts: &Counts) {
        if let (Some(stdout), Some(LogFormat::Human), LevelFilter::INFO) =
            (&mut self.stdout, self.log_format, self.level)
        {
            append_counts(stdout.line(), counts);
            stdout.end_line();
        }
    }

    fn outputs(&mut self) -> impl Iterator<Item = &mut Output> {
        [&mut self.file, &mut self.stdout].into_iter().flatten()
    }

    fn is_behind(&mut self) -> bool {
        self.outputs().any(|output| output.is_behind())
    }

    fn hand_over(&mut self, how: fn(&mut Output) -> u64) {
        let mut lost = self.outputs().map(how).sum();
        if let Some(mut gone) = self.stdout.take_if(|stdout| stdout.is_gone()) {
            lost += gone.hand_over_all();
        }
        self.flags.shed.fetch_add(lost, Relaxed);
    }
}

#[cfg(test)]
#[path = "writer_test.rs"]
mod tests;
