//! One rule in nft's words, from its expressions.

use std::net::IpAddr;

use super::expr::{Base, CmpOp, CtKey, Expr, MetaKey, QueueTo, Reg, Reject, Verdict};
use crate::engine::net::Family;

/// The rule as nft would write it, or, where nft has no words for it, as near as we can say.
pub fn phrase(exprs: &[Expr]) -> Result<String, String> {
    let (mut words, mut all_known, mut rest) = (Vec::new(), true, exprs);
    while let Some((first, others)) = rest.split_first() {
        if let Some((clause, left)) = clause(rest) {
            words.push(clause);
            rest = left;
        } else {
            all_known = false;
            words.push(nearest(first));
            rest = others;
        }
    }
    let text = words.join(" ");
    if all_known { Ok(text) } else { Err(text) }
}

/// The next few expressions that make up one clause, and what follows them.
fn clause(exprs: &[Expr]) -> Option<(String, &[Expr])> {
    Some(match exprs {
        [
            Expr::Ct(key, a),
            Expr::Bitwise { from, into, mask, xor },
            Expr::Cmp { op, from: b, data },
            rest @ ..,
        ] if one_register(&[*a, *from, *into, *b]) && is_zero(xor) && is_zero(data) => (
            format!("ct {} & {} {} 0", ct_word(*key), ct_bit(*key, mask)?, op_word(*op, true)),
            rest,
        ),
        [Expr::Ct(CtKey::Direction, a), Expr::Cmp { op, from, data }, rest @ ..] if a == from => {
            let side = if is_zero(data) { "original" } else { "reply" };
            (format!("ct direction {}{side}", op_word(*op, false)), rest)
        }
        [Expr::Ct(CtKey::Protocol, a), Expr::Cmp { op, from, data }, rest @ ..] if a == from => {
            (format!("ct original protocol {}{}", op_word(*op, false), l4_word(data)?), rest)
        }
        [Expr::Meta(MetaKey::Mark, a), Expr::Cmp { op, from, data }, rest @ ..] if a == from => {
            let mark = u32::from_ne_bytes(data.as_slice().try_into().ok()?);
            (format!("meta mark {}{mark:#010x}", op_word(*op, false)), rest)
        }
        [Expr::Meta(MetaKey::InputInterface, a), Expr::Cmp { op, from, data }, rest @ ..]
            if a == from =>
        {
            (format!("iif {}{}", op_word(*op, false), interface_word(data)?), rest)
        }
        [Expr::Meta(MetaKey::InputName, a), Expr::Lookup { set, from, inverted }, rest @ ..]
            if a == from =>
        {
            (format!("iifname {}@{set}", if *inverted { "!= " } else { "" }), rest)
        }
        [Expr::Meta(MetaKey::NfProto, a), Expr::Cmp { op: CmpOp::Eq, from, data }, rest @ ..]
            if a == from =>
        {
            address_clause(family_word(data)?, rest)?
        }
        [Expr::Meta(MetaKey::L4Proto, a), Expr::Cmp { op: CmpOp::Eq, from, data }, rest @ ..]
            if a == from =>
        {
            l4_clause(l4_word(data)?, rest)
        }
        [Expr::Load { into, data }, Expr::Redirect { port }, rest @ ..] if into == port => {
            (format!("redirect to :{}", port_word(data)?), rest)
        }
        [Expr::Load { into, data }, Expr::Dnat { family, to }, rest @ ..] if into == to => {
            let word = match family {
                Family::V4 => "ip",
                Family::V6 => "ip6",
            };
            (format!("dnat {word} to {}", ip_word(*family, data)?), rest)
        }
        [expr, rest @ ..] => (statement(expr)?, rest),
        [] => return None,
    })
}

