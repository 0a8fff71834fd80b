//! Which traffic is ours, on a real engine: bridges come and go, forged sources, published ports.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::IpAddr;

use serde_json::Value;

use super::docker_stand::{HOLD, OWN_NET, Port, SERVERS};
use super::lab::engine::run::Run;
use super::lab::net::{connect, connect_from};
use super::lab::raw::{self, Raw};
use super::lab::serve::{Server, everywhere};
use super::lab::wire::Seen;
use super::lab::{DEAD4, DEAD6, Side, at, retry_until};
use super::stand::{LATER, PORT, SOON, members};

fn has(port: &Port, set: &str, one: &str) -> bool {
    members(&port.lab, set).contains(one)
}

/// The interface of a network, as sets show it.
fn quoted(port: &Port, network: &str) -> String {
    format!("\"{}\"", port.engine.interface(network))
}

/// Waits until each set has, or has no more, this member.
#[track_caller]
fn come(port: &Port, wanted: &[(&str, &str, bool)]) {
    for (set, one, there) in wanted {
        if retry_until(LATER, || (has(port, set, one) == *there).then_some(())).is_none() {
            let all = members(&port.lab, set);
            panic!("{one} in {set}: not {there}: {all:?}\n{}", port.daemon.story());
        }
    }
}

#[test]
fn sets_follow_the_networks_of_the_engine() {
    let port = Port::new("dnets", &HOLD);
    come(&port, &[("containers4", "172.17.0.0/16", true), ("containers6", "fd17::/64", true)]);
    assert!(!has(&port, "containers4", "172.16.0.0/12"), "no guess where the engine is known");

    port.engine.network("own", &OWN_NET);
    let interface = quoted(&port, "own");
    let [home4, home6] = OWN_NET.map(|net| format!("{interface} . {net}"));
    let sets = [
        ("containers4", OWN_NET[0]),
        ("containers6", OWN_NET[1]),
        ("bridges", &interface),
        ("homes4", &home4),
        ("homes6", &home6),
    ];
    come(&port, &sets.map(|(set, one)| (set, one, true)));
    port.engine.remove_network("own");
    come(&port, &sets.map(|(set, one)| (set, one, false)));
    assert!(has(&port, "containers4", "172.17.0.0/16"), "the others stay");
}

#[test]
fn networks_named_by_the_operator_stay_beside_those_of_the_engine() {
    let args = [&HOLD[..], &["--container-net", "172.31.7.0/24"]].concat();
    let port = Port::new("dnamed", &args);
    port.engine.network("own", &OWN_NET);
    let all = ["172.31.7.0/24", OWN_NET[0], "172.17.0.0/16"];
    come(&port, &all.map(|net| ("containers4", net, true)));
    port.engine.remove_network("own");
    come(&port, &[("containers4", OWN_NET[0], false), ("containers4", "172.31.7.0/24", true)]);
}

/// Packets a container sends with sources that are not its network's; each must not get anywhere.
#[test]
fn a_source_that_does_not_belong_on_its_bridge_is_refused() {
    let mut port = Port::new("dspoof", &HOLD);
    port.engine.network("own", &OWN_NET);
    port.run("liar", &Run::new("liar").network("own"));
    port.run("victim", &Run::new("victim"));
    let bridge = port.engine.interface("own");
    come(&port, &[("bridges", &quoted(&port, "own"), true)]);
    let (liar, victim) = (port.engine.place("liar", "own"), port.engine.place("victim", "bridge"));
    let raw = Raw::from_container(&port.lab, &port.engine.ns("liar"), &bridge);

    for server in SERVERS {
        let dst = at(server, PORT);
        // What the forged addresses may reach: only the source is wrong.
        port.resolve(liar.like(server), "web.example", server);
        port.resolve(victim.like(server), "web.example", server);
        let stranger: IpAddr = match server {
            IpAddr::V4(_) => [198, 51, 100, 7].into(),
            IpAddr::V6(_) => "2001:db8:77::7".parse().unwrap(),
        };
        for (n, forged) in [victim.like(server), stranger].into_iter().enumerate() {
            let sport = 7_000 + n as u16;
            raw.send(&raw::syn(at(forged, sport), dst, 1));
            raw.send(&raw::udp(at(forged, sport), dst, b"forged"));
        }
        // The control: the same hand-made packet from the container's own address.
        let (_, ()) = port.far.positive_control(
            |p: &Seen| p.is_udp_to(dst) && p.payload == b"honest",
            || raw.send(&raw::udp(at(liar.like(server), 7_009), dst, b"honest")),
        );
        let forged = |p: &Seen| p.dst == dst && !p.outgoing && p.payload != b"honest";
        assert_eq!(port.far.count_settled(&port.lab, Side::Srv, forged), 0, "{server}");

        let set = if server.is_ipv4() { "spoofs4" } else { "spoofs6" };
        let source = victim.like(server).to_string();
        let is =
            |e: &Value| e["event"] == "block" && e["set"] == set && e["src"] == source.as_str();
        let told = port.daemon.expect_event("forged source", is, LATER);
        assert_eq!(told["dst"], server.to_string().as_str(), "{told}");
        let of_victim = |e: &Value| e["event"] == "verdict" && e["container"] == "victim";
        assert!(!port.daemon.events().iter().any(of_victim), "nobody is blamed for it");
    }
    // The victim's own traffic passes.
    port.dial("victim", victim.v4.into(), at(SERVERS[0], PORT)).expect("its own");
}

