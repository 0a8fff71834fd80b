//! Tests of the registry: grades, bounds, shares, and what comes back out.

use super::*;
use crate::engine::inquiry::asked;
use crate::engine::limits::{ASKERS_PER_ADDRESS_MAX, NAMES_PER_ADDRESS_MAX};
use crate::engine::record::Kind;
use crate::engine::time::Wall;

pub(super) fn record(
    address: &str,
    name: &str,
    client: Option<&str>,
    kind: Kind,
    second: u64,
) -> Record {
    Record {
        address: address.parse().unwrap(),
        name: Name::new(name).unwrap(),
        client: client.map(|client| client.parse().unwrap()),
        kind,
        chain: vec![],
        time: Wall(second * 1_000_000),
    }
}

pub(super) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_address_that_is_forgotten_on_the_way_hides_no_other_of_its_name() {
    let registry = Registry::default();
    for n in 0..50 {
        let address = std::net::Ipv4Addr::from(0xc633_6400 + n).to_string();
        registry.insert(&record(&address, "shop.example", None, Kind::Reply, 1));
    }
    let left = std::cell::Cell::new(50);
    let found = registry.table.keys_up_to(|| left.replace(1), |_| true);
    assert_eq!(found.len(), 50);
}

#[test]
fn the_addresses_of_a_name_are_found_and_asking_keeps_no_name_alive() {
    let registry = Registry::default();
    let shop = Name::new("shop.example").unwrap();
    assert_eq!(registry.addresses_of(&shop), Vec::<IpAddr>::new());
    for n in 0..600_u32 {
        let address = std::net::Ipv4Addr::from(0xc633_6400 + n).to_string();
        let name = if n % 3 == 0 { "shop.example" } else { "other.example" };
        registry.insert(&record(&address, name, None, Kind::Reply, 1));
        // A second name of every tenth address.
        if n % 10 == 1 {
            registry.insert(&record(&address, "shop.example", None, Kind::Reply, 2));
        }
    }
    registry.insert(&Record {
        chain: vec![Name::new("cdn.example").unwrap()],
        ..record("2001:db8::1", "late.example", None, Kind::Reply, 1)
    });
    let mut found = registry.addresses_of(&shop);
    found.sort_unstable();
    let all = registry.addresses().into_iter();
    let mut wanted: Vec<IpAddr> =
        all.filter(|at| registry.names(*at).iter().any(|seen| seen.name == shop)).collect();
    wanted.sort_unstable();
    assert_eq!((found.len(), &found), (240, &wanted));
    assert_eq!(registry.addresses_of(&Name::new("cdn.example").unwrap()), Vec::<IpAddr>::new());
    for address in registry.addresses() {
        registry.forget(address);
    }
    assert_eq!(registry.stats().names, 0, "what was asked for is gone too");
}

#[test]
fn grades_tell_own_other_static_and_never_apart() {
    let registry = Registry::default();
    registry.insert(&record("203.0.113.9", "a.example", Some("172.17.0.2"), Kind::Reply, 1));
    registry.insert(&record("203.0.113.10", "h.example", Some("172.17.0.2"), Kind::Hosts, 1));
    assert_eq!(registry.grade(&asked(&[ip("172.17.0.2")]), ip("203.0.113.9")), Grade::Own);
    assert_eq!(registry.grade(&asked(&[ip("172.17.0.3")]), ip("203.0.113.9")), Grade::Other);
    assert_eq!(registry.grade(&asked(&[ip("172.17.0.2")]), ip("203.0.113.10")), Grade::Static);
    assert_eq!(registry.grade(&asked(&[ip("172.17.0.2")]), ip("203.0.113.11")), Grade::Never);
}

#[test]
fn a_later_asker_does_not_take_the_grade_away_from_an_earlier_one() {
    let registry = Registry::default();
    for client in ["172.17.0.2", "172.17.0.3", "172.17.0.4"] {
        registry.insert(&record("2001:db8::9", "a.example", Some(client), Kind::Reply, 1));
    }
    for client in ["172.17.0.2", "172.17.0.3", "172.17.0.4"] {
        assert_eq!(
            registry.grade(&asked(&[ip(client)]), ip("2001:db8::9")),
            Grade::Own,
            "{client}"
        );
    }
}

