//! The writer thread: events in through a bounded queue, lines out; what does not fit is counted, never waited for.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

use serde::{Deserialize, Serialize};

use super::{append_human, append_json};
use crate::engine::event::{Body, Event};
use crate::engine::limits::{EVENTS_NAP, EVENTS_QUEUED_MAX};

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
    /// What standard output gets.
    pub stdout: LogFormat,
    /// True to show people every DNS record too.
    pub records: bool,
    /// The event file, JSON Lines, if any.
    pub file: Option<PathBuf>,
}

/// Why the event file cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("cannot write events to {path}: {source}; choose another --events file")]
pub struct Error {
    path: PathBuf,
    source: io::Error,
}

enum Message {
    Event(Box<Event>),
    Reopen,
    Finish,
}

/// The way to the writer; cheap to clone, never blocks a verdict.
#[derive(Clone, Debug)]
pub struct EventSender {
    queue: SyncSender<Message>,
    shed: Arc<AtomicU64>,
}

/// The writer thread's handle. Dropping it writes what is queued and ends the thread.
#[derive(Debug)]
pub struct EventWriter {
    sender: EventSender,
    thread: Option<JoinHandle<()>>,
}

impl EventSender {
    /// Hands an event over, or counts it as shed if the queue is full.
    pub fn send(&self, event: Event) {
        if self.queue.try_send(Message::Event(Box::new(event))).is_err() {
            self.shed.fetch_add(1, Relaxed);
        }
    }

    /// Events not written since start.
    pub fn shed(&self) -> u64 {
        self.shed.load(Relaxed)
    }
}

impl EventWriter {
    /// Opens the outputs and starts the thread.
    ///
    /// # Errors
    /// If the event file cannot be opened or the thread not started.
    pub fn start(outputs: Outputs) -> Result<EventWriter, Error> {
        let file = outputs.file.as_deref().map(open).transpose()?;
        let shed = Arc::new(AtomicU64::new(0));
        let (queue, incoming) = sync_channel(EVENTS_QUEUED_MAX);
        let path = outputs.file.clone().unwrap_or_default();
        let mut sink = Sink {
            stdout: Some(BufWriter::with_capacity(BUFFER_BYTES, io::stdout())),
            file,
            line: Vec::new(),
            text: String::new(),
            outputs,
            shed: Arc::clone(&shed),
        };
        let thread = std::thread::Builder::new()
            .name("events".to_owned())
            .spawn(move || sink.write_all(&incoming))
            .map_err(|source| Error { path, source })?;
        Ok(EventWriter { sender: EventSender { queue, shed }, thread: Some(thread) })
    }

    /// A way to the writer.
    pub fn sender(&self) -> EventSender {
        self.sender.clone()
    }

    /// Opens the event file again, as after a rotation by rename. In order with the events around it.
    pub fn reopen(&self) {
        // Only a dead writer thread refuses, and then there is no file to open again.
        let _ = self.sender.queue.send(Message::Reopen);
    }
}

impl Drop for EventWriter {
    fn drop(&mut self) {
        let _ = self.sender.queue.send(Message::Finish);
        if let Some(thread) = self.thread.take() {
            // A panicked writer has nothing more to say.
            let _ = thread.join();
        }
    }
}

struct Sink {
    outputs: Outputs,
    stdout: Option<BufWriter<io::Stdout>>,
    file: Option<BufWriter<File>>,
    shed: Arc<AtomicU64>,
    /// The lines being written, for machines and for people; kept, so that their memory is used again.
    line: Vec<u8>,
    text: String,
}

/// Bytes gathered for one write: a nap's worth of events under load.
const BUFFER_BYTES: usize = 64 << 10;

impl Sink {
    fn write_all(&mut self, incoming: &Receiver<Message>) {
        while let Ok(message) = incoming.recv() {
            let mut next = Some(message);
            while let Some(message) = next {
                match message {
                    Message::Event(event) => self.write(&event),
                    Message::Reopen => self.reopen(),
                    Message::Finish => {
                        self.flush();
                        return;
                    }
                }
                next = incoming.try_recv().ok();
            }
            self.flush();
            // Nobody waits for the channel now, so events that come in wake nobody: under load the verdict threads make
            // one wake-up a nap instead of one a packet, and a lone event is still written at once.
            std::thread::sleep(EVENTS_NAP);
        }
    }

    fn write(&mut self, event: &Event) {
        if self.file.is_some() || self.outputs.stdout == LogFormat::Json {
            self.line.clear();
            append_json(&mut self.line, event);
            self.line.push(b'\n');
        }
        if self.outputs.file.is_some() {
            let line = &self.line;
            let written = self.file.as_mut().is_some_and(|file| file.write_all(line).is_ok());
            if !written {
                self.shed.fetch_add(1, Relaxed);
            }
        }
        let Some(stdout) = self.stdout.as_mut() else { return };
        let written = match self.outputs.stdout {
            LogFormat::Json => stdout.write_all(&self.line),
            LogFormat::Human if matches!(event.body, Body::Record(_)) && !self.outputs.records => {
                Ok(())
            }
            LogFormat::Human => {
                self.text.clear();
                append_human(&mut self.text, event);
                self.text.push('\n');
                stdout.write_all(self.text.as_bytes())
            }
        };
        if written.is_err() {
            // Whoever read us is gone; the event file, if any, goes on.
            self.stdout = None;
        }
    }

    fn flush(&mut self) {
        if self.stdout.as_mut().is_some_and(|stdout| stdout.flush().is_err()) {
            self.stdout = None;
        }
        if self.file.as_mut().is_some_and(|file| file.flush().is_err()) {
            self.shed.fetch_add(1, Relaxed);
        }
    }

    fn reopen(&mut self) {
        self.flush();
        let Some(path) = self.outputs.file.as_deref() else { return };
        match open(path) {
            Ok(file) => self.file = Some(file),
            // The old file is better than none.
            Err(error) => tracing::error!("{error}; the old file stays in use"),
        }
    }
}

fn open(path: &Path) -> Result<BufWriter<File>, Error> {
    let file = OpenOptions::new().create(true).append(true).open(path);
    file.map(|file| BufWriter::with_capacity(BUFFER_BYTES, file))
        .map_err(|source| Error { path: path.to_owned(), source })
}
