//! The steps of an explanation end where the verdict of a packet does, whatever is configured, listed and known.

use std::time::Duration;

use proptest::prelude::*;

use super::tests::{at, healthy_source, record, web};
use super::*;
use crate::engine::lists::Side;
use crate::engine::settings::{EvidenceRules, OnUnhealthy, Weight};
use crate::engine::trace::{Basis, Finding, Traced};
use crate::engine::wish::Treatment;
use crate::engine::{Kind, Name, Net};

/// What a random state is made of.
#[derive(Clone, Debug)]
struct Case {
    mode: Mode,
    treatment: Option<Treatment>,
    scope: Scope,
    stale: bool,
    fixed: bool,
    aged: bool,
    on_unhealthy: Option<OnUnhealthy>,
    healthy: bool,
    grace: bool,
    learning: bool,
    quarantine: bool,
    /// Address, domain: allowed; address, domain, pair: blocked.
    listed: [bool; 5],
    /// Address and domain in the container's own policy.
    own: [bool; 2],
    established: bool,
    /// Asked for by the container, by another, by a hosts file.
    known: [bool; 3],
}

fn cases() -> impl Strategy<Value = Case> {
    let mode = prop_oneof![Just(Mode::Enforce), Just(Mode::DryRun)];
    let treatment = prop::option::of(prop_oneof![
        Just(Treatment::Off),
        Just(Treatment::DryRun),
        Just(Treatment::Enforce)
    ]);
    let on_unhealthy = prop::option::of(prop_oneof![
        Just(OnUnhealthy::Accept),
        Just(OnUnhealthy::Hold),
        Just(OnUnhealthy::Refuse)
    ]);
    let scope = prop_oneof![Just(Scope::Global), Just(Scope::Container)];
    let switches = prop::array::uniform8(any::<bool>());
    // Rarely set, or nothing but lists would ever decide.
    let rare = || prop::bool::weighted(0.15);
    let lists = (prop::array::uniform5(rare()), prop::array::uniform2(rare()), rare());
    let known = prop::array::uniform3(prop::bool::weighted(0.4));
    (mode, treatment, on_unhealthy, scope, switches, lists, known).prop_map(
        |(mode, treatment, on_unhealthy, scope, switches, lists, known)| {
            let [stale, fixed, aged, healthy, grace, learning, established, _] = switches;
            let (listed, own, quarantine) = lists;
            Case {
                mode,
                treatment,
                scope,
                stale,
                fixed,
                aged,
                on_unhealthy,
                healthy,
                grace,
                learning,
                quarantine,
                listed,
                own,
                established,
                known,
            }
        },
    )
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn side(address: bool, domain: bool) -> Side {
    let net: Net = "203.0.113.9".parse().unwrap();
    let spans = address.then(|| (net.family(), net.span()));
    Side::new(spans, [], domain.then(|| name("example")))
}

fn weight(accepts: bool) -> Weight {
    if accepts { Weight::Accept } else { Weight::Refuse }
}

fn engine(case: &Case, now: Now) -> Engine<u32> {
    let source = healthy_source();
    let evidence = EvidenceRules {
        max_age: case.aged.then_some(Duration::from_secs(60)),
        stale: weight(case.stale),
        fixed: weight(case.fixed),
        on_unhealthy: case.on_unhealthy,
        ..EvidenceRules::default()
    };
    let (mode, scope) = (case.mode, case.scope);
    let settings = Settings { mode, scope, evidence, ..Settings::default() };
    let engine = Engine::new(settings, vec![Arc::clone(&source)]);
    let (src, dst) = (web().src.ip(), web().dst.ip());
    if let Some(treatment) = case.treatment {
        let mut policy = Policy::new(&settings, Refusal::Reset);
        policy.mode = treatment;
        let [address, domain] = case.own;
        policy.allow = (address || domain).then(|| Arc::new(side(address, domain)));
        let owner = Owner {
            id: "1234".into(),
            name: "web".into(),
            image: "nginx".into(),
            policy: Arc::new(policy),
            tally: Arc::default(),
        };
        engine.set_owners(Owners::new([(src, Arc::new(owner))].into(), vec![]), at(0));
    }
    let [allow, allow_name, block, block_name, pair] = case.listed;
    let lists = Lists {
        allow: side(allow, allow_name),
        block: side(block, block_name),
        quarantine: case.quarantine.then_some((src, None)).into_iter().collect(),
        pairs: pair.then_some(((src, dst), None)).into_iter().collect(),
        ..Lists::default()
    };
    engine.set_lists(Arc::new(lists), at(0));
    let [own, other, hosts] = case.known;
    if own {
        engine.record(&record("172.17.0.2"), at(0));
    }
    if other {
        engine.record(&record("172.17.0.77"), at(0));
    }
    if hosts {
        engine.record(
            &Record { kind: Kind::Hosts, name: name("nas"), ..record("172.17.0.77") },
            at(0),
        );
    }
    if case.established {
        engine.set_established([(src, dst)], now.mono);
    }
    if case.grace {
        engine.begin_grace(now.mono);
    }
    if !case.healthy {
        source.mark_down();
    }
    engine.set_learning(case.learning);
    engine
}

/// What becomes of the packet, at once or after the hold.
fn in_the_end(engine: &Engine<u32>, now: Now) -> (Decision, bool) {
    match engine.packet(web(), 0, 1, now) {
        Step::Decided(decision) => (decision, false),
        Step::Hold(_) => {
            (engine.expire(0, now + Duration::from_millis(800)).remove(0).decision, true)
        }
        Step::Copy(_) => panic!("a copy of what?"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]
    #[test]
    fn the_last_step_and_no_other_says_the_verdict_of_the_packet(case in cases()) {
        // Long enough after the records for them to be stale where evidence ages.
        let now = at(1_000_000);
        let engine = engine(&case, now);
        let (decision, steps) = engine.explain(web(), now);
        let said = Some((decision.verdict, decision.reason));
        let (last, before) = steps.split_last().unwrap();
        prop_assert_eq!(last.ends, said, "{:?}", steps);
        prop_assert!(before.iter().all(|step| step.ends.is_none()), "{:?}", steps);
        prop_assert_eq!(&engine.forecast(web(), now), &decision);
        let waits = steps.iter().any(|step| matches!(step.finding, Finding::Hold { .. }));
        let (real, held) = in_the_end(&engine, now);
        prop_assert_eq!(Some((real.verdict, real.reason)), said, "{:?}", steps);
        prop_assert_eq!((real.grade, real.mode), (decision.grade, decision.mode));
        prop_assert_eq!(held, waits, "{:?}", steps);
    }
}

fn steps(engine: &Engine<u32>) -> Vec<Traced> {
    engine.explain(web(), at(10_000)).1
}

#[test]
fn each_step_has_the_proof_of_its_answer() {
    let engine = Engine::<u32>::new(Settings::default(), vec![healthy_source()]);
    let words: Vec<String> = steps(&engine)
        .iter()
        .map(|step| serde_json::to_value(step).unwrap()["step"].as_str().unwrap().to_owned())
        .collect();
    let all =
        ["mode", "quarantine", "allow", "block", "evidence", "established", "hold", "absence"];
    assert_eq!(words, all);
    engine.record(&record("172.17.0.2"), at(0));
    let block = side(false, true);
    engine.set_lists(Arc::new(Lists { block, ..Lists::default() }), at(0));
    let last = steps(&engine).pop().unwrap();
    assert_eq!(last.finding, Finding::Block { by: Some(Basis::Domain(name("example"))) });
    let sources = vec![Arc::new(SourceHealth::new("file:/log"))];
    let Finding::Absence { proves, why, .. } =
        steps(&Engine::new(Settings::default(), sources)).pop().unwrap().finding
    else {
        panic!("absence ends it")
    };
    assert_eq!((proves, why), (false, vec!["file:/log down".to_owned()]));
}
