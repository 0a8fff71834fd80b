//! One element asked for, dumps cut short, sizes, counters: what inspection is made of.

use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::time::{Duration, Instant};

use synhold::engine::net::Family;
use synhold::nftables::element::Key;
use synhold::nftables::ruleset::{self, INTERVAL, TIMEOUT};
use synhold::nftables::{Channel, Element, Error, counters, dump};

use super::{
    address, host, load, many, many_ranges, nft, nft_load, pair, range, ranges, with_sets,
};

#[track_caller]
fn range_of(channel: &mut Channel, set: &str, at: &str) -> Option<String> {
    let found = channel.get(set, Key::point(address(at))).unwrap();
    found.map(|found| found.element.key.to_string())
}

#[test]
fn any_address_of_a_range_gives_the_whole_range() {
    with_sets(|channel| {
        let four = [
            "0.0.0.0",
            "192.0.2.0-192.0.2.9",
            "192.0.2.10",
            "192.0.2.11",
            "192.0.2.12-192.0.2.19",
            "255.255.255.252-255.255.255.255",
        ];
        load(channel, "ranges4", ranges(&four));
        for (at, wanted) in [
            ("0.0.0.0", Some("0.0.0.0")),
            ("0.0.0.1", None),
            ("192.0.1.255", None),
            ("192.0.2.0", Some("192.0.2.0-192.0.2.9")),
            ("192.0.2.5", Some("192.0.2.0-192.0.2.9")),
            ("192.0.2.9", Some("192.0.2.0-192.0.2.9")),
            ("192.0.2.10", Some("192.0.2.10")),
            ("192.0.2.11", Some("192.0.2.11")),
            ("192.0.2.12", Some("192.0.2.12-192.0.2.19")),
            ("192.0.2.18", Some("192.0.2.12-192.0.2.19")),
            ("192.0.2.19", Some("192.0.2.12-192.0.2.19")),
            ("192.0.2.20", None),
            ("255.255.255.251", None),
            ("255.255.255.252", Some("255.255.255.252/30")),
            ("255.255.255.254", Some("255.255.255.252/30")),
            ("255.255.255.255", Some("255.255.255.252/30")),
        ] {
            let wanted = wanted.map(str::to_owned);
            assert_eq!(range_of(channel, "ranges4", at), wanted, "{at}");
        }
        let top = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
        load(channel, "ranges6", ranges(&["2001:db8::-2001:db8::f", top]));
        let six = |channel: &mut Channel, at| range_of(channel, "ranges6", at);
        assert_eq!(six(channel, "2001:db8::7").as_deref(), Some("2001:db8::/124"));
        assert_eq!(six(channel, "2001:db8::10"), None);
        assert_eq!(six(channel, top).as_deref(), Some(top));
    });
}

#[test]
fn addresses_pairs_times_and_absence() {
    with_sets(|channel| {
        load(channel, "hosts4", [host("192.0.2.1")]);
        load(channel, "hosts6", [host("2001:db8::1")]);
        let timed = Element { timeout_ms: Some(5_000), ..pair("172.17.0.2", "192.0.2.9") };
        load(channel, "pairs4", [timed]);
        load(channel, "pairs6", [pair("fd00::2", "2001:db8::9")]);
        for (set, element) in [
            ("hosts4", host("192.0.2.1")),
            ("hosts6", host("2001:db8::1")),
            ("pairs4", timed),
            ("pairs6", pair("fd00::2", "2001:db8::9")),
        ] {
            let found = channel.get(set, element.key).unwrap().unwrap();
            assert_eq!(found.element, element);
            assert_eq!(found.expires_ms.is_some(), set.starts_with("pairs"), "{found:?}");
            assert_eq!(found.count.is_some(), set.starts_with("pairs"), "{found:?}");
        }
        assert_eq!(channel.get("hosts4", host("192.0.2.2").key).unwrap(), None);
        assert_eq!(channel.get("pairs4", pair("192.0.2.9", "172.17.0.2").key).unwrap(), None);
        assert_eq!(channel.get("ranges4", range("192.0.2.9").key).unwrap(), None);
        assert_eq!(channel.get("no_such_set", host("192.0.2.1").key).unwrap(), None);
    });
}

