//! The times in the database: text in the local zone, `2026-11-22 08:15:00.123456`, as its window's Python writes them.

use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;

use crate::engine::Wall;

/// The moment that is meant. Of the hour that happens twice when clocks are set back, the first; one that says its offset
/// itself means that.
pub fn time(text: &str, zone: &TimeZone) -> Option<Wall> {
    let text = text.trim();
    let at = match text.parse::<Timestamp>() {
        Ok(at) => at,
        Err(_) => text.parse::<DateTime>().ok()?.to_zoned(zone.clone()).ok()?.timestamp(),
    };
    Some(Wall(u64::try_from(at.as_microsecond()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn berlin() -> TimeZone {
        TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap()
    }

    fn seconds(text: &str) -> Option<u64> {
        time(text, &berlin()).map(|at| at.0 / 1_000_000)
    }

    #[test]
    fn local_text_becomes_a_moment() {
        // 2026-07-01 10:00:00 +02:00 and 2026-12-01 10:00:00 +01:00.
        assert_eq!(seconds("2026-07-01 10:00:00"), Some(1_782_892_800));
        assert_eq!(seconds("2026-12-01 10:00:00"), Some(1_796_115_600));
        assert_eq!(
            time("2026-12-01 10:00:00.123456", &berlin()),
            Some(Wall(1_796_115_600_123_456))
        );
        assert_eq!(seconds("2026-12-01 10:00:00+00:00"), Some(1_796_115_600 + 3600));
    }

    #[test]
    fn an_hour_that_happens_twice_or_never_is_still_a_moment() {
        let (before, twice, after) = (
            seconds("2026-10-25 01:59:59").unwrap(),
            seconds("2026-10-25 02:30:00").unwrap(),
            seconds("2026-10-25 03:00:00").unwrap(),
        );
        assert_eq!((twice - before, after - twice), (1_801, 5_400), "the first of the two");
        assert_eq!(seconds("2026-03-29 02:30:00"), seconds("2026-03-29 03:30:00"), "never");
    }

    #[test]
    fn what_is_no_time_is_none() {
        for text in ["", "1796115600", "yesterday", "2026-13-01 00:00:00", "0001-01-01 00:00:00"] {
            assert_eq!(seconds(text), None, "{text}");
        }
    }
}
