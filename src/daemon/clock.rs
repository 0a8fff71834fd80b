//! The only reader of the operating system's clocks.

use std::sync::OnceLock;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use crate::engine::{Mono, Now, Wall};

/// The current moment. Monotonic time counts from the first call.
pub fn now() -> Now {
    Now { mono: mono(), wall: wall() }
}

/// The monotonic clock.
pub fn mono() -> Mono {
    static START: OnceLock<Instant> = OnceLock::new();
    let passed = START.get_or_init(Instant::now).elapsed();
    Mono(u64::try_from(passed.as_nanos()).unwrap_or(u64::MAX))
}

/// The wall clock; a clock set before 1970 reads as 1970.
pub fn wall() -> Wall {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Wall(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}