#[test]
fn names_and_askers_of_one_address_are_bounded_and_the_latest_stay() {
    let registry = Registry::default();
    for i in 0..1_000u64 {
        let client = format!("172.17.{}.{}", i / 250, i % 250 + 1);
        registry.insert(&record(
            "203.0.113.9",
            &format!("n{i}.example"),
            Some(&client),
            Kind::Reply,
            i,
        ));
    }
    let names = registry.names(ip("203.0.113.9"));
    assert_eq!(names.len(), NAMES_PER_ADDRESS_MAX);
    assert_eq!(names[0].name.as_str(), "n999.example");
    assert!(names.iter().all(|seen| seen.last >= 984));
    let (grade, known) = registry.look_up(&asked(&[ip("172.17.3.250")]), ip("203.0.113.9"));
    assert_eq!((grade, known.names.len(), known.more), (Grade::Own, 4, NAMES_PER_ADDRESS_MAX - 4));
    let askers = registry.askers(ip("203.0.113.9"));
    assert!(askers.len() <= ASKERS_PER_ADDRESS_MAX + NAMES_PER_ADDRESS_MAX);
    assert!(askers.len() >= ASKERS_PER_ADDRESS_MAX);
}

#[test]
fn a_name_seen_again_keeps_its_first_time_and_a_reply_outranks_a_hosts_file() {
    let registry = Registry::default();
    registry.insert(&record("203.0.113.9", "a.example", None, Kind::Hosts, 5));
    registry.insert(&record("203.0.113.9", "a.example", Some("172.17.0.2"), Kind::Cached, 9));
    registry.insert(&record("203.0.113.9", "a.example", None, Kind::Hosts, 11));
    let names = registry.names(ip("203.0.113.9"));
    assert_eq!(
        (names.len(), names[0].first, names[0].last, names[0].kind),
        (1, 5, 11, Kind::Cached)
    );
    assert_eq!(names[0].asker, Some(ip("172.17.0.2")));
}

#[test]
fn v4_and_v6_addresses_come_back_as_they_went_in() {
    let registry = Registry::default();
    for address in ["203.0.113.9", "2001:db8::9", "::1"] {
        registry.insert(&record(address, "a.example", None, Kind::Reply, 1));
    }
    let mut seen = registry.addresses();
    seen.sort();
    assert_eq!(seen, [ip("203.0.113.9"), ip("::1"), ip("2001:db8::9")]);
    assert_eq!(registry.len(), 3);
}

/// What is booked against what is there, for the whole and for every client.
pub(super) fn booked(registry: &Registry) -> (Accounts, Accounts) {
    let mut really = Accounts::new();
    let mut total = 0;
    registry.table.each(|entry| {
        for (client, addresses, bytes) in entry.bill() {
            total += bytes;
            if let Some(client) = client {
                let account = really.entry(client.address.to_string()).or_default();
                (account.0, account.1) = (account.0 + addresses, account.1 + bytes);
            }
        }
    });
    really.insert("all".to_owned(), (registry.table.keys(|_| true).len(), total));
    let mut noted: Accounts = registry
        .clients
        .all()
        .into_iter()
        .map(|client| {
            let account = (client.own.addresses.load(Relaxed), client.own.bytes.load(Relaxed));
            (client.address.to_string(), account)
        })
        .filter(|(_, account)| account.1 != 0)
        .collect();
    noted.insert("all".to_owned(), (registry.len(), registry.room.bytes.load(Relaxed)));
    (noted, really)
}

pub(super) type Accounts = std::collections::BTreeMap<String, (usize, u64)>;

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(64))]

    #[test]
    fn what_is_booked_is_what_is_there(
        records in proptest::collection::vec((0..4u8, 0..40u8, 0..80u8, 0..9u64), 1..400),
        forgotten in proptest::collection::btree_set(0..80u8, 0..40),
    ) {
        let registry = Registry::default();
        for (address, name, client, second) in records {
            let (address, name) = (format!("203.0.113.{address}"), format!("n{name}.example"));
            let client = format!("172.17.0.{client}");
            registry.insert(&record(&address, &name, Some(&client), Kind::Reply, second));
        }
        let (noted, really) = booked(&registry);
        proptest::prop_assert_eq!(noted, really);
        let clients = forgotten.iter().map(|n| ip(&format!("172.17.0.{n}"))).collect();
        registry.forget_askers(&clients);
        let (noted, really) = booked(&registry);
        proptest::prop_assert_eq!(noted, really);
        for address in registry.addresses() {
            for client in &clients {
                proptest::prop_assert_eq!(registry.grade(&asked(&[*client]), address), Grade::Other);
            }
        }
    }
}

