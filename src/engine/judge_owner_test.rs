//! Tests of the engine with owners: what one container has of its own.

use std::time::Duration;

use super::tests::{at, engine, flow, healthy_source, record, web};
use super::*;
use crate::engine::lists::Side;
use crate::engine::policy::Policy;
use crate::engine::wish::Treatment;
use crate::engine::{Name, Net};

fn owners(address: &str, change: impl FnOnce(&mut Policy)) -> Owners {
    let mut policy = Policy::new(&Settings::default(), Refusal::Reset);
    change(&mut policy);
    let owner = Owner {
        id: "1234".into(),
        name: "web".into(),
        image: "nginx".into(),
        policy: Arc::new(policy),
        tally: Arc::default(),
    };
    let by_address = [(address.parse().unwrap(), Arc::new(owner))].into_iter().collect();
    Owners::new(by_address, vec![])
}

#[test]
fn a_container_that_is_off_is_accepted_unless_it_is_in_quarantine() {
    let engine = engine(Scope::Global);
    engine.set_owners(owners("172.17.0.2", |policy| policy.mode = Treatment::Off), at(0));
    engine.set_lists(blocking(), at(0));
    let decided = |engine: &Engine<u32>| match engine.packet(web(), 0, 1, at(0)) {
        Step::Decided(decision) => (decision.verdict, decision.reason),
        other => panic!("{other:?}"),
    };
    assert_eq!(decided(&engine), (Verdict::Accept, Reason::Exempt));
    let quarantine = vec![("172.17.0.2".parse().unwrap(), None)];
    let lists = Lists { quarantine, ..Lists::default() };
    engine.set_lists(Arc::new(lists), at(0));
    assert_eq!(decided(&engine), (Verdict::Drop, Reason::Blocklisted));
}

/// The web server's address, blocked.
fn blocking() -> Arc<Lists> {
    let net: Net = "203.0.113.9".parse().unwrap();
    Arc::new(Lists { block: Side::new([(net.family(), net.span())], [], []), ..Lists::default() })
}

#[test]
fn a_look_up_goes_on_the_account_of_its_container_or_on_that_of_nobodys() {
    let payer = |owners: &Owners, client: &str| owners.payer(client.parse().unwrap());
    let known = owners("172.17.0.2", |_| {});
    assert_eq!(payer(&known, "172.17.0.2"), Some("172.17.0.2".parse().unwrap()));
    assert_eq!(payer(&known, "172.17.0.66"), Some(crate::engine::registry::UNOWNED));
    assert_eq!(payer(&Owners::default(), "172.17.0.66"), None, "no container engine");
    let owner = Arc::clone(known.of("172.17.0.2".parse().unwrap()).unwrap());
    let both = ["fd00::2", "172.17.0.2"].map(|at| (at.parse().unwrap(), Arc::clone(&owner)));
    let both = Owners::new(both.into(), vec![]);
    assert_eq!(payer(&both, "fd00::2"), payer(&both, "172.17.0.2"));
}

#[test]
fn a_container_in_a_dry_run_is_judged_in_the_books_alone() {
    let engine = engine(Scope::Global);
    engine.set_owners(owners("172.17.0.2", |policy| policy.mode = Treatment::DryRun), at(0));
    assert_eq!(engine.packet(web(), 0, 1, at(0)), Step::Hold(Mode::DryRun));
    assert_eq!(engine.packet(web(), 0, 2, at(1)), Step::Copy(Mode::DryRun));
    let decision = engine.expire(0, at(800)).pop().unwrap().decision;
    assert_eq!((decision.verdict, decision.mode), (Verdict::Drop, Mode::DryRun));
    assert_eq!(decision.owner.map(|owner| owner.name.to_string()).as_deref(), Some("web"));
    let other = flow("172.17.0.3:1", "203.0.113.9:443");
    assert_eq!(engine.packet(other, 0, 3, at(0)), Step::Hold(Mode::Enforce), "its neighbour");
}

#[test]
fn a_containers_own_scope_hold_and_allow_hold_for_it_alone() {
    let engine = engine(Scope::Global);
    engine.record(&record("172.17.0.9"), at(0));
    let shop: Net = "203.0.113.77".parse().unwrap();
    let policy = |policy: &mut Policy| {
        policy.scope = Scope::Container;
        policy.hold = Duration::from_millis(100);
        let names = [Name::new("shop.example").unwrap()];
        policy.allow = Some(Arc::new(Side::new([(shop.family(), shop.span())], [], names)));
    };
    engine.set_owners(owners("172.17.0.2", policy), at(0));
    assert_eq!(engine.packet(web(), 0, 1, at(0)), Step::Hold(Mode::Enforce));
    assert_eq!(engine.next_deadline(0), Some(at(100).mono));
    let decision = engine.expire(0, at(101)).pop().unwrap().decision;
    assert_eq!(decision.reason, Reason::OutOfScope);
    let neighbour = flow("172.17.0.3:1", "203.0.113.9:443");
    assert!(matches!(engine.packet(neighbour, 0, 2, at(0)), Step::Decided(_)));

    let reason = |src: &str, dst: &str| {
        let flow = flow(&format!("{src}:1"), &format!("{dst}:443"));
        engine.quick(flow, 0, engine.owner(flow.src.ip()), at(0)).map(|decision| decision.reason)
    };
    assert_eq!(reason("172.17.0.2", "203.0.113.77"), Some(Reason::Allowlisted));
    assert_eq!(reason("172.17.0.3", "203.0.113.77"), None);
    // What it may reach by name is its own as well, whoever asked.
    let address = "203.0.113.88".parse().unwrap();
    let name = Name::new("www.shop.example").unwrap();
    let named = Record { address, name, ..record("172.17.0.9") };
    engine.record(&named, at(0));
    assert_eq!(reason("172.17.0.2", "203.0.113.88"), Some(Reason::Allowlisted));
    assert_eq!(engine.owners().admitted_by(&named), ["172.17.0.2".parse::<IpAddr>().unwrap()]);
}

