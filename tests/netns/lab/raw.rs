//! Hand-made packets put on a link as they are: spoofed sources, fragments, cut headers, thousands a second.

use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use etherparse::{IpHeaders, IpNumber, Ipv4Header, Ipv6Header, PacketBuilder, TcpHeader};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, LinkAddr, MsgFlags, SockFlag, SockType, send};

use super::ns::Ns;
use super::{Lab, Side};

/// A sender of finished IP packets on one link; frames go past the sending side's own netfilter.
#[derive(Debug)]
pub struct Raw {
    socket: OwnedFd,
    to: [u8; 6],
    from: [u8; 6],
}

impl Raw {
    /// Sends from the far end of a link (container, neighbour, server) to the gateway.
    pub fn to_gateway(lab: &Lab, side: Side) -> Raw {
        Raw::open(lab.end(side), "eth0", side.end_mac(), side.gw_mac())
    }

    /// Sends from the gateway's end of a link, below its firewall.
    pub fn from_gateway(lab: &Lab, side: Side) -> Raw {
        Raw::open(&lab.gw, side.gw_if(), side.gw_mac(), side.end_mac())
    }

    /// Sends from a container of an engine to the gateway's bridge.
    pub fn from_container(lab: &Lab, container: &Ns, bridge: &str) -> Raw {
        let mac = |ns: &Ns, interface| ns.run(|| link(interface).addr().expect("a MAC address"));
        let (from, to) = (mac(container, "eth0"), mac(&lab.gw, bridge));
        Raw::open(container, "eth0", from, to)
    }

    fn open(ns: &Ns, interface: &str, from: [u8; 6], to: [u8; 6]) -> Raw {
        let socket = ns.run(|| {
            let socket = nix::sys::socket::socket(
                AddressFamily::Packet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                None, // hears nothing
            )
            .expect("packet socket");
            nix::sys::socket::bind(socket.as_raw_fd(), &link(interface)).expect("bind");
            socket
        });
        Raw { socket, to, from }
    }

    /// Sends one IP packet as it is.
    pub fn send(&self, packet: &[u8]) {
        let kind: [u8; 2] = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
        let frame = [&self.to[..], &self.from, &kind, packet].concat();
        loop {
            match send(self.socket.as_raw_fd(), &frame, MsgFlags::empty()) {
                Ok(_) => return,
                Err(Errno::ENOBUFS | Errno::EINTR) => std::thread::yield_now(),
                Err(e) => panic!("send {} bytes: {e}", packet.len()),
            }
        }
    }

    /// Sends many, evenly spread at a pace (0: as fast as it goes); how long it took.
    pub fn send_all(
        &self,
        packets: impl IntoIterator<Item = impl AsRef<[u8]>>,
        per_second: u32,
    ) -> Duration {
        let start = Instant::now();
        for (n, packet) in packets.into_iter().enumerate() {
            if per_second > 0 {
                let due = Duration::from_secs(n as u64) / per_second;
                // Sleeping is coarse: a few packets leave together each millisecond.
                let early = due.saturating_sub(start.elapsed());
                if early > Duration::from_millis(1) {
                    std::thread::sleep(early);
                }
            }
            self.send(packet.as_ref());
        }
        start.elapsed()
    }
}

/// The link-layer address of an interface of the calling thread's namespace.
pub(super) fn link(interface: &str) -> LinkAddr {
    nix::ifaddrs::getifaddrs()
        .expect("interfaces")
        .filter(|i| i.interface_name == interface)
        .find_map(|i| i.address?.as_link_addr().copied())
        .unwrap_or_else(|| panic!("no interface {interface}"))
}

fn ip(src: IpAddr, dst: IpAddr) -> IpHeaders {
    match (src, dst) {
        (IpAddr::V4(src), IpAddr::V4(dst)) => {
            let header = Ipv4Header::new(0, 64, IpNumber::TCP, src.octets(), dst.octets());
            IpHeaders::Ipv4(header.expect("header"), Default::default())
        }
        (IpAddr::V6(src), IpAddr::V6(dst)) => {
            let header = Ipv6Header {
                hop_limit: 64,
                source: src.octets(),
                destination: dst.octets(),
                ..Default::default()
            };
            IpHeaders::Ipv6(header, Default::default())
        }
        _ => panic!("{src} and {dst} are of different families"),
    }
}

/// A TCP SYN.
pub fn syn(src: SocketAddr, dst: SocketAddr, seq: u32) -> Vec<u8> {
    tcp(src, dst, &[], |header| {
        header.syn = true;
        header.sequence_number = seq;
    })
}

/// An ACK out of nowhere, as from a connection older than the firewall.
pub fn ack(src: SocketAddr, dst: SocketAddr, seq: u32, ack: u32) -> Vec<u8> {
    tcp(src, dst, &[], |header| {
        header.ack = true;
        header.sequence_number = seq;
        header.acknowledgment_number = ack;
    })
}

