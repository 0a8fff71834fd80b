//! The rules of each chain, with the nft text each one stands for.

use super::encode::DIRECTION_ORIGINAL;
use super::expr::{Base, CmpOp, CtKey, Expr, MetaKey, Reg, Reject, Rule, Verdict};
use super::names::{self, Pair};
use super::options::{Options, QueueVia, Refuse};
use crate::engine::net::Family;

/// `ct state new`: conntrack's bit for it.
const STATE_NEW: u32 = 1 << 3;
/// `ct state invalid`: no flow conntrack can make sense of.
const STATE_INVALID: u32 = 1 << 0;
/// `ct status confirmed`: the flow is in the table, so one packet of it has already left.
const STATUS_CONFIRMED: u32 = 1 << 3;
const DNS_PORT: u16 = 53;
/// Transport header bytes before the destination port, TCP and UDP alike.
const DPORT_OFFSET: u32 = 2;

/// Protocols that are judged.
#[derive(Clone, Copy)]
enum L4 {
    Tcp,
    Udp,
}

impl L4 {
    fn name(self) -> &'static str {
        match self {
            L4::Tcp => "tcp",
            L4::Udp => "udp",
        }
    }

    fn number(self) -> u8 {
        match self {
            L4::Tcp => 6,
            L4::Udp => 17,
        }
    }
}

/// Address fields of the IP header.
#[derive(Clone, Copy)]
enum Field {
    Saddr,
    Daddr,
}

/// Chain `forward`: which first packets are ours to judge, and which need no judging.
pub fn forward(options: &Options) -> Vec<Rule> {
    let mut rules = first_packets_only();
    rules.extend(both(|family| {
        // ip saddr != @containers4 return
        rule(
            named("not a container", family),
            [is_in(Field::Saddr, family, names::CONTAINERS, false), returns()],
        )
    }));
    // meta mark 0x73796e68 goto refuse
    rules.push(rule("refused by the daemon", [mark_is(names::REFUSE_MARK), goto(names::REFUSE)]));
    rules.extend(address_rules(options.dry_run));
    // ct state & invalid != 0 goto verdict
    rules.push(rule("invalid", [is_invalid(), goto(names::VERDICT)]));
    for l4 in [L4::Udp, L4::Tcp] {
        // udp dport 53 counter return
        rules.push(rule(
            format!("dns over {}", l4.name()),
            [l4_is(l4), dport_is(DNS_PORT), counter(), returns()],
        ));
    }
    for l4 in [L4::Tcp, L4::Udp] {
        // Any new TCP packet, not only SYN: an ACK first would be picked up mid-stream and confirm the flow.
        // By what conntrack will confirm, not by the header: it reads through an IPv6 authentication header and
        // `meta l4proto` does not, so that such a packet would pass and open the way for the bare flow.
        // ct original protocol tcp counter goto verdict
        rules.push(rule(
            format!("judge {}", l4.name()),
            [flow_is(l4), counter(), goto(names::VERDICT)],
        ));
    }
    rules
}

/// Replies, established flows, and flows whose first packet was already let through go on at once.
fn first_packets_only() -> Vec<Rule> {
    let state = Expr::Ct(CtKey::State, Reg::ONE);
    let status = Expr::Ct(CtKey::Status, Reg::ONE);
    let direction = Expr::Ct(CtKey::Direction, Reg::ONE);
    vec![
        // ct state & (invalid | new) == 0 return
        rule("known flow", [masked(state, STATE_INVALID | STATE_NEW, CmpOp::Eq), returns()]),
        // ct direction != original return
        rule("a reply", [vec![direction, cmp(CmpOp::Neq, &[DIRECTION_ORIGINAL])], returns()]),
        // ct status & confirmed != 0 return
        rule("already accepted", [masked(status, STATUS_CONFIRMED, CmpOp::Neq), returns()]),
    ]
}

