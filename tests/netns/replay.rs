//! Live runs are recorded and replayed: the same verdicts, reasons and grades, and what other settings would change.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::lab::dns::{Over, dns_ask, qtype, upstream, zone};
use super::lab::net::connect;
use super::lab::serve::{Server, everywhere};
use super::lab::{CT2_4, CT4, CT6, DNS4, GW2_4, GW4, GW6, Lab, at};
use super::stand::{PORT, SOON, Stand, is_verdict_on, start_on, synhold};

/// Longer than a hold of these tests: a refusal is there by then.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs `synhold replay --json ARGS` in the gateway: its exit code and what it says.
fn replay(lab: &Lab, args: &[&str]) -> (i32, Value) {
    let (code, out, err) = synhold(lab, &[&["replay", "--json"], args].concat());
    assert_eq!(err, "", "{args:?}");
    (code, serde_json::from_str(&out).expect("one JSON object"))
}

/// Verdicts in an event log.
fn verdicts(events: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(events).expect("the event log");
    let events = text.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    events.filter(|event| event["event"] == "verdict").collect()
}

/// The lines of a log with the seconds in which their names were resolved, as dnsmasq would have written them.
fn dated(log: &Path, events: &Path) -> String {
    let events = std::fs::read_to_string(events).unwrap();
    let records: Vec<Value> = events
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|event: &Value| event["event"] == "record")
        .collect();
    let mut text = String::new();
    for line in std::fs::read_to_string(log).unwrap().lines() {
        let (_, rest) = line.split_once(" dnsmasq").unwrap();
        let about = |record: &&Value| rest.contains(record["name"].as_str().unwrap());
        let Some(record) = records.iter().find(about) else { continue };
        let (second, _) = record["ts"].as_str().unwrap().split_once('.').unwrap();
        text += &format!("{second}Z dnsmasq{rest}\n");
    }
    text
}

fn has(said: &[Value], verdict: &str, reason: &str) -> bool {
    said.iter().any(|event| event["verdict"] == verdict && event["reason"] == reason)
}

/// Known before, released, refused for want of a record and for whose look-up it was, and evidence that fails meanwhile.
#[test]
fn a_live_run_replays_to_the_same_verdicts() {
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.jsonl");
    let path = events.to_str().unwrap();
    let args = ["--hold-ms", "300", "--scope", "container", "--events", path];
    let mut stand = Stand::new("replay", &args);
    let neighbour = CT2_4.into();
    for round in 0..10_u8 {
        let [own, others, late, never] =
            [100, 120, 140, 160].map(|base| at([203, 0, 113, base + round], PORT));
        stand.resolve(CT4.into(), &format!("own{round}.example"), own.ip());
        stand.resolve(neighbour, &format!("other{round}.example"), others.ip());
        std::thread::scope(|scope| {
            let ct = &stand.lab.ct;
            for dst in [own, others, late, never] {
                scope.spawn(move || connect(ct, dst, PATIENCE));
            }
            stand.wait_held(3);
            stand.log.answer(CT4.into(), &format!("late{round}.example"), late.ip());
        });
    }
    // Lines are lost, and nobody is accused meanwhile.
    let mark = stand.daemon.feed().mark();
    stand.log.write("Nov 21 22:12:02 dnsmasq[77]: overflow: 5 log entries lost\n");
    stand.told(mark, "source", &["lost 5"]);
    let unknown = at([203, 0, 113, 200], PORT);
    connect(&stand.lab.ct, unknown, PATIENCE).expect_err("refused");
    stand.daemon.expect_event("unhealthy", |e| is_verdict_on(e, unknown), SOON);
    stand.daemon.stop();

    let said = verdicts(&events);
    assert!(said.len() >= 41, "{} verdicts", said.len());
    assert!(has(&said, "accept", "resolved") && has(&said, "accept", "resolved-after-hold"));
    for reason in ["out-of-scope", "never-resolved", "unhealthy"] {
        assert!(has(&said, "drop", reason), "{reason} was not tried");
    }
    let log = folder.path().join("dnsmasq.log");
    std::fs::write(&log, dated(&stand.log.path, &events)).unwrap();
    let log = log.to_str().unwrap();
    for files in [&["--events", path][..], &["--events", path, "--dns-log", log]] {
        let (code, report) = replay(&stand.lab, &[files, &["--verify"]].concat());
        assert_eq!((code, &report["differences"]), (0, &serde_json::json!([])), "{report}");
        assert_eq!(
            (&report["recorded"], &report["packets"]),
            (&said.len().into(), &said.len().into())
        );
    }
    // What the neighbour asked for would have counted.
    let (code, report) =
        replay(&stand.lab, &["--events", path, "--verify", "--set", "scope=global"]);
    assert_eq!((code, report["differences"].as_array().map(Vec::len)), (1, Some(10)), "{report}");
    let (_, report) = replay(&stand.lab, &["--events", path, "--compare", "scope=global"]);
    let changes = report["columns"][1]["changes"].as_array().expect("changes");
    assert_eq!(changes.len(), 10, "{report}");
    for change in changes {
        let ends = (&change["from"]["reason"], &change["to"]["reason"], &change["to"]["verdict"]);
        assert_eq!(ends, (&"out-of-scope".into(), &"resolved".into(), &"accept".into()));
        assert!(change["name"].as_str().unwrap().starts_with("other"), "{change}");
    }
}

