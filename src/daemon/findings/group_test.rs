//! Groups of refusals: exact, bounded, and retries where they belong.

use super::testing::{block, drop};
use super::*;
use crate::engine::event::Body;

fn take(events: impl IntoIterator<Item = (u64, Body)>) -> (Vec<Group>, Groups) {
    let mut groups = Groups::default();
    for (at, body) in events {
        groups.take(Wall(at), &body);
    }
    groups.finish()
}

/// As many refusals as that, each of a container and a destination by its number; quicker than each by itself.
fn crowd(count: u32, container: impl Fn(u32) -> String) -> impl Iterator<Item = (u64, Body)> {
    let Body::Verdict(one) = drop("", "198.51.0.0", 22, Reason::NeverResolved, true) else {
        panic!("a verdict");
    };
    (0..count).map(move |n| {
        let (container, dst) = (Some(container(n).into()), Some(IpAddr::V4(n.into())));
        (u64::from(n), Body::Verdict(VerdictBody { container, dst, ..one.clone() }))
    })
}

#[test]
fn one_container_and_destination_is_one_group_and_another_port_another() {
    let (groups, _) = take([
        (1, drop("web", "203.0.113.9", 443, Reason::NeverResolved, true)),
        (3, drop("web", "203.0.113.9", 443, Reason::Unhealthy, false)),
        (2, drop("web", "203.0.113.9", 80, Reason::NeverResolved, true)),
        (2, drop("db", "203.0.113.9", 443, Reason::NeverResolved, true)),
        (4, drop("db", "203.0.113.9", 443, Reason::Shutdown, true)),
        (9, block("web", "203.0.113.9", "denied4", 7)),
    ]);
    let told: Vec<_> = groups
        .iter()
        .map(|g| (&*g.key.container, g.key.dport, g.refused, g.would_refuse, g.retries))
        .collect();
    assert_eq!(
        told,
        [("db", Some(443), 1, 0, 0), ("web", Some(80), 1, 0, 0), ("web", Some(443), 1, 1, 7)],
        "retries are of what was refused last"
    );
    assert_eq!((groups[2].first, groups[2].last), (Some(Wall(1)), Some(Wall(9))));
    assert_eq!(groups[2].destination(), "tcp 203.0.113.9:443");
}

#[test]
fn what_a_list_refused_stands_by_itself() {
    let (groups, rest) = take([
        (1, drop("web", "203.0.113.9", 443, Reason::NeverResolved, true)),
        (2, block("web", "203.0.113.9", "block4", 3)),
        (2, block("web", "203.0.113.9", "spoofs4", 99)),
    ]);
    let told: Vec<_> = groups.iter().map(|g| (g.key.dport, g.reason(), g.count())).collect();
    assert_eq!(told, [(None, "blocklisted", 3), (Some(443), "never-resolved", 1)]);
    assert_eq!(rest.hours.values().sum::<u64>(), 4);
}

#[test]
fn names_that_come_later_are_remembered_of_what_was_refused() {
    let record = |address: &str| {
        Body::Record(RecordBody {
            address: address.parse().unwrap(),
            name: Name::new("x.example").unwrap(),
            client: None,
            kind: crate::engine::Kind::Reply,
            chain: Vec::new(),
        })
    };
    let (_, rest) = take([
        (1, drop("web", "203.0.113.9", 443, Reason::NeverResolved, true)),
        (2, record("203.0.113.9")),
        (3, record("203.0.113.10")),
    ]);
    assert_eq!(rest.later.len(), 1);
}

#[test]
fn a_scanner_leaves_room_for_the_others() {
    let mut groups = Groups::default();
    for n in 0..3_000_u32 {
        let [_, _, c, d] = n.to_be_bytes();
        let scan = drop("scanner", &format!("198.51.{c}.{d}"), 22, Reason::NeverResolved, true);
        groups.take(Wall(1), &scan);
    }
    groups.take(Wall(2), &drop("web", "203.0.113.9", 443, Reason::NeverResolved, true));
    let (found, rest) = groups.finish();
    assert_eq!((found.len(), rest.more), (OF_ONE_MAX + 1, 2_000));
}

