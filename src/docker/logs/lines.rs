//! The bytes of a log request to timed lines, in bounded memory: frames of two streams, or a terminal's one.

use super::stamp::{Stamp, split};
use crate::engine::health::Skip;
use crate::engine::limits::LINE_BYTES_MAX;

/// Bytes of one message. Docker cuts what a container writes at 16 KiB, and puts its time before each piece.
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Bytes of a frame's header: the stream, three zeros, the length.
const HEADER_BYTES: usize = 8;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
/// The engine's own words about why it cannot go on.
const ENGINE: u8 = 3;

/// Why bytes are no log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Broken {
    /// No such stream: whatever follows cannot be cut into frames.
    #[error("the engine sends what is no log (stream {0})")]
    Stream(u8),
    /// The engine says why it cannot read on.
    #[error("{0}")]
    Engine(String),
}

/// Takes a line less its end, with its time; no time where none could be read.
pub type Each<'e> = dyn FnMut(Option<Stamp>, Result<&[u8], Skip>) + 'e;

/// Cuts one answer of the engine into lines. An unfinished one is dropped with it.
pub enum Lines {
    /// Of a container without a terminal.
    Frames(Frames),
    /// Of a container with one: no frames, and a carriage return at the end of each line.
    Terminal(Terminal),
}

impl Lines {
    /// For an answer that has not begun.
    pub fn new(terminal: bool) -> Lines {
        match terminal {
            true => Lines::Terminal(Terminal::default()),
            false => Lines::Frames(Frames::default()),
        }
    }

    /// Takes bytes in, and hands over each line they complete.
    ///
    /// # Errors
    /// [`Broken`] if nothing that follows can be read.
    pub fn feed(&mut self, bytes: &[u8], each: &mut Each<'_>) -> Result<(), Broken> {
        match self {
            Lines::Frames(frames) => frames.feed(bytes, each),
            Lines::Terminal(terminal) => {
                terminal.feed(bytes, each);
                Ok(())
            }
        }
    }
}

/// Frames, each one message of one stream.
#[derive(Default)]
pub struct Frames {
    header: Vec<u8>,
    message: Vec<u8>,
    /// Bytes of the message still to come.
    missing: usize,
    /// Which stream's message is being read.
    stream: u8,
    /// Whether the last message of each stream was a piece of an overlong line.
    cut: [bool; 2],
}

impl Frames {
    fn feed(&mut self, mut bytes: &[u8], each: &mut Each<'_>) -> Result<(), Broken> {
        while !bytes.is_empty() {
            if self.header.len() < HEADER_BYTES {
                let some = take(&mut bytes, HEADER_BYTES - self.header.len());
                self.header.extend_from_slice(some);
                self.begin()?;
            } else {
                let some = take(&mut bytes, self.missing);
                self.missing -= some.len();
                // Of a message that is too long only its beginning is kept, for its time.
                let room = MESSAGE_BYTES_MAX - self.message.len();
                self.message.extend_from_slice(some.get(..room).unwrap_or(some));
                if self.missing == 0 {
                    self.finish(some.last() == Some(&b'\n'), each)?;
                }
            }
        }
        Ok(())
    }

    /// Reads the header, once it is complete.
    fn begin(&mut self) -> Result<(), Broken> {
        let [stream, _, _, _, a, b, c, d] = self.header.as_slice() else { return Ok(()) };
        if !(STDOUT..=ENGINE).contains(stream) {
            return Err(Broken::Stream(*stream));
        }
        self.stream = *stream;
        self.missing = usize::try_from(u32::from_be_bytes([*a, *b, *c, *d])).unwrap_or(usize::MAX);
        if self.missing == 0 {
            self.header.clear();
        }
        Ok(())
    }

    /// The message is complete; `ended` if it ends a line.
    fn finish(&mut self, ended: bool, each: &mut Each<'_>) -> Result<(), Broken> {
        self.header.clear();
        let stream = self.stream;
        if stream == ENGINE {
            let text = String::from_utf8_lossy(&self.message).trim().to_owned();
            self.message.clear();
            return Err(Broken::Engine(text));
        }
        let long = self.message.len() > LINE_BYTES_MAX + STAMP_ROOM;
        let Some(cut) = self.cut.get_mut(usize::from(stream == STDERR)) else { return Ok(()) };
        // A short message without an end is what a program wrote last: a line as good as any.
        let rest = std::mem::replace(cut, (*cut || long) && !ended);
        if !rest {
            hand_over(&self.message, each);
        }
        self.message.clear();
        Ok(())
    }
}

/// One stream of lines.
#[derive(Default)]
pub struct Terminal {
    line: Vec<u8>,
}

/// Room for a line's time.
const STAMP_ROOM: usize = 64;

impl Terminal {
    fn feed(&mut self, bytes: &[u8], each: &mut Each<'_>) {
        for piece in bytes.split_inclusive(|c| *c == b'\n') {
            let room = LINE_BYTES_MAX + 2 * STAMP_ROOM - self.line.len();
            self.line.extend_from_slice(piece.get(..room).unwrap_or(piece));
            if piece.last() == Some(&b'\n') {
                hand_over(&self.line, each);
                self.line.clear();
            }
        }
    }
}

/// Hands a line with its time over, bounded. It may end in a newline, and in a carriage return before it.
fn hand_over(message: &[u8], each: &mut Each<'_>) {
    let Some((stamp, text)) = split(message) else { return each(None, Err(Skip::Malformed)) };
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let line = match text {
        text if text.len() > LINE_BYTES_MAX => Err(Skip::TooLong),
        text if text.contains(&b'\n') => Err(Skip::Malformed),
        text => Ok(text),
    };
    each(Some(stamp), line);
}

/// Takes as many as `count` bytes off the front.
fn take<'b>(bytes: &mut &'b [u8], count: usize) -> &'b [u8] {
    let (some, rest) = bytes.split_at(count.min(bytes.len()));
    *bytes = rest;
    some
}

#[cfg(test)]
#[path = "lines_test.rs"]
mod tests;
