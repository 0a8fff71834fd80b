//! The folder of the registry: which files are in it, and how they come and go.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use super::frame::Purpose;
use crate::engine::Wall;

/// The folder in the state directory.
pub const REGISTRY_FOLDER: &str = "registry";
/// What a snapshot is called until it is whole.
const UNFINISHED: &str = "snapshot.new";

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
        let piece = Piece::new(folder, purpose, number.parse().ok()?);
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
        let name = entry?.file_name();
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
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".damaged-{}", now.0));
    let aside = PathBuf::from(name);
    if std::fs::hard_link(path, &aside).is_err() {
        std::fs::copy(path, &aside)?;
    }
    Ok(aside)
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
            "snapshot-18446744073709551616",
        ] {
            std::fs::write(at(name), "").unwrap();
        }
        let found: Vec<_> =
            pieces(folder.path()).unwrap().into_iter().map(|piece| piece.path).collect();
        assert_eq!(found, [at("journal-9"), at("snapshot-10"), at("journal-10")]);
        assert_eq!(pieces(&at("none")).unwrap(), []);
    }
}
