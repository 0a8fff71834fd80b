//! The socket in the file system: its owner's and a group's, nobody else's at any moment, never in the way of a living one's.

use std::fs::symlink_metadata;
use std::io;
use std::os::fd::{AsFd, AsRawFd as _, BorrowedFd};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, AtFlags, OFlag};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, connect, listen, socket,
};
use nix::sys::stat::{FchmodatFlags, Mode, fchmod, fchmodat, fstat};
use nix::unistd::{Gid, fchownat};

/// Connections the kernel keeps for us until they are accepted.
const BACKLOG: i32 = 16;
/// Bytes of a socket's path: `sun_path` has 108, the last of them 0.
const PATH_BYTES_MAX: usize = 107;

/// A socket that is listened on. Dropping it takes it away.
#[derive(Debug)]
pub struct Listener {
    socket: UnixListener,
    path: PathBuf,
    inode: Option<u64>,
}

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The kernel takes no such path.
    #[error("{path} has {} bytes, and the path of a socket may have {PATH_BYTES_MAX}: choose a shorter --state-dir", path.as_os_str().len())]
    PathTooLong {
        /// The path.
        path: PathBuf,
    },
    /// Somebody listens there.
    #[error("{0} is another daemon's, and it listens")]
    Living(PathBuf),
    /// There is something else.
    #[error("{0} is no socket: move it away")]
    NoSocket(PathBuf),
    /// It cannot be given to the group.
    #[error(
        "cannot give {path} to the group of --control-group: {source}; synhold needs CAP_CHOWN for that"
    )]
    Group {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The system said no.
    #[error("cannot listen on {path}: {source}")]
    Io {
        /// The path.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

impl Listener {
    /// Listens at `path`, for its owner and the members of `group`. What a daemon that is no more has left there is replaced.
    ///
    /// # Errors
    /// [`ListenError`]; what is at the path stays as it was.
    pub fn bind(path: &Path, group: Option<Gid>) -> Result<Listener, ListenError> {
        let address = address(path)?;
        let failed = |error: Errno| ListenError::Io { path: path.to_owned(), source: error.into() };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)?;
        // The file gets the mode of its socket, so there is no moment in which it has another.
        fchmod(&socket, Mode::S_IRUSR | Mode::S_IWUSR).map_err(failed)?;
        match bind(socket.as_raw_fd(), &address) {
            Err(Errno::EADDRINUSE) => {
                clear(path, &address)?;
                bind(socket.as_raw_fd(), &address).map_err(failed)?;
            }
            other => other.map_err(failed)?,
        }
        let inode = symlink_metadata(path).map(|there| there.ino()).ok();
        let listener =
            Listener { socket: UnixListener::from(socket), path: path.to_owned(), inode };
        if let Some(group) = group {
            // Nobody can connect yet: nobody listens.
            share(path, inode, group)
                .map_err(|source| ListenError::Group { path: path.to_owned(), source })?;
        }
        let backlog = Backlog::new(BACKLOG).map_err(failed)?;
        listen(&listener.socket, backlog).map_err(failed)?;
        Ok(listener)
    }

    /// The next connection, nothing if none waits.
    ///
    /// # Errors
    /// If the system gives no descriptor.
    pub(super) fn accept(&self) -> io::Result<Option<UnixStream>> {
        match self.socket.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                Ok(Some(stream))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Not what somebody else has put there since.
        let there = symlink_metadata(&self.path).map(|there| there.ino()).ok();
        if there.is_some() && there == self.inode {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Gives the socket of this inode to a group, which it had no part in before: the group first, then the mode. What
/// somebody may have put there since is left alone.
fn share(path: &Path, inode: Option<u64>, group: Gid) -> io::Result<()> {
    let there = nix::fcntl::open(
        path,
        OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC,
        Mode::empty(),
    )?;
    if inode != Some(fstat(&there)?.st_ino) {
        return Err(io::Error::other("something else is there now"));
    }
    fchownat(&there, "", None, Some(group), AtFlags::AT_EMPTY_PATH)?;
    let by_descriptor = format!("/proc/self/fd/{}", there.as_raw_fd());
    let mode = Mode::S_IRUSR | Mode::S_IWUSR | Mode::S_IRGRP | Mode::S_IWGRP;
    Ok(fchmodat(AT_FDCWD, by_descriptor.as_str(), mode, FchmodatFlags::FollowSymlink)?)
}

pub(super) fn address(path: &Path) -> Result<UnixAddr, ListenError> {
    if path.as_os_str().len() > PATH_BYTES_MAX {
        return Err(ListenError::PathTooLong { path: path.to_owned() });
    }
    let io = |error: Errno| ListenError::Io { path: path.to_owned(), source: error.into() };
    UnixAddr::new(path).map_err(io)
}

/// Takes away a socket that nobody listens on.
fn clear(path: &Path, address: &UnixAddr) -> Result<(), ListenError> {
    let failed = |source| ListenError::Io { path: path.to_owned(), source };
    match symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => {
            return Err(ListenError::NoSocket(path.to_owned()));
        }
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(failed(error)),
    }
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None);
    let probe = probe.map_err(|error| failed(error.into()))?;
    match connect(probe.as_raw_fd(), address) {
        Err(Errno::ECONNREFUSED) => std::fs::remove_file(path).map_err(failed),
        // It is so busy that it accepts nobody at the moment.
        Ok(()) | Err(Errno::EAGAIN) => Err(ListenError::Living(path.to_owned())),
        Err(error) => Err(failed(error.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("control.sock");
        (dir, path)
    }

    #[test]
    fn it_is_its_owners_alone_and_goes_with_its_listener() {
        let (_dir, path) = place();
        let listener = Listener::bind(&path, None).unwrap();
        let there = symlink_metadata(&path).unwrap();
        assert_eq!(there.permissions().mode() & 0o777, 0o600);
        assert!(there.file_type().is_socket());
        drop(listener);
        assert!(!path.exists());
    }

    #[test]
    fn a_group_gets_it_and_what_somebody_put_in_its_place_is_not_touched() {
        let (dir, path) = place();
        let own = Gid::current();
        let _listener = Listener::bind(&path, Some(own)).unwrap();
        let there = symlink_metadata(&path).unwrap();
        assert_eq!((there.permissions().mode() & 0o777, there.gid()), (0o660, own.as_raw()));
        let precious = dir.path().join("precious");
        std::fs::write(&precious, "").unwrap();
        std::fs::set_permissions(&precious, std::fs::Permissions::from_mode(0o600)).unwrap();
        let link = dir.path().join("link.sock");
        std::os::unix::fs::symlink(&precious, &link).unwrap();
        assert!(share(&link, Some(there.ino()), own).is_err());
        assert_eq!(symlink_metadata(&precious).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn what_a_dead_daemon_left_is_replaced_and_a_living_ones_is_not() {
        let (_dir, path) = place();
        drop(UnixListener::bind(&path).unwrap());
        assert!(path.exists(), "nobody took it away");
        let living = Listener::bind(&path, None).unwrap();
        assert!(matches!(Listener::bind(&path, None), Err(ListenError::Living(_))));
        // Even one that is too busy to accept.
        let mut waiting = Vec::new();
        loop {
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            let one = socket(AddressFamily::Unix, SockType::Stream, flags, None).unwrap();
            match connect(one.as_raw_fd(), &address(&path).unwrap()) {
                Ok(()) => waiting.push(one),
                Err(error) => break assert_eq!(error, Errno::EAGAIN),
            }
        }
        assert!(matches!(Listener::bind(&path, None), Err(ListenError::Living(_))));
        drop(living);
    }

    #[test]
    fn what_is_no_socket_stays() {
        let (dir, path) = place();
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Listener::bind(&path, None), Err(ListenError::NoSocket(_))));
        assert_eq!(std::fs::read(&path).unwrap(), b"precious");
        let link = dir.path().join("link.sock");
        std::os::unix::fs::symlink(&path, &link).unwrap();
        assert!(matches!(Listener::bind(&link, None), Err(ListenError::NoSocket(_))));
    }

    #[test]
    fn somebody_elses_socket_at_the_same_place_stays() {
        let (_dir, path) = place();
        let first = Listener::bind(&path, None).unwrap();
        std::fs::remove_file(&path).unwrap();
        // Held, or its number would be given to the next.
        let _second = UnixListener::bind(&path).unwrap();
        drop(first);
        assert!(path.exists());
    }

    #[test]
    fn a_path_that_is_too_long_says_what_to_do() {
        let (dir, _) = place();
        let path = dir.path().join("x".repeat(PATH_BYTES_MAX));
        let error = Listener::bind(&path, None).unwrap_err().to_string();
        assert!(error.contains("may have 107: choose a shorter --state-dir"), "{error}");
        assert!(Listener::bind(&dir.path().join("nowhere/control.sock"), None).is_err());
    }
}
