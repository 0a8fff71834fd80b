//! What a bulk says, read back with what reads the kernel's dumps.

use std::collections::BTreeSet;
use std::net::IpAddr;

use proptest::prelude::*;
use rustables::sys;

use super::bulk::Bulk;
use super::decode;
use super::element::{self, Element, Found, Key, Piece};
use super::replace::difference;
use super::ruleset;
use super::wire::{self, Message, flag, nft_type};
use crate::engine::intervals::{Span, merge};
use crate::engine::net::Family;

/// The messages of a bulk between its first and its last, which have to be those of a transaction.
fn inner(bytes: &[u8]) -> Vec<Message<'_>> {
    let messages = wire::messages(bytes).unwrap();
    let (first, last) = (messages[0], messages[messages.len() - 1]);
    assert_eq!(first.kind, flag(sys::NFNL_MSG_BATCH_BEGIN));
    assert_eq!(last.kind, flag(sys::NFNL_MSG_BATCH_END));
    for (seq, message) in messages.iter().enumerate() {
        assert_eq!(message.seq as usize, seq);
        let asks = message.flags & flag(sys::NLM_F_ACK) != 0;
        assert_eq!(asks, seq != 0 && seq != messages.len() - 1);
    }
    messages[1..messages.len() - 1].to_vec()
}

fn set_of(message: &Message<'_>) -> String {
    let attrs = message.attrs().unwrap();
    assert_eq!(attrs.text(sys::NFTA_SET_ELEM_LIST_TABLE, "table").unwrap(), "synhold");
    attrs.text(sys::NFTA_SET_ELEM_LIST_SET, "set").unwrap()
}

fn pieces(message: &Message<'_>, kind: ruleset::Key, ranges: bool) -> Vec<Piece> {
    let list = message.attrs().unwrap().nest(sys::NFTA_SET_ELEM_LIST_ELEMENTS).unwrap();
    list.iter().map(|(_, bytes)| element::read(bytes, kind, ranges).unwrap().unwrap()).collect()
}

#[test]
fn deeds_keep_their_order_and_name_their_set() {
    let address: IpAddr = "192.0.2.1".parse().unwrap();
    let mut bulk = Bulk::new();
    assert!(bulk.is_empty());
    let one = || [Element::new(Key::Address(address))];
    bulk.flush("a").add("b", one()).remove("a", one()).add("b", []).remove("b", []);
    assert_eq!((bulk.is_empty(), bulk.messages()), (false, 3));
    let bytes = bulk.finish().to_vec();
    let sent: Vec<(String, u16, bool)> = inner(&bytes)
        .iter()
        .map(|message| {
            let list = message.attrs().unwrap().get(sys::NFTA_SET_ELEM_LIST_ELEMENTS);
            (set_of(message), message.kind, list.is_some())
        })
        .collect();
    let (new, delete) = (nft_type(sys::NFT_MSG_NEWSETELEM), nft_type(sys::NFT_MSG_DELSETELEM));
    let set = |name: &str| name.to_owned();
    assert_eq!(sent, [(set("a"), delete, false), (set("b"), new, true), (set("a"), delete, true)]);
}

#[test]
fn no_list_is_longer_than_its_length_can_say() {
    let far = |n: u32| Element {
        key: Key::Pair(Family::V6.address(n.into()), Family::V6.address(u128::MAX - u128::from(n))),
        timeout_ms: Some(u64::from(n)),
    };
    let mut bulk = Bulk::new();
    bulk.add("denied6", (0..10_000).map(far));
    let bytes = bulk.finish().to_vec();
    let messages = inner(&bytes);
    let mut seen = Vec::new();
    for message in &messages {
        let found = pieces(message, ruleset::Key::Pair(Family::V6), false);
        let list = message.attrs().unwrap().get(sys::NFTA_SET_ELEM_LIST_ELEMENTS).unwrap().len();
        assert!(list < 65_532 && (list > 65_000 || seen.len() + found.len() == 10_000), "{list}");
        seen.extend(found.into_iter().map(|piece| piece.found.element));
    }
    // A timeout of zero is how the kernel says there is none.
    let wanted: Vec<Element> = (0..10_000)
        .map(|n| Element { timeout_ms: far(n).timeout_ms.filter(|ms| *ms != 0), ..far(n) })
        .collect();
    assert_eq!(seen, wanted);
}

