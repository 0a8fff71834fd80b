//! The last good copy of a feed: on disk or in memory, with what is known about it.

use std::fs::{DirBuilder, File};
use std::io::{self, BufReader, Seek as _, SeekFrom, Write};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::atomic::{Access, Draft, replace};
use super::fetch::Validators;
use super::folder::Folder;
use super::format::Format;
use super::read::{Counts, Dialect, ReadError, read};
use super::source::{Content, FeedCopy};
use super::text::serde_time;
use crate::engine::Wall;

/// Copies are nobody else's business.
const COPY_MODE: u32 = 0o600;
const FOLDER_MODE: u32 = 0o700;
/// Largest description of a copy that is read.
const ABOUT_BYTES_MAX: u64 = 64 << 10;
/// Bytes read from a copy at once.
const CHUNK_BYTES: usize = 64 << 10;

/// What is known about a copy; `STATE/feeds/NAME.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct About {
    /// Where it came from. A copy of another place is not used.
    pub source: String,
    /// How it is written.
    pub format: String,
    /// What the server calls this version.
    pub etag: Option<String>,
    /// When the server says it changed.
    pub last_modified: Option<String>,
    /// When it was fetched.
    #[serde(with = "serde_time")]
    pub fetched: Option<Wall>,
    /// When the server last said that it is still the current one.
    #[serde(with = "serde_time")]
    pub checked: Option<Wall>,
    /// Entries in it.
    pub entries: u64,
    /// Lines of it that were not understood.
    pub bad: u64,
    /// Why the last attempt brought nothing; nothing if it did.
    pub last_error: Option<String>,
}

impl About {
    pub(super) fn validators(&self) -> Validators {
        Validators { etag: self.etag.clone(), last_modified: self.last_modified.clone() }
    }
}

/// Where copies of one feed are kept.
#[derive(Clone, Debug)]
pub(super) struct Shelf {
    folder: Folder,
    name: String,
    on_disk: bool,
}

/// A body that may become the copy.
pub(super) enum Body {
    Disk(Draft),
    Memory(Vec<u8>),
}

impl Shelf {
    pub(super) fn new(folder: &Folder, name: &str, on_disk: bool) -> Shelf {
        Shelf { folder: folder.clone(), name: name.to_owned(), on_disk }
    }

    /// The copy on disk and what is known about it; nothing if there is none.
    pub(super) fn load(&self) -> Option<(About, Content)> {
        let data = self.data();
        if !self.on_disk || !data.is_file() {
            return None;
        }
        let mut text = Vec::new();
        let file = File::open(self.folder.feed_about(&self.name)).ok()?;
        io::Read::read_to_end(&mut io::Read::take(file, ABOUT_BYTES_MAX), &mut text).ok()?;
        Some((serde_json::from_slice(&text).ok()?, Content::Copy(FeedCopy::open(&data).ok()?)))
    }

    /// True if the copy is gone: whoever removes it wants the next one, whatever it is like.
    pub(super) fn is_gone(&self) -> bool {
        self.on_disk && !self.data().exists()
    }

    pub(super) fn begin(&self) -> io::Result<Body> {
        if !self.on_disk {
            return Ok(Body::Memory(Vec::new()));
        }
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(self.folder.feeds())?;
        Ok(Body::Disk(Draft::new(&self.data())?))
    }

    /// Makes a body the copy.
    pub(super) fn keep(&self, body: Body) -> io::Result<Content> {
        match body {
            Body::Memory(bytes) => Ok(Content::Memory(Arc::from(bytes))),
            Body::Disk(draft) => {
                draft.commit(Access::new(COPY_MODE))?;
                Ok(Content::Copy(FeedCopy::open(&self.data())?))
            }
        }
    }

    pub(super) fn describe(&self, about: &About) -> io::Result<()> {
        if !self.on_disk {
            return Ok(());
        }
        DirBuilder::new().recursive(true).mode(FOLDER_MODE).create(self.folder.feeds())?;
        let mut text = serde_json::to_vec_pretty(about)?;
        text.push(b'\n');
        replace(&self.folder.feed_about(&self.name), &text, Access::new(COPY_MODE))
    }

    /// True if this is the copy's file.
    pub(super) fn is_data(&self, path: &Path) -> bool {
        self.on_disk && path == self.data()
    }

    /// Where the copy is on disk.
    pub(super) fn data(&self) -> PathBuf {
        self.folder.feed_data(&self.name)
    }
}

impl Body {
    /// Counts what is in it.
    pub(super) fn count(&mut self, format: &Format) -> Result<Counts, ReadError> {
        let dialect = Dialect { format, own: false };
        match self {
            Body::Memory(bytes) => read(&mut bytes.as_slice(), dialect, &mut |_| {}),
            Body::Disk(draft) => {
                draft.file().seek(SeekFrom::Start(0))?;
                let mut input = BufReader::with_capacity(CHUNK_BYTES, draft.file());
                read(&mut input, dialect, &mut |_| {})
            }
        }
    }
}

impl Write for Body {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Body::Memory(all) => all.write(bytes),
            Body::Disk(draft) => draft.file().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
