//! Tests of room: what goes first, what never goes, and that no asker takes it from another.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::tests::{booked, ip, record};
use super::*;
use crate::engine::inquiry::asked;
use crate::engine::limits::{
    ASKER_SHARE, ASKERS_PER_ADDRESS_MAX, NAMES_PER_ADDRESS_MAX, SEEN_RECENTLY, USED_RECENTLY,
};
use crate::engine::record::Kind;
use crate::engine::time::Wall;

const NOW: u64 = 1_800_000_000;
const EVIL: &str = "172.17.0.66";

pub(super) fn now() -> Wall {
    Wall(NOW * 1_000_000)
}

pub(super) fn small(addresses: usize) -> Registry {
    Registry::new(Limits { addresses, keep: None })
}

pub(super) fn numbered(n: u32) -> IpAddr {
    IpAddr::from(std::net::Ipv6Addr::from(0x2606_4700_u128 << 96 | u128::from(n)))
}

pub(super) fn insert(registry: &Registry, n: u32, client: Option<&str>, second: u64) -> Inserted {
    let of = record("::", &format!("n{n}.example"), client, Kind::Reply, second);
    registry.insert(&Record { address: numbered(n), ..of })
}

#[test]
fn what_is_neither_seen_nor_used_within_its_time_goes() {
    let keep = Some(Duration::from_secs(1_000));
    let registry = Registry::new(Limits { addresses: 1_000, keep });
    for n in 0..10 {
        insert(&registry, n, None, NOW - 1_001);
    }
    insert(&registry, 10, None, NOW - 1_000);
    insert(&registry, 3, None, NOW - 500);
    let used = Inquiry { at: Wall((NOW - 900) * 1_000_000), ..asked(&[]) };
    registry.used(&used, numbered(4), false);
    registry.take_dirty();
    assert_eq!(registry.make_room(now()), Vacated { aged: 8, over_quota: 0, for_room: 0 });
    let left: BTreeSet<IpAddr> = registry.addresses().into_iter().collect();
    assert_eq!(left, [3, 4, 10].map(numbered).into());
    assert_eq!(registry.take_dirty().addresses.len(), 8, "the disk is told");
}

#[test]
fn room_is_made_by_the_oldest_and_never_by_what_is_needed() {
    let registry = small(1_600);
    let old = NOW - USED_RECENTLY.as_secs() - 10_000;
    // Askers enough that none has more than its share.
    let client = |n: u32| format!("172.17.1.{}", n % 100);
    for n in 0..1_510 {
        insert(&registry, n, Some(&client(n)), old + u64::from(n));
    }
    let used = Inquiry { at: Wall((NOW - 3_600) * 1_000_000), ..asked(&[]) };
    (0..10).for_each(|n| registry.used(&used, numbered(n), false));
    for n in 10..20 {
        insert(&registry, n, None, NOW - SEEN_RECENTLY.as_secs() + 1);
    }
    assert!(registry.wants_room());
    let vacated = registry.make_room(now());
    assert_eq!(vacated, Vacated { aged: 0, over_quota: 0, for_room: 110 });
    assert!(!registry.wants_room());
    let left: BTreeSet<IpAddr> = registry.addresses().into_iter().collect();
    assert!((0..20).chain(130..1_510).all(|n| left.contains(&numbered(n))));
    let (noted, really) = booked(&registry);
    assert_eq!(noted, really);
}

