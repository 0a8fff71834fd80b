//! What is measured on the packet path, by counters alone: verdicts by reason, how long verdicts took, how long packets waited.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::engine::judge::Decision;
use crate::engine::{Mono, Reason, Verdict};

/// Upper bounds of verdict latencies, in microseconds.
pub const LATENCY_BOUNDS_US: [u64; 12] =
    [10, 25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 50_000, 250_000];
/// Upper bounds of hold times, in microseconds: the longest hold is just below a second.
pub const HOLD_BOUNDS_US: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000];

const REASONS: usize = Reason::ALL.len();

/// Counters since start.
#[derive(Debug)]
pub struct Measures {
    accepted: [AtomicU64; REASONS],
    refused: [AtomicU64; REASONS],
    /// From the packet read to its verdict sent, of packets that did not wait.
    pub latency: Histogram<12>,
    /// How long held packets waited, or would have.
    pub hold: Histogram<12>,
}

impl Default for Measures {
    fn default() -> Measures {
        let zeros = || std::array::from_fn(|_| AtomicU64::new(0));
        Measures {
            accepted: zeros(),
            refused: zeros(),
            latency: Histogram::new(LATENCY_BOUNDS_US),
            hold: Histogram::new(HOLD_BOUNDS_US),
        }
    }
}

impl Measures {
    /// Counts a decision whose packet was answered at `now`.
    pub fn count(&self, decision: &Decision, now: Mono) {
        self.count_reason(decision.verdict, decision.reason);
        if decision.held.is_zero() {
            self.latency.observe(micros(now.since(decision.at.mono)));
        } else {
            self.hold.observe(micros(decision.held));
        }
    }

    /// Counts a verdict on a packet that said nothing of its flow.
    pub fn count_reason(&self, verdict: Verdict, reason: Reason) {
        let side = match verdict {
            Verdict::Accept => &self.accepted,
            Verdict::Drop => &self.refused,
        };
        if let Some(counter) = side.get(reason as usize) {
            counter.fetch_add(1, Relaxed);
        }
    }

    /// Every verdict and reason with its count, those that never were included.
    pub fn by_reason(&self) -> impl Iterator<Item = (Verdict, Reason, u64)> {
        let of = |verdict, side: &[AtomicU64; REASONS]| {
            let counts: Vec<u64> = side.iter().map(|counter| counter.load(Relaxed)).collect();
            Reason::ALL.into_iter().zip(counts).map(move |(reason, count)| (verdict, reason, count))
        };
        of(Verdict::Accept, &self.accepted).chain(of(Verdict::Drop, &self.refused))
    }

    /// All verdicts of a kind.
    pub fn sum(&self, verdict: Verdict) -> u64 {
        self.by_reason().filter(|(kind, ..)| *kind == verdict).map(|(.., count)| count).sum()
    }
}

/// How often what was measured lay below which bound.
#[derive(Debug)]
pub struct Histogram<const N: usize> {
    bounds: [u64; N],
    below: [AtomicU64; N],
    beyond: AtomicU64,
    sum: AtomicU64,
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spread {
    /// Upper bounds in microseconds, with how many lay below that and not below the one before.
    pub buckets: Vec<(u64, u64)>,
    /// How many lay beyond the last bound.
    pub beyond: u64,
    /// The sum of all, in microseconds.
    pub sum: u64,
}

impl<const N: usize> Histogram<N> {
    fn new(bounds: [u64; N]) -> Histogram<N> {
        let below = std::array::from_fn(|_| AtomicU64::new(0));
        Histogram { bounds, below, beyond: AtomicU64::new(0), sum: AtomicU64::new(0) }
    }

    fn observe(&self, micros: u64) {
        let slot = self.bounds.iter().position(|bound| micros <= *bound);
        slot.and_then(|slot| self.below.get(slot)).unwrap_or(&self.beyond).fetch_add(1, Relaxed);
        self.sum.fetch_add(micros, Relaxed);
    }

    /// What was measured so far.
    pub fn spread(&self) -> Spread {
        let counts = self.below.iter().map(|counter| counter.load(Relaxed));
        Spread {
            buckets: self.bounds.into_iter().zip(counts).collect(),
            beyond: self.beyond.load(Relaxed),
            sum: self.sum.load(Relaxed),
        }
    }
}

impl Spread {
    /// How many were measured.
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|(_, count)| count).sum::<u64>() + self.beyond
    }

    /// The bound that `share` (0 to 1) of all lie below, in microseconds; nothing if nothing was measured, or that
    /// share reaches beyond the last bound.
    pub fn quantile(&self, share: f64) -> Option<u64> {
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of a count is between 0 and the count"
        )]
        let rank = ((self.count() as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        self.buckets.iter().find_map(|(bound, count)| {
            seen += count;
            (seen >= rank).then_some(*bound)
        })
    }
}

fn micros(time: std::time::Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_the_bounds_that_hold_for_their_share() {
        let histogram = Histogram::new([10, 100, 1_000]);
        assert_eq!(histogram.spread().quantile(0.5), None);
        (0..98).for_each(|_| histogram.observe(10));
        histogram.observe(11);
        histogram.observe(5_000);
        let spread = histogram.spread();
        assert_eq!(spread.buckets, [(10, 98), (100, 1), (1_000, 0)]);
        assert_eq!((spread.beyond, spread.count(), spread.sum), (1, 100, 5_991));
        assert_eq!(spread.quantile(0.5), Some(10));
        assert_eq!(spread.quantile(0.99), Some(100));
        assert_eq!(spread.quantile(1.0), None);
    }

    #[test]
    fn every_reason_has_a_counter_of_its_own() {
        let measures = Measures::default();
        for reason in Reason::ALL {
            measures.count_reason(Verdict::Drop, reason);
        }
        let of = |verdict| measures.by_reason().filter(move |(kind, ..)| *kind == verdict);
        assert!(of(Verdict::Drop).all(|(.., count)| count == 1));
        assert!(of(Verdict::Accept).all(|(.., count)| count == 0));
        assert_eq!(measures.sum(Verdict::Drop), 13);
    }
}
