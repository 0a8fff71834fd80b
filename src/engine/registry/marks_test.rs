//! Tests of marks and alarms: what raises them, what does not, and how often they are told.

use super::tests::{ip, record};
use super::*;
use crate::engine::abuse::{
    ADDRESSES_PER_NAME, ADDRESSES_WINDOW, NAMES_PER_ASKER, NAMES_WINDOW, NEW_NAME, TOLD_AGAIN,
};
use crate::engine::mark::Alarm;
use crate::engine::record::Kind;
use crate::engine::time::Wall;

const NOW: u64 = 1_800_000_000;

fn marks(registry: &Registry, address: &str, second: u64) -> Vec<Mark> {
    let inquiry = Inquiry { clients: &[], at: Wall(second * 1_000_000), max_age: None };
    registry.look_up(&inquiry, ip(address)).1.marks
}

fn at(n: u32) -> String {
    numbered(n, "x", "::", 0).address.to_string()
}

fn numbered(n: u32, name: &str, client: &str, second: u64) -> Record {
    let address = IpAddr::from(std::net::Ipv6Addr::from(0x2606_4700_u128 << 96 | u128::from(n)));
    record(&address.to_string(), name, Some(client), Kind::Reply, second)
}

#[test]
fn a_name_is_new_for_seconds_and_an_old_one_at_a_new_address_is_not() {
    let registry = Registry::default();
    registry.insert(&record("203.0.113.9", "a.example", None, Kind::Reply, NOW));
    let new = u64::from(NEW_NAME);
    assert_eq!(marks(&registry, "203.0.113.9", NOW + new - 1), [Mark::NewName]);
    assert!(marks(&registry, "203.0.113.9", NOW + new).is_empty());
    registry.insert(&record("203.0.113.10", "a.example", None, Kind::Reply, NOW + 100));
    assert!(marks(&registry, "203.0.113.10", NOW + 100).is_empty());
    registry.insert(&record("203.0.113.10", "b.example", None, Kind::Reply, NOW + 200));
    assert!(marks(&registry, "203.0.113.10", NOW + 200).is_empty(), "not all of them are new");
}

#[test]
fn names_that_take_turns_at_a_shared_address_have_no_new_addresses() {
    let registry = Registry::default();
    for round in 0..70_u64 {
        for site in 0..17_u32 {
            let (name, second) = (format!("site{site}.example"), NOW + round * 300);
            for n in [1, 2, 3, 4, 100 + site] {
                let record = numbered(n, &name, "172.17.0.2", second + u64::from(site));
                registry.insert(&record);
            }
        }
    }
    let alarms = registry.take_alarms();
    assert!(alarms.is_empty(), "{} alarms, the first {:?}", alarms.len(), alarms[0]);
}

#[test]
fn hundreds_of_addresses_in_a_day_are_told_and_hundreds_in_a_year_are_not() {
    let registry = Registry::default();
    let day = u64::from(ADDRESSES_WINDOW);
    for n in 0..4 * ADDRESSES_PER_NAME {
        let slow = numbered(n, "cdn.example", "172.17.0.2", NOW + u64::from(n) * day / 100);
        registry.insert(&slow);
    }
    assert!(registry.take_alarms().is_empty());
    for n in 0..=ADDRESSES_PER_NAME + 50 {
        registry.insert(&numbered(10_000 + n, "flux.example", "172.17.0.66", NOW));
    }
    let alarms = registry.take_alarms();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert_eq!(alarms[0].alarm, Alarm::ManyAddresses);
    assert_eq!(alarms[0].name.as_str(), "flux.example");
    assert_eq!(alarms[0].client, Some(ip("172.17.0.66")));
    let flux = at(10_000);
    assert_eq!(marks(&registry, &flux, NOW + 60), [Mark::ManyAddresses]);
    assert!(marks(&registry, &flux, NOW + 2 * day).is_empty());
    registry.insert(&numbered(20_000, "flux.example", "172.17.0.66", NOW + u64::from(TOLD_AGAIN)));
    assert_eq!(registry.take_alarms()[0].count, 51, "an hour later, with those in between");
}

#[test]
fn a_flood_of_names_is_told_once_and_marks_what_comes_in_it() {
    let registry = Registry::default();
    for n in 0..NAMES_PER_ASKER + 100 {
        registry.insert(&numbered(n, &format!("n{n}.evil.example"), "172.17.0.66", NOW));
        registry.insert(&numbered(n % 50, &format!("n{}.good.example", n % 50), "172.17.0.2", NOW));
    }
    let alarms = registry.take_alarms();
    assert_eq!(alarms.len(), 1, "{alarms:?}");
    assert_eq!((alarms[0].alarm, alarms[0].client), (Alarm::NameFlood, Some(ip("172.17.0.66"))));
    let of = |n: u32| marks(&registry, &at(n), NOW + 30);
    assert_eq!(of(NAMES_PER_ASKER), [Mark::NameFlood]);
    assert!(of(NAMES_PER_ASKER - 1).is_empty(), "before it was one");
    let window = u64::from(NAMES_WINDOW);
    registry.insert(&numbered(9_000, "quiet.example", "172.17.0.66", NOW + 2 * window));
    assert!(marks(&registry, &at(9_000), NOW + 300).is_empty());
}

#[test]
fn what_repeats_is_no_new_name() {
    let registry = Registry::default();
    for n in 0..10 * NAMES_PER_ASKER {
        registry.insert(&numbered(n, &format!("n{}.example", n % 100), "172.17.0.2", NOW));
    }
    assert!(registry.take_alarms().iter().all(|alert| alert.alarm != Alarm::NameFlood));
}

#[test]
fn history_and_what_was_saved_raise_nothing() {
    let registry = Registry::default();
    for n in 0..2 * NAMES_PER_ASKER {
        registry.recall(&numbered(n, &format!("n{n}.example"), "172.17.0.2", NOW));
        registry.recall(&numbered(n, "one.example", "172.17.0.2", NOW));
    }
    let again = Registry::default();
    for address in registry.addresses() {
        again.restore(address, &registry.saved(address).unwrap());
    }
    for registry in [registry, again] {
        assert!(registry.take_alarms().is_empty());
        assert!(marks(&registry, &at(999), NOW + 60).is_empty());
    }
}
