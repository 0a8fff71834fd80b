//! Text of strangers, made harmless for whoever reads it: a terminal, a log, a mail program, a spreadsheet.

use std::borrow::Cow;

/// One character of a line: control characters become spaces, and so do the line ends of Unicode and the marks that turn
/// the direction of what follows, which are no control characters by its tables.
pub fn harmless(c: char) -> char {
    if is_harmless(c) { c } else { ' ' }
}

/// The same of a whole text.
pub fn plain(text: &str) -> Cow<'_, str> {
    match text.chars().all(is_harmless) {
        true => Cow::Borrowed(text),
        false => Cow::Owned(text.chars().map(harmless).collect()),
    }
}

fn is_harmless(c: char) -> bool {
    let marks = ['\u{61c}', '\u{200e}', '\u{200f}'];
    let turns = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !c.is_control() && !turns && !marks.contains(&c)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_stays_a_line_and_is_read_in_its_order() {
        assert_eq!(plain("a\r\n\u{1b}[31m\u{2028}c\u{202e}d\u{200f}e\u{2067}"), "a   [31m c d e ");
        assert!(matches!(plain("\u{e4} \u{2192} b"), Cow::Borrowed(_)), "most text is fine");
    }
}
