//! A log that comes line by line, each with its time: a container's, which somebody else follows for us, or a journal.

use std::time::Duration;

use crate::engine::health::Skip;
use crate::engine::{Mono, Wall};

use super::journal::{Left, Place};
use super::pump::Pump;
use super::{Sink, Status, Stop};

/// Who follows such logs. Adapters do not know each other, so it comes from whoever starts the source.
pub trait Outside: Send + Sync {
    /// Follows the log of `name` on the calling thread until `stop` is raised, whatever happens to it.
    fn follow(&self, name: &str, stop: &Stop, taker: &mut dyn Taker);

    /// The monotonic clock.
    fn clock(&self) -> Mono;

    /// Where the journal of `unit` was left when we ran before.
    fn journal_left(&self, unit: &str) -> Left {
        let _ = unit;
        Left::Since(self.journal_since())
    }

    /// How far back a journal is read of which nothing is known.
    fn journal_since(&self) -> Wall {
        Wall(0)
    }

    /// Everything in the journal of `unit` up to there has been taken in.
    fn journal_reached(&self, unit: &str, place: &Place) {
        let _ = (unit, place);
    }
}

/// For who has none to follow.
#[derive(Clone, Copy, Debug)]
pub struct Nowhere;

impl Outside for Nowhere {
    fn follow(&self, _: &str, stop: &Stop, taker: &mut dyn Taker) {
        taker.down("there is no container engine");
        while !stop.poll(&[], None).stopped {}
    }

    fn clock(&self) -> Mono {
        Mono(0)
    }
}

/// Who takes such a log: everything in the order of the log, on one thread.
pub trait Taker {
    /// The log is open. What it holds from `from` to `until` was logged before; [`Taker::up`] ends it.
    fn history(&mut self, from: Wall, until: Wall);
    /// It is looked whether there is anything to be read.
    fn looking(&mut self) {}
    /// How long to sleep before that at most, if it matters.
    fn patience(&self) -> Option<Duration> {
        None
    }
    /// Whoever keeps the log says that it lost so many lines.
    fn lost(&mut self, count: u64) {
        let _ = count;
    }
    /// Bytes are there.
    fn behind(&mut self);
    /// A line less its end, and when it was logged; or why there is none.
    fn line(&mut self, logged: Wall, line: Result<&[u8], Skip>);
    /// Everything that was there has been handed over.
    fn caught_up(&mut self);
    /// Everything that was logged before has been handed over; what comes now is new.
    fn up(&mut self);
    /// The log cannot be read, and why. May come again with another reason.
    fn down(&mut self, why: &str);
}

/// How long history is read before the first word about how far it is, and between two such words.
const PROGRESS_NS: u64 = 2_000_000_000;
/// Shortest history of which anything is said, in microseconds.
const TOLD_US: u64 = 60_000_000;
/// Lines counted together; each count takes a clock reading.
const BATCH_LINES: u64 = 256;

/// Follows `name` until `stop` is raised.
pub fn run(name: &str, outside: &dyn Outside, stop: &Stop, sink: &mut dyn Sink) {
    let what = format!("the log of container {name}");
    follow(what, outside, sink, |taker| outside.follow(name, stop, taker));
}

/// Takes the lines in that `follow` hands over; `what` they are of is for people.
pub(super) fn follow(
    what: String,
    outside: &dyn Outside,
    sink: &mut dyn Sink,
    follow: impl FnOnce(&mut dyn Taker),
) {
    let (pump, status) = (Pump::new(), Status::new());
    follow(&mut Lines { what, outside, sink, pump, status, history: None });
}

struct Lines<'a> {
    what: String,
    outside: &'a dyn Outside,
    sink: &'a mut dyn Sink,
    pump: Pump,
    status: Status,
    history: Option<History>,
}

/// What was logged before we came, while it is read.
struct History {
    from: Wall,
    until: Wall,
    began: Mono,
    told: Mono,
    reached: Wall,
    lines: u64,
    records: u64,
}

impl Lines<'_> {
    fn flush(&mut self) {
        let batch = self.pump.flush(self.sink);
        if let Some(history) = &mut self.history {
            history.lines += batch.lines;
            history.records += batch.records;
        }
    }

    fn end_history(&mut self) {
        self.flush();
        if let Some(history) = self.history.take().filter(History::is_told) {
            self.sink.note(&history.end(&self.what, self.outside.clock()));
        }
    }

    fn tell_progress(&mut self) {
        let Some(history) = &mut self.history else { return };
        let now = self.outside.clock();
        if now.0.saturating_sub(history.told.0) >= PROGRESS_NS {
            history.told = now;
            let text = history.progress(&self.what);
            self.sink.note(&text);
        }
    }
}

impl Taker for Lines<'_> {
    fn looking(&mut self) {
        self.sink.looking();
    }

    fn patience(&self) -> Option<Duration> {
        self.sink.patience()
    }

    fn lost(&mut self, count: u64) {
        self.pump.lost(count);
    }

    fn history(&mut self, from: Wall, until: Wall) {
        let now = self.outside.clock();
        let history =
            History { from, until, began: now, told: now, reached: from, lines: 0, records: 0 };
        if history.is_told() {
            self.sink.note(&history.begin(&self.what));
        }
        self.history = Some(history);
    }

    fn behind(&mut self) {
        self.pump.behind(self.sink);
    }

    fn line(&mut self, logged: Wall, line: Result<&[u8], Skip>) {
        self.pump.timed(logged, line, self.sink);
        if let Some(history) = &mut self.history {
            history.reached = history.reached.max(logged);
        }
        if self.pump.waiting() >= BATCH_LINES {
            self.flush();
            self.tell_progress();
        }
    }

    fn caught_up(&mut self) {
        self.flush();
        // Between two pieces of history there is only the engine that has not read on yet.
        if self.history.is_none() {
            self.pump.caught_up(self.sink);
        }
    }

    fn up(&mut self) {
        self.end_history();
        self.pump.caught_up(self.sink);
        self.status.up(self.sink);
    }

    fn down(&mut self, why: &str) {
        self.end_history();
        self.pump.caught_up(self.sink);
        self.status.down(why, self.sink);
    }
}

impl History {
    /// What was missed while the engine was away for a moment is no news.
    fn is_told(&self) -> bool {
        self.until.0.saturating_sub(self.from.0) >= TOLD_US
    }

    fn begin(&self, what: &str) -> String {
        format!("reading {} of {what}", span(self.from, self.until))
    }

    fn progress(&self, what: &str) -> String {
        let part = |to: Wall| to.0.saturating_sub(self.from.0);
        let percent = part(self.reached.min(self.until)) * 100 / part(self.until).max(1);
        format!("{percent} % of {what} is read: {}", self.counted())
    }

    fn end(&self, what: &str, now: Mono) -> String {
        format!(
            "read {} of {what}: {}, {:.1} s",
            span(self.from, self.until),
            self.counted(),
            now.since(self.began).as_secs_f64(),
        )
    }

    fn counted(&self) -> String {
        format!("{} lines, {} records", self.lines, self.records)
    }
}

/// A span of time in the largest unit that it fills twice.
fn span(from: Wall, until: Wall) -> String {
    let seconds = until.0.saturating_sub(from.0) / 1_000_000;
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", (seconds + 30) / 60),
        _ => format!("{} h", (seconds + 1_800) / 3_600),
    }
}

#[cfg(test)]
#[path = "outside_test.rs"]
mod tests;
