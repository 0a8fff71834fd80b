//! What becomes of a verdict beyond its packet.

use std::net::IpAddr;
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;
use crate::daemon::denied::{Hooks, Pair, Server, Sets};
use crate::daemon::testing::Parts;
use crate::engine::canary::Place;
use crate::engine::net::Family;
use crate::engine::owner::{Owner, Owners};
use crate::engine::policy::Policy;
use crate::engine::wish::Refusal;
use crate::engine::{Flow, Grade, Proto, Settings};

const SRC: &str = "172.17.0.2";

/// A kernel that takes everything and shows nothing.
#[derive(Debug)]
struct Anything;

impl Sets for Anything {
    fn change(&mut self, _: &[Pair], _: &[Pair], _: Duration) -> anyhow::Result<()> {
        Ok(())
    }
}

fn owner(id: &str) -> Arc<Owner> {
    Arc::new(Owner {
        id: id.into(),
        name: "web".into(),
        image: "nginx".into(),
        policy: Arc::new(Policy::new(&Settings::default(), Refusal::Reset)),
        tally: Arc::default(),
    })
}

fn refusal(owner: Option<Arc<Owner>>) -> Decision {
    let src = format!("{SRC}:4000").parse().unwrap();
    Decision {
        flow: Flow { proto: Proto::Tcp, src, dst: "192.0.2.1:443".parse().unwrap() },
        lane: 0,
        at: Default::default(),
        proof: None,
        bound: Duration::ZERO,
        verdict: Verdict::Drop,
        reason: Reason::NeverResolved,
        grade: Grade::Never,
        known: Default::default(),
        held: Duration::ZERO,
        copies: 0,
        domain: None,
        mode: Mode::Enforce,
        owner,
        again: false,
    }
}

/// Whether a refusal to `judged` is noted while `present` has its address.
fn is_noted(judged: Option<&str>, present: Option<&str>) -> bool {
    let (denied, ear) = Denied::new();
    let denied = Arc::new(denied);
    let shared = shared(Arc::clone(&denied));
    let by_address = present.map(|id| (SRC.parse().unwrap(), owner(id)));
    shared.engine.set_owners(Owners::new(by_address.into_iter().collect(), vec![]), clock::now());
    shared.report(refusal(judged.map(owner)));
    denied.stop();
    let (tell, told) = channel();
    let hooks = Hooks {
        accepts: Box::new(|_| false),
        knows: Box::new(|_| false),
        listed: Box::new(|_| false),
        accused: Box::new(move |_| tell.send(()).unwrap()),
        forgiven: Box::new(|_| {}),
    };
    Server { denied, ear, sets: Anything, hooks, timeout: Duration::from_secs(60) }.run();
    told.recv().is_ok()
}

fn shared(denied: Arc<Denied>) -> Shared {
    Parts { denied, ..Parts::default() }.shared().0
}

#[test]
fn a_verdict_on_the_canarys_packet_is_nobodys_and_one_on_any_other_counts() {
    let place = |family| Place::free(family, &[]).unwrap();
    for family in Family::BOTH {
        let other = if place(family).sender().is_ipv4() { "192.0.2.1" } else { "2001:db8::1" };
        assert_nobodys(place(family), other.parse().unwrap(), Family::BOTH.map(place));
    }
}

fn assert_nobodys(place: Place, elsewhere: IpAddr, all: [Place; 2]) {
    let shared = shared(Arc::new(Denied::new().0));
    let bird = place.sender();
    let decision = |src: IpAddr, dst: IpAddr| {
        let flow = Flow::new(Proto::Tcp, (src, 4000), (dst, 443));
        Decision { flow, bound: Duration::from_millis(750), ..refusal(None) }
    };
    shared.report(decision(bird, place.destination(1)));
    assert_eq!(shared.totals().refused, 1, "there is no canary");
    let ear = shared.canary_way.open(all.into()).unwrap();
    assert!(shared.canary_way.holds(&decision(bird, place.destination(1)).flow));
    assert_eq!((shared.canary_way.waiting(), shared.totals().held), (1, 0));
    assert!(!shared.canary_way.holds(&decision(elsewhere, place.destination(1)).flow));
    shared.report(decision(bird, place.destination(1)));
    assert_eq!((shared.totals().refused, shared.canary_way.waiting()), (1, 0));
    let seen = ear.verdicts.try_recv().unwrap();
    assert_eq!(seen.verdict, (Verdict::Drop, Reason::NeverResolved));
    assert_eq!(seen.dst, place.destination(1));
    // Whoever forges its source, or calls its destinations, is told like everybody.
    for (src, dst) in
        [(bird, elsewhere), (place.host(), place.destination(1)), (elsewhere, place.destination(1))]
    {
        shared.report(decision(src, dst));
    }
    assert_eq!((shared.totals().refused, ear.verdicts.try_recv().is_err()), (4, true));
    // More than it fetches is no reason to wait.
    (0..100).for_each(|turn| {
        let decision = decision(bird, place.destination(turn));
        assert!(shared.canary_way.holds(&decision.flow));
        shared.report(decision);
    });
    assert_eq!(shared.totals().refused, 4);
}

#[test]
fn what_is_refused_to_a_container_that_is_gone_is_not_held_against_its_address() {
    for (judged, present, noted) in [
        (Some("1"), Some("1"), true),
        (None, None, true),
        (None, Some("1"), true),
        (Some("1"), None, false),
        (Some("1"), Some("2"), false),
    ] {
        assert_eq!(is_noted(judged, present), noted, "{judged:?}, now {present:?}");
    }
}