#[test]
fn decoys_hide_nothing_that_comes_later() {
    let mut groups = Groups::default();
    for n in 0..5_000_u32 {
        let [_, _, c, d] = n.to_be_bytes();
        let decoy = drop("web", &format!("198.51.{c}.{d}"), 22, Reason::NeverResolved, true);
        groups.take(Wall(u64::from(n)), &decoy);
    }
    groups.take(Wall(9_999), &drop("web", "203.0.113.9", 443, Reason::NeverResolved, true));
    let (found, rest) = groups.finish();
    assert!(found.iter().any(|group| group.key.dst.to_string() == "203.0.113.9"));
    assert_eq!((found.len(), rest.more), (OF_ONE_MAX, 4_001));
}

#[test]
fn many_containers_share_what_room_there_is() {
    let quiet = (0, drop("quiet", "203.0.113.9", 443, Reason::NeverResolved, true));
    let (found, _) = take([quiet].into_iter().chain(crowd(30_000, |n| format!("c{}", n % 30))));
    assert!(found.len() <= GROUPS_MAX, "{}", found.len());
    assert!(found.iter().any(|group| &*group.key.container == "quiet"));
}

#[test]
fn of_more_containers_than_there_is_room_for_the_latest_stay() {
    let (found, rest) = take(crowd(25_000, |n| format!("job-{n}")));
    assert_eq!((found.len(), rest.more), (GROUPS_MAX, 25_000 - 10_000));
    assert!(found.iter().all(|group| group.last >= Some(Wall(15_000))));
}

#[test]
fn a_container_of_many_addresses_shows_some() {
    let at = |n: u8| {
        let Body::Block(mut body) = block("web", "203.0.113.9", "block4", 1) else { panic!() };
        body.src = [172, 17, 1, n].into();
        (1, Body::Block(body))
    };
    let (groups, _) = take((0..200).map(at));
    assert_eq!((groups[0].sources.len(), groups[0].refused), (NAMES_MAX, 200));
}

#[test]
fn of_one_container_everything_is_its_own() {
    for (wanted, all) in [(None, 3), (Some("web"), 1), (Some("172.17.0.9"), 1)] {
        let mut groups = Groups::of(wanted);
        groups.take(Wall(1), &drop("web", "203.0.113.9", 443, Reason::NeverResolved, true));
        groups.take(Wall(1), &drop("db", "203.0.113.8", 443, Reason::NeverResolved, true));
        let at = |text: &str| text.parse().unwrap();
        groups.listed(Some(at("172.17.0.9")), at("203.0.113.7"), None);
        let hours: u64 = groups.hours.values().sum();
        let (found, _) = groups.finish();
        assert_eq!(found.len(), all, "{wanted:?}: {found:?}");
        assert_eq!(
            hours,
            [0, 1, 2][usize::from(wanted.is_none()) + usize::from(wanted != Some("172.17.0.9"))]
        );
    }
}

#[test]
fn books_and_lists_add_only_what_events_do_not_tell() {
    let mut groups = Groups::default();
    groups.take(Wall(1), &drop("web", "203.0.113.9", 443, Reason::NeverResolved, false));
    let row = |container: &str| WouldRefuse {
        container: container.into(),
        dst: "203.0.113.9".parse().unwrap(),
        dport: 443,
        proto: Proto::Tcp,
        reason: Reason::NeverResolved,
        count: 4,
    };
    groups.learned(row("web"));
    groups.learned(row("db"));
    let at = |text: &str| text.parse().unwrap();
    groups.listed(Some(at("172.17.0.2")), at("203.0.113.9"), None);
    groups.listed(None, at("203.0.113.10"), Some((Proto::Udp, 53)));
    let (found, _) = groups.finish();
    let told: Vec<_> = found.iter().map(|g| (&*g.key.container, g.would_refuse, g.auto)).collect();
    assert_eq!(told, [("all", 0, true), ("db", 4, false), ("web", 1, true)]);
}
