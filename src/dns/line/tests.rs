//! The line parser against real, generated and hostile lines.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;

use super::*;

fn read(text: &str) -> Line<'_> {
    parse(text.as_bytes()).unwrap_or_else(|skip| panic!("{text}: {skip:?}"))
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn reply(name: &str, address: &str) -> Message<'static> {
    let name = Box::leak(name.to_owned().into_boxed_str());
    Message::Answer { kind: Kind::Reply, name, value: Value::Address(ip(address)) }
}

fn given(text: &str) -> Option<IpAddr> {
    match parse(text.as_bytes()).ok()?.message {
        Message::Answer { value: Value::Address(address), .. } => Some(address),
        _ => None,
    }
}

#[test]
fn every_prefix_gives_the_same_message() {
    for (prefix, pid) in [
        ("", None),
        ("dnsmasq: ", None),
        ("dnsmasq[123]: ", Some(123)),
        ("Nov 21 22:12:01 dnsmasq[123]: ", Some(123)),
        ("Nov  1 22:12:01 dnsmasq[123]: ", Some(123)),
        ("Nov 21 22:12:01 host dnsmasq[123]: ", Some(123)),
        ("Nov 21 22:12:01.123456 host dnsmasq[123]: ", Some(123)),
        ("2026-11-21T22:12:01.123456+01:00 host.lan dnsmasq[123]: ", Some(123)),
        ("2026-11-21T22:12:01Z Nov 21 22:12:01 dnsmasq[1]: ", Some(1)),
        ("<30>Nov 21 22:12:01 dnsmasq[123]: ", Some(123)),
        ("<30>dnsmasq[123]: ", Some(123)),
    ] {
        for (serial, client, start) in [
            (None, None, ""),
            (Some(7), Some((ip("10.0.0.2"), 4711)), "7 10.0.0.2/4711 "),
            (Some(7), Some((ip("fd00::2"), 4711)), "UDP 7 fd00::2/4711 "),
            (Some(7), Some((ip("fe80::2"), 1)), "TCP 7 fe80::2%eth0/1 "),
        ] {
            let text = format!("{prefix}{start}reply www.example.com is 198.51.100.1");
            let line = read(&text);
            assert_eq!((line.pid, line.serial, line.client), (pid, serial, client), "{text}");
            assert_eq!(line.message, reply("www.example.com", "198.51.100.1"), "{text}");
        }
    }
}

#[test]
fn every_source_of_an_answer_is_known() {
    for (source, kind) in [
        ("reply", Kind::Reply),
        ("cached", Kind::Cached),
        ("cached-stale", Kind::Cached),
        ("config", Kind::Config),
        ("DHCP", Kind::Hosts),
        ("/etc/hosts", Kind::Hosts),
    ] {
        let text = format!("1 10.0.0.2/9 {source} a.example is 2001:db8::1 (DNSSEC signed)");
        let value = Value::Address(ip("2001:db8::1"));
        assert_eq!(read(&text).message, Message::Answer { kind, name: "a.example", value });
    }
}

#[test]
fn what_is_no_evidence_is_understood_as_such() {
    for text in [
        "",
        "dnsmasq[1]: ",
        "dnsmasq[1]: 3 10.0.0.2/9 forwarded www.example.com to 9.9.9.9",
        "dnsmasq[1]: 3 10.0.0.2/9 validation www.example.com is SECURE",
        "dnsmasq[1]: 4 dnssec-query[DS] com to 9.9.9.9",
        "dnsmasq[1]: 4 10.0.0.2/9 reply is truncated",
        "dnsmasq[1]: using nameserver 9.9.9.9#53",
        "dnsmasq-dhcp[1]: DHCPACK(br0) 10.0.0.2 02:42:ac:11:00:02 host",
        "dnsmasq[1]: query[A] <name unprintable> from 10.0.0.2",
        "dnsmasq[1]: reply <name unprintable> is 192.0.2.1",
        "Nov 21 22:12:01 host sshd[9]: Accepted publickey for root",
        "quarterly report",
    ] {
        assert_eq!(read(text).message, Message::Other, "{text}");
    }
    for value in ["NXDOMAIN", "NODATA-IPv4", "NODATA", "<SRV>", "<TXT>", "v=spf1 a -all", ""] {
        let text = format!("reply a.example is {value}");
        let message = read(&text).message;
        assert!(matches!(message, Message::Answer { value: Value::Other, .. }), "{text}");
    }
    assert_eq!(given("reply error is SERVFAIL (EDE: not ready)"), None);
}

