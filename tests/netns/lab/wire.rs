//! What really passed on an interface: a packet capture that can be waited on.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use etherparse::{
    Icmpv4Slice, Icmpv6Slice, IpNumber, Ipv6ExtensionSlice, LaxNetSlice, LaxSlicedPacket, TcpSlice,
    TransportSlice,
};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType,
    recvmsg, setsockopt, sockopt,
};
use nix::sys::time::TimeSpec;

use super::feed::Feed;
use super::ns::Ns;
use super::raw::{self, Raw};
use super::{Lab, Side, at};

/// How many packets a capture keeps; beyond that, counting refuses to answer.
const ROOM: usize = 200_000;
/// How much of a UDP payload is kept.
const PREFIX: usize = 64;

/// Transport of a seen packet, fragments and extension headers looked through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proto {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6.
    Icmp,
    /// Anything else, by its IP protocol number.
    Other(u8),
}

/// An ICMP message, and the packet it complains about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Icmp {
    /// Its type.
    pub kind: u8,
    /// Its code.
    pub code: u8,
    /// Source and destination of the packet quoted in an error.
    pub about: Option<(SocketAddr, SocketAddr)>,
}

/// One IP packet as it passed.
#[derive(Clone, Debug)]
pub struct Seen {
    /// When, by the kernel's time stamp (not when the capture thread got to it).
    pub at: Instant,
    /// True when it was leaving through the interface, false when it was coming in.
    pub outgoing: bool,
    /// Transport protocol.
    pub proto: Proto,
    /// Source; port 0 where the packet has none (later fragments, cut headers, ICMP).
    pub src: SocketAddr,
    /// Destination, the same.
    pub dst: SocketAddr,
    /// TCP flags.
    pub syn: bool,
    /// TCP flags.
    pub ack: bool,
    /// TCP flags.
    pub rst: bool,
    /// TCP flags.
    pub fin: bool,
    /// TCP sequence number.
    pub seq: u32,
    /// ICMP message.
    pub icmp: Option<Icmp>,
    /// It is a fragment.
    pub fragment: bool,
    /// Bytes of IPv6 extension headers (or IPv4 authentication header).
    pub extensions: usize,
    /// Bytes of the whole IP packet.
    pub len: usize,
    /// The first bytes of a UDP payload.
    pub payload: Vec<u8>,
}

impl Seen {
    /// A first packet of a TCP connection.
    pub fn is_syn(&self) -> bool {
        self.proto == Proto::Tcp && self.syn && !self.ack
    }

    /// A SYN to this address and port.
    pub fn is_syn_to(&self, dst: SocketAddr) -> bool {
        self.is_syn() && self.dst == dst
    }

    /// A UDP datagram to this address and port.
    pub fn is_udp_to(&self, dst: SocketAddr) -> bool {
        self.proto == Proto::Udp && self.dst == dst
    }
}

/// A running capture on one interface; stops when dropped.
#[derive(Debug)]
pub struct Wire {
    seen: Arc<Feed<Seen>>,
    stop: Arc<EventFd>,
    thread: Option<JoinHandle<()>>,
}

