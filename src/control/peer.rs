//! Who asks, as the kernel knows them.

use std::os::fd::{AsRawFd as _, RawFd};
use std::os::unix::net::UnixStream;

use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};

/// The user of a client that the kernel does not name: no user has this number.
const UNKNOWN: u32 = u32::MAX;

/// A client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its connection, apart from all others while it lasts.
    pub connection: RawFd,
    /// Its user.
    pub uid: u32,
    /// Its process, as it was when it connected; 0 is none that can be seen from here.
    pub pid: u32,
    /// It may change things: it is root, or the daemon's own user. Whoever else could connect was let in by the mode of
    /// the socket.
    pub may_change: bool,
}

impl Peer {
    /// The other end of a connection.
    pub(super) fn of(stream: &UnixStream) -> Peer {
        let told = getsockopt(stream, PeerCredentials).ok();
        let (uid, pid) = told.map_or((UNKNOWN, 0), |peer| (peer.uid(), peer.pid()));
        Peer {
            connection: stream.as_raw_fd(),
            uid,
            pid: u32::try_from(pid).unwrap_or(0),
            may_change: is_master(uid, nix::unistd::geteuid().as_raw()),
        }
    }
}

fn is_master(uid: u32, own: u32) -> bool {
    uid == 0 || uid == own
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_and_the_daemons_user_may_change_things() {
        assert!(is_master(0, 0) && is_master(0, 997) && is_master(997, 997));
        assert!(!is_master(1000, 0) && !is_master(1000, 997) && !is_master(UNKNOWN, 0));
    }

    #[test]
    fn the_kernel_says_who_it_is() {
        let (near, _far) = UnixStream::pair().unwrap();
        let peer = Peer::of(&near);
        let own = nix::unistd::geteuid().as_raw();
        assert_eq!((peer.uid, peer.pid, peer.may_change), (own, std::process::id(), true));
        assert_eq!(peer.connection, near.as_raw_fd());
    }
}
