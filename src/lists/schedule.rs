//! When a feed is fetched next: its interval with jitter, or a back-off after failures.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

/// First pause after a failure; doubled with each one more.
const RETRY_MIN: Duration = Duration::from_secs(60);
/// Longest pause after failures, if the interval is longer: a server that was away for a day is noticed in an hour.
const RETRY_MAX: Duration = Duration::from_secs(3600);
/// Share of a pause that jitter may take off, in percent, so that hosts started together do not ask together.
const JITTER_PERCENT: u64 = 20;
/// Doublings that reach [`RETRY_MAX`] from [`RETRY_MIN`] and more.
const DOUBLINGS_MAX: u32 = 6;
const _: () = assert!(RETRY_MIN.as_secs() << DOUBLINGS_MAX >= RETRY_MAX.as_secs());

/// The pause before the next fetch: at most `refresh`, and never less than four fifths of what it would be without
/// jitter. `seed` is random for each host, `round` differs from fetch to fetch.
pub fn pause(refresh: Duration, failures: u32, name: &str, seed: u64, round: u64) -> Duration {
    let whole = match failures.checked_sub(1) {
        None => refresh,
        Some(more) => (RETRY_MIN * (1 << more.min(DOUBLINGS_MAX))).min(RETRY_MAX).min(refresh),
    };
    whole - jitter(whole, name, seed, round)
}

/// The pause before the first fetch after a start, by the age of the copy that is there. Without a copy there is none.
pub fn first_pause(refresh: Duration, age: Option<Duration>, name: &str, seed: u64) -> Duration {
    age.map_or(Duration::ZERO, |age| pause(refresh, 0, name, seed, 0).saturating_sub(age))
}

fn jitter(whole: Duration, name: &str, seed: u64, round: u64) -> Duration {
    let mut hasher = DefaultHasher::new();
    (name, seed, round).hash(&mut hasher);
    let most = u64::try_from(whole.as_millis()).unwrap_or(u64::MAX) / 100 * JITTER_PERCENT;
    Duration::from_millis(hasher.finish() % most.max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn failures_back_off_and_never_beyond_the_interval() {
        let minutes = |refresh, failures| {
            let pauses = (0..50).map(|round| pause(refresh, failures, "a", 7, round));
            pauses.max().unwrap().as_secs().div_ceil(60)
        };
        let grown: Vec<u64> = (0..9).map(|failures| minutes(HOUR * 24, failures)).collect();
        assert_eq!(grown[1..4], [1, 2, 4]);
        assert!(grown[7] <= 60 && grown[8] <= 60 && grown[7] > 50, "{grown:?}");
        assert!(grown[0] > 23 * 60);
        assert!(minutes(HOUR / 20, 30) <= 3);
        assert!(minutes(HOUR, u32::MAX) <= 60);
    }

    #[test]
    fn a_fresh_copy_is_waited_out_and_none_is_fetched_at_once() {
        assert_eq!(first_pause(HOUR, None, "a", 1), Duration::ZERO);
        assert_eq!(first_pause(HOUR, Some(HOUR * 2), "a", 1), Duration::ZERO);
        let left = first_pause(HOUR, Some(HOUR / 2), "a", 1);
        assert!(left > HOUR / 4 && left <= HOUR / 2, "{left:?}");
    }

    proptest! {
        #[test]
        fn jitter_is_bounded_repeatable_and_different_between_feeds(
            secs in 60_u64..2_592_000, seed: u64, round: u64, failures in 0_u32..40,
        ) {
            let refresh = Duration::from_secs(secs);
            let one = pause(refresh, failures, "one", seed, round);
            prop_assert!(one <= refresh);
            prop_assert!(one >= pause(refresh, failures, "x", 0, 0) * 3 / 4);
            prop_assert_eq!(one, pause(refresh, failures, "one", seed, round));
            prop_assert_ne!(
                (0..4).map(|r| pause(refresh, failures, "one", seed, r)).collect::<Vec<_>>(),
                (0..4).map(|r| pause(refresh, failures, "two", seed, r)).collect::<Vec<_>>()
            );
        }
    }
}
