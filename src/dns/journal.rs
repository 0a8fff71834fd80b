//! The journal of a systemd unit, read through journalctl: from where it was left, each entry once, and then followed.
//!
//! journalctl it is, and not the journal's files: what reads those is libsystemd, which a machine that builds us need not
//! have, and whose format grows with every release of systemd. journalctl is there wherever a journal is, of the same
//! release, and sees to rotation, vacuuming and the change from memory to disk. It costs one process.

mod command;
mod entry;

use std::os::fd::AsFd;
use std::process::{Child, ChildStderr, ChildStdout};
use std::time::Duration;

use nix::errno::Errno;

use crate::engine::Wall;
use crate::engine::health::Skip;

use super::framing::Framing;
use super::outside::{self, Outside, Taker};
use super::{Backoff, Sink, Stop};
use command::{Begin, Tool};
use entry::{Entry, What, Whose};

pub use command::unit;

/// Bytes of one entry as journalctl writes it: a message it shows has 4096 bytes, each as a number of its own at worst.
const ENTRY_BYTES_MAX: usize = 64 << 10;
/// Bytes read at a time: a whole pipe.
const READ_BYTES: usize = 64 << 10;
/// Bytes kept of what journalctl complains of.
const COMPLAINT_BYTES_MAX: usize = 300;
/// Silence after which history is taken to have ended although its last entry has not come: it was vacuumed.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// How far a journal was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The journal's own name for the last entry that was handed over.
    pub cursor: String,
    /// When that was logged.
    pub at: Wall,
}

/// Where to begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// With what was logged from then on.
    Since(Wall),
    /// With what follows the entry of this cursor, whatever clocks say.
    At(String),
}

/// True if this is shaped like a cursor: safe to be kept and to be an argument.
pub fn is_cursor(text: &str) -> bool {
    let usual = |byte: u8| byte.is_ascii_alphanumeric() || b"=;".contains(&byte);
    !text.is_empty() && text.len() <= 300 && text.bytes().all(usual)
}

/// Follows the journal of `unit` until `stop` is raised.
pub fn run(unit: &str, outside: &dyn Outside, stop: &Stop, sink: &mut dyn Sink) {
    with(Tool::find, unit, outside, stop, sink);
}

fn with(
    tool: impl Fn() -> Result<Tool, String>,
    unit: &str,
    outside: &dyn Outside,
    stop: &Stop,
    sink: &mut dyn Sink,
) {
    outside::follow(format!("the journal of {unit}"), outside, sink, |taker| {
        let (left, mut place, mut backoff) = (outside.journal_left(unit), None, Backoff::new());
        // A cursor that journalctl does not take is of no use a second time.
        let mut left = left;
        loop {
            let before = place.clone();
            let why = tool().and_then(|tool| {
                let whose = Whose::unit(unit);
                let mut reading =
                    Reading { unit, outside, stop, taker, place: &mut place, until: None, whose };
                reading.all(&tool, &left)
            });
            let Err(why) = why else { return };
            taker.caught_up();
            taker.down(&why);
            if place != before {
                backoff.reset();
            } else if matches!(left, Left::At(_)) {
                left = Left::Since(outside.journal_since());
            }
            if stop.wait(backoff.next()) {
                return;
            }
        }
    });
}

/// One run of journalctl, being read.
struct Reading<'a> {
    unit: &'a str,
    outside: &'a dyn Outside,
    stop: &'a Stop,
    taker: &'a mut dyn Taker,
    place: &'a mut Option<Place>,
    /// The last entry of history, until it has been read.
    until: Option<Place>,
    whose: Whose<'a>,
}

/// A journalctl that runs. Dropping it ends it.
struct Running {
    child: Child,
    out: ChildStdout,
    complaints: ChildStderr,
    complaint: Vec<u8>,
}

enum Got {
    Bytes(usize),
    Nothing,
    End,
    Stopped,
}