/// `ip saddr @set`, `ip saddr . ip daddr @set`, `update @set { ... counter }`, behind the family that was asked for.
fn address_clause<'e>(family: &str, exprs: &'e [Expr]) -> Option<(String, &'e [Expr])> {
    let is_load =
        |expr: &&Expr| matches!(expr, Expr::Payload { .. } | Expr::Meta(MetaKey::InputName, _));
    let loads = exprs.iter().take_while(is_load).count();
    let (payloads, rest) = exprs.split_at_checked(loads)?;
    let fields: Option<Vec<String>> =
        payloads.iter().map(|expr| address_word(family, expr)).collect();
    let fields = fields.filter(|fields| !fields.is_empty())?.join(" . ");
    let (what, rest) = rest.split_first()?;
    let words = match what {
        Expr::Lookup { set, inverted, .. } => {
            format!("{fields} {}@{set}", if *inverted { "!= " } else { "" })
        }
        Expr::Update { set, .. } => format!("update @{set} {{ {fields} counter }}"),
        Expr::Cmp { op, data, .. } if loads == 1 => {
            let family = if family == "ip" { Family::V4 } else { Family::V6 };
            format!("{fields} {}{}", op_word(*op, false), ip_word(family, data)?)
        }
        _ => return None,
    };
    Some((words, rest))
}

fn address_word(family: &str, expr: &Expr) -> Option<String> {
    if matches!(expr, Expr::Meta(MetaKey::InputName, _)) {
        return Some("iifname".to_owned());
    }
    let Expr::Payload { base: Base::Network, offset, len, .. } = expr else { return None };
    let field = match (family, offset, len) {
        ("ip", 12, 4) | ("ip6", 8, 16) => "saddr",
        ("ip", 16, 4) | ("ip6", 24, 16) => "daddr",
        _ => return None,
    };
    Some(format!("{family} {field}"))
}

/// `udp dport 53`, `tcp flags & (syn | ack) == syn`, or the protocol alone.
fn l4_clause<'e>(l4: &str, exprs: &'e [Expr]) -> (String, &'e [Expr]) {
    if let [
        Expr::Payload { base: Base::Transport, offset: 13, len: 1, into },
        Expr::Bitwise { from, into: kept, mask, xor },
        Expr::Cmp { op: CmpOp::Eq, from: compared, data },
        rest @ ..,
    ] = exprs
        && one_register(&[*into, *from, *kept, *compared])
        && (l4, mask.as_slice(), xor.as_slice(), data.as_slice()) == ("tcp", &[0x12], &[0], &[0x02])
    {
        return ("tcp flags & (syn | ack) == syn".to_owned(), rest);
    }
    if let [
        Expr::Payload { base: Base::Transport, offset: 2, len: 2, into },
        Expr::Cmp { op, from, data },
        rest @ ..,
    ] = exprs
        && let (true, Ok(port)) = (into == from, data.as_slice().try_into())
    {
        return (format!("{l4} dport {}{}", op_word(*op, false), u16::from_be_bytes(port)), rest);
    }
    (format!("meta l4proto {l4}"), exprs)
}

fn statement(expr: &Expr) -> Option<String> {
    Some(match expr {
        Expr::Counter => "counter".to_owned(),
        Expr::Verdict(Verdict::Accept) => "accept".to_owned(),
        Expr::Verdict(Verdict::Drop) => "drop".to_owned(),
        Expr::Verdict(Verdict::Return) => "return".to_owned(),
        Expr::Verdict(Verdict::Jump(chain)) => format!("jump {chain}"),
        Expr::Verdict(Verdict::Goto(chain)) => format!("goto {chain}"),
        Expr::Reject(Reject::TcpReset) => "reject with tcp reset".to_owned(),
        Expr::Reject(Reject::AdminProhibited) => "reject with icmpx admin-prohibited".to_owned(),
        Expr::Queue(to) => format!("queue {}", queue_words(*to)),
        _ => return None,
    })
}

fn queue_words(to: QueueTo) -> String {
    let flags = match (to.bypass, to.fanout) {
        (false, false) => "",
        (true, false) => "flags bypass ",
        (false, true) => "flags fanout ",
        (true, true) => "flags bypass,fanout ",
    };
    match to.total {
        0 | 1 => format!("{flags}to {}", to.num),
        total => format!("{flags}to {}-{}", to.num, u32::from(to.num) + u32::from(total) - 1),
    }
}

