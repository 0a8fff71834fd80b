//! Tests of accounts: a container has one share and not one for each address it has or forges.

use super::room_tests::{insert, now, numbered, small};
use super::tests::{booked, ip, record};
use super::*;
use crate::engine::inquiry::asked;
use crate::engine::limits::{ASKER_SHARE, ASKERS_MAX, ASKERS_PER_ADDRESS_MAX};
use crate::engine::record::Kind;

const NOW: u64 = 1_800_000_000;
const VICTIM: &str = "172.17.0.2";

fn insert_for(registry: &Registry, n: u32, client: &str, payer: IpAddr) -> Inserted {
    let of = record("::", &format!("n{n}.evil.example"), Some(client), Kind::Reply, NOW);
    registry.insert_for(&Record { address: numbered(n), ..of }, Some(payer))
}

fn forged(n: u32) -> String {
    format!("fd00::66:{n:x}")
}

#[test]
fn a_container_with_many_addresses_has_one_share() {
    for payer in [ip("172.17.0.66"), UNOWNED] {
        let registry = small(1_600);
        insert(&registry, 1, Some(VICTIM), NOW - 7_200);
        for n in 0..6_000 {
            insert_for(&registry, 1_000 + n, &forged(n % 5), payer);
            if registry.wants_room() && n % 100 == 0 {
                registry.make_room(now());
            }
        }
        let share = 1_600 / ASKER_SHARE;
        assert!(registry.len() <= share + share / 8, "{}", registry.len());
        assert!(registry.len() > share / 2, "{}", registry.len());
        registry.make_room(now());
        assert!(registry.len() <= share, "{}", registry.len());
        assert_eq!(registry.names(numbered(1)).len(), 1);
        assert_eq!(insert(&registry, 2, Some(VICTIM), NOW + 1), Inserted::New);
        let (noted, really) = booked(&registry);
        assert_eq!(noted, really);
    }
}

#[test]
fn what_a_client_has_goes_along_to_another_account() {
    let registry = small(1_600);
    for n in 0..300 {
        insert(&registry, n, Some(VICTIM), NOW);
        insert(&registry, 1_000 + n, Some("fd00::2"), NOW);
    }
    assert!(!registry.wants_room());
    // It turns out that both are one container's.
    for (n, client) in [(500, VICTIM), (501, "fd00::2")] {
        insert_for(&registry, n, client, ip(VICTIM));
    }
    assert!(registry.wants_room());
    assert!(registry.make_room(now()).over_quota > 0);
    let account = registry.clients.of(ip("fd00::2"), None).unwrap().account();
    assert_eq!(account.addresses.load(Relaxed), registry.len());
    assert!(registry.len() <= 1_600 / ASKER_SHARE);
    for address in registry.addresses() {
        registry.forget(address);
    }
    assert_eq!((account.addresses.load(Relaxed), account.bytes.load(Relaxed)), (0, 0));
}

#[test]
fn forged_askers_of_an_address_push_out_one_another() {
    let registry = Registry::default();
    let ask = |client: &str, payer, second| {
        let of = record("203.0.113.9", "registry.example", Some(client), Kind::Reply, second);
        registry.insert_for(&of, Some(payer));
    };
    ask("172.17.0.3", ip("172.17.0.3"), NOW);
    ask(VICTIM, ip(VICTIM), NOW);
    for n in 0..=u32::try_from(ASKERS_PER_ADDRESS_MAX).unwrap() {
        ask(&forged(n), UNOWNED, NOW + 1);
    }
    assert_eq!(registry.grade(&asked(&[ip(VICTIM)]), ip("203.0.113.9")), Grade::Own);
}

#[test]
fn clients_that_nobody_owns_leave_places_to_containers() {
    let registry = Registry::default();
    for n in 0..u32::try_from(ASKERS_MAX).unwrap() {
        insert_for(&registry, n % 4_096, &forged(n), UNOWNED);
    }
    assert!(registry.stats().askers < ASKERS_MAX);
    insert_for(&registry, 1_000_000, VICTIM, ip(VICTIM));
    assert_eq!(registry.grade(&asked(&[ip(VICTIM)]), numbered(1_000_000)), Grade::Own);
}

