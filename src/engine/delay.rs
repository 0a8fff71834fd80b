//! How long records take from the answer to us, as measured, and the hold that follows from it.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::limits::{
    DELAY_LONGEST_TENTHS, DELAY_MARGIN, DELAY_SLOT, DELAY_SLOTS, DELAYS_MIN, HOLD_MIN, WAIT_MEMORY,
};
use super::time::Mono;

/// Parts of each power of two: a delay is known to an eighth, always rounded up.
const PARTS: u64 = 8;
/// Delays from here on are counted as this, 16 s in microseconds; no hold is that long.
const MICROS_MAX: u64 = (1 << 24) - 1;
/// Buckets up to [`MICROS_MAX`].
const BUCKETS: usize = 176;
const SLOT_NS: u64 = DELAY_SLOT.as_secs() * 1_000_000_000;

/// Measured delays of one source: a histogram over a sliding window. Any thread may add, which takes a lock, and ask,
/// which takes none.
#[derive(Debug, Default)]
pub struct Delays {
    window: Mutex<Window>,
    /// What was measured as of the last delay.
    samples: AtomicU64,
    percentile_us: AtomicU64,
    longest_us: AtomicU64,
    /// The hold that follows in nanoseconds, and until when it does. After that too few delays are known.
    bound_ns: AtomicU64,
    until: AtomicU64,
    /// Least hold in nanoseconds; 0 stands for [`HOLD_MIN`].
    floor_ns: AtomicU64,
    /// The longest that a packet waited for its record, in nanoseconds, and until when that is remembered.
    waited_ns: AtomicU64,
    waited_until: AtomicU64,
}

