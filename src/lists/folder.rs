//! Where lists and the copies of feeds are kept in the state directory.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use super::Kind;

/// The lists that are files of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Own {
    /// `allow.txt`, the user's.
    Allow,
    /// `block.txt`, the user's.
    Block,
    /// `auto.txt`, which the daemon writes.
    Auto,
    /// `quarantine.txt`: containers.
    Quarantine,
}

impl Own {
    /// All of them, in the order in which they are read.
    pub const ALL: [Own; 4] = [Own::Allow, Own::Block, Own::Auto, Own::Quarantine];

    /// Its name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Own::Allow => "allow",
            Own::Block => "block",
            Own::Auto => "auto",
            Own::Quarantine => "quarantine",
        }
    }

    /// Its file in the folder of lists.
    pub fn file_name(self) -> &'static str {
        match self {
            Own::Allow => "allow.txt",
            Own::Block => "block.txt",
            Own::Auto => "auto.txt",
            Own::Quarantine => "quarantine.txt",
        }
    }

    /// What its entries mean.
    pub fn kind(self) -> Kind {
        match self {
            Own::Allow => Kind::Allow,
            Own::Block | Own::Auto => Kind::Block,
            Own::Quarantine => Kind::Quarantine,
        }
    }
}

/// The state directory, as far as lists are concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folder {
    state: PathBuf,
}

impl Folder {
    /// The folders under a state directory. Nothing is made.
    pub fn new(state: &Path) -> Folder {
        Folder { state: state.to_owned() }
    }

    /// Makes the folders for lists and feeds, for their owner alone.
    ///
    /// # Errors
    /// If the disk does not take them.
    pub fn make(&self) -> io::Result<()> {
        let make = |path| DirBuilder::new().recursive(true).mode(0o700).create(path);
        make(self.lists()).and_then(|()| make(self.feeds()))
    }

    /// Where the lists are.
    pub fn lists(&self) -> PathBuf {
        self.state.join("lists")
    }

    /// The file of a list.
    pub fn own(&self, own: Own) -> PathBuf {
        self.lists().join(own.file_name())
    }

    /// Held by whoever edits a list.
    pub fn lock(&self) -> PathBuf {
        self.lists().join(".lock")
    }

    /// What the daemon says about its lists.
    pub fn status(&self) -> PathBuf {
        self.lists().join("status.json")
    }

    /// Where copies of feeds are.
    pub fn feeds(&self) -> PathBuf {
        self.state.join("feeds")
    }

    /// The last good copy of a feed.
    pub fn feed_data(&self, name: &str) -> PathBuf {
        self.feeds().join(format!("{name}.data"))
    }

    /// What is known about that copy.
    pub fn feed_about(&self, name: &str) -> PathBuf {
        self.feeds().join(format!("{name}.json"))
    }
}
