//! Runs over moments that are made up: several starts, evidence that ages, and what is said against what would be.

use super::*;
use crate::engine::{Flow, Kind, Proto};

const START: u64 = 1_700_000_000_000_000;
const MINUTE: u64 = 60_000_000;

fn ready(at: u64, settings: &[(&str, &str)], records: u64) -> Moment {
    let settings = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let ready = serde_json::json!({
        "mode": "enforce", "posture": "closed", "refuse": "reset", "queue_via": "compat", "queue_num": 0,
        "queues": 1, "hold_ms": 750, "containers": [], "sources": [], "records": records,
        "own_rules": true, "version": "1", "settings": settings.collect::<BTreeMap<String, String>>(),
    });
    let ready: Ready = serde_json::from_value(ready).unwrap();
    Moment { at: Wall(START + at), item: Item::Ready(Box::new(ready)) }
}

fn record(at: u64, client: &str) -> Moment {
    let record = Record {
        address: "203.0.113.9".parse().unwrap(),
        name: Name::new("shop.example").unwrap(),
        client: Some(client.parse().unwrap()),
        kind: Kind::Reply,
        chain: Vec::new(),
        time: Wall(START + at),
    };
    Moment { at: Wall(START + at), item: Item::Record(Box::new(record)) }
}

fn packet(at: u64, port: u16) -> Moment {
    let (src, dst) = (("172.17.0.2".parse().unwrap(), port), ("203.0.113.9".parse().unwrap(), 443));
    let packet = Packet { flow: Flow::new(Proto::Tcp, src, dst), container: None, said: None };
    Moment { at: Wall(START + at), item: Item::Packet(Box::new(packet)) }
}

fn reasons(moments: &[Moment], change: &[(&str, &str)]) -> Vec<Reason> {
    let recorded = match &moments[0].item {
        Item::Ready(ready) => ready.settings.clone(),
        _ => BTreeMap::new(),
    };
    let change =
        change.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let told = Told::default();
    let setup = Setup { recorded: &recorded, change: &change, prepare: &|_| Ok(()), told: &told };
    let ran = run(moments, &setup).unwrap();
    ran.got.into_iter().map(|got| got.expect("no copy").reason).collect()
}

#[test]
fn each_start_brings_its_own_settings_and_what_was_known_stays() {
    let moments = [
        ready(0, &[("scope", "global"), ("evidence-grace", "0s")], 0),
        record(MINUTE, "172.17.0.9"),
        packet(2 * MINUTE, 1),
        ready(3 * MINUTE, &[("scope", "container")], 1),
        packet(4 * MINUTE, 2),
    ];
    assert_eq!(reasons(&moments, &[]), [Reason::Resolved, Reason::OutOfScope]);
    assert_eq!(reasons(&moments, &[("scope", "global")]), [Reason::Resolved; 2]);
}

#[test]
fn evidence_that_is_seen_again_is_fresh_and_that_which_is_not_goes_stale() {
    let rules =
        [("evidence-max-age", "1h"), ("evidence-stale", "refuse"), ("evidence-grace", "0s")];
    let again = [
        ready(0, &rules, 0),
        record(0, "172.17.0.2"),
        record(50 * MINUTE, "172.17.0.2"),
        packet(70 * MINUTE, 1),
    ];
    assert_eq!(reasons(&again, &[]), [Reason::Resolved]);
    let once = [again[0].clone(), again[1].clone(), again[3].clone()];
    assert_eq!(reasons(&once, &[]), [Reason::Stale]);
}

#[test]
fn a_memory_only_restart_knows_nothing() {
    let moments = [
        ready(0, &[("evidence-grace", "0s")], 0),
        record(MINUTE, "172.17.0.2"),
        ready(2 * MINUTE, &[("evidence-grace", "0s")], 0),
        packet(3 * MINUTE, 1),
    ];
    assert_eq!(reasons(&moments, &[]), [Reason::NeverResolved]);
}
