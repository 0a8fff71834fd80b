//! Metrics of a running daemon: read by the reference parser, in agreement with its events, and as the dashboard uses them.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use serde_json::Value;

use super::lab::net::connect;
use super::lab::ns::Ns;
use super::lab::{CT4, DEAD4, Lab, SRV4, at, eventually, proc, retry_until};
use super::stand::{
    DnsLog, LATER, PORT, SOON, STARTED, Stand, assert_passes, assert_refused, start,
};

const AT: &str = "127.0.0.1:9753";
/// Debian's python3-prometheus-client: whatever breaks a rule of OpenMetrics is an exception.
const PARSER: &str = "
import json, sys
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse
families = [
    {'name': f.name, 'type': f.type, 'unit': f.unit, 'help': f.documentation,
     'samples': [[s.name, s.labels, s.value] for s in f.samples]}
    for f in parse(sys.stdin.read())
]
json.dump(families, sys.stdout)
";

/// The answer to a request: status, head and body.
fn get(ns: &Ns, path: &str, host: &str) -> (u16, String, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let answer = ns.run(move || {
        // They are served a moment after the daemon is ready.
        let stream = retry_until(SOON, || TcpStream::connect(AT).ok());
        let mut stream = stream.expect("the metrics are served");
        stream.set_read_timeout(Some(LATER)).expect("timeout");
        stream.write_all(request.as_bytes()).expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answered");
        answer
    });
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|code| code.parse().ok()).expect("a status");
    (status, head.to_owned(), body.to_owned())
}

/// Everything measured, as the reference parser understands it.
pub fn scrape(ns: &Ns) -> Vec<Value> {
    let (status, head, text) = get(ns, "/metrics", AT);
    assert_eq!(status, 200, "{head}");
    let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
    assert!(head.contains(kind), "{head}");
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", PARSER]);
    let parsed = proc::run(python, &text);
    serde_json::from_str(&parsed).expect("JSON of the parser")
}

/// The value of a sample that has at least these labels.
pub fn value(families: &[Value], name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let samples = families.iter().flat_map(|family| family["samples"].as_array().unwrap());
    let mut found = samples.filter(|sample| {
        sample[0] == name && labels.iter().all(|(key, value)| sample[1][key] == *value)
    });
    found.next().and_then(|sample| sample[2].as_f64())
}

#[test]
fn metrics_agree_with_the_events_and_keep_to_the_format() {
    let lists = [("block.txt", "198.51.100.0/24\n198.51.101.7\n"), ("allow.txt", "192.0.2.0/24\n")];
    let args = ["--hold-ms", "200", "--metrics", AT];
    let mut stand = Stand::with_lists("metrics", &args, &lists);
    eventually("it is ready", LATER, || get(&stand.lab.gw, "/readyz", AT).0 == 200);
    stand.resolve(CT4.into(), "shop.example", SRV4.into());
    for _ in 0..3 {
        assert_passes(&stand.lab.ct, at(SRV4, PORT));
    }
    for n in 1..=2 {
        connect(&stand.lab.ct, at([198, 18, 7, n], PORT), SOON).expect_err("nobody resolved it");
        stand.verdict(at([198, 18, 7, n], PORT));
    }
    // One that waits and is released.
    std::thread::scope(|scope| {
        let dst = at([203, 0, 113, 50], PORT);
        let ct = &stand.lab.ct;
        let dialled = scope.spawn(move || connect(ct, dst, SOON));
        stand.wait_held(1);
        stand.log.answer(CT4.into(), "late.example", dst.ip());
        let _ = dialled.join();
        stand.verdict(dst);
    });

    let counted = |verdict: &str, reason: &str| {
        stand
            .daemon
            .feed()
            .count(|e| e["event"] == "verdict" && e["verdict"] == verdict && e["reason"] == reason)
    };
    let mut page = Vec::new();
    eventually("the counts are those of the events", LATER, || {
        page = scrape(&stand.lab.gw);
        let family = page.iter().find(|family| family["name"] == "synhold_verdicts").unwrap();
        family["samples"].as_array().unwrap().iter().all(|sample| {
            let word = |key: &str| sample[1][key].as_str().unwrap();
            sample[2].as_f64() == Some(counted(word("verdict"), word("reason")) as f64)
        })
    });
    let count = |name: &str, labels: &[(&str, &str)]| value(&page, name, labels);
    let drops = [("verdict", "drop"), ("reason", "never-resolved")];
    assert_eq!(count("synhold_verdicts_total", &drops), Some(2.0));
    let accepts = [("verdict", "accept"), ("reason", "resolved")];
    assert_eq!(count("synhold_verdicts_total", &accepts), Some(3.0));
    let released = [("verdict", "accept"), ("reason", "resolved-after-hold")];
    assert_eq!(count("synhold_verdicts_total", &released), Some(1.0));
    assert_eq!(count("synhold_hold_duration_seconds_count", &[]), Some(3.0));
    let within = [("le", "0.1")];
    assert!(count("synhold_hold_duration_seconds_bucket", &within) <= Some(1.0));
    assert_eq!(count("synhold_verdict_duration_seconds_count", &[]), Some(3.0));
    for (set, elements) in [("block4", 1.0), ("blockhosts4", 1.0), ("allow4", 1.0), ("allow6", 0.0)]
    {
        assert_eq!(count("synhold_set_elements", &[("set", set)]), Some(elements), "{set}");
    }
    assert_eq!(count("synhold_list_entries", &[("list", "block")]), Some(2.0));
    for (name, wanted) in [
        ("synhold_enforcing", 1.0),
        ("synhold_evidence_healthy", 1.0),
        ("synhold_drift", 0.0),
        ("synhold_held", 0.0),
        ("synhold_registry_addresses", 2.0),
    ] {
        assert_eq!(count(name, &[]), Some(wanted), "{name}");
    }
    assert_eq!(count("synhold_mode", &[("mode", "enforce")]), Some(1.0));
    assert_eq!(count("synhold_queue_packets", &[("queue", "0")]), Some(0.0));
}

