//! The registry on disk: snapshots and journals, crash-safe at any byte; and as JSON, to be carried elsewhere. Small files beside it.

mod atomic;
mod bounded;
mod disk;
mod folder;
mod frame;
mod json;
mod load;
mod plan;
mod small;
mod wire;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::engine::Wall;
use crate::engine::limits::REGISTRY_FILE_BYTES_MAX;
use crate::engine::registry::{Registry, Saved};
use crate::engine::sieve::Sieve;

pub use atomic::{write_atomically, write_where_told};
pub use disk::{Disk, Snapshot};
pub use folder::{REGISTRY_FOLDER, has_snapshot, keep_aside, newest, size};
pub use json::{JSON_VERSION, json_of};
pub use load::{Change, Cut, Error, Loaded};
pub use small::{Small, Version};

/// File the registry was in before it was a folder; read until there is a snapshot in the folder.
pub const FORMER_FILE: &str = "registry.json";
/// File name the ancestor used; likewise.
pub const ANCESTOR_FILE: &str = "dns-registry.json";

/// Loads what goes through the `sieve` of a folder into a `registry` in which nothing of it is yet. No folder is an empty registry; what is good of damaged files is in.
///
/// # Errors
/// See [`Error`].
pub fn load(folder: &Path, registry: &Registry, sieve: &Sieve) -> Result<Loaded, Error> {
    let begin = |addresses| registry.reserve(addresses);
    load::load_all(folder, begin, |address, mut change| {
        if let Change::First(saved) | Change::Known(saved) = &mut change {
            sieve.sift(address, saved);
        }
        apply(registry, address, change);
    })
}

/// Loads no more than these addresses, in a fraction of the time and memory of all.
///
/// # Errors
/// See [`Error`].
pub fn load_only(
    folder: &Path,
    addresses: &HashSet<IpAddr>,
    registry: &Registry,
) -> Result<Loaded, Error> {
    let wanted = |address| addresses.contains(&address);
    load::load_if(folder, wanted, |address, change| apply(registry, address, change))
}

fn apply(registry: &Registry, address: IpAddr, change: Change) {
    match change {
        Change::First(saved) => {
            registry.restore(address, &saved);
        }
        // Merged into what an older frame said, an asker who was forgotten since would be back.
        Change::Known(saved) => registry.replace(address, &saved),
        Change::Gone => {
            registry.forget(address);
        }
    }
}

/// Why a registry in JSON could not be read.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It is not what we or the ancestor wrote.
    #[error("{path} is damaged ({reason})")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
}

/// Reads a registry in JSON, ours or the ancestor's, and hands each address to `take`; returns how many entries make no
/// sense. What stands before damage has been handed over.
///
/// `now` is the time given to entries that carry none (the ancestor's).
///
/// # Errors
/// See [`JsonError`].
pub fn read_json(
    path: &Path,
    now: Wall,
    take: impl FnMut(IpAddr, Saved),
) -> Result<u64, JsonError> {
    let read_error = |source| JsonError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(read_error)?;
    let size = file.metadata().map_err(read_error)?.len();
    if size > REGISTRY_FILE_BYTES_MAX {
        let reason = format!("{size} bytes, more than a registry can have");
        return Err(JsonError::Damaged { path: path.to_owned(), reason });
    }
    json::read(BufReader::with_capacity(1 << 16, file), now, take).map_err(|error| {
        match error.classify() {
            serde_json::error::Category::Io => read_error(error.into()),
            _ => JsonError::Damaged { path: path.to_owned(), reason: error.to_string() },
        }
    })
}

/// The same of a text that is in memory.
///
/// # Errors
/// If it is none.
pub fn parse_json(
    text: &str,
    now: Wall,
    take: impl FnMut(IpAddr, Saved),
) -> Result<u64, serde_json::Error> {
    json::read(text.as_bytes(), now, take)
}

/// Writes a registry as JSON.
///
/// # Errors
/// What `out` says.
pub fn write_json(out: impl Write, registry: &Registry) -> io::Result<()> {
    let mut out = BufWriter::with_capacity(1 << 16, out);
    json::write(&mut out, registry)?;
    out.flush()
}

#[cfg(test)]
#[path = "store_test.rs"]
mod tests;
