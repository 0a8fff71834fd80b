//! A network namespace of our own behind a link to this host, whose packets this host forwards as it does a container's.

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recv, sendto,
    socket,
};

use super::link::{Link, Links};
use crate::engine::canary::Place;
use crate::engine::net::Family;

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
    /// Whether this host forwards each family; opened outside, where it stays. Nothing where the kernel has no such family.
    forward: [Option<File>; 2],
    /// Whether this host has IPv6 switched off, likewise.
    off6: Option<File>,
    index: u32,
    inside: Inside,
    /// Why the link has no IPv6, though it was to have it.
    lacks: Option<String>,
}

/// What the calling thread has of the namespace it is in.
struct Inside {
    ways: Vec<Way>,
    namespace: File,
}

/// Sockets for the packets of one family.
struct Way {
    family: Family,
    sends: OwnedFd,
    hears: OwnedFd,
}

impl Way {
    fn open(family: Family) -> Result<Way, NamespaceError> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let (inet, ip) = match family {
            Family::V4 => (AddressFamily::Inet, SockProtocol::EthIp),
            Family::V6 => (AddressFamily::Inet6, SockProtocol::EthIpv6),
        };
        let open = |of, kind, protocol| socket(of, kind, flags, Some(protocol));
        let sends = open(inet, SockType::Raw, SockProtocol::Raw).map_err(io::Error::from);
        let hears = open(AddressFamily::Packet, SockType::Datagram, ip).map_err(io::Error::from);
        Ok(Way {
            family,
            sends: sends.map_err(failed("open a raw socket"))?,
            hears: hears.map_err(failed("open a packet socket"))?,
        })
    }
}

impl Inside {
    /// Takes the calling thread into another namespace.
    fn enter(places: &[Place]) -> Result<Inside, NamespaceError> {
        unshare(CloneFlags::CLONE_NEWNET)
            .map_err(io::Error::from)
            .map_err(failed("make a network namespace"))?;
        let namespace =
            File::open("/proc/thread-self/ns/net").map_err(failed("see our network namespace"))?;
        let ways =
            places.iter().map(|place| Way::open(place.family())).collect::<Result<_, _>>()?;
        Ok(Inside { ways, namespace })
    }

    /// A link from outside to here; its number there.
    fn link(&self, outside: &mut Links) -> Result<u32, NamespaceError> {
        outside
            .add_pair(LINK, PEER, self.namespace.as_fd())
            .map_err(failed("make a pair of links (veth)"))?;
        found(outside, LINK).map(|link| link.index)
    }
}

impl Namespace {
    /// Makes it, for a place of each family that is to have packets. The calling thread is inside from then on, also if
    /// this fails: it has to be a thread for this alone.
    ///
    /// # Errors
    /// [`NamespaceError`]; nothing is left behind. A link that cannot have IPv6 is none: see [`Namespace::lacks`].
    pub fn enter(places: &[Place]) -> Result<Namespace, NamespaceError> {
        let mut outside = Links::open().map_err(failed("ask the kernel for links"))?;
        clear(&mut outside)?;
        let [v4, v6, off6] =
            ["ipv4/ip_forward", "ipv6/conf/all/forwarding", "ipv6/conf/all/disable_ipv6"]
                .map(|name| File::open(format!("/proc/sys/net/{name}")).ok());
        let inside = Inside::enter(places)?;
        let index = inside.link(&mut outside)?;
        let mut made = Namespace { outside, forward: [v4, v6], off6, index, inside, lacks: None };
        made.connect(places)?;
        Ok(made)
    }

    /// Makes another in its stead, with a link of its own. The calling thread, which has to be the one that made it, is
    /// inside that one from then on.
    ///
    /// # Errors
    /// [`NamespaceError`]; there may be no link then, and it can be tried again.
    pub fn renew(&mut self, places: &[Place]) -> Result<(), NamespaceError> {
        // Somebody may have taken it away, or given it another name.
        let _ = self.outside.remove(self.index);
        clear(&mut self.outside)?;
        self.inside = Inside::enter(places)?;
        self.index = self.inside.link(&mut self.outside)?;
        self.connect(places)
    }

    /// Why there is no IPv6 on the link, though a place for it was given.
    pub fn lacks(&self) -> Option<&str> {
        self.lacks.as_deref()
    }

