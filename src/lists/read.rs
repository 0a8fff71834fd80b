//! Reads a list of any size line by line in bounded memory.

use std::io::{self, BufRead, Read as _};

use super::LINE_BYTES_MAX;
use super::format::{Format, Parser};
use super::item::{Line, LineError};

/// The byte order mark some editors put first.
const BOM: &[u8] = b"\xef\xbb\xbf";

/// How a list is to be read.
#[derive(Clone, Copy, Debug)]
pub struct Dialect<'a> {
    /// Its format.
    pub format: &'a Format,
    /// True for the user's own files: they may say `from` and `force`, and are never taken for a web page.
    pub own: bool,
}

/// What was in a list.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Entries.
    pub items: u64,
    /// Lines that were not understood.
    pub bad: u64,
}

/// Why a list cannot be read at all.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file or the connection failed.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// A web page, such as the error page of a server or a proxy.
    #[error("a web page instead of a list")]
    Html,
    /// No line has the column that was named.
    #[error("no column is called {0:?}")]
    NoColumn(String),
}

/// Gives each entry and each bad line of `input` to `each`. Blank and comment lines are passed over.
///
/// # Errors
/// [`ReadError`]; what was given to `each` before it holds as far as it goes.
pub fn read(
    input: &mut dyn BufRead,
    dialect: Dialect<'_>,
    each: &mut dyn FnMut(Line<'_>),
) -> Result<Counts, ReadError> {
    let mut counts = Counts::default();
    let mut counted = |line: Line<'_>| {
        match line {
            Line::Item(_) => counts.items += 1,
            Line::Bad { .. } => counts.bad += 1,
        }
        each(line);
    };
    let mut parser = Parser::new(dialect);
    let mut lines = Lines { input, buffer: Vec::new(), number: 0 };
    let mut first = true;
    while let Some((line, bytes)) = lines.next()? {
        let bytes = match bytes {
            Ok(bytes) => bytes,
            Err(why) => {
                counted(Line::Bad { line, why });
                continue;
            }
        };
        if first && !dialect.own && is_html(bytes) {
            return Err(ReadError::Html);
        }
        first = first && bytes.trim_ascii().is_empty();
        match std::str::from_utf8(bytes) {
            Ok(text) => parser.line(line, text, &mut counted),
            Err(_) => counted(Line::Bad { line, why: LineError::NotText }),
        }
    }
    parser.end()?;
    Ok(counts)
}

/// No format has a line that starts like this, so that whatever does is a page or XML.
fn is_html(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"<")
}

struct Lines<'a> {
    input: &'a mut dyn BufRead,
    buffer: Vec<u8>,
    number: u32,
}

/// A line's number, and its bytes without the line end.
type Numbered<'b> = (u32, Result<&'b [u8], LineError>);

impl Lines<'_> {
    fn next(&mut self) -> io::Result<Option<Numbered<'_>>> {
        self.buffer.clear();
        // One more than a line may have, and its end.
        let limit = LINE_BYTES_MAX as u64 + 2;
        let taken = (&mut *self.input).take(limit).read_until(b'\n', &mut self.buffer)?;
        if taken == 0 {
            return Ok(None);
        }
        self.number = self.number.saturating_add(1);
        let ended = self.buffer.ends_with(b"\n");
        let mut line = self.buffer.as_slice();
        line = line.strip_suffix(b"\n").unwrap_or(line);
        line = line.strip_suffix(b"\r").unwrap_or(line);
        if self.number == 1 {
            line = line.strip_prefix(BOM).unwrap_or(line);
        }
        let cut = !ended && taken as u64 == limit;
        if line.len() <= LINE_BYTES_MAX && !cut {
            return Ok(Some((self.number, Ok(line))));
        }
        if !ended {
            self.input.skip_until(b'\n')?;
        }
        Ok(Some((self.number, Err(LineError::TooLong))))
    }
}

#[cfg(test)]
#[path = "read_test.rs"]
mod tests;
