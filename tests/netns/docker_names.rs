//! Who is who, on a real engine: every verdict names the container that sent the packet, from its first one.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::Value;

use super::docker_stand::{
    HOLD, OWN_NET, Port, SERVERS, knows_the_engine, misses_the_engine, start,
};
use super::lab::engine::Engine;
use super::lab::engine::run::Run;
use super::lab::net::connect_from;
use super::lab::{DEAD4, DEAD6, Lab, at};
use super::stand::{LATER, PORT, SOON, is_verdict_on};

/// One of the addresses the server answers for; a test that tells flows apart by where they go takes one each.
fn server(n: u8) -> IpAddr {
    [203, 0, 113, n].into()
}

/// A container that opens a connection as its very first act.
fn eager(name: &str, dst: IpAddr, port: u16) -> Run {
    Run::new(name).shell(&format!("nc -w 2 {dst} {port} </dev/null; exit 0"))
}

#[test]
fn verdicts_name_the_container_on_every_bridge_and_in_both_families() {
    let mut port = Port::new("dname", &HOLD);
    port.engine.network("own", &OWN_NET);
    for (name, network) in [("plain", "bridge"), ("other", "own")] {
        let up = port.run(name, &Run::new(name).network(network));
        assert_eq!(up["networks"], Value::from(vec![network]), "{up}");
        let place = port.engine.place(name, network);
        let told: Vec<String> = place.both().map(|address| address.to_string()).collect();
        for address in &told {
            assert!(up["addresses"].as_array().unwrap().contains(&address.as_str().into()), "{up}");
        }
        assert_eq!(told.len(), 2, "both families are tried");
        for (address, dead) in [(SERVERS[0], IpAddr::from(DEAD4)), (SERVERS[1], DEAD6.into())] {
            let refused = port.dial_named(name, place.like(address), at(dead, PORT));
            assert_eq!(refused["reason"], "never-resolved", "{refused}");
            assert_eq!(port.passed(at(dead, PORT)), 0);
            port.resolve(place.like(address), "web.example", address);
            let passed = port.dial_named(name, place.like(address), at(address, PORT));
            assert_eq!(passed["verdict"], "accept", "{passed}");
        }
    }
}

#[test]
fn a_container_is_named_from_its_first_packet() {
    let port = Port::new("dfirst", &HOLD);
    port.engine.network("own", &OWN_NET);
    for (n, network) in [(11, "bridge"), (12, "own"), (13, "bridge")] {
        let name = format!("eager{n}");
        let id = port.engine.run(&eager(&name, server(n), PORT).network(network));
        let is = |e: &Value| is_verdict_on(e, at(server(n), PORT));
        let event = port.daemon.expect_event(&name, is, LATER);
        assert_eq!(
            (&event["container"], &event["container_id"]),
            (&name.into(), &id.into()),
            "{event}"
        );
    }
}

#[test]
fn a_container_in_two_networks_is_named_in_both_and_one_joined_live() {
    let port = Port::new("dtwo", &HOLD);
    port.engine.network("own", &OWN_NET);
    port.engine.network("second", &["10.56.0.0/24"]);
    port.run("two", &Run::new("two").network("own"));
    port.dial_named("two", port.engine.place("two", "own").v4.into(), at(server(20), PORT));

    let mark = port.daemon.feed().mark();
    port.engine.connect("second", "two");
    let second: IpAddr = port.engine.place("two", "second").v4.into();
    let event = port.told(mark, "changed", "two");
    assert!(event["addresses"].as_array().unwrap().contains(&second.to_string().into()), "{event}");
    // Out by the second network, not by the default route.
    let ns = port.engine.ns("two");
    ns.ip(&format!("route add {}/32 via 10.56.0.1\n", server(21)));
    let event = port.dial_named("two", second, at(server(21), PORT));
    assert_eq!(event["reason"], "never-resolved", "{event}");
    assert_eq!(port.passed(at(server(21), PORT)), 0, "judged, so refused");

    let mark = port.daemon.feed().mark();
    port.engine.disconnect("second", "two");
    let event = port.told(mark, "changed", "two");
    assert!(
        !event["addresses"].as_array().unwrap().contains(&second.to_string().into()),
        "{event}"
    );
    // Whoever comes next to that address is not taken for it.
    port.run("next", &Run::new("next").network("second").at(second));
    port.dial_named("next", second, at(server(22), PORT));
    port.dial_named("two", port.engine.place("two", "own").v4.into(), at(server(23), PORT));
}

