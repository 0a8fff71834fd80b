//! The pieces rules are made of: matches, statements, and a rule for each family.

use std::net::IpAddr;

use crate::engine::net::Family;
use crate::nftables::encode::DIRECTION_ORIGINAL;
use crate::nftables::expr::{Base, CmpOp, CtKey, Expr, MetaKey, Reg, Rule, Verdict};
use crate::nftables::names::Pair;

/// `ct state new`: conntrack's bit for it.
pub const STATE_NEW: u32 = 1 << 3;
/// `ct state invalid`: no flow conntrack can make sense of.
pub const STATE_INVALID: u32 = 1 << 0;
/// `ct status confirmed`: the flow is in the table, so one packet of it has already left.
pub const STATUS_CONFIRMED: u32 = 1 << 3;
pub const DNS_PORT: u16 = 53;
/// DNS over TLS (RFC 7858) and over QUIC (RFC 9250).
pub const DOT_PORT: u16 = 853;
/// Transport header bytes before the destination port, TCP and UDP alike.
const DPORT_OFFSET: u32 = 2;

/// Protocols that are judged.
#[derive(Clone, Copy)]
pub enum L4 {
    Tcp,
    Udp,
}

impl L4 {
    pub fn name(self) -> &'static str {
        match self {
            L4::Tcp => "tcp",
            L4::Udp => "udp",
        }
    }

    pub fn number(self) -> u8 {
        match self {
            L4::Tcp => 6,
            L4::Udp => 17,
        }
    }
}

/// Address fields of the IP header.
#[derive(Clone, Copy)]
pub enum Field {
    Saddr,
    Daddr,
}

pub fn rule<const N: usize>(comment: impl Into<String>, parts: [Vec<Expr>; N]) -> Rule {
    Rule { comment: comment.into(), exprs: parts.into_iter().flatten().collect() }
}

pub fn both(rule_of: impl Fn(Family) -> Rule) -> [Rule; 2] {
    Family::BOTH.map(rule_of)
}

pub fn named(what: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{what}, IPv4"),
        Family::V6 => format!("{what}, IPv6"),
    }
}

pub fn returns() -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Return)]
}

pub fn accept() -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Accept)]
}

pub fn drops() -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Drop)]
}

pub fn goto(chain: &str) -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Goto(chain.to_owned()))]
}

/// To another chain and back, unless that one ends it.
pub fn jump(chain: &str) -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Jump(chain.to_owned()))]
}

pub fn counter() -> Vec<Expr> {
    vec![Expr::Counter]
}

fn cmp(op: CmpOp, data: &[u8]) -> Expr {
    Expr::Cmp { op, from: Reg::ONE, data: data.to_vec() }
}

/// Keeps one bit of a conntrack mask, which is in host byte order.
fn keep(bit: u32) -> Expr {
    let (mask, xor) = (bit.to_ne_bytes().to_vec(), vec![0; 4]);
    Expr::Bitwise { from: Reg::ONE, into: Reg::ONE, mask, xor }
}

pub fn mark_is(mark: u32) -> Vec<Expr> {
    vec![Expr::Meta(MetaKey::Mark, Reg::ONE), cmp(CmpOp::Eq, &mark.to_ne_bytes())]
}

/// `iif lo`: every network namespace gives it the same number.
pub fn is_loopback() -> Vec<Expr> {
    const LOOPBACK: u32 = 1;
    vec![Expr::Meta(MetaKey::InputInterface, Reg::ONE), cmp(CmpOp::Eq, &LOOPBACK.to_ne_bytes())]
}

pub fn l4_is(l4: L4) -> Vec<Expr> {
    vec![Expr::Meta(MetaKey::L4Proto, Reg::ONE), cmp(CmpOp::Eq, &[l4.number()])]
}

pub fn flow_is(l4: L4) -> Vec<Expr> {
    vec![Expr::Ct(CtKey::Protocol, Reg::ONE), cmp(CmpOp::Eq, &[l4.number()])]
}

/// By what conntrack keys, as [`flow_is`]: the port that was asked for, whatever header stands before it.
pub fn flow_port_is(port: u16) -> Vec<Expr> {
    vec![Expr::Ct(CtKey::ProtoDst, Reg::ONE), cmp(CmpOp::Eq, &port.to_be_bytes())]
}

pub fn dport_is(port: u16) -> Vec<Expr> {
    let load =
        Expr::Payload { base: Base::Transport, offset: DPORT_OFFSET, len: 2, into: Reg::ONE };
    vec![load, cmp(CmpOp::Eq, &port.to_be_bytes())]
}

