//! One instance a network namespace, and one a state directory: locked files the kernel lets go of if we are killed.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};

/// Where lock files are; root's, and gone at boot.
const FOLDER: &str = "/run/synhold";
/// A lock file holds a process id; more is not ours.
const CONTENT_MAX: u64 = 32;
/// Extension of the file that says when a person last changed the rules by command.
const RULES: &str = "rules";

/// The lock, held until dropped.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock of the calling thread's network namespace.
    ///
    /// # Errors
    /// If another instance holds it (says which process), or the file cannot be made.
    pub fn acquire() -> Result<Lock> {
        std::fs::create_dir_all(FOLDER)
            .with_context(|| format!("cannot make {FOLDER} (synhold needs root)"))?;
        Lock::acquire_at(&path()?)
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
                .with_context(|| format!("cannot open {} (synhold needs root)", path.display()))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => bail!(
                    "synhold runs in this network namespace already, as {}: stop it first",
                    holder(&mut file)
                ),
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("cannot lock {}", path.display()));
                }
            }
            // The last holder may have removed the file between our opening and locking it.
            let ours = file.metadata().map(|ours| ours.ino()).ok();
            if ours.is_some() && std::fs::metadata(path).map(|there| there.ino()).ok() == ours {
                file.set_len(0)
                    .and_then(|()| write!(file, "{}", std::process::id()))
                    .with_context(|| format!("cannot write {}", path.display()))?;
                return Ok(Lock { _file: file, path: path.to_owned() });
            }
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(self.path.with_extension(RULES));
        // Whoever waits sees that the path is gone or another file, and tries again.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The lock file of the calling thread's network namespace.
pub fn path() -> Result<PathBuf> {
    let namespace = std::fs::metadata("/proc/thread-self/ns/net")
        .context("cannot tell the network namespace")?;
    Ok(Path::new(FOLDER).join(format!("net-{}.lock", namespace.ino())))
}

/// Tells a running instance that a person is about to change the rules by command, so that it does not undo it. Nothing is
/// written where none runs.
pub fn tell_rules_command() {
    if let Ok(path) = path()
        && path.exists()
    {
        let _ = std::fs::write(path.with_extension(RULES), []);
    }
}

/// Whether an instance runs in this network namespace.
pub fn is_running() -> bool {
    // Trying the lock would keep out one that is about to start.
    let file = path().and_then(|path| Ok(std::fs::read_to_string(path)?));
    let holder = file.ok().and_then(|text| text.trim().parse::<u32>().ok());
    holder.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists())
}

/// The time of a file may be so much behind the clock: it is that of the last tick (10 ms at most, by `CONFIG_HZ`),
/// and a virtual machine may miss some.
const FILE_TICK: Duration = Duration::from_millis(30);

/// Whether a person changed the rules by command since `since`.
pub fn rules_commanded_since(since: SystemTime) -> bool {
    let told = path().and_then(|path| Ok(std::fs::metadata(path.with_extension(RULES))?));
    told.and_then(|told| Ok(told.modified()?)).is_ok_and(|at| is_since(at, since))
}

/// Whether a file of this time was written after `since`.
fn is_since(file: SystemTime, since: SystemTime) -> bool {
    file + FILE_TICK >= since
}

fn holder(file: &mut File) -> String {
    let mut text = String::new();
    let read = file.take(CONTENT_MAX).read_to_string(&mut text);
    match (read, text.trim().parse::<u32>()) {
        (Ok(_), Ok(pid)) => format!("process {pid}"),
        _ => "another process".to_owned(),
    }
}

/// How often, and with what pause, a locked state directory is tried again: [`is_state_in_use`] takes the lock for a
/// moment.
const STATE_TRIES: usize = 10;
const STATE_PAUSE: Duration = Duration::from_millis(5);

/// Locks a state directory, so that instances of two network namespaces do not write the same registry.
///
/// # Errors
/// If another instance uses it, or it cannot be opened.
pub fn lock_state(folder: &Path) -> Result<File> {
    let open = File::open(folder).with_context(|| format!("cannot open {}", folder.display()))?;
    let mut locked = open.try_lock();
    for _ in 1..STATE_TRIES {
        if !matches!(locked, Err(TryLockError::WouldBlock)) {
            break;
        }
        std::thread::sleep(STATE_PAUSE);
        locked = open.try_lock();
    }
    match locked {
        Ok(()) => Ok(open),
        Err(TryLockError::WouldBlock) => bail!(
            "{} is in use by the synhold of another network namespace: choose another --state-dir",
            folder.display()
        ),
        Err(TryLockError::Error(error)) => {
            Err(error).with_context(|| format!("cannot lock {}", folder.display()))
        }
    }
}

/// Whether an instance uses a state directory; false where it cannot be told.
pub fn is_state_in_use(folder: &Path) -> bool {
    let tried = File::open(folder).map(|open| open.try_lock_shared());
    matches!(tried, Ok(Err(TryLockError::WouldBlock)))
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
        assert!(error.contains(&format!("process {}:", std::process::id())), "{error}");
        drop(first);
        assert!(!path.exists());
        Lock::acquire_at(&path).unwrap();
    }

    #[test]
    fn what_a_killed_instance_left_behind_locks_nobody_out() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        std::fs::write(&path, "12345678901234567890 rubbish").unwrap();
        drop(Lock::acquire_at(&path).unwrap());
        assert!(!path.exists());
    }

    #[test]
    fn a_lock_whose_file_is_gone_is_no_lock() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        let first = Lock::acquire_at(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let second = Lock::acquire_at(&path).unwrap();
        assert!(Lock::acquire_at(&path).is_err(), "the path's file is the second one's");
        drop((first, second));
    }

    #[test]
    fn a_state_directory_has_one_user() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock_state(folder.path()).unwrap();
        let error = lock_state(folder.path()).unwrap_err().to_string();
        assert!(error.contains("--state-dir"), "{error}");
        assert!(is_state_in_use(folder.path()));
        drop(held);
        assert!(!is_state_in_use(folder.path()));
        lock_state(folder.path()).unwrap();
    }

    #[test]
    fn a_file_written_after_a_moment_is_known_to_be_though_its_time_lags() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("told");
        for _ in 0..200 {
            let since = SystemTime::now();
            std::fs::write(&path, []).unwrap();
            assert!(is_since(std::fs::metadata(&path).unwrap().modified().unwrap(), since));
        }
        let since = SystemTime::now();
        assert!(!is_since(since - 2 * FILE_TICK, since));
    }
}
