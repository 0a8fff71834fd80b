//! What the kernel dumps, as our types. Nothing it sends may panic us; what we never write stays a name.

use libc::{NF_ACCEPT, NF_DROP};
use rustables::sys;

use super::encode::{
    self, DIRECTION_ORIGINAL, NFQUEUE, NFTA_TARGET_INFO, NFTA_TARGET_NAME, NFTA_TARGET_REV,
    QUEUE_BYPASS, QUEUE_FANOUT, RANGE_ADDRESS, RANGE_PORT, TYPE_BITS, TYPE_IFNAME, TYPE_IPV4,
    TYPE_IPV6, UDATA_RULE_COMMENT,
};
use super::expr::{Base, CmpOp, CtKey, Expr, MetaKey, QueueTo, Reg, Reject, Rule, Verdict};
use super::ruleset::{Chain, Hook, Key, Set};
use super::wire::{Attrs, Garbled, text};
use crate::engine::intervals::Span;
use crate::engine::net::{Family, number};

/// Whether the table is asleep.
pub fn table_dormant(attrs: &Attrs<'_>) -> Result<bool, Garbled> {
    let flags = attrs.be32(sys::NFTA_TABLE_FLAGS, "table flags")?.unwrap_or(0);
    Ok(flags & sys::NFT_TABLE_F_DORMANT != 0)
}

/// A chain without its rules, and the table it is in. Not by rustables: its 0.9 reads policy drop as accept.
pub fn chain(attrs: &Attrs<'_>) -> Result<(String, Chain), Garbled> {
    let hook = attrs.nest(sys::NFTA_CHAIN_HOOK)?;
    let hook = match hook.be32(sys::NFTA_HOOK_HOOKNUM, "hook")? {
        None => None,
        Some(num) => Some(Hook {
            kind: attrs.text(sys::NFTA_CHAIN_TYPE, "chain type")?,
            num,
            priority: hook.be32(sys::NFTA_HOOK_PRIORITY, "priority")?.unwrap_or(0).cast_signed(),
            policy_drop: attrs.be32(sys::NFTA_CHAIN_POLICY, "policy")?
                == Some(NF_DROP.cast_unsigned()),
        }),
    };
    let name = attrs.text(sys::NFTA_CHAIN_NAME, "chain name")?;
    Ok((attrs.text(sys::NFTA_CHAIN_TABLE, "chain table")?, Chain { name, hook, rules: Vec::new() }))
}

/// A set without its elements; `None` for one without a name of its own, which belongs to a rule.
pub fn set(attrs: &Attrs<'_>) -> Result<Option<Set>, Garbled> {
    let flags = attrs.be32(sys::NFTA_SET_FLAGS, "set flags")?.unwrap_or(0);
    if flags & sys::NFT_SET_ANONYMOUS != 0 {
        return Ok(None);
    }
    let kind = attrs.be32(sys::NFTA_SET_KEY_TYPE, "set type")?.unwrap_or(0);
    let len = attrs.be32(sys::NFTA_SET_KEY_LEN, "set key")?.unwrap_or(0);
    Ok(Some(Set {
        name: attrs.text(sys::NFTA_SET_NAME, "set name")?,
        key: key(kind, len),
        flags,
        timeout_ms: attrs.be64(sys::NFTA_SET_TIMEOUT, "set timeout")?.unwrap_or(0),
        gc_interval_ms: attrs.be32(sys::NFTA_SET_GC_INTERVAL, "set interval")?.unwrap_or(0),
        size: attrs
            .nest(sys::NFTA_SET_DESC)?
            .be32(sys::NFTA_SET_DESC_SIZE, "set size")?
            .unwrap_or(0),
        each: each(attrs)?,
        elements: None,
        catch_all: false,
    }))
}

/// What every element of a set carries.
fn each(attrs: &Attrs<'_>) -> Result<Vec<Expr>, Garbled> {
    let one = attrs.get(sys::NFTA_SET_EXPR).into_iter();
    let several = attrs.nest(sys::NFTA_SET_EXPRESSIONS)?;
    one.chain(several.iter().map(|(_, bytes)| bytes)).map(expr).collect()
}

