//! Accept, hold and refuse, seen on the wire, for TCP and UDP over IPv4 and IPv6.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use super::lab::dial::{Dial, connect_many};
use super::lab::net::{connect, connect_from, udp_ask};
use super::lab::raw::{self, Ext, Raw};
use super::lab::wire::{Seen, Wire};
use super::lab::{CT2_4, CT4, CT6, DEAD4, DEAD6, SRV4, SRV6, Side, at, eventually};
use super::stand::{PORT, SOON, Stand, casts, is_verdict_on, told, waiting};

#[test]
fn a_resolved_destination_passes_and_an_unresolved_one_is_reset() {
    let mut stand = Stand::new("resolved", &["--hold-ms", "300"]);
    for cast in casts() {
        let refused = connect(&stand.lab.ct, cast.dead, SOON).expect_err("nobody resolved it");
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused, "{cast:?}");
        let event = stand.verdict(cast.dead);
        assert_eq!(told(&event), ("drop", "never-resolved"), "{event}");
        assert_eq!(
            (&event["enforced"], &event["grade"]),
            (&true.into(), &"never".into()),
            "{event}"
        );
        assert_eq!(event["evidence"]["healthy"], true, "{event}");
        assert!((300_000..700_000).contains(&event["held_us"].as_u64().unwrap()), "{event}");
        assert_eq!(stand.passed(cast.dead), 0, "the refused SYN was seen on the wire");

        stand.resolve(cast.container, "web.example", cast.server.ip());
        connect(&stand.lab.ct, cast.server, SOON).expect("resolved");
        let event = stand.verdict(cast.server);
        assert_eq!(told(&event), ("accept", "resolved"), "{event}");
        assert_eq!(
            (&event["grade"], &event["names"][0]),
            (&"own".into(), &"web.example".into()),
            "{event}"
        );
        assert_eq!(stand.passed(cast.server), 1);
    }
}

#[test]
fn udp_is_judged_by_its_first_packet() {
    let mut stand = Stand::new("udp", &["--hold-ms", "300"]);
    for cast in casts() {
        let refused = udp_ask(&stand.lab.ct, None, cast.dead, b"hello", SOON);
        assert!(refused.refused(), "{cast:?}: {refused:?}");
        assert_eq!(stand.verdict(cast.dead)["proto"], "udp");
        assert_eq!(stand.passed(cast.dead), 0);

        stand.resolve(cast.container, "quic.example", cast.server.ip());
        let answered = udp_ask(&stand.lab.ct, None, cast.server, b"hello", SOON);
        assert!(answered.answered(), "{cast:?}: {answered:?}");
        assert_eq!(stand.passed(cast.server), 1);
    }
}

#[test]
fn refusing_by_drop_is_silent() {
    let stand = Stand::new("silent", &["--hold-ms", "100", "--refuse", "drop"]);
    let near = super::lab::wire::Wire::watch(&stand.lab.ct, "eth0");
    for cast in casts() {
        let refused =
            connect(&stand.lab.ct, cast.dead, Duration::from_millis(600)).expect_err("dropped");
        assert_eq!(refused.kind(), ErrorKind::TimedOut, "{cast:?}");
        assert_eq!(stand.verdict(cast.dead)["verdict"], "drop");
        assert_eq!(stand.passed(cast.dead), 0);
        let answers = |p: &Seen| !p.outgoing && p.src == cast.dead;
        assert_eq!(near.count_settled(&stand.lab, Side::Ct, answers), 0, "no reset, no ICMP");
    }
}