impl Reading<'_> {
    /// Reads until that fails, and says why; or until it is time to stop.
    fn all(&mut self, tool: &Tool, left: &Left) -> Result<(), String> {
        let Some(last) = self.last(tool)? else { return Ok(()) };
        let begin = match (&*self.place, left) {
            (Some(place), _) => Begin::Cursor(&place.cursor),
            (None, Left::At(cursor)) => Begin::Cursor(cursor),
            (None, Left::Since(since)) => Begin::Since(*since),
        };
        let skipped = match begin {
            Begin::Cursor(cursor) => Some(cursor.to_owned()),
            Begin::Since(_) => None,
        };
        let from = match (&*self.place, left) {
            (Some(place), _) => place.at,
            (None, Left::Since(since)) => *since,
            (None, Left::At(_)) => last.as_ref().map_or(Wall(0), |last| last.at),
        };
        let mut running = tool.follow(self.unit, &begin)?;
        self.until = last.filter(|last| last.at >= from && Some(&last.cursor) != skipped.as_ref());
        self.taker.history(from, self.until.as_ref().map_or(from, |until| until.at));
        self.follow(&mut running, skipped.as_deref())
    }

    /// The last entry there is, or none. Nothing if it is time to stop.
    fn last(&mut self, tool: &Tool) -> Result<Option<Option<Place>>, String> {
        let (mut running, mut last) = (tool.last(self.unit)?, None);
        let (mut framing, mut buffer) = (Framing::of(ENTRY_BYTES_MAX), vec![0; READ_BYTES]);
        loop {
            match running.read(self.stop, &mut buffer, None)? {
                Got::Bytes(count) => {
                    framing.feed(buffer.get(..count).unwrap_or_default(), &mut |line| {
                        if let Ok(Some(entry)) = line.map(Entry::read) {
                            self.whose.has(&entry);
                            last = Some(entry.place());
                        }
                    });
                }
                Got::Nothing => {}
                Got::End => {
                    running.ended_well()?;
                    return Ok(Some(last));
                }
                Got::Stopped => return Ok(None),
            }
        }
    }

    fn follow(&mut self, running: &mut Running, mut skipped: Option<&str>) -> Result<(), String> {
        let (mut framing, mut buffer) = (Framing::of(ENTRY_BYTES_MAX), vec![0; READ_BYTES]);
        let mut up = false;
        loop {
            if self.until.is_none() && !std::mem::replace(&mut up, true) {
                self.taker.up();
            }
            self.taker.looking();
            match running.read(self.stop, &mut buffer, Some(Duration::ZERO))? {
                Got::Bytes(count) => {
                    self.taker.behind();
                    framing.feed(buffer.get(..count).unwrap_or_default(), &mut |line| {
                        self.entry(line, &mut skipped);
                    });
                    // As soon as it is in the registry, and no sooner.
                    if let Some(place) = &*self.place {
                        self.outside.journal_reached(self.unit, place);
                    }
                    continue;
                }
                Got::End => return Err(running.end()),
                Got::Stopped => return Ok(()),
                Got::Nothing => {}
            }
            self.taker.caught_up();
            let patience = self.taker.patience().filter(|_| up).unwrap_or(SILENCE_MAX);
            if !running.wait(self.stop, patience) {
                self.until = None;
            }
        }
    }

    fn entry(&mut self, line: Result<&[u8], Skip>, skipped: &mut Option<&str>) {
        let known = self.place.as_ref().map_or(Wall(0), |place| place.at);
        let entry = match line.map(Entry::read) {
            Ok(Some(entry)) => entry,
            Ok(None) => return self.taker.line(known, Err(Skip::Malformed)),
            Err(skip) => return self.taker.line(known, Err(skip)),
        };
        // The entry of the cursor is the first there is, unless it is gone.
        if skipped.take() == Some(entry.cursor.as_str()) {
            return;
        }
        let place = entry.place();
        if !self.whose.has(&entry) {
            return self.passed(place);
        }
        match entry.what() {
            What::Line(text) => self.taker.line(entry.logged(), text.as_deref().map_err(|s| *s)),
            What::Lost(count) => self.taker.lost(count),
        }
        self.passed(place);
    }

    fn passed(&mut self, place: Place) {
        let last = |until: &Place| until.cursor == place.cursor || until.at < place.at;
        if self.until.as_ref().is_some_and(last) {
            self.until = None;
        }
        *self.place = Some(place);
    }
}

impl Running {
    /// Reads once, after waiting for no longer than `patience`.
    fn read(
        &mut self,
        stop: &Stop,
        buffer: &mut [u8],
        patience: Option<Duration>,
    ) -> Result<Got, String> {
        let ready = stop.poll(&[self.out.as_fd(), self.complaints.as_fd()], patience);
        if ready.stopped {
            return Ok(Got::Stopped);
        }
        if ready.is_readable(1) {
            let mut text = [0; COMPLAINT_BYTES_MAX];
            let count = nix::unistd::read(&self.complaints, &mut text).unwrap_or(0);
            self.complaint = text.get(..count).unwrap_or_default().to_vec();
        }
        if !ready.is_readable(0) && !ready.is_ended(0) {
            return Ok(Got::Nothing);
        }
        match nix::unistd::read(&self.out, buffer) {
            Ok(0) => Ok(Got::End),
            Ok(count) => Ok(Got::Bytes(count)),
            Err(Errno::EINTR) => Ok(Got::Nothing),
            Err(errno) => Err(format!("cannot read what journalctl writes: {errno}")),
        }
    }

    /// False if nothing came for so long.
    fn wait(&self, stop: &Stop, patience: Duration) -> bool {
        let ready = stop.poll(&[self.out.as_fd()], Some(patience));
        ready.stopped || ready.readable != 0 || ready.ended != 0
    }

    fn ended_well(&mut self) -> Result<(), String> {
        match self.child.wait() {
            Ok(exit) if exit.success() => Ok(()),
            _ => Err(self.end()),
        }
    }

    /// Why it ended.
    fn end(&mut self) -> String {
        let exit = self.child.wait().map_or_else(|_| "ended".to_owned(), |exit| exit.to_string());
        let complaint = String::from_utf8_lossy(&self.complaint);
        match complaint.trim().lines().last() {
            Some(text) => format!("journalctl ended ({exit}): {}", text.trim()),
            None => format!("journalctl ended ({exit})"),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It holds nothing that it would have to write.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[cfg(test)]
#[path = "journal_test.rs"]
mod tests;
