//! Replaces a file so that a crash at any moment leaves the old content or the new.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, fchown};
use std::path::{Path, PathBuf};

/// Symbolic links followed to a file, as the kernel has it.
pub(super) const LINKS_MAX: usize = 40;

/// Mode and owner of a new content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Access {
    mode: u32,
    owner: Option<(u32, u32)>,
}

impl Access {
    /// A file of the caller's own with this mode.
    pub(super) fn new(mode: u32) -> Access {
        Access { mode, owner: None }
    }

    /// As another file has it.
    pub(super) fn like(found: &Metadata) -> Access {
        Access { mode: found.mode() & 0o7777, owner: Some((found.uid(), found.gid())) }
    }
}

/// A new content in the making, beside the file it will replace. Given up unless committed.
#[derive(Debug)]
pub(super) struct Draft {
    file: File,
    temporary: PathBuf,
    path: PathBuf,
    committed: bool,
}

impl Draft {
    /// Begins a new content for `path`. One that a crash left behind is started anew; one that another process is
    /// writing is waited for.
    pub(super) fn new(path: &Path) -> io::Result<Draft> {
        let temporary = beside(path);
        loop {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .custom_flags(nix::libc::O_NOFOLLOW)
                .open(&temporary)?;
            file.lock()?;
            // Whoever held the lock before has renamed or removed what we opened, unless it crashed.
            match std::fs::symlink_metadata(&temporary) {
                Ok(found) if found.ino() == file.metadata()?.ino() => {
                    file.set_len(0)?;
                    return Ok(Draft { file, temporary, path: path.to_owned(), committed: false });
                }
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// To write to, and to read what was written.
    pub(super) fn file(&mut self) -> &mut File {
        &mut self.file
    }

    /// Puts the new content in the place of the old.
    pub(super) fn commit(mut self, access: Access) -> io::Result<()> {
        if let Some((user, group)) = access.owner {
            let found = self.file.metadata()?;
            if (found.uid(), found.gid()) != (user, group) {
                fchown(&self.file, Some(user), Some(group))?;
            }
        }
        self.file.set_permissions(Permissions::from_mode(access.mode))?;
        self.file.sync_all()?;
        std::fs::rename(&self.temporary, &self.path)?;
        self.committed = true;
        File::open(folder_of(&self.path))?.sync_all()
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.committed {
            // A leftover does no harm: the next draft starts it anew.
            let _ = std::fs::remove_file(&self.temporary);
        }
    }
}

/// Replaces the content of `path` in one step.
pub(super) fn replace(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let mut draft = Draft::new(path)?;
    draft.file().write_all(bytes)?;
    draft.commit(access)
}

/// Opens a regular file. A pipe of that name would otherwise be waited for.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("not a regular file")),
    }
}

/// The file that a path leads to through symbolic links, whether it is there or not.
pub(super) fn target(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..LINKS_MAX {
        match std::fs::read_link(&path) {
            Ok(to) => path = folder_of(&path).join(to),
            // No link, or nothing there: EINVAL and ENOENT.
            Err(error) if matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::NotFound) => {
                return Ok(path);
            }
            Err(error) => return Err(error),
        }
    }
    Err(io::Error::other("too many symbolic links"))
}

/// The folder a path is in.
pub(super) fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Hidden, so that nobody takes it for a list.
fn beside(path: &Path) -> PathBuf {
    let mut name = OsString::from(".");
    name.push(path.file_name().unwrap_or_default());
    name.push(".new");
    folder_of(path).join(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leftover_of_a_crash_is_started_anew_and_links_are_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(folder.path().join(".a.txt.new"), "a long leftover").unwrap();
        replace(&path, b"new", Access::new(0o640)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(path.metadata().unwrap().mode() & 0o777, 0o640);
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "mine").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join(".a.txt.new")).unwrap();
        assert!(replace(&path, b"newer", Access::new(0o640)).is_err());
        assert_eq!(std::fs::read(&victim).unwrap(), b"mine");
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
    }

    #[test]
    fn what_is_not_committed_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::fs::write(&path, "old").unwrap();
        let mut draft = Draft::new(&path).unwrap();
        draft.file().write_all(b"half").unwrap();
        drop(draft);
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn two_writers_wait_for_each_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.txt");
        std::thread::scope(|scope| {
            for writer in 0..4_u8 {
                let path = &path;
                scope.spawn(move || {
                    for _ in 0..20 {
                        replace(path, &[b'0' + writer; 10_000], Access::new(0o600)).unwrap();
                    }
                });
            }
        });
        let bytes = std::fs::read(&path).unwrap();
        assert!(bytes.len() == 10_000 && bytes.iter().all(|byte| *byte == bytes[0]));
    }

    #[test]
    fn links_lead_to_their_target_even_if_it_is_not_there() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (folder.path().join("a"), folder.path().join("b"));
        std::os::unix::fs::symlink("b", &a).unwrap();
        assert_eq!(target(&a).unwrap(), b);
        std::os::unix::fs::symlink("a", &b).unwrap();
        assert!(target(&a).is_err(), "a loop");
    }
}
