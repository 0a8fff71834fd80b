//! The hold never falls below what was measured, widens at once and narrows slowly.

use proptest::prelude::*;

use super::*;
use crate::engine::limits::HOLD_DEFAULT;
use crate::engine::limits::{HOLD_MIN_INDIRECT, WAIT_MEMORY};

const SECOND: u64 = 1_000_000_000;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn fill(delays: &Delays, count: u64, delay: Duration, at: Mono) {
    (0..count).for_each(|_| delays.observe(delay, at));
}

#[test]
fn every_delay_is_counted_where_it_is_not_longer_than_the_bucket_says() {
    for micros in (0..4096).chain([MICROS_MAX - 1, MICROS_MAX, u64::MAX]) {
        let index = bucket(micros);
        assert!(index < BUCKETS, "{micros}");
        let micros = micros.min(MICROS_MAX);
        assert!(upper(index) >= micros, "{micros}");
        assert!(index == 0 || upper(index - 1) < micros, "{micros}");
        assert!(upper(index) - micros <= micros / PARTS, "{micros}");
    }
    assert_eq!(upper(BUCKETS - 1), MICROS_MAX);
}

#[test]
fn the_hold_is_as_configured_until_enough_is_known_and_again_when_that_is_old() {
    let (delays, now) = (Delays::default(), Mono(7 * SLOT_NS));
    assert_eq!(delays.measured(), None);
    fill(&delays, DELAYS_MIN - 1, ms(1), now);
    assert_eq!(delays.bound(HOLD_DEFAULT, now), HOLD_DEFAULT);
    fill(&delays, 1, ms(1), now);
    assert_eq!(delays.bound(HOLD_DEFAULT, now), HOLD_MIN);
    assert_eq!(delays.bound(ms(20), now), ms(20), "never longer than configured");
    let old = now + DELAY_SLOT * u32::try_from(DELAY_SLOTS).unwrap();
    assert_eq!(delays.bound(HOLD_DEFAULT, Mono(old.0 - 1)), HOLD_MIN);
    assert_eq!(delays.bound(HOLD_DEFAULT, old), HOLD_DEFAULT);
}

#[test]
fn one_slow_record_widens_the_hold_at_once_and_for_ten_minutes() {
    let (delays, now) = (Delays::default(), Mono(7 * SLOT_NS));
    fill(&delays, 100_000, ms(2), now);
    assert_eq!(delays.bound(HOLD_DEFAULT, now), HOLD_MIN);
    delays.observe(ms(300), now);
    assert_eq!(delays.bound(HOLD_DEFAULT, now), ms(450));
    delays.observe(ms(5_000), now);
    assert_eq!(delays.bound(HOLD_DEFAULT, now), HOLD_DEFAULT);
    for minute in 1..15 {
        let later = now + Duration::from_secs(minute * 60);
        fill(&delays, DELAYS_MIN, ms(2), later);
        assert_eq!(delays.bound(HOLD_DEFAULT, later), HOLD_DEFAULT, "minute {minute}");
    }
    let later = now + Duration::from_secs(15 * 60);
    delays.observe(ms(2), later);
    assert_eq!(delays.bound(HOLD_DEFAULT, later), HOLD_MIN);
}

#[test]
fn what_is_slow_now_and_then_widens_the_hold_by_the_percentile() {
    let (delays, now) = (Delays::default(), Mono(SECOND));
    fill(&delays, 10_000, ms(1), now);
    fill(&delays, 11, ms(100), now);
    assert_eq!(delays.bound(HOLD_DEFAULT, now), ms(400));
    let measured = delays.measured().unwrap();
    assert_eq!((measured.samples, measured.longest), (10_011, ms(100)));
}

#[test]
fn threads_may_add_at_the_same_time() {
    let delays = Delays::default();
    std::thread::scope(|scope| {
        for thread in 0..4u64 {
            let delays = &delays;
            scope.spawn(move || {
                for n in 0..1_000 {
                    delays.observe(ms(1), Mono(n * SECOND + thread * SECOND / 4));
                }
            });
        }
    });
    // A thread that is behind counts as of the latest, so that nothing of the last ten minutes is missing.
    assert!(delays.measured().unwrap().samples >= 4 * 600);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_hold_is_never_below_the_true_percentile_nor_above_what_was_configured(
        delays in prop::collection::vec((0u64..20_000_000, 0u64..700_000_000), 1..4000),
        longest in 1u64..990,
    ) {
        let (known, longest) = (Delays::default(), ms(longest));
        let mut now = Mono(0);
        let mut all: Vec<(Mono, u64)> = Vec::new();
        for (micros, step) in delays {
            now = Mono(now.0 + step);
            known.observe(Duration::from_micros(micros), now);
            all.push((now, micros));
        }
        let bound = known.bound(longest, now);
        prop_assert!(bound <= longest);
        // All of the last ten minutes is in the window, and at most fifteen.
        let within = |minutes: u64| {
            let since = now.0.saturating_sub(minutes * 60 * SECOND);
            let mut lately: Vec<u64> =
                all.iter().filter(|(at, _)| at.0 > since).map(|(_, micros)| *micros).collect();
            lately.sort_unstable();
            lately
        };
        let (surely, perhaps) = (within(10), within(15));
        if (perhaps.len() as u64) < DELAYS_MIN {
            prop_assert_eq!(bound, longest);
        }
        let rank = (surely.len() * 999).div_ceil(1_000);
        let percentile = rank.checked_sub(1).and_then(|at| surely.get(at)).copied().unwrap_or(0);
        let largest = surely.last().copied().unwrap_or(0);
        let least = percentile.max(largest.min(MICROS_MAX));
        prop_assert!(bound >= Duration::from_micros(least).min(longest));
    }
}

#[test]
fn a_source_whose_lines_lie_unseen_somewhere_is_waited_for_longer() {
    let delays = Delays::default();
    for _ in 0..2_000 {
        delays.observe(Duration::from_micros(100), Mono(1));
    }
    let longest = Duration::from_millis(750);
    assert_eq!(delays.bound(longest, Mono(2)), HOLD_MIN);
    delays.set_floor(HOLD_MIN_INDIRECT);
    assert_eq!(delays.bound(longest, Mono(2)), HOLD_MIN_INDIRECT);
    assert_eq!(delays.bound(Duration::from_millis(100), Mono(2)), Duration::from_millis(100));
}

#[test]
fn a_wait_is_remembered_for_a_day_and_a_shorter_one_does_not_shorten_it() {
    let delays = Delays::default();
    let longest = Duration::from_millis(750);
    let fill = |now: Mono| {
        for _ in 0..2_000 {
            delays.observe(Duration::from_micros(100), now);
        }
        delays.bound(longest, now)
    };
    delays.observe_wait(Duration::from_millis(200), Mono(1));
    let hour = Mono(0) + Duration::from_secs(3_600);
    assert_eq!(fill(hour), Duration::from_millis(300));
    delays.observe_wait(Duration::from_millis(1), hour);
    assert_eq!(delays.bound(longest, hour), Duration::from_millis(300));
    assert_eq!(fill(Mono(2) + WAIT_MEMORY), HOLD_MIN);
}
