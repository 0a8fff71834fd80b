//! What the daemon last did with the lists, on disk for whoever asks: the command line has no other way to it.

use std::fs;
use std::io;

use serde::{Deserialize, Serialize};

use super::atomic::{self, Access};
use super::compile::ListReport;
use super::folder::Folder;
use super::text::serde_time;
use crate::engine::Wall;

/// Largest status file read; a report has at most 40 messages, and there are some tens of lists.
const STATUS_BYTES_MAX: u64 = 16 << 20;

/// The state of the lists in one daemon.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Status {
    /// Process id of the daemon; what it wrote may outlive it.
    pub pid: u32,
    /// Each list, as it was read last.
    pub lists: Vec<ListReport>,
    /// Each set of the kernel, as it was loaded last.
    pub sets: Vec<SetStatus>,
    /// Counts the loads of this daemon.
    pub loads: u64,
    /// Open flows the last load ended.
    pub ended_flows: u64,
    /// Open flows all loads of this daemon ended.
    pub ended_in_all: u64,
    /// When the last reading of the lists began.
    #[serde(with = "serde_time")]
    pub read: Option<Wall>,
    /// True if the kernel has what that reading said.
    pub in_force: bool,
}

/// How a set was loaded last.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SetStatus {
    /// Its name.
    pub name: String,
    /// Elements it is to have.
    pub wanted: u64,
    /// When it was loaded.
    #[serde(with = "serde_time")]
    pub loaded: Option<Wall>,
    /// How long loading all sets took then, in milliseconds.
    pub took_ms: u64,
}

impl Status {
    /// Reads it; nothing if there is none, or none that makes sense.
    pub fn read(folder: &Folder) -> Option<Status> {
        let path = folder.status();
        let small = fs::metadata(&path).ok()?.len() <= STATUS_BYTES_MAX;
        small
            .then(|| fs::read(&path).ok())
            .flatten()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
    }

    /// Writes it, whole or not at all.
    ///
    /// # Errors
    /// If the disk does not take it.
    pub fn write(&self, folder: &Folder) -> io::Result<()> {
        let mut bytes = serde_json::to_vec_pretty(self)?;
        bytes.push(b'\n');
        atomic::replace(&folder.status(), &bytes, Access::new(0o640))
    }
}

/// Makes the folders for lists and feeds, for their owner alone.
///
/// # Errors
/// If the disk does not take them.
pub fn make_folders(folder: &Folder) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let make = |path| fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    make(folder.lists()).and_then(|()| make(folder.feeds()))
}
