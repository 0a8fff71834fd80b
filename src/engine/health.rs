//! The health of the evidence: what each DNS source has read, lost and skipped, and how far it is behind.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::delay::Delays;
use super::limits::{LOOK_TICK, LOSS_MEMORY, RESTART_MEMORY, UNANSWERED_TOLD};
use super::time::{Mono, Now, Wall};

/// Why a log line gave no evidence although it should have been readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Skip {
    /// Longer than the line limit.
    TooLong,
    /// Not UTF-8.
    NotUtf8,
    /// Looks like a dnsmasq line but its parts are not where they must be.
    Malformed,
    /// An answer with an address whose query is unknown or was not for A or AAAA.
    Unmatched,
}

/// What keeps dnsmasq from writing its log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Disk {
    /// Nothing.
    Fine = 0,
    /// There is no room.
    Full = 1,
    /// Nobody may write to it.
    ReadOnly = 2,
}

/// Counters of one source. Written by its reader thread, read by everybody.
#[derive(Debug, Default)]
pub struct SourceHealth {
    /// Source specification as the user wrote it.
    pub label: String,
    /// How long its records take.
    pub delays: Delays,
    up: AtomicBool,
    lines: AtomicU64,
    records: AtomicU64,
    skipped: AtomicU64,
    lost: AtomicU64,
    last_line: AtomicU64,
    last_loss: AtomicU64,
    up_since: AtomicU64,
    behind_since: AtomicU64,
    caught_up_at: AtomicU64,
    lag_ns: AtomicU64,
    started_at: AtomicU64,
    looked_at: AtomicU64,
    disk: AtomicU8,
    /// One more than the questions in a row that it did not answer; 0 for one that is not asked.
    unanswered: AtomicU32,
}

impl SourceHealth {
    /// A source that has not been opened yet: down.
    pub fn new(label: impl Into<String>) -> SourceHealth {
        SourceHealth { label: label.into(), ..SourceHealth::default() }
    }

    /// The source is open and read.
    pub fn mark_up(&self, now: Mono) {
        self.up_since.store(now.0, Relaxed);
        self.up.store(true, Relaxed);
    }

    /// The source ended or cannot be opened.
    pub fn mark_down(&self) {
        self.behind_since.store(0, Relaxed);
        self.up.store(false, Relaxed);
    }

    /// True while the source is open.
    pub fn is_up(&self) -> bool {
        self.up.load(Relaxed)
    }

    /// Bytes are there to be read: from here to [`SourceHealth::caught_up`] the reader is behind.
    pub fn fell_behind(&self, now: Mono) {
        self.behind_since.store(now.0.max(1), Relaxed);
    }

    /// Everything that was there has been read and applied.
    pub fn caught_up(&self, now: Mono) {
        let since = self.behind_since.swap(0, Relaxed);
        if since != 0 {
            self.lag_ns.store(now.0.saturating_sub(since), Relaxed);
            self.caught_up_at.store(now.0, Relaxed);
        }
    }

    /// The reader began to look at this moment, and has since found nothing that was not read.
    pub fn looked(&self, began: Mono) {
        self.looked_at.store(began.0.max(1), Relaxed);
    }

    /// Whether dnsmasq can write its log. What it could not write is lost. True if that is new.
    pub fn set_disk(&self, disk: Disk, now: Mono) -> bool {
        let before = self.disk.swap(disk as u8, Relaxed);
        if before != Disk::Fine as u8 {
            self.last_loss.store(now.0.max(1), Relaxed);
        }
        before != disk as u8
    }

    /// So many questions in a row that who writes the log did not answer. Tells if it has now fallen silent (false) or
    /// answers again (true).
    pub fn set_unanswered(&self, questions: u32) -> Option<bool> {
        let before = self.unanswered.swap(questions.saturating_add(1), Relaxed).saturating_sub(1);
        match (before >= UNANSWERED_TOLD, questions >= UNANSWERED_TOLD) {
            (false, true) => Some(false),
            (true, false) => Some(true),
            (true, true) | (false, false) => None,
        }
    }