#[test]
fn a_late_record_releases_the_held_packet() {
    let mut stand = Stand::new("late", &["--hold-ms", "900"]);
    for cast in casts() {
        for udp in [false, true] {
            let (ns, dst) = (stand.lab.ct.clone(), SocketAddr::new(cast.server.ip(), PORT));
            let client = std::thread::spawn(move || match udp {
                false => connect(&ns, dst, SOON).map(|_| ()).map_err(|e| e.to_string()),
                true => udp_ask(&ns, None, dst, b"x", SOON)
                    .answered()
                    .then_some(())
                    .ok_or("no answer".to_owned()),
            });
            stand.wait_held(1);
            assert_eq!(stand.passed(dst), 0, "held, so not on the wire");
            // Another address of another name must not release it.
            stand.resolve(
                cast.container,
                "other.example",
                at(if dst.is_ipv4() { IpAddr::from(DEAD4) } else { DEAD6.into() }, 0).ip(),
            );
            assert_eq!(waiting(&stand.lab), 1);
            stand.log.answer(cast.container, "late.example", dst.ip());
            client.join().unwrap().unwrap_or_else(|error| panic!("{cast:?} udp {udp}: {error}"));
            assert_eq!(stand.passed(dst), 1, "exactly one copy");
            let event = stand.verdict(dst);
            assert_eq!(
                (&event["reason"], &event["names"][0]),
                (&"resolved-after-hold".into(), &"late.example".into())
            );
            assert!(event["held_us"].as_u64().unwrap() > 0);

            // Start over with nothing known, for the next round.
            stand = Stand::new("late", &["--hold-ms", "900"]);
        }
    }
}

#[test]
fn copies_of_a_held_packet_join_it_and_exactly_one_passes() {
    let mut stand = Stand::new("copies", &["--hold-ms", "900", "--queues", "2"]);
    let raw = Raw::to_gateway(&stand.lab, Side::Ct);
    for cast in casts() {
        let src = at(cast.container, 41_000);
        let tcp = raw::syn(src, cast.server, 7);
        let udp = raw::udp(src, cast.server, b"first");
        for packet in [&tcp, &udp] {
            for _ in 0..3 {
                raw.send(packet);
            }
        }
        stand.wait_held(2);
        stand.log.answer(cast.container, "copies.example", cast.server.ip());
        for proto in ["tcp", "udp"] {
            let is = |e: &serde_json::Value| is_verdict_on(e, cast.server) && e["proto"] == proto;
            let event = stand.daemon.expect_event(proto, is, SOON);
            assert_eq!(
                (&event["reason"], &event["copies"]),
                (&"resolved-after-hold".into(), &2.into()),
                "{event}"
            );
        }
        assert_eq!(stand.passed(cast.server), 2, "one SYN and one datagram");
    }
}

#[test]
fn later_datagrams_of_an_accepted_flow_are_not_judged_again() {
    let mut stand = Stand::new("oneway", &[]);
    stand.resolve(CT4.into(), "syslog.example", DEAD4.into());
    let raw = Raw::to_gateway(&stand.lab, Side::Ct);
    let datagram = raw::udp(at(CT4, 5_000), at(DEAD4, 514), b"line");
    raw.send(&datagram);
    stand.verdict(at(DEAD4, 514));
    for _ in 0..5 {
        raw.send(&datagram);
    }
    stand.far.wait_count(6, |p| p.is_udp_to(at(DEAD4, 514)), SOON);
    let verdicts = stand.daemon.feed().count(|e| is_verdict_on(e, at(DEAD4, 514)));
    assert_eq!((stand.passed(at(DEAD4, 514)), verdicts), (6, 1));
}

#[test]
fn an_ack_cannot_open_a_way_for_its_syn() {
    let stand = Stand::new("ackfirst", &["--hold-ms", "200"]);
    let raw = Raw::to_gateway(&stand.lab, Side::Ct);
    let near = Wire::watch(&stand.lab.ct, "eth0");
    for cast in casts() {
        let src = at(cast.container, 42_000);
        raw.send(&raw::ack(src, cast.dead, 100, 200));
        assert_eq!(stand.verdict(cast.dead)["reason"], "never-resolved");
        raw.send(&raw::syn(src, cast.dead, 300));
        // The SYN has had its answer, by a verdict or by the set that the first one left.
        let is_reset = |p: &Seen| p.rst && p.src == cast.dead && p.dst == src;
        assert_eq!(near.wait_count(2, is_reset, SOON), 2, "{:?}", near.all());
        let seen = stand.far.count_settled(&stand.lab, Side::Srv, |p| anything_to(p, cast.dead));
        assert_eq!(seen, 0, "neither ACK nor SYN may leave");
    }
}