#[test]
fn a_restart_with_a_new_address_and_a_rename_are_followed() {
    let port = Port::new("drestart", &HOLD);
    port.engine.network("own", &OWN_NET);
    port.run("first", &Run::new("first").network("own"));
    let old: IpAddr = port.engine.place("first", "own").v4.into();
    port.dial_named("first", old, at(server(30), PORT));

    let mark = port.daemon.feed().mark();
    port.engine.stop_container("first");
    port.told(mark, "gone", "first");
    port.run("thief", &Run::new("thief").network("own"));
    assert_eq!(IpAddr::from(port.engine.place("thief", "own").v4), old, "the address is reused");
    let mark = port.daemon.feed().mark();
    port.engine.start_container("first");
    port.told(mark, "up", "first");
    let new: IpAddr = port.engine.place("first", "own").v4.into();
    assert_ne!(new, old);
    port.dial_named("thief", old, at(server(31), PORT));
    port.dial_named("first", new, at(server(32), PORT));

    let mark = port.daemon.feed().mark();
    port.engine.restart("first");
    port.told(mark, "up", "first");
    port.dial_named("first", port.engine.place("first", "own").v4.into(), at(server(33), PORT));

    let mark = port.daemon.feed().mark();
    port.engine.rename("first", "last");
    port.told(mark, "changed", "last");
    port.dial_named("last", port.engine.place("last", "own").v4.into(), at(server(34), PORT));
}

#[test]
fn fifty_containers_in_a_row_are_never_mistaken_for_one_another() {
    /// Each speaks to a port of its own, so that the packet tells who sent it.
    const BASE: u16 = 10_000;
    let port = Port::new("dfifty", &HOLD);
    port.engine.network("own", &["10.55.0.0/29"]);
    let run = |network: &str, numbers: std::ops::Range<u16>| {
        for n in numbers {
            let name = format!("n{n}");
            port.engine.run(&eager(&name, server(40), BASE + n).network(network));
            port.engine.wait(&name);
            port.engine.remove(&name);
        }
    };
    // Two at a time: on each network the next one has the address of the last.
    std::thread::scope(|scope| {
        scope.spawn(|| run("bridge", 0..25));
        scope.spawn(|| run("own", 25..50));
    });
    let mut named = 0;
    for n in 0..50_u16 {
        let is = |e: &Value| is_verdict_on(e, at(server(40), BASE + n));
        let event = port.daemon.expect_event(&format!("verdict on n{n}"), is, LATER);
        named += usize::from(event["container"] == format!("n{n}").as_str());
        assert!(
            event["container"].is_null() || event["container"] == format!("n{n}").as_str(),
            "{event}"
        );
    }
    assert_eq!(named, 50, "each is known");
}

#[test]
fn containers_started_before_us_and_an_engine_started_after_us_are_known() {
    let port = Port::with("dbefore", &[], &HOLD, |engine| {
        engine.network("own", &OWN_NET);
        engine.run(&Run::new("early").network("own"));
        engine.run(&Run::new("plain"));
    });
    for (name, network) in [("early", "own"), ("plain", "bridge")] {
        let place = port.engine.place(name, network);
        for (address, dead) in [(SERVERS[0], IpAddr::from(DEAD4)), (SERVERS[1], DEAD6.into())] {
            let event = port.dial_named(name, place.like(address), at(dead, PORT));
            assert_eq!(event["reason"], "never-resolved", "{event}");
        }
    }
}

#[test]
fn an_engine_that_comes_after_us_is_found() {
    let lab = Lab::new("dafter");
    let log = super::stand::DnsLog::create(&lab.dir().join("dnsmasq.log"));
    let host = format!("unix://{}/engine/docker.sock", lab.dir().display());
    let daemon = start(&lab, &format!("file:{}", log.path.display()), &host, &HOLD);
    daemon.ready();
    misses_the_engine(&daemon, 0);
    let engine = Engine::start(&lab, &[]);
    assert_eq!(engine.host(), host);
    knows_the_engine(&daemon, 0);
    engine.run(&Run::new("late"));
    let from = at(engine.place("late", "bridge").v4, 0);
    let _ = connect_from(&engine.ns("late"), from, at(server(50), PORT), SOON);
    let is = |e: &Value| is_verdict_on(e, at(server(50), PORT));
    assert_eq!(daemon.expect_event("verdict", is, SOON)["container"], "late");
}

#[test]
fn an_engine_killed_and_started_again_loses_nobody() {
    let mut port = Port::with("dkilled", &["--live-restore"], &HOLD, |engine| {
        engine.network("own", &OWN_NET);
    });
    port.run("stays", &Run::new("stays").network("own"));
    let place = port.engine.place("stays", "own");
    let (ns, id) = (port.engine.ns("stays"), port.engine.inspect("stays")["Id"].clone());
    let mark = port.daemon.feed().mark();
    port.engine.kill();
    misses_the_engine(&port.daemon, mark);
    // It runs on, and its traffic is still its own.
    let _ = connect_from(&ns, at(place.v4, 0), at(server(60), PORT), SOON);
    let event = port.verdict(place.v4.into(), at(server(60), PORT));
    assert_eq!((&event["container"], &event["container_id"]), (&"stays".into(), &id), "{event}");
    assert_eq!(event["reason"], "never-resolved", "the engine is no evidence");

    let mark = port.daemon.feed().mark();
    port.engine.start_again();
    knows_the_engine(&port.daemon, mark);
    port.dial_named("stays", place.v4.into(), at(server(61), PORT));
    port.run("new", &Run::new("new").network("own"));
    port.dial_named("new", port.engine.place("new", "own").v4.into(), at(server(62), PORT));
    let gone = |e: &Value| e["event"] == "container" && e["what"] == "gone";
    assert_eq!(port.daemon.feed().count(gone), 0, "{}", port.daemon.story());
}

