//! A first start on a host at work: the grace, the flows that are open, the learning period, and evidence that fails.

use std::io::{Read as _, Write as _};
use std::time::Duration;

use serde_json::Value;

use super::lab::net::{connect, connect_from};
use super::lab::serve::{Server, everywhere};
use super::lab::wire::Wire;
use super::lab::{CT4, Lab, SRV4, at, eventually};
use super::stand::{
    DnsLog, LATER, PORT, SOON, STARTED, Stand, assert_passes, assert_refused, is_verdict_on, start,
    synhold, told,
};

const UNKNOWN: [u8; 4] = [203, 0, 113, 77];
const OTHER: [u8; 4] = [203, 0, 113, 78];

#[test]
fn in_the_grace_of_a_first_start_nobody_is_accused_and_a_second_start_has_none() {
    let mut stand = Stand::new("grace", &["--evidence-grace", "1h"]);
    let unknown = at(UNKNOWN, PORT);
    assert_passes(&stand.lab.ct, unknown);
    let event = stand.verdict(unknown);
    assert_eq!(told(&event), ("accept", "unhealthy"));
    assert_eq!((&event["held_us"], &event["enforced"]), (&0.into(), &true.into()));
    let why = event["evidence"]["why"].to_string();
    assert!(why.contains("registry was empty at the start"), "{why}");
    stand.resolve(CT4.into(), "shop.example", [203, 0, 113, 100].into());
    let Stand { daemon, lab, log, .. } = stand;
    daemon.stop();
    let daemon = start(&lab, &log.path, &["--evidence-grace", "1h", "--hold-ms", "100"]);
    daemon.ready();
    assert_refused(&lab.ct, at(OTHER, PORT));
    let is = |e: &Value| is_verdict_on(e, at(OTHER, PORT));
    assert_eq!(daemon.expect_event("refusal", is, SOON)["reason"], "never-resolved");
    daemon.stop();
}

#[test]
fn flows_that_are_open_at_a_first_start_go_on_and_may_be_opened_again() {
    let lab = Lab::new("warm");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    // A host that translates addresses tracks its flows, as with Docker.
    lab.gw.nft(
        "table ip nat { chain post { type nat hook postrouting priority 100; ct state new accept; }; }\n",
    );
    let (known, unknown) = (at(SRV4, PORT), at(UNKNOWN, PORT));
    let (mut open, _) = connect_from(&lab.ct, at(CT4, 0), known, SOON).expect("no firewall yet");
    let daemon = start(&lab, &log.path, &["--hold-ms", "100"]);
    daemon.ready();
    // It goes on: what is sent is acknowledged.
    open.write_all(b"still there").expect("open");
    open.shutdown(std::net::Shutdown::Write).expect("open");
    open.set_read_timeout(Some(SOON)).unwrap();
    let mut rest = Vec::new();
    open.read_to_end(&mut rest).expect("closed by the server, not cut");
    // The same container may go there again, and nowhere else.
    assert_passes(&lab.ct, known);
    let event = daemon.expect_event("verdict", |e| is_verdict_on(e, known), SOON);
    assert_eq!(told(&event), ("accept", "established"));
    assert_refused(&lab.ct, unknown);
    assert_refused(&lab.ct2, known);
    daemon.stop();
}