fn spans() -> impl Strategy<Value = Vec<Span>> {
    // Near the ends of a family, and anywhere.
    let first = prop_oneof![0_u128..50, (u128::MAX - 50)..=u128::MAX, any::<u128>()];
    prop::collection::vec((first, 0_u128..9), 0..40).prop_map(|spans| {
        merge(spans.into_iter().map(|(first, more)| Span::new(first, first.saturating_add(more))))
    })
}

fn of_family(spans: &[Span], family: Family) -> Vec<Span> {
    let highest = family.highest();
    merge(spans.iter().map(|span| Span::new(span.first() & highest, span.last() & highest)))
}

fn ranges(spans: &[Span], family: Family) -> impl Iterator<Item = Element> {
    spans.iter().map(move |span| Element::new(Key::Span(family, *span)))
}

proptest! {
    #[test]
    fn ranges_come_back_whichever_way_the_kernel_lists_them(
        spans in spans(),
        v4: bool,
        down: bool,
        cut in 0_usize..90,
    ) {
        let family = if v4 { Family::V4 } else { Family::V6 };
        let spans = of_family(&spans, family);
        let mut bulk = Bulk::new();
        bulk.add("s", ranges(&spans, family));
        let bytes = bulk.finish().to_vec();
        let messages = inner(&bytes);
        prop_assert_eq!(messages.len(), usize::from(!spans.is_empty()));
        let kind = ruleset::Key::Address(family);
        let mut all: Vec<Piece> =
            messages.iter().flat_map(|message| pieces(message, kind, true)).collect();
        // By the reader of our own small sets too.
        let edges: Vec<_> = messages
            .iter()
            .flat_map(|message| decode::edges(&message.attrs().unwrap(), family).unwrap())
            .collect();
        prop_assert_eq!(decode::spans(&edges, family), spans.clone());

        if down {
            all.reverse();
        }
        let joined = |pieces, cut| -> Vec<Element> {
            element::join(pieces, cut).iter().map(|found| found.element).collect()
        };
        let wanted: Vec<Element> = ranges(&spans, family).collect();
        prop_assert_eq!(&joined(all.clone(), false), &wanted);
        // Cut anywhere, what is left is true.
        let whole = cut >= all.len();
        all.truncate(cut);
        let some: BTreeSet<Key> = joined(all.clone(), !whole).iter().map(|it| it.key).collect();
        prop_assert!(some.iter().all(|key| wanted.iter().any(|it| it.key == *key)), "{some:?}");
        prop_assert!(some.len() + 1 >= all.len() / 2);
    }

    #[test]
    fn elements_of_anything_are_errors_or_elements(bytes: Vec<u8>, ranges: bool, v4: bool, pair: bool) {
        let family = if v4 { Family::V4 } else { Family::V6 };
        let kind = if pair { ruleset::Key::Pair(family) } else { ruleset::Key::Address(family) };
        let _ = element::read(&bytes, kind, ranges);
        let _ = element::read_any(&bytes);
        let _ = element::read_counter(&bytes);
    }

    #[test]
    fn a_difference_turns_one_into_the_other(
        have in prop::collection::btree_map(0_u32..30, prop::option::of(1_u64..4), 0..20),
        want in prop::collection::btree_map(0_u32..30, prop::option::of(1_u64..4), 0..20),
    ) {
        let key = |n: u32| Key::Address(Family::V4.address(n.into()));
        // Minutes, far beyond the slack.
        let ms = |minutes: Option<u64>| minutes.map(|minutes| minutes * 60_000);
        let found: Vec<Found> = have
            .iter()
            .map(|(n, time)| Found {
                element: Element { key: key(*n), timeout_ms: ms(*time) },
                expires_ms: ms(*time).map(|ms| ms - 10),
                count: None,
            })
            .collect();
        let wanted: Vec<Element> =
            want.iter().map(|(n, time)| Element { key: key(*n), timeout_ms: ms(*time) }).collect();
        let (gone, new) = difference(&found, wanted.iter().copied());
        let mut now: Vec<Element> = found.iter().map(|found| found.element).collect();
        now.retain(|element| !gone.contains(&element.key));
        for element in &new {
            prop_assert!(now.iter().all(|it| it.key != element.key), "it would be refused");
            now.push(*element);
        }
        now.sort_unstable_by_key(|element| element.key);
        prop_assert_eq!(now, wanted);
        let same = have.iter().filter(|(n, time)| want.get(n) == Some(time)).count();
        prop_assert_eq!((gone.len(), new.len()), (have.len() - same, want.len() - same));
    }
}
