//! One instance a network namespace: a locked file in `/run` that says who holds it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

/// Where lock files are; root's, and gone at boot.
const FOLDER: &str = "/run/synhold";
/// A lock file holds one short object; more is not ours.
const CONTENT_MAX: u64 = 256;

/// What the lock file says about its holder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Process id.
    pub pid: u32,
    /// True if the rules in the kernel are the holder's own and go when it stops.
    pub own_rules: bool,
}

/// The lock, held until dropped; the kernel lets go of it if we are killed.
#[derive(Debug)]
pub struct Lock {
    file: File,
    path: PathBuf,
    /// What a holder that was killed left behind.
    pub previous: Option<Holder>,
}

impl Lock {
    /// Takes the lock of the calling thread's network namespace.
    ///
    /// # Errors
    /// If another instance holds it (says which process), or the file cannot be made.
    pub fn acquire() -> Result<Lock> {
        std::fs::create_dir_all(FOLDER)
            .with_context(|| format!("cannot make {FOLDER}: run as root"))?;
        Lock::acquire_at(&Lock::path()?)
    }

    /// Forgets what a killed instance left behind: the rules are the user's own from here on. True if an instance
    /// runs, which then decides about them when it stops.
    ///
    /// # Errors
    /// As [`Lock::acquire`], but for an instance that runs.
    pub fn disown() -> Result<bool> {
        let path = Lock::path()?;
        match File::open(&path).map(|file| file.try_lock()) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error).with_context(|| format!("cannot open {}", path.display())),
            Ok(Err(TryLockError::WouldBlock)) => Ok(true),
            Ok(_) => Lock::acquire_at(&path).map(|_| false),
        }
    }

    fn path() -> Result<PathBuf> {
        let namespace = std::fs::metadata("/proc/thread-self/ns/net")
            .context("cannot tell the network namespace")?;
        Ok(Path::new(FOLDER).join(format!("net-{}.lock", namespace.ino())))
    }

    fn acquire_at(path: &Path) -> Result<Lock> {
        loop {
            let mut file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)
                .with_context(|| format!("cannot open {}: run as root", path.display()))?;
            let previous = holder(&mut file);
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    let who = previous.map_or_else(
                        || "another process".to_owned(),
                        |h| format!("process {}", h.pid),
                    );
                    bail!(
                        "synhold runs in this network namespace already, as {who}: stop it first"
                    );
                }
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
            // The last holder may have removed the file between our opening and locking it.
            let same = std::fs::metadata(path)
                .is_ok_and(|now| file.metadata().is_ok_and(|ours| ours.ino() == now.ino()));
            if same {
                let mut lock = Lock { file, path: path.to_owned(), previous };
                lock.tell(false)?;
                return Ok(lock);
            }
        }
    }

    /// Writes down who holds the lock and whose the rules are.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn tell(&mut self, own_rules: bool) -> Result<()> {
        let text = serde_json::to_string(&Holder { pid: std::process::id(), own_rules })?;
        (|| {
            self.file.set_len(0)?;
            self.file.seek(SeekFrom::Start(0))?;
            self.file.write_all(text.as_bytes())
        })()
        .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        // Whoever waits sees that the path is gone or another file, and tries again.
        let _ = std::fs::remove_file(&self.path);
    }
}

fn holder(file: &mut File) -> Option<Holder> {
    let mut text = String::new();
    file.take(CONTENT_MAX).read_to_string(&mut text).ok()?;
    serde_json::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_instance_learns_who_holds_the_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::acquire_at(&path).unwrap();
        let error = Lock::acquire_at(&path).unwrap_err().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        assert!(!path.exists());
        Lock::acquire_at(&path).unwrap();
    }

    #[test]
    fn what_a_killed_instance_left_behind_is_read_and_rubbish_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        std::fs::write(&path, r#"{"pid":7,"own_rules":true}"#).unwrap();
        assert_eq!(
            Lock::acquire_at(&path).unwrap().previous,
            Some(Holder { pid: 7, own_rules: true })
        );
        std::fs::write(&path, "rubbish").unwrap();
        assert_eq!(Lock::acquire_at(&path).unwrap().previous, None);
    }
}
