//! Our types as netlink attributes.

use libc::{NF_ACCEPT, NF_DROP};
use rustables::sys;

use super::element;
use super::expr::{Base, CmpOp, CtKey, Expr, MetaKey, QueueTo, Reg, Reject, Rule, Verdict};
use super::ruleset::{CONCAT, Key, Set};
use super::wire::{Attr, our_table};
use crate::engine::net::Family;

// linux/netfilter/nf_tables_compat.h, which rustables does not bind.
pub const NFTA_TARGET_NAME: u16 = 1;
pub const NFTA_TARGET_REV: u16 = 2;
pub const NFTA_TARGET_INFO: u16 = 3;
/// Name and revision of the iptables target: struct xt_NFQ_info_v3.
pub const NFQUEUE: (&str, u32) = ("NFQUEUE", 3);
/// libnftnl's user data: comment of a rule.
pub const UDATA_RULE_COMMENT: u8 = 0;
/// libnftnl's user data: byte order of a set's keys.
const UDATA_SET_KEYBYTEORDER: u8 = 0;
/// NF_NAT_RANGE_MAP_IPS and NF_NAT_RANGE_PROTO_SPECIFIED: which of the registers a translation uses.
pub const RANGE_ADDRESS: u32 = 1;
pub const RANGE_PORT: u32 = 2;
/// IP_CT_DIR_ORIGINAL.
pub const DIRECTION_ORIGINAL: u8 = 0;
/// nft's numbers for data types, and how a concatenation packs them.
pub const TYPE_IPV4: u32 = 7;
pub const TYPE_IPV6: u32 = 8;
pub const TYPE_IFNAME: u32 = 41;
pub const TYPE_BITS: u32 = 6;

/// IFNAMSIZ: what an interface name takes.
pub const INTERFACE_LEN: u32 = 16;

/// nft's type number and the length of a set's key. All parts fill whole registers, so there is no padding.
pub fn key_numbers(key: Key) -> (u32, u32) {
    let one = |family| match family {
        Family::V4 => (TYPE_IPV4, 4),
        Family::V6 => (TYPE_IPV6, 16),
    };
    match key {
        Key::Address(family) => one(family),
        Key::Pair(family) => {
            let (kind, len) = one(family);
            (kind << TYPE_BITS | kind, 2 * len)
        }
        Key::Interface => (TYPE_IFNAME, INTERFACE_LEN),
        Key::Home(family) => {
            let (kind, len) = one(family);
            (TYPE_IFNAME << TYPE_BITS | kind, INTERFACE_LEN + len)
        }
        Key::Other { kind, len } => (kind, len),
    }
}

/// A new set. `id` tells it from others of this transaction.
pub fn set(set: &Set, id: u32) -> Vec<Attr> {
    let (kind, len) = key_numbers(set.key);
    let mut attrs = vec![
        our_table(sys::NFTA_SET_TABLE),
        Attr::text(sys::NFTA_SET_NAME, &set.name),
        Attr::be32(sys::NFTA_SET_FLAGS, set.flags),
        Attr::be32(sys::NFTA_SET_KEY_TYPE, kind),
        Attr::be32(sys::NFTA_SET_KEY_LEN, len),
        Attr::be32(sys::NFTA_SET_ID, id),
    ];
    if set.timeout_ms != 0 {
        attrs.push(Attr::be64(sys::NFTA_SET_TIMEOUT, set.timeout_ms));
    }
    if set.gc_interval_ms != 0 {
        attrs.push(Attr::be32(sys::NFTA_SET_GC_INTERVAL, set.gc_interval_ms));
    }
    if set.key == Key::Interface {
        // Without it nft 1.0 reads names backwards and shows none.
        let host_order = 1_u32.to_ne_bytes();
        let told = [&[UDATA_SET_KEYBYTEORDER, 4], &host_order[..]].concat();
        attrs.push(Attr::Value(sys::NFTA_SET_USERDATA, told));
    }
    let description = description(set);
    if !description.is_empty() {
        attrs.push(Attr::Nest(sys::NFTA_SET_DESC, description));
    }
    match set.each.as_slice() {
        [] => {}
        [one] => attrs.push(Attr::Nest(sys::NFTA_SET_EXPR, expr_parts(one))),
        several => {
            attrs.push(Attr::Nest(sys::NFTA_SET_EXPRESSIONS, several.iter().map(expr).collect()));
        }
    }
    attrs
}

