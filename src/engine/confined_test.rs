//! Whoever is in quarantine by name is so on every address, and nobody else for having had one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::*;
use crate::engine::container::{Container, NetworkMode};
use crate::engine::judge::{Engine, Settings};
use crate::engine::lists::Lists;
use crate::engine::owner::Owner;
use crate::engine::policy::Policies;
use crate::engine::time::Now;
use crate::engine::verdict::{Reason, Verdict};
use crate::engine::wish::Refusal;
use crate::engine::{Flow, Kind, Proto, Record};

fn owner(name: &str, mode: &str) -> Arc<Owner> {
    let policies =
        Policies { trust_labels: true, ..Policies::new(&Settings::default(), Refusal::Reset) };
    let container = Container {
        id: name.into(),
        name: name.into(),
        image: "image".into(),
        labels: BTreeMap::from([("synhold.mode".to_owned(), mode.to_owned())]),
        network: NetworkMode::Own,
        running: true,
        endpoints: Vec::new(),
    };
    Arc::new(policies.owner(&container, &Arc::default()))
}

fn owners(all: &[(&str, &str, &str)]) -> Owners {
    let with = |(ip, name, mode): &(&str, &str, &str)| (ip.parse().unwrap(), owner(name, mode));
    Owners::new(all.iter().map(with).collect::<HashMap<_, _>>(), Vec::new())
}

fn confined() -> Confined {
    Confined::new(vec![(Name::new("Web").unwrap(), None)])
}

#[test]
fn it_is_placed_where_its_containers_are() {
    let owners = owners(&[
        ("10.0.0.2", "web", "enforce"),
        ("fd00::2", "web", "enforce"),
        ("10.0.0.3", "web2", "enforce"),
    ]);
    let placed = confined().placed(&owners);
    let places: Vec<String> = placed.places().iter().map(|(ip, _)| ip.to_string()).collect();
    assert_eq!(places, ["10.0.0.2", "fd00::2"]);
    assert!(placed.has_place("10.0.0.2".parse().unwrap()));
    assert!(!placed.has_place("10.0.0.3".parse().unwrap()));
    assert!(placed.placed(&Owners::default()).places().is_empty());
}

#[test]
fn the_engine_follows_the_owner_before_anybody_placed_it_again() {
    let engine: Engine<u32> = Engine::new(Settings::default(), Vec::new());
    let dst = "203.0.113.9".parse().unwrap();
    let record = Record {
        address: dst,
        name: Name::new("a.example").unwrap(),
        client: None,
        kind: Kind::Reply,
        chain: Vec::new(),
        time: Wall(1),
    };
    engine.record(&record, Now::default());
    let before = owners(&[("10.0.0.2", "web", "enforce")]);
    let lists = Lists { confined: confined().placed(&before), ..Lists::default() };
    engine.set_owners(before, Now::default());
    engine.set_lists(Arc::new(lists), Now::default());
    let verdict = |src: &str| {
        let flow = Flow::new(Proto::Tcp, (src.parse().unwrap(), 1), (dst, 443));
        let decision = engine.quick(flow, 0, engine.owner(flow.src.ip()), Now::default()).unwrap();
        (decision.verdict, decision.reason)
    };
    let refused = (Verdict::Drop, Reason::Blocklisted);
    assert_eq!(verdict("10.0.0.2"), refused);
    // It restarted elsewhere and another has its address; a mode of `off` does not let it out.
    engine.set_owners(
        owners(&[("10.0.0.2", "db", "enforce"), ("10.0.0.7", "web", "off")]),
        Now::default(),
    );
    assert_eq!(verdict("10.0.0.7"), refused);
    assert_eq!(verdict("10.0.0.2"), (Verdict::Accept, Reason::Resolved));
}
