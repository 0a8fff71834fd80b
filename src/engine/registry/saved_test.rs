//! Tests of what is saved: it comes back whole, in any order, and every change is told once.

use super::tests::{ip, record};
use super::*;
use crate::engine::inquiry::asked;
use crate::engine::limits::{DIRTY_MAX, SEEN_STEP};
use crate::engine::record::Kind;
use crate::engine::time::Wall;

fn filled(records: &[(u8, u8, u8, u64, bool)]) -> Registry {
    let registry = Registry::default();
    for (address, name, client, second, fixed) in records {
        let (address, name) = (format!("203.0.113.{address}"), format!("n{name}.example"));
        let kind = if *fixed { Kind::Hosts } else { Kind::Reply };
        let client = (*client > 0).then(|| format!("172.17.0.{client}"));
        let record = record(&address, &name, client.as_deref(), kind, *second);
        let chain = vec![Name::new(&format!("cdn{}.example", name.len())).unwrap()];
        registry.insert(&Record { chain, ..record });
    }
    registry
}

type Content = (IpAddr, Vec<Seen>, Vec<(IpAddr, u32, Option<Name>)>, Option<u32>);

/// Everything that is saved. Names that were seen in one second have no order.
fn content(registry: &Registry) -> Vec<Content> {
    let mut addresses = registry.addresses();
    addresses.sort_unstable();
    let of = |address| {
        let Saved { mut names, askers, used } = registry.saved(address).unwrap();
        let name = |index: u16| names.get(usize::from(index)).map(|seen| seen.name.clone());
        let mut askers: Vec<_> =
            askers.iter().map(|asker| (asker.address, asker.last, name(asker.name))).collect();
        askers.sort_unstable();
        names.sort_by(|a, b| a.name.cmp(&b.name));
        // Derived, and one of several if they asked in one second.
        names.iter_mut().for_each(|seen| seen.asker = None);
        (address, names, askers, used)
    };
    addresses.into_iter().map(of).collect()
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_saved_comes_back_however_often_it_is_read(
        records in proptest::collection::vec((0..4u8, 0..24u8, 0..9u8, 0..99u64, proptest::bool::weighted(0.2)), 1..120),
        used in proptest::collection::vec((0..4u8, 0..9_999u64), 0..6),
    ) {
        let registry = filled(&records);
        for (address, second) in used {
            let inquiry = Inquiry { at: Wall(second * 1_000_000), ..asked(&[]) };
            registry.used(&inquiry, ip(&format!("203.0.113.{address}")), false);
        }
        let again = Registry::default();
        for _ in 0..2 {
            for address in registry.addresses() {
                again.restore(address, &registry.saved(address).unwrap());
                proptest::prop_assert_eq!(again.saved(address).is_some(), true);
            }
            proptest::prop_assert_eq!(content(&registry), content(&again));
        }
        for client in 0..9 {
            let client = [ip(&format!("172.17.0.{client}"))];
            for address in registry.addresses() {
                let grade = |registry: &Registry| registry.grade(&asked(&client), address);
                proptest::prop_assert_eq!(grade(&registry), grade(&again));
            }
        }
        let (noted, really) = super::tests::booked(&again);
        proptest::prop_assert_eq!(noted, really);
    }

    #[test]
    fn two_registries_merge_alike_in_either_order(
        one in proptest::collection::vec((0..3u8, 0..7u8, 0..5u8, 0..99u64, proptest::bool::ANY), 1..30),
        two in proptest::collection::vec((0..3u8, 7..14u8, 0..5u8, 0..99u64, proptest::bool::ANY), 1..30),
    ) {
        let merged = |first: &Registry, second: &Registry| {
            let registry = Registry::default();
            for from in [first, second] {
                for address in from.addresses() {
                    registry.restore(address, &from.saved(address).unwrap());
                }
            }
            content(&registry)
        };
        let (one, two) = (filled(&one), filled(&two));
        proptest::prop_assert_eq!(merged(&one, &two), merged(&two, &one));
    }

    #[test]
    fn what_replaces_leaves_nothing_of_what_was(
        one in proptest::collection::vec((0..3u8, 0..9u8, 0..5u8, 0..99u64, proptest::bool::ANY), 1..40),
        two in proptest::collection::vec((0..3u8, 0..9u8, 0..5u8, 0..99u64, proptest::bool::ANY), 1..40),
    ) {
        let (one, two) = (filled(&one), filled(&two));
        let replaced = |how: &dyn Fn(&Registry, IpAddr, &Saved)| {
            let registry = Registry::default();
            registry.reserve(2_000);
            for from in [&one, &two] {
                for address in from.addresses() {
                    how(&registry, address, &from.saved(address).unwrap());
                }
            }
            registry
        };
        let at_once = replaced(&|registry, address, saved| registry.replace(address, saved));
        let anew = replaced(&|registry, address, saved| {
            registry.forget(address);
            // Name by name, without who asked: that is among the askers.
            for seen in saved.names.iter().rev() {
                registry.merge(address, &Seen { asker: None, ..seen.clone() });
            }
            registry.restore(address, saved);
        });
        proptest::prop_assert_eq!(content(&at_once), content(&anew));
        proptest::prop_assert_eq!(at_once.stats().names, anew.stats().names);
        proptest::prop_assert_eq!(at_once.stats().addresses, anew.stats().addresses);
        let (noted, really) = super::tests::booked(&at_once);
        proptest::prop_assert_eq!(noted, really);
        let dirty = at_once.take_dirty().addresses;
        proptest::prop_assert_eq!(dirty.len(), at_once.len());
    }

    #[test]
    fn writing_what_changed_keeps_a_copy_equal(
        steps in proptest::collection::vec((0..6u8, 0..24u8, 0..9u8, 0..2_000u64, 0..12u8), 1..150),
    ) {
        let (registry, copy) = (Registry::default(), Registry::default());
        for (address, name, client, second, what) in steps {
            let text = format!("203.0.113.{address}");
            let client = format!("172.17.0.{client}");
            match what {
                0 => drop(registry.forget(ip(&text))),
                1 => registry.forget_askers(&[ip(&client)].into()),
                2 => {
                    let inquiry = Inquiry { at: Wall(second * 9_000_000), ..asked(&[]) };
                    registry.used(&inquiry, ip(&text), false);
                }
                3 => {
                    for address in registry.take_dirty().addresses {
                        match registry.saved(address) {
                            Some(saved) => copy.replace(address, &saved),
                            None => drop(copy.forget(address)),
                        }
                    }
                    // But for times within a step, which are not worth writing.
                    let coarse = |registry: &Registry| {
                        let mut content = content(registry);
                        for (_, names, askers, _) in &mut content {
                            names.iter_mut().for_each(|seen| seen.last /= SEEN_STEP);
                            names.iter_mut().for_each(|seen| seen.kind = match seen.kind {
                                Kind::Cached => Kind::Reply,
                                kind => kind,
                            });
                            askers.iter_mut().for_each(|(_, last, _)| *last /= SEEN_STEP);
                            askers.sort_unstable();
                        }
                        content
                    };
                    proptest::prop_assert_eq!(coarse(&registry), coarse(&copy));
                }
                _ => {
                    let kind = if what == 4 { Kind::Hosts } else { Kind::Reply };
                    let record = record(&text, &format!("n{name}.example"), Some(&client), kind, second);
                    registry.insert(&record);
                }
            }
        }
    }
}

