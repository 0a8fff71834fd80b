//! What the kernel's sets refuse is told: who, whom, by which line of which list, how often, and not too often.

use std::net::IpAddr;

use serde_json::Value;

use super::lab::raw::{self, Raw};
use super::lab::{CT2_4, CT4, Side, at, eventually};
use super::lists::server;
use super::stand::{LATER, PORT, SOON, Stand, assert_passes, hits};

/// First packets to an address, all at once.
fn knock(stand: &Stand, side: Side, dst: IpAddr, times: u16) {
    let src = if side == Side::Ct { CT4 } else { CT2_4 };
    let packets = (0..times).map(|n| raw::syn(at(src, 20_000 + n), at(dst, 80), 1));
    Raw::to_gateway(&stand.lab, side).send_all(packets, 0);
}

fn is_hit(src: IpAddr, dst: IpAddr) -> impl Fn(&Value) -> bool {
    let (src, dst) = (src.to_string(), dst.to_string());
    move |e| e["event"] == "block" && e["src"] == src.as_str() && e["dst"] == dst.as_str()
}

#[test]
fn a_hit_names_the_line_that_refused_and_is_told_once_a_minute() {
    let lists = [
        ("allow.txt", "203.0.113.7 # ours\n"),
        ("block.txt", "# head\n203.0.113.20 # the single one\n203.0.113.64/26 # the net\n"),
        ("quarantine.txt", "172.31.7.2 # was naughty\n"),
    ];
    let mut stand = Stand::with_lists("hits", &["--hold-ms", "50"], &lists);
    stand.resolve(CT2_4.into(), "web.example", server(40));
    for (n, set, entry, note) in [
        (20, "blockhosts4", "203.0.113.20", "the single one"),
        (70, "block4", "203.0.113.64/26", "the net"),
    ] {
        knock(&stand, Side::Ct2, server(n), 7);
        let hit = stand.daemon.expect_event("a hit", is_hit(CT2_4.into(), server(n)), SOON);
        for (key, wanted) in [("set", set), ("list", "block"), ("entry", entry), ("note", note)] {
            assert_eq!(hit[key], wanted, "{key}: {hit}");
        }
        assert_eq!(hit["enforced"], true);
        assert!((1..=7).contains(&hit["count"].as_u64().unwrap()), "{hit}");
        eventually("all are counted", SOON, || {
            hits(&stand.lab, CT2_4.into(), server(n)) == Some(7)
        });
    }
    // In quarantine, wherever it goes; and who goes to it.
    knock(&stand, Side::Ct, server(41), 1);
    let hit = stand.daemon.expect_event("a hit", is_hit(CT4.into(), server(41)), SOON);
    for (key, wanted) in [("set", "quarantine4"), ("list", "quarantine"), ("note", "was naughty")] {
        assert_eq!(hit[key], wanted, "{key}: {hit}");
    }
    knock(&stand, Side::Ct2, CT4.into(), 1);
    let hit = stand.daemon.expect_event("a hit", is_hit(CT2_4.into(), CT4.into()), SOON);
    for (key, wanted) in [("set", "quarantine4"), ("list", "quarantine"), ("note", "was naughty")] {
        assert_eq!(hit[key], wanted, "{key}: {hit}");
    }
    // A second burst is not told again; a later look, which another pair's event proves, has seen it.
    knock(&stand, Side::Ct2, server(20), 5);
    assert_passes(&stand.lab.ct2, at(server(40), PORT));
    assert_passes(&stand.lab.ct2, at(server(7), PORT));
    eventually("it is counted", SOON, || hits(&stand.lab, CT2_4.into(), server(20)) == Some(12));
    for n in [71, 72] {
        knock(&stand, Side::Ct2, server(n), 1);
        stand.daemon.expect_event("a hit", is_hit(CT2_4.into(), server(n)), SOON);
    }
    assert_eq!(stand.daemon.feed().count(is_hit(CT2_4.into(), server(20))), 1);
    for n in [7, 40] {
        assert_eq!(stand.daemon.feed().count(is_hit(CT2_4.into(), server(n))), 0, "accepted");
    }
}

#[test]
fn a_scan_is_not_told_address_by_address() {
    let stand =
        Stand::with_lists("scan", &["--hold-ms", "50"], &[("block.txt", "198.51.100.0/22\n")]);
    let raw = Raw::to_gateway(&stand.lab, Side::Ct);
    let to = |n: u32| IpAddr::from(std::net::Ipv4Addr::from(0xc633_6400 + n));
    raw.send_all((0..1_000).map(|n| raw::syn(at(CT4, 9_000), at(to(n), 80), 1)), 0);
    let all = |e: &Value| e["event"] == "block";
    assert!(stand.daemon.feed().wait_count(100, all, SOON) >= 100);
    // Not behind the scan, but in the next look, does the neighbour's event come.
    knock(&stand, Side::Ct2, to(1), 1);
    stand.daemon.expect_event("a hit", is_hit(CT2_4.into(), to(1)), LATER);
    // The scan may fall into two looks before it.
    let told = stand.daemon.feed().count(all);
    assert!(told <= 300, "{told} events of one scan");
}
