//! Tests of policies: whose word counts, and that labels only loosen where they are trusted.

use proptest::prelude::*;

use super::*;
use crate::engine::container::NetworkMode;
use crate::engine::wish::WishError;

fn container(name: &str, image: &str, labels: &[(&str, &str)]) -> Container {
    Container {
        id: "0123456789abcdef".into(),
        name: name.into(),
        image: image.into(),
        labels: labels.iter().map(|(k, v)| (format!("synhold.{k}"), (*v).to_owned())).collect(),
        network: NetworkMode::Own,
        running: true,
        endpoints: vec![],
    }
}

fn policies(mode: Mode, trust_labels: bool, sections: Vec<Section>) -> Policies {
    let settings = Settings { mode, ..Settings::default() };
    Policies { trust_labels, sections, ..Policies::new(&settings, Refusal::Reset) }
}

fn section(name: Option<&str>, image: Option<&str>, wishes: &[(&str, &str)]) -> Section {
    let mut wish = Wish::default();
    for (key, value) in wishes {
        wish.set(key, value).unwrap();
    }
    let (name, image) = (name.map(Pattern::new), image.map(Pattern::new));
    Section { name, image, wish, origin: "section".to_owned(), is_final: false }
}

#[test]
fn labels_tighten_always_and_loosen_only_where_they_are_trusted() {
    for (label, value, loosens) in [
        ("mode", "off", true),
        ("mode", "dry-run", true),
        ("mode", "enforce", false),
        ("scope", "container", false),
        ("scope", "global", false),
        ("allow", "203.0.113.0/24", true),
        ("refuse", "drop", false),
        ("hold-ms", "900", false),
    ] {
        let asking = container("web", "nginx", &[(label, value)]);
        for trust in [false, true] {
            let policies = policies(Mode::Enforce, trust, vec![]);
            let policy = policies.of(&asking);
            let followed = policy.origins.values().any(|from| from.contains("label"));
            assert_eq!(followed, trust || !loosens, "{label}={value}, trusted {trust}");
            assert_eq!(policy.faults.is_empty(), followed, "{:?}", policy.faults);
        }
    }
    let strict = section(Some("web"), None, &[("scope", "container"), ("mode", "dry-run")]);
    let policies = policies(Mode::Enforce, false, vec![strict]);
    let policy = policies.of(&container("web", "", &[("scope", "global"), ("mode", "enforce")]));
    assert_eq!(policy.scope, Scope::Container, "the operator's word is loosened by nobody");
    assert_eq!(policy.mode, Treatment::Enforce, "to be stricter with itself is anybody's right");
}

#[test]
fn the_first_section_that_fits_counts() {
    let sections = vec![
        section(Some("web-*"), Some("nginx*"), &[("mode", "off")]),
        section(None, Some("nginx:*"), &[("mode", "dry-run"), ("hold-ms", "100")]),
        section(Some("*"), None, &[("refuse", "drop"), ("allow", "10.0.0.1,*.a.example")]),
    ];
    let policies = policies(Mode::Enforce, false, sections);
    let of = |name, image| policies.of(&container(name, image, &[]));
    assert_eq!(of("web-1", "nginx:1").mode, Treatment::Off);
    assert_eq!(of("api", "nginx:1").mode, Treatment::DryRun);
    assert_eq!(of("api", "nginx:1").hold, Duration::from_millis(100));
    let other = of("web-1", "apache");
    assert_eq!((other.mode, other.refuse), (Treatment::Enforce, Refusal::Drop));
    let allow = other.allow.unwrap();
    assert!(allow.has_address("10.0.0.1".parse().unwrap()));
    assert!(!allow.has_address("10.0.0.2".parse().unwrap()));
    assert_eq!(allow.names.iter().map(|name| name.as_str()).collect::<Vec<_>>(), ["a.example"]);
}