fn key(kind: u32, len: u32) -> Key {
    const PAIR4: u32 = TYPE_IPV4 << TYPE_BITS | TYPE_IPV4;
    const PAIR6: u32 = TYPE_IPV6 << TYPE_BITS | TYPE_IPV6;
    const HOME4: u32 = TYPE_IFNAME << TYPE_BITS | TYPE_IPV4;
    const HOME6: u32 = TYPE_IFNAME << TYPE_BITS | TYPE_IPV6;
    match (kind, len) {
        (TYPE_IPV4, 4) => Key::Address(Family::V4),
        (TYPE_IPV6, 16) => Key::Address(Family::V6),
        (PAIR4, 8) => Key::Pair(Family::V4),
        (PAIR6, 32) => Key::Pair(Family::V6),
        (TYPE_IFNAME, 16) => Key::Interface,
        (HOME4, 20) => Key::Home(Family::V4),
        (HOME6, 32) => Key::Home(Family::V6),
        (kind, len) => Key::Other { kind, len },
    }
}

/// One element of an interval set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// One end of a range.
    At {
        /// The address; for an end, the one behind the last.
        address: u128,
        /// Ends a range instead of opening one.
        end: bool,
    },
    /// `*`: every address there is.
    CatchAll,
}

/// The elements in one message of a dump.
pub fn edges(attrs: &Attrs<'_>, family: Family) -> Result<Vec<Edge>, Garbled> {
    attrs
        .nest(sys::NFTA_SET_ELEM_LIST_ELEMENTS)?
        .iter()
        .map(|(_, element)| edge(element, family))
        .collect()
}

fn edge(element: &[u8], family: Family) -> Result<Edge, Garbled> {
    let attrs = Attrs::parse(element)?;
    let flags = attrs.be32(sys::NFTA_SET_ELEM_FLAGS, "element flags")?.unwrap_or(0);
    if flags & sys::NFT_SET_ELEM_CATCHALL != 0 {
        return Ok(Edge::CatchAll);
    }
    let key = attrs.nest(sys::NFTA_SET_ELEM_KEY)?;
    let bytes = key.need(sys::NFTA_DATA_VALUE, "element key")?;
    let address = match family {
        Family::V4 => <[u8; 4]>::try_from(bytes).map(|bytes| number(bytes.into())),
        Family::V6 => <[u8; 16]>::try_from(bytes).map(|bytes| number(bytes.into())),
    };
    let end = flags & sys::NFT_SET_ELEM_INTERVAL_END != 0;
    Ok(Edge::At { address: address.map_err(|_| Garbled("element key"))?, end })
}

/// Pairs the ends of ranges, in whatever order the kernel gave them. nft(8) puts an end at zero first and
/// none behind the highest address; a range left open reaches to there.
pub fn spans(edges: &[Edge], family: Family) -> Vec<Span> {
    let ends = edges.iter().filter_map(|edge| match edge {
        Edge::At { address, end } => Some((*address, !*end)),
        Edge::CatchAll => None,
    });
    let mut ends: Vec<(u128, bool)> = ends.collect();
    ends.sort_unstable();
    let mut spans = Vec::new();
    let mut open: Option<u128> = None;
    for (address, opens) in ends {
        if let Some(first) = open.take() {
            spans.push(Span::new(first, address.saturating_sub(1).max(first)));
        }
        if opens {
            open = Some(address);
        }
    }
    spans.extend(open.map(|first| Span::new(first, family.highest())));
    spans
}

/// A rule and the chain it is in.
pub fn rule(attrs: &Attrs<'_>) -> Result<(String, Rule), Garbled> {
    let exprs: Result<Vec<Expr>, Garbled> =
        attrs.nest(sys::NFTA_RULE_EXPRESSIONS)?.iter().map(|(_, bytes)| expr(bytes)).collect();
    let comment = attrs.get(sys::NFTA_RULE_USERDATA).map(comment).unwrap_or_default();
    Ok((attrs.text(sys::NFTA_RULE_CHAIN, "rule chain")?, Rule { comment, exprs: exprs? }))
}

/// The comment among a rule's user data. That is anybody's bytes: what does not fit is no comment.
pub fn comment(mut data: &[u8]) -> String {
    while let [kind, len, rest @ ..] = data {
        let (value, others) = rest.split_at_checked(usize::from(*len)).unwrap_or_default();
        if *kind == UDATA_RULE_COMMENT {
            return text(value, "comment").unwrap_or_default();
        }
        data = others;
    }
    String::new()
}