#[test]
fn readiness_follows_what_protects_and_strangers_names_are_refused() {
    let stand = Stand::new("metricsrdy", &["--hold-ms", "200", "--metrics", AT]);
    let gw = &stand.lab.gw;
    eventually("it is ready", LATER, || get(gw, "/readyz", AT).0 == 200);
    assert_eq!(get(gw, "/readyz", "localhost:9753").2, "enforcing\n");
    assert_eq!(get(gw, "/healthz", AT).2, "alive, and its threads move\n");
    for path in ["/metrics", "/healthz", "/readyz"] {
        assert_eq!(get(gw, path, "rebound.example:9753").0, 403, "{path}");
    }
    std::fs::remove_file(&stand.log.path).unwrap();
    std::fs::create_dir(&stand.log.path).unwrap();
    eventually("the evidence is gone", LATER, || {
        let (status, _, said) = get(gw, "/readyz", AT);
        status == 503 && said.contains("the evidence is not healthy: file:")
    });
    assert_eq!(get(gw, "/healthz", AT).0, 200, "it lives");
    assert_eq!(value(&scrape(gw), "synhold_ready", &[]), Some(0.0));
}

#[test]
fn an_address_that_is_taken_keeps_nothing_but_the_metrics_away() {
    let lab = Lab::new("metricstaken");
    let taken = lab.gw.run(|| std::net::TcpListener::bind(AT)).unwrap();
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let daemon = start(&lab, &log.path, &["--hold-ms", "200", "--metrics", AT]);
    daemon.ready();
    let said = |healthy: bool| {
        move |e: &Value| e["event"] == "health" && e["what"] == "metrics" && e["healthy"] == healthy
    };
    let event = daemon.expect_event("it is told", said(false), LATER);
    assert!(event["message"].as_str().unwrap().contains("in use"), "{event}");
    assert_refused(&lab.ct, at(DEAD4, PORT));
    drop(taken);
    daemon.expect_event("and tried again", said(true), LATER);
    assert_eq!(get(&lab.gw, "/healthz", AT).0, 200);
}

/// Names that the dashboard leaves out, and why.
const UNUSED: [(&str, &str); 1] = [("synhold_registry_askers", "says little about how it does")];
/// Labels of families that have no samples without a container engine or a feed.
const EMPTY: [(&str, &[&str]); 4] = [
    ("synhold_container_accepted_packets", &["container"]),
    ("synhold_container_refused_packets", &["container"]),
    ("synhold_container_held_packets", &["container"]),
    ("synhold_list_fetched_timestamp_seconds", &["list", "kind"]),
];

