//! Bytes to lines: a bounded buffer, whatever the bytes are.

use crate::engine::health::Skip;
use crate::engine::limits::LINE_BYTES_MAX;

/// Takes one line, or the reason why there is none.
type Each<'e> = dyn FnMut(Result<&[u8], Skip>) + 'e;

/// Cuts a byte stream into lines. A line that is not finished waits for the rest of its bytes.
pub struct Framing {
    /// Bytes of a line.
    limit: usize,
    partial: Vec<u8>,
    /// The line being read is dropped up to its newline.
    skipping: bool,
}

impl Default for Framing {
    fn default() -> Framing {
        Framing::of(LINE_BYTES_MAX)
    }
}

impl Framing {
    /// A framing whose lines have `limit` bytes at the most.
    pub fn of(limit: usize) -> Framing {
        Framing { limit, partial: Vec::new(), skipping: false }
    }

    /// A framing that starts in the middle of a line, which it drops.
    pub fn inside_line() -> Framing {
        Framing { skipping: true, ..Framing::default() }
    }

    /// Takes bytes in, and hands over each line they complete, or [`Skip::TooLong`] once for a line over the limit.
    pub fn feed(&mut self, mut bytes: &[u8], each: &mut Each<'_>) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            bytes = rest.get(1..).unwrap_or_default();
            self.finish(line, each);
        }
        self.keep(bytes, each);
    }

    /// Drops an unfinished line: its rest will never come.
    pub fn reset(&mut self) {
        self.partial.clear();
        self.skipping = false;
    }

    fn finish(&mut self, line: &[u8], each: &mut Each<'_>) {
        if self.skipping {
            self.skipping = false;
        } else if self.partial.is_empty() {
            each(bounded(line, self.limit));
        } else if self.partial.len() + line.len() > self.limit + 1 {
            each(Err(Skip::TooLong));
        } else {
            self.partial.extend_from_slice(line);
            each(bounded(&self.partial, self.limit));
        }
        self.partial.clear();
    }

    fn keep(&mut self, bytes: &[u8], each: &mut Each<'_>) {
        if self.skipping || bytes.is_empty() {
            return;
        }
        // One more than a line may have, for the carriage return.
        if self.partial.len() + bytes.len() > self.limit + 1 {
            self.partial.clear();
            self.skipping = true;
            each(Err(Skip::TooLong));
        } else {
            self.partial.extend_from_slice(bytes);
        }
    }
}

fn bounded(line: &[u8], limit: usize) -> Result<&[u8], Skip> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.len() > limit { Err(Skip::TooLong) } else { Ok(line) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(framing: &mut Framing, bytes: &[u8]) -> Vec<Result<Vec<u8>, Skip>> {
        let mut out = Vec::new();
        framing.feed(bytes, &mut |line| out.push(line.map(<[u8]>::to_vec)));
        out
    }

    #[test]
    fn a_line_without_newline_waits_and_a_carriage_return_goes() {
        let mut framing = Framing::default();
        assert_eq!(lines(&mut framing, b"one\r\ntw"), [Ok(b"one".to_vec())]);
        assert_eq!(lines(&mut framing, b"o\n\n"), [Ok(b"two".to_vec()), Ok(Vec::new())]);
    }

    #[test]
    fn a_line_over_the_limit_is_counted_once_and_the_next_one_is_read() {
        let mut framing = Framing::default();
        let long = vec![b'x'; LINE_BYTES_MAX + 2];
        assert_eq!(lines(&mut framing, &long), [Err(Skip::TooLong)]);
        assert_eq!(lines(&mut framing, &long), []);
        assert_eq!(lines(&mut framing, b"x\nok\n"), [Ok(b"ok".to_vec())]);
    }

    #[test]
    fn a_start_in_the_middle_of_a_line_drops_its_rest() {
        let mut framing = Framing::inside_line();
        assert_eq!(lines(&mut framing, b"rest\nok\n"), [Ok(b"ok".to_vec())]);
    }

    proptest! {
        #[test]
        fn cutting_the_stream_anywhere_gives_the_same_lines(
            bytes in prop::collection::vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..200),
            longs in prop::collection::vec(0usize..3, 0..4),
            cuts in prop::collection::vec(0usize..9000, 0..8),
        ) {
            let mut stream = bytes;
            for long in longs {
                stream.extend(std::iter::repeat_n(b'y', LINE_BYTES_MAX - 1 + long));
                stream.push(b'\n');
            }
            let whole = lines(&mut Framing::default(), &stream);
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(stream.len())).collect();
            cuts.sort_unstable();
            let (mut framing, mut parts, mut from) = (Framing::default(), Vec::new(), 0);
            for cut in cuts.into_iter().chain([stream.len()]) {
                parts.extend(lines(&mut framing, &stream[from..cut]));
                from = cut;
                prop_assert!(framing.partial.len() <= LINE_BYTES_MAX + 1);
            }
            // An unfinished long line is counted as soon as it is known to be one.
            prop_assert_eq!(parts, whole);
        }
    }
}