#[test]
fn names_are_kept_once_and_go_with_their_last_address() {
    let registry = Registry::default();
    for n in 0..1_000 {
        let chain = vec![Name::new("edge.cdn.example").unwrap()];
        let of = record(
            &format!("203.0.{}.{}", n / 250, n % 250),
            &format!("n{}.example", n % 10),
            None,
            Kind::Reply,
            5,
        );
        registry.insert(&Record { chain, ..of });
    }
    assert_eq!(registry.stats().names, 11, "ten names and a link");
    let name = Name::new("n3.example").unwrap();
    assert_eq!(registry.find(&name), Some(NameFacts { first: 5, addresses: 100 }));
    let shared = registry.names(ip("203.0.0.3"));
    let other = registry.names(ip("203.0.0.13"));
    assert!(std::ptr::eq(shared[0].name.as_str(), other[0].name.as_str()), "one text");
    for address in registry.addresses() {
        assert!(registry.forget(address));
        assert!(!registry.forget(address));
    }
    registry.make_room(Wall(1_000_000_000));
    assert_eq!(
        registry.stats(),
        Stats { addresses: 0, names: 0, askers: 0, bytes: 0, limits: Limits::default() }
    );
}

#[test]
fn names_pushed_out_leave_the_table_of_names() {
    let registry = Registry::default();
    for n in 0..1_000 {
        registry.insert(&record(
            "203.0.113.9",
            &format!("n{n}.example"),
            Some("172.17.0.2"),
            Kind::Reply,
            n,
        ));
    }
    assert_eq!(registry.stats().names, NAMES_PER_ADDRESS_MAX);
    assert_eq!(registry.grade(&asked(&[ip("172.17.0.2")]), ip("203.0.113.9")), Grade::Own);
    let (noted, really) = booked(&registry);
    assert_eq!(noted, really);
}

/// Everything that is to be known of one address, in its order.
fn all(registry: &Registry) -> Vec<(String, u32, u32, Option<IpAddr>)> {
    let names = registry.names(ip("203.0.113.9"));
    names
        .into_iter()
        .map(|seen| (seen.name.to_string(), seen.first, seen.last, seen.asker))
        .collect()
}

#[test]
fn what_is_read_late_does_not_push_ahead_of_what_is_known_since() {
    let registry = Registry::default();
    let now = [("b.example", "172.17.0.2", 90), ("c.example", "172.17.0.3", 100)];
    let history = [("a.example", "172.17.0.4", 50), ("b.example", "172.17.0.5", 10)];
    for (name, client, second) in now.into_iter().chain(history) {
        registry.insert(&record("203.0.113.9", name, Some(client), Kind::Reply, second));
    }
    let row =
        |name: &str, first, last, asker: &str| (name.to_owned(), first, last, Some(ip(asker)));
    let rows = [
        row("c.example", 100, 100, "172.17.0.3"),
        row("b.example", 10, 90, "172.17.0.2"),
        row("a.example", 50, 50, "172.17.0.4"),
    ];
    assert_eq!(all(&registry), rows);
    assert_eq!(
        registry.grade(&asked(&[ip("172.17.0.5")]), ip("203.0.113.9")),
        Grade::Own,
        "it did ask"
    );
}

#[test]
fn old_names_do_not_push_newer_ones_out() {
    let registry = Registry::default();
    for second in (0..1_000u64).rev() {
        let name = format!("n{second}.example");
        registry.insert(&record("203.0.113.9", &name, None, Kind::Reply, second));
    }
    let names: Vec<u32> = all(&registry).into_iter().map(|(_, _, last, _)| last).collect();
    assert_eq!(names, (984..1_000).rev().collect::<Vec<u32>>());
}

