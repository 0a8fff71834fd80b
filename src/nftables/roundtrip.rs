//! What is encoded decodes to the same; what is garbled decodes to an error, never a panic.

use proptest::collection::vec;
use proptest::prelude::*;

use super::expr::{Base, CmpOp, CtKey, Expr, MetaKey, QueueTo, Reg, Reject, Rule, Verdict};
use super::ruleset::{Key, Set};
use super::wire::{self, Attrs};
use super::{decode, element, encode};
use crate::engine::intervals::{Span, merge};
use crate::engine::net::Family;

/// One message as the kernel would send it, taken apart again.
fn through_the_wire<T>(attrs: &[wire::Attr], read: impl FnOnce(&Attrs<'_>) -> T) -> T {
    let mut bytes = Vec::new();
    wire::put_message(&mut bytes, rustables::sys::NFT_MSG_NEWRULE, 0, 7, attrs);
    let messages = wire::messages(&bytes).unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].seq, 7);
    read(&messages[0].attrs().unwrap())
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z][a-zA-Z0-9_ ,]{0,30}"
}

fn queue() -> impl Strategy<Value = QueueTo> {
    (any::<u16>(), any::<u16>(), any::<bool>(), any::<bool>())
        .prop_map(|(num, total, bypass, fanout)| QueueTo { num, total, bypass, fanout })
}

fn verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![
        Just(Verdict::Accept),
        Just(Verdict::Drop),
        Just(Verdict::Return),
        name().prop_map(Verdict::Jump),
        name().prop_map(Verdict::Goto),
    ]
}

fn expr() -> impl Strategy<Value = Expr> {
    let reg = || any::<u32>().prop_map(Reg);
    let bytes = || vec(any::<u8>(), 0..20);
    let meta = prop_oneof![
        Just(MetaKey::Mark),
        Just(MetaKey::NfProto),
        Just(MetaKey::L4Proto),
        Just(MetaKey::InputInterface),
        Just(MetaKey::InputName)
    ];
    let ct = prop_oneof![
        Just(CtKey::State),
        Just(CtKey::Direction),
        Just(CtKey::Status),
        Just(CtKey::Protocol),
        Just(CtKey::ProtoDst)
    ];
    let base = prop_oneof![Just(Base::Network), Just(Base::Transport)];
    let op = prop_oneof![Just(CmpOp::Eq), Just(CmpOp::Neq)];
    prop_oneof![
        (meta, reg()).prop_map(|(key, into)| Expr::Meta(key, into)),
        (ct, reg()).prop_map(|(key, into)| Expr::Ct(key, into)),
        (base, any::<u32>(), any::<u32>(), reg())
            .prop_map(|(base, offset, len, into)| Expr::Payload { base, offset, len, into }),
        (reg(), reg(), bytes(), bytes()).prop_map(|(from, into, mask, xor)| Expr::Bitwise {
            from,
            into,
            mask,
            xor
        }),
        (op, reg(), bytes()).prop_map(|(op, from, data)| Expr::Cmp { op, from, data }),
        (name(), reg(), any::<bool>()).prop_map(|(set, from, inverted)| Expr::Lookup {
            set,
            from,
            inverted
        }),
        (name(), reg()).prop_map(|(set, from)| Expr::Update { set, from }),
        (1..u32::MAX, bytes()).prop_map(|(into, data)| Expr::Load { into: Reg(into), data }),
        reg().prop_map(|port| Expr::Redirect { port }),
        (family(), reg()).prop_map(|(family, to)| Expr::Dnat { family, to }),
        Just(Expr::Counter),
        verdict().prop_map(Expr::Verdict),
        prop_oneof![Just(Reject::TcpReset), Just(Reject::AdminProhibited)].prop_map(Expr::Reject),
        queue().prop_map(Expr::Queue),
        queue().prop_map(Expr::TargetNfqueue),
        "x_[a-z]{1,10}".prop_map(Expr::Unknown),
    ]
}

fn family() -> impl Strategy<Value = Family> {
    prop_oneof![Just(Family::V4), Just(Family::V6)]
}

fn key() -> impl Strategy<Value = Key> {
    prop_oneof![
        family().prop_map(Key::Address),
        family().prop_map(Key::Pair),
        family().prop_map(Key::Home),
        Just(Key::Interface),
        // 1 is none of nft's address types.
        any::<u32>().prop_map(|len| Key::Other { kind: 1, len }),
    ]
}