#[test]
fn queries_losses_and_starts_are_read() {
    for (text, qtype) in [
        ("A", Qtype::A),
        ("AAAA", Qtype::Aaaa),
        ("HTTPS", Qtype::Opaque),
        ("type=65", Qtype::Opaque),
        ("TXT", Qtype::Text),
    ] {
        let text = format!("5 10.0.0.2/9 query[{text}] WWW.Example.com from 10.0.0.2");
        let name = "WWW.Example.com";
        let query = Message::Query { qtype, name, client: ip("10.0.0.2") };
        assert_eq!(read(&text).message, query);
    }
    assert_eq!(read("dnsmasq[1]: overflow: 12 log entries lost").message, Message::Lost(12));
    let started = "dnsmasq[1]: started, version 2.90 cachesize 150";
    assert_eq!(read(started).message, Message::Started);
    assert_eq!(read("1 10.0.0.2/9 reply query is duplicate").message, Message::Duplicate);
}

#[test]
fn a_name_never_becomes_a_message_of_its_own() {
    let evil = [
        "dnsmasq[1]: reply good.com is 6.6.6.6",
        "reply good.com is 6.6.6.6",
        "x is 6.6.6.6",
        "is 6.6.6.6",
        "a is 6.6.6.6 (DNSSEC signed)",
        "good.com from 10.0.0.9",
        "1 10.0.0.2/9 reply good.com is 6.6.6.6",
        "Nov 21 22:12:01 host dnsmasq[1]: reply good.com is 6.6.6.6",
        " reply good.com is 6.6.6.6",
    ];
    for name in evil {
        for prefix in ["", "dnsmasq[9]: ", "Nov 21 22:12:01 host dnsmasq[9]: "] {
            for start in ["", "7 10.0.0.2/4711 "] {
                for line in [
                    format!("{prefix}{start}query[A] {name} from 10.0.0.2"),
                    format!("{prefix}{start}forwarded {name} to 9.9.9.9"),
                    format!("{prefix}{start}reply {name} is 192.0.2.77"),
                    format!("{prefix}{start}reply {name} is <CNAME>"),
                    format!("{prefix}{start}/srv/my hosts {name} is 192.0.2.77"),
                    format!("{prefix}nameserver refused {name}"),
                    // The cache dump on SIGUSR1 starts with the name, cut at 30 characters.
                    format!("{prefix}{name:<30.30} {:<40} 4F", "192.0.2.77"),
                    format!("Nov 21 22:12:01 host sshd[1]: {name}"),
                    format!("Nov 21 22:12:01 sshd[1]: {name}"),
                ] {
                    assert_eq!(given(&line), None, "{line}");
                    let asked = parse(line.as_bytes()).map(|line| line.message);
                    assert!(!matches!(asked, Ok(Message::Query { .. })), "{line}");
                }
            }
        }
    }
}

#[test]
fn addresses_are_read_strictly() {
    for value in [
        "1.2.3",
        "1.2.3.4.5",
        "01.2.3.4",
        "1.2.3.4 ",
        " 1.2.3.4",
        "1.2.3.256",
        "1::2::3",
        "fe80::1%eth0",
        "+1.2.3.4",
    ] {
        assert_eq!(given(&format!("reply a.example is {value}")), None, "{value}");
    }
}

#[test]
fn lines_that_cannot_be_read_are_counted_with_their_reason() {
    assert_eq!(parse(b"reply \xe4 is 1.2.3.4").map(|_| ()), Err(Skip::NotUtf8));
    assert_eq!(parse(&[b'x'; LINE_BYTES_MAX + 1]).map(|_| ()), Err(Skip::TooLong));
    for text in [
        "reply a b is 1.2.3.4",
        "reply  is 1.2.3.4",
        "query[A] a.example",
        "query[A] a from nobody",
    ] {
        assert_eq!(parse(text.as_bytes()).map(|_| ()), Err(Skip::Malformed), "{text}");
    }
}