fn description(set: &Set) -> Vec<Attr> {
    let (_, len) = key_numbers(set.key);
    let first = match set.key {
        Key::Pair(_) => len / 2,
        Key::Home(_) => INTERFACE_LEN,
        _ => len,
    };
    let fields = [first, len - first]
        .map(|len| Attr::Nest(sys::NFTA_LIST_ELEM, vec![Attr::be32(sys::NFTA_SET_FIELD_LEN, len)]));
    let size = (set.size != 0).then(|| Attr::be32(sys::NFTA_SET_DESC_SIZE, set.size));
    let concat = (set.flags & CONCAT != 0 && first < len)
        .then(|| Attr::Nest(sys::NFTA_SET_DESC_CONCAT, fields.into()));
    size.into_iter().chain(concat).collect()
}

/// Names a set.
pub fn set_name(set: &str) -> Vec<Attr> {
    vec![our_table(sys::NFTA_SET_TABLE), Attr::text(sys::NFTA_SET_NAME, set)]
}

/// Names a set whose elements are asked for.
pub fn elements_of(set: &str) -> Vec<Attr> {
    vec![our_table(sys::NFTA_SET_ELEM_LIST_TABLE), Attr::text(sys::NFTA_SET_ELEM_LIST_SET, set)]
}

/// Elements of a set.
pub fn elements(set: &str, keys: &[element::Key]) -> Vec<Attr> {
    let mut attrs = elements_of(set);
    let list = keys.iter().flat_map(|key| element::attrs(*key)).collect();
    attrs.push(Attr::Nest(sys::NFTA_SET_ELEM_LIST_ELEMENTS, list));
    attrs
}

/// The element that holds every address.
pub fn catch_all(set: &str) -> Vec<Attr> {
    let flags = Attr::be32(sys::NFTA_SET_ELEM_FLAGS, sys::NFT_SET_ELEM_CATCHALL);
    let mut attrs = elements_of(set);
    attrs.push(Attr::Nest(
        sys::NFTA_SET_ELEM_LIST_ELEMENTS,
        vec![Attr::Nest(sys::NFTA_LIST_ELEM, vec![flags])],
    ));
    attrs
}

/// Names a chain as rules do.
pub fn rules_of(chain: &str) -> Vec<Attr> {
    vec![our_table(sys::NFTA_RULE_TABLE), Attr::text(sys::NFTA_RULE_CHAIN, chain)]
}

/// A rule at the end of a chain.
pub fn rule(chain: &str, rule: &Rule) -> Vec<Attr> {
    let mut attrs = rules_of(chain);
    attrs.push(Attr::Nest(sys::NFTA_RULE_EXPRESSIONS, rule.exprs.iter().map(expr).collect()));
    if let Some(comment) = comment(&rule.comment) {
        attrs.push(Attr::Value(sys::NFTA_RULE_USERDATA, comment));
    }
    attrs
}

/// A comment as nft(8) keeps it: type, length, text, NUL.
fn comment(text: &str) -> Option<Vec<u8>> {
    let len = u8::try_from(text.len() + 1).ok().filter(|_| !text.is_empty())?;
    let mut bytes = vec![UDATA_RULE_COMMENT, len];
    bytes.extend_from_slice(text.as_bytes());
    bytes.push(0);
    Some(bytes)
}

fn expr(expr: &Expr) -> Attr {
    Attr::Nest(sys::NFTA_LIST_ELEM, expr_parts(expr))
}

fn expr_parts(expr: &Expr) -> Vec<Attr> {
    let (name, attrs) = match expr {
        Expr::Meta(key, into) => ("meta", meta(*key, *into)),
        Expr::Ct(key, into) => ("ct", ct(*key, *into)),
        Expr::Payload { base, offset, len, into } => {
            ("payload", payload(*base, *offset, *len, *into))
        }
        Expr::Bitwise { from, into, mask, xor } => ("bitwise", bitwise(*from, *into, mask, xor)),
        Expr::Cmp { op, from, data } => ("cmp", cmp(*op, *from, data)),
        Expr::Lookup { set, from, inverted } => ("lookup", lookup(set, *from, *inverted)),
        Expr::Update { set, from } => ("dynset", update(set, *from)),
        Expr::Counter => ("counter", Vec::new()),
        Expr::Load { into, data } => ("immediate", load(*into, data)),
        Expr::Redirect { port } => ("redir", redirect(*port)),
        Expr::Dnat { family, to } => ("nat", dnat(*family, *to)),
        Expr::Verdict(what) => ("immediate", verdict(what)),
        Expr::Reject(how) => ("reject", reject(*how)),
        Expr::Queue(to) => ("queue", queue(*to)),
        Expr::TargetNfqueue(to) => ("target", target(*to)),
        // For the tests of the decoder; `plan` lets none through to the kernel.
        Expr::Unknown(name) => (name.as_str(), Vec::new()),
    };
    vec![Attr::text(sys::NFTA_EXPR_NAME, name), Attr::Nest(sys::NFTA_EXPR_DATA, attrs)]
}

