//! Secrets: read from files that nobody else can read, when they are needed, and never shown.

use std::fmt;
use std::fs::OpenOptions;
use std::io::Read as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Bytes of a secret; keys and passwords have some dozens.
const BYTES_MAX: u64 = 4096;

/// Where a secret is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretFile(pub PathBuf);

/// A secret that was read.
pub struct Secret(Vec<u8>);

impl SecretFile {
    /// Reads it anew, so that a new secret needs no restart. A line end behind it does not count.
    ///
    /// # Errors
    /// In one line, without a word of what is in it: it cannot be read, others can read it, or it is empty.
    pub fn read(&self) -> Result<Secret, String> {
        let wrong = |why: &dyn fmt::Display| format!("{}: {why}", self.0.display());
        let file = open(&self.0).map_err(|error| wrong(&error))?;
        let found = file.metadata().map_err(|error| wrong(&error))?;
        if !found.is_file() {
            return Err(wrong(&"is no file"));
        }
        let own = nix::unistd::geteuid().as_raw();
        if ![0, own].contains(&found.uid()) {
            return Err(wrong(&"belongs to another user: chown root"));
        }
        if found.mode() & 0o077 != 0 {
            return Err(wrong(&"can be read or written by others: chmod 0600"));
        }
        let mut text = Vec::new();
        file.take(BYTES_MAX + 1).read_to_end(&mut text).map_err(|error| wrong(&error))?;
        while matches!(text.last(), Some(b'\n' | b'\r')) {
            text.pop();
        }
        match u64::try_from(text.len()) {
            Ok(0) => Err(wrong(&"is empty")),
            Ok(1..=BYTES_MAX) => Ok(Secret(text)),
            _ => Err(wrong(&"is longer than a secret is")),
        }
    }
}

/// Not waiting for a writer if it is a FIFO.
fn open(path: &Path) -> std::io::Result<std::fs::File> {
    OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(path)
}

impl Secret {
    /// Its bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// The same as text.
    ///
    /// # Errors
    /// If it is none.
    pub fn text(&self) -> Result<String, String> {
        String::from_utf8(self.0.clone()).map_err(|_| "the secret is no UTF-8".to_owned())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(...)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::alert::testing::secret;

    #[test]
    fn what_others_can_read_is_no_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = secret(folder.path(), "hunter2\n");
        let file = SecretFile(path.clone());
        let read = file.read().unwrap();
        assert_eq!((read.bytes(), format!("{read:?}").as_str()), (&b"hunter2"[..], "Secret(...)"));
        for mode in [0o640, 0o604, 0o620] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let error = file.read().unwrap_err();
            assert!(error.ends_with("chmod 0600") && !error.contains("hunter2"), "{error}");
        }
        let empty = SecretFile(secret(&tempfile::tempdir().unwrap().keep(), "\n"));
        assert!(empty.read().unwrap_err().ends_with("is empty"));
        std::fs::remove_dir_all(empty.0.parent().unwrap()).unwrap();
        assert!(SecretFile(folder.path().to_owned()).read().unwrap_err().ends_with("is no file"));
        assert!(SecretFile("/nowhere".into()).read().unwrap_err().starts_with("/nowhere: "));
    }
}