fn anything_to(p: &Seen, dst: SocketAddr) -> bool {
    p.dst == dst
}

#[test]
fn packets_conntrack_finds_invalid_carry_nothing_out() {
    for (args, leaves) in [(&[][..], 0), (&["--fail", "open"][..], 2)] {
        let stand = Stand::new("invalid", args);
        let raw = Raw::to_gateway(&stand.lab, Side::Ct);
        let dst = at(SRV4, 9_999);
        let mut datagram = raw::udp(at(CT4, 44_000), dst, b"stolen");
        datagram[26] ^= 0x55; // the UDP checksum
        raw.send(&datagram);
        raw.send(&raw::tcp(at(CT4, 44_000), dst, b"stolen", |_| {})); // no flag at all
        let seen = stand.far.count_settled(&stand.lab, Side::Srv, |p| p.dst == dst);
        assert_eq!(seen, leaves, "{args:?}");
    }
}

#[test]
fn extension_headers_and_fragments_are_read_and_what_cannot_be_is_malformed() {
    let mut stand = Stand::new("strange", &["--hold-ms", "200"]);
    stand.resolve(CT6.into(), "six.example", SRV6.into());
    stand.resolve(CT4.into(), "four.example", SRV4.into());
    let raw = Raw::to_gateway(&stand.lab, Side::Ct);

    let syn = raw::syn(at(CT6, 43_000), at(SRV6, 80), 1);
    raw.send(&raw::with_extensions(&syn, &[Ext::HopByHop, Ext::DestinationOptions(8)]));
    assert_eq!(stand.verdict(at(SRV6, 80))["reason"], "resolved");

    for (src, dst) in [(at(CT4, 43_001), at(SRV4, 8_000)), (at(CT6, 43_001), at(SRV6, 8_000))] {
        for part in raw::fragments(&raw::udp(src, dst, &[7; 600]), 400, 9) {
            raw.send(&part);
        }
        assert_eq!(stand.verdict(dst)["reason"], "resolved", "reassembled, then judged");
    }

    // More extension headers than are copied to us: the ports cannot be read.
    let deep = raw::with_extensions(
        &raw::syn(at(CT6, 43_002), at(SRV6, 81), 1),
        &[Ext::DestinationOptions(60)],
    );
    raw.send(&deep);
    let malformed = |e: &serde_json::Value| e["event"] == "verdict" && e["reason"] == "malformed";
    let event = stand.daemon.expect_event("malformed", malformed, SOON);
    assert_eq!(
        (&event["verdict"], &event["dst"], &event["dport"]),
        (&"drop".into(), &SRV6.to_string().as_str().into(), &serde_json::Value::Null)
    );
    assert_eq!(stand.passed(at(SRV6, 81)), 0);
}

#[test]
fn five_thousand_held_at_once_are_all_answered() {
    let stand = Stand::new("many", &["--hold-ms", "950", "--hold-budget", "256"]);
    stand.lab.gw.sysctl("ipv4/icmp_ratelimit", "0");
    let near = super::lab::wire::Wire::watch(&stand.lab.ct, "eth0");
    let raw = Raw::to_gateway(&stand.lab, Side::Ct);
    let flows: Vec<(SocketAddr, SocketAddr)> = (0..5_000u16)
        .map(|n| (at(Side::Ct.source4((n % 100) as u8), 10_000 + n / 100), at(DEAD4, 1_000 + n)))
        .collect();
    raw.send_all(flows.iter().map(|&(src, dst)| raw::syn(src, dst, 1)), 0);
    eventually("all 5,000 are held", SOON, || waiting(&stand.lab) == 5_000);
    let refused =
        |e: &serde_json::Value| e["event"] == "verdict" && e["reason"] == "never-resolved";
    assert_eq!(stand.daemon.feed().wait_count(5_000, refused, SOON), 5_000);
    assert_eq!(waiting(&stand.lab), 0);
    assert_eq!(
        near.wait_count(5_000, |p| p.rst && !p.outgoing, SOON),
        5_000,
        "every one was reset"
    );
    let leaked = |p: &Seen| p.is_syn();
    assert_eq!(stand.far.count_settled(&stand.lab, Side::Srv, leaked), 0);
}