fn expr(bytes: &[u8]) -> Result<Expr, Garbled> {
    let attrs = Attrs::parse(bytes)?;
    let name = attrs.text(sys::NFTA_EXPR_NAME, "expression name")?;
    let data = attrs.nest(sys::NFTA_EXPR_DATA)?;
    let known = match name.as_str() {
        "meta" => meta(&data)?,
        "ct" => ct(&data)?,
        "payload" => payload(&data)?,
        "bitwise" => bitwise(&data)?,
        "cmp" => cmp(&data)?,
        "lookup" => lookup(&data)?,
        "dynset" => update(&data)?,
        "counter" => Some(Expr::Counter),
        "immediate" => match reg(&data, sys::NFTA_IMMEDIATE_DREG)? {
            Some(Reg(sys::NFT_REG_VERDICT)) | None => verdict(&data)?.map(Expr::Verdict),
            Some(into) => Some(Expr::Load { into, data: value(&data, sys::NFTA_IMMEDIATE_DATA)? }),
        },
        "redir" => redirect(&data)?,
        "nat" => dnat(&data)?,
        "reject" => reject(&data)?,
        "queue" => queue(&data)?,
        "target" => target(&data)?,
        _ => None,
    };
    Ok(known.unwrap_or(Expr::Unknown(name)))
}

fn reg(attrs: &Attrs<'_>, kind: u16) -> Result<Option<Reg>, Garbled> {
    Ok(attrs.be32(kind, "register")?.map(Reg))
}

fn value(attrs: &Attrs<'_>, kind: u16) -> Result<Vec<u8>, Garbled> {
    Ok(attrs.nest(kind)?.get(sys::NFTA_DATA_VALUE).unwrap_or_default().to_vec())
}

fn meta(attrs: &Attrs<'_>) -> Result<Option<Expr>, Garbled> {
    let key = attrs.be32(sys::NFTA_META_KEY, "meta key")?;
    let keys = [
        MetaKey::Mark,
        MetaKey::NfProto,
        MetaKey::L4Proto,
        MetaKey::InputInterface,
        MetaKey::InputName,
    ];
    let known = keys.into_iter().find(|known| Some(encode::meta_number(*known)) == key);
    Ok(known.zip(reg(attrs, sys::NFTA_META_DREG)?).map(|(key, into)| Expr::Meta(key, into)))
}

fn ct(attrs: &Attrs<'_>) -> Result<Option<Expr>, Garbled> {
    let key = attrs.be32(sys::NFTA_CT_KEY, "ct key")?;
    let keys = [CtKey::State, CtKey::Direction, CtKey::Status, CtKey::Protocol, CtKey::ProtoDst];
    let known = keys.into_iter().find(|known| Some(encode::ct_number(*known)) == key);
    let direction = attrs.get(sys::NFTA_CT_DIRECTION);
    // The port the other side sends from is another question.
    if known == Some(CtKey::ProtoDst) && direction != Some(&[DIRECTION_ORIGINAL]) {
        return Ok(None);
    }
    Ok(known.zip(reg(attrs, sys::NFTA_CT_DREG)?).map(|(key, into)| Expr::Ct(key, into)))
}

fn payload(attrs: &Attrs<'_>) -> Result<Option<Expr>, Garbled> {
    let base = match attrs.be32(sys::NFTA_PAYLOAD_BASE, "payload base")? {
        Some(sys::NFT_PAYLOAD_NETWORK_HEADER) => Base::Network,
        Some(sys::NFT_PAYLOAD_TRANSPORT_HEADER) => Base::Transport,
        _ => return Ok(None),
    };
    let offset = attrs.be32(sys::NFTA_PAYLOAD_OFFSET, "payload offset")?.unwrap_or(0);
    let len = attrs.be32(sys::NFTA_PAYLOAD_LEN, "payload length")?.unwrap_or(0);
    Ok(reg(attrs, sys::NFTA_PAYLOAD_DREG)?.map(|into| Expr::Payload { base, offset, len, into }))
}

