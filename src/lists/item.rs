//! One line of a list that was understood, or why it was not; and the grammar of our own files.

use std::net::IpAddr;

use super::entry::{Entry, EntryError};
use super::text::{excerpt, time};
use crate::engine::Wall;

/// An entry with what its line says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// Line of the file, from 1.
    pub line: u32,
    /// What it stands for.
    pub entry: Entry<&'a str>,
    /// The entry as it is written.
    pub text: &'a str,
    /// When it ends; nothing means never.
    pub until: Option<Wall>,
    /// The only source address it holds for.
    pub from: Option<IpAddr>,
    /// Held to although it is dangerous.
    pub force: bool,
    /// What the line says about it: a comment, or the number of a case.
    pub note: Option<&'a str>,
}

/// What a reader yields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line<'a> {
    /// Understood.
    Item(Item<'a>),
    /// Not understood, and skipped.
    Bad {
        /// Line of the file, from 1.
        line: u32,
        /// What is wrong with it.
        why: LineError,
    },
}

/// Why a line is skipped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// Its entry is none.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// Longer than [`super::LINE_BYTES_MAX`].
    #[error("line longer than {} bytes", super::LINE_BYTES_MAX)]
    TooLong,
    /// Not UTF-8.
    #[error("not UTF-8 text")]
    NotText,
    /// A word behind the entry that is no option.
    #[error(
        "`{0}` is no option: known are until=TIME, from=ADDRESS and force; a comment starts with #"
    )]
    Unknown(String),
    /// A word that only the user's own lists may say.
    #[error(
        "`{0}` is not taken from a feed: say it in the configuration, or in a list of your own"
    )]
    NotFromFeed(String),
    /// An option given twice.
    #[error("{0} is given twice")]
    Twice(&'static str),
    /// `until=` without a time.
    #[error("`{0}` is no time: write until=2030-01-31T12:00:00Z")]
    Until(String),
    /// `from=` without an address.
    #[error("`{0}` is no address: write from=172.17.0.2")]
    From(String),
    /// `from=` with something else than one destination of the same family.
    #[error("from= goes with a single destination address of the same family")]
    Pair,
    /// The format has no such line; the text says what is expected.
    #[error("{0}")]
    Format(&'static str),
}

impl<'a> Item<'a> {
    /// An entry without options.
    pub(super) fn bare(
        line: u32,
        text: &'a str,
        note: Option<&'a str>,
    ) -> Result<Item<'a>, LineError> {
        let entry = Entry::parse(text)?;
        Ok(Item { line, entry, text, until: None, from: None, force: false, note })
    }

    /// Reads `ENTRY [until=TIME] [from=ADDRESS] [force] [# comment]`; nothing for a line without an entry. `own` is
    /// true for the user's own files, which alone may say `from` and `force`.
    ///
    /// # Errors
    /// [`LineError`].
    pub(super) fn plain(
        line: u32,
        text: &'a str,
        own: bool,
    ) -> Result<Option<Item<'a>>, LineError> {
        let (body, note) = split_note(text, '#');
        let mut words = body.split_ascii_whitespace();
        let Some(first) = words.next() else { return Ok(None) };
        let mut item = Item::bare(line, first, note)?;
        for word in words {
            item.option(word, own)?;
        }
        let pair = item.from.zip(item.entry.single());
        match item.from.is_some() && pair.is_none_or(|(from, to)| from.is_ipv4() != to.is_ipv4()) {
            true => Err(LineError::Pair),
            false => Ok(Some(item)),
        }
    }

    fn option(&mut self, word: &str, own: bool) -> Result<(), LineError> {
        let (key, value) = match word.split_once('=') {
            Some((key, value)) => (key, Some(value)),
            None => (word, None),
        };
        match (key, value) {
            ("until", Some(value)) => {
                let until = time(value).ok_or_else(|| LineError::Until(excerpt(value)))?;
                once(&mut self.until, until, "until=")
            }
            ("from" | "force", _) if !own => Err(LineError::NotFromFeed(excerpt(word))),
            ("from", Some(value)) => {
                let from = value.parse().map_err(|_| LineError::From(excerpt(value)))?;
                once(&mut self.from, from, "from=")
            }
            ("force", None) if self.force => Err(LineError::Twice("force")),
            ("force", None) => {
                self.force = true;
                Ok(())
            }
            _ => Err(LineError::Unknown(excerpt(word))),
        }
    }
}

fn once<T>(place: &mut Option<T>, value: T, name: &'static str) -> Result<(), LineError> {
    match place.replace(value) {
        None => Ok(()),
        Some(_) => Err(LineError::Twice(name)),
    }
}

/// What stands before the mark of a comment, and the comment if it says anything.
pub(super) fn split_note(text: &str, mark: char) -> (&str, Option<&str>) {
    match text.split_once(mark) {
        Some((body, note)) => (body, Some(note.trim()).filter(|note| !note.is_empty())),
        None => (text, None),
    }
}