#[test]
fn in_a_dry_run_a_forged_source_is_told_and_passes() {
    let port = Port::new("dspoofdry", &[&HOLD[..], &["--dry-run"]].concat());
    port.engine.network("own", &OWN_NET);
    port.run("liar", &Run::new("liar").network("own"));
    let bridge = port.engine.interface("own");
    come(&port, &[("bridges", &quoted(&port, "own"), true)]);
    let raw = Raw::from_container(&port.lab, &port.engine.ns("liar"), &bridge);
    let (forged, dst) = (at([198, 51, 100, 7], 7_000), at(DEAD4, PORT));
    raw.send(&raw::udp(forged, dst, b"forged"));
    let came = port.far.wait_for(|p| p.is_udp_to(dst) && p.payload == b"forged", SOON);
    assert!(came.is_some(), "a dry run refuses nothing");
    let is = |e: &Value| e["event"] == "block" && e["set"] == "spoofs4";
    let told = port.daemon.expect_event("forged source", is, LATER);
    assert_eq!(told["enforced"], false, "{told}");
}

#[test]
fn published_ports_serve_the_outside_and_open_no_way_out() {
    let port = Port::new("dpublish", &HOLD);
    port.engine.network("own", &OWN_NET);
    for (name, network, outside) in [("plain", "bridge", 8_081), ("other", "own", 8_082)] {
        port.run(name, &Run::new(name).network(network).publish(outside, PORT));
        let ns = port.engine.ns(name);
        let _inside = Server::tcp(&ns, &everywhere(PORT));
        let gateway = at([192, 0, 2, 1], outside);
        let visitor = at([203, 0, 113, 77], 0);
        let (mut stream, _) = connect_from(&port.lab.srv, visitor, gateway, SOON).expect("visit");
        stream.write_all(b"ping").unwrap();
        stream.read_exact(&mut [0; 4]).expect("answered");
        let from: IpAddr = port.engine.place(name, network).v4.into();
        let about = |e: &Value| e["event"] == "verdict" && e["src"] == from.to_string().as_str();
        assert!(!port.daemon.events().iter().any(about), "replies are not judged");
        // But it may not call its visitor back.
        port.dial(name, from, at(visitor.ip(), 9_999)).expect_err("nobody resolved it");
        let event = port.verdict(from, at(visitor.ip(), 9_999));
        port.assert_named(&event, name);
    }
}

#[test]
fn neighbours_on_one_bridge_and_the_gateway_are_reached_unjudged() {
    let port = Port::new("dneigh", &HOLD);
    port.engine.network("own", &OWN_NET);
    for name in ["one", "two"] {
        port.run(name, &Run::new(name).network("own"));
    }
    let (one, two) = (port.engine.ns("one"), port.engine.place("two", "own"));
    let _inside = Server::tcp(&port.engine.ns("two"), &everywhere(PORT));
    for address in two.both() {
        connect(&one, at(address, PORT), SOON).expect("a neighbour");
    }
    let _gateway = Server::tcp(&port.lab.gw, &everywhere(8_443));
    connect(&one, at([10, 55, 0, 1], 8_443), SOON).expect("the gateway");
    let about = port.daemon.events().into_iter().filter(|e| e["event"] == "verdict");
    assert_eq!(about.count(), 0, "{}", port.daemon.story());
}

#[test]
fn first_packets_on_a_network_that_was_just_made_are_judged() {
    let port = Port::new("dnew", &HOLD);
    let mut dead = BTreeSet::new();
    for n in 0..5_u8 {
        let (network, name) = (format!("net{n}"), format!("on{n}"));
        let nets = [format!("10.60.{n}.0/24"), format!("fd60:{n}::/64")];
        port.engine.network(&network, &[&nets[0], &nets[1]]);
        let line = format!(
            "nc -w 1 {DEAD4} {0} </dev/null; nc -w 1 {DEAD6} {0} </dev/null; exit 0",
            9_000 + u16::from(n)
        );
        port.engine.run(&Run::new(&name).shell(&line).network(&network));
        dead.extend([at(DEAD4, 9_000 + u16::from(n)), at(DEAD6, 9_000 + u16::from(n))]);
    }
    for n in 0..5 {
        port.engine.wait(&format!("on{n}"));
    }
    for dst in dead {
        assert_eq!(
            port.passed(dst),
            0,
            "{dst}: on a new network nobody is free\n{}",
            port.daemon.story()
        );
    }
}

#[test]
fn rules_of_the_engine_come_and_go_without_ours() {
    let mut port = Port::new("dtables", &HOLD);
    port.engine.network("own", &OWN_NET);
    port.run("one", &Run::new("one").network("own"));
    let from: IpAddr = port.engine.place("one", "own").v4.into();
    let mark = port.daemon.feed().mark();
    // As a reload of firewalld or ufw does: everything but our table goes, and the engine puts its own back.
    for table in ["ip nat", "ip filter", "ip6 nat", "ip6 filter"] {
        port.lab.gw.nft(&format!("flush table {table}\n"));
    }
    port.dial("one", from, at(DEAD4, PORT)).expect_err("judged as before");
    assert_eq!(port.verdict(from, at(DEAD4, PORT))["reason"], "never-resolved");
    port.engine.stop();
    port.engine.start_again();
    super::docker_stand::knows_the_engine(&port.daemon, mark);
    port.engine.start_container("one");
    let from: IpAddr = port.engine.place("one", "own").v4.into();
    port.dial("one", from, at(DEAD4, PORT + 1)).expect_err("judged as before");
    let rules = |e: &Value| e["event"] == "health" && e["what"] == "rules" && e["healthy"] == false;
    let broken = port.daemon.feed().since(mark).into_iter().filter(rules).count();
    assert_eq!(broken, 0, "{}", port.daemon.story());
}
