//! Write, fsync, rename, fsync of the folder.

use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::Path;

/// Who may read, write and run.
const RIGHTS: u32 = 0o777;

/// Replaces `path` by what `write` writes; readers see the old content or the new, never a part. Mode 0600.
///
/// # Errors
/// Whatever `write` or the file system says; `path` is then untouched.
pub fn write_atomically(
    path: &Path,
    write: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    replace(path, None, write)
}

/// Writes to where somebody pointed. A regular file is replaced as [`write_atomically`] does, keeping owner and mode, and a
/// link to one stays a link; whatever else is there (a device, a pipe, our own output) is opened and written.
///
/// # Errors
/// As [`write_atomically`].
pub fn write_where_told(
    path: &Path,
    write: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_file() && !is_handle(path) => {
            // The kernel has a say in whose links are followed, and in what may be written.
            drop(OpenOptions::new().write(true).open(path)?);
            replace(&path.canonicalize()?, Some(&found), write)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound && !path.is_symlink() => {
            replace(path, None, write)
        }
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        // What was written there before, by whoever else has it open, stays.
        _ => write(&OpenOptions::new().append(true).create(true).mode(0o600).open(path)?),
    }
}

/// True for `/dev/stdout` and the like: a file behind it is somebody's open file, not a name.
fn is_handle(path: &Path) -> bool {
    path.starts_with("/dev") || path.starts_with("/proc")
}

fn replace(
    path: &Path,
    like: Option<&Metadata>,
    write: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let temporary = Path::new(&temporary);
    let result = (|| {
        // What a crash left goes, and a link that somebody put there is not followed.
        match std::fs::remove_file(temporary) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
        write(&file)?;
        if let Some(like) = like {
            keep(&file, like)?;
        }
        file.sync_all()?;
        std::fs::rename(temporary, path)?;
        File::open(folder)?.sync_all()
    })();
    if result.is_err() {
        // A leftover does no harm: the next save starts it anew.
        let _ = std::fs::remove_file(temporary);
    }
    result
}

/// Owner and mode of what is replaced. Where the owner cannot be given away, nobody else gets the rights of his either.
fn keep(file: &File, like: &Metadata) -> io::Result<()> {
    let own = file.metadata()?;
    let is_same = own.uid() == like.uid() && own.gid() == like.gid();
    if is_same || fchown(file, Some(like.uid()), Some(like.gid())).is_ok() {
        file.set_permissions(Permissions::from_mode(like.mode() & RIGHTS))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::os::unix::fs::symlink;
    use std::process::Command;

    use super::*;

    fn told(path: &Path, text: &str) {
        write_where_told(path, |mut file| file.write_all(text.as_bytes())).unwrap();
    }

    #[test]
    fn links_modes_and_what_is_no_file_stay() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let mode = |name: &str| std::fs::metadata(at(name)).unwrap().mode() & RIGHTS;
        told(&at("new"), "1");
        assert_eq!(mode("new"), 0o600);
        std::fs::set_permissions(at("new"), Permissions::from_mode(0o644)).unwrap();
        symlink("new", at("link")).unwrap();
        told(&at("link"), "2");
        assert!(at("link").is_symlink());
        assert_eq!(
            (std::fs::read_to_string(at("new")).unwrap().as_str(), mode("new")),
            ("2", 0o644)
        );
        symlink("later", at("dangling")).unwrap();
        told(&at("dangling"), "3");
        assert!(at("dangling").is_symlink());
        assert_eq!(std::fs::read_to_string(at("later")).unwrap(), "3");

        assert!(Command::new("mkfifo").arg(at("pipe")).status().unwrap().success());
        let mut pipe = OpenOptions::new().read(true).write(true).open(at("pipe")).unwrap();
        told(&at("pipe"), "4");
        let mut byte = [0];
        pipe.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, b"4");
        // As `/dev/stdout` is, behind `>>`.
        let log = OpenOptions::new().create(true).append(true).open(at("log")).unwrap();
        (&log).write_all(b"before ").unwrap();
        let handle = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&log));
        told(Path::new(&handle), "5");
        (&log).write_all(b" after").unwrap();
        assert_eq!(std::fs::read_to_string(at("log")).unwrap(), "before 5 after");
    }
}
