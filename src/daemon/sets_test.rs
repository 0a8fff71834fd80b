//! What is held against somebody in the list sets, in a network namespace of the test's own. Needs root.

use super::*;
use crate::daemon::testing::{in_netns, rules};
use crate::engine::lists::Lists;
use crate::nftables::{self, Ruleset};

fn pair(dst: &str) -> Pair {
    ("172.17.0.2".parse().unwrap(), dst.parse().unwrap())
}

fn element((src, dst): Pair) -> Element {
    Element::new(Key::Pair(src, dst))
}

fn change(how: impl FnOnce(&mut Bulk) -> &mut Bulk) {
    let mut bulk = Bulk::new();
    how(&mut bulk);
    Channel::open().unwrap().send_bulk(bulk).unwrap();
}

fn has(pair: Pair) -> bool {
    let found = Channel::open().unwrap().get("denied4", element(pair).key).unwrap();
    found.is_some()
}

/// Sets of which the lists want one pair.
fn sets(listed: Pair) -> Sets {
    let options = rules().options(nftables::probe().unwrap());
    nftables::apply(&Ruleset::new(&options), None).unwrap();
    let lists = Lists { pairs: vec![(listed, None)], ..Lists::default() };
    let mut sets = Sets::open().unwrap();
    sets.load(&Want::pairs(&lists)).unwrap();
    sets
}

/// Pairs put back, and taken out.
fn looked(sets: &mut Sets) -> (u64, u64) {
    let refused = |one| one == pair("192.0.2.3");
    let loaded = sets.doubt(false, refused).unwrap();
    (loaded.added, loaded.removed)
}

#[test]
#[ignore = "needs root: `make test-netns` runs it"]
fn a_pair_is_a_strangers_when_it_is_found_twice() {
    in_netns(|| {
        let [listed, strange, known] = ["192.0.2.1", "192.0.2.2", "192.0.2.3"].map(pair);
        let mut sets = sets(listed);
        change(|bulk| bulk.add("denied4", [strange, known].map(element)));
        assert_eq!(looked(&mut sets), (0, 0), "it may be on its way out");
        assert!(sets.is_wary() && has(strange));
        assert_eq!(looked(&mut sets), (0, 1));
        assert!(!sets.is_wary() && !has(strange) && has(known) && has(listed));
        // One that was on its way out, and comes back as another's.
        change(|bulk| bulk.add("denied4", [element(strange)]));
        assert_eq!(looked(&mut sets), (0, 0));
        change(|bulk| bulk.remove("denied4", [element(strange)]));
        assert_eq!(looked(&mut sets), (0, 0));
        assert!(!sets.is_wary());
        change(|bulk| bulk.add("denied4", [element(strange)]));
        assert_eq!(looked(&mut sets), (0, 0));
    });
}

#[test]
#[ignore = "needs root: `make test-netns` runs it"]
fn what_is_missing_is_put_back_at_once_and_told_as_that() {
    in_netns(|| {
        let listed = pair("192.0.2.1");
        let mut sets = sets(listed);
        change(|bulk| bulk.remove("denied4", [element(listed)]));
        assert_eq!(looked(&mut sets), (1, 0));
        assert!(has(listed));
    });
}