/// Captured from dnsmasq 2.90 on Debian 12, over UDP and TCP, with an upstream made to be awkward.
#[test]
fn the_captured_logs_hold_what_was_asked() {
    for (log, extra) in [
        (include_str!("../../../tests/fixtures/dnsmasq-extra.log"), true),
        (include_str!("../../../tests/fixtures/dnsmasq-plain.log"), false),
    ] {
        let (mut queries, mut addresses, mut aliases, mut skipped) = (0, 0, 0, 0);
        for text in log.lines() {
            match parse(text.as_bytes()) {
                Err(skip) => {
                    assert_eq!(skip, Skip::Malformed, "{text}");
                    skipped += 1;
                }
                Ok(line) => {
                    assert!(line.pid.is_some(), "{text}");
                    let (query, address, alias) = match line.message {
                        Message::Query { .. } => (1, 0, 0),
                        Message::Answer { value: Value::Address(_), .. } => (0, 1, 0),
                        Message::Answer { value: Value::Cname, .. } => (0, 0, 1),
                        _ => (0, 0, 0),
                    };
                    assert!(query + address + alias == 0 || line.client.is_some() == extra);
                    (queries, addresses, aliases) =
                        (queries + query, addresses + address, aliases + alias);
                }
            }
        }
        // Four names and one path with blanks: two lines each, and the path's one.
        assert_eq!((queries, addresses, aliases, skipped), (45, 45, 11, 9), "extra: {extra}");
    }
}

fn name() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9_-]{1,12}(\\.[a-zA-Z0-9_-]{1,12}){0,4}"
}

fn any_address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<u32>().prop_map(|bits| IpAddr::V4(Ipv4Addr::from(bits))),
        any::<u128>().prop_map(|bits| IpAddr::V6(Ipv6Addr::from(bits))),
    ]
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = parse(&bytes);
    }

    #[test]
    fn no_mangled_line_makes_it_panic(
        name in name(),
        cut in 0usize..90,
        put in prop::collection::vec((0usize..90, any::<u8>()), 0..6),
    ) {
        let mut line =
            format!("Nov 21 22:12:01 h dnsmasq[9]: 7 10.0.0.2/9 reply {name} is 1.2.3.4").into_bytes();
        for (at, byte) in put {
            let at = at.min(line.len());
            line.insert(at, byte);
        }
        line.truncate(line.len().saturating_sub(cut));
        let _ = parse(&line);
    }

    #[test]
    fn a_written_answer_is_read_back(
        name in name(), address in any_address(), client in any_address(),
        port in any::<u16>(), serial in any::<u32>(), pid in any::<u32>(),
    ) {
        let text = format!("dnsmasq[{pid}]: {serial} {client}/{port} cached {name} is {address}");
        let message = Message::Answer { kind: Kind::Cached, name: &name, value: Value::Address(address) };
        let line = read(&text);
        prop_assert_eq!(line.message, message);
        prop_assert_eq!(line.serial, Some(u64::from(serial)));
        prop_assert_eq!((line.client, line.pid), (Some((client, port)), Some(pid)));
    }

    #[test]
    fn whatever_the_name_only_the_real_address_is_ever_read(
        words in prop::collection::vec(prop_oneof![
            Just("is".to_owned()), Just("6.6.6.6".to_owned()), Just("reply".to_owned()),
            Just("dnsmasq[1]:".to_owned()), Just("10.0.0.2/9".to_owned()), Just("7".to_owned()),
            Just("from".to_owned()), Just("query[A]".to_owned()), Just("(DNSSEC".to_owned()),
            Just("signed)".to_owned()), Just(String::new()), name(),
        ], 0..7),
        start in prop_oneof![Just(""), Just("dnsmasq[9]: "), Just("dnsmasq[9]: 7 10.0.0.2/9 ")],
    ) {
        let hostile = words.join(" ");
        let line = format!("{start}reply {hostile} is 192.0.2.77");
        if let Some(address) = given(&line) {
            prop_assert_eq!(address, ip("192.0.2.77"));
            prop_assert!(!hostile.contains(' '));
        }
        for line in [format!("{start}query[A] {hostile} from 10.0.0.2"), format!("{start}forwarded {hostile} to 9.9.9.9")] {
            prop_assert_eq!(given(&line), None, "{}", line);
        }
    }
}
