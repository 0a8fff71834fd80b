//! Tests of the engine: verdicts, the hold's ways out, and the interleavings of packet and record.

use std::time::Duration;

use super::*;
use crate::engine::health::Batch;
use crate::engine::lists::Side;
use crate::engine::{Grade, Kind, Name, Net, Proto, Wall};

pub(super) fn engine(scope: Scope) -> Engine<u32> {
    let source = healthy_source();
    Engine::new(Settings { scope, ..Settings::default() }, vec![source])
}

/// A source that came up and gave a line before anything else happened.
pub(super) fn healthy_source() -> Arc<SourceHealth> {
    let source = Arc::new(SourceHealth::new("test"));
    source.mark_up(Mono(0));
    source.count(Batch { lines: 1, ..Batch::default() }, Now { wall: Wall(1), ..Now::default() });
    source
}

pub(super) fn flow(src: &str, dst: &str) -> Flow {
    Flow { proto: Proto::Tcp, src: src.parse().unwrap(), dst: dst.parse().unwrap() }
}

pub(super) fn web() -> Flow {
    flow("172.17.0.2:40000", "203.0.113.9:443")
}

pub(super) fn record(client: &str) -> Record {
    Record {
        address: "203.0.113.9".parse().unwrap(),
        name: Name::new("a.example").unwrap(),
        client: Some(client.parse().unwrap()),
        kind: Kind::Reply,
        chain: vec![],
        time: Wall(1_000_000),
    }
}

pub(super) fn at(ms: u64) -> Now {
    Now { mono: Mono(0), wall: Wall(0) } + Duration::from_millis(ms)
}

#[test]
fn a_known_destination_is_accepted_at_once() {
    let engine = engine(Scope::Global);
    engine.record(&record("172.17.0.9"), at(0));
    let Step::Decided(decision) = engine.packet(web(), 0, 1, at(1)) else { panic!("not decided") };
    assert_eq!(
        (decision.verdict, decision.reason, decision.grade),
        (Verdict::Accept, Reason::Resolved, Grade::Other)
    );
    assert_eq!(decision.known.names, [Name::new("a.example").unwrap()]);
}

#[test]
fn an_unknown_destination_is_held_then_refused_at_the_bound() {
    let engine = engine(Scope::Global);
    assert_eq!(engine.packet(web(), 0, 7, at(0)), Step::Hold(Mode::Enforce));
    assert_eq!(engine.next_deadline(0), Some(at(750).mono));
    assert!(engine.expire(0, at(749)).is_empty());
    let answers = engine.expire(0, at(751));
    assert_eq!(answers.len(), 1);
    assert_eq!((answers[0].ticket, answers[0].decision.reason), (7, Reason::NeverResolved));
    assert_eq!(answers[0].decision.held, Duration::from_millis(751));
    assert_eq!((engine.held(), engine.next_deadline(0)), (0, None));
}

#[test]
fn the_record_releases_every_packet_to_its_address_and_no_other() {
    let engine = engine(Scope::Global);
    let other = flow("172.17.0.2:40000", "203.0.113.10:443");
    assert_eq!(engine.packet(web(), 0, 1, at(0)), Step::Hold(Mode::Enforce));
    assert_eq!(
        engine.packet(flow("172.17.0.3:1", "203.0.113.9:80"), 1, 2, at(0)),
        Step::Hold(Mode::Enforce)
    );
    assert_eq!(engine.packet(other, 0, 3, at(0)), Step::Hold(Mode::Enforce));
    let mut answers = engine.record(&record("172.17.0.2"), at(5)).released;
    answers.sort_by_key(|answer| answer.ticket);
    let seen: Vec<_> = answers
        .iter()
        .map(|a| (a.ticket, a.decision.lane, a.decision.reason, a.decision.grade))
        .collect();
    assert_eq!(
        seen,
        [
            (1, 0, Reason::ResolvedAfterHold, Grade::Own),
            (2, 1, Reason::ResolvedAfterHold, Grade::Other)
        ]
    );
    assert_eq!(engine.held(), 1);
}

#[test]
fn a_record_between_look_up_and_parking_still_releases() {
    let engine = engine(Scope::Global);
    // The verdict thread looks and finds nothing ...
    assert_eq!(engine.quick(web(), 0, None, at(0)), None);
    // ... the reader takes the record in and finds nobody waiting ...
    assert!(engine.record(&record("172.17.0.2"), at(1)).released.is_empty());
    // ... and only then the verdict thread parks.
    let Step::Decided(decision) = engine.park(web(), 0, 1, None, at(2)) else {
        panic!("the wake-up was lost")
    };
    assert_eq!((decision.verdict, decision.reason), (Verdict::Accept, Reason::ResolvedAfterHold));
    assert_eq!(engine.held(), 0);
}