impl Wire {
    /// Captures from now on, in both directions, on one interface of a namespace.
    pub fn watch(ns: &Ns, interface: &str) -> Wire {
        let (socket, index) = ns.run(|| open(interface));
        let (seen, stop) = (Arc::new(Feed::new(ROOM)), Arc::new(EventFd::new().expect("eventfd")));
        let thread = std::thread::spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || capture(&socket, index, &seen, &stop)
        });
        Wire { seen, stop, thread: Some(thread) }
    }

    /// The packets themselves, with marks and waits.
    pub fn feed(&self) -> &Feed<Seen> {
        &self.seen
    }

    /// The first match, seen already or still to come.
    pub fn wait_for(&self, matches: impl Fn(&Seen) -> bool, timeout: Duration) -> Option<Seen> {
        self.seen.wait_for(matches, timeout)
    }

    /// Waits until `wanted` packets matched in all; how many did when it returned.
    pub fn wait_count(
        &self,
        wanted: usize,
        matches: impl Fn(&Seen) -> bool,
        timeout: Duration,
    ) -> usize {
        self.seen.wait_count(wanted, matches, timeout)
    }

    /// How many matched of what the capture thread got to so far, which may be a little behind the
    /// wire: for an exact number use [`Wire::wait_count`] (at least) or [`Wire::count_settled`] (at most).
    ///
    /// # Panics
    /// When more came than the capture keeps.
    pub fn count(&self, matches: impl Fn(&Seen) -> bool) -> usize {
        self.seen.count(matches)
    }

    /// Everything so far.
    pub fn all(&self) -> Vec<Seen> {
        self.seen.all()
    }

    /// Forgets everything so far.
    pub fn clear(&self) {
        self.seen.clear();
    }

    /// Does something whose packet must show up here, and waits for that packet.
    ///
    /// # Panics
    /// When it does not within two seconds: then "none seen" proved nothing either.
    pub fn positive_control<T>(
        &self,
        matches: impl Fn(&Seen) -> bool,
        act: impl FnOnce() -> T,
    ) -> (Seen, T) {
        let mark = self.seen.mark();
        let did = act();
        let came = self.seen.wait_after(mark, matches, Duration::from_secs(2));
        (came.expect("positive control: the capture did not see a packet that must pass"), did)
    }

    /// How many matched, once everything that was under way has arrived: a marker frame is put on the
    /// link behind it (below the gateway's firewall) and waited for. For captures at a link's far end.
    ///
    /// # Panics
    /// When the marker does not arrive.
    pub fn count_settled(&self, lab: &Lab, side: Side, matches: impl Fn(&Seen) -> bool) -> usize {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let text = format!("marker {}", NEXT.fetch_add(1, Ordering::Relaxed));
        let marker = raw::udp(at([192, 0, 2, 1], 9), at([192, 0, 2, 77], 9), text.as_bytes());
        self.positive_control(
            |p| p.payload == text.as_bytes(),
            || Raw::from_gateway(lab, side).send(&marker),
        );
        self.count(matches)
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open(interface: &str) -> (OwnedFd, usize) {
    let link = raw::link(interface);
    let socket = nix::sys::socket::socket(
        AddressFamily::Packet,
        SockType::Datagram,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        SockProtocol::EthAll,
    )
    .expect("packet socket");
    nix::sys::socket::bind(socket.as_raw_fd(), &link).expect("bind packet socket");
    setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20)).expect("receive buffer");
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true).expect("time stamps");
    (socket, link.ifindex())
}

fn capture(socket: &OwnedFd, index: usize, seen: &Feed<Seen>, stop: &EventFd) {
    let (mut packet, mut control) = ([0; 65_536], nix::cmsg_space!(TimeSpec));
    loop {
        let mut ready = [
            PollFd::new(socket.as_fd(), PollFlags::POLLIN),
            PollFd::new(stop.as_fd(), PollFlags::POLLIN),
        ];
        match poll(&mut ready, PollTimeout::NONE) {
            Err(Errno::EINTR) => continue,
            other => other.expect("poll"),
        };
        loop {
            let mut room = [IoSliceMut::new(&mut packet)];
            let got = recvmsg::<LinkAddr>(
                socket.as_raw_fd(),
                &mut room,
                Some(&mut control),
                MsgFlags::MSG_DONTWAIT,
            );
            let Ok(got) = got else { break };
            let Some(link) = got.address else { continue };
            let stamp = got.cmsgs().expect("control messages").find_map(|c| match c {
                ControlMessageOwned::ScmTimestampns(t) => Some(Duration::from(t)),
                _ => None,
            });
            let (len, at) = (got.bytes, instant(stamp));
            // Until bind() took effect the socket heard every interface.
            if link.ifindex() == index
                && let Some(one) = parse(&packet[..len], at, link.pkttype())
            {
                seen.push(one);
            }
        }
        let stopped = ready[1].revents().is_some_and(|r| r.contains(PollFlags::POLLIN));
        if stopped {
            return seen.close();
        }
    }
}

/// The wall-clock stamp on this process' monotonic scale.
fn instant(stamp: Option<Duration>) -> Instant {
    let (now, wall) = (Instant::now(), SystemTime::now());
    let age = stamp
        .and_then(|s| wall.duration_since(SystemTime::UNIX_EPOCH + s).ok())
        .unwrap_or_default();
    now.checked_sub(age).unwrap_or(now)
}