/// A packet conntrack finds invalid (a bad checksum, impossible flags) can carry a payload to whoever waits for it,
/// and opens no flow that could be judged. Dropped without an answer, as it would deserve none.
fn invalid(options: &Options) -> Rule {
    let verdict = match options.passes_unjudged() {
        // ct state & invalid != 0 counter drop
        false => vec![Expr::Verdict(Verdict::Drop)],
        // ct state & invalid != 0 counter return
        true => returns(),
    };
    rule("no flow at all", [is_invalid(), counter(), verdict])
}

fn is_invalid() -> Vec<Expr> {
    masked(Expr::Ct(CtKey::State, Reg::ONE), STATE_INVALID, CmpOp::Neq)
}

/// `KEY & MASK == 0`, or `!= 0`.
fn masked(key: Expr, mask: u32, op: CmpOp) -> Vec<Expr> {
    vec![key, keep(mask), cmp(op, &0_u32.to_ne_bytes())]
}

/// What addresses alone decide, in this order: allow always beats block. A dry run counts what it would refuse
/// and goes on, so that the daemon judges it as well.
fn address_rules(dry_run: bool) -> Vec<Rule> {
    let refused = || if dry_run { Vec::new() } else { goto(names::REFUSE) };
    let mut rules = Vec::new();
    // ip saddr @quarantine4 counter goto refuse
    rules.extend(both(|family| {
        let quarantined = is_in(Field::Saddr, family, names::QUARANTINE, true);
        rule(named("quarantined", family), [quarantined, counter(), refused()])
    }));
    // ip daddr @local4 return
    rules.extend(both(|family| {
        rule(named("local", family), [is_in(Field::Daddr, family, names::LOCAL, true), returns()])
    }));
    // ip daddr @allow4 counter accept
    rules.extend(both(|family| {
        let allowed = is_in(Field::Daddr, family, names::ALLOW, true);
        rule(named("allowed", family), [allowed, counter(), vec![Expr::Verdict(Verdict::Accept)]])
    }));
    // ip daddr @block4 counter goto refuse
    rules.extend(both(|family| {
        let blocked = is_in(Field::Daddr, family, names::BLOCK, true);
        rule(named("blocked", family), [blocked, counter(), refused()])
    }));
    // ip saddr . ip daddr @denied4 counter goto refuse
    rules.extend(both(|family| {
        let denied = pair_denied(family);
        rule(named("denied a moment ago", family), [denied, counter(), refused()])
    }));
    rules
}

/// Chain `verdict`.
pub fn verdict(options: &Options) -> Vec<Rule> {
    let to = options.queue_to();
    let queue = match options.queue_via {
        // counter queue flags bypass,fanout to 0-3
        QueueVia::Native => Expr::Queue(to),
        // iptables' -j NFQUEUE --queue-balance 0:3 --queue-bypass --queue-cpu-fanout; nft has no text for it
        QueueVia::Compat => Expr::TargetNfqueue(to),
    };
    vec![invalid(options), rule("ask the daemon", [counter(), vec![queue]])]
}

/// Chain `refuse`.
pub fn refuse(how: Refuse) -> Vec<Rule> {
    match how {
        Refuse::Reset => vec![
            // meta l4proto tcp counter reject with tcp reset
            rule("refuse tcp", [l4_is(L4::Tcp), counter(), vec![Expr::Reject(Reject::TcpReset)]]),
            // counter reject with icmpx admin-prohibited
            rule("refuse", [counter(), vec![Expr::Reject(Reject::AdminProhibited)]]),
        ],
        // counter drop
        Refuse::Drop => {
            vec![rule("refuse silently", [counter(), vec![Expr::Verdict(Verdict::Drop)]])]
        }
    }
}

fn rule<const N: usize>(comment: impl Into<String>, parts: [Vec<Expr>; N]) -> Rule {
    Rule { comment: comment.into(), exprs: parts.into_iter().flatten().collect() }
}

fn both(rule_of: impl Fn(Family) -> Rule) -> [Rule; 2] {
    Family::BOTH.map(rule_of)
}

fn named(what: &str, family: Family) -> String {
    match family {
        Family::V4 => format!("{what}, IPv4"),
        Family::V6 => format!("{what}, IPv6"),
    }
}

fn returns() -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Return)]
}