#[test]
fn packets_and_records_racing_on_two_threads_lose_nobody() {
    let engine = Arc::new(engine(Scope::Global));
    for round in 0..2_000u32 {
        let address: IpAddr = std::net::Ipv4Addr::from(0xcb00_7100 + round).into();
        let flow = Flow::new(Proto::Tcp, ("172.17.0.2".parse().unwrap(), 1), (address, 443));
        let record = Record { address, ..record("172.17.0.2") };
        let barrier = Arc::new(std::sync::Barrier::new(2));
        let reader = {
            let (engine, barrier) = (Arc::clone(&engine), Arc::clone(&barrier));
            std::thread::spawn(move || {
                barrier.wait();
                engine.record(&record, at(0)).released.len()
            })
        };
        barrier.wait();
        let step = engine.packet(flow, 0, round, at(0));
        let released = reader.join().unwrap();
        match step {
            Step::Decided(decision) => {
                assert_eq!((decision.verdict, released), (Verdict::Accept, 0))
            }
            Step::Hold(_) => assert_eq!(released, 1, "round {round}: held and never released"),
            Step::Copy(_) => panic!("no copy was sent"),
        }
    }
    assert_eq!(engine.held(), 0);
}

#[test]
fn a_copy_joins_while_the_first_waits_and_shortly_after_it_was_let_through() {
    let engine = engine(Scope::Global);
    assert_eq!(engine.packet(web(), 0, 1, at(0)), Step::Hold(Mode::Enforce));
    assert_eq!(engine.packet(web(), 1, 2, at(100)), Step::Copy(Mode::Enforce));
    let answers = engine.record(&record("172.17.0.2"), at(200)).released;
    assert_eq!((answers.len(), answers[0].decision.copies), (1, 1));
    assert_eq!(
        engine.packet(web(), 1, 3, at(201)),
        Step::Copy(Mode::Enforce),
        "a copy queued behind the first"
    );
    let Step::Decided(later) = engine.packet(web(), 0, 4, at(2_000)) else {
        panic!("the flow may come back")
    };
    assert_eq!(later.reason, Reason::Resolved);
}

#[test]
fn a_refused_flow_is_judged_anew_when_it_tries_again() {
    let engine = engine(Scope::Global);
    assert_eq!(engine.packet(web(), 0, 1, at(0)), Step::Hold(Mode::Enforce));
    assert_eq!(engine.expire(0, at(800)).len(), 1);
    assert_eq!(engine.packet(web(), 0, 2, at(801)), Step::Hold(Mode::Enforce));
}

#[test]
fn one_source_over_its_budget_does_not_touch_its_neighbour() {
    let engine = engine(Scope::Global);
    let budget = engine.settings().bounds.budget;
    for port in 0..u16::try_from(budget).unwrap() {
        assert_eq!(
            engine.packet(flow(&format!("172.17.0.2:{port}"), "203.0.113.10:1"), 0, 0, at(0)),
            Step::Hold(Mode::Enforce)
        );
    }
    let Step::Decided(over) = engine.packet(web(), 0, 0, at(0)) else {
        panic!("over budget must be decided")
    };
    assert_eq!((over.verdict, over.reason), (Verdict::Drop, Reason::HoldBudget));
    assert_eq!(
        engine.packet(flow("172.17.0.3:1", "203.0.113.9:443"), 0, 0, at(0)),
        Step::Hold(Mode::Enforce)
    );
}

#[test]
fn with_scope_container_only_the_containers_own_look_up_releases() {
    let engine = engine(Scope::Container);
    assert_eq!(engine.packet(web(), 0, 1, at(0)), Step::Hold(Mode::Enforce));
    assert!(engine.record(&record("172.17.0.9"), at(1)).released.is_empty());
    let answers = engine.expire(0, at(800));
    assert_eq!(
        (answers[0].decision.reason, answers[0].decision.grade),
        (Reason::OutOfScope, Grade::Other)
    );
    assert_eq!(engine.packet(web(), 0, 2, at(900)), Step::Hold(Mode::Enforce));
    assert_eq!(engine.record(&record("172.17.0.2"), at(901)).released.len(), 1);
}

/// The reason a packet is refused with that waited until `ms`, given what happened to the source.
#[track_caller]
fn reason(ms: u64, happens: impl Fn(&SourceHealth)) -> Reason {
    let source = healthy_source();
    happens(&source);
    let engine: Engine<u32> = Engine::new(Settings::default(), vec![source]);
    assert_eq!(engine.packet(web(), 0, 1, at(ms - 750)), Step::Hold(Mode::Enforce));
    engine.expire(0, at(ms))[0].decision.reason
}