    /// Adds what one batch of lines held. True if it tells of lines lost just now: before a source is up it reads
    /// what was logged earlier, and that is no news.
    pub fn count(&self, batch: Batch, now: Now) -> bool {
        self.lines.fetch_add(batch.lines, Relaxed);
        self.records.fetch_add(batch.records, Relaxed);
        self.skipped.fetch_add(batch.skipped, Relaxed);
        self.lost.fetch_add(batch.lost, Relaxed);
        if batch.lines > 0 {
            self.last_line.store(now.wall.0, Relaxed);
        }
        // Our own dnsmasq says that it started before it is up again. What came before the first time is no news.
        if batch.starts > 0 && self.up_since.load(Relaxed) != 0 {
            self.started_at.store(now.mono.0.max(1), Relaxed);
        }
        let news = batch.lost > 0 && self.is_up();
        if news {
            self.last_loss.store(now.mono.0.max(1), Relaxed);
        }
        news
    }

    fn lag_us(&self, now: Mono) -> u64 {
        match self.behind_since.load(Relaxed) {
            0 => self.lag_ns.load(Relaxed) / 1_000,
            since => now.0.saturating_sub(since) / 1_000,
        }
    }

    /// Why a packet that waited for `hold` until `now` proves nothing by the absence of its record; none if it does:
    /// this source was up and kept pace all that time, has given lines at all, and lost none lately.
    fn doubt(&self, now: Now, hold: Duration) -> Option<&'static str> {
        let long_ago = |moment: &AtomicU64| now.mono.since(Mono(moment.load(Relaxed))) >= hold;
        if !self.is_up() {
            return Some("down");
        }
        if !long_ago(&self.up_since) {
            return Some("came up only a moment ago");
        }
        if self.lines.load(Relaxed) == 0 {
            return Some("has given no line yet");
        }
        let lagged = Duration::from_nanos(self.lag_ns.load(Relaxed)) > hold;
        let late = match self.behind_since.load(Relaxed) {
            0 => lagged && !long_ago(&self.caught_up_at),
            since => now.mono.since(Mono(since)) > hold,
        };
        if late {
            return Some("read too late");
        }
        match self.disk.load(Relaxed) {
            full if full == Disk::Full as u8 => return Some("cannot be written: its disk is full"),
            fine if fine == Disk::Fine as u8 => {}
            _ => return Some("cannot be written: its disk is read-only"),
        }
        let lately = |moment: &AtomicU64, memory: Duration| {
            let moment = moment.load(Relaxed);
            moment != 0 && now.mono.since(Mono(moment)) <= memory
        };
        if lately(&self.started_at, RESTART_MEMORY) {
            return Some("is of a dnsmasq that started anew a moment ago");
        }
        if lately(&self.last_loss, LOSS_MEMORY) {
            return Some("lost lines within the last minute");
        }
        self.is_unseen(now.mono, hold).then_some("was not looked at while the packet waited")
    }

    /// True if a reader that has to look often did not: what it starves for, the record may be waiting for too.
    fn is_unseen(&self, now: Mono, hold: Duration) -> bool {
        let looked = self.looked_at.load(Relaxed);
        let patience = hold.max(LOOK_TICK * 2);
        looked != 0 && self.delays.is_known(now) && now.since(Mono(looked)) > patience
    }

    /// Everything about this source for people, where a packet may wait for `longest` and waits for `hold`.
    pub fn state(&self, longest: Duration, hold: Duration, now: Now) -> SourceState {
        let last_line = self.last_line.load(Relaxed);
        SourceState {
            label: self.label.clone(),
            up: self.is_up(),
            doubt: self.doubt(now, hold).map(str::to_owned),
            lines: self.lines.load(Relaxed),
            records: self.records.load(Relaxed),
            skipped: self.skipped.load(Relaxed),
            lost: self.lost.load(Relaxed),
            lag_us: self.lag_us(now.mono),
            last_line_ms: ago(last_line, now.wall),
            delay: self.delays.measured().map(|measured| DelayState {
                samples: measured.samples,
                p999_us: micros(measured.percentile),
                longest_us: micros(measured.longest),
            }),
            bound_us: micros(self.delays.bound(longest, now.mono)),
            unanswered: self.unanswered.load(Relaxed).checked_sub(1),
        }
    }
}

