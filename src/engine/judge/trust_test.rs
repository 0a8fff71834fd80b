//! Tests of what follows where the evidence is not to be trusted, and of what passes without any.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::engine::decision::Decision;
use crate::engine::health::SourceHealth;
use crate::engine::judge::tests::{at, flow, healthy_source, record, web};
use crate::engine::judge::{Engine, Mode, Settings, Step};
use crate::engine::limits::{ESTABLISHED_FOR, HOLD_MAX};
use crate::engine::lists::{Lists, Side};
use crate::engine::settings::{EvidenceRules, OnUnhealthy, Scope, Weight};
use crate::engine::time::{Now, Wall};
use crate::engine::verdict::{Grade, Reason, Verdict};

fn engine(evidence: EvidenceRules) -> (Engine<u32>, Arc<SourceHealth>) {
    let source = healthy_source();
    let settings = Settings { evidence, ..Settings::default() };
    (Engine::new(settings, vec![Arc::clone(&source)]), source)
}

/// The decision about the web flow in the end, whether at once or after the hold.
fn in_the_end(engine: &Engine<u32>, now: Now) -> Decision {
    match engine.packet(web(), 0, 1, now) {
        Step::Decided(decision) => decision,
        Step::Hold(_) => {
            let mut answers = engine.expire(0, now + HOLD_MAX);
            assert_eq!(answers.len(), 1);
            answers.remove(0).decision
        }
        Step::Copy(_) => panic!("a copy of what?"),
    }
}

fn said(decision: &Decision) -> (Verdict, Reason) {
    (decision.verdict, decision.reason)
}

#[test]
fn in_the_grace_of_a_first_start_nobody_is_accused_and_later_they_are() {
    let (engine, _) = engine(EvidenceRules::default());
    engine.begin_grace(at(1_000).mono);
    let decision = in_the_end(&engine, at(2_000));
    assert_eq!(said(&decision), (Verdict::Accept, Reason::Unhealthy));
    assert_eq!(decision.held, Duration::ZERO, "it would wait for nothing");
    assert!(engine.evidence(at(2_000)).why[0].contains("empty at the start"));
    let after = at(2_000) + EvidenceRules::default().grace;
    assert!(engine.evidence(after).healthy);
    assert_eq!(said(&in_the_end(&engine, after)), (Verdict::Drop, Reason::NeverResolved));
}

#[test]
fn a_record_counts_in_the_grace_as_ever() {
    let (engine, _) = engine(EvidenceRules::default());
    engine.begin_grace(at(0).mono);
    engine.record(&record("172.17.0.2"), at(1));
    let decision = in_the_end(&engine, at(2));
    assert_eq!(said(&decision), (Verdict::Accept, Reason::Resolved));
}

#[test]
fn what_is_done_on_unhealthy_evidence_is_as_configured() {
    for (on_unhealthy, verdict, again) in [
        (None, Verdict::Drop, false),
        (Some(OnUnhealthy::Accept), Verdict::Accept, false),
        (Some(OnUnhealthy::Hold), Verdict::Drop, true),
        (Some(OnUnhealthy::Refuse), Verdict::Drop, false),
    ] {
        let (engine, source) = engine(EvidenceRules { on_unhealthy, ..EvidenceRules::default() });
        source.mark_down();
        let decision = in_the_end(&engine, at(10_000));
        assert_eq!(said(&decision), (verdict, Reason::Unhealthy), "{on_unhealthy:?}");
        assert_eq!(decision.again, again, "{on_unhealthy:?}");
        source.mark_up(at(20_000).mono);
        let decision = in_the_end(&engine, at(40_000));
        assert_eq!(said(&decision), (Verdict::Drop, Reason::NeverResolved), "{on_unhealthy:?}");
        assert!(!decision.again);
    }
}