/// What was measured lately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measured {
    /// Delays in the window.
    pub samples: u64,
    /// What one in a thousand exceeded, rounded up.
    pub percentile: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Delays {
    /// Adds one measured delay.
    pub fn observe(&self, delay: Duration, now: Mono) {
        let micros = u64::try_from(delay.as_nanos().div_ceil(1_000)).unwrap_or(u64::MAX);
        let micros = micros.min(MICROS_MAX);
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        window.add(micros, now.0 / SLOT_NS);
        let (measured, until) = window.measured();
        self.samples.store(measured.samples, Relaxed);
        self.percentile_us.store(measured.percentile_us, Relaxed);
        self.longest_us.store(measured.longest_us, Relaxed);
        let bound = (u64::from(DELAY_MARGIN) * measured.percentile_us)
            .max(u64::from(DELAY_LONGEST_TENTHS) * measured.longest_us / 10);
        self.bound_ns.store(bound * 1_000, Relaxed);
        self.until.store(until, Relaxed);
    }

    /// How long a packet has to wait at most for this source: `longest` until enough has been measured, and when that
    /// is too long ago. Never less than any delay of the last ten minutes, unless that is `longest`.
    pub fn bound(&self, longest: Duration, now: Mono) -> Duration {
        if !self.is_known(now) {
            return longest;
        }
        let bound = Duration::from_nanos(self.bound_ns.load(Relaxed));
        let floor = Duration::from_nanos(self.floor_ns.load(Relaxed)).max(HOLD_MIN);
        bound.max(floor).max(self.for_waits(now)).min(longest)
    }

    /// Says that delays are measured from the line on, not from the answer: what passes in between is not seen.
    pub fn set_floor(&self, floor: Duration) {
        self.floor_ns.store(nanos(floor), Relaxed);
    }

    /// Adds how long a packet waited for its record, or came too early for it. That is the whole of the delay, and seldom
    /// seen, so it counts for a day.
    pub fn observe_wait(&self, waited: Duration, now: Mono) {
        self.observe(waited, now);
        if now.0 >= self.waited_until.load(Relaxed) || nanos(waited) >= self.waited_ns.load(Relaxed)
        {
            self.waited_ns.store(nanos(waited), Relaxed);
            self.waited_until.store((now + WAIT_MEMORY).0, Relaxed);
        }
    }

    /// The hold that follows from the longest wait of the last day.
    fn for_waits(&self, now: Mono) -> Duration {
        if now.0 >= self.waited_until.load(Relaxed) {
            return Duration::ZERO;
        }
        Duration::from_nanos(self.waited_ns.load(Relaxed)) * DELAY_LONGEST_TENTHS / 10
    }

    /// True while enough delays have been measured to say anything.
    pub fn is_known(&self, now: Mono) -> bool {
        now.0 < self.until.load(Relaxed)
    }

    /// What the last delay completed; nothing before the first one.
    pub fn measured(&self) -> Option<Measured> {
        let micros = |of: &AtomicU64| Duration::from_micros(of.load(Relaxed));
        let (percentile, longest) = (micros(&self.percentile_us), micros(&self.longest_us));
        let samples = self.samples.load(Relaxed);
        (samples > 0).then_some(Measured { samples, percentile, longest })
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[derive(Debug, Default)]
struct Window {
    slots: [Slot; DELAY_SLOTS],
    /// The slot of the latest delay. A delay that another thread took a little earlier counts as of then.
    latest: u64,
}

#[derive(Debug)]
struct Slot {
    number: u64,
    total: u64,
    longest_us: u64,
    counts: [u32; BUCKETS],
}

impl Default for Slot {
    fn default() -> Slot {
        Slot { number: 0, total: 0, longest_us: 0, counts: [0; BUCKETS] }
    }
}

#[derive(Default)]
struct Sums {
    samples: u64,
    percentile_us: u64,
    longest_us: u64,
}

impl Window {
    fn add(&mut self, micros: u64, number: u64) {
        self.latest = self.latest.max(number);
        let latest = self.latest;
        let Some(slot) = self.slots.get_mut(ring(latest)) else { return };
        if slot.number != latest {
            *slot = Slot { number: latest, ..Slot::default() };
        }
        slot.total += 1;
        slot.longest_us = slot.longest_us.max(micros);
        if let Some(count) = slot.counts.get_mut(bucket(micros)) {
            *count = count.saturating_add(1);
        }
    }

    fn present(&self) -> impl Iterator<Item = &Slot> {
        let slots = DELAY_SLOTS as u64;
        self.slots.iter().filter(move |slot| slot.total > 0 && slot.number + slots > self.latest)
    }

    /// What the window holds, and until when it holds enough if nothing more comes; 0 if it does not.
    fn measured(&self) -> (Sums, u64) {
        let samples: u64 = self.present().map(|slot| slot.total).sum();
        let longest_us = self.present().map(|slot| slot.longest_us).max().unwrap_or(0);
        let beyond = samples / 1_000;
        let mut above = 0;
        let mut percentile_us = longest_us;
        for index in (0..=bucket(longest_us)).rev() {
            let of = |slot: &Slot| slot.counts.get(index).copied().map_or(0, u64::from);
            above += self.present().map(of).sum::<u64>();
            if above > beyond {
                percentile_us = upper(index).min(longest_us);
                break;
            }
        }
        (Sums { samples, percentile_us, longest_us }, self.enough_until(samples))
    }

    fn enough_until(&self, mut samples: u64) -> u64 {
        let mut slots: Vec<(u64, u64)> =
            self.present().map(|slot| (slot.number, slot.total)).collect();
        slots.sort_unstable();
        let mut until = 0;
        for (number, total) in slots {
            if samples < DELAYS_MIN {
                break;
            }
            until = (number + DELAY_SLOTS as u64).saturating_mul(SLOT_NS);
            samples -= total;
        }
        until
    }
}

fn ring(number: u64) -> usize {
    usize::try_from(number % DELAY_SLOTS as u64).unwrap_or(0)
}

fn bucket(micros: u64) -> usize {
    let micros = micros.min(MICROS_MAX);
    let power = u64::from(micros.max(1).ilog2());
    let index = match power {
        0..3 => micros,
        _ => (power - 2) * PARTS + (micros >> (power - 3)) % PARTS,
    };
    usize::try_from(index).unwrap_or(BUCKETS)
}

/// The longest delay that is counted in a bucket.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    match index / PARTS {
        0 => index,
        row => ((PARTS + index % PARTS + 1) << (row - 1)) - 1,
    }
}

#[cfg(test)]
#[path = "delay_test.rs"]
mod tests;
