//! Saving, loading, damage, and the ancestor's file.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::engine::inquiry::asked;
use crate::engine::registry::Seen;
use crate::engine::{Grade, Kind, Name, Record};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn record(address: &str, name: &str, second: u64) -> Record {
    Record {
        address: ip(address),
        name: Name::new(name).unwrap(),
        client: Some(ip("172.17.0.2")),
        kind: Kind::Cached,
        chain: vec![Name::new("cdn.example").unwrap()],
        time: Wall(second * 1_000_000),
    }
}

fn content(registry: &Registry) -> Vec<(IpAddr, Vec<Seen>, Vec<IpAddr>)> {
    let mut addresses = registry.addresses();
    addresses.sort();
    let all = addresses.into_iter();
    all.map(|address| (address, registry.names(address), registry.askers(address))).collect()
}

#[test]
fn what_is_saved_is_loaded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(REGISTRY_FILE);
    let registry = Registry::default();
    for (i, address) in ["203.0.113.9", "203.0.113.9", "2001:db8::1"].iter().enumerate() {
        registry.insert(&record(address, &format!("n{i}.example"), 100 + i as u64));
    }
    // A second asker of the same name must still be known after a restart.
    let other =
        Record { client: Some(ip("172.17.0.3")), ..record("203.0.113.9", "n1.example", 103) };
    registry.insert(&other);
    save(&path, &registry).unwrap();
    let again = Registry::default();
    assert_eq!(load(&path, &again, Wall(0)).unwrap(), Loaded { names: 3, skipped: 0 });
    assert_eq!(content(&again), content(&registry));
    for client in ["172.17.0.2", "172.17.0.3"] {
        assert_eq!(again.grade(&asked(&[ip(client)]), ip("203.0.113.9")), Grade::Own, "{client}");
    }
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1, "no temporary file stays");
}

#[test]
fn some_addresses_are_read_without_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(REGISTRY_FILE);
    let registry = Registry::default();
    for address in ["203.0.113.8", "203.0.113.9", "2001:db8::1"] {
        registry.insert(&record(address, "n.example", 100));
    }
    save(&path, &registry).unwrap();
    let (some, wanted) = (Registry::default(), HashSet::from([ip("203.0.113.9"), ip("192.0.2.1")]));
    let loaded = load_only(&path, &wanted, &some, Wall(0)).unwrap();
    assert_eq!(loaded, Loaded { names: 1, skipped: 0 });
    assert_eq!(some.addresses(), [ip("203.0.113.9")]);
    assert_eq!(some.names(ip("203.0.113.9")), registry.names(ip("203.0.113.9")));
    std::fs::write(&path, r#"{"203.0.113.8": ["a.example"], "203.0.113.9": ["b.example"]}"#)
        .unwrap();
    let some = Registry::default();
    load_only(&path, &wanted, &some, Wall(0)).unwrap();
    assert_eq!(some.addresses(), [ip("203.0.113.9")], "the ancestor's format");
}

#[test]
fn no_file_is_an_empty_registry() {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::default();
    assert_eq!(load(&folder.path().join("none"), &registry, Wall(0)).unwrap(), Loaded::default());
}

#[test]
fn the_ancestors_file_is_read_and_its_rubbish_counted() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(ANCESTOR_FILE);
    std::fs::write(&path, r#"{"140.82.121.4": ["GitHub.com", "api.github.com"], "999.1.1.1": ["x"], "1.2.3.4": [7, "ok.example", "no name"]}"#).unwrap();
    let registry = Registry::default();
    assert_eq!(load(&path, &registry, Wall(50_000_000)).unwrap(), Loaded { names: 3, skipped: 3 });
    let names = registry.names(ip("140.82.121.4"));
    assert_eq!(
        names.iter().map(|seen| seen.name.as_str()).collect::<Vec<_>>(),
        ["api.github.com", "github.com"]
    );
    assert_eq!(names[0].last, 50);
}

#[test]
fn a_damaged_file_is_named_and_set_aside_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(REGISTRY_FILE);
    for damage in [
        "",
        "{",
        "[]",
        "nonsense",
        r#"{"version":2,"addresses":{}}"#,
        r#"{"version":1,"addresses":{"1.2.3.4":[{"#,
    ] {
        std::fs::write(&path, damage).unwrap();
        let error = load(&path, &Registry::default(), Wall(0)).unwrap_err();
        assert!(matches!(error, Error::Damaged { .. }), "{damage}: {error}");
        let aside = set_aside(&path, Wall(7)).unwrap();
        assert_eq!(std::fs::read_to_string(&aside).unwrap(), damage);
        assert!(!path.exists());
    }
}

#[test]
fn what_stands_before_the_damage_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(REGISTRY_FILE);
    let row = r#"[{"name":"a.example","first":1,"last":2,"kind":"reply"}]"#;
    std::fs::write(
        &path,
        format!(r#"{{"version":1,"addresses":{{"1.2.3.4":{row},"1.2.3.5":[{{"na"#),
    )
    .unwrap();
    let registry = Registry::default();
    assert!(load(&path, &registry, Wall(0)).is_err());
    assert_eq!(registry.names(ip("1.2.3.4")).len(), 1);
}

#[test]
fn a_failed_save_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(REGISTRY_FILE);
    std::fs::write(&path, "old").unwrap();
    let failed = write_atomically(&path, |_| Err(io::Error::other("disk full")));
    assert!(failed.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

proptest! {
    #[test]
    fn no_file_content_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = schema::read(bytes.as_slice(), &Registry::default(), None, Wall(0));
    }
}