/// Milliseconds since a moment; none before the first.
fn ago(moment: u64, now: Wall) -> Option<u64> {
    (moment > 0).then(|| now.0.saturating_sub(moment) / 1_000)
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// What one batch of log lines held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Batch {
    /// Lines read, of any content.
    pub lines: u64,
    /// A and AAAA answers among them.
    pub records: u64,
    /// Lines skipped (see [`Skip`]).
    pub skipped: u64,
    /// Lines that dnsmasq or who passes them on says it lost, and lines that others show to be missing.
    pub lost: u64,
    /// Times dnsmasq says that it has started.
    pub starts: u64,
}

/// One source as `status` shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceState {
    /// As the user wrote it.
    pub label: String,
    /// It is open.
    pub up: bool,
    /// Why the absence of its records proves nothing; none if it does.
    pub doubt: Option<String>,
    /// Log lines read since start.
    pub lines: u64,
    /// A and AAAA answers among them.
    pub records: u64,
    /// Log lines skipped since start.
    pub skipped: u64,
    /// Log lines known to be lost since start.
    pub lost: u64,
    /// Time from bytes being there to their records being applied, in microseconds.
    pub lag_us: u64,
    /// Milliseconds since its last line; none before the first.
    pub last_line_ms: Option<u64>,
    /// How long its records take; none while nothing has been measured.
    pub delay: Option<DelayState>,
    /// How long a packet has to wait for this source, in microseconds.
    pub bound_us: u64,
    /// Questions of ours in a row that our own dnsmasq did not answer; none for a source that is not asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unanswered: Option<u32>,
}

impl SourceState {
    /// Whether containers that ask it get no answer either. What is known already is as good as before: this is no
    /// doubt about the evidence.
    pub fn is_silent(&self) -> bool {
        self.unanswered.is_some_and(|questions| questions >= UNANSWERED_TOLD)
    }
}

/// Delays of one source over the last quarter of an hour or less.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct DelayState {
    /// How many were measured.
    pub samples: u64,
    /// What one in a thousand exceeded, in microseconds.
    pub p999_us: u64,
    /// The longest, in microseconds.
    pub longest_us: u64,
}

/// The state of all evidence at one moment, as every refusal carries it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// False while an absence of records proves nothing.
    pub healthy: bool,
    /// Addresses in the registry.
    pub records: u64,
    /// Time from bytes being there to their records being applied, of the slowest source, in microseconds.
    pub lag_us: u64,
    /// Log lines read since start.
    pub lines: u64,
    /// Log lines skipped since start.
    pub skipped: u64,
    /// Log lines dnsmasq said it lost since start.
    pub lost: u64,
    /// Milliseconds since any source gave a line; none before the first.
    pub last_line_ms: Option<u64>,
    /// True if the registry takes no more addresses.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub full: bool,
    /// Why the evidence is not healthy, one entry a source; empty if it is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub why: Vec<String>,
    /// Sources that are not open.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub down: Vec<String>,
}

impl Evidence {
    /// Sums the sources up. Healthy means that a packet which waited for `hold` until `now` would have been released
    /// if its record had been logged: every source was open, kept pace and lost nothing, and there is one.
    pub fn gather<'a>(
        sources: impl IntoIterator<Item = &'a SourceHealth>,
        records: u64,
        now: Now,
        hold: Duration,
    ) -> Evidence {
        let mut evidence = Evidence { records, ..Evidence::default() };
        let mut any = false;
        let mut last_line = 0;
        for source in sources {
            any = true;
            if let Some(doubt) = source.doubt(now, hold) {
                evidence.why.push(format!("{} {doubt}", source.label));
            }
            evidence.lines += source.lines.load(Relaxed);
            evidence.skipped += source.skipped.load(Relaxed);
            evidence.lost += source.lost.load(Relaxed);
            evidence.lag_us = evidence.lag_us.max(source.lag_us(now.mono));
            last_line = last_line.max(source.last_line.load(Relaxed));
            if !source.is_up() {
                evidence.down.push(source.label.clone());
            }
        }
        evidence.last_line_ms = ago(last_line, now.wall);
        if !any {
            evidence.why.push("there is no source".to_owned());
        }
        evidence.healthy = evidence.why.is_empty();
        evidence
    }
}

#[cfg(test)]
#[path = "health_test.rs"]
mod tests;