#[test]
fn vpn_containers_are_left_alone_by_the_beginning_of_their_name() {
    let policies =
        policies(Mode::Enforce, false, vec![section(Some("vpn-*"), None, &[("mode", "off")])]);
    for name in ["vpn-openvpn-1", "vpn-vpn-openvpn-1", "vpn-vpn-openvpn-backup"] {
        assert_eq!(policies.of(&container(name, "", &[])).mode, Treatment::Off, "{name}");
    }
    for name in ["vpn", "myvpn-1", "web"] {
        assert_eq!(policies.of(&container(name, "", &[])).mode, Treatment::Enforce, "{name}");
    }
}

#[test]
fn a_final_section_listens_to_no_label() {
    let resolver = Section { is_final: true, ..section(Some("dns"), None, &[("mode", "off")]) };
    let policies = policies(Mode::Enforce, true, vec![resolver]);
    let policy = policies.of(&container("dns", "", &[("mode", "enforce")]));
    assert_eq!(policy.mode, Treatment::Off);
    assert_eq!(policy.faults.len(), 1);
}

#[test]
fn a_dry_run_refuses_nobody_whatever_anybody_asks_for() {
    let policies =
        policies(Mode::DryRun, true, vec![section(Some("a"), None, &[("mode", "enforce")])]);
    for asking in [container("a", "", &[]), container("b", "", &[("mode", "enforce")])] {
        let policy = policies.of(&asking);
        assert_eq!((policy.mode, policy.faults.len()), (Treatment::DryRun, 1));
    }
}

#[test]
fn what_is_allowed_by_section_and_label_adds_up() {
    let sections = vec![section(Some("*"), None, &[("allow", "10.0.0.1")])];
    let policies = policies(Mode::Enforce, true, sections);
    let policy = policies.of(&container("web", "", &[("allow", "10.0.0.2, b.example")]));
    let allow = policy.allow.unwrap();
    assert!(["10.0.0.1", "10.0.0.2"].iter().all(|ip| allow.has_address(ip.parse().unwrap())));
    assert_eq!(allow.names.len(), 1);
}

#[test]
fn a_label_that_cannot_be_is_told_and_changes_nothing() {
    let policies = policies(Mode::Enforce, true, vec![]);
    for (key, value) in [
        ("mode", "on"),
        ("mode", ""),
        ("scope", "mine"),
        ("refuse", "reject"),
        ("hold-ms", "0"),
        ("hold-ms", "1000"),
        ("hold-ms", "-1"),
        ("allow", "10.0.0.0/33"),
        ("allow", "10.0.0"),
        ("allow", "a b"),
        ("allow", "a..b"),
        ("colour", "blue"),
    ] {
        let policy = policies.of(&container("web", "", &[(key, value)]));
        assert_eq!(policy.faults.len(), 1, "{key}={value}");
        assert!(policy.faults[0].contains(&format!("synhold.{key}")), "{:?}", policy.faults);
        assert_eq!(Policy { faults: vec![], ..policy }, policies.base, "{key}={value}");
    }
    let many = vec!["10.0.0.1"; 257].join(",");
    assert_eq!(Wish::default().set("allow", &many), Err(WishError::TooMany));
}

proptest! {
    #[test]
    fn a_pattern_fits_what_a_naive_matcher_says(pattern in "[ab*]{0,6}", text in "[ab]{0,7}") {
        fn naive(pattern: &[u8], text: &[u8]) -> bool {
            match pattern.split_first() {
                None => text.is_empty(),
                Some((b'*', rest)) => (0..=text.len()).any(|from| naive(rest, &text[from..])),
                Some((c, rest)) => text.split_first().is_some_and(|(t, left)| t == c && naive(rest, left)),
            }
        }
        let wanted = naive(pattern.as_bytes(), text.as_bytes());
        prop_assert_eq!(Pattern::new(pattern).fits(&text), wanted);
    }

    #[test]
    fn no_label_makes_us_panic_or_tell_much(key in "\\PC{0,20}", value in "\\PC{0,300}") {
        let asking = container("web", "", &[(&key, &value)]);
        for fault in policies(Mode::Enforce, false, vec![]).of(&asking).faults {
            prop_assert!(fault.chars().count() < 250 && !fault.contains(char::is_control));
        }
    }
}