/// By arithmetic of what is allocated, in 64 bits: each piece with the allocator's own 8 bytes.
#[test]
fn links_of_a_chain_cost_what_they_take() {
    let registry = Registry::default();
    for n in 0..2_000 {
        let chain = (0..10).map(|k| Name::new(&format!("{k}{n:x}.e.io")).unwrap()).collect();
        let of = record("::", &format!("{n:x}.e.io"), Some(VICTIM), Kind::Reply, NOW);
        registry.insert(&Record { address: numbered(n), chain, ..of });
    }
    let counts = 2 * size_of::<usize>();
    let shared = counts + size_of::<names::Shared>() + 8;
    let text = (counts + "91ff.e.io".len() + 8).next_multiple_of(16);
    // Its place in the chain, and in a table that is between half and seven eighths full, with a byte of its hash.
    let places = 8 + 9 * 2;
    let taken = 2_000 * 10 * u64::try_from(shared + text + places).unwrap();
    let billed = registry.stats().bytes;
    assert!(billed * 3 / 2 > taken && billed < taken * 3 / 2, "billed {billed}, taken {taken}");
}

#[test]
fn a_name_leads_where_it_led_last() {
    let registry = Registry::default();
    let see = |links: &[&str], second, kind| {
        let chain = links.iter().map(|link| Name::new(link).unwrap()).collect();
        let of = record("203.0.113.9", "www.example", Some(VICTIM), kind, second);
        registry.insert(&Record { chain, ..of })
    };
    let chain = || {
        let chain = registry.names(ip("203.0.113.9"))[0].chain.take();
        let links = chain.into_iter().flat_map(|chain| *chain);
        links.map(|link| link.to_string()).collect::<Vec<_>>()
    };
    see(&["a.cdn.example", "b.cdn.example"], NOW, Kind::Reply);
    registry.take_dirty();
    assert_eq!(see(&["c.cdn.example"], NOW + 1, Kind::Reply), Inserted::Seen);
    assert_eq!(chain(), ["c.cdn.example"]);
    assert_eq!(registry.take_dirty().addresses.len(), 1, "it is saved");
    assert_eq!(registry.stats().names, 2, "the links before are given back");
    see(&["a.cdn.example"], NOW, Kind::Reply);
    assert_eq!(chain(), ["c.cdn.example"], "an older answer");
    see(&[], NOW + 2, Kind::Hosts);
    assert_eq!(chain(), ["c.cdn.example"], "a file has none");
    let (noted, really) = booked(&registry);
    assert_eq!(noted, really);
    see(&[], NOW + 2, Kind::Reply);
    assert!(chain().is_empty() && registry.stats().names == 1);
    let (noted, really) = booked(&registry);
    assert_eq!(noted, really);
}

#[test]
fn a_container_that_has_its_share_is_not_accused_of_what_it_asks_for_now() {
    for addresses in [1_000, 8_000] {
        let registry = small(addresses);
        let most = u32::try_from(addresses).unwrap() / 2;
        let start = NOW - 10_000;
        let numbers = 0..most;
        for n in numbers.clone() {
            // Nobody makes room meanwhile.
            let done = insert(&registry, n, Some(VICTIM), start + u64::from(n));
            assert_eq!(done, Inserted::New);
            assert_eq!(registry.grade(&asked(&[ip(VICTIM)]), numbered(n)), Grade::Own);
        }
        let share = addresses / ASKER_SHARE;
        assert!(registry.len() <= share + share / 8, "{}", registry.len());
        // Roughly the oldest went.
        let left = |of: std::ops::Range<u32>| {
            of.filter(|n| registry.saved(numbered(*n)).is_some()).count()
        };
        let (old, new) = (left(0..most / 2), left(most / 2..most));
        assert!(old < new / 4, "{old} old ones and {new} new ones");
        let (noted, really) = booked(&registry);
        assert_eq!(noted, really);
    }
}

#[test]
fn what_a_container_uses_does_not_make_way() {
    let registry = small(1_000);
    let victim = [ip(VICTIM)];
    let used = Inquiry { at: now(), ..asked(&victim) };
    for n in 0..200 {
        insert(&registry, n, Some(VICTIM), NOW - 20_000);
        registry.used(&used, numbered(n), false);
    }
    for n in 200..1_000 {
        insert(&registry, n, Some(VICTIM), NOW);
    }
    assert!((0..200).all(|n| registry.saved(numbered(n)).is_some()));
}