/// Every expression of the dashboard and of the alerting rules.
fn expressions() -> Vec<String> {
    fn gather(value: &Value, out: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                for (key, value) in fields {
                    match value {
                        Value::String(text) if key == "expr" => out.push(text.clone()),
                        value => gather(value, out),
                    }
                }
            }
            Value::Array(values) => values.iter().for_each(|value| gather(value, out)),
            _ => {}
        }
    }
    let read = |name: &str| {
        std::fs::read_to_string(format!("{}/data/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
    };
    let mut out = Vec::new();
    gather(&serde_json::from_str(&read("grafana-synhold.json")).unwrap(), &mut out);
    let rules = read("prometheus-synhold.yml");
    out.extend(rules.lines().filter_map(|l| Some(l.trim().strip_prefix("expr: ")?.to_owned())));
    out
}

/// Names of metrics with the labels that stand in braces behind them, and those that are summed by.
fn used(expression: &str) -> (Vec<(String, Vec<String>)>, Vec<String>) {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut names = Vec::new();
    for (at, _) in expression.match_indices("synhold_") {
        let rest = &expression[at..];
        let name: String = rest.chars().take_while(|c| word(*c)).collect();
        let selector = rest[name.len()..].strip_prefix('{').and_then(|rest| rest.split('}').next());
        let label = |part: &str| part.split(['=', '!']).next().unwrap().trim().to_owned();
        names.push((name, selector.map_or_else(Vec::new, |s| s.split(',').map(label).collect())));
    }
    let by = expression.split(" by (").skip(1).map(|rest| rest.split(')').next().unwrap());
    let by = by.flat_map(|list| list.split(',').map(|label| label.trim().to_owned())).collect();
    (names, by)
}

#[test]
fn the_dashboard_shows_what_there_is_and_all_of_it() {
    let lab = Lab::new("metricsdash");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let config = lab.dir().join("synhold.toml");
    std::fs::write(&config, "[[alert]]\nkind = \"syslog\"\nsocket = \"/nonexistent\"\n").unwrap();
    let config = config.display().to_string();
    let daemon = start(&lab, &log.path, &["--metrics", AT, "--config", &config, "--learn", "1h"]);
    daemon.ready();
    let page = retry_until(LATER, || {
        let page = scrape(&lab.gw);
        // The rules are compared soon after the start.
        value(&page, "synhold_compared_timestamp_seconds", &[]).is_some().then_some(page)
    });
    let page = page.expect("a page with everything");
    let mut labels: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut family_of: BTreeMap<String, String> = BTreeMap::new();
    for family in &page {
        let name = family["name"].as_str().unwrap();
        let help = family["help"].as_str().unwrap();
        assert!(help.len() > 10 && !help.ends_with('.'), "{name}: {help}");
        let known = labels.entry(name.to_owned()).or_default();
        for sample in family["samples"].as_array().unwrap() {
            known.extend(sample[1].as_object().unwrap().keys().cloned());
        }
        let more = EMPTY.iter().find(|(empty, _)| *empty == name).map_or(&[][..], |(_, more)| more);
        known.extend(more.iter().map(|label| (*label).to_owned()));
        let suffixes: &[&str] = match family["type"].as_str().unwrap() {
            "counter" => &["_total"],
            "histogram" => &["_bucket", "_count", "_sum"],
            "info" => &["_info"],
            _ => &[""],
        };
        for suffix in suffixes {
            family_of.insert(format!("{name}{suffix}"), name.to_owned());
        }
    }
    // What a collector adds.
    let added = ["job", "instance"];
    let mut seen = BTreeSet::new();
    for expression in expressions() {
        let (names, by) = used(&expression);
        for (name, selected) in names {
            let family = family_of.get(&name);
            let family = family.unwrap_or_else(|| panic!("{name} of {expression} is not there"));
            seen.insert(family.clone());
            for label in selected.iter().chain(&by) {
                let known = labels[family].contains(label) || added.contains(&label.as_str());
                assert!(known, "{name} has no label {label}: {expression}");
            }
        }
    }
    assert!(seen.len() > 30, "{seen:?}");
    for family in labels.keys() {
        let unused = UNUSED.iter().any(|(name, _)| name == family);
        assert_ne!(seen.contains(family), unused, "{family}: shown, or left out for a reason");
    }
}
