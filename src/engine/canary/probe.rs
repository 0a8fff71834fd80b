//! The canary's packet, what comes back of it, and what that means.

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{IpNumber, Ipv4HeaderSlice, PacketBuilder, TcpHeaderSlice};

use crate::engine::verdict::{Reason, Verdict};

/// Hops; one that was forwarded has fewer left.
const TTL: u8 = 64;
/// As many as an ordinary connection offers.
const WINDOW: u16 = 64_240;
/// ICMP: destination unreachable.
const ICMP_UNREACHABLE: u8 = 3;
/// ICMP header before the packet it quotes.
const ICMP_HEADER: usize = 8;

/// The first packet of a connection nobody wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Probe {
    /// From where.
    pub src: SocketAddrV4,
    /// Where to.
    pub dst: SocketAddrV4,
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
        let builder = PacketBuilder::ipv4(self.src.ip().octets(), self.dst.ip().octets(), TTL)
            .tcp(self.src.port(), self.dst.port(), self.mark, WINDOW)
            .syn();
        let mut bytes = Vec::with_capacity(builder.size(0));
        // Writing to a vector cannot fail, and the lengths fit.
        let _ = builder.write(&mut bytes, &[]);
        bytes
    }

    /// What a packet that came to its sender's network says about it. Its source may have been translated on the way.
    pub fn sign(&self, bytes: &[u8]) -> Option<Sign> {
        let ip = Ipv4HeaderSlice::from_slice(bytes).ok()?;
        let rest = bytes.get(ip.slice().len()..)?;
        if ip.protocol() == IpNumber::ICMP {
            let quoted = rest.get(ICMP_HEADER..)?;
            let is_ours = rest.first() == Some(&ICMP_UNREACHABLE) && self.is_quoted(quoted);
            return is_ours.then_some(Sign::Refused);
        }
        if ip.protocol() != IpNumber::TCP {
            return None;
        }
        let tcp = TcpHeaderSlice::from_slice(rest).ok()?;
        let to = SocketAddrV4::new(ip.destination_addr(), tcp.destination_port());
        let from = SocketAddrV4::new(ip.source_addr(), tcp.source_port());
        if to == self.dst && tcp.sequence_number() == self.mark && ip.ttl() < TTL {
            return Some(Sign::Arrived);
        }
        (tcp.rst() && from == self.dst && to == self.src).then_some(Sign::Refused)
    }

    fn is_quoted(&self, packet: &[u8]) -> bool {
        let address = packet.get(16..20).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        address.map(Ipv4Addr::from) == Some(*self.dst.ip())
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

    fn probe() -> Probe {
        let at = |text: &str| text.parse().unwrap();
        Probe { src: at("198.19.255.130:4000"), dst: at("198.19.255.193:443"), mark: 77 }
    }

    fn forwarded(mut bytes: Vec<u8>) -> Vec<u8> {
        bytes[8] -= 1;
        bytes
    }

    #[test]
    fn its_own_signs_are_told_from_the_rest() {
        let probe = probe();
        let sent = probe.bytes();
        assert_eq!(crate::engine::packet::parse(&sent).unwrap().dst, probe.dst.into());
        assert_eq!(probe.sign(&sent), None, "it did not go anywhere");
        assert_eq!(probe.sign(&forwarded(sent.clone())), Some(Sign::Arrived));
        let other = Probe { mark: 78, ..probe };
        assert_eq!(other.sign(&forwarded(sent.clone())), None, "one of before");

        let reset = |from: SocketAddrV4, to: SocketAddrV4| {
            let builder = PacketBuilder::ipv4(from.ip().octets(), to.ip().octets(), 64);
            let mut bytes = Vec::new();
            builder.tcp(from.port(), to.port(), 0, 0).rst().ack(78).write(&mut bytes, &[]).unwrap();
            bytes
        };
        assert_eq!(probe.sign(&reset(probe.dst, probe.src)), Some(Sign::Refused));
        assert_eq!(probe.sign(&reset("198.19.255.194:443".parse().unwrap(), probe.src)), None);

        let icmp = |quoted: &[u8]| {
            let builder = PacketBuilder::ipv4([198, 19, 255, 129], probe.src.ip().octets(), 64);
            let code = etherparse::icmpv4::DestUnreachableHeader::FilterProhibited;
            let mut bytes = Vec::new();
            let kind = etherparse::Icmpv4Type::DestinationUnreachable(code);
            builder.icmpv4(kind).write(&mut bytes, quoted).unwrap();
            bytes
        };
        assert_eq!(probe.sign(&icmp(&sent)), Some(Sign::Refused));
        let elsewhere = Probe { dst: "198.19.255.200:443".parse().unwrap(), ..probe };
        assert_eq!(probe.sign(&icmp(&elsewhere.bytes())), None);
        for cut in 0..sent.len() {
            assert_eq!(probe.sign(&forwarded(sent.clone())[..cut]), None, "cut at {cut}");
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