fn data(kind: u16, bytes: &[u8]) -> Attr {
    Attr::Nest(kind, vec![Attr::Value(sys::NFTA_DATA_VALUE, bytes.to_vec())])
}

pub fn meta_number(key: MetaKey) -> u32 {
    match key {
        MetaKey::Mark => sys::NFT_META_MARK,
        MetaKey::NfProto => sys::NFT_META_NFPROTO,
        MetaKey::L4Proto => sys::NFT_META_L4PROTO,
        MetaKey::InputInterface => sys::NFT_META_IIF,
        MetaKey::InputName => sys::NFT_META_IIFNAME,
    }
}

fn meta(key: MetaKey, into: Reg) -> Vec<Attr> {
    vec![Attr::be32(sys::NFTA_META_KEY, meta_number(key)), Attr::be32(sys::NFTA_META_DREG, into.0)]
}

pub fn ct_number(key: CtKey) -> u32 {
    match key {
        CtKey::State => sys::NFT_CT_STATE,
        CtKey::Direction => sys::NFT_CT_DIRECTION,
        CtKey::Status => sys::NFT_CT_STATUS,
        CtKey::Protocol => sys::NFT_CT_PROTOCOL,
        CtKey::ProtoDst => sys::NFT_CT_PROTO_DST,
    }
}

fn ct(key: CtKey, into: Reg) -> Vec<Attr> {
    let mut attrs =
        vec![Attr::be32(sys::NFTA_CT_KEY, ct_number(key)), Attr::be32(sys::NFTA_CT_DREG, into.0)];
    // Both directions of a flow have one protocol: there, new kernels neither need nor repeat this, old ones insist.
    if matches!(key, CtKey::Protocol | CtKey::ProtoDst) {
        attrs.push(Attr::Value(sys::NFTA_CT_DIRECTION, vec![DIRECTION_ORIGINAL]));
    }
    attrs
}

fn payload(base: Base, offset: u32, len: u32, into: Reg) -> Vec<Attr> {
    let base = match base {
        Base::Network => sys::NFT_PAYLOAD_NETWORK_HEADER,
        Base::Transport => sys::NFT_PAYLOAD_TRANSPORT_HEADER,
    };
    vec![
        Attr::be32(sys::NFTA_PAYLOAD_DREG, into.0),
        Attr::be32(sys::NFTA_PAYLOAD_BASE, base),
        Attr::be32(sys::NFTA_PAYLOAD_OFFSET, offset),
        Attr::be32(sys::NFTA_PAYLOAD_LEN, len),
    ]
}

fn bitwise(from: Reg, into: Reg, mask: &[u8], xor: &[u8]) -> Vec<Attr> {
    vec![
        Attr::be32(sys::NFTA_BITWISE_SREG, from.0),
        Attr::be32(sys::NFTA_BITWISE_DREG, into.0),
        Attr::be32(sys::NFTA_BITWISE_LEN, u32::try_from(mask.len()).unwrap_or(u32::MAX)),
        data(sys::NFTA_BITWISE_MASK, mask),
        data(sys::NFTA_BITWISE_XOR, xor),
    ]
}

fn cmp(op: CmpOp, from: Reg, bytes: &[u8]) -> Vec<Attr> {
    let op = match op {
        CmpOp::Eq => sys::NFT_CMP_EQ,
        CmpOp::Neq => sys::NFT_CMP_NEQ,
    };
    vec![
        Attr::be32(sys::NFTA_CMP_SREG, from.0),
        Attr::be32(sys::NFTA_CMP_OP, op),
        data(sys::NFTA_CMP_DATA, bytes),
    ]
}

fn lookup(set: &str, from: Reg, inverted: bool) -> Vec<Attr> {
    let mut attrs =
        vec![Attr::text(sys::NFTA_LOOKUP_SET, set), Attr::be32(sys::NFTA_LOOKUP_SREG, from.0)];
    if inverted {
        attrs.push(Attr::be32(sys::NFTA_LOOKUP_FLAGS, sys::NFT_LOOKUP_F_INV));
    }
    attrs
}

