//! Entries: what is one, what is not, and what the message says then.

use super::*;
use proptest::prelude::*;

fn entry(text: &str) -> Entry {
    text.parse().unwrap()
}

fn error(text: &str) -> String {
    text.parse::<Entry>().unwrap_err().to_string()
}

#[test]
fn addresses_networks_ranges_and_domains_are_read() {
    for text in [
        "192.0.2.1",
        "192.0.2.0/24",
        "192.0.2.1-192.0.2.9",
        "2001:db8::1",
        "2001:db8::/32",
        "2001:db8::1-2001:db8::9",
        "evil.example",
        "zip",
        "_dmarc.evil-1.example",
        "1.2.3.4.example",
    ] {
        assert_eq!(entry(text).to_string(), text);
    }
}

#[test]
fn two_ways_to_write_one_thing_are_equal() {
    for (a, b) in [
        ("10.0.0.0-10.255.255.255", "10.0.0.0/8"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("*.Evil.Example", "evil.example"),
        (".evil.example.", "evil.example"),
    ] {
        assert_eq!(entry(a), entry(b), "{a} and {b}");
    }
}

#[test]
fn what_is_no_entry_is_told_why() {
    assert!(error("10.0.0.1/8").contains("write 10.0.0.0/8"), "{}", error("10.0.0.1/8"));
    assert!(error("10.0.0.9-10.0.0.1").contains("write 10.0.0.1-10.0.0.9"));
    assert!(error("10.0.0.1-::1").contains("not of one family"));
    assert!(error("10.0.0.1-x").contains("`x` is not an IP address"));
    assert!(error("::ffff:192.0.2.1").contains("write the IPv4 address"));
    assert!(error("::ffff:192.0.2.0/120").contains("write the IPv4 address"));
    assert!(error("192.0.2.256").contains("last label is a number"));
    assert!(error("192.0.2").contains("last label is a number"));
    assert!(error(".").contains("root"));
    assert!(error("*.").contains("root"));
    assert!(error("*").contains("letters"));
    assert!(error("a..b").contains("empty label"));
    assert!(error("..a").contains("empty label"));
    assert!(error("a b").contains("letters"));
    assert!(error("b\u{fc}cher.example").contains("xn--"));
    assert!(error(&format!("{}.example", "a".repeat(64))).contains("63"));
    assert!(error(&"a.".repeat(200)).contains("longer"));
    assert!(error("").contains("no address"));
}

#[test]
fn single_addresses_are_known() {
    assert_eq!(entry("192.0.2.1").single(), Some("192.0.2.1".parse().unwrap()));
    assert_eq!(entry("192.0.2.0/31").single(), None);
    assert_eq!(entry("evil.example").single(), None);
}

proptest! {
    #[test]
    fn no_text_panics_and_messages_are_short(text in "\\PC{0,300}") {
        if let Err(error) = Entry::parse(&text) {
            prop_assert!(error.to_string().chars().count() < 300);
        }
    }

    #[test]
    fn what_is_shown_is_read_again(a: u128, b: u128, v4: bool) {
        let family = if v4 { Family::V4 } else { Family::V6 };
        let span = Span::new(a & family.highest(), b & family.highest());
        let shown = Entry::<Name>::Addresses(family, span).to_string();
        let mapped = matches!(family.address(span.first()), IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
        prop_assume!(!mapped);
        prop_assert_eq!(entry(&shown), Entry::Addresses(family, span));
    }
}
