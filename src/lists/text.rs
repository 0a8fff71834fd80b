//! Text of strangers, made fit for a message: bounded, one line, without control characters; and times as lists have them.

use std::time::{Duration, UNIX_EPOCH};

use crate::engine::Wall;
use crate::engine::text::harmless;

/// Characters of foreign text that a message repeats: enough for a long IPv6 range or a URL's host.
const EXCERPT_CHARS_MAX: usize = 120;
/// Minutes of the largest offset from UTC that is in use, and a day's worth of slack.
const OFFSET_MINUTES_MAX: u64 = 24 * 60;

/// `text` for a message. A feed could otherwise send escape sequences to a terminal.
pub fn excerpt(text: &str) -> String {
    let mut chars = text.chars();
    let mut out: String = chars.by_ref().take(EXCERPT_CHARS_MAX).map(harmless).collect();
    if chars.next().is_some() {
        out.push('\u{2026}');
    }
    out
}

/// A note that fits behind a `#`: one line, without control characters.
pub fn note(text: &str) -> String {
    text.trim().chars().map(harmless).collect()
}

/// Reads a time as RFC 3339 has it, with `Z` or an offset.
pub fn time(text: &str) -> Option<Wall> {
    let (base, offset) = match text.as_bytes().last_chunk::<6>() {
        Some([sign @ (b'+' | b'-'), h1, h2, b':', m1, m2]) => {
            let pair = |tens: &u8, ones: &u8| Some(u64::from(digit(*tens)? * 10 + digit(*ones)?));
            let minutes = pair(h1, h2)? * 60 + pair(m1, m2)?;
            let base = text.get(..text.len() - 6)?;
            (base.to_owned() + "Z", Some((*sign, minutes)))
        }
        _ => (text.to_owned(), None),
    };
    let at = humantime::parse_rfc3339(&base.to_ascii_uppercase()).ok()?;
    let micros = u64::try_from(at.duration_since(UNIX_EPOCH).ok()?.as_micros()).ok()?;
    let shift = |minutes: u64| minutes * 60 * 1_000_000;
    match offset {
        None => Some(Wall(micros)),
        Some((_, minutes)) if minutes > OFFSET_MINUTES_MAX => None,
        Some((b'+', minutes)) => micros.checked_sub(shift(minutes)).map(Wall),
        Some((_, minutes)) => micros.checked_add(shift(minutes)).map(Wall),
    }
}

fn digit(byte: u8) -> Option<u8> {
    byte.is_ascii_digit().then(|| byte - b'0')
}

/// A time as our files write it: UTC, whole seconds where it is whole seconds.
pub fn show_time(time: Wall) -> String {
    // Later than what the calendar of RFC 3339 ends with is never.
    const LAST_MICROS: u64 = 253_402_300_799 * 1_000_000;
    let time = UNIX_EPOCH + Duration::from_micros(time.0.min(LAST_MICROS));
    humantime::format_rfc3339(time).to_string()
}

/// Optional times in JSON, as lists write them.
pub mod serde_time {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    use crate::engine::Wall;

    /// Writes RFC 3339 or null.
    pub fn serialize<S: Serializer>(time: &Option<Wall>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => to.serialize_some(&super::show_time(*time)),
            None => to.serialize_none(),
        }
    }

    /// Reads RFC 3339 or null.
    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Option<Wall>, D::Error> {
        let text: Option<String> = Option::deserialize(from)?;
        let bad = || D::Error::custom("not a time as RFC 3339 has it");
        text.map(|text| super::time(&text).ok_or_else(bad)).transpose()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn times_are_read_with_any_offset() {
        let seconds = |text: &str| time(text).map(|wall| wall.0 / 1_000_000);
        assert_eq!(seconds("2026-01-02T03:04:05Z"), Some(1_767_323_045));
        assert_eq!(seconds("2026-01-02t03:04:05z"), Some(1_767_323_045));
        assert_eq!(seconds("2026-01-02T05:04:05+02:00"), Some(1_767_323_045));
        assert_eq!(seconds("2026-01-01T21:34:05-05:30"), Some(1_767_323_045));
        assert_eq!(time("2026-01-02T03:04:05.678901Z"), Some(Wall(1_767_323_045_678_901)));
        for bad in ["", "tomorrow", "2026-01-02", "2026-01-02T03:04:05", "2026-13-02T03:04:05Z"] {
            assert_eq!(time(bad), None, "{bad}");
        }
        assert_eq!(time("1970-01-01T00:00:00+01:00"), None, "before the epoch");
    }

    #[test]
    fn foreign_text_is_bounded_and_harmless() {
        assert_eq!(excerpt("a\u{1b}[31mb\n"), "a [31mb ");
        assert_eq!(note("a\u{202e}b\u{2028}c"), "a b c");
        assert_eq!(excerpt(&"x".repeat(5000)).chars().count(), EXCERPT_CHARS_MAX + 1);
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_again(micros in 0..253_402_300_799_u64 * 1_000_000) {
            prop_assert_eq!(time(&show_time(Wall(micros))), Some(Wall(micros)));
        }

        #[test]
        fn no_text_panics(text in ".{0,40}") {
            let _ = time(&text);
        }
    }

    #[test]
    fn the_end_of_time_is_written_as_the_calendar_s_end() {
        assert_eq!(show_time(Wall(u64::MAX)), "9999-12-31T23:59:59Z");
    }
}
