//! What every source does with its bytes: lines, parsed, correlated, handed over as they come, counted by the batch.

use std::os::fd::AsFd;

use nix::errno::Errno;

use crate::engine::Wall;
use crate::engine::health::{Batch, Skip};

use super::Sink;
use super::correlate::{Answer, Correlator};
use super::framing::Framing;
use super::line::{Line, Message, numbered, parse};
use super::stamp::Stamps;

/// Bytes asked for with one read: a whole pipe.
const READ_BYTES: usize = 64 << 10;
/// Bytes of a message kept to explain why dnsmasq ended.
const COMPLAINT_BYTES_MAX: usize = 200;

/// One log: its correlator and the books of the batch being read.
pub struct Pump {
    correlator: Correlator,
    batch: Batch,
    buffer: Vec<u8>,
    behind: bool,
    complaint: String,
    started: bool,
    stamps: Option<Stamps>,
    /// A name of our own, whose lines are nobody's.
    own: Option<&'static str>,
    /// The process whose lines are a sign of its life; nobody's are if it is not known.
    main: Option<u32>,
    alive: bool,
}

/// What one read gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// So many bytes, and perhaps there are more.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The end.
    End,
}

impl Pump {
    /// A pump for a log of which nothing is known.
    pub fn new() -> Pump {
        Pump {
            correlator: Correlator::default(),
            batch: Batch::default(),
            buffer: vec![0; READ_BYTES],
            behind: false,
            complaint: String::new(),
            started: false,
            stamps: None,
            own: None,
            main: None,
            alive: false,
        }
    }

    /// The same for a dnsmasq of our own of this process number: the lines about a name that we ask for ourselves are
    /// not counted.
    pub fn of(main: u32, own: &'static str) -> Pump {
        Pump { own: Some(own), main: Some(main), ..Pump::new() }
    }

    /// Bytes are there.
    pub fn behind(&mut self, sink: &mut dyn Sink) {
        if !self.behind {
            self.behind = true;
            sink.behind();
        }
    }

    /// Everything that was there has been handed over.
    pub fn caught_up(&mut self, sink: &mut dyn Sink) {
        if self.behind {
            self.behind = false;
            sink.caught_up();
        }
        sink.looked();
    }