#[test]
fn one_element_of_many_takes_no_dump() {
    with_sets(|channel| {
        load(channel, "hosts4", many(100_000));
        load(channel, "ranges4", many_ranges(100_000));
        let start = Instant::now();
        for n in 0..1_000_u32 {
            let at = Family::V4.address(u128::from(0x0a00_0002 + n * 990));
            assert!(channel.get("ranges4", Key::point(at)).unwrap().is_some());
            let at = Family::V4.address(u128::from(0x0a00_0000 + n * 990));
            assert!(channel.get("hosts4", Key::Address(at)).unwrap().is_some());
        }
        // A dump takes some hundred milliseconds, one of these some ten microseconds.
        let each = start.elapsed() / 2_000;
        assert!(each < Duration::from_millis(2), "{each:?}");
        let info = channel.set_info("ranges4").unwrap().unwrap();
        assert!(info.count.is_none_or(|count| count == 100_000), "{info:?}");
    });
}

#[test]
fn a_set_tells_what_it_is() {
    with_sets(|channel| {
        let info = channel.set_info("hosts4").unwrap().unwrap();
        assert_eq!((info.key, info.flags), (ruleset::Key::Address(Family::V4), 0));
        assert_eq!(info.size, Some(1_048_576));
        let info = channel.set_info("ranges6").unwrap().unwrap();
        assert_eq!((info.key, info.size), (ruleset::Key::Address(Family::V6), None));
        assert_eq!(info.flags & (INTERVAL | TIMEOUT), INTERVAL | TIMEOUT);
        let info = channel.set_info("pairs4").unwrap().unwrap();
        assert_eq!((info.key, info.timeout_ms), (ruleset::Key::Pair(Family::V4), 60_000));
        assert_eq!(channel.set_info("no_such_set").unwrap(), None);
        assert_eq!(channel.set_count("no_such_set").unwrap(), None);
        load(channel, "ranges4", ranges(&["10.0.0.0-10.0.0.9", "10.0.0.10"]));
        assert!(channel.set_count("ranges4").unwrap().is_none_or(|count| count == 2));
    });
}

#[test]
fn a_dump_stops_at_its_limit() {
    with_sets(|channel| {
        load(channel, "hosts4", many(5_000));
        load(channel, "ranges4", many_ranges(5_000));
        for set in ["hosts4", "ranges4"] {
            for limit in [0, 1, 7, 100, 2_000, 4_999] {
                let (found, more) = dump(set, limit).unwrap();
                assert_eq!((found.len(), more), (limit, true), "{set}");
                for found in found {
                    assert_eq!(channel.get(set, found.element.key).unwrap(), Some(found), "{set}");
                }
            }
            for limit in [5_000, 5_001, usize::MAX] {
                let (found, more) = dump(set, limit).unwrap();
                assert_eq!((found.len(), more), (5_000, false), "{set}");
            }
        }
        assert!(matches!(dump("no_such_set", 5), Err(Error::Stale { .. })));
    });
}

#[test]
fn an_element_for_everything_is_no_element_of_ours() {
    with_sets(|channel| {
        nft_load(
            "table inet synhold { set star { type ipv4_addr; flags interval; elements = { *, 10.0.0.0/8 }; }; }",
        );
        let (found, more) = dump("star", 10).unwrap();
        assert_eq!((found.len(), more), (1, false));
        assert_eq!(found[0].element.key.to_string(), "10.0.0.0/8");
        assert_eq!(range_of(channel, "star", "11.0.0.0"), None);
    });
}

#[test]
fn counters_of_rules_and_elements_count() {
    with_sets(|channel| {
        nft_load(
            "table inet synhold {
                chain out {
                    type filter hook output priority 0;
                    ip daddr 127.0.0.9 counter comment \"to nine\"
                    update @pairs4 { ip saddr . ip daddr }
                    ip daddr 127.0.0.9 accept comment \"uncounted\"
                }
            }",
        );
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
        assert!(up.success());
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..3 {
            socket.send_to(&[0; 10], "127.0.0.9:9").unwrap();
        }
        let counts = counters().unwrap();
        assert_eq!(counts.len(), 1, "{counts:?}");
        let rule = &counts[0];
        assert_eq!((rule.chain.as_str(), rule.rule.as_str()), ("out", "to nine"));
        assert_eq!((rule.count.packets, rule.count.bytes), (3, 3 * 38));
        let to: IpAddr = address("127.0.0.9");
        let found = channel.get("pairs4", Key::Pair(address("127.0.0.1"), to)).unwrap().unwrap();
        assert_eq!(found.count.unwrap().packets, 3);
        let (dumped, _) = dump("pairs4", 10).unwrap();
        assert!(dumped.iter().any(|it| it.element == found.element && it.count == found.count));
        nft("delete table inet synhold");
        assert_eq!(counters().unwrap(), []);
    });
}