fn bitwise(attrs: &Attrs<'_>) -> Result<Option<Expr>, Garbled> {
    let op = attrs.be32(sys::NFTA_BITWISE_OP, "bitwise operation")?;
    if op.is_some_and(|op| op != sys::NFT_BITWISE_MASK_XOR) {
        return Ok(None);
    }
    let (mask, xor) = (value(attrs, sys::NFTA_BITWISE_MASK)?, value(attrs, sys::NFTA_BITWISE_XOR)?);
    let registers = reg(attrs, sys::NFTA_BITWISE_SREG)?.zip(reg(attrs, sys::NFTA_BITWISE_DREG)?);
    Ok(registers.map(|(from, into)| Expr::Bitwise { from, into, mask, xor }))
}

fn cmp(attrs: &Attrs<'_>) -> Result<Option<Expr>, Garbled> {
    let op = match attrs.be32(sys::NFTA_CMP_OP, "comparison")? {
        Some(sys::NFT_CMP_EQ) => CmpOp::Eq,
        Some(sys::NFT_CMP_NEQ) => CmpOp::Neq,
        _ => return Ok(None),
    };
    let data = value(attrs, sys::NFTA_CMP_DATA)?;
    Ok(reg(attrs, sys::NFTA_CMP_SREG)?.map(|from| Expr::Cmp { op, from, data }))
}

fn lookup(attrs: &Attrs<'_>) -> Result<Option<Expr>, Garbled> {
    // A lookup with a destination is a map, not a question.
    if attrs.get(sys::NFTA_LOOKUP_DREG).is_some() {
        return Ok(None);
    }
    let set = attrs.text(sys::NFTA_LOOKUP_SET, "lookup set")?;
    let flags = attrs.be32(sys::NFTA_LOOKUP_FLAGS, "lookup flags")?.unwrap_or(0);
    let inverted = flags & sys::NFT_LOOKUP_F_INV != 0;
    Ok(reg(attrs, sys::NFTA_LOOKUP_SREG)?.map(|from| Expr::Lookup { set, from, inverted }))
}

/// Only as we write it: one counter, the set's own timeout, no data, no inversion.
fn update(attrs: &Attrs<'_>) -> Result<Option<Expr>, Garbled> {
    let op = attrs.be32(sys::NFTA_DYNSET_OP, "set operation")?;
    let timeout = attrs.be64(sys::NFTA_DYNSET_TIMEOUT, "element timeout")?.unwrap_or(0);
    let flags = attrs.be32(sys::NFTA_DYNSET_FLAGS, "set operation flags")?.unwrap_or(0);
    let counted = match attrs.get(sys::NFTA_DYNSET_EXPR) {
        Some(bytes) => expr(bytes)? == Expr::Counter,
        None => false,
    };
    let others = [sys::NFTA_DYNSET_SREG_DATA, sys::NFTA_DYNSET_EXPRESSIONS];
    let plain = others.iter().all(|kind| attrs.get(*kind).is_none());
    let inverted = flags & sys::NFT_DYNSET_F_INV != 0;
    if op != Some(sys::NFT_DYNSET_OP_UPDATE) || timeout != 0 || inverted || !counted || !plain {
        return Ok(None);
    }
    let set = attrs.text(sys::NFTA_DYNSET_SET_NAME, "updated set")?;
    Ok(reg(attrs, sys::NFTA_DYNSET_SREG_KEY)?.map(|from| Expr::Update { set, from }))
}

/// One port, no range.
fn redirect(attrs: &Attrs<'_>) -> Result<Option<Expr>, Garbled> {
    let flags = attrs.be32(sys::NFTA_REDIR_FLAGS, "redirection flags")?.unwrap_or(0);
    let port = reg(attrs, sys::NFTA_REDIR_REG_PROTO_MIN)?;
    let last = reg(attrs, sys::NFTA_REDIR_REG_PROTO_MAX)?;
    let plain = flags & !RANGE_PORT == 0 && last.is_none_or(|last| Some(last) == port);
    Ok(port.filter(|_| plain).map(|port| Expr::Redirect { port }))
}