#[test]
fn a_packet_keeps_its_owner_of_the_moment_it_came_and_a_name_that_comes_later_is_taken() {
    let engine = engine(Scope::Global);
    engine.set_owners(owners("172.17.0.2", |_| ()), at(0));
    engine.packet(web(), 0, 1, at(0));
    engine.set_owners(Owners::default(), at(1));
    let named = |decision: &Decision| decision.owner.as_ref().map(|owner| owner.name.to_string());
    let decision = engine.expire(0, at(800)).pop().unwrap().decision;
    assert_eq!(named(&decision).as_deref(), Some("web"), "its container ended while it waited");

    assert_eq!(engine.packet(web(), 0, 2, at(1000)), Step::Hold(Mode::Enforce));
    let allowed = owners("172.17.0.2", |policy| policy.mode = Treatment::Off);
    let released = engine.set_owners(allowed, at(1001));
    let decision = &released[0].decision;
    assert_eq!((decision.verdict, decision.reason), (Verdict::Accept, Reason::Exempt));
    assert_eq!(named(decision).as_deref(), Some("web"));
    assert_eq!(engine.held(), 0);
}

#[test]
fn a_hold_of_its_own_asks_for_evidence_that_keeps_pace_with_it() {
    let source = healthy_source();
    let engine: Engine<u32> = Engine::new(Settings::default(), vec![Arc::clone(&source)]);
    let short = |policy: &mut Policy| policy.hold = Duration::from_millis(50);
    engine.set_owners(owners("172.17.0.2", short), at(0));
    engine.packet(web(), 0, 1, at(10_000));
    // The reader has been behind for longer than this packet waits, though for less than others do.
    source.fell_behind(at(9_940).mono);
    let decision = engine.expire(0, at(10_051)).pop().unwrap().decision;
    assert_eq!(decision.reason, Reason::Unhealthy);
}

#[test]
fn what_a_container_asks_from_one_of_its_addresses_it_may_use_from_another() {
    let engine = engine(Scope::Container);
    engine.record(&record("172.17.0.2"), at(0));
    let reason = |src: &str| {
        let flow = flow(src, "203.0.113.9:443");
        engine.quick(flow, 0, engine.owner(flow.src.ip()), at(0)).map(|decision| decision.reason)
    };
    assert_eq!(reason("10.9.0.2:1"), None);
    let owners = owners("172.17.0.2", |policy| policy.scope = Scope::Container);
    let owner = owners.of("172.17.0.2".parse().unwrap()).cloned().unwrap();
    let both = ["172.17.0.2", "10.9.0.2"].map(|ip| (ip.parse().unwrap(), Arc::clone(&owner)));
    engine.set_owners(Owners::new(both.into_iter().collect(), vec![]), at(1));
    assert_eq!(reason("10.9.0.2:1"), Some(Reason::Resolved));
    assert_eq!(reason("172.17.0.3:1"), None, "its neighbour");
}

#[test]
fn r1_who_is_off_or_in_a_dry_run_is_refused_in_quarantine_for_good() {
    for mode in [Treatment::Off, Treatment::DryRun] {
        let engine = engine(Scope::Global);
        engine.set_owners(owners("172.17.0.2", |policy| policy.mode = mode), at(0));
        let quarantine = vec![("172.17.0.2".parse().unwrap(), None)];
        engine.set_lists(Arc::new(Lists { quarantine, ..Lists::default() }), at(0));
        let Step::Decided(decision) = engine.packet(web(), 0, 1, at(0)) else { panic!() };
        assert_eq!((decision.verdict, decision.mode), (Verdict::Drop, Mode::Enforce), "{mode:?}");
    }
}

#[test]
fn r1_what_waits_passes_once_its_container_is_let_go() {
    for change in
        [(|policy: &mut Policy| policy.mode = Treatment::Off) as fn(&mut Policy), |policy| {
            let net: Net = "203.0.113.9".parse().unwrap();
            policy.allow = Some(Arc::new(Side::new([(net.family(), net.span())], [], [])));
        }]
    {
        let engine = engine(Scope::Global);
        engine.set_owners(owners("172.17.0.2", |_| ()), at(0));
        assert_eq!(engine.packet(web(), 0, 1, at(0)), Step::Hold(Mode::Enforce));
        let released = engine.set_owners(owners("172.17.0.2", change), at(1));
        let decision = &released[0].decision;
        assert_eq!(decision.verdict, Verdict::Accept, "{:?}", decision.reason);
    }
}
