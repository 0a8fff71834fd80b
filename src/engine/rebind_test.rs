//! Tests of rebinding: which names and addresses, and what is left alone.

use super::*;
use crate::engine::record::Kind;
use crate::engine::time::Wall;

fn record(name: &str, address: &str, kind: Kind) -> Record {
    Record {
        address: address.parse().unwrap(),
        name: Name::new(name).unwrap(),
        client: None,
        kind,
        chain: vec![],
        time: Wall(0),
    }
}

fn rebinding() -> Rebinding {
    Rebinding {
        own: vec!["203.0.113.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
        local_domains: [Name::new("corp.example").unwrap()].into_iter().collect(),
    }
}

fn check(name: &str, address: &str) -> Option<Inside> {
    rebinding().check(&record(name, address, Kind::Reply))
}

#[test]
fn every_sort_of_address_is_told_apart() {
    let sorts = [
        (
            Inside::Private,
            "10.0.0.1 172.16.0.1 172.31.255.255 192.168.1.1 100.64.0.1 fc00::1 fdff::1",
        ),
        (Inside::Private, "::ffff:10.0.0.1 64:ff9b::10.0.0.1 64:ff9b::c0a8:101"),
        (Inside::Loopback, "127.0.0.1 127.255.0.1 ::1 ::ffff:127.0.0.1 64:ff9b::7f00:1"),
        (Inside::LinkLocal, "169.254.0.1 fe80::1 febf::1"),
        (Inside::Metadata, "169.254.169.254 100.100.100.200 fd00:ec2::254 ::ffff:169.254.169.254"),
        (Inside::Metadata, "64:ff9b::a9fe:a9fe"),
        (Inside::Own, "203.0.113.7 2001:db8::7 ::ffff:203.0.113.7 64:ff9b::cb00:7107"),
        (Inside::Nowhere, "0.1.2.3 224.0.0.1 239.1.2.3 255.255.255.255 ff02::1"),
        (Inside::Blocked, "0.0.0.0 :: ::ffff:0.0.0.0"),
    ];
    for (inside, addresses) in sorts {
        for address in addresses.split(' ') {
            assert_eq!(check("www.evil.example", address), Some(inside), "{address}");
        }
    }
    let public = "8.8.8.8 9.255.255.255 11.0.0.0 172.15.0.1 172.32.0.1 192.169.0.1 100.63.0.1 100.128.0.1 \
        2606:4700::1111 fec0::1 64:ff9b::808:808 203.0.113.8 169.253.0.1 240.0.0.1 ::2";
    for address in public.split_whitespace() {
        assert_eq!(check("www.evil.example", address), None, "{address}");
    }
}

#[test]
fn names_that_are_not_public_may_answer_with_anything() {
    for name in [
        "printer",
        "printer.local",
        "nas.lan",
        "nas.home.arpa",
        "home.arpa",
        "vm.internal",
        "a.test",
        "db.corp",
        "x.corp.example",
        "corp.example",
        "fritz.box",
        "node.tailnet.ts.net",
        "localhost",
        "a.b.localdomain",
    ] {
        assert_eq!(check(name, "192.168.1.1"), None, "{name}");
    }
    for name in
        ["evil.com", "local.evil.com", "lan.example", "xcorp.example", "nothome.arpa", "xts.net"]
    {
        assert_eq!(check(name, "192.168.1.1"), Some(Inside::Private), "{name}");
    }
}

#[test]
fn what_this_host_says_itself_is_meant() {
    for kind in [Kind::Hosts, Kind::Config] {
        let record = record("www.evil.example", "10.0.0.1", kind);
        assert_eq!(rebinding().check(&record), None);
    }
    let cached = record("www.evil.example", "10.0.0.1", Kind::Cached);
    assert_eq!(rebinding().check(&cached), Some(Inside::Private));
}

#[test]
fn blocklists_are_no_attack() {
    assert_eq!(check("2.0.0.127.zen.rbl.example", "127.0.0.2"), Some(Inside::Listed));
    let nibbles = "1.0.0.0.".repeat(8);
    assert_eq!(check(&format!("{nibbles}zen.rbl.example"), "127.0.0.2"), Some(Inside::Listed));
    for name in
        ["0.0.127.zen.example", "2.0.0.300.zen.example", "2.0.0.127.example", "a.zen.example"]
    {
        assert_eq!(check(name, "127.0.0.2"), Some(Inside::Loopback), "{name}");
    }
    assert_eq!(check("2.0.0.127.zen.rbl.example", "10.0.0.2"), Some(Inside::Private));
    let quiet = Inside::ALL.into_iter().filter(|inside| !inside.is_alarming());
    assert_eq!(quiet.collect::<Vec<_>>(), [Inside::Blocked, Inside::Listed]);
}
