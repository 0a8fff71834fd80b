//! Tells systemd that we live, which is only while the threads that judge, and keep rules, lists and containers, really move.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use sd_notify::NotifyState;

use super::roster::books;
use super::shared::Shared;
use crate::engine::Mode;
use crate::engine::limits::REOPEN_PAUSE_MAX;

/// Looks, one a second, for which a verdict thread may stand still: one that opens its queue again pauses that long.
const LANE_PATIENCE: u64 = REOPEN_PAUSE_MAX.as_secs() + 1;
/// The same for the threads beside the packet path. A million new networks, or a disk that hangs for a while, is no death.
const KEEPER_PATIENCE: u64 = 120;

/// Turns of a thread, which alone counts them.
#[derive(Debug, Default)]
pub struct Beat(AtomicU64);

impl Beat {
    /// One turn more. With one writer a load and a store do, without a locked instruction.
    pub fn count(&self) {
        self.0.store(self.0.load(Relaxed).wrapping_add(1), Relaxed);
    }

    /// How many there were.
    pub fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

/// Watches the threads. Its look is a matter of microseconds.
#[derive(Debug, Default)]
pub struct Watchdog {
    seen: Vec<Seen>,
    said: String,
}

/// A thread at the last look.
#[derive(Clone, Debug, Default)]
struct Seen {
    beats: u64,
    /// Looks since it moved.
    still: u64,
}

/// A thread at this look.
struct Thread {
    name: String,
    beats: u64,
    patience: u64,
}

impl Watchdog {
    /// Once a second: pings systemd if every thread has moved, and then wakes each, so that the next look finds it moved.
    /// Without the ping systemd ends us and starts another.
    pub fn look(&mut self, shared: &Shared) {
        if self.all_move(shared) {
            super::notify(&[NotifyState::Watchdog]);
        }
        let status = status(shared);
        if status != self.said {
            super::notify(&[NotifyState::Status(&status)]);
            self.said = status;
        }
    }

    fn all_move(&mut self, shared: &Shared) -> bool {
        let threads = threads(shared);
        self.seen.resize_with(threads.len(), Seen::default);
        let mut still = Vec::new();
        for (thread, seen) in threads.iter().zip(&mut self.seen) {
            if !seen.compare(thread, shared) {
                still.push(thread.name.clone());
            }
        }
        ring(shared);
        let all = still.is_empty();
        shared.pulse.set_still(still);
        all
    }
}

impl Seen {
    /// Whether it moves; the change is told.
    fn compare(&mut self, thread: &Thread, shared: &Shared) -> bool {
        let was_stuck = self.still > thread.patience;
        let moved = thread.beats != self.beats;
        self.beats = thread.beats;
        self.still = if moved { 0 } else { self.still + 1 };
        let is_stuck = self.still > thread.patience;
        if is_stuck != was_stuck {
            let how = if is_stuck { "stands still" } else { "moves again" };
            shared.report_health("worker", !is_stuck, format!("{} {how}", thread.name));
        }
        !is_stuck
    }
}

fn threads(shared: &Shared) -> Vec<Thread> {
    let lanes = shared.mailboxes.iter().zip(shared.queue_num..).map(|(mailbox, queue)| Thread {
        name: format!("the verdict thread of queue {queue}"),
        beats: mailbox.beat.get(),
        patience: LANE_PATIENCE,
    });
    let keeper = |of: &str, beats| Thread {
        name: format!("the thread that keeps the {of}"),
        beats,
        patience: KEEPER_PATIENCE,
    };
    let lists = shared.library.get().map_or(0, |notes| notes.taken());
    let keepers = [
        keeper("rules", shared.orders.taken()),
        keeper("containers", shared.roster.taken()),
        keeper("lists", lists),
    ];
    lanes.chain(keepers).collect()
}

fn ring(shared: &Shared) {
    shared.mailboxes.iter().for_each(super::mailbox::Mailbox::ring);
    shared.orders.ring();
    shared.roster.ring();
    if let Some(notes) = shared.library.get() {
        notes.ring();
    }
}

/// What `systemctl status` shows: how we are, what is known, and who is there.
fn status(shared: &Shared) -> String {
    let mode = match shared.present_mode() {
        Mode::Enforce => "enforcing",
        Mode::DryRun => "dry run, nothing is refused",
        Mode::Learn => "learning, nothing is refused yet",
    };
    let plural = |count: usize, one: &str, many: &str| {
        format!("{} {}", grouped(count), if count == 1 { one } else { many })
    };
    let addresses = plural(shared.engine.registry().len(), "address", "addresses");
    let containers = plural(books(shared).running().count(), "container", "containers");
    format!("{mode}, {addresses}, {containers}")
}

/// A number with a comma before every three digits.
fn grouped(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[path = "watchdog_test.rs"]
mod tests;