/// In an inet table the family has to be asked before its header is read.
fn family_is(family: Family) -> [Expr; 2] {
    let proto = match family {
        Family::V4 => libc::NFPROTO_IPV4,
        Family::V6 => libc::NFPROTO_IPV6,
    };
    let [proto, ..] = proto.to_le_bytes();
    [Expr::Meta(MetaKey::NfProto, Reg::ONE), cmp(CmpOp::Eq, &[proto])]
}

fn address(field: Field, family: Family, into: Reg) -> Expr {
    let (offset, len) = match (family, field) {
        (Family::V4, Field::Saddr) => (12, 4),
        (Family::V4, Field::Daddr) => (16, 4),
        (Family::V6, Field::Saddr) => (8, 16),
        (Family::V6, Field::Daddr) => (24, 16),
    };
    Expr::Payload { base: Base::Network, offset, len, into }
}

/// The source, or the destination, is that address.
pub fn address_is(field: Field, is: IpAddr) -> Vec<Expr> {
    let family = Family::of(is);
    let compared = match is {
        IpAddr::V4(v4) => cmp(CmpOp::Eq, &v4.octets()),
        IpAddr::V6(v6) => cmp(CmpOp::Eq, &v6.octets()),
    };
    family_is(family).into_iter().chain([address(field, family, Reg::ONE), compared]).collect()
}

/// Puts a value where the next expression looks for it.
pub fn load(data: &[u8]) -> Expr {
    Expr::Load { into: Reg::ONE, data: data.to_vec() }
}

pub fn lookup(set: Pair, family: Family, inverted: bool) -> Expr {
    Expr::Lookup { set: set.of(family).to_owned(), from: Reg::ONE, inverted }
}

pub fn is_in(field: Field, family: Family, set: Pair, member: bool) -> Vec<Expr> {
    let load = [address(field, family, Reg::ONE), lookup(set, family, !member)];
    family_is(family).into_iter().chain(load).collect()
}

/// `iifname @set`, or `!= @set`.
pub fn comes_in_on(set: Pair, member: bool) -> Vec<Expr> {
    let name = Expr::Meta(MetaKey::InputName, Reg::ONE);
    vec![name, lookup(set, Family::V4, !member)]
}

/// The interface it came in on and an address, ready to be asked for as one.
pub fn on_interface(field: Field, family: Family) -> Vec<Expr> {
    let name = Expr::Meta(MetaKey::InputName, Reg::ONE);
    let address = address(field, family, Reg::BEHIND_NAME);
    family_is(family).into_iter().chain([name, address]).collect()
}

/// Source and destination, ready to be asked for as one.
pub fn pair(family: Family) -> Vec<Expr> {
    in_order(Field::Saddr, Field::Daddr, family)
}

/// Destination and source, as [`pair`] has them in what goes the other way.
pub fn reversed(family: Family) -> Vec<Expr> {
    in_order(Field::Daddr, Field::Saddr, family)
}

fn in_order(first: Field, second: Field, family: Family) -> Vec<Expr> {
    let first = address(first, family, Reg::ONE);
    let second = address(second, family, Reg::second(family));
    family_is(family).into_iter().chain([first, second]).collect()
}

/// `tcp flags & (syn | ack) == syn`: somebody opens a connection. Behind an IPv6 authentication header that is not
/// seen, and so is no such packet.
pub fn is_opening() -> Vec<Expr> {
    const FLAGS_OFFSET: u32 = 13;
    const SYN: u8 = 0x02;
    const ACK: u8 = 0x10;
    let (base, offset) = (Base::Transport, FLAGS_OFFSET);
    let load = Expr::Payload { base, offset, len: 1, into: Reg::ONE };
    let (mask, xor) = (vec![SYN | ACK], vec![0]);
    let keep = Expr::Bitwise { from: Reg::ONE, into: Reg::ONE, mask, xor };
    [l4_is(L4::Tcp), vec![load, keep, cmp(CmpOp::Eq, &[SYN])]].concat()
}

/// `ct direction != original`
pub fn is_reply() -> Vec<Expr> {
    vec![Expr::Ct(CtKey::Direction, Reg::ONE), cmp(CmpOp::Neq, &[DIRECTION_ORIGINAL])]
}

pub fn is_invalid() -> Vec<Expr> {
    masked(Expr::Ct(CtKey::State, Reg::ONE), STATE_INVALID, CmpOp::Neq)
}

/// `KEY & MASK == 0`, or `!= 0`.
pub fn masked(key: Expr, mask: u32, op: CmpOp) -> Vec<Expr> {
    vec![key, keep(mask), cmp(op, &0_u32.to_ne_bytes())]
}
