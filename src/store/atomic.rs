//! Write, fsync, rename, fsync of the folder.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// Replaces `path` by what `write` writes; readers see the old content or the new, never a part. Mode 0600.
///
/// # Errors
/// Whatever `write` or the file system says; `path` is then untouched.
pub fn write_atomically(
    path: &Path,
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
