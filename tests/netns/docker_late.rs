//! An engine whose news come late: packets are judged at once, and only their lines in the log wait for a name.

use std::net::IpAddr;
use std::time::Duration;

use serde_json::Value;

use super::docker_stand::{HOLD, Port, SERVERS};
use super::lab::engine::relay::Relay;
use super::lab::engine::run::Run;
use super::lab::net::connect_from;
use super::lab::{DEAD4, at};
use super::stand::{LATER, PORT, SOON, is_verdict_on};

/// A daemon that hears of the engine through a relay, and one record that lets everyone reach the server.
fn late(name: &str) -> (Relay, Port) {
    let mut relay = None;
    let mut port = Port::heard_at(name, &[], &HOLD, |engine| relay.insert(engine.relay()).host());
    let relay = relay.expect("made");
    port.resolve([172, 17, 0, 99].into(), "web.example", SERVERS[0]);
    (relay, port)
}

/// A container that connects as its first act, and stays.
fn eager(name: &str, dst: IpAddr) -> Run {
    Run::new(name).shell(&format!("nc -w 2 {dst} {PORT} </dev/null; sleep 100000"))
}

#[test]
fn a_first_packet_that_outruns_its_news_waits_for_the_name_in_the_log_alone() {
    let (relay, port) = late("dlate");
    let dst = at(SERVERS[0], PORT);
    let verdicts = |e: &Value| e["event"] == "verdict";
    relay.hold();
    let id = port.engine.run(&eager("fast", SERVERS[0]));
    port.far
        .wait_for(|p| p.is_syn_to(dst), SOON)
        .expect("it passes though nobody knows who sent it");
    assert_eq!(port.daemon.feed().count(verdicts), 0, "and is not told of yet");
    relay.release();
    let event = port.daemon.expect_event("verdict", |e| is_verdict_on(e, dst), SOON);
    assert_eq!((&event["container"], &event["container_id"]), (&"fast".into(), &id.into()));
    assert_eq!(event["held_us"], 0, "{event}");
}

#[test]
fn a_name_that_does_not_come_is_not_waited_for_for_ever() {
    let (relay, port) = late("dnever");
    let dead = at(DEAD4, PORT);
    relay.hold();
    port.engine.run(&eager("unknown", dead.ip()));
    let event = port.daemon.expect_event("verdict", |e| is_verdict_on(e, dead), LATER);
    assert_eq!((&event["container"], &event["reason"]), (&Value::Null, &"never-resolved".into()));
    let held = Duration::from_micros(event["held_us"].as_u64().unwrap());
    assert!(held < Duration::from_millis(500), "held for its record, not for its name: {event}");
    assert_eq!(port.passed(dead), 0);
    relay.release();
    port.told(0, "up", "unknown");
    let ns = port.engine.ns("unknown");
    let from: IpAddr = port.engine.place("unknown", "bridge").v4.into();
    let other = at([198, 18, 0, 2], PORT);
    let _ = connect_from(&ns, at(from, 0), other, SOON);
    port.assert_named(&port.verdict(from, other), "unknown");
}

#[test]
fn news_that_come_late_name_the_owner_of_that_moment() {
    let (relay, port) = late("dswap");
    let dst = |n: u8| at([203, 0, 113, n], PORT);
    // Two containers at one address, one after the other, before a word of either is heard.
    relay.hold();
    let mut ids = Vec::new();
    for n in [101, 102] {
        let name = format!("owner{n}");
        ids.push(
            port.engine
                .run(&Run::new(&name).shell(&format!("nc -w 1 {} {PORT} </dev/null", dst(n).ip()))),
        );
        port.engine.wait(&name);
        port.engine.remove(&name);
    }
    relay.release();
    for (n, id) in [101, 102].into_iter().zip(ids) {
        let event = port.daemon.expect_event("verdict", |e| is_verdict_on(e, dst(n)), LATER);
        // Nobody can say any more where they were: without a name, rather than with a wrong one.
        assert!(event["container_id"].is_null() || event["container_id"] == id.as_str(), "{event}");
    }
}

#[test]
fn what_a_list_refused_is_told_as_the_doing_of_who_did_it() {
    let port = Port::new("dpast", &HOLD);
    let lists = port.lab.dir().join("state/lists");
    let mark = port.daemon.feed().mark();
    std::fs::write(lists.join("block.txt"), "203.0.113.110\n").expect("write the list");
    let loaded = |e: &Value| e["event"] == "reload" && e["what"] == "lists";
    port.daemon.feed().wait_after(mark, loaded, LATER).expect("loaded");
    let mut named = 0;
    for n in 0..5 {
        let (guilty, heir) = (format!("guilty{n}"), format!("heir{n}"));
        let line = format!("nc -w 1 203.0.113.110 {PORT} </dev/null; exit 0");
        let mark = port.daemon.feed().mark();
        let id = port.engine.run(&Run::new(&guilty).shell(&line));
        port.engine.wait(&guilty);
        // Its address is another's within milliseconds.
        port.engine.remove(&guilty);
        port.engine.run(&Run::new(&heir));
        let is = |e: &Value| e["event"] == "block" && e["dst"] == "203.0.113.110";
        let told = port.daemon.feed().wait_after(mark, is, LATER);
        let told = told.unwrap_or_else(|| panic!("round {n}\n{}", port.daemon.story()));
        let src = port.engine.place(&heir, "bridge").v4.to_string();
        assert_eq!(told["src"], src.as_str(), "the address is the same");
        // Between two looks at the counters an address may have had several owners: then nobody is named.
        assert!(told["container"].is_null() || told["container_id"] == id.as_str(), "{told}");
        named += usize::from(told["container_id"] == id.as_str());
        port.engine.remove(&heir);
    }
    assert!(named > 0, "they are never named\n{}", port.daemon.story());
}