#[test]
fn a_change_is_told_once_and_a_repetition_not_at_all() {
    let registry = Registry::default();
    let see = |second: u64| {
        registry.insert(&record(
            "203.0.113.9",
            "a.example",
            Some("172.17.0.2"),
            Kind::Reply,
            second,
        ));
        registry.take_dirty().addresses
    };
    let step = u64::from(SEEN_STEP);
    assert_eq!(see(step), [ip("203.0.113.9")]);
    assert!(registry.take_dirty().addresses.is_empty());
    assert!(see(2 * step - 1).is_empty(), "within the step");
    assert_eq!(see(2 * step), [ip("203.0.113.9")]);
    registry.insert(&record("203.0.113.9", "b.example", None, Kind::Reply, 1));
    registry.insert(&record("203.0.113.9", "c.example", None, Kind::Reply, 1));
    registry.forget(ip("203.0.113.9"));
    assert_eq!(registry.take_dirty().addresses, [ip("203.0.113.9")], "once, and gone");
    assert_eq!(registry.saved(ip("203.0.113.9")), None);
}

#[test]
fn more_changes_than_are_remembered_are_told_as_that() {
    let registry = Registry::default();
    // As if all but a hundred were changed elsewhere.
    registry.table.dirty.fetch_add(DIRTY_MAX - 100, Relaxed);
    for n in 0..200 {
        let address = IpAddr::from([203, 0, 113, n]);
        registry.insert(&Record { address, ..record("::", "a.example", None, Kind::Reply, 1) });
    }
    let dirty = registry.take_dirty();
    assert!(dirty.overflowed);
    assert_eq!(dirty.addresses.len(), 100);
    assert_eq!(registry.take_dirty(), Dirty::default());
    registry.insert(&record("203.0.114.9", "a.example", None, Kind::Reply, 1));
    assert_eq!(registry.take_dirty().addresses.len(), 1, "and it goes on");
}

#[test]
fn old_files_name_askers_without_names() {
    let registry = Registry::default();
    let seen = Seen {
        name: Name::new("a.example").unwrap(),
        first: 1,
        last: 9,
        asker: Some(ip("172.17.0.2")),
        kind: Kind::Reply,
        chain: None,
    };
    let asker = Asker { address: ip("172.17.0.3"), last: 9, name: Asker::UNNAMED };
    let saved = Saved { names: vec![seen], askers: vec![asker], used: None };
    assert_eq!(registry.restore(ip("203.0.113.9"), &saved), Inserted::New);
    for client in ["172.17.0.2", "172.17.0.3"] {
        assert_eq!(
            registry.grade(&asked(&[ip(client)]), ip("203.0.113.9")),
            Grade::Own,
            "{client}"
        );
    }
}
