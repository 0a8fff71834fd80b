//! Text of strangers, made fit for a mail's head, a line of syslog, or a message.

/// `text` as one line of at most `most` characters, without anything that a terminal, a mail program or a log would obey.
pub fn plain(text: &str, most: usize) -> String {
    let mut chars = text.chars();
    let mut out: String = chars.by_ref().take(most).map(harmless).collect();
    if chars.next().is_some() {
        out.push('\u{2026}');
    }
    out
}

/// Line ends of Unicode and marks that turn the direction of what follows are no control characters by its tables.
fn harmless(c: char) -> char {
    let turns = matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if c.is_control() || turns { ' ' } else { c }
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