/// A destination, one address, no port.
fn dnat(attrs: &Attrs<'_>) -> Result<Option<Expr>, Garbled> {
    let kind = attrs.be32(sys::NFTA_NAT_TYPE, "translation")?;
    let number = attrs.be32(sys::NFTA_NAT_FAMILY, "translated family")?;
    let family = Family::BOTH.into_iter().find(|known| Some(encode::nfproto(*known)) == number);
    let flags = attrs.be32(sys::NFTA_NAT_FLAGS, "translation flags")?.unwrap_or(0);
    let to = reg(attrs, sys::NFTA_NAT_REG_ADDR_MIN)?;
    let last = reg(attrs, sys::NFTA_NAT_REG_ADDR_MAX)?;
    let plain = kind == Some(sys::NFT_NAT_DNAT)
        && flags & !RANGE_ADDRESS == 0
        && last.is_none_or(|last| Some(last) == to)
        && attrs.get(sys::NFTA_NAT_REG_PROTO_MIN).is_none();
    Ok(family.zip(to).filter(|_| plain).map(|(family, to)| Expr::Dnat { family, to }))
}

fn verdict(attrs: &Attrs<'_>) -> Result<Option<Verdict>, Garbled> {
    let attrs = attrs.nest(sys::NFTA_IMMEDIATE_DATA)?.nest(sys::NFTA_DATA_VERDICT)?;
    let code = attrs.be32(sys::NFTA_VERDICT_CODE, "verdict")?.map(u32::cast_signed);
    let chain = || attrs.text(sys::NFTA_VERDICT_CHAIN, "verdict chain");
    Ok(match code {
        Some(NF_ACCEPT) => Some(Verdict::Accept),
        Some(NF_DROP) => Some(Verdict::Drop),
        Some(sys::NFT_RETURN) => Some(Verdict::Return),
        Some(sys::NFT_JUMP) => Some(Verdict::Jump(chain()?)),
        Some(sys::NFT_GOTO) => Some(Verdict::Goto(chain()?)),
        _ => None,
    })
}

fn reject(attrs: &Attrs<'_>) -> Result<Option<Expr>, Garbled> {
    let kind = attrs.be32(sys::NFTA_REJECT_TYPE, "reject type")?;
    // The kernel reports no code where there is none to choose.
    let code = attrs.get(sys::NFTA_REJECT_ICMP_CODE).and_then(<[u8]>::first).copied().unwrap_or(0);
    let known = [Reject::TcpReset, Reject::AdminProhibited];
    Ok(known
        .into_iter()
        .find(|how| {
            (kind, code) == (Some(encode::reject_numbers(*how).0), encode::reject_numbers(*how).1)
        })
        .map(Expr::Reject))
}

fn queue(attrs: &Attrs<'_>) -> Result<Option<Expr>, Garbled> {
    // A queue number from a register is not ours.
    let Some(num) = attrs.be16(sys::NFTA_QUEUE_NUM, "queue number")? else { return Ok(None) };
    let total = attrs.be16(sys::NFTA_QUEUE_TOTAL, "queue count")?.unwrap_or(1);
    let flags = attrs.be16(sys::NFTA_QUEUE_FLAGS, "queue flags")?.unwrap_or(0);
    Ok(queue_to(num, total, flags).map(Expr::Queue))
}

fn target(attrs: &Attrs<'_>) -> Result<Option<Expr>, Garbled> {
    let name = attrs.text(NFTA_TARGET_NAME, "target name")?;
    let rev = attrs.be32(NFTA_TARGET_REV, "target revision")?;
    if (name.as_str(), rev) != (NFQUEUE.0, Some(NFQUEUE.1)) {
        return Ok(None);
    }
    let [n0, n1, t0, t1, f0, f1, ..] = attrs.need(NFTA_TARGET_INFO, "target data")? else {
        return Err(Garbled("target data"));
    };
    let number = |a: u8, b: u8| u16::from_ne_bytes([a, b]);
    Ok(queue_to(number(*n0, *n1), number(*t0, *t1), number(*f0, *f1)).map(Expr::TargetNfqueue))
}

fn queue_to(num: u16, total: u16, flags: u16) -> Option<QueueTo> {
    let known = flags & !(QUEUE_BYPASS | QUEUE_FANOUT) == 0;
    known.then_some(QueueTo {
        num,
        total,
        bypass: flags & QUEUE_BYPASS != 0,
        fanout: flags & QUEUE_FANOUT != 0,
    })
}