#[test]
fn a_container_that_dials_dead_addresses_hurts_only_itself() {
    let mut stand = Stand::new("flood", &[]);
    stand.resolve(CT2_4.into(), "web.example", SRV4.into());
    let raw = Raw::to_gateway(&stand.lab, Side::Ct);
    let flood = std::thread::scope(|scope| {
        let flood = scope.spawn(|| {
            let dead = (0..6_000u16).map(|n| raw::syn(at(CT4, 1_024 + n), at(DEAD4, 2_000 + n), 1));
            raw.send_all(dead, 6_000);
        });
        let dials: Vec<Dial> = (0..300).map(|_| at(SRV4, PORT).into()).collect();
        let dialled = connect_many(&stand.lab.ct2, &dials, SOON);
        let failed = dialled.iter().filter(|dialled| dialled.result.is_err()).count();
        assert_eq!(failed, 0, "every connection of the neighbour succeeds");
        flood.join()
    });
    flood.unwrap();
    let over = |e: &serde_json::Value| {
        e["reason"] == "hold-budget" && e["src"] == CT4.to_string().as_str()
    };
    stand.daemon.expect_event("hold-budget", over, SOON);
    let other = stand
        .daemon
        .feed()
        .count(|e| e["verdict"] == "drop" && e["src"] != CT4.to_string().as_str());
    assert_eq!(other, 0, "nobody else was refused");
}

#[test]
fn with_scope_container_the_neighbours_look_up_does_not_count() {
    let mut stand = Stand::new("scope", &["--scope", "container", "--hold-ms", "200"]);
    stand.resolve(CT2_4.into(), "web.example", SRV4.into());
    connect(&stand.lab.ct, at(SRV4, PORT), SOON).expect_err("resolved by the neighbour only");
    let event = stand.verdict(at(SRV4, PORT));
    assert_eq!(
        (&event["reason"], &event["grade"]),
        (&"out-of-scope".into(), &"other".into()),
        "{event}"
    );
    connect(&stand.lab.ct2, at(SRV4, PORT), SOON).expect("the neighbour may");
}

#[test]
fn what_is_not_egress_of_containers_is_left_alone() {
    let stand = Stand::new("notours", &["--hold-ms", "200"]);
    // Inbound to a container and its replies: the server opens the connection.
    let inside = super::lab::serve::Server::tcp(&stand.lab.ct, &[at(CT4, 8_080)]);
    connect(&stand.lab.srv, at(CT4, 8_080), SOON).expect("inbound is not judged");
    eventually("served", SOON, || inside.served() == 1);
    // Between containers: private addresses are local.
    let neighbour = super::lab::serve::Server::tcp(&stand.lab.ct2, &[at(CT2_4, 8_080)]);
    connect(&stand.lab.ct, at(CT2_4, 8_080), SOON).expect("local");
    eventually("served", SOON, || neighbour.served() == 1);
    // The host itself.
    connect(&stand.lab.gw, at(SRV4, PORT), SOON).expect("the host's own traffic");
    // DNS is never queued.
    let raw = Raw::to_gateway(&stand.lab, Side::Ct);
    raw.send(&raw::udp(at(CT4, 5_353), at(SRV4, 53), b"query"));
    assert!(stand.far.wait_for(|p| p.is_udp_to(at(SRV4, 53)), SOON).is_some());
    assert_eq!(stand.daemon.feed().count(|e| e["event"] == "verdict"), 0);
    // The control: the same container is judged where it matters, and the metadata address is not local.
    connect(&stand.lab.ct, at(SRV4, PORT), SOON).expect_err("judged");
    raw.send(&raw::syn(at(CT4, 6_000), at([169, 254, 169, 254], 80), 1));
    assert_eq!(stand.verdict(at([169, 254, 169, 254], 80))["reason"], "never-resolved");
    connect_from(&stand.lab.ct, at(CT4, 0), at(CT2_4, 8_080), SOON).expect("still local");
}