#[test]
fn an_explicit_setting_holds_in_the_grace_too() {
    let on_unhealthy = Some(OnUnhealthy::Refuse);
    let (engine, _) = engine(EvidenceRules { on_unhealthy, ..EvidenceRules::default() });
    engine.begin_grace(at(0).mono);
    assert_eq!(said(&in_the_end(&engine, at(1))), (Verdict::Drop, Reason::Unhealthy));
}

#[test]
fn a_trouble_beside_the_sources_accuses_nobody_until_it_is_over() {
    let (engine, _) = engine(EvidenceRules::default());
    engine.set_trouble("registry-load", Some("the registry was damaged".to_owned()));
    let decision = in_the_end(&engine, at(5_000));
    assert_eq!(said(&decision), (Verdict::Drop, Reason::Unhealthy));
    assert_eq!(engine.evidence(at(5_000)).why, ["the registry was damaged"]);
    engine.set_trouble("registry-load", None);
    assert_eq!(said(&in_the_end(&engine, at(15_000))), (Verdict::Drop, Reason::NeverResolved));
}

#[test]
fn whoever_had_a_flow_there_may_open_it_again_for_a_while_and_nobody_else() {
    let (engine, _) = engine(EvidenceRules::default());
    let pair: (IpAddr, IpAddr) = (web().src.ip(), web().dst.ip());
    engine.set_established([pair], at(0).mono);
    assert_eq!(said(&in_the_end(&engine, at(1))), (Verdict::Accept, Reason::Established));
    let neighbour = flow("172.17.0.3:1", "203.0.113.9:443");
    assert_eq!(engine.packet(neighbour, 0, 2, at(1)), Step::Hold(Mode::Enforce));
    assert_eq!(engine.expire(0, at(2_000)).len(), 1);
    let after = at(1) + ESTABLISHED_FOR;
    assert_eq!(said(&in_the_end(&engine, after)), (Verdict::Drop, Reason::NeverResolved));
}

#[test]
fn whoever_has_the_address_next_inherits_nothing_that_was_open() {
    let (engine, _) = engine(EvidenceRules::default());
    engine.set_established([(web().src.ip(), web().dst.ip())], at(0).mono);
    engine.forget_clients(&[web().src.ip()].into());
    assert_eq!(said(&in_the_end(&engine, at(1_000))), (Verdict::Drop, Reason::NeverResolved));
}

#[test]
fn lists_beat_what_was_open() {
    let (engine, _) = engine(EvidenceRules::default());
    engine.set_established([(web().src.ip(), web().dst.ip())], at(0).mono);
    engine.set_lists(blocking(), at(0));
    assert_eq!(said(&in_the_end(&engine, at(1))), (Verdict::Drop, Reason::Blocklisted));
}

fn blocking() -> Arc<Lists> {
    let net: crate::engine::Net = "203.0.113.9".parse().unwrap();
    Arc::new(Lists { block: Side::new([(net.family(), net.span())], [], []), ..Lists::default() })
}

#[test]
fn while_it_learns_only_lists_refuse() {
    let (engine, _) = engine(EvidenceRules::default());
    engine.set_learning(true);
    assert_eq!(engine.packet(web(), 0, 1, at(1_000)), Step::Hold(Mode::Learn));
    let decision = engine.expire(0, at(3_000)).remove(0).decision;
    assert_eq!(said(&decision), (Verdict::Drop, Reason::NeverResolved));
    assert_eq!(decision.mode, Mode::Learn, "it passed long ago");
    engine.set_lists(blocking(), at(4_000));
    let decision = in_the_end(&engine, at(5_000));
    assert_eq!((said(&decision).1, decision.mode), (Reason::Blocklisted, Mode::Enforce));
}

#[test]
fn a_packet_that_passed_while_it_learned_is_not_told_as_refused_afterwards() {
    let (engine, _) = engine(EvidenceRules::default());
    engine.set_learning(true);
    assert_eq!(engine.packet(web(), 0, 1, at(1_000)), Step::Hold(Mode::Learn));
    engine.set_learning(false);
    assert_eq!(engine.expire(0, at(3_000)).remove(0).decision.mode, Mode::Learn);
    assert_eq!(engine.packet(web(), 0, 2, at(9_000)), Step::Hold(Mode::Enforce));
}

