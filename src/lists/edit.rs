//! Edits of our own files: under a lock, atomic, every other byte kept, through symbolic links.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::atomic::{Access, open_file, replace, target};
use super::document::{self, Added, Addition, Removal};
use super::entry::Entry;
use super::folder::{Folder, Own};
use super::hold::is_container;
use crate::engine::Wall;

/// Largest file of ours that is read: four million entries.
pub const OWN_BYTES_MAX: u64 = 64 << 20;
/// A new list may be read by the group it belongs to.
const NEW_FILE_MODE: u32 = 0o640;
const NEW_FOLDER_MODE: u32 = 0o750;

/// Why a list was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// The file system said no.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was to be done.
        doing: &'static str,
        /// To what.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The file is larger than [`OWN_BYTES_MAX`].
    #[error("{0} is larger than {OWN_BYTES_MAX} bytes: keep a list of that size as a feed")]
    TooLarge(PathBuf),
    /// A list other than of blocked addresses cannot hold for one container only.
    #[error("only a block list can hold for one container")]
    NotForOne,
    /// Something else than one destination address for one container.
    #[error("for one container, a single destination address of the same family can be blocked")]
    Pair,
    /// Something else than one address in quarantine.
    #[error("a container in quarantine is a single address or container:NAME")]
    Container,
    /// A container by name in another list than that of quarantine.
    #[error("only quarantine.txt holds containers by name")]
    Misplaced,
}

/// Adds entries to a list, or brings their lines up to date: no entry is ever there twice, and a comment that is there
/// stays unless there is a new one. New lines go to the end. All or nothing; the results are in the order given.
///
/// # Errors
/// [`EditError`]; the file is then as it was.
pub fn add(folder: &Folder, own: Own, additions: &[Addition]) -> Result<Vec<Added>, EditError> {
    additions.iter().try_for_each(|addition| check(own, addition))?;
    change(folder, own, |old| document::add(old, additions))
}

/// Removes entries from a list and returns their lines. Only an entry that says exactly the same is one; whether the
/// address is still in a wider one, [`super::find`] tells.
///
/// # Errors
/// [`EditError`]; the file is then as it was.
pub fn remove(folder: &Folder, own: Own, removals: &[Removal]) -> Result<Vec<String>, EditError> {
    change(folder, own, |old| document::remove(old, removals))
}

/// Removes the entries whose time is over and returns their lines.
///
/// # Errors
/// [`EditError`]; the file is then as it was.
pub fn prune_expired(folder: &Folder, own: Own, now: Wall) -> Result<Vec<String>, EditError> {
    change(folder, own, |old| document::prune(old, now))
}

fn check(own: Own, addition: &Addition) -> Result<(), EditError> {
    let single = addition.entry.single();
    match (own, addition.from) {
        (Own::Quarantine, None) if !is_container(&addition.entry) => Err(EditError::Container),
        (Own::Allow | Own::Block | Own::Auto, _)
            if matches!(addition.entry, Entry::Container(_)) =>
        {
            Err(EditError::Misplaced)
        }
        (Own::Allow | Own::Quarantine, Some(_)) => Err(EditError::NotForOne),
        (Own::Block | Own::Auto, Some(from))
            if single.is_none_or(|to| to.is_ipv4() != from.is_ipv4()) =>
        {
            Err(EditError::Pair)
        }
        _ => Ok(()),
    }
}

/// Reads the file, and replaces it if `edit` gives another text. One at a time.
fn change<R>(
    folder: &Folder,
    own: Own,
    edit: impl FnOnce(&[u8]) -> (Option<Vec<u8>>, R),
) -> Result<R, EditError> {
    let _lock = lock(folder)?;
    let path = folder.own(own);
    let path = target(&path).map_err(failed("follow", &path))?;
    let (old, access) = match open_file(&path) {
        Ok(file) => (contents(&file, &path)?, access(&file).map_err(failed("read", &path))?),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            (header(own).into_bytes(), Access::new(NEW_FILE_MODE))
        }
        Err(error) => return Err(failed("read", &path)(error)),
    };
    let (new, result) = edit(&old);
    if let Some(new) = new {
        if new.len() as u64 > OWN_BYTES_MAX {
            return Err(EditError::TooLarge(path));
        }
        replace(&path, &new, access).map_err(failed("write", &path))?;
    }
    Ok(result)
}

fn contents(file: &File, path: &Path) -> Result<Vec<u8>, EditError> {
    let mut bytes = Vec::new();
    file.take(OWN_BYTES_MAX + 1).read_to_end(&mut bytes).map_err(failed("read", path))?;
    match bytes.len() as u64 > OWN_BYTES_MAX {
        true => Err(EditError::TooLarge(path.to_owned())),
        false => Ok(bytes),
    }
}

fn access(file: &File) -> io::Result<Access> {
    Ok(Access::like(&file.metadata()?))
}

/// Held until it is dropped; the kernel lets go of it when its holder dies.
fn lock(folder: &Folder) -> Result<File, EditError> {
    let lists = folder.lists();
    DirBuilder::new()
        .recursive(true)
        .mode(NEW_FOLDER_MODE)
        .create(&lists)
        .map_err(failed("make", &lists))?;
    let path = folder.lock();
    let opened =
        OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path);
    let file = opened.map_err(failed("open", &path))?;
    file.lock().map_err(failed("lock", &path))?;
    Ok(file)
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> EditError {
    let path = path.to_owned();
    move |source| EditError::Io { doing, path, source }
}

/// What a new file begins with.
fn header(own: Own) -> String {
    let what = match own {
        Own::Allow => "What containers may reach, whatever any other list says.",
        Own::Block => "What containers may not reach.",
        Own::Auto => {
            "What containers tried to reach without asking DNS, blocked by synhold itself."
        }
        Own::Quarantine => "Containers that may reach nothing.",
    };
    let entry = match own {
        Own::Quarantine => {
            "# ENTRY: container:NAME, whatever address it has, or a single address.\n"
        }
        Own::Allow | Own::Block | Own::Auto => {
            "# ENTRY: an address, a network (192.0.2.0/24), a range (192.0.2.1-192.0.2.9), \
             or a domain with everything under it.\n"
        }
    };
    let options = match own {
        Own::Allow | Own::Quarantine => "[until=2030-01-31T12:00:00Z]",
        Own::Block | Own::Auto => "[until=2030-01-31T12:00:00Z] [from=172.17.0.2] [force]",
    };
    format!("# {what}\n# ENTRY {options} [# comment]\n{entry}")
}

#[cfg(test)]
#[path = "edit_test.rs"]
mod tests;