#[test]
fn a_registry_full_of_what_is_needed_says_so_and_still_updates_what_it_has() {
    let registry = small(100);
    for n in 0..100 {
        assert_eq!(insert(&registry, n, None, NOW), Inserted::New);
    }
    assert!(registry.is_full() && registry.wants_room());
    assert_eq!(insert(&registry, 100, Some("172.17.0.2"), NOW), Inserted::LeftOut);
    assert_eq!(registry.make_room(now()).total(), 0);
    assert_eq!(insert(&registry, 1, Some("172.17.0.2"), NOW), Inserted::Seen);
    assert_eq!(registry.grade(&asked(&[ip("172.17.0.2")]), numbered(1)), Grade::Own);
    let other = |n: u32, text: &str| {
        let of = record("::", text, Some("172.17.0.3"), Kind::Reply, NOW);
        registry.insert(&Record { address: numbered(n), ..of })
    };
    assert_eq!(other(3, "other.example"), Inserted::New, "another name takes no address");
    let extra = crate::engine::limits::REGISTRY_BYTES_PER_ADDRESS * 100;
    registry.room.bytes.fetch_add(extra, Relaxed);
    assert_eq!(other(2, "other.example"), Inserted::LeftOut);
    assert_eq!(
        registry.grade(&asked(&[ip("172.17.0.3")]), numbered(2)),
        Grade::Own,
        "its asker is known"
    );
}

#[test]
fn one_asker_has_its_share_at_any_time_and_no_more() {
    let registry = small(1_600);
    let share = 1_600 / ASKER_SHARE;
    for n in 0..200 {
        insert(&registry, n, Some("172.17.0.2"), NOW - 40 * 86_400);
    }
    for n in 1_000..6_000 {
        insert(&registry, n, Some(EVIL), NOW - 1);
    }
    let evil = registry.len() - 200;
    assert!((share..=share + share / 8).contains(&evil), "{evil} before room is made");
    assert!(registry.wants_room() && !registry.is_full());
    let vacated = registry.make_room(now());
    assert_eq!((vacated.aged, vacated.for_room), (0, 0));
    assert_eq!(registry.len() - 200, share / 8 * 7);
    assert!((0..200).all(|n| registry.saved(numbered(n)).is_some()), "nobody else's");
    // Its newest are what it keeps: here all are of one age, so use decides.
    assert!(!registry.wants_room());
}

#[test]
fn an_asker_over_its_share_loses_what_it_does_not_use() {
    let registry = small(1_600);
    for n in 0..420 {
        insert(&registry, n, Some(EVIL), NOW - 1_000 + u64::from(n));
    }
    let evil = [ip(EVIL)];
    let used = Inquiry { at: now(), ..asked(&evil) };
    (0..50).for_each(|n| registry.used(&used, numbered(n), false));
    assert!(registry.make_room(now()).over_quota > 0);
    assert!((0..50).all(|n| registry.saved(numbered(n)).is_some()), "used");
    assert!(registry.saved(numbered(51)).is_none() && registry.saved(numbered(419)).is_some());
}

#[test]
fn what_another_asked_for_too_stays_on_its_account() {
    let registry = small(1_600);
    for n in 0..420 {
        insert(&registry, n, Some(EVIL), NOW - 1_000);
    }
    for n in 0..50 {
        insert(&registry, n, Some("172.17.0.2"), NOW - 2_000);
    }
    registry.make_room(now());
    for n in 0..50 {
        assert_eq!(registry.grade(&asked(&[ip("172.17.0.2")]), numbered(n)), Grade::Own, "{n}");
    }
    let (noted, really) = booked(&registry);
    assert_eq!(noted, really);
    assert!(noted["172.17.0.2"].0 >= 1, "{noted:?}");
}

#[test]
fn long_names_at_addresses_of_others_are_bounded_as_well() {
    let registry = small(1_600);
    for n in 0..400 {
        insert(&registry, n, Some("172.17.0.2"), NOW);
    }
    let long = "a".repeat(50);
    // More than all of these addresses have room for.
    for n in 0..8_000u32 {
        let name = format!("{n}.{long}.{long}.{long}.evil.example");
        let of = record("::", &name, Some(EVIL), Kind::Reply, NOW);
        registry.insert(&Record { address: numbered(n % 400), ..of });
    }
    let (noted, _) = booked(&registry);
    let share = 1_600 * crate::engine::limits::REGISTRY_BYTES_PER_ADDRESS / ASKER_SHARE as u64;
    assert!(noted[EVIL].1 <= share + share / 8, "{noted:?}");
    assert!((0..400).all(|n| {
        registry.names(numbered(n)).iter().any(|s| s.name.as_str() == format!("n{n}.example"))
    }));
    registry.make_room(now());
    assert!(booked(&registry).0[EVIL].1 <= share);
    assert!(
        (0..400).all(|n| registry.grade(&asked(&[ip("172.17.0.2")]), numbered(n)) == Grade::Own)
    );
}

