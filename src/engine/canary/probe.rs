//! The canary's packet, what comes back of it, and what that means.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, Ipv4HeaderSlice, Ipv6HeaderSlice, PacketBuilder, TcpHeaderSlice};

use crate::engine::verdict::{Reason, Verdict};

/// Hops; one that was forwarded has fewer left.
const TTL: u8 = 64;
/// As many as an ordinary connection offers.
const WINDOW: u16 = 64_240;
/// Destination unreachable, in ICMP.
const ICMP_UNREACHABLE: u8 = 3;
/// The same in ICMPv6.
const ICMPV6_UNREACHABLE: u8 = 1;
/// Header of either before the packet it quotes.
const ICMP_HEADER: usize = 8;

/// The first packet of a connection nobody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// From where.
    pub src: SocketAddr,
    /// Where to; of the same family.
    pub dst: SocketAddr,
    /// Tells it from others: its sequence number.
    pub mark: u32,
}

/// What came of it on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// It arrived.
    Arrived,
    /// Its sender was told that it is refused.
    Refused,
}

/// Everything that was seen of one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sighting {
    /// What the engine decided.
    pub verdict: Option<(Verdict, Reason)>,
    /// It arrived.
    pub arrived: bool,
    /// Its sender was told that it is refused.
    pub refused: bool,
}

/// What follows from that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// As it should be, or with a remark.
    Good(Option<&'static str>),
    /// Nothing is proved now, and why.
    Unsure(&'static str),
    /// Not as it should be.
    Bad(String),
}

impl Probe {
    /// Its bytes, from the IP header on.
    pub fn bytes(&self) -> Vec<u8> {
        let builder = match (self.src.ip(), self.dst.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                PacketBuilder::ipv4(src.octets(), dst.octets(), TTL)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                PacketBuilder::ipv6(src.octets(), dst.octets(), TTL)
            }
            _ => return Vec::new(),
        };
        let builder = builder.tcp(self.src.port(), self.dst.port(), self.mark, WINDOW).syn();
        let mut bytes = Vec::with_capacity(builder.size(0));
        // Writing to a vector cannot fail, and the lengths fit.
        let _ = builder.write(&mut bytes, &[]);
        bytes
    }

    /// What a packet that came to its sender's network says about it. Its source may have been translated on the way.
    pub fn sign(&self, bytes: &[u8]) -> Option<Sign> {
        let ip = Header::read(bytes)?;
        let rest = bytes.get(ip.length..)?;
        if ip.is_icmp() {
            let quoted = Header::read(rest.get(ICMP_HEADER..)?)?;
            let is_ours = rest.first() == Some(&ip.unreachable()) && quoted.dst == self.dst.ip();
            return is_ours.then_some(Sign::Refused);
        }
        if ip.protocol != IpNumber::TCP {
            return None;
        }
        let tcp = TcpHeaderSlice::from_slice(rest).ok()?;
        let to = SocketAddr::new(ip.dst, tcp.destination_port());
        let from = SocketAddr::new(ip.src, tcp.source_port());
        if to == self.dst && tcp.sequence_number() == self.mark && ip.hops < TTL {
            return Some(Sign::Arrived);
        }
        (tcp.rst() && from == self.dst && to == self.src).then_some(Sign::Refused)
    }
}

/// What matters of an IP header. Neither our own packet nor an answer to it has extensions.
struct Header {
    src: IpAddr,
    dst: IpAddr,
    protocol: IpNumber,
    hops: u8,
    length: usize,
}

impl Header {
    fn read(bytes: &[u8]) -> Option<Header> {
        if let Ok(ip) = Ipv4HeaderSlice::from_slice(bytes) {
            let (src, dst) = (ip.source_addr().into(), ip.destination_addr().into());
            let (protocol, length) = (ip.protocol(), ip.slice().len());
            return Some(Header { src, dst, protocol, hops: ip.ttl(), length });
        }
        let ip = Ipv6HeaderSlice::from_slice(bytes).ok()?;
        let (src, dst) = (ip.source_addr().into(), ip.destination_addr().into());
        let (protocol, length) = (ip.next_header(), ip.slice().len());
        Some(Header { src, dst, protocol, hops: ip.hop_limit(), length })
    }

