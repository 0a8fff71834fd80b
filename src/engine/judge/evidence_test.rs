//! Tests of what counts as evidence once lists, rebinding and history have their say.

use std::time::Duration;

use super::tests::{at, engine, healthy_source, record, web};
use super::*;
use crate::engine::abuse::{LIVE, NAMES_PER_ASKER};
use crate::engine::lists::{Lists, Side};
use crate::engine::rebind::Inside;
use crate::engine::settings::{EvidenceRules, Weight};
use crate::engine::{Grade, Kind, Name, Wall};

fn named(name: &str, client: &str) -> Record {
    Record { name: Name::new(name).unwrap(), ..record(client) }
}

fn blocked(domain: &str) -> Arc<Lists> {
    let block = Side::new([], [], [Name::new(domain).unwrap()]);
    Arc::new(Lists { block, ..Lists::default() })
}

/// What a first packet from 172.17.0.2 meets in the end.
fn verdict(engine: &Engine<u32>, now: Now) -> (Verdict, Reason, Grade) {
    let decision = engine.forecast(web(), now);
    (decision.verdict, decision.reason, decision.grade)
}

/// Stale evidence is not enough here, and evidence is stale after a minute.
fn strict() -> Engine<u32> {
    let max_age = Some(Duration::from_secs(60));
    let evidence = EvidenceRules { max_age, stale: Weight::Refuse, ..EvidenceRules::default() };
    Engine::new(Settings { evidence, ..Settings::default() }, vec![healthy_source()])
}

#[test]
fn a_blocked_name_is_no_evidence_for_a_neighbour_who_has_only_stale_ones() {
    let engine = strict();
    engine.set_lists(blocked("evil.example"), at(0));
    engine.record(&named("good.example", "172.17.0.3"), at(0));
    assert_eq!(verdict(&engine, at(1_000)), (Verdict::Accept, Reason::Resolved, Grade::Other));
    // Another asks for the blocked name once the good one is stale.
    let later = at(100_000);
    engine.record(&Record { time: later.wall, ..named("www.evil.example", "172.17.0.3") }, later);
    assert_eq!(verdict(&engine, later), (Verdict::Drop, Reason::Stale, Grade::Stale));
    engine.set_lists(Arc::default(), later);
    assert_eq!(verdict(&engine, later), (Verdict::Accept, Reason::Resolved, Grade::Other));
}

#[test]
fn whoever_asked_for_a_blocked_name_is_refused_whatever_else_is_known() {
    let engine = strict();
    engine.set_lists(blocked("evil.example"), at(0));
    engine.record(&named("good.example", "172.17.0.2"), at(0));
    engine.record(&named("www.evil.example", "172.17.0.2"), at(0));
    // Somebody else asks later: that hides nothing.
    engine.record(
        &Record { time: Wall(5_000_000), ..named("www.evil.example", "172.17.0.3") },
        at(0),
    );
    let refused = (Verdict::Drop, Reason::Blocklisted, Grade::Own);
    assert_eq!(verdict(&engine, at(1_000)), refused);
}

#[test]
fn a_packet_that_waits_is_not_released_by_a_blocked_name() {
    let engine = strict();
    engine.set_lists(blocked("evil.example"), at(0));
    engine.record(&named("good.example", "172.17.0.3"), at(0));
    let later = at(100_000);
    assert_eq!(engine.packet(web(), 0, 1, later), Step::Hold(Mode::Enforce));
    let evil = Record { time: later.wall, ..named("evil.example", "172.17.0.3") };
    assert!(engine.record(&evil, later).released.is_empty());
    let good = Record { time: later.wall, ..named("good.example", "172.17.0.3") };
    assert_eq!(engine.record(&good, later).released.len(), 1);
}

#[test]
fn an_answer_that_is_no_evidence_releases_nobody() {
    let engine = engine(Scope::Global);
    let own = vec!["203.0.113.9".parse().unwrap()];
    engine.set_rebinding(Rebinding { own, ..Rebinding::default() });
    assert_eq!(engine.packet(web(), 0, 1, at(0)), Step::Hold(Mode::Enforce));
    let recorded = engine.record(&record("172.17.0.2"), at(1));
    assert_eq!(recorded.inserted, Inserted::Rejected(Inside::Own));
    assert!(recorded.released.is_empty() && engine.registry().is_empty());
    let hosts = Record { kind: Kind::Hosts, ..record("172.17.0.2") };
    assert_eq!(engine.record(&hosts, at(2)).released.len(), 1, "what this host says is meant");
}

#[test]
fn a_flood_is_of_now_and_not_of_what_is_read_late() {
    let flood = |age: Duration, late: bool| {
        let engine = engine(Scope::Global);
        let now = at(10_000_000);
        for n in 0..2 * NAMES_PER_ASKER {
            let time = Wall(now.wall.0 - u64::try_from(age.as_micros()).unwrap());
            let record = Record { time, ..named(&format!("n{n}.example"), "172.17.0.2") };
            match late {
                true => engine.recall(&record, now),
                false => engine.record(&record, now),
            };
        }
        engine.registry().take_alarms().len()
    };
    assert_eq!(flood(Duration::ZERO, false), 1);
    assert_eq!(flood(LIVE, false), 1);
    assert_eq!(flood(LIVE + Duration::from_secs(1), false), 0, "it was logged long ago");
    assert_eq!(flood(Duration::ZERO, true), 0, "nobody knows when it was logged");
}
