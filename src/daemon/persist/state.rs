//! Whether the registry reaches the disk, as `status` shows it.

use std::io::{self, ErrorKind};
use std::path::Path;

use crate::daemon::clock;
use crate::engine::Wall;

/// Whether the registry reaches the disk. The evidence in memory is as sound without one, so this is no reason to
/// mistrust it: no verdict depends on it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DiskState {
    /// It does, or is not meant to.
    pub ok: bool,
    /// How it is, and what to do if it is not well.
    pub message: String,
    /// Since when.
    pub since: Wall,
}

impl DiskState {
    /// Before anything went wrong.
    pub fn new() -> DiskState {
        DiskState { ok: true, message: String::new(), since: clock::wall() }
    }
}

/// What a person can do about an error.
pub(super) fn remedy(error: &io::Error, state_dir: &Path) -> String {
    let at = state_dir.display();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            format!("make room on the disk of {at}")
        }
        ErrorKind::ReadOnlyFilesystem => format!("make {at} writable again"),
        ErrorKind::PermissionDenied => format!("let root write to {at}"),
        ErrorKind::NotFound | ErrorKind::NotADirectory => format!("do not remove what is in {at}"),
        _ => format!("look after the disk of {at}"),
    }
}

/// True if a disk that fails so may be writable later, and the daemon does its work without it.
pub(super) fn may_mend(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::StorageFull
            | ErrorKind::QuotaExceeded
            | ErrorKind::ReadOnlyFilesystem
            | ErrorKind::PermissionDenied
            | ErrorKind::StaleNetworkFileHandle
    ) || error.raw_os_error() == Some(nix::libc::EIO)
}