fn parse(bytes: &[u8], at: Instant, pkttype: u8) -> Option<Seen> {
    let packet = LaxSlicedPacket::from_ip(bytes).ok()?;
    let (source, destination, extensions, first, payload) = match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => (
            IpAddr::from(ip.header().source_addr()),
            IpAddr::from(ip.header().destination_addr()),
            ip.extensions().auth.map_or(0, |a| a.slice().len()),
            ip.header().fragments_offset().value() == 0,
            ip.payload(),
        ),
        LaxNetSlice::Ipv6(ip) => (
            IpAddr::from(ip.header().source_addr()),
            IpAddr::from(ip.header().destination_addr()),
            ip.extensions().slice().len(),
            !ip.extensions().clone().into_iter().any(|e| match e {
                Ipv6ExtensionSlice::Fragment(f) => f.fragment_offset().value() != 0,
                _ => false,
            }),
            ip.payload(),
        ),
        LaxNetSlice::Arp(_) => return None,
    };
    let proto = match payload.ip_number {
        IpNumber::TCP => Proto::Tcp,
        IpNumber::UDP => Proto::Udp,
        IpNumber::ICMP | IpNumber::IPV6_ICMP => Proto::Icmp,
        IpNumber(other) => Proto::Other(other),
    };
    let mut seen = Seen {
        at,
        outgoing: pkttype == libc::PACKET_OUTGOING,
        proto,
        src: SocketAddr::new(source, 0),
        dst: SocketAddr::new(destination, 0),
        syn: false,
        ack: false,
        rst: false,
        fin: false,
        seq: 0,
        icmp: None,
        fragment: payload.fragmented,
        extensions,
        len: bytes.len(),
        payload: Vec::new(),
    };
    match packet.transport {
        Some(TransportSlice::Tcp(tcp)) => note_tcp(&mut seen, &tcp),
        Some(TransportSlice::Udp(udp)) => {
            seen.src.set_port(udp.source_port());
            seen.dst.set_port(udp.destination_port());
            seen.payload = udp.payload().iter().take(PREFIX).copied().collect();
        }
        Some(TransportSlice::Icmpv4(icmp)) => seen.icmp = Some(icmp4(&icmp)),
        Some(TransportSlice::Icmpv6(icmp)) => seen.icmp = Some(icmp6(&icmp)),
        _ if first && payload.fragmented => match proto {
            // The library leaves fragments alone; the first one carries the transport's header.
            Proto::Tcp => {
                if let Ok(tcp) = TcpSlice::from_slice(payload.payload) {
                    note_tcp(&mut seen, &tcp);
                }
            }
            Proto::Udp => (seen.src, seen.dst) = ports(source, destination, payload.payload)?,
            _ => {}
        },
        _ => {}
    }
    Some(seen)
}

fn note_tcp(seen: &mut Seen, tcp: &TcpSlice<'_>) {
    seen.src.set_port(tcp.source_port());
    seen.dst.set_port(tcp.destination_port());
    (seen.syn, seen.ack, seen.rst, seen.fin) = (tcp.syn(), tcp.ack(), tcp.rst(), tcp.fin());
    seen.seq = tcp.sequence_number();
}

/// The addresses with the ports a TCP or UDP header begins with.
fn ports(src: IpAddr, dst: IpAddr, transport: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let port = |at: usize| Some(u16::from_be_bytes([*transport.get(at)?, *transport.get(at + 1)?]));
    Some((SocketAddr::new(src, port(0)?), SocketAddr::new(dst, port(2)?)))
}

fn icmp4(icmp: &Icmpv4Slice<'_>) -> Icmp {
    let (kind, code) = (icmp.type_u8(), icmp.code_u8());
    let error = matches!(kind, 3 | 4 | 5 | 11 | 12);
    Icmp { kind, code, about: error.then(|| quoted(icmp.payload())).flatten() }
}

fn icmp6(icmp: &Icmpv6Slice<'_>) -> Icmp {
    let (kind, code) = (icmp.type_u8(), icmp.code_u8());
    Icmp { kind, code, about: (kind < 128).then(|| quoted(icmp.payload())).flatten() }
}

/// Addresses and ports of the packet quoted in an ICMP error (which may be cut to eight bytes of transport).
fn quoted(bytes: &[u8]) -> Option<(SocketAddr, SocketAddr)> {
    let packet = LaxSlicedPacket::from_ip(bytes).ok()?;
    let (src, dst): (IpAddr, IpAddr) = match packet.net.as_ref()? {
        LaxNetSlice::Ipv4(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        LaxNetSlice::Ipv6(ip) => {
            (ip.header().source_addr().into(), ip.header().destination_addr().into())
        }
        LaxNetSlice::Arp(_) => return None,
    };
    ports(src, dst, packet.ip_payload()?.payload)
}