#[test]
fn while_the_evidence_is_unhealthy_nobody_is_accused() {
    assert_eq!(reason(10_000, |_| {}), Reason::NeverResolved, "the control");
    assert_eq!(reason(10_000, SourceHealth::mark_down), Reason::Unhealthy);
    let came_up = |ms| move |source: &SourceHealth| source.mark_up(at(ms).mono);
    assert_eq!(reason(10_000, came_up(9_500)), Reason::Unhealthy, "up only while it waited");
    assert_eq!(reason(10_000, came_up(9_200)), Reason::NeverResolved);
    let behind = |source: &SourceHealth| source.fell_behind(at(9_000).mono);
    assert_eq!(reason(10_000, behind), Reason::Unhealthy, "still behind");
    let slow = |source: &SourceHealth| {
        source.fell_behind(at(8_000).mono);
        source.caught_up(at(9_500).mono);
    };
    assert_eq!(reason(10_000, slow), Reason::Unhealthy, "it was behind while the packet waited");
    assert_eq!(reason(11_000, slow), Reason::NeverResolved, "that is over");
    let lost = |source: &SourceHealth| {
        source.count(Batch { lines: 1, lost: 7, ..Batch::default() }, at(1_000));
    };
    assert_eq!(reason(10_000, lost), Reason::Unhealthy, "lines are missing");
    assert_eq!(reason(100_000, lost), Reason::NeverResolved);
    let history = |source: &SourceHealth| {
        source.mark_down();
        source.count(Batch { lines: 1, lost: 7, ..Batch::default() }, at(9_500));
        source.mark_up(at(1_000).mono);
    };
    assert_eq!(reason(10_000, history), Reason::NeverResolved, "lost long ago, read just now");
    let silent: Engine<u32> = {
        let source = Arc::new(SourceHealth::new("file:/empty"));
        source.mark_up(Mono(0));
        Engine::new(Settings::default(), vec![source])
    };
    assert!(!silent.evidence(at(10_000)).healthy, "a log nobody ever wrote to proves nothing");
}

#[test]
fn a_flood_is_refused_in_batches_and_completely() {
    let engine = engine(Scope::Global);
    for port in 1..=200u16 {
        engine.packet(flow(&format!("172.17.0.2:{port}"), "203.0.113.10:1"), 0, 0, at(0));
    }
    let batches: Vec<usize> =
        std::iter::repeat_with(|| engine.expire(0, at(800)).len()).take_while(|n| *n > 0).collect();
    assert_eq!(batches, [EXPIRE_BATCH, EXPIRE_BATCH, EXPIRE_BATCH, 200 - 3 * EXPIRE_BATCH]);
}