proptest::proptest! {
    #[test]
    fn the_order_of_reading_decides_nothing(
        records in proptest::collection::vec((0..12u8, 0..6u8, 0..1_000u64), 1..40),
        shuffle in proptest::collection::vec(proptest::prelude::any::<u32>(), 40),
    ) {
        // Each second once: what shares one is ordered by its reading.
        let mut records = records;
        records.sort_by_key(|(_, _, second)| *second);
        records.dedup_by_key(|(_, _, second)| *second);
        let insert = |records: &[(u8, u8, u64)]| {
            let registry = Registry::default();
            for (name, client, second) in records {
                let (name, client) = (format!("n{name}.example"), format!("172.17.0.{client}"));
                registry.insert(&record("203.0.113.9", &name, Some(&client), Kind::Reply, *second));
            }
            registry
        };
        let mut shuffled: Vec<_> = records.iter().copied().zip(shuffle).collect();
        shuffled.sort_by_key(|(_, place)| *place);
        let shuffled: Vec<_> = shuffled.into_iter().map(|(record, _)| record).collect();
        let (straight, shuffled) = (insert(&records), insert(&shuffled));
        proptest::prop_assert_eq!(all(&straight), all(&shuffled));
        let times: Vec<u32> = all(&straight).into_iter().map(|(_, _, last, _)| last).collect();
        proptest::prop_assert!(times.is_sorted_by(|a, b| a > b));
        for client in 0..6 {
            let client = ip(&format!("172.17.0.{client}"));
            let grade = |registry: &Registry| registry.grade(&asked(&[client]), ip("203.0.113.9"));
            proptest::prop_assert_eq!(grade(&straight), grade(&shuffled));
        }
        let (noted, really) = booked(&shuffled);
        proptest::prop_assert_eq!(noted, really);
    }
}

#[test]
fn the_next_tenant_of_an_address_inherits_no_look_up() {
    let registry = Registry::default();
    // By more names and askers than one, so that every place an asker is kept in is looked at.
    for (name, client) in
        [("a", "172.17.0.2"), ("a", "172.17.0.3"), ("b", "172.17.0.2"), ("b", "172.17.0.2")]
    {
        registry.insert(&record("203.0.113.9", name, Some(client), Kind::Reply, 1));
    }
    assert_eq!(registry.grade(&asked(&[ip("172.17.0.2")]), ip("203.0.113.9")), Grade::Own);
    registry.forget_askers(&[ip("172.17.0.2")].into());
    assert_eq!(registry.grade(&asked(&[ip("172.17.0.2")]), ip("203.0.113.9")), Grade::Other);
    assert_eq!(registry.grade(&asked(&[ip("172.17.0.3")]), ip("203.0.113.9")), Grade::Own);
}

#[test]
fn readers_and_writers_at_once_leave_the_books_in_order() {
    let registry = Registry::new(Limits { addresses: 2_000, keep: None });
    let clients: Vec<IpAddr> = (0..8).map(|n| ip(&format!("172.17.0.{n}"))).collect();
    let write = &|seed: u32| {
        let mut number = seed;
        for step in 0..5_000u64 {
            number = number.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let (address, name) = (number >> 8 & 0x7ff, number >> 20 & 0xff);
            let address = format!("203.0.{}.{}", address >> 8, address & 0xff);
            let client = format!("172.17.0.{}", number >> 28 & 7);
            match number >> 4 & 15 {
                0 => drop(registry.forget(ip(&address))),
                1 if step % 50 == 0 => registry.forget_askers(&[ip(&client)].into()),
                2 if step % 50 == 0 => drop(registry.take_dirty()),
                3 if step % 500 == 0 => {
                    registry.make_room(Wall(1_000_000_000_000));
                }
                4 => registry.used(&asked(&clients), ip(&address), true),
                5 => drop(registry.look_up(&asked(&clients), ip(&address))),
                _ => {
                    let name = format!("n{name}.example");
                    registry.insert(&record(&address, &name, Some(&client), Kind::Reply, step));
                }
            }
        }
    };
    std::thread::scope(|scope| {
        (1..5).for_each(|seed| drop(scope.spawn(move || write(seed))));
    });
    let (noted, really) = booked(&registry);
    assert_eq!(noted, really);
    let names = registry.addresses().into_iter().flat_map(|address| registry.names(address));
    let names: BTreeSet<String> = names.map(|seen| seen.name.to_string()).collect();
    assert_eq!(registry.stats().names, names.len());
    let of = |name: &String| registry.find(&Name::new(name).unwrap()).unwrap().addresses;
    let rows: usize = registry.addresses().into_iter().map(|at| registry.names(at).len()).sum();
    assert_eq!(names.iter().map(of).sum::<u32>() as usize, rows);
}