    /// Reads once.
    ///
    /// # Errors
    /// Whatever read(2) fails with.
    pub fn read(
        &mut self,
        fd: impl AsFd,
        framing: &mut Framing,
        sink: &mut dyn Sink,
    ) -> Result<Read, Errno> {
        let count = match nix::unistd::read(fd, &mut self.buffer) {
            Ok(0) => return Ok(Read::End),
            Ok(count) => count,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Read::Nothing),
            Err(errno) => return Err(errno),
        };
        let buffer = std::mem::take(&mut self.buffer);
        self.feed(buffer.get(..count).unwrap_or_default(), framing, sink);
        self.buffer = buffer;
        Ok(Read::Bytes(count))
    }

    /// Takes bytes in as if they had been read.
    pub fn feed(&mut self, bytes: &[u8], framing: &mut Framing, sink: &mut dyn Sink) {
        framing.feed(bytes, &mut |line| {
            let logged = self.logged(line);
            self.line(logged, line, sink);
        });
        self.flush(sink);
    }

    /// What is read from now on is history, dated by these; or it is not, and of this moment.
    pub fn date_by(&mut self, stamps: Option<Stamps>) {
        self.stamps = stamps;
    }

    fn logged(&mut self, line: Result<&[u8], Skip>) -> Option<Wall> {
        self.stamps.as_mut()?.time(line.ok()?)
    }

    /// Takes one line in that was logged at a known time. It is counted with the next [`Pump::flush`].
    pub fn timed(&mut self, logged: Wall, line: Result<&[u8], Skip>, sink: &mut dyn Sink) {
        self.line(Some(logged), line, sink);
    }

    /// Lines that who passes this log on says it lost. They are counted with the next [`Pump::flush`].
    pub fn lost(&mut self, count: u64) {
        self.batch.lost += count;
    }

    /// Lines taken in and not counted yet.
    pub fn waiting(&self) -> u64 {
        self.batch.lines
    }

    /// Counts what was taken in, and tells.
    pub fn flush(&mut self, sink: &mut dyn Sink) -> Batch {
        let batch = std::mem::take(&mut self.batch);
        if batch != Batch::default() {
            sink.lines(batch);
        }
        batch
    }

    /// What dnsmasq said last that was not about a query.
    pub fn complaint(&self) -> &str {
        &self.complaint
    }

    /// True once, after dnsmasq said that it has started.
    pub fn take_started(&mut self) -> bool {
        std::mem::take(&mut self.started)
    }

    /// True once, after a line of our own dnsmasq itself. Those that it forks for TCP live on when it hangs.
    pub fn take_alive(&mut self) -> bool {
        std::mem::take(&mut self.alive)
    }

    fn line(&mut self, logged: Option<Wall>, line: Result<&[u8], Skip>, sink: &mut dyn Sink) {
        self.batch.lines += 1;
        if line.and_then(|line| self.evidence(logged, line, sink)).is_err() {
            self.batch.skipped += 1;
        }
    }

    fn evidence(
        &mut self,
        logged: Option<Wall>,
        line: &[u8],
        sink: &mut dyn Sink,
    ) -> Result<(), Skip> {
        let line = match parse(line) {
            Ok(line) => line,
            Err(skip) => {
                if let Some(serial) = numbered(line) {
                    self.correlator.garbled(serial);
                }
                return Err(skip);
            }
        };
        self.alive |= self.main.is_some() && line.pid == self.main;
        if self.is_own(&line.message) {
            self.batch.lines -= 1;
        }
        match line.message {
            Message::Lost(count) => self.batch.lost += count,
            Message::Started => {
                self.started = true;
                self.batch.starts += 1;
            }
            Message::Other => self.complain(&line),
            Message::Query { .. } | Message::Answer { .. } | Message::Duplicate => {}
        }
        let records = &mut self.batch.records;
        let fed = self.correlator.feed(&line, &mut |answer| {
            *records += 1;
            sink.answer(Answer { logged, ..answer });
        });
        self.batch.lost += self.correlator.take_missing();
        fed
    }

    fn is_own(&self, message: &Message<'_>) -> bool {
        let (Message::Query { name, .. } | Message::Answer { name, .. }) = message else {
            return false;
        };
        self.own == Some(*name)
    }

    fn complain(&mut self, line: &Line<'_>) {
        // `FAILED to start up` follows the line that says why.
        if line.serial.is_some() || line.text.is_empty() || line.text.starts_with("FAILED") {
            return;
        }
        self.complaint.clear();
        self.complaint.extend(line.text.chars().take(COMPLAINT_BYTES_MAX));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Counts(u64);

    impl Sink for Counts {
        fn behind(&mut self) {}
        fn answer(&mut self, _: Answer<'_>) {}
        fn lines(&mut self, batch: Batch) {
            self.0 += batch.lines;
        }
        fn caught_up(&mut self) {}
        fn up(&mut self) {}
        fn down(&mut self, _: &str) {}
    }

    #[test]
    fn lines_about_our_own_name_are_nobodys() {
        let head = "dnsmasq[7]: 1 127.0.0.1/4000";
        let about = |name: &str| {
            format!("{head} query[A] {name} from 127.0.0.1\n{head} config {name} is NXDOMAIN\n")
        };
        let counted = |mut pump: Pump| {
            let mut counts = Counts(0);
            for name in ["own.invalid", "x.own.invalid"] {
                pump.feed(about(name).as_bytes(), &mut Framing::default(), &mut counts);
            }
            counts.0
        };
        assert_eq!((counted(Pump::new()), counted(Pump::of(7, "own.invalid"))), (4, 2));
    }

    #[test]
    fn only_lines_of_the_process_itself_are_a_sign_of_its_life() {
        let mut pump = Pump::of(7, "own.invalid");
        let mut alive = |line: &str| {
            pump.feed(line.as_bytes(), &mut Framing::default(), &mut Counts(0));
            (pump.take_alive(), pump.take_alive())
        };
        assert_eq!(alive("dnsmasq[7]: 1 10.0.0.2/4 query[A] a.b from 10.0.0.2\n"), (true, false));
        assert_eq!(alive("dnsmasq[8]: 1 10.0.0.2/4 query[A] a.b from 10.0.0.2\n"), (false, false));
        assert_eq!(alive("dnsmasq[7]: exiting on receipt of SIGTERM\n"), (true, false));
    }
}