#[test]
fn containers_that_ended_with_their_engine_are_forgotten() {
    let mut port = Port::new("dended", &HOLD);
    port.run("doomed", &Run::new("doomed"));
    let mark = port.daemon.feed().mark();
    port.engine.stop();
    misses_the_engine(&port.daemon, mark);
    port.engine.start_again();
    port.told(mark, "gone", "doomed");
    let up = port.run("heir", &Run::new("heir"));
    assert_eq!(up["container"], "heir");
    port.dial_named("heir", port.engine.place("heir", "bridge").v4.into(), at(server(70), PORT));
}

#[test]
fn an_engine_that_does_not_answer_delays_no_verdict() {
    let port = Port::new("dfrozen", &HOLD);
    port.run("known", &Run::new("known"));
    let (ns, place) = (port.engine.ns("known"), port.engine.place("known", "bridge"));
    port.engine.freeze();
    let refused = connect_from(&ns, at(place.v4, 0), at(server(80), PORT), SOON);
    let event = port.verdict(place.v4.into(), at(server(80), PORT));
    port.engine.resume();
    assert!(refused.is_err());
    assert_eq!(event["container"], "known", "{event}");
    let held = Duration::from_micros(event["held_us"].as_u64().unwrap());
    assert!(held < Duration::from_millis(400), "{event}");
}

#[test]
fn a_shared_the_hosts_or_no_network_is_told_for_what_it_is() {
    let port = Port::new("dshared", &HOLD);
    port.run("main", &Run::new("main"));
    let side = port.run("side", &Run::new("side").network("container:main"));
    let gaps = |event: &Value| event["gaps"].to_string();
    assert!(gaps(&side).contains("main"), "{side}");
    // Its traffic is that of the container whose network it uses.
    let from: IpAddr = port.engine.place("main", "bridge").v4.into();
    let _ = connect_from(&port.engine.ns("main"), at(from, 0), at(server(90), PORT), SOON);
    assert_eq!(port.verdict(from, at(server(90), PORT))["container"], "main");

    let host = port.run("onhost", &Run::new("onhost").network("host"));
    assert!(gaps(&host).contains("host"), "{host}");
    let none = port.run("alone", &Run::new("alone").network("none"));
    assert_eq!(none["addresses"], Value::Array(vec![]), "{none}");
}

#[test]
fn a_network_past_the_hosts_rules_is_told_as_not_covered() {
    let port = Port::new("dmacvlan", &HOLD);
    let opts = serde_json::json!({ "parent": "ct2" });
    port.engine.network_of("mac", "macvlan", &["10.57.0.0/24"], &opts);
    let event = port.run("outside", &Run::new("outside").network("mac"));
    assert!(event["gaps"].to_string().contains("macvlan"), "{event}");
    assert_eq!(event["addresses"], Value::Array(vec![]), "{event}");
    let members = super::stand::members(&port.lab, "containers4");
    assert!(!members.iter().any(|net| net.starts_with("10.57.")), "{members:?}");
}

#[test]
fn without_the_engine_only_addresses_are_told() {
    let lab = Lab::new("dwithout");
    let engine = Engine::start(&lab, &[]);
    let log = super::stand::DnsLog::create(&lab.dir().join("dnsmasq.log"));
    let source = format!("file:{}", log.path.display());
    let args = [&HOLD[..], &["--no-docker", "--container-net", "172.17.0.0/16"]].concat();
    let daemon = start(&lab, &source, &engine.host(), &args);
    daemon.ready();
    engine.run(&Run::new("nameless"));
    let from = engine.place("nameless", "bridge").v4;
    let dst = at(server(95), PORT);
    let _ = connect_from(&engine.ns("nameless"), at(from, 0), dst, SOON);
    let event = daemon.expect_event("verdict", |e| is_verdict_on(e, dst), SOON);
    assert_eq!(event["src"], from.to_string().as_str());
    assert!(event["container"].is_null() && event["container_id"].is_null(), "{event}");
    assert!(!daemon.events().iter().any(|e| e["event"] == "container"));
    assert_eq!(event["reason"], "unhealthy", "nobody ever wrote to that log");
    assert_ne!(from, Ipv4Addr::UNSPECIFIED);
}
