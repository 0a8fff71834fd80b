//! Elements in the real kernel: loaded in bulk, replaced, asked for one by one, and listed.

mod questions;
mod replaced;
mod watch;

use std::net::{IpAddr, Ipv4Addr};

use synhold::engine::intervals::Span;
use synhold::engine::net::{Family, number};
use synhold::nftables::element::Key;
use synhold::nftables::{Bulk, Channel, Element, Error, dump};

use super::rules::{in_netns, nft, nft_load};

/// Our table with sets of every shape, and nothing else.
const SETS: &str = "table inet synhold {
    set ranges4 { type ipv4_addr; flags interval, timeout; gc-interval 1d; }
    set ranges6 { type ipv6_addr; flags interval, timeout; gc-interval 1d; }
    set hosts4 { type ipv4_addr; size 1048576; }
    set hosts6 { type ipv6_addr; size 1048576; }
    set tight4 { type ipv4_addr; size 4; }
    set pairs4 { type ipv4_addr . ipv4_addr; flags timeout; timeout 60s; counter; }
    set pairs6 { type ipv6_addr . ipv6_addr; flags timeout; timeout 60s; counter; }
}";

/// Runs in a namespace with those sets.
fn with_sets<T: Send + 'static>(test: impl FnOnce(&mut Channel) -> T + Send + 'static) -> T {
    in_netns(|| {
        nft_load(SETS);
        test(&mut Channel::open().unwrap())
    })
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// `10.0.0.0-10.0.0.9` or one address, as a range.
fn range(text: &str) -> Element {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (address(first), address(last));
    Element::new(Key::Span(Family::of(first), Span::new(number(first), number(last))))
}

fn host(text: &str) -> Element {
    Element::new(Key::Address(address(text)))
}

fn pair(source: &str, destination: &str) -> Element {
    Element::new(Key::Pair(address(source), address(destination)))
}

fn ranges(texts: &[&str]) -> Vec<Element> {
    texts.iter().map(|text| range(text)).collect()
}

/// Every tenth address from 10.0.0.0 on.
fn many(count: u32) -> impl Iterator<Item = Element> + Clone {
    (0..count).map(|n| Element::new(Key::Address(IpAddr::V4(Ipv4Addr::from(0x0a00_0000 + n * 10)))))
}

/// A range of four at every tenth address from 10.0.0.0 on.
fn many_ranges(count: u32) -> impl Iterator<Item = Element> + Clone {
    (0..count).map(|n| {
        let first = u128::from(0x0a00_0000 + n * 10);
        Element::new(Key::Span(Family::V4, Span::new(first, first + 3)))
    })
}

/// What a set holds, as text, by our own dump.
#[track_caller]
fn shown(set: &str) -> Vec<String> {
    let (found, more) = dump(set, 1_000_000).unwrap();
    assert!(!more);
    found.iter().map(|found| found.element.key.to_string()).collect()
}

/// The same by nft.
fn listed(set: &str) -> String {
    nft(&format!("list set inet synhold {set}"))
}

fn load(channel: &mut Channel, set: &str, elements: impl IntoIterator<Item = Element>) {
    let mut bulk = Bulk::new();
    bulk.add(set, elements);
    channel.send_bulk(bulk).unwrap();
}

#[test]
fn what_is_loaded_is_there_and_nothing_else() {
    with_sets(|channel| {
        let mut bulk = Bulk::new();
        bulk.add(
            "ranges4",
            ranges(&["0.0.0.0", "10.0.0.0-10.0.0.9", "10.0.0.11", "255.255.255.0-255.255.255.255"]),
        )
        .add(
            "ranges6",
            ranges(&[
                "::-::7",
                "2001:db8::-2001:db8::ffff",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ]),
        )
        .add("hosts4", ["192.0.2.1", "255.255.255.255", "0.0.0.0"].map(host))
        .add("hosts6", ["2001:db8::9"].map(host))
        .add("pairs4", [pair("172.17.0.2", "192.0.2.9")])
        .add("pairs6", [pair("fd00::2", "2001:db8::9")]);
        let length = bulk.len_bytes();
        assert!((500..2_000).contains(&length), "{length}");
        channel.send_bulk(bulk).unwrap();
        let all = ["0.0.0.0", "10.0.0.0-10.0.0.9", "10.0.0.11", "255.255.255.0/24"];
        assert_eq!(shown("ranges4"), all);
        let last = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        assert_eq!(shown("ranges6"), ["::/125", "2001:db8::/112", last]);
        assert_eq!(shown("hosts4"), ["0.0.0.0", "192.0.2.1", "255.255.255.255"]);
        assert_eq!(shown("hosts6"), ["2001:db8::9"]);
        assert_eq!(shown("pairs4"), ["172.17.0.2 . 192.0.2.9"]);
        assert_eq!(shown("pairs6"), ["fd00::2 . 2001:db8::9"]);
        let text = listed("ranges4");
        for element in all.iter().chain(&["255.255.255.0/24"]) {
            assert!(text.contains(element), "{text}");
        }
        assert!(listed("pairs4").contains("172.17.0.2 . 192.0.2.9"));
    });
}

#[test]
fn tens_of_thousands_go_in_and_out_in_one_transaction_each() {
    with_sets(|channel| {
        let before = synhold::nftables::generation().unwrap().unwrap();
        let mut bulk = Bulk::new();
        bulk.add("hosts4", many(50_000)).add("ranges4", many_ranges(30_000));
        assert!(bulk.messages() > 20);
        channel.send_bulk(bulk).unwrap();
        assert_eq!(synhold::nftables::generation().unwrap(), Some(before + 1));
        assert_eq!((shown("hosts4").len(), shown("ranges4").len()), (50_000, 30_000));

        let mut bulk = Bulk::new();
        bulk.remove("hosts4", many(49_999)).remove("ranges4", many_ranges(29_999));
        channel.send_bulk(bulk).unwrap();
        assert_eq!(shown("hosts4"), ["10.7.161.22"]);
        assert_eq!(shown("ranges4"), ["10.4.147.214-10.4.147.217"]);
        let mut bulk = Bulk::new();
        bulk.flush("hosts4").flush("ranges4");
        channel.send_bulk(bulk).unwrap();
        assert!(shown("hosts4").is_empty() && shown("ranges4").is_empty());
    });
}

#[test]
fn nothing_to_do_is_no_transaction() {
    with_sets(|channel| {
        let before = synhold::nftables::generation().unwrap();
        let mut bulk = Bulk::new();
        bulk.add("no_such_set", []).remove("ranges4", []);
        assert!(bulk.is_empty());
        channel.send_bulk(bulk).unwrap();
        assert_eq!(synhold::nftables::generation().unwrap(), before);
    });
}

#[test]
fn one_bad_element_at_the_end_leaves_everything_as_it_was() {
    with_sets(|channel| {
        load(channel, "hosts4", [host("192.0.2.1")]);
        load(channel, "ranges4", ranges(&["192.0.2.0-192.0.2.9"]));
        let mut bulk = Bulk::new();
        bulk.flush("hosts4").flush("ranges4");
        bulk.add("hosts4", many(20_000)).add("ranges4", many_ranges(20_000));
        // It overlaps the last one.
        bulk.add("ranges4", ranges(&["10.3.13.49-10.3.13.60"]));
        let error = channel.send_bulk(bulk).unwrap_err();
        assert!(matches!(error, Error::Stale { .. }), "{error}");
        let text = error.to_string();
        assert!(
            text.starts_with("the addition of 10.3.13.49-10.3.13.60 to set ranges4 does not fit"),
            "{text}"
        );
        assert_eq!(shown("hosts4"), ["192.0.2.1"]);
        assert_eq!(shown("ranges4"), ["192.0.2.0-192.0.2.9"]);
    });
}

#[test]
fn what_is_gone_or_in_the_way_is_told_by_name() {
    with_sets(|channel| {
        load(channel, "hosts4", ["192.0.2.1", "192.0.2.2"].map(host));
        load(channel, "ranges4", ranges(&["192.0.2.0-192.0.2.9", "192.0.2.20-192.0.2.29"]));
        let mut stale = |add: bool, set: &str, element, what: &str| {
            let mut bulk = Bulk::new();
            if add {
                bulk.add(set, [element])
            } else {
                bulk.remove(set, [element])
            };
            let error = channel.send_bulk(bulk).unwrap_err();
            assert!(matches!(&error, Error::Stale { what: told, .. } if told == what), "{error}");
        };
        stale(false, "hosts4", host("192.0.2.3"), "the removal of 192.0.2.3 from set hosts4");
        stale(false, "ranges4", range("192.0.2.20"), "the removal of 192.0.2.20 from set ranges4");
        stale(false, "ranges4", range("192.0.2.40"), "the removal of 192.0.2.40 from set ranges4");
        let element = range("192.0.2.5-192.0.2.15");
        stale(true, "ranges4", element, "the addition of 192.0.2.5-192.0.2.15 to set ranges4");
        stale(true, "hosts5", host("192.0.2.3"), "the addition of elements to set hosts5");
        assert_eq!(shown("hosts4"), ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(shown("ranges4"), ["192.0.2.0-192.0.2.9", "192.0.2.20-192.0.2.29"]);
    });
}

#[test]
fn a_full_set_says_so() {
    with_sets(|channel| {
        let mut bulk = Bulk::new();
        bulk.add("tight4", many(5));
        let error = channel.send_bulk(bulk).unwrap_err();
        assert!(matches!(error, Error::Full { .. }), "{error}");
        assert!(shown("tight4").is_empty());
        load(channel, "tight4", many(4));
    });
}

#[test]
fn ranges_may_touch_and_keep_their_times() {
    with_sets(|channel| {
        let timed = |text: &str, ms| Element { timeout_ms: Some(ms), ..range(text) };
        let elements = [
            range("192.0.2.0-192.0.2.9"),
            timed("192.0.2.10", 3_600_000),
            range("192.0.2.11-192.0.2.19"),
            timed("192.0.2.20-192.0.2.29", 7_200_000),
        ];
        load(channel, "ranges4", elements);
        let all =
            ["192.0.2.0-192.0.2.9", "192.0.2.10", "192.0.2.11-192.0.2.19", "192.0.2.20-192.0.2.29"];
        assert_eq!(shown("ranges4"), all);
        let (found, _) = dump("ranges4", 10).unwrap();
        let times: Vec<Option<u64>> = found.iter().map(|found| found.element.timeout_ms).collect();
        assert_eq!(times, [None, Some(3_600_000), None, Some(7_200_000)]);
        let left = found[1].expires_ms.unwrap();
        assert!((3_590_000..=3_600_000).contains(&left), "{left}");
        assert_eq!(found[0].expires_ms, None);

        // One goes from between two it touches, and comes back.
        let mut bulk = Bulk::new();
        bulk.remove("ranges4", [range("192.0.2.10")]);
        channel.send_bulk(bulk).unwrap();
        assert_eq!(shown("ranges4").len(), 3);
        load(channel, "ranges4", [range("192.0.2.10")]);
        assert_eq!(shown("ranges4"), all);
    });
}

#[test]
fn a_timeout_ends_a_range_and_nothing_else() {
    with_sets(|channel| {
        let short = Element { timeout_ms: Some(50), ..range("192.0.2.10-192.0.2.19") };
        load(channel, "ranges4", [range("192.0.2.0-192.0.2.9"), short, range("192.0.2.20")]);
        super::lab::eventually("expiry", std::time::Duration::from_secs(5), || {
            channel.get("ranges4", Key::point(address("192.0.2.15"))).unwrap().is_none()
        });
        assert_eq!(shown("ranges4"), ["192.0.2.0-192.0.2.9", "192.0.2.20"]);
        // Removing what has expired is an error; adding over it is none.
        let mut bulk = Bulk::new();
        bulk.remove("ranges4", [range("192.0.2.10-192.0.2.19")]);
        assert!(matches!(channel.send_bulk(bulk), Err(Error::Stale { .. })));
        load(channel, "ranges4", [range("192.0.2.12-192.0.2.13")]);
        assert_eq!(shown("ranges4"), ["192.0.2.0-192.0.2.9", "192.0.2.12/31", "192.0.2.20"]);
    });
}

#[test]
fn a_timeout_is_changed_by_removing_first() {
    with_sets(|channel| {
        load(channel, "ranges4", [range("192.0.2.0-192.0.2.9")]);
        let timed = Element { timeout_ms: Some(60_000), ..range("192.0.2.0-192.0.2.9") };
        let mut bulk = Bulk::new();
        bulk.remove("ranges4", [timed]).add("ranges4", [timed]);
        channel.send_bulk(bulk).unwrap();
        let (found, _) = dump("ranges4", 10).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].element, timed);
    });
}