#[test]
fn many_names_of_one_asker_push_out_nobody_elses_at_a_shared_address() {
    let registry = small(1_000);
    let see = |name: &str, client: &str, second| {
        registry.insert(&record("203.0.113.9", name, Some(client), Kind::Reply, second));
    };
    for client in 2..10 {
        see(&format!("c{client}.example"), &format!("172.17.0.{client}"), NOW - 1_000);
    }
    for n in 0..1_000 {
        see(&format!("n{n}.evil.example"), EVIL, NOW + n);
    }
    let names = registry.names(ip("203.0.113.9"));
    assert_eq!(names.len(), NAMES_PER_ADDRESS_MAX);
    let others = names.iter().filter(|seen| !seen.name.as_str().ends_with("evil.example"));
    assert_eq!(others.count(), 8);
    assert_eq!(names[0].name.as_str(), "n999.evil.example", "the newest of its own");
    let askers = registry.askers(ip("203.0.113.9"));
    assert_eq!(askers.len(), 9);
    assert!(askers.len() < ASKERS_PER_ADDRESS_MAX);
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(48))]

    /// The naive model: everything the good ones resolved, and nothing of it is ever lost, whatever the evil one does.
    #[test]
    fn no_asker_takes_anything_from_another(
        steps in proptest::collection::vec((0..40u8, 0..48u32, 0..2_000u32, 0..100u64), 50..400),
    ) {
        let registry = small(160);
        let mut model: BTreeMap<(u8, IpAddr), BTreeSet<String>> = BTreeMap::new();
        for (step, (who, address, name, second)) in steps.into_iter().enumerate() {
            match who {
                // The good ones have a few addresses, some of them in common, and few names.
                0..=4 => {
                    let client = format!("172.17.0.{}", who + 1);
                    let text = format!("n{}.example", name % 3);
                    let of = record("::", &text, Some(&client), Kind::Reply, NOW - second);
                    let done = registry.insert(&Record { address: numbered(address % 20), ..of });
                    proptest::prop_assert_ne!(done, Inserted::LeftOut);
                    model.entry((who, numbered(address % 20))).or_default().insert(text);
                }
                5 => drop(registry.make_room(now())),
                6 => {
                    let evil = [ip(EVIL)];
                    let used = Inquiry { at: now(), ..asked(&evil) };
                    registry.used(&used, numbered(address), true);
                }
                _ => {
                    let text = format!("{}.{name}.evil.example", "x".repeat(50));
                    let of = record("::", &text, Some(EVIL), Kind::Reply, NOW + second);
                    let address = if who < 25 { address } else { 1_000 + name };
                    registry.insert(&Record { address: numbered(address), ..of });
                }
            }
            if step % 8 > 0 {
                continue;
            }
            let share = 160 / ASKER_SHARE;
            let (noted, really) = booked(&registry);
            proptest::prop_assert_eq!(&noted, &really);
            let evil = noted.get(EVIL).copied().unwrap_or_default().0;
            proptest::prop_assert!(evil <= share + share / 8 + 1, "{}", evil);
            proptest::prop_assert!(!registry.is_full());
        }
        for ((who, address), names) in &model {
            let client = [ip(&format!("172.17.0.{}", who + 1))];
            proptest::prop_assert_eq!(registry.grade(&asked(&client), *address), Grade::Own);
            let known: BTreeSet<String> =
                registry.names(*address).into_iter().map(|seen| seen.name.to_string()).collect();
            proptest::prop_assert!(names.is_subset(&known), "{:?} {:?}", names, known);
        }
        for address in registry.addresses() {
            registry.forget(address);
        }
        registry.make_room(Wall((NOW + 100_000) * 1_000_000));
        let stats = registry.stats();
        proptest::prop_assert_eq!((stats.addresses, stats.names, stats.askers, stats.bytes), (0, 0, 0, 0));
    }
}
