//! The folder of the registry: which files are in it, and how they come and go.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, FileExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::frame::{HEADER_BYTES, Purpose};
use crate::engine::Wall;

/// The folder in the state directory.
pub const REGISTRY_FOLDER: &str = "registry";
/// What a snapshot is called until it is whole.
const UNFINISHED: &str = "snapshot.new";
/// Read at once where a file is looked through for zeros; it is on the stack.
const CHUNK_BYTES: usize = 1 << 12;
/// Damaged files kept of a registry, or of a small file, the newest: enough to see what a disk does, and no disk fills with them.
const DAMAGED_MAX: usize = 4;
/// Between the name of a damaged file and the time it was set aside.
const DAMAGED: &str = ".damaged-";

/// A file of the registry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Piece {
    // In this order: a snapshot goes before the journal of its generation.
    pub(super) generation: u64,
    pub(super) purpose: Purpose,
    pub(super) path: PathBuf,
}

impl Piece {
    pub(super) fn new(folder: &Path, purpose: Purpose, generation: u64) -> Piece {
        let path = folder.join(format!("{}-{generation}", word(purpose)));
        Piece { generation, purpose, path }
    }

    fn parse(folder: &Path, name: &str) -> Option<Piece> {
        let (word, number) = name.split_once('-')?;
        let purpose = [Purpose::Snapshot, Purpose::Journal]
            .into_iter()
            .find(|one| self::word(*one) == word)?;
        // Nothing could follow the last number there is, so it is none of ours.
        let generation = number.parse().ok().filter(|number| *number < u64::MAX)?;
        let piece = Piece::new(folder, purpose, generation);
        // Not 07 nor +7, which are others' files.
        (piece.path.file_name()?.to_str()? == name).then_some(piece)
    }
}

fn word(purpose: Purpose) -> &'static str {
    match purpose {
        Purpose::Snapshot => "snapshot",
        Purpose::Journal => "journal",
    }
}

/// The files of the registry from the oldest on; none if there is no folder.
pub(super) fn pieces(folder: &Path) -> io::Result<Vec<Piece>> {
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut pieces = Vec::new();
    for entry in entries {
        let entry = entry?;
        if !entry.file_type()?.is_file() {
            continue;
        }
        let name = entry.file_name();
        pieces.extend(name.to_str().and_then(|name| Piece::parse(folder, name)));
    }
    pieces.sort_unstable();
    Ok(pieces)
}

/// Makes the folder where it is missing.
pub(super) fn make(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // So that it is still there after a crash.
    folder.parent().map_or(Ok(()), sync)
}

/// Makes what was made, renamed or removed in a folder last.
pub(super) fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

/// Takes the journal of a generation away if a crash came before anything was in it; true if so.
pub(super) fn take_unbegun(folder: &Path, generation: u64) -> io::Result<bool> {
    let path = Piece::new(folder, Purpose::Journal, generation).path;
    let is_unbegun = match File::open(&path) {
        Ok(file) => is_unbegun(&file)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => false,
        Err(error) => return Err(error),
    };
    if is_unbegun {
        std::fs::remove_file(&path)?;
    }
    Ok(is_unbegun)
}

/// True if a file is too short for a header, or nothing but zeros: it was made, and a crash came before its content was
/// on disk.
pub(super) fn is_unbegun(file: &File) -> io::Result<bool> {
    Ok(file.metadata()?.len() < HEADER_BYTES as u64 || is_zero_from(file, 0)?)
}

