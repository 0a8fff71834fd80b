//! Lines out of pieces of bytes, none longer than a bound.

/// Longest line kept, in bytes. An event carries its container's labels, which may be some tens of kilobytes.
const LINE_MAX: usize = 1 << 20;

/// Collects bytes until a line is complete.
#[derive(Debug, Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
    /// The line is too long: what comes is thrown away until it ends.
    lost: bool,
}

impl Lines {
    /// Takes bytes, and hands out each line that they complete; `None` for one that was too long. Empty lines and the
    /// record separators of JSON sequences are left out.
    pub(super) fn push(&mut self, bytes: &[u8], mut line: impl FnMut(Option<&[u8]>)) {
        let mut pieces = bytes.split_inclusive(|byte| *byte == b'\n');
        for piece in pieces.by_ref() {
            let (text, ends) = match piece.split_last() {
                Some((b'\n', text)) => (text, true),
                _ => (piece, false),
            };
            self.lost |= self.rest.len() + text.len() > LINE_MAX;
            if self.lost {
                self.rest = Vec::new();
            } else {
                self.rest.extend_from_slice(text);
            }
            if ends {
                let whole = self.rest.trim_ascii().trim_start_record();
                match (self.lost, whole.is_empty()) {
                    (true, _) => line(None),
                    (false, false) => line(Some(whole)),
                    (false, true) => {}
                }
                self.rest.clear();
                self.lost = false;
            }
        }
    }
}

/// RFC 7464: each text of a sequence begins with a record separator.
trait Record {
    fn trim_start_record(&self) -> &Self;
}

impl Record for [u8] {
    fn trim_start_record(&self) -> &[u8] {
        self.strip_prefix(b"\x1e").unwrap_or(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<Option<String>> {
        let (mut lines, mut out) = (Lines::default(), Vec::new());
        for piece in pieces {
            lines.push(piece, |line| {
                out.push(line.map(|line| String::from_utf8_lossy(line).into_owned()));
            });
        }
        out
    }

    fn some(lines: &[&str]) -> Vec<Option<String>> {
        lines.iter().map(|line| Some((*line).to_owned())).collect()
    }

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let text = b"{\"a\":1}\r\n\n\x1e{\"b\":2}\n{\"c\"";
        assert_eq!(lines(&[text]), some(&["{\"a\":1}", "{\"b\":2}"]));
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(lines(&bytes), lines(&[text]));
    }

    #[test]
    fn a_line_without_end_is_lost_alone() {
        let long = vec![b'x'; LINE_MAX / 2 + 1];
        assert_eq!(
            lines(&[b"one\n", &long, &long, &long, b"\ntwo\n"]),
            [some(&["one"]), vec![None], some(&["two"])].concat()
        );
    }
}