fn update(set: &str, from: Reg) -> Vec<Attr> {
    vec![
        Attr::text(sys::NFTA_DYNSET_SET_NAME, set),
        Attr::be32(sys::NFTA_DYNSET_OP, sys::NFT_DYNSET_OP_UPDATE),
        Attr::be32(sys::NFTA_DYNSET_SREG_KEY, from.0),
        Attr::Nest(sys::NFTA_DYNSET_EXPR, expr_parts(&Expr::Counter)),
    ]
}

fn load(into: Reg, bytes: &[u8]) -> Vec<Attr> {
    vec![Attr::be32(sys::NFTA_IMMEDIATE_DREG, into.0), data(sys::NFTA_IMMEDIATE_DATA, bytes)]
}

fn redirect(port: Reg) -> Vec<Attr> {
    vec![
        Attr::be32(sys::NFTA_REDIR_REG_PROTO_MIN, port.0),
        Attr::be32(sys::NFTA_REDIR_FLAGS, RANGE_PORT),
    ]
}

fn dnat(family: Family, to: Reg) -> Vec<Attr> {
    vec![
        Attr::be32(sys::NFTA_NAT_TYPE, sys::NFT_NAT_DNAT),
        Attr::be32(sys::NFTA_NAT_FAMILY, nfproto(family)),
        Attr::be32(sys::NFTA_NAT_REG_ADDR_MIN, to.0),
    ]
}

pub fn nfproto(family: Family) -> u32 {
    match family {
        Family::V4 => libc::NFPROTO_IPV4.cast_unsigned(),
        Family::V6 => libc::NFPROTO_IPV6.cast_unsigned(),
    }
}

fn verdict(verdict: &Verdict) -> Vec<Attr> {
    let (code, chain) = match verdict {
        Verdict::Accept => (NF_ACCEPT, None),
        Verdict::Drop => (NF_DROP, None),
        Verdict::Return => (sys::NFT_RETURN, None),
        Verdict::Jump(chain) => (sys::NFT_JUMP, Some(chain)),
        Verdict::Goto(chain) => (sys::NFT_GOTO, Some(chain)),
    };
    let code = Attr::Value(sys::NFTA_VERDICT_CODE, code.to_be_bytes().to_vec());
    let chain = chain.map(|chain| Attr::text(sys::NFTA_VERDICT_CHAIN, chain));
    let verdict = Attr::Nest(sys::NFTA_DATA_VERDICT, std::iter::once(code).chain(chain).collect());
    vec![
        Attr::be32(sys::NFTA_IMMEDIATE_DREG, sys::NFT_REG_VERDICT),
        Attr::Nest(sys::NFTA_IMMEDIATE_DATA, vec![verdict]),
    ]
}

/// nft_reject's type and code.
pub fn reject_numbers(reject: Reject) -> (u32, u8) {
    match reject {
        Reject::TcpReset => (sys::NFT_REJECT_TCP_RST, 0),
        // NFT_REJECT_ICMPX_ADMIN_PROHIBITED, which the headers give 32 bits and the attribute 8.
        Reject::AdminProhibited => (sys::NFT_REJECT_ICMPX_UNREACH, 3),
    }
}

fn reject(reject: Reject) -> Vec<Attr> {
    let (kind, code) = reject_numbers(reject);
    vec![
        Attr::be32(sys::NFTA_REJECT_TYPE, kind),
        Attr::Value(sys::NFTA_REJECT_ICMP_CODE, vec![code]),
    ]
}

/// The same bits in nft_queue and in the NFQUEUE target.
pub const QUEUE_BYPASS: u16 = 1;
pub const QUEUE_FANOUT: u16 = 2;

fn queue_flags(to: QueueTo) -> u16 {
    (if to.bypass { QUEUE_BYPASS } else { 0 }) | (if to.fanout { QUEUE_FANOUT } else { 0 })
}

fn queue(to: QueueTo) -> Vec<Attr> {
    vec![
        Attr::be16(sys::NFTA_QUEUE_NUM, to.num),
        Attr::be16(sys::NFTA_QUEUE_TOTAL, to.total),
        Attr::be16(sys::NFTA_QUEUE_FLAGS, queue_flags(to)),
    ]
}

/// struct xt_NFQ_info_v3 in host byte order, padded to 8 bytes.
fn target(to: QueueTo) -> Vec<Attr> {
    let info: Vec<u8> =
        [to.num, to.total, queue_flags(to), 0].into_iter().flat_map(u16::to_ne_bytes).collect();
    vec![
        Attr::text(NFTA_TARGET_NAME, NFQUEUE.0),
        Attr::be32(NFTA_TARGET_REV, NFQUEUE.1),
        Attr::Value(NFTA_TARGET_INFO, info),
    ]
}
