//! The registry as JSON: ours of all versions, the ancestor's, and damage.

use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::engine::{Kind, Name, Record};

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

fn content(registry: &Registry) -> Vec<(IpAddr, Option<Saved>)> {
    let mut addresses = registry.addresses();
    addresses.sort();
    addresses.into_iter().map(|address| (address, registry.saved(address))).collect()
}

/// Reads a text, and what became of it.
fn read(text: &str) -> (Registry, Result<u64, JsonError>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x.json");
    std::fs::write(&path, text).unwrap();
    let registry = Registry::default();
    let read = read_json(&path, Wall(50_000_000), |address, saved| {
        registry.restore(address, &saved);
    });
    (registry, read)
}

#[test]
fn what_is_exported_is_imported() {
    let registry = Registry::default();
    for (i, address) in ["203.0.113.9", "203.0.113.9", "2001:db8::1"].iter().enumerate() {
        registry.insert(&record(address, &format!("n{i}.example"), 100 + i as u64));
    }
    // A second asker of the same name must still be known elsewhere.
    let other =
        Record { client: Some(ip("172.17.0.3")), ..record("203.0.113.9", "n1.example", 103) };
    registry.insert(&other);
    let mut text = Vec::new();
    write_json(&mut text, &registry).unwrap();
    let text = String::from_utf8(text).unwrap();
    assert!(text.starts_with(r#"{"version":2,"#), "{text}");
    let (again, skipped) = read(&text);
    assert_eq!(skipped.unwrap(), 0);
    assert_eq!(content(&again), content(&registry));
}

#[test]
fn version_1_is_read() {
    let (registry, skipped) = read(
        r#"{"version":1,"addresses":{"203.0.113.9":[{"name":"a.example","first":1,"last":2,"kind":"reply"},
        {"name":"b.example","first":3,"last":4,"asker":"172.17.0.2","kind":"hosts","chain":["c.example"]},
        {"askers":["172.17.0.3"]}, 7]}}"#,
    );
    assert_eq!(skipped.unwrap(), 1, "the seven");
    let names = registry.names(ip("203.0.113.9"));
    assert_eq!(names.len(), 2);
    assert_eq!((names[0].name.as_str(), names[0].last), ("b.example", 4));
    let saved = registry.saved(ip("203.0.113.9")).unwrap();
    assert!(saved.askers.iter().any(|asker| asker.address == ip("172.17.0.3")), "{saved:?}");
}

#[test]
fn the_ancestors_file_is_read_and_its_rubbish_counted() {
    let (registry, skipped) = read(
        r#"{"140.82.121.4": ["GitHub.com", "api.github.com"], "999.1.1.1": ["x"], "1.2.3.4": [7, "ok.example", "no name"]}"#,
    );
    assert_eq!(skipped.unwrap(), 3);
    let names = registry.names(ip("140.82.121.4"));
    let mut texts: Vec<&str> = names.iter().map(|seen| seen.name.as_str()).collect();
    texts.sort_unstable();
    assert_eq!(texts, ["api.github.com", "github.com"]);
    assert_eq!((names[0].last, registry.len()), (50, 2));
}

#[test]
fn damage_is_told_and_what_stands_before_it_is_read() {
    for damage in ["", "{", "[]", "nonsense", r#"{"version":3,"addresses":{}}"#] {
        let error = read(damage).1.unwrap_err();
        assert!(matches!(error, JsonError::Damaged { .. }), "{damage}: {error}");
    }
    let row = r#"[{"name":"a.example","first":1,"last":2,"kind":"reply"}]"#;
    let text = format!(r#"{{"version":1,"addresses":{{"1.2.3.4":{row},"1.2.3.5":[{{"na"#);
    let (registry, read) = read(&text);
    assert!(read.is_err());
    assert_eq!(registry.names(ip("1.2.3.4")).len(), 1);
}

#[test]
fn a_failed_save_leaves_the_old_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, "old").unwrap();
    let failed = write_atomically(&path, |_| Err(io::Error::other("disk full")));
    assert!(failed.is_err());
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "old");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn no_more_is_kept_of_an_address_than_one_can_need() {
    let names: Vec<String> = (0..5_000).map(|n| format!(r#""n{n}.example""#)).collect();
    let askers = vec![r#"{"address":"172.17.0.2","last":1}"#; 5_000].join(",");
    let text = format!(
        r#"{{"203.0.113.9":[{}],"203.0.113.10":["a.example",{{"askers":[{askers}]}},"{}"],"203.0.113.11":["b.example"]}}"#,
        names.join(","),
        "x".repeat(100_000)
    );
    let mut kept = Vec::new();
    let skipped = json::read(text.as_bytes(), Wall(0), |_, saved| kept.push(saved)).unwrap();
    let counts: Vec<_> = kept.iter().map(|one| (one.names.len(), one.askers.len())).collect();
    assert_eq!(counts, [(512, 0), (1, 0), (1, 0)]);
    assert_eq!(skipped, 5_000 - 512 + 2, "what is not kept is told");
}

#[test]
fn a_link_where_the_new_file_is_written_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    std::fs::write(at("victim"), "kept").unwrap();
    std::os::unix::fs::symlink(at("victim"), at("file.new")).unwrap();
    write_atomically(&at("file"), |mut file| file.write_all(b"new")).unwrap();
    assert_eq!(std::fs::read_to_string(at("victim")).unwrap(), "kept");
    assert_eq!(std::fs::read_to_string(at("file")).unwrap(), "new");
    assert!(std::fs::symlink_metadata(at("file")).unwrap().is_file());
}

proptest! {
    #[test]
    fn no_json_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _ = json::read(bytes.as_slice(), Wall(0), |_, _| {});
    }
}
