//! From the bytes of a queued packet to its flow; what cannot be read is a value, never a panic.

use std::net::IpAddr;

use etherparse::{IpFragOffset, IpNumber, Ipv6ExtensionSlice, LaxIpSlice};

use super::flow::{Flow, Proto};

/// Why a packet has no flow we can judge.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// No IPv4 or IPv6 header, or one that contradicts itself.
    #[error("no valid IP header")]
    Header,
    /// IPv6 extension headers that are broken or longer than what is copied to us.
    #[error("unreadable IPv6 extension headers")]
    Extensions,
    /// A fragment without the transport header. Conntrack reassembles, so this never should be seen.
    #[error("fragment without its transport header")]
    Fragment,
    /// Neither TCP nor UDP; the rules never queue such a packet.
    #[error("neither TCP nor UDP")]
    Protocol,
    /// The packet ends before its ports.
    #[error("transport header cut off")]
    Transport,
}

/// A packet that cannot be judged, with the addresses where at least those are readable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed {
    /// What is wrong.
    pub why: Unreadable,
    /// Source and destination.
    pub addresses: Option<(IpAddr, IpAddr)>,
}

/// Reads the flow of an IP packet of which only the first bytes may be at hand.
///
/// # Errors
/// [`Malformed`] when the five-tuple cannot be read.
pub fn parse(bytes: &[u8]) -> Result<Flow, Malformed> {
    let (ip, stopped) = LaxIpSlice::from_slice(bytes)
        .map_err(|_| Malformed { why: Unreadable::Header, addresses: None })?;
    let (src, dst) = (ip.source_addr(), ip.destination_addr());
    let malformed = |why| Malformed { why, addresses: Some((src, dst)) };
    if stopped.is_some() {
        return Err(malformed(Unreadable::Extensions));
    }
    if fragment_offset(&ip) != IpFragOffset::ZERO {
        return Err(malformed(Unreadable::Fragment));
    }
    let payload = ip.payload();
    let (proto, header_min) = match payload.ip_number {
        IpNumber::TCP => (Proto::Tcp, 20),
        IpNumber::UDP => (Proto::Udp, 8),
        _ => return Err(malformed(Unreadable::Protocol)),
    };
    let (Some(ports), true) = (
        payload.payload.first_chunk::<4>(),
        payload.incomplete || payload.payload.len() >= header_min,
    ) else {
        return Err(malformed(Unreadable::Transport));
    };
    let [s1, s0, d1, d0] = *ports;
    Ok(Flow::new(proto, (src, u16::from_be_bytes([s1, s0])), (dst, u16::from_be_bytes([d1, d0]))))
}

