//! One entry of the table: the flow for those who choose, and the bytes that name it again. Nothing the kernel sends
//! may panic us.

use std::fmt;
use std::net::IpAddr;

use crate::netlink::{Attr, Attrs, GENMSG_LEN, Garbled, Message};

// linux/netfilter/nfnetlink_conntrack.h, which no package we use binds.
const CTA_TUPLE_ORIG: u16 = 1;
const CTA_TUPLE_REPLY: u16 = 2;
const CTA_STATUS: u16 = 3;
const CTA_PROTOINFO: u16 = 4;
const CTA_ID: u16 = 12;
const CTA_ZONE: u16 = 18;
const CTA_PROTOINFO_TCP: u16 = 1;
const CTA_PROTOINFO_TCP_STATE: u16 = 1;
const CTA_TUPLE_IP: u16 = 1;
const CTA_TUPLE_PROTO: u16 = 2;
const CTA_IP_V4_SRC: u16 = 1;
const CTA_IP_V4_DST: u16 = 2;
const CTA_IP_V6_SRC: u16 = 3;
const CTA_IP_V6_DST: u16 = 4;
const CTA_PROTO_NUM: u16 = 1;
const CTA_PROTO_SRC_PORT: u16 = 2;
const CTA_PROTO_DST_PORT: u16 = 3;
// linux/netfilter/nf_conntrack_common.h: both sides have sent, and more than once.
const IPS_ASSURED: u32 = 1 << 2;
// linux/netfilter/nf_conntrack_tcp.h: neither being opened nor being closed.
const TCP_CONNTRACK_ESTABLISHED: u8 = 3;
const NLA_F_NESTED: u16 = 1 << 15;

/// A flow as whoever opened it sees it, before any address translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// IP protocol number.
    pub proto: u8,
    /// Who opened it.
    pub src: IpAddr,
    /// Whom they asked for.
    pub dst: IpAddr,
    /// Source port; 0 where the protocol has none.
    pub sport: u16,
    /// Destination port; 0 where the protocol has none.
    pub dport: u16,
    /// Who answers: `dst`, unless translation leads elsewhere. Rules on the forward hook see this one.
    pub peer: IpAddr,
}

/// A flow, and what names it to the kernel and no other: a deleted one's tuple may be taken by another at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The flow.
    pub flow: Flow,
    /// Whether both sides have taken part, so that it is no mere attempt, and neither has begun to close it.
    pub open: bool,
    family: u8,
    tuple: Vec<u8>,
    id: Vec<u8>,
    zone: Option<Vec<u8>>,
}

impl Entry {
    /// Reads one message of a dump.
    pub fn read(message: &Message<'_>) -> Result<Entry, Garbled> {
        let family = *message.payload.first().ok_or(Garbled("netfilter header"))?;
        let attrs = message.attrs()?;
        let tuple = attrs.need(CTA_TUPLE_ORIG, "flow's tuple")?;
        // An empty one would mean all flows there are.
        if tuple.is_empty() {
            return Err(Garbled("flow's tuple"));
        }
        Ok(Entry {
            flow: flow(tuple, attrs.need(CTA_TUPLE_REPLY, "flow's reply tuple")?)?,
            open: is_open(&attrs)?,
            family,
            tuple: tuple.to_vec(),
            id: attrs.need(CTA_ID, "flow's id")?.to_vec(),
            zone: attrs.get(CTA_ZONE).map(<[u8]>::to_vec),
        })
    }

    /// The header and attributes that name this entry in a request.
    pub fn name(&self) -> ([u8; GENMSG_LEN], Vec<Attr>) {
        let mut attrs = vec![
            Attr::Value(CTA_TUPLE_ORIG | NLA_F_NESTED, self.tuple.clone()),
            Attr::Value(CTA_ID, self.id.clone()),
        ];
        attrs.extend(self.zone.as_ref().map(|zone| Attr::Value(CTA_ZONE, zone.clone())));
        (crate::netlink::genmsg(self.family.into(), 0), attrs)
    }
}

fn is_open(attrs: &Attrs<'_>) -> Result<bool, Garbled> {
    let status = attrs.be32(CTA_STATUS, "flow's status")?.unwrap_or(0);
    let state = attrs.nest(CTA_PROTOINFO)?.nest(CTA_PROTOINFO_TCP)?.get(CTA_PROTOINFO_TCP_STATE);
    // Other protocols have no state.
    let closing = state.is_some_and(|state| state != [TCP_CONNTRACK_ESTABLISHED]);
    Ok(status & IPS_ASSURED != 0 && !closing)
}

fn flow(original: &[u8], reply: &[u8]) -> Result<Flow, Garbled> {
    let tuple = Attrs::parse(original)?;
    let (src, dst) = addresses(&tuple)?;
    let (peer, _) = addresses(&Attrs::parse(reply)?)?;
    let proto = tuple.nest(CTA_TUPLE_PROTO)?;
    let number = proto.need(CTA_PROTO_NUM, "flow's protocol")?;
    Ok(Flow {
        proto: number.first().copied().ok_or(Garbled("flow's protocol"))?,
        src,
        dst,
        sport: proto.be16(CTA_PROTO_SRC_PORT, "flow's port")?.unwrap_or(0),
        dport: proto.be16(CTA_PROTO_DST_PORT, "flow's port")?.unwrap_or(0),
        peer,
    })
}

/// Source and destination of a tuple.
fn addresses(tuple: &Attrs<'_>) -> Result<(IpAddr, IpAddr), Garbled> {
    const WHAT: Garbled = Garbled("flow's address");
    let ip = tuple.nest(CTA_TUPLE_IP)?;
    let address = |v4: u16, v6: u16| match (ip.get(v4), ip.get(v6)) {
        (Some(bytes), _) => <[u8; 4]>::try_from(bytes).map(IpAddr::from).map_err(|_| WHAT),
        (None, Some(bytes)) => <[u8; 16]>::try_from(bytes).map(IpAddr::from).map_err(|_| WHAT),
        (None, None) => Err(WHAT),
    };
    Ok((address(CTA_IP_V4_SRC, CTA_IP_V6_SRC)?, address(CTA_IP_V4_DST, CTA_IP_V6_DST)?))
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of protocol {} to {}, ports {} and {}",
            self.src, self.proto, self.dst, self.sport, self.dport
        )
    }
}

#[cfg(test)]
#[path = "entry_test.rs"]
mod tests;
