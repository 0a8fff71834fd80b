//! A network namespace of our own behind a link to this host, whose packets this host forwards as it does a container's.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto, socket,
};

use super::link::Links;
use crate::engine::canary::Place;

/// Name of the link's end on this host.
pub const LINK: &str = "synhold-canary";
/// What is written on it: a link of that name without it is somebody else's.
const ALIAS: &str = "synhold canary: a test of every minute";
/// Name of its other end.
const PEER: &str = "eth0";
/// The longest packet that is read: a refusal by ICMP quotes a whole SYN.
const PACKET_BYTES_MAX: usize = 2048;

/// Why there is none.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// We may not.
    #[error(
        "making a network namespace needs CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW: give them to the service, or say --canary off"
    )]
    NotPermitted,
    /// The name is taken.
    #[error("an interface {LINK} is there that is not synhold's: rename it, or say --canary off")]
    Taken,
    /// The system says no.
    #[error("cannot {0}: {1}")]
    System(&'static str, io::Error),
}

/// The namespace and the link to it. Dropped, both are gone; if we are killed, the kernel takes them away.
pub struct Namespace {
    outside: Links,
    /// Whether this host forwards; opened outside, where it stays.
    forward: File,
    index: u32,
    inside: Inside,
}

/// What the calling thread has of the namespace it is in.
struct Inside {
    sends: OwnedFd,
    hears: OwnedFd,
    namespace: File,
}

impl Inside {
    /// Takes the calling thread into another namespace.
    fn enter() -> Result<Inside, NamespaceError> {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(io::Error::from)
            .map_err(failed("make a network namespace"))?;
        let namespace =
            File::open("/proc/thread-self/ns/net").map_err(failed("see our network namespace"))?;
        let raw = |kind, protocol| {
            let family =
                if kind == SockType::Raw { AddressFamily::Inet } else { AddressFamily::Packet };
            let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
            socket(family, kind, flags, Some(protocol)).map_err(io::Error::from)
        };
        let sends = raw(SockType::Raw, SockProtocol::Raw).map_err(failed("open a raw socket"))?;
        let hears =
            raw(SockType::Datagram, SockProtocol::EthIp).map_err(failed("open a packet socket"))?;
        Ok(Inside { sends, hears, namespace })
    }

    /// A link from outside to here; its number there.
    fn link(&self, outside: &mut Links) -> Result<u32, NamespaceError> {
        outside
            .add_pair(LINK, PEER, self.namespace.as_fd())
            .map_err(failed("make a pair of links (veth)"))?;
        index_of(outside, LINK)
    }
}

impl Namespace {
    /// Makes it. The calling thread is inside from then on, also if this fails: it has to be a thread for this alone.
    ///
    /// # Errors
    /// [`NamespaceError`]; nothing is left behind.
    pub fn enter(place: Place) -> Result<Namespace, NamespaceError> {
        let mut outside = Links::open().map_err(failed("ask the kernel for links"))?;
        clear(&mut outside)?;
        let forward =
            File::open("/proc/sys/net/ipv4/ip_forward").map_err(failed("see what is forwarded"))?;
        let inside = Inside::enter()?;
        let index = inside.link(&mut outside)?;
        let mut made = Namespace { outside, forward, index, inside };
        made.connect(place)?;
        Ok(made)
    }

    /// Makes another in its stead, with a link of its own. The calling thread, which has to be the one that made it, is
    /// inside that one from then on.
    ///
    /// # Errors
    /// [`NamespaceError`]; there may be no link then, and it can be tried again.
    pub fn renew(&mut self, place: Place) -> Result<(), NamespaceError> {
        // Somebody may have taken it away, or given it another name.
        let _ = self.outside.remove(self.index);
        clear(&mut self.outside)?;
        self.inside = Inside::enter()?;
        self.index = self.inside.link(&mut self.outside)?;
        self.connect(place)
    }

    /// Addresses and routes on both ends.
    fn connect(&mut self, place: Place) -> Result<(), NamespaceError> {
        let mut inside = Links::open().map_err(failed("ask the kernel for links"))?;
        let peer = index_of(&mut inside, PEER)?;
        let (host, sender, bits) = (place.host(), place.sender(), place.link_bits());
        let outside = &mut self.outside;
        let mut set_up = || {
            outside.sign(self.index, ALIAS)?;
            inside.sign(peer, ALIAS)?;
            outside.add_address(self.index, host, bits)?;
            inside.add_address(peer, sender, bits)?;
            outside.up(self.index)?;
            inside.up(peer)?;
            inside.add_route(None, host, peer)?;
            outside.add_route(Some(place.destinations()), sender, self.index)
        };
        set_up().map_err(failed("set up the link"))
    }

    /// Whether this host forwards IPv4 packets; true where it cannot be told.
    pub fn is_forwarding(&self) -> bool {
        let mut text = [0; 1];
        self.forward.read_at(&mut text, 0).is_err() || text != *b"0"
    }

    /// Sends an IPv4 packet, header and all.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&self, packet: &[u8], to: Ipv4Addr) -> io::Result<()> {
        let [a, b, c, d] = to.octets();
        let to = SockaddrIn::new(a, b, c, d, 0);
        sendto(self.inside.sends.as_raw_fd(), packet, &to, MsgFlags::empty())?;
        Ok(())
    }

    /// The next IPv4 packet that arrives within `patience`.
    ///
    /// # Errors
    /// What the system says.
    pub fn receive(&self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        let mut ready = [PollFd::new(self.inside.hears.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, patience) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut packet = vec![0; PACKET_BYTES_MAX];
        match recv(self.inside.hears.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => {
                packet.truncate(length);
                Ok(Some(packet))
            }
            Err(Errno::EAGAIN | Errno::ENETDOWN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // By its number: somebody may have given the name to another link meanwhile.
        if let Err(error) = self.outside.remove(self.index) {
            tracing::debug!("the link {LINK} goes with its namespace: {error}");
        }
    }
}

/// Takes away what a run has left that was killed a moment ago.
fn clear(outside: &mut Links) -> Result<(), NamespaceError> {
    let found = outside.find(LINK).map_err(failed("look for links"))?;
    match found {
        None => Ok(()),
        // Killed before it was signed, it would be gone with its namespace.
        Some(link) if link.alias == ALIAS => {
            outside.remove(link.index).map_err(failed("remove an old link"))
        }
        Some(_) => Err(NamespaceError::Taken),
    }
}

fn index_of(links: &mut Links, name: &str) -> Result<u32, NamespaceError> {
    let missing = || failed("find our own link")(io::ErrorKind::NotFound.into());
    links
        .find(name)
        .map_err(failed("find our own link"))?
        .map(|link| link.index)
        .ok_or_else(missing)
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> NamespaceError {
    move |error| match error.kind() {
        io::ErrorKind::PermissionDenied => NamespaceError::NotPermitted,
        _ => NamespaceError::System(what, error),
    }
}
