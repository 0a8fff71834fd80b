//! Tests of age: what is fresh for whom, what is stale, and what a use does to that.

use std::time::Duration;

use super::tests::{ip, record};
use super::*;
use crate::engine::limits::USED_STEP;
use crate::engine::record::Kind;
use crate::engine::time::Wall;

const HOUR: u64 = 3_600;

fn at(clients: &[IpAddr], second: u64) -> Inquiry<'_> {
    let max_age = Some(Duration::from_secs(HOUR));
    Inquiry { clients, at: Wall(second * 1_000_000), max_age }
}

fn grade(registry: &Registry, client: &str, second: u64) -> Grade {
    registry.grade(&at(&[ip(client)], second), ip("203.0.113.9"))
}

fn see(registry: &Registry, name: &str, client: Option<&str>, kind: Kind, second: u64) {
    registry.insert(&record("203.0.113.9", name, client, kind, second));
}

const A: &str = "172.17.0.2";
const B: &str = "172.17.0.3";

#[test]
fn each_asker_has_its_own_age() {
    let registry = Registry::default();
    see(&registry, "a.example", Some(A), Kind::Reply, 1_000);
    see(&registry, "a.example", Some(B), Kind::Cached, 1_000 + HOUR);
    assert_eq!(grade(&registry, A, 1_000 + HOUR), Grade::Own, "to the last second");
    assert_eq!(
        grade(&registry, A, 1_001 + HOUR),
        Grade::Other,
        "its own is too old, another's is not"
    );
    assert_eq!(grade(&registry, B, 1_000 + 2 * HOUR), Grade::Own);
    assert_eq!(grade(&registry, B, 1_001 + 2 * HOUR), Grade::Stale);
    assert_eq!(grade(&registry, A, 0), Grade::Own, "what the future holds is fresh");
    let for_ever = Inquiry { max_age: None, ..at(&[], u64::from(u32::MAX)) };
    assert_eq!(registry.grade(&for_ever, ip("203.0.113.9")), Grade::Other);
}

#[test]
fn static_is_never_stale_and_beats_what_is() {
    let registry = Registry::default();
    see(&registry, "h.example", Some(A), Kind::Hosts, 1_000);
    assert_eq!(grade(&registry, A, 1_000 + 100 * HOUR), Grade::Static);
    see(&registry, "a.example", Some(B), Kind::Reply, 1_000);
    assert_eq!(grade(&registry, A, 1_000), Grade::Other, "what it asked for was static");
    assert_eq!(grade(&registry, B, 1_000), Grade::Own);
    assert_eq!(grade(&registry, B, 1_000 + 2 * HOUR), Grade::Static);
}

#[test]
fn a_use_makes_fresh_only_if_told_to_and_only_for_whom_it_was() {
    let registry = Registry::default();
    see(&registry, "a.example", Some(A), Kind::Reply, 1_000);
    see(&registry, "a.example", Some(B), Kind::Reply, 1_000);
    registry.used(&at(&[ip(A)], 1_000 + HOUR), ip("203.0.113.9"), false);
    assert_eq!(grade(&registry, A, 1_001 + HOUR), Grade::Stale);
    registry.used(&at(&[ip(A)], 1_000 + HOUR), ip("203.0.113.9"), true);
    assert_eq!(grade(&registry, A, 1_001 + HOUR), Grade::Own);
    assert_eq!(grade(&registry, B, 1_001 + HOUR), Grade::Other);
    registry.used(&at(&[ip("172.17.0.9")], 1_000 + 2 * HOUR), ip("203.0.113.9"), true);
    assert_eq!(
        grade(&registry, A, 1_001 + 2 * HOUR),
        Grade::Other,
        "a stranger refreshes what it rests on"
    );
    registry.used(&at(&[ip(A)], 1), ip("203.0.113.99"), true);
    assert!(registry.names(ip("203.0.113.99")).is_empty());
}

#[test]
fn a_use_is_written_once_an_hour() {
    let registry = Registry::default();
    see(&registry, "a.example", Some(A), Kind::Reply, 1_000);
    registry.take_dirty();
    let step = u64::from(USED_STEP);
    let start = 1_000 * step;
    let mut writes = 0;
    for second in (start..start + 4 * step).step_by(10) {
        registry.used(&Inquiry { max_age: None, ..at(&[ip(A)], second) }, ip("203.0.113.9"), false);
        writes += registry.take_dirty().addresses.len();
    }
    assert_eq!(writes, 4);
    let used = registry.saved(ip("203.0.113.9")).unwrap().used;
    assert_eq!(used, Some(u32::try_from(start + 3 * step).unwrap()));
}

#[test]
fn answers_under_blocked_domains_are_no_evidence() {
    let registry = Registry::default();
    let blocked: DomainSet = [Name::new("evil.example").unwrap()].into_iter().collect();
    let grade = |client: &str, second| {
        registry.grade_beside(&at(&[ip(client)], second), &blocked, ip("203.0.113.9"))
    };
    see(&registry, "www.evil.example", Some(A), Kind::Reply, 1_000 + 2 * HOUR);
    assert_eq!(grade(A, 1_000 + 2 * HOUR), Grade::Never);
    see(&registry, "good.example", Some(B), Kind::Reply, 1_000);
    assert_eq!(grade(A, 1_000), Grade::Other, "by the good name");
    assert_eq!(grade(A, 1_000 + 2 * HOUR), Grade::Stale, "the fresh one does not count");
    let chain = vec![Name::new("cdn.evil.example").unwrap()];
    let cloaked = record("203.0.113.10", "shop.example", Some(A), Kind::Reply, 1_000);
    registry.insert(&Record { chain, ..cloaked });
    let asked = registry.grade_beside(&at(&[ip(A)], 1_000), &blocked, ip("203.0.113.10"));
    assert_eq!(asked, Grade::Never, "nor does what leads there");
}
