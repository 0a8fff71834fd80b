//! Dry run, memory only, the registry on disk, and the event file.

use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;

use super::lab::net::{connect, udp_ask};
use super::lab::raw::{self, Raw};
use super::lab::serve::{Server, everywhere};
use super::lab::{CT4, Lab, SRV4, Side, at};
use super::stand::{DnsLog, PORT, SOON, Stand, casts, is_verdict_on, start, told, waiting};

#[test]
fn a_dry_run_delays_and_refuses_nothing_and_reports_what_enforcing_would_do() {
    let mut stand = Stand::new("dry", &["--dry-run", "--hold-ms", "900"]);
    assert_eq!(stand.daemon.ready()["posture"], "open");
    for cast in casts() {
        let took = connect(&stand.lab.ct, cast.server, SOON).expect("a dry run refuses nothing");
        assert!(took < Duration::from_millis(500), "a dry run delays nothing: {took:?}");
        assert!(udp_ask(&stand.lab.ct, None, cast.server, b"x", SOON).answered());
        assert_eq!(waiting(&stand.lab), 0, "nothing waits");
        // The record that comes meanwhile would have released both.
        stand.log.answer(cast.container, "late.example", cast.server.ip());
        for proto in ["tcp", "udp"] {
            let is = |e: &serde_json::Value| is_verdict_on(e, cast.server) && e["proto"] == proto;
            let event = stand.daemon.expect_event(proto, is, SOON);
            assert_eq!(
                (&event["verdict"], &event["enforced"]),
                (&"accept".into(), &false.into()),
                "{event}"
            );
            assert_eq!(
                (&event["reason"], &event["names"][0]),
                (&"resolved-after-hold".into(), &"late.example".into())
            );
        }
        // And what never resolves would have been refused, after the whole hold.
        Raw::to_gateway(&stand.lab, Side::Ct).send(&raw::syn(
            at(cast.container, 5_000),
            cast.dead,
            1,
        ));
        let event = stand.verdict(cast.dead);
        assert_eq!(told(&event), ("drop", "never-resolved"), "{event}");
        assert_eq!(
            (&event["enforced"], &event["mode"]),
            (&false.into(), &"dry-run".into()),
            "{event}"
        );
        assert!(event["held_us"].as_u64().unwrap() >= 900_000, "{event}");
        assert_eq!(stand.passed(cast.dead), 1, "it passed all the same");
    }
}

#[test]
fn memory_only_writes_nothing_but_the_event_file() {
    let lab = Lab::new("memory");
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let state = lab.dir().join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("registry.json"), "damaged").unwrap();
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    let events = lab.dir().join("events.jsonl");
    let daemon =
        start(&lab, &log.path, &["--memory-only", "--events", &events.display().to_string()]);
    daemon.ready();
    log.answer(CT4.into(), "web.example", SRV4.into());
    daemon.expect_event("record", |e| e["event"] == "record", SOON);
    connect(&lab.ct, at(SRV4, PORT), SOON).expect("resolved");
    assert!(daemon.stop().status.success());
    assert_eq!(fs::read_to_string(state.join("registry.json")).unwrap(), "damaged");
    assert_eq!(fs::read_dir(&state).unwrap().count(), 1);
    let text = fs::read_to_string(&events).unwrap();
    assert!(text.lines().any(|line| line.contains(r#""event":"verdict""#)), "{text}");
    assert!(text.lines().last().unwrap().contains(r#""event":"stop""#), "{text}");
}

#[test]
fn a_damaged_registry_is_set_aside_and_the_ancestors_is_read() {
    let lab = Lab::new("damaged");
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let state = lab.dir().join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("registry.json"), r#"{"version":1,"addr"#).unwrap();
    let log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    let daemon = start(&lab, &log.path, &[]);
    daemon.expect_event(
        "damage",
        |e| e["event"] == "health" && e["message"].as_str().unwrap().contains("set aside"),
        SOON,
    );
    daemon.ready();
    assert!(daemon.stop().status.success());
    let aside: Vec<_> = fs::read_dir(&state)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    assert!(aside.iter().any(|name| name.starts_with("registry.json.damaged-")), "{aside:?}");

    assert!(!state.join("registry.json").exists());
    fs::remove_dir_all(state.join("registry")).unwrap();
    fs::write(state.join("dns-registry.json"), format!(r#"{{"{SRV4}": ["web.example"]}}"#))
        .unwrap();
    let daemon = start(&lab, &log.path, &[]);
    assert_eq!(daemon.ready()["records"], 1);
    connect(&lab.ct, at(SRV4, PORT), SOON).expect("the ancestor resolved it");
    daemon.stop();
    assert!(state.join("dns-registry.json.migrated").exists(), "it is not read again");
    let daemon = start(&lab, &log.path, &[]);
    assert_eq!(daemon.ready()["records"], 1, "kept as ours");
    assert!(daemon.stop().status.success());
}

#[test]
fn hangup_opens_the_event_file_again() {
    let lab = Lab::new("hup");
    let log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    let (events, rotated) = (lab.dir().join("events.jsonl"), lab.dir().join("events.1"));
    let daemon = start(&lab, &log.path, &["--events", &events.display().to_string()]);
    daemon.ready();
    fs::rename(&events, &rotated).unwrap();
    daemon.send_signal(Signal::SIGHUP);
    daemon.expect_event("reload", |e| e["event"] == "reload", SOON);
    assert!(daemon.stop().status.success());
    assert!(fs::read_to_string(&rotated).unwrap().contains(r#""event":"ready""#));
    assert!(fs::read_to_string(&events).unwrap().contains(r#""event":"stop""#));
}