fn goto(chain: &str) -> Vec<Expr> {
    vec![Expr::Verdict(Verdict::Goto(chain.to_owned()))]
}

fn counter() -> Vec<Expr> {
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

fn mark_is(mark: u32) -> Vec<Expr> {
    vec![Expr::Meta(MetaKey::Mark, Reg::ONE), cmp(CmpOp::Eq, &mark.to_ne_bytes())]
}

fn l4_is(l4: L4) -> Vec<Expr> {
    vec![Expr::Meta(MetaKey::L4Proto, Reg::ONE), cmp(CmpOp::Eq, &[l4.number()])]
}

fn flow_is(l4: L4) -> Vec<Expr> {
    vec![Expr::Ct(CtKey::Protocol, Reg::ONE), cmp(CmpOp::Eq, &[l4.number()])]
}

fn dport_is(port: u16) -> Vec<Expr> {
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

fn lookup(set: Pair, family: Family, inverted: bool) -> Expr {
    Expr::Lookup { set: set.of(family).to_owned(), from: Reg::ONE, inverted }
}

fn is_in(field: Field, family: Family, set: Pair, member: bool) -> Vec<Expr> {
    let load = [address(field, family, Reg::ONE), lookup(set, family, !member)];
    family_is(family).into_iter().chain(load).collect()
}

fn pair_denied(family: Family) -> Vec<Expr> {
    let source = address(Field::Saddr, family, Reg::ONE);
    let destination = address(Field::Daddr, family, Reg::second(family));
    family_is(family)
        .into_iter()
        .chain([source, destination, lookup(names::DENIED, family, false)])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::{Posture, Ruleset};
    use std::collections::BTreeSet;

    // NFTNL_UDATA_COMMENT_MAXLEN: nft(8) shows no longer one.
    const COMMENT_MAX: usize = 127;

    #[test]
    fn comments_name_one_rule_each_and_fit() {
        for refuse in [Refuse::Reset, Refuse::Drop] {
            for chain in Ruleset::new(&Options { refuse, ..Options::default() }).chains {
                let names: BTreeSet<&str> =
                    chain.rules.iter().map(|rule| rule.comment.as_str()).collect();
                assert_eq!(names.len(), chain.rules.len(), "{}", chain.name);
                assert!(names.iter().all(|name| !name.is_empty() && name.len() <= COMMENT_MAX));
                assert!(names.iter().all(|name| !name.contains(['"', '\\', '\n'])));
            }
        }
    }

    #[test]
    fn posture_alone_decides_what_passes_unjudged() {
        for queue_via in [QueueVia::Native, QueueVia::Compat] {
            for (posture, dry_run, wanted) in [
                (Posture::Closed, false, false),
                (Posture::Open, false, true),
                (Posture::Closed, true, true),
            ] {
                let rules = verdict(&Options { posture, queue_via, dry_run, ..Options::default() });
                let Some(Expr::Queue(to) | Expr::TargetNfqueue(to)) = rules[1].exprs.last() else {
                    panic!()
                };
                assert_eq!(to.bypass, wanted);
                let passes = rules[0].exprs.last() == Some(&Expr::Verdict(Verdict::Return));
                assert_eq!(passes, wanted, "and whether invalid packets pass");
            }
        }
    }

    #[test]
    fn no_set_refuses_in_a_dry_run() {
        for (dry_run, refusing) in [(false, 7), (true, 1)] {
            let rules = forward(&Options { dry_run, ..Options::default() });
            let refuses = Expr::Verdict(Verdict::Goto(names::REFUSE.to_owned()));
            // What remains is the daemon's own mark.
            assert_eq!(rules.iter().filter(|rule| rule.exprs.contains(&refuses)).count(), refusing);
            assert_eq!(rules.len(), forward(&Options::default()).len());
        }
    }

    #[test]
    fn fanout_needs_more_than_one_queue() {
        let fanout = |queues| Options { queues, ..Options::default() }.queue_to();
        assert!(!fanout(1).fanout && fanout(2).fanout);
        assert_eq!(fanout(0).total, 1);
    }
}
