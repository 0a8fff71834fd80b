//! One column of comma separated values, as abuse.ch writes them: comments, quotes, a header that may be a comment.

use super::entry::Entry;
use super::format::{Column, without_port};
use super::item::{Item, LineError};
use super::read::ReadError;

/// A table being read. A field never goes over several lines.
pub(super) struct Table<'a> {
    column: &'a Column,
    /// Fields before the one that is wanted, once that is known.
    before: Option<usize>,
    /// A line that may be the header was seen.
    begun: bool,
}

impl<'a> Table<'a> {
    pub(super) fn new(column: &'a Column) -> Table<'a> {
        let before = match column {
            Column::Number(number) => Some(number.saturating_sub(1)),
            Column::Name(_) => None,
        };
        Table { column, before, begun: false }
    }

    /// The entry of a line; nothing for a comment or the header.
    pub(super) fn line<'l>(
        &mut self,
        line: u32,
        text: &'l str,
    ) -> Result<Option<Item<'l>>, LineError> {
        let text = text.trim();
        if text.is_empty() {
            return Ok(None);
        }
        if let Some(comment) = text.strip_prefix('#') {
            self.look_for_header(comment.trim_start_matches('#'));
            return Ok(None);
        }
        let first = !std::mem::replace(&mut self.begun, true);
        if self.before.is_none() && first {
            self.look_for_header(text);
            return Ok(None);
        }
        let before = self.before.ok_or(LineError::Format("the column is not known here"))?;
        let field = fields(text).nth(before).map(without_port);
        let found = match field {
            None => Err(LineError::Format("the line has too few columns")),
            Some("") => Err(LineError::Format("the column is empty")),
            Some(field) => Item::bare(line, field, None).and_then(no_lone_label),
        };
        // A header above a column that is known by its number.
        if first && found.is_err() { Ok(None) } else { found.map(Some) }
    }

    /// Finds the column by its name, in the last line before the data that has it.
    fn look_for_header(&mut self, text: &str) {
        if let Column::Name(name) = self.column
            && let Some(place) = fields(text).position(|field| field.eq_ignore_ascii_case(name))
        {
            self.before = Some(place);
        }
    }

    /// Ends the table.
    pub(super) fn end(self) -> Result<(), ReadError> {
        match (self.before, self.column) {
            (None, Column::Name(name)) if self.begun => Err(ReadError::NoColumn(name.clone())),
            _ => Ok(()),
        }
    }
}

/// The name of a column, or any other word, would stand for a top-level domain.
fn no_lone_label(item: Item<'_>) -> Result<Item<'_>, LineError> {
    match item.entry {
        Entry::Domain(name) if !name.contains('.') => {
            Err(LineError::Format("the column holds a word instead of an address or a domain"))
        }
        Entry::Domain(_) | Entry::Addresses(..) | Entry::Container(_) => Ok(item),
    }
}

/// The fields of a line, without blanks and quotes around them.
fn fields(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = Some(text);
    std::iter::from_fn(move || {
        let line = rest?;
        let mut quoted = false;
        let comma = line.bytes().position(|byte| {
            quoted ^= byte == b'"';
            byte == b',' && !quoted
        });
        let (field, after) = match comma.and_then(|at| line.split_at_checked(at)) {
            Some((field, after)) => (field, after.strip_prefix(',')),
            None => (line, None),
        };
        rest = after;
        let field = field.trim();
        let bare = field.strip_prefix('"').and_then(|inner| inner.strip_suffix('"'));
        Some(bare.unwrap_or(field).trim())
    })
}