#[test]
fn each_grade_weighs_what_its_rule_says() {
    let age = Duration::from_secs(60);
    let strict =
        EvidenceRules { max_age: Some(age), stale: Weight::Refuse, ..EvidenceRules::default() };
    let lenient = EvidenceRules { max_age: Some(age), ..EvidenceRules::default() };
    let later = Now { mono: at(120_000).mono, wall: Wall(120_000_000) };
    for (rules, expected) in
        [(strict, (Verdict::Drop, Reason::Stale)), (lenient, (Verdict::Accept, Reason::Resolved))]
    {
        let (engine, _) = engine(rules);
        engine.record(&record("172.17.0.2"), at(0));
        let decision = in_the_end(&engine, later);
        assert_eq!((said(&decision), decision.grade), (expected, Grade::Stale));
        // Asked again, it is as good as new.
        engine.record(&crate::engine::Record { time: later.wall, ..record("172.17.0.2") }, later);
        assert_eq!(said(&in_the_end(&engine, later)), (Verdict::Accept, Reason::Resolved));
    }
    let fixed = EvidenceRules { fixed: Weight::Refuse, ..EvidenceRules::default() };
    let (engine, _) = engine(fixed);
    let hosts = crate::engine::Record { kind: crate::engine::Kind::Hosts, ..record("172.17.0.2") };
    engine.record(&hosts, at(0));
    let decision = in_the_end(&engine, at(5_000));
    assert_eq!(
        (said(&decision), decision.grade),
        ((Verdict::Drop, Reason::OutOfScope), Grade::Static)
    );
}

#[test]
fn a_record_that_comes_too_late_says_how_late_and_once() {
    let (engine, _) = engine(EvidenceRules::default());
    assert_eq!(engine.packet(web(), 0, 1, at(1_000)), Step::Hold(Mode::Enforce));
    assert_eq!(engine.expire(0, at(1_750)).len(), 1);
    let waited = engine.record(&record("172.17.0.2"), at(1_900)).waited;
    assert_eq!(waited, Some(Duration::from_millis(900)));
    assert_eq!(engine.record(&record("172.17.0.2"), at(1_901)).waited, None);
    let other = flow("172.17.0.2:9", "203.0.113.10:443");
    assert_eq!(engine.packet(other, 0, 2, at(2_000)), Step::Hold(Mode::Enforce));
    assert_eq!(engine.expire(0, at(2_750)).len(), 1);
    let record = crate::engine::Record { address: other.dst.ip(), ..record("172.17.0.2") };
    assert_eq!(engine.record(&record, at(9_000)).waited, None, "a look-up of its own");
}

#[test]
fn scope_and_health_together_accuse_nobody_of_anothers_look_up_on_bad_evidence() {
    let source = healthy_source();
    let settings = Settings { scope: Scope::Container, ..Settings::default() };
    let engine: Engine<u32> = Engine::new(settings, vec![Arc::clone(&source)]);
    engine.record(&record("172.17.0.9"), at(0));
    assert_eq!(said(&in_the_end(&engine, at(5_000))), (Verdict::Drop, Reason::OutOfScope));
    source.mark_down();
    assert_eq!(said(&in_the_end(&engine, at(15_000))), (Verdict::Drop, Reason::Unhealthy));
}

#[test]
fn a_packet_that_passes_when_its_time_is_up_passes_once() {
    let accept = Some(OnUnhealthy::Accept);
    let (engine, source) =
        engine(EvidenceRules { on_unhealthy: accept, ..EvidenceRules::default() });
    assert!(matches!(engine.packet(web(), 0, 1, at(10_000)), Step::Hold(_)));
    source.mark_down();
    let answers = engine.expire(0, at(10_000) + HOLD_MAX);
    assert_eq!(said(&answers[0].decision), (Verdict::Accept, Reason::Unhealthy));
    let copy = engine.packet(web(), 0, 2, at(10_001) + HOLD_MAX);
    assert!(matches!(copy, Step::Copy(_)), "{copy:?}");
}