fn nearest(expr: &Expr) -> String {
    match expr {
        Expr::TargetNfqueue(to) => format!("xt target NFQUEUE {}", queue_words(*to)),
        Expr::Unknown(name) => format!("[{name}]"),
        Expr::Meta(key, _) => format!("[meta {key:?}]"),
        Expr::Ct(key, _) => format!("[ct {}]", ct_word(*key)),
        Expr::Payload { base, offset, len, .. } => format!("[{base:?} bytes {offset}+{len}]"),
        Expr::Bitwise { mask, .. } => format!("[& {mask:02x?}]"),
        Expr::Cmp { op, data, .. } => format!("[{} {data:02x?}]", op_word(*op, true)),
        Expr::Lookup { set, inverted, .. } => {
            format!("[{}@{set}]", if *inverted { "!= " } else { "" })
        }
        Expr::Update { set, .. } => format!("[update @{set}]"),
        Expr::Load { data, .. } => format!("[immediate {data:02x?}]"),
        Expr::Redirect { .. } => "[redirect]".to_owned(),
        Expr::Dnat { .. } => "[dnat]".to_owned(),
        Expr::Counter | Expr::Verdict(_) | Expr::Reject(_) | Expr::Queue(_) => {
            statement(expr).unwrap_or_default()
        }
    }
}

fn ct_word(key: CtKey) -> &'static str {
    match key {
        CtKey::State => "state",
        CtKey::Direction => "direction",
        CtKey::Status => "status",
        CtKey::Protocol => "protocol",
        CtKey::ProtoDst => "original proto-dst",
    }
}

/// The conntrack masks that our rules ask for.
fn ct_bit(key: CtKey, mask: &[u8]) -> Option<&'static str> {
    match (key, u32::from_ne_bytes(mask.try_into().ok()?)) {
        (CtKey::State, 1) => Some("invalid"),
        (CtKey::State, 8) => Some("new"),
        (CtKey::State, 9) => Some("(invalid | new)"),
        (CtKey::Status, 8) => Some("confirmed"),
        _ => None,
    }
}

fn op_word(op: CmpOp, explicit: bool) -> &'static str {
    match (op, explicit) {
        (CmpOp::Eq, true) => "==",
        (CmpOp::Neq, true) => "!=",
        (CmpOp::Eq, false) => "",
        (CmpOp::Neq, false) => "!= ",
    }
}

fn port_word(data: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(data.try_into().ok()?))
}

fn ip_word(family: Family, data: &[u8]) -> Option<IpAddr> {
    Some(match family {
        Family::V4 => <[u8; 4]>::try_from(data).ok()?.into(),
        Family::V6 => <[u8; 16]>::try_from(data).ok()?.into(),
    })
}

fn family_word(data: &[u8]) -> Option<&'static str> {
    match data {
        [2] => Some("ip"),
        [10] => Some("ip6"),
        _ => None,
    }
}

/// By its number, but for loopback, which has the same everywhere.
fn interface_word(data: &[u8]) -> Option<String> {
    Some(match u32::from_ne_bytes(data.try_into().ok()?) {
        1 => "\"lo\"".to_owned(),
        number => number.to_string(),
    })
}

fn l4_word(data: &[u8]) -> Option<&'static str> {
    match data {
        [6] => Some("tcp"),
        [17] => Some("udp"),
        _ => None,
    }
}

fn one_register(used: &[Reg]) -> bool {
    used.windows(2).all(|pair| pair.first() == pair.last())
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queues_read_as_nft_writes_them() {
        let queue = |num, total, bypass, fanout| {
            phrase(&[Expr::Queue(QueueTo { num, total, bypass, fanout })])
        };
        assert_eq!(queue(7, 1, false, false).unwrap(), "queue to 7");
        assert_eq!(queue(0, 4, true, true).unwrap(), "queue flags bypass,fanout to 0-3");
        assert_eq!(queue(65_535, 2, false, true).unwrap(), "queue flags fanout to 65535-65536");
    }

    #[test]
    fn strange_rules_are_told_as_near_as_can_be() {
        let exprs = [
            Expr::Unknown("limit".to_owned()),
            Expr::Meta(MetaKey::Mark, Reg::ONE),
            Expr::Counter,
            Expr::Verdict(Verdict::Drop),
        ];
        assert_eq!(phrase(&exprs).unwrap_err(), "[limit] [meta Mark] counter drop");
        assert_eq!(phrase(&[]).unwrap(), "");
    }
}
