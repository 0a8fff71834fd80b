//! A list that can be read: a file, a copy in memory, or one that comes with the program.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, ErrorKind, Read};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
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
    /// In a feed's copy; one that is gone is read on, until there is another.
    Copy(FeedCopy),
    /// In memory.
    Memory(Arc<[u8]>),
    /// In the program.
    Builtin(&'static str),
}

/// The copy of a feed, kept open: removing it must not lift what it says.
#[derive(Clone, Debug)]
pub struct FeedCopy {
    path: PathBuf,
    held: Arc<File>,
}

impl PartialEq for FeedCopy {
    fn eq(&self, other: &FeedCopy) -> bool {
        self.path == other.path && Arc::ptr_eq(&self.held, &other.held)
    }
}

impl Eq for FeedCopy {}

impl FeedCopy {
    pub(super) fn open(path: &Path) -> io::Result<FeedCopy> {
        Ok(FeedCopy { path: path.to_owned(), held: Arc::new(open_file(path)?) })
    }
}

/// Reads a file from its start, whoever else reads it by the same descriptor.
struct FromStart<'a> {
    file: &'a File,
    at: u64,
}

impl Read for FromStart<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.file.read_at(buffer, self.at)?;
        self.at += got as u64;
        Ok(got)
    }
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
                Ok(file) => read(&mut buffered(file), dialect, each),
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(Counts::default()),
                Err(error) => Err(error.into()),
            },
            Content::Copy(copy) => match open_file(&copy.path) {
                Ok(file) => read(&mut buffered(file), dialect, each),
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    read(&mut buffered(FromStart { file: &copy.held, at: 0 }), dialect, each)
                }
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

fn buffered(file: impl Read) -> impl BufRead {
    BufReader::with_capacity(CHUNK_BYTES, file)
}

fn in_memory(bytes: &[u8]) -> impl BufRead {
    Cursor::new(bytes)
}
