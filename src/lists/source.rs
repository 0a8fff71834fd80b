//! A list that can be read: a file, a copy in memory, or one that comes with the program.

use std::io::{BufRead, BufReader, Cursor, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use super::Kind;
use super::atomic::open_file;
use super::folder::{Folder, Own};
use super::format::Format;
use super::item::Line;
use super::read::{Counts, Dialect, ReadError, read};

/// Name of the list of well-known DNS over HTTPS and TLS servers that comes with the program.
pub const DOH_SERVERS: &str = "doh-servers";
const DOH_SERVERS_TEXT: &str = include_str!("../../data/doh-servers.txt");
/// Bytes read from a file at once.
const CHUNK_BYTES: usize = 64 << 10;

/// A list, and how it is to be read. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// Its name in reports.
    pub name: String,
    /// What its entries mean.
    pub kind: Kind,
    /// How it is written.
    pub format: Format,
    /// True for the user's own files, which may say `from` and `force`.
    pub own: bool,
    /// True if even dangerous entries hold.
    pub force: bool,
    /// Where its text is.
    pub content: Content,
}

/// Where a list's text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// In a file; one that is not there is an empty list.
    File(PathBuf),
    /// In memory.
    Memory(Arc<[u8]>),
    /// In the program.
    Builtin(&'static str),
}

impl Source {
    /// One of our own lists, as it is on disk.
    pub fn own(folder: &Folder, own: Own) -> Source {
        Source::own_from(own, Content::File(folder.own(own)))
    }

    pub(super) fn own_from(own: Own, content: Content) -> Source {
        Source {
            name: own.name().to_owned(),
            kind: own.kind(),
            format: Format::Plain,
            own: true,
            force: false,
            content,
        }
    }

    /// All our own lists, as they are on disk.
    pub fn all_own(folder: &Folder) -> Vec<Source> {
        Own::ALL.into_iter().map(|own| Source::own(folder, own)).collect()
    }

    /// The well-known DNS over HTTPS and TLS servers, to be blocked.
    pub fn doh_servers() -> Source {
        Source {
            name: DOH_SERVERS.to_owned(),
            kind: Kind::Block,
            format: Format::Plain,
            own: false,
            force: false,
            content: Content::Builtin(DOH_SERVERS_TEXT),
        }
    }

    /// Gives every entry and every bad line to `each`.
    ///
    /// # Errors
    /// [`ReadError`] if it cannot be read to its end.
    pub fn read(&self, each: &mut dyn FnMut(Line<'_>)) -> Result<Counts, ReadError> {
        let dialect = Dialect { format: &self.format, own: self.own };
        match &self.content {
            Content::File(path) => match open_file(path) {
                Ok(file) => read(&mut BufReader::with_capacity(CHUNK_BYTES, file), dialect, each),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(Counts::default()),
                Err(error) => Err(error.into()),
            },
            Content::Memory(bytes) => read(&mut in_memory(bytes), dialect, each),
            Content::Builtin(text) => read(&mut in_memory(text.as_bytes()), dialect, each),
        }
    }

    /// How messages call it: our own lists by their file, feeds by their name.
    pub fn label(&self) -> String {
        if self.own { format!("{}.txt", self.name) } else { self.name.clone() }
    }
}

fn in_memory(bytes: &[u8]) -> impl BufRead {
    Cursor::new(bytes)
}
