//! Text of strangers, made fit for a mail's head, a line of syslog, or a message.

use crate::engine::text::harmless;

/// `text` as one line of at most `most` characters, without anything that a terminal, a mail program or a log would obey.
pub fn plain(text: &str, most: usize) -> String {
    let mut chars = text.chars();
    let mut out: String = chars.by_ref().take(most).map(harmless).collect();
    if chars.next().is_some() {
        out.push('\u{2026}');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_line_end_survives() {
        assert_eq!(plain("a\r\nBcc: b\u{1b}[31m\u{2028}c\u{202e}", 99), "a  Bcc: b [31m c ");
        assert_eq!(plain("abcdef", 3), "abc\u{2026}");
        assert_eq!(plain("abc", 3), "abc");
    }
}
