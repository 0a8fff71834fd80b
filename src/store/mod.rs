//! The registry on disk: loaded at start, saved atomically, a damaged file set aside and never overwritten.

mod atomic;
mod schema;

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::engine::Wall;
use crate::engine::limits::REGISTRY_FILE_BYTES_MAX;
use crate::engine::registry::Registry;

pub use atomic::write_atomically;

/// File name of the registry in the state directory.
pub const REGISTRY_FILE: &str = "registry.json";
/// File name the ancestor used; read if there is no registry yet, never written.
pub const ANCESTOR_FILE: &str = "dns-registry.json";

/// Why the registry could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file is there but cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file is there but not what we or the ancestor wrote.
    #[error("{path} is damaged ({reason})")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong and where.
        reason: String,
    },
}

/// What loading brought.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Names taken in.
    pub names: u64,
    /// Entries left out: no address, no name, or no room for them.
    pub skipped: u64,
}

/// Loads `path` into `registry`. No file is an empty registry. What could be read before damage stays in.
///
/// `now` is the time given to entries that carry none (the ancestor's).
///
/// # Errors
/// See [`Error`].
pub fn load(path: &Path, registry: &Registry, now: Wall) -> Result<Loaded, Error> {
    load_from(path, registry, None, now)
}

/// Loads no more than these addresses, in a fraction of the time and memory of all.
///
/// # Errors
/// See [`Error`].
pub fn load_only(
    path: &Path,
    addresses: &HashSet<IpAddr>,
    registry: &Registry,
    now: Wall,
) -> Result<Loaded, Error> {
    load_from(path, registry, Some(addresses), now)
}

fn load_from(
    path: &Path,
    registry: &Registry,
    only: Option<&HashSet<IpAddr>>,
    now: Wall,
) -> Result<Loaded, Error> {
    let read_error = |source| Error::Read { path: path.to_owned(), source };
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Loaded::default()),
        Err(error) => return Err(read_error(error)),
    };
    let size = file.metadata().map_err(read_error)?.len();
    if size > REGISTRY_FILE_BYTES_MAX {
        let reason = format!("{size} bytes, more than a registry can have");
        return Err(Error::Damaged { path: path.to_owned(), reason });
    }
    schema::read(BufReader::with_capacity(1 << 16, file), registry, only, now).map_err(|error| {
        match error.classify() {
            serde_json::error::Category::Io => read_error(error.into()),
            _ => Error::Damaged { path: path.to_owned(), reason: error.to_string() },
        }
    })
}

/// Moves a damaged file out of the way, so that the next save cannot overwrite it. Returns its new name.
///
/// # Errors
/// If it cannot be renamed; then nothing may be saved to `path`.
pub fn set_aside(path: &Path, now: Wall) -> io::Result<PathBuf> {
    let aside = aside(path, now);
    std::fs::rename(path, &aside)?;
    Ok(aside)
}

/// Copies a file of which not everything is understood, since the next save writes only what is. Returns its name.
///
/// # Errors
/// If it cannot be copied; then nothing may be saved to `path`.
pub fn copy_aside(path: &Path, now: Wall) -> io::Result<PathBuf> {
    let aside = aside(path, now);
    std::fs::copy(path, &aside)?;
    Ok(aside)
}

fn aside(path: &Path, now: Wall) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{}", now.0));
    PathBuf::from(name)
}

/// Saves `registry` to `path` so that a crash at any moment leaves the old file or the new one.
///
/// # Errors
/// If anything cannot be written; the old file is then still there.
pub fn save(path: &Path, registry: &Registry) -> io::Result<()> {
    write_atomically(path, |file| {
        let mut out = BufWriter::with_capacity(1 << 16, file);
        schema::write(&mut out, registry)?;
        out.flush()
    })
}

#[cfg(test)]
#[path = "store_test.rs"]
mod tests;