    fn is_icmp(&self) -> bool {
        match self.dst {
            IpAddr::V4(_) => self.protocol == IpNumber::ICMP,
            IpAddr::V6(_) => self.protocol == IpNumber::IPV6_ICMP,
        }
    }

    fn unreachable(&self) -> u8 {
        if self.dst.is_ipv4() { ICMP_UNREACHABLE } else { ICMPV6_UNREACHABLE }
    }
}

impl Sighting {
    /// Nothing more is to come that would tell anything. A refusal may be silent.
    pub fn is_whole(&self, silent: bool) -> bool {
        match self.verdict {
            None => false,
            Some((Verdict::Accept, _)) => self.arrived,
            Some((Verdict::Drop, reason)) => self.refused || silent || is_silent(reason),
        }
    }

    /// What it means for a destination that nobody had resolved.
    pub fn of_unresolved(&self, silent: bool) -> Finding {
        let bad = |what: &str| Finding::Bad(what.to_owned());
        match (self.verdict, self.arrived) {
            (None, true) => {
                bad("an address nobody resolved was reached, and no verdict was asked for")
            }
            (None, false) => bad("packets do not reach the queue"),
            (Some((Verdict::Accept, Reason::Unhealthy | Reason::Established)), _) => {
                Finding::Unsure(
                    "the DNS evidence is not trusted now, so what nobody resolved passes",
                )
            }
            (Some((_, Reason::Shutdown)), _) => Finding::Unsure("the daemon is stopping"),
            (Some((Verdict::Accept, reason)), _) => Finding::Bad(format!(
                "an address nobody resolved was accepted as {}",
                reason.as_str()
            )),
            (Some((Verdict::Drop, _)), true) => bad("what was refused arrived all the same"),
            (Some((Verdict::Drop, reason)), false)
                if silent || self.refused || is_silent(reason) =>
            {
                Finding::Good(None)
            }
            (Some((Verdict::Drop, _)), false) => bad(
                "what was refused was dropped in silence: the rules that answer with a reset do not work",
            ),
        }
    }

    /// What it means for one that was resolved a moment before.
    pub fn of_resolved(&self) -> Finding {
        match (self.verdict, self.arrived) {
            (None, true) => Finding::Bad("packets pass, and no verdict is asked for".to_owned()),
            (None, false) => Finding::Bad("packets do not reach the queue".to_owned()),
            (Some((_, Reason::Shutdown)), _) => Finding::Unsure("the daemon is stopping"),
            (Some((Verdict::Accept, _)), true) => Finding::Good(None),
            (Some((Verdict::Accept, _)), false) => Finding::Good(Some(
                "accepted by synhold, then dropped by another rule of this host",
            )),
            (Some((Verdict::Drop, reason)), _) => Finding::Bad(format!(
                "an address that was resolved was refused as {}",
                reason.as_str()
            )),
        }
    }
}