fn fragment_offset(ip: &LaxIpSlice<'_>) -> IpFragOffset {
    match ip {
        LaxIpSlice::Ipv4(v4) => v4.header().fragments_offset(),
        LaxIpSlice::Ipv6(v6) => v6
            .extensions()
            .clone()
            .into_iter()
            .find_map(|extension| match extension {
                Ipv6ExtensionSlice::Fragment(header) => Some(header.fragment_offset()),
                _ => None,
            })
            .unwrap_or(IpFragOffset::ZERO),
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;
    use crate::engine::limits::COPY_RANGE;

    fn syn_v4() -> Vec<u8> {
        let mut out = Vec::new();
        PacketBuilder::ipv4([172, 17, 0, 2], [203, 0, 113, 9], 64)
            .tcp(40112, 443, 7, 1024)
            .syn()
            .write(&mut out, &[])
            .unwrap();
        out
    }

    fn udp_v6(payload: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        PacketBuilder::ipv6([0xfd; 16], [0x20; 16], 64)
            .udp(5000, 443)
            .write(&mut out, payload)
            .unwrap();
        out
    }

    /// Puts `header` (next-header byte first) between an IPv6 header and its payload.
    fn insert_extension(packet: &[u8], number: u8, header: &[u8]) -> Vec<u8> {
        let mut out = packet.to_vec();
        let next = out[6];
        out[6] = number;
        let mut header = header.to_vec();
        header[0] = next;
        let len = u16::from_be_bytes([out[4], out[5]]) + u16::try_from(header.len()).unwrap();
        out[4..6].copy_from_slice(&len.to_be_bytes());
        out.splice(40..40, header);
        out
    }

    #[test]
    fn a_tcp_syn_and_a_udp_datagram_have_flows() {
        let flow = parse(&syn_v4()).unwrap();
        assert_eq!(flow.to_string(), "tcp 172.17.0.2:40112 -> 203.0.113.9:443");
        let flow = parse(&udp_v6(b"hello")).unwrap();
        assert_eq!((flow.proto, flow.src.port(), flow.dst.port()), (Proto::Udp, 5000, 443));
    }

    #[test]
    fn a_datagram_longer_than_the_copy_range_is_read() {
        let packet = udp_v6(&[0; 1200]);
        assert!(parse(&packet[..usize::from(COPY_RANGE)]).is_ok());
    }

    #[test]
    fn extension_headers_are_walked_over() {
        let hop_by_hop = insert_extension(&udp_v6(b"x"), 0, &[0, 0, 1, 4, 0, 0, 0, 0]);
        assert_eq!(parse(&hop_by_hop).unwrap().dst.port(), 443);
        let destination_options =
            insert_extension(&udp_v6(b"x"), 60, &[0, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
        assert_eq!(parse(&destination_options).unwrap().dst.port(), 443);
    }

    #[test]
    fn extension_headers_beyond_the_copied_bytes_are_malformed() {
        let mut long = vec![0u8; 8 * 64];
        long[1] = 63;
        let packet = insert_extension(&udp_v6(b"x"), 0, &long);
        let malformed = parse(&packet[..usize::from(COPY_RANGE)]).unwrap_err();
        assert!(malformed.addresses.is_some());
    }

    #[test]
    fn only_the_fragment_with_the_ports_is_read() {
        let first = insert_extension(&udp_v6(b"x"), 44, &[0, 0, 0, 1, 0, 0, 0, 9]);
        assert_eq!(parse(&first).unwrap().dst.port(), 443);
        let second = insert_extension(&udp_v6(b"x"), 44, &[0, 0, 0, 9, 0, 0, 0, 9]);
        assert_eq!(parse(&second).unwrap_err().why, Unreadable::Fragment);
        let mut v4 = syn_v4();
        v4[7] = 3;
        assert_eq!(parse(&v4).unwrap_err().why, Unreadable::Fragment);
    }

    #[test]
    fn cut_off_headers_are_malformed() {
        let packet = syn_v4();
        assert_eq!(parse(&packet[..22]).unwrap_err().why, Unreadable::Transport);
        assert_eq!(parse(&packet[..12]).unwrap_err().why, Unreadable::Header);
        let mut short = packet;
        short[3] = 30; // the IP header itself says that only 10 bytes of TCP follow
        short.truncate(30);
        assert_eq!(parse(&short).unwrap_err().why, Unreadable::Transport);
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }

        #[test]
        fn mangled_packets_give_a_flow_or_an_error(
            v6 in any::<bool>(),
            flips in proptest::collection::vec((0usize..64, any::<u8>()), 0..8),
            cut in 0usize..80,
        ) {
            let mut packet = if v6 { insert_extension(&udp_v6(b"abc"), 0, &[0; 8]) } else { syn_v4() };
            for (at, value) in flips {
                if let Some(byte) = packet.get_mut(at) {
                    *byte = value;
                }
            }
            packet.truncate(cut);
            if let Ok(flow) = parse(&packet) {
                let header = if flow.src.is_ipv4() { 24 } else { 44 };
                prop_assert!(packet.len() >= header);
            }
        }
    }
}