#[test]
fn stopping_answers_everything_that_waits() {
    let engine = engine(Scope::Global);
    for port in 1..=100u16 {
        engine.packet(
            flow(&format!("172.17.0.2:{port}"), "203.0.113.10:1"),
            port % 2,
            u32::from(port),
            at(0),
        );
    }
    let mut tickets: Vec<u32> = [0, 1]
        .iter()
        .flat_map(|&lane| engine.drain(lane, Verdict::Drop, at(1)))
        .inspect(|answer| assert_eq!(answer.decision.reason, Reason::Shutdown))
        .map(|answer| answer.ticket)
        .collect();
    tickets.sort_unstable();
    assert_eq!(tickets, (1..=100).collect::<Vec<u32>>());
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn side(addresses: &[&str], names: &[&str]) -> Side {
    let spans = addresses.iter().map(|net| net.parse::<Net>().unwrap());
    Side::new(spans.map(|net| (net.family(), net.span())), [], names.iter().map(|text| name(text)))
}

fn verdict_of(lists: Lists, records: &[(&str, &str)]) -> Option<(Verdict, Reason)> {
    let engine = engine(Scope::Global);
    for (client, asked) in records {
        engine.record(&Record { name: name(asked), ..record(client) }, at(0));
    }
    engine.set_lists(Arc::new(lists), at(0));
    match engine.packet(web(), 0, 1, at(1)) {
        Step::Decided(decision) => Some((decision.verdict, decision.reason)),
        _ => None,
    }
}

const ALLOWED: Option<(Verdict, Reason)> = Some((Verdict::Accept, Reason::Allowlisted));
const BLOCKED: Option<(Verdict, Reason)> = Some((Verdict::Drop, Reason::Blocklisted));
const RESOLVED: Option<(Verdict, Reason)> = Some((Verdict::Accept, Reason::Resolved));
const ME: &str = "172.17.0.2";
const OTHER: &str = "172.17.0.9";

#[test]
fn allow_beats_block_by_address_and_by_name() {
    let (net, host) = ("203.0.113.0/24", "203.0.113.9");
    let lists = |allow: Side, block: Side| Lists { allow, block, ..Lists::default() };
    assert_eq!(verdict_of(lists(side(&[host], &[]), side(&[net], &[])), &[]), ALLOWED);
    assert_eq!(verdict_of(lists(side(&[], &[]), side(&[net], &[])), &[(ME, "a.b")]), BLOCKED);
    let by_name = lists(side(&[], &["ok.example"]), side(&[host], &["example"]));
    assert_eq!(verdict_of(by_name.clone(), &[(OTHER, "www.ok.example")]), ALLOWED);
    assert_eq!(verdict_of(by_name, &[(OTHER, "no.example")]), BLOCKED);
    let own_name = lists(side(&[host], &[]), side(&[], &["evil.example"]));
    assert_eq!(verdict_of(own_name, &[(ME, "evil.example")]), ALLOWED);
}

#[test]
fn quarantine_beats_allow_and_pairs_bind_one_source() {
    let (me, other) = (ME.parse().unwrap(), OTHER.parse().unwrap());
    let quarantine = vec![(me, None)];
    let allow = side(&["203.0.113.9"], &[]);
    assert_eq!(verdict_of(Lists { allow, quarantine, ..Lists::default() }, &[]), BLOCKED);
    let dst = "203.0.113.9".parse().unwrap();
    let pairs = |src| Lists { pairs: vec![((src, dst), None)], ..Lists::default() };
    assert_eq!(verdict_of(pairs(me), &[(ME, "a.example")]), BLOCKED);
    assert_eq!(verdict_of(pairs(other), &[(ME, "a.example")]), RESOLVED);
}

#[test]
fn a_neighbours_lookup_of_a_blocked_name_cuts_nobody_off_a_shared_address() {
    let lists = Lists { block: side(&[], &["evil.example"]), ..Lists::default() };
    let verdict = |records: &[(&str, &str)]| verdict_of(lists.clone(), records);
    let (good, evil) = ("cdn.example", "a.evil.example");
    assert_eq!(verdict(&[(ME, evil)]), BLOCKED);
    assert_eq!(verdict(&[(OTHER, evil)]), BLOCKED, "no other name is known");
    assert_eq!(verdict(&[(ME, good), (OTHER, evil)]), RESOLVED);
    assert_eq!(verdict(&[(ME, evil), (OTHER, good)]), BLOCKED, "its own look-up is what counts");
    assert_eq!(verdict(&[(ME, evil), (ME, good)]), BLOCKED);
    assert_eq!(verdict(&[(OTHER, good), (OTHER, evil)]), RESOLVED, "as any shared address");
}

#[test]
fn a_name_that_leads_to_a_blocked_one_is_blocked() {
    let engine = engine(Scope::Global);
    let chain = vec![name("t.evil.example")];
    engine.record(&Record { chain, ..record(ME) }, at(0));
    let lists = Lists { block: side(&[], &["evil.example"]), ..Lists::default() };
    engine.set_lists(Arc::new(lists), at(0));
    let Step::Decided(decision) = engine.packet(web(), 0, 1, at(1)) else { panic!() };
    assert_eq!(
        (decision.reason, decision.domain),
        (Reason::Blocklisted, Some(name("evil.example")))
    );
}

#[test]
fn what_waits_is_decided_when_the_lists_change_or_a_blocked_name_arrives() {
    let engine = engine(Scope::Global);
    assert_eq!(engine.packet(web(), 0, 7, at(0)), Step::Hold(Mode::Enforce));
    let allow = Lists { allow: side(&["203.0.113.9"], &[]), ..Lists::default() };
    let answers = engine.set_lists(Arc::new(allow), at(5));
    let [Answer { ticket: 7, decision }] = answers.as_slice() else { panic!("{answers:?}") };
    assert_eq!((decision.verdict, decision.reason), (Verdict::Accept, Reason::Allowlisted));
    assert_eq!(decision.held, Duration::from_millis(5));

    let block = Lists { block: side(&[], &["a.example"]), ..Lists::default() };
    assert!(engine.set_lists(Arc::new(block), at(1000)).is_empty());
    assert_eq!(engine.packet(web(), 0, 8, at(1000)), Step::Hold(Mode::Enforce));
    let released = engine.record(&record(ME), at(1001)).released;
    let [Answer { ticket: 8, decision }] = released.as_slice() else { panic!("{released:?}") };
    assert_eq!((decision.verdict, decision.reason), (Verdict::Drop, Reason::Blocklisted));
    assert_eq!(engine.held(), 0);
}