/// Two containers on a dnsmasq of our own, which race with its log for every connection.
#[test]
fn a_run_that_races_with_a_real_dnsmasq_replays_to_the_same_verdicts() {
    const NAMES: u8 = 40;
    let folder = tempfile::tempdir().unwrap();
    let events = folder.path().join("events.jsonl");
    let path = events.to_str().unwrap();
    let lab = Lab::new("replayrace");
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let host = |n: u8| zone::host(&format!("n{n}.example"), [203, 0, 113, 100 + n]);
    let _upstream = upstream(&lab, (0..NAMES).map(host));
    let servers = DNS4.to_string();
    let daemon = start_on(
        &lab,
        "spawn",
        &["--hold-ms", "300", "--dns-upstream", &servers, "--events", path],
    );
    daemon.ready();
    let look_up_and_dial = |ns, (own, gateway): (IpAddr, IpAddr), order: &[u8]| {
        for &n in order {
            let name = format!("n{n}.example");
            dns_ask(ns, at(own, 0), at(gateway, 53), &name, qtype::A, Over::Udp).expect("answered");
            connect(ns, at([203, 0, 113, 100 + n], PORT), SOON).expect("resolved");
        }
    };
    let there: Vec<u8> = (0..NAMES).collect();
    let back: Vec<u8> = there.iter().rev().copied().collect();
    std::thread::scope(|scope| {
        scope.spawn(|| look_up_and_dial(&lab.ct, (CT4.into(), GW4.into()), &there));
        scope.spawn(|| look_up_and_dial(&lab.ct2, (CT2_4.into(), GW2_4.into()), &back));
    });
    let dead = at([203, 0, 113, 250], PORT);
    connect(&lab.ct, dead, SOON).expect_err("nobody resolved it");
    // IPv6 has its own look-up, which has no answer.
    dns_ask(&lab.ct, at(CT6, 0), at(GW6, 53), "n1.example", qtype::AAAA, Over::Udp)
        .expect("answered");
    daemon.stop();
    let said = verdicts(&events);
    assert!(said.len() > 2 * usize::from(NAMES), "{} verdicts", said.len());
    assert!(has(&said, "drop", "never-resolved"));
    let (code, report) = replay(&lab, &["--events", path, "--verify"]);
    assert_eq!((code, &report["differences"]), (0, &serde_json::json!([])), "{report}");
    let (_, report) = replay(&lab, &["--events", path, "--compare", "scope=container"]);
    assert_eq!(report["columns"][1]["changes"], serde_json::json!([]), "each asked for itself");
}

/// Logs of other programs do: conntrack's flows and a plain log of dnsmasq's.
#[test]
fn foreign_logs_tell_what_enforcing_would_break() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let lab = Lab::new("replaylogs");
    let dns = file(
        "dnsmasq.log",
        "2026-01-02T03:04:05Z dnsmasq[7]: 1 172.17.0.2/40000 query[A] shop.example from 172.17.0.2\n\
         2026-01-02T03:04:05Z dnsmasq[7]: 1 172.17.0.2/40000 reply shop.example is 203.0.113.9\n",
    );
    let flow = |src: &str, dst: &str| {
        format!(
            "[1767323045.300000]\t    [NEW] tcp 6 120 SYN_SENT src={src} dst={dst} sport=40000 dport=443 [UNREPLIED] src={dst} dst=192.0.2.1 sport=443 dport=40000\n"
        )
    };
    let flows = file(
        "flows.log",
        &[
            ("172.17.0.2", "203.0.113.9"),
            ("172.17.0.3", "203.0.113.9"),
            ("172.17.0.2", "203.0.113.66"),
        ]
        .map(|(src, dst)| flow(src, dst))
        .concat(),
    );
    let args = ["--dns-log", &dns, "--flows", &flows, "--compare", "scope=container"];
    let (code, report) = replay(&lab, &args);
    let counts = |column: usize| {
        let counts = report["columns"][column]["counts"].as_array().unwrap();
        let mut words: Vec<String> = counts
            .iter()
            .map(|row| {
                format!(
                    "{} {} {}",
                    row[0]["reason"].as_str().unwrap(),
                    row[0]["grade"].as_str().unwrap(),
                    row[1]
                )
            })
            .collect();
        words.sort();
        words
    };
    assert_eq!((code, &report["packets"]), (0, &3.into()));
    assert_eq!(counts(0), ["never-resolved never 1", "resolved other 1", "resolved own 1"]);
    assert_eq!(counts(1), ["never-resolved never 1", "out-of-scope other 1", "resolved own 1"]);
    let (code, out, _) = synhold(&lab, &[&["replay"], &args[..]].concat());
    assert_eq!(code, 0);
    for part in ["With scope=container these would have another end:", "172.17.0.3", "shop.example"]
    {
        assert!(out.contains(part), "{part} in {out}");
    }
    for (args, part) in [
        (&["--dns-log", &dns][..], "nothing to judge"),
        (&["--flows", &dns], "holds no flow"),
        (&["--events", &flows], "holds no event"),
        (&["--flows", &flows, "--set", "scope=nobody"], "scope"),
        (&["--flows", &flows, "--compare", "queues=2"], "queues does not decide"),
        (&["--flows", "/nowhere"], "cannot read /nowhere"),
    ] {
        let (code, _, err) = synhold(&lab, &[&["replay"], args].concat());
        assert_eq!((code, err.lines().count()), (2, 1), "{err}");
        assert!(err.contains(part), "{part} in {err}");
    }
}