/// Any TCP segment: `shape` sets flags and numbers.
pub fn tcp(
    src: SocketAddr,
    dst: SocketAddr,
    payload: &[u8],
    shape: impl FnOnce(&mut TcpHeader),
) -> Vec<u8> {
    let mut header = TcpHeader::new(src.port(), dst.port(), 0, 64_240);
    shape(&mut header);
    let step = PacketBuilder::ip(ip(src.ip(), dst.ip())).tcp_header(header);
    let mut packet = vec![0; step.size(payload.len())];
    step.write_to_slice(&mut packet, payload).expect("room");
    packet
}

/// A UDP datagram.
pub fn udp(src: SocketAddr, dst: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let step = PacketBuilder::ip(ip(src.ip(), dst.ip())).udp(src.port(), dst.port());
    let mut packet = vec![0; step.size(payload.len())];
    step.write_to_slice(&mut packet, payload).expect("room");
    packet
}

/// An IPv6 extension header to put in front of the transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ext {
    /// Hop-by-hop options, padding only; must come first.
    HopByHop,
    /// Destination options, padding only, of `8 * (1 + n)` bytes.
    DestinationOptions(u8),
    /// A routing header of an unknown type with no segments left, which everyone passes.
    Routing,
}

impl Ext {
    fn number(self) -> u8 {
        match self {
            Ext::HopByHop => 0,
            Ext::DestinationOptions(_) => 60,
            Ext::Routing => 43,
        }
    }

    fn bytes(self, next: u8) -> Vec<u8> {
        match self {
            Ext::Routing => vec![next, 0, 253, 0, 0, 0, 0, 0],
            Ext::HopByHop => vec![next, 0, 1, 4, 0, 0, 0, 0],
            Ext::DestinationOptions(n) => {
                let mut bytes = vec![0; 8 * (1 + usize::from(n))]; // zeros are Pad1 options
                bytes[..2].copy_from_slice(&[next, n]);
                bytes
            }
        }
    }
}

/// Puts extension headers into a finished IPv6 packet, in the order given.
pub fn with_extensions(packet: &[u8], chain: &[Ext]) -> Vec<u8> {
    assert_eq!(packet[0] >> 4, 6, "extension headers are IPv6's");
    let mut next = packet[6];
    let mut body = packet[40..].to_vec();
    for ext in chain.iter().rev() {
        body = [ext.bytes(next), body].concat();
        next = ext.number();
    }
    let mut whole = [&packet[..40], &body].concat();
    whole[6] = next;
    with_length(whole)
}

/// Cuts a finished packet (IPv4 or IPv6, extension headers ahead of the cut untouched) into two fragments.
/// The first carries `first` bytes of payload, a multiple of eight.
pub fn fragments(packet: &[u8], first: usize, id: u16) -> [Vec<u8>; 2] {
    assert!(first > 0 && first.is_multiple_of(8), "fragments are cut at multiples of eight");
    let header = if packet[0] >> 4 == 4 { usize::from(packet[0] & 15) * 4 } else { 40 };
    let parts = [(0, header + first, 1_u16), (first, packet.len(), 0)];
    parts.map(|(offset, end, more)| {
        let body = &packet[header + offset..end];
        let offset = u16::try_from(offset).expect("small");
        if packet[0] >> 4 == 4 {
            let mut whole = [&packet[..header], body].concat();
            whole[4..6].copy_from_slice(&id.to_be_bytes());
            whole[6..8].copy_from_slice(&((more << 13) | (offset / 8)).to_be_bytes());
            return with_length(whole);
        }
        let [high, low] = (offset | more).to_be_bytes();
        let [id_high, id_low] = id.to_be_bytes();
        let extension = [packet[6], 0, high, low, 0, 0, id_high, id_low];
        let mut whole = [&packet[..header], &extension, body].concat();
        whole[6] = 44;
        with_length(whole)
    })
}

/// Keeps only `keep` bytes after the IP header, lengths and checksum made to fit: a cut TCP or UDP header.
pub fn truncated(packet: &[u8], keep: usize) -> Vec<u8> {
    let header = if packet[0] >> 4 == 4 { usize::from(packet[0] & 15) * 4 } else { 40 };
    with_length(packet[..header + keep].to_vec())
}

/// Sets the length field, and IPv4's header checksum, to what the packet is now.
pub fn with_length(mut packet: Vec<u8>) -> Vec<u8> {
    let len = u16::try_from(packet.len()).expect("a packet");
    if packet[0] >> 4 == 6 {
        packet[4..6].copy_from_slice(&(len - 40).to_be_bytes());
        return packet;
    }
    let header = usize::from(packet[0] & 15) * 4;
    packet[2..4].copy_from_slice(&len.to_be_bytes());
    packet[10..12].fill(0);
    let mut sum: u32 = packet[..header]
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    packet[10..12].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    packet
}