/// While the evidence is not trusted, senders may be left to try again.
fn is_silent(reason: Reason) -> bool {
    reason == Reason::Unhealthy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn probes() -> [Probe; 2] {
        let probe = |src: &str, dst: &str| {
            let (src, dst) = (src.parse().unwrap(), dst.parse().unwrap());
            Probe { src, dst, mark: 77 }
        };
        let v6 = "[2001:2:0:ffff:ffff:ffff:ffff:ff82]:4000";
        [
            probe("198.19.255.130:4000", "198.19.255.193:443"),
            probe(v6, "[2001:2:0:ffff:ffff:ffff:ffff:ffc1]:443"),
        ]
    }

    fn forwarded(mut bytes: Vec<u8>) -> Vec<u8> {
        let hops = if bytes[0] >> 4 == 4 { 8 } else { 7 };
        bytes[hops] -= 1;
        bytes
    }

    /// The next address.
    fn beside(at: SocketAddr) -> SocketAddr {
        let family = crate::engine::net::Family::of(at.ip());
        let next = crate::engine::net::number(at.ip()) + 1;
        SocketAddr::new(family.address(next), at.port())
    }

    fn reset(from: SocketAddr, to: SocketAddr) -> Vec<u8> {
        let builder = match (from.ip(), to.ip()) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                PacketBuilder::ipv4(src.octets(), dst.octets(), 64)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                PacketBuilder::ipv6(src.octets(), dst.octets(), 64)
            }
            _ => unreachable!(),
        };
        let mut bytes = Vec::new();
        builder.tcp(from.port(), to.port(), 0, 0).rst().ack(78).write(&mut bytes, &[]).unwrap();
        bytes
    }

    /// What the host answers a packet to `to` with.
    fn unreachable(to: SocketAddr, quoted: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        match to.ip() {
            IpAddr::V4(to) => {
                let code = etherparse::icmpv4::DestUnreachableHeader::FilterProhibited;
                let kind = etherparse::Icmpv4Type::DestinationUnreachable(code);
                let builder = PacketBuilder::ipv4([198, 19, 255, 129], to.octets(), 64);
                builder.icmpv4(kind).write(&mut bytes, quoted).unwrap();
            }
            IpAddr::V6(to) => {
                let code = etherparse::icmpv6::DestUnreachableCode::Prohibited;
                let kind = etherparse::Icmpv6Type::DestinationUnreachable(code);
                let builder = PacketBuilder::ipv6(to.octets(), to.octets(), 64);
                builder.icmpv6(kind).write(&mut bytes, quoted).unwrap();
            }
        }
        bytes
    }

    #[test]
    fn its_own_signs_are_told_from_the_rest() {
        for probe in probes() {
            let sent = probe.bytes();
            assert_eq!(crate::engine::packet::parse(&sent).unwrap().dst, probe.dst);
            assert_eq!(probe.sign(&sent), None, "it did not go anywhere");
            assert_eq!(probe.sign(&forwarded(sent.clone())), Some(Sign::Arrived));
            let other = Probe { mark: 78, ..probe };
            assert_eq!(other.sign(&forwarded(sent.clone())), None, "one of before");

            assert_eq!(probe.sign(&reset(probe.dst, probe.src)), Some(Sign::Refused));
            assert_eq!(probe.sign(&reset(beside(probe.dst), probe.src)), None);

            assert_eq!(probe.sign(&unreachable(probe.src, &sent)), Some(Sign::Refused));
            let elsewhere = Probe { dst: beside(probe.dst), ..probe };
            assert_eq!(probe.sign(&unreachable(probe.src, &elsewhere.bytes())), None);
            for cut in 0..sent.len() {
                assert_eq!(probe.sign(&forwarded(sent.clone())[..cut]), None, "cut at {cut}");
            }
        }
    }

    #[test]
    fn only_both_verdict_and_wire_are_proof() {
        let sighting = |verdict, arrived, refused| Sighting { verdict, arrived, refused };
        let drop = Some((Verdict::Drop, Reason::NeverResolved));
        let accept = Some((Verdict::Accept, Reason::Resolved));
        let unhealthy = Some((Verdict::Accept, Reason::Unhealthy));
        let is_bad = |finding: Finding| matches!(finding, Finding::Bad(_));
        assert_eq!(sighting(drop, false, true).of_unresolved(false), Finding::Good(None));
        assert_eq!(sighting(drop, false, false).of_unresolved(true), Finding::Good(None));
        for bad in [
            sighting(drop, false, false),
            sighting(drop, true, true),
            sighting(None, false, true),
            sighting(None, true, false),
            sighting(accept, true, false),
        ] {
            assert!(is_bad(bad.of_unresolved(false)), "{bad:?}");
        }
        assert!(matches!(
            sighting(unhealthy, true, false).of_unresolved(false),
            Finding::Unsure(_)
        ));
        assert_eq!(sighting(accept, true, false).of_resolved(), Finding::Good(None));
        assert!(matches!(sighting(accept, false, false).of_resolved(), Finding::Good(Some(_))));
        for bad in
            [sighting(drop, false, true), sighting(None, true, false), sighting(None, false, false)]
        {
            assert!(is_bad(bad.of_resolved()), "{bad:?}");
        }
    }
}