/// An engine where only a container's own look-ups count, for so long.
fn confined(max_age: Duration) -> Engine<u32> {
    let evidence = EvidenceRules { max_age: Some(max_age), ..EvidenceRules::default() };
    let settings = Settings { evidence, scope: Scope::Container, ..Settings::default() };
    Engine::new(settings, vec![healthy_source()])
}

#[test]
fn what_another_one_asked_for_does_not_come_into_scope_by_growing_old() {
    let age = Duration::from_secs(60);
    let engine = confined(age);
    engine.record(&record("172.17.0.3"), at(0));
    for (later, grade) in [(Duration::ZERO, Grade::Other), (age * 2, Grade::Stale)] {
        let decision = in_the_end(&engine, at(1_000) + later);
        assert_eq!(said(&decision), (Verdict::Drop, Reason::OutOfScope));
        assert_eq!(decision.grade, grade);
    }
}

#[test]
fn what_another_one_asks_for_takes_nothing_from_what_counts() {
    let age = Duration::from_secs(60);
    let engine = confined(age);
    engine.record(&record("172.17.0.2"), at(0));
    let later = at(0) + age * 2;
    for _ in 0..2 {
        let decision = in_the_end(&engine, later);
        assert_eq!(said(&decision), (Verdict::Accept, Reason::Resolved));
        assert_eq!(decision.grade, Grade::Stale);
        engine.record(&crate::engine::Record { time: later.wall, ..record("172.17.0.3") }, later);
    }
}

#[test]
fn the_proof_of_a_decision_is_the_evidence_it_was_made_by() {
    let (engine, source) = engine(EvidenceRules::default());
    source.mark_down();
    let decision = in_the_end(&engine, at(10_000));
    let proof = decision.proof.expect("looked at");
    assert!(!proof.healthy && proof.why[0].contains("down"), "{proof:?}");
    source.mark_up(at(20_000).mono);
    assert!(in_the_end(&engine, at(40_000)).proof.expect("looked at").healthy);
}

#[test]
fn where_evidence_ages_it_is_told_when_it_is_seen_again() {
    let max_age = Some(Duration::from_secs(3_600));
    let news = |rules: EvidenceRules, second: u64| {
        let (engine, _) = engine(rules);
        let now = Now { mono: at(second * 1_000).mono, wall: Wall(second * 1_000_000) };
        engine.record(&record("172.17.0.2"), at(1_000));
        let again = crate::engine::Record { time: now.wall, ..record("172.17.0.2") };
        engine.record(&again, now).is_news
    };
    assert!(news(EvidenceRules { max_age, ..EvidenceRules::default() }, 600));
    assert!(!news(EvidenceRules { max_age, ..EvidenceRules::default() }, 10), "a moment later");
    assert!(!news(EvidenceRules::default(), 600), "where it does not age");
}

#[test]
fn what_two_sources_bring_at_once_is_news_once() {
    let (engine, _) = engine(EvidenceRules::default());
    let records: Vec<crate::engine::Record> = (0..5_000_u32)
        .map(|n| crate::engine::Record {
            address: std::net::Ipv4Addr::from(0xCB00_0000 + n).into(),
            ..record("172.17.0.2")
        })
        .collect();
    let begun = AtomicUsize::new(0);
    let bring = || {
        let news = |(index, record): (usize, _)| {
            begun.fetch_add(1, Ordering::SeqCst);
            // Each record is begun by both at one time, as far as two processors can.
            while begun.load(Ordering::SeqCst) < 2 * (index + 1) {
                std::thread::yield_now();
            }
            engine.record(record, at(1_000)).is_news
        };
        records.iter().enumerate().filter(|&record| news(record)).count()
    };
    let told = std::thread::scope(|scope| {
        let other = scope.spawn(bring);
        bring() + other.join().unwrap()
    });
    assert_eq!(told, records.len());
}