/// True if there is nothing but zeros from a place on. That is what a crash leaves where a file had grown and its
/// content was not on disk yet.
pub(super) fn is_zero_from(file: &File, place: u64) -> io::Result<bool> {
    let (mut chunk, mut at) = ([0; CHUNK_BYTES], place);
    loop {
        let some = match file.read_at(&mut chunk, at) {
            Ok(0) => return Ok(true),
            Ok(some) => some,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        if chunk.iter().take(some).any(|byte| *byte != 0) {
            return Ok(false);
        }
        at += some as u64;
    }
}

/// A new file, which must not be there.
pub(super) fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

/// Where a snapshot is written until it is whole. What a crash left there goes.
pub(super) fn create_unfinished(folder: &Path) -> io::Result<(PathBuf, File)> {
    let path = folder.join(UNFINISHED);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let file = create(&path)?;
    Ok((path, file))
}

/// True if the path still leads to the open file: nobody removed or replaced it, or the folder it is in.
pub(super) fn is_at(file: &File, path: &Path) -> bool {
    let number = |about: io::Result<std::fs::Metadata>| about.map(|a| (a.dev(), a.ino())).ok();
    let ours = number(file.metadata());
    ours.is_some() && number(std::fs::metadata(path)) == ours
}

/// The highest generation of a folder; none if there is no file of the registry in it.
///
/// # Errors
/// If the folder cannot be read.
pub fn newest(folder: &Path) -> io::Result<Option<u64>> {
    Ok(pieces(folder)?.iter().map(|piece| piece.generation).max())
}

/// Bytes of all files of a folder, as far as that can be told.
pub fn size(folder: &Path) -> u64 {
    let pieces = pieces(folder).unwrap_or_default();
    pieces.iter().map(|piece| std::fs::metadata(&piece.path).map_or(0, |file| file.len())).sum()
}

/// True if there is a snapshot in the folder, whole or not.
///
/// # Errors
/// If the folder cannot be read.
pub fn has_snapshot(folder: &Path) -> io::Result<bool> {
    Ok(pieces(folder)?.iter().any(|piece| piece.purpose == Purpose::Snapshot))
}

/// Gives a damaged file a second name, under which it stays when the registry has been written anew. Until then what is
/// good of it is needed where it is. Returns that name.
///
/// # Errors
/// If it can be neither linked nor copied.
pub fn keep_aside(path: &Path, now: Wall) -> io::Result<PathBuf> {
    let aside = aside(path, now);
    if std::fs::hard_link(path, &aside).is_err() {
        std::fs::copy(path, &aside)?;
    }
    remove_old_damaged(&aside, |of| path.parent().and_then(|at| Piece::parse(at, of)).is_some());
    Ok(aside)
}

/// Renames a file of which nothing is of use. Returns its new name.
pub(super) fn set_aside(path: &Path, now: Wall) -> io::Result<PathBuf> {
    let aside = aside(path, now);
    std::fs::rename(path, &aside)?;
    remove_old_damaged(&aside, |of| path.file_name().is_some_and(|name| name == of));
    Ok(aside)
}

fn aside(path: &Path, now: Wall) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!("{DAMAGED}{}", now.0));
    PathBuf::from(name)
}

/// Takes all but the newest damaged files of the kind away, and never the one that has come just now: clocks are set.
fn remove_old_damaged(now: &Path, is_kind: impl Fn(&str) -> bool) {
    let Some(folder) = now.parent() else { return };
    let remove = || {
        let mut damaged = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            let time = name.to_str().and_then(|name| {
                let (of, time) = name.split_once(DAMAGED)?;
                time.parse::<u64>().ok().filter(|_| is_kind(of))
            });
            damaged.extend(time.map(|time| (time, entry.path())).filter(|(_, path)| path != now));
        }
        damaged.sort_unstable();
        let old = (damaged.len() + 1).saturating_sub(DAMAGED_MAX);
        damaged.into_iter().take(old).try_for_each(|(_, path)| std::fs::remove_file(path))
    };
    if let Err(error) = remove() {
        tracing::debug!("cannot remove old damaged files of {}: {error}", folder.display());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_known_by_their_names_and_ordered_as_they_are_read() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for name in [
            "journal-10",
            "snapshot-10",
            "journal-9",
            "snapshot-010",
            "journal-",
            "journal-x",
            "snapshot.new",
            "snapshot-3.damaged-7",
            "journal-+4",
            "snapshot-18446744073709551615",
            "snapshot-18446744073709551616",
        ] {
            std::fs::write(at(name), "").unwrap();
        }
        std::fs::create_dir(at("journal-11")).unwrap();
        std::os::unix::fs::symlink(at("journal-9"), at("journal-12")).unwrap();
        let found: Vec<_> =
            pieces(folder.path()).unwrap().into_iter().map(|piece| piece.path).collect();
        assert_eq!(found, [at("journal-9"), at("snapshot-10"), at("journal-10")]);
        assert_eq!(pieces(&at("none")).unwrap(), []);
    }

    #[test]
    fn of_damaged_files_the_newest_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let others = ["journal-2", "mine.damaged-1", "journal-2.damaged-x"];
        others.iter().for_each(|name| std::fs::write(at(name), "").unwrap());
        let times = [5, 40, 9, 300, 12, 7];
        for time in times {
            keep_aside(&at("journal-2"), Wall(time)).unwrap();
        }
        let is_there = |time: &&u64| at(&format!("journal-2.damaged-{time}")).exists();
        // The last is there although its clock was set back.
        assert_eq!(times.iter().filter(is_there).collect::<Vec<_>>(), [&40, &300, &12, &7]);
        assert!(others.iter().all(|name| at(name).exists()), "others' files stay");
    }
}