proptest! {
    #[test]
    fn rules(chain in name(), comment in "[a-z ]{0,100}", exprs in vec(expr(), 0..10)) {
        let rule = Rule { comment, exprs };
        let back = through_the_wire(&encode::rule(&chain, &rule), decode::rule).unwrap();
        prop_assert_eq!(back, (chain, rule));
    }

    #[test]
    fn sets(name in name(), key in key(), flags: u32, timeout_ms: u64, numbers: (u32, u32), each in vec(expr(), 0..3)) {
        let flags = flags & !rustables::sys::NFT_SET_ANONYMOUS;
        let (gc_interval_ms, size) = numbers;
        let set = Set { name, key, flags, timeout_ms, gc_interval_ms, size, each, elements: None, catch_all: false };
        let back = through_the_wire(&encode::set(&set, 1), decode::set).unwrap();
        prop_assert_eq!(back, Some(set));
    }

    #[test]
    fn elements(family in family(), ends in vec(any::<(u128, u128)>(), 0..20), low: bool, high: bool, turn: u8) {
        let cut = |address: u128| address & family.highest();
        let mut spans: Vec<Span> = ends.iter().map(|(a, b)| Span::new(cut(*a), cut(*b))).collect();
        spans.extend(low.then(|| Span::new(0, 1)));
        spans.extend(high.then(|| Span::new(family.highest(), family.highest())));
        let spans = merge(spans);
        let mut edges = through_the_wire(&encode::elements("s", &keys(family, &spans)), |attrs| decode::edges(attrs, family)).unwrap();
        // The kernel dumps a tree in its own order.
        let turn = usize::from(turn) % edges.len().max(1);
        edges.rotate_left(turn);
        prop_assert_eq!(decode::spans(&edges, family), spans);
    }

    #[test]
    fn arbitrary_bytes(bytes in vec(any::<u8>(), 0..200), family in family()) {
        if let Ok(messages) = wire::messages(&bytes) {
            for message in messages {
                let _ = message.attrs();
            }
        }
        if let Ok(attrs) = Attrs::parse(&bytes) {
            decode_all(&attrs, family);
        }
    }

    // Real messages with a few bytes changed get further in than noise does.
    #[test]
    fn damaged_bytes(exprs in vec(expr(), 1..6), hits in vec(any::<(u16, u8)>(), 1..6), end: u16, family in family()) {
        let rule = Rule { comment: "a comment".to_owned(), exprs };
        let mut bytes = Vec::new();
        let mut attrs = encode::rule("chain", &rule);
        attrs.extend(encode::elements("s", &keys(family, &[Span::new(1, 9)])));
        wire::put_message(&mut bytes, rustables::sys::NFT_MSG_NEWRULE, 0, 7, &attrs);
        for (place, value) in hits {
            let place = usize::from(place) % bytes.len();
            bytes[place] = value;
        }
        bytes.truncate(usize::from(end) % (bytes.len() + 1));
        if let Ok(messages) = wire::messages(&bytes) {
            for message in messages {
                if let Ok(attrs) = message.attrs() {
                    decode_all(&attrs, family);
                }
            }
        }
    }
}

fn keys(family: Family, spans: &[Span]) -> Vec<element::Key> {
    spans.iter().map(|span| element::Key::Span(family, *span)).collect()
}

fn decode_all(attrs: &Attrs<'_>, family: Family) {
    let _ = decode::table_dormant(attrs);
    let _ = decode::chain(attrs);
    let _ = decode::set(attrs);
    let _ = decode::rule(attrs);
    if let Ok(edges) = decode::edges(attrs, family) {
        decode::spans(&edges, family);
    }
}

#[test]
fn ranges_left_open_or_opened_by_an_end_are_understood() {
    let edge = |address, end| decode::Edge::At { address, end };
    let edges = vec![
        edge(0, true),
        edge(5, false),
        edge(8, true),
        edge(8, false),
        edge(20, true),
        edge(40, false),
    ];
    let spans = decode::spans(&edges, Family::V4);
    assert_eq!(spans, [Span::new(5, 7), Span::new(8, 19), Span::new(40, u128::from(u32::MAX))]);
}