    /// Addresses and routes on both ends.
    fn connect(&mut self, places: &[Place]) -> Result<(), NamespaceError> {
        let mut inside = Links::open().map_err(failed("ask the kernel for links"))?;
        let peer = found(&mut inside, PEER)?;
        let outside = &mut self.outside;
        let mut set_up = || {
            outside.sign(self.index, ALIAS)?;
            inside.sign(peer.index, ALIAS)?;
            // A container that sends here is not to have its packet sent back and forth until its time to live is over.
            inside.forward_nothing(peer.index)?;
            outside.up(self.index)?;
            inside.up(peer.index)
        };
        set_up().map_err(failed("set up the link"))?;
        let here = found(&mut self.outside, LINK)?;
        self.lacks = None;
        for place in places {
            let added = add(&mut self.outside, &here, &mut inside, &peer, *place);
            match (added, place.family()) {
                (Ok(()), _) => {}
                (Err(error), Family::V4) => return Err(failed("set up the link")(error)),
                (Err(error), Family::V6) => self.lacks = Some(error.to_string()),
            }
        }
        Ok(())
    }

    /// Whether this host forwards packets of a family; true where it cannot be told.
    pub fn is_forwarding(&self, family: Family) -> bool {
        let [v4, v6] = &self.forward;
        let file = if family == Family::V4 { v4 } else { v6 };
        setting(file.as_ref()) != Some(b'0')
    }

    /// Whether this host has IPv6 switched off; false where it cannot be told.
    pub fn is_without_ipv6(&self) -> bool {
        setting(self.off6.as_ref()).is_some_and(|off| off != b'0')
    }

    /// Sends a packet, header and all.
    ///
    /// # Errors
    /// What the system says.
    pub fn send(&self, packet: &[u8], to: IpAddr) -> io::Result<()> {
        let to_port_0 = SockaddrStorage::from(std::net::SocketAddr::new(to, 0));
        let way = self.way(Family::of(to))?;
        sendto(way.sends.as_raw_fd(), packet, &to_port_0, MsgFlags::empty())?;
        Ok(())
    }

    fn way(&self, family: Family) -> io::Result<&Way> {
        let way = self.inside.ways.iter().find(|way| way.family == family);
        way.ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    /// The next packet of a family that arrives within `patience`.
    ///
    /// # Errors
    /// What the system says.
    pub fn receive(&self, family: Family, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        let way = self.way(family)?;
        let mut ready = [PollFd::new(way.hears.as_fd(), PollFlags::POLLIN)];
        let patience = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
        match poll(&mut ready, patience) {
            Ok(0) | Err(Errno::EINTR) => return Ok(None),
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut packet = vec![0; PACKET_BYTES_MAX];
        match recv(way.hears.as_raw_fd(), &mut packet, MsgFlags::MSG_DONTWAIT) {
            Ok(length) => {
                packet.truncate(length);
                Ok(Some(packet))
            }
            Err(Errno::EAGAIN | Errno::ENETDOWN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

/// The first letter of a file of the kernel's, as it is now.
fn setting(file: Option<&File>) -> Option<u8> {
    let mut text = [0; 1];
    file?.read_at(&mut text, 0).ok().filter(|read| *read == 1).map(|_| text[0])
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

/// What a place has on both ends of the link. IPv6 would ask who has an address by addresses of its own, of which there
/// are none on this link, so it is told.
fn add(
    outside: &mut Links,
    here: &Link,
    inside: &mut Links,
    there: &Link,
    place: Place,
) -> io::Result<()> {
    let (host, sender, bits) = (place.host(), place.sender(), place.link().prefix());
    outside.add_address(here.index, host, bits)?;
    inside.add_address(there.index, sender, bits)?;
    if place.family() == Family::V6 {
        outside.add_neighbour(here.index, sender, &there.mac)?;
        inside.add_neighbour(there.index, host, &here.mac)?;
    }
    inside.add_route(None, host, there.index)?;
    outside.add_route(Some(place.destinations()), sender, here.index)
}

fn found(links: &mut Links, name: &str) -> Result<Link, NamespaceError> {
    let found = links.find(name).map_err(failed("find our own link"))?;
    found.ok_or_else(|| failed("find our own link")(io::ErrorKind::NotFound.into()))
}

fn failed(what: &'static str) -> impl Fn(io::Error) -> NamespaceError {
    move |error| match error.kind() {
        io::ErrorKind::PermissionDenied => NamespaceError::NotPermitted,
        _ => NamespaceError::System(what, error),
    }
}
