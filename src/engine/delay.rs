//! How long records take from the answer to us, as measured, and the hold that follows from it.

use std::time::Duration;

use super::time::Mono;

/// Measured delays of one source. Any thread may add and ask.
#[derive(Debug, Default)]
pub struct Delays {}

impl Delays {
    /// Adds one measured delay.
    pub fn observe(&self, delay: Duration, now: Mono) {
        let _ = (delay, now);
    }

    /// How long a packet has to wait at most for this source: `longest` until enough has been measured.
    pub fn bound(&self, longest: Duration, now: Mono) -> Duration {
        let _ = now;
        longest
    }
}