#[test]
fn learning_lets_pass_what_it_tells_and_then_enforces_by_itself() {
    let state = ["--learn", "4s", "--hold-ms", "100"];
    let mut stand = Stand::with_lists("learn", &state, &[("block.txt", "203.0.113.90\n")]);
    assert_eq!(stand.daemon.ready()["mode"], "learn");
    let (unknown, blocked) = (at(UNKNOWN, PORT), at([203, 0, 113, 90], PORT));
    assert_passes(&stand.lab.ct, unknown);
    let event = stand.verdict(unknown);
    assert_eq!(told(&event), ("drop", "never-resolved"));
    assert_eq!((&event["mode"], &event["enforced"]), (&"learn".into(), &false.into()));
    assert_refused(&stand.lab.ct, blocked);
    let over = |e: &Value| e["event"] == "learn" && e["over"] == true;
    let summary = stand.daemon.expect_event("the end of learning", over, LATER);
    assert_eq!(summary["refused"], 1, "{summary}");
    let would = &summary["would_refuse"][0];
    assert_eq!((&would["dst"], &would["dport"]), (&"203.0.113.77".into(), &PORT.into()));
    assert_eq!(would["container"], CT4.to_string(), "{summary}");
    assert_refused(&stand.lab.ct, at(OTHER, PORT));
    assert_eq!(stand.verdict(at(OTHER, PORT))["mode"], "enforce");

    // What is over is over, also after a restart, which is no first start any more.
    stand.resolve(CT4.into(), "shop.example", [203, 0, 113, 100].into());
    let Stand { daemon, lab, log, .. } = stand;
    daemon.stop();
    let daemon = start(&lab, &log.path, &state);
    assert_eq!(daemon.ready()["mode"], "enforce");
    assert_refused(&lab.ct, unknown);
    daemon.stop();
}

#[test]
fn a_learning_period_goes_on_over_restarts_with_its_books() {
    let state = ["--learn", "1h"];
    let stand = Stand::new("learnon", &state);
    assert_passes(&stand.lab.ct, at(UNKNOWN, PORT));
    stand.verdict(at(UNKNOWN, PORT));
    let Stand { daemon, lab, log, .. } = stand;
    daemon.stop();
    let daemon = start(&lab, &log.path, &state);
    assert_eq!(daemon.ready()["mode"], "learn");
    let begun = |e: &Value| e["event"] == "learn" && e["over"] == false;
    let event = daemon.expect_event("how it stands", begun, SOON);
    assert_eq!(event["refused"], 1, "{event}");
    let folder = lab.dir().join("state").display().to_string();
    let (code, out, _) = synhold(&lab, &["status", "--state-dir", &folder]);
    assert_eq!(code, 0);
    assert!(
        out.contains("LEARNING for another") && out.contains("refused 1 first packets"),
        "{out}"
    );
    daemon.stop();
}

/// `hold`: neither accused nor let through; the sender tries again, and gets through once the evidence is there.
#[test]
fn unhealthy_evidence_can_make_senders_try_again_until_it_is_healthy() {
    let lab = Lab::new("again");
    let far = Wire::watch(&lab.srv, "eth0");
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let path = lab.dir().join("dnsmasq.log");
    let daemon = start(&lab, &path, &["--on-unhealthy", "hold", "--hold-ms", "100"]);
    daemon.ready();
    let server = at(SRV4, PORT);
    std::thread::scope(|scope| {
        let tried = scope.spawn(|| connect(&lab.ct, server, LATER));
        let unhealthy = |e: &Value| is_verdict_on(e, server) && e["reason"] == "unhealthy";
        let event = daemon.expect_event("nobody is accused", unhealthy, SOON);
        assert_eq!(event["verdict"], "drop");
        // Its log appears, and with it the answer.
        let mut log = DnsLog::create(&path);
        log.write(STARTED);
        log.answer(CT4.into(), "web.example", SRV4.into());
        tried.join().unwrap().expect("a later try got through");
    });
    eventually("the packet on the wire", SOON, || far.count(|p| p.is_syn_to(server)) == 1);
    daemon.stop();
}

#[test]
fn unhealthy_evidence_can_let_pass_at_once() {
    let lab = Lab::new("lenient");
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let path = lab.dir().join("dnsmasq.log");
    let daemon = start(&lab, &path, &["--on-unhealthy", "accept", "--hold-ms", "900"]);
    daemon.ready();
    let server = at(SRV4, PORT);
    assert_passes(&lab.ct, server);
    let event = daemon.expect_event("verdict", |e| is_verdict_on(e, server), SOON);
    assert_eq!(told(&event), ("accept", "unhealthy"));
    let held = Duration::from_micros(event["held_us"].as_u64().unwrap());
    assert_eq!(held, Duration::ZERO, "nobody waits for what would not be believed");
    daemon.stop();
}
