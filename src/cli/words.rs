//! Numbers as people read them.

use crate::engine::{Wall, text};

/// A count, or a dash where there is none.
pub fn count(number: Option<u64>) -> String {
    number.map_or_else(dash, |number| number.to_string())
}

/// Where there is nothing to say.
pub fn dash() -> String {
    "-".to_owned()
}

/// Text of strangers: one line, and nothing that a terminal would obey.
pub fn plain(text: &str) -> String {
    text::plain(text).into_owned()
}

/// A point of a list, in lines of so many columns as far as words allow; the lines after the first are set in.
pub fn point(text: &str, width: usize) -> Vec<String> {
    broken(text, width, ["  - ", "    "])
}

/// The same without a mark.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    broken(text, width, ["", "  "])
}

fn broken(text: &str, width: usize, [first, later]: [&str; 2]) -> Vec<String> {
    let mut lines = vec![first.to_owned()];
    let mut begun = false;
    for word in plain(text).split_whitespace() {
        let full = |line: &String| line.chars().count() + 1 + word.chars().count() > width;
        if begun && lines.last().is_none_or(full) {
            lines.push(later.to_owned());
            begun = false;
        }
        if let Some(line) = lines.last_mut() {
            line.push_str(if begun { " " } else { "" });
            line.push_str(word);
        }
        begun = true;
    }
    lines
}

/// Bytes, to three digits.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut whole, mut tenths, mut unit) = (bytes, 0, 0);
    while whole >= 1000 && unit + 1 < UNITS.len() {
        tenths = whole % 1000 / 100;
        whole /= 1000;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    if unit > 0 && whole < 10 {
        format!("{whole}.{tenths} {name}")
    } else {
        format!("{whole} {name}")
    }
}

/// How long ago something was.
pub fn ago(then: Wall, now: Wall) -> String {
    format!("{} ago", span(now.0.saturating_sub(then.0) / 1000))
}

/// A time in microseconds, below a second or two.
pub fn micros(micros: u64) -> String {
    match micros {
        0..1_000 => format!("{micros} us"),
        1_000..10_000 => format!("{}.{} ms", micros / 1_000, micros % 1_000 / 100),
        _ => span(micros / 1_000),
    }
}

/// A time in milliseconds, in its largest unit.
pub fn span(ms: u64) -> String {
    const SECOND: u64 = 1000;
    const MINUTE: u64 = 60 * SECOND;
    const HOUR: u64 = 60 * MINUTE;
    const DAY: u64 = 24 * HOUR;
    // Twice a unit is more telling in the smaller one.
    match ms {
        _ if ms < 2 * SECOND => format!("{ms} ms"),
        _ if ms < 2 * MINUTE => format!("{} s", ms / SECOND),
        _ if ms < 2 * HOUR => format!("{} min", ms / MINUTE),
        _ if ms < 2 * DAY => format!("{} h", ms / HOUR),
        _ => format!("{} d", ms / DAY),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_point_is_broken_between_words() {
        assert_eq!(point("one two three", 13), ["  - one two", "    three"]);
        assert_eq!(point("much-too-long", 5), ["  - much-too-long"]);
        assert_eq!(wrapped("one two three", 9), ["one two", "  three"]);
        assert_eq!(point("a\u{1b}[2J", 80), ["  - a [2J"]);
        assert_eq!(plain("a\u{202e}b\u{2028}"), "a b ");
    }

    #[test]
    fn numbers_are_short() {
        let shown: Vec<String> =
            [0, 999, 1_000, 88_000_000, 140_500_000, 1_540_000_000].map(bytes).into();
        assert_eq!(shown, ["0 B", "999 B", "1.0 kB", "88 MB", "140 MB", "1.5 GB"]);
        let spans: Vec<String> =
            [7, 1_999, 90_000, 119_999, 7_199_999, 86_400_000, 172_800_000].map(span).into();
        assert_eq!(spans, ["7 ms", "1999 ms", "90 s", "119 s", "119 min", "24 h", "2 d"]);
        let short: Vec<String> = [0, 999, 1_260, 50_000, 2_500_000].map(micros).into();
        assert_eq!(short, ["0 us", "999 us", "1.2 ms", "50 ms", "2 s"]);
        assert_eq!(ago(Wall(1_000_000), Wall(4_000_000)), "3 s ago");
        assert_eq!(ago(Wall(4_000_000), Wall(1_000_000)), "0 ms ago", "a clock was set");
    }
}
