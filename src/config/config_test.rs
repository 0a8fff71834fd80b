//! The file, the command line over it, and values that cannot be.

use clap::Args as _;

use super::file::parse;
use super::*;
use crate::engine::{EvidenceRules, OnUnhealthy, Scope, Weight};

fn options(text: &str) -> Options {
    parse(text).unwrap()
}

fn resolved(text: &str) -> Result<Config> {
    let given = parse(text)?;
    let evidence = given.evidence.clone().resolve()?;
    resolve(
        given.daemon.clone(),
        resolve_rules(&given.rules)?,
        evidence,
        given.desk.clone().resolve()?,
    )
}

#[test]
fn an_unknown_key_is_an_error_that_lists_the_keys() {
    let error = parse("hold_ms = 5").unwrap_err().to_string();
    assert!(error.contains("\"hold_ms\"") && error.contains("hold-ms"), "{error}");
}

#[test]
fn every_flag_of_run_is_a_key_of_the_file() {
    let text = r#"
        container-net = ["10.1.0.0/16", "fd00:1::/64"]
        queue-num = 7
        queues = 2
        fail = "open"
        refuse = "drop"
        dry-run = false
        dns-redirect = "10.1.0.53,fd00:1::53"
        refuse-dot = true
        refuse-doh = true
        local-policy = "judge"
        auto-block = "container"
        auto-block-for = "12h"
        auto-block-forgive = true
        state-dir = "/tmp/x"
        dns-source = ["file:/var/log/dnsmasq.log"]
        hold-ms = 500
        hold-budget = 9
        scope = "container"
        dns-listen = ["10.1.0.1"]
        dns-upstream = ["192.0.2.53"]
        memory-only = true
        no-docker = true
        trust-labels = true
        allow-spoofing = true
        keep-rules = true
        events = "/tmp/e"
        log-format = "json"
        on-unhealthy = "hold"
        learn = "24h"
        hold-fixed = true
        local-domain = ["corp.example"]
        registry-size = 5000
        registry-max-age = "180d"
        evidence-max-age = "30d"
        evidence-refresh = true
        evidence-stale = "refuse"
        evidence-static = "refuse"
        evidence-grace = "1m"
        control-group = "operators"
        metrics = "127.0.0.1:9999"
        canary = "off"
        opensnitch-db = "/tmp/opensnitch.sqlite3"
    "#;
    let command = Options::augment_args(clap::Command::new("run"));
    for flag in command.get_arguments().filter_map(clap::Arg::get_long) {
        assert!(text.contains(&format!("{flag} =")), "{flag} is not tried here");
    }
    let config = resolved(text).unwrap();
    assert_eq!(
        (config.rules.queue_num, config.rules.queues, config.rules.posture),
        (7, 2, Posture::Open)
    );
    assert_eq!((config.engine.scope, config.engine.bounds.budget), (Scope::Container, 9));
    assert!(config.docker.is_none() && config.policies.trust_labels);
    assert!(config.rules.allow_spoofing);
    assert_eq!(config.engine.bounds.hold, Duration::from_millis(500));
    assert!(config.memory_only && config.keep_rules);
    let wanted = EvidenceRules {
        max_age: Some(Duration::from_secs(30 * 86_400)),
        refresh: true,
        stale: Weight::Refuse,
        fixed: Weight::Refuse,
        on_unhealthy: Some(OnUnhealthy::Hold),
        grace: Duration::from_secs(60),
        adaptive: false,
    };
    assert_eq!(config.engine.evidence, wanted);
    let evidence = &config.evidence;
    assert_eq!((evidence.size, evidence.learn), (5_000, Duration::from_secs(86_400)));
    assert_eq!(evidence.keep, Some(Duration::from_secs(180 * 86_400)));
    assert_eq!(evidence.local_domains.len(), 1);
    let (v4, v6) = (Some([10, 1, 0, 53].into()), Some("fd00:1::53".parse().unwrap()));
    assert_eq!(config.rules.dns_redirect, DnsRedirect::To { v4, v6 });
    assert_eq!(config.rules.local_policy, LocalPolicy::Judge);
    assert!(config.rules.refuse_dot && config.refuse_doh && config.auto_block_forgive);
    assert_eq!(config.auto_block, AutoBlock::Container);
    assert_eq!(config.auto_block_for, Duration::from_secs(12 * 60 * 60));
    let kernel = config.rules.options(QueueVia::Native);
    assert_eq!(
        (kernel.dns_redirect, kernel.refuse_dot, kernel.local_policy),
        (config.rules.dns_redirect, true, LocalPolicy::Judge)
    );
    assert_eq!(config.log_format, LogFormat::Json);
    let wanted = DeskConfig {
        control_group: Group::Named("operators".to_owned()),
        metrics: Some("127.0.0.1:9999".parse().unwrap()),
        canary: false,
        opensnitch_db: "/tmp/opensnitch.sqlite3".into(),
    };
    assert_eq!(config.desk, wanted);
}

#[test]
fn a_table_holds_the_keys_that_begin_with_its_name() {
    let config = resolved(
        "fail = \"open\"\n\
         [dns]\nredirect = \"gateway\"\nlisten = [\"10.1.0.1\"]\n\
         [auto]\nblock-for = \"2h\"\n\
         [hold]\nms = 300",
    );
    let config = config.unwrap();
    assert_eq!(config.rules.dns_redirect, DnsRedirect::Gateway);
    assert_eq!(config.dnsmasq.listen, [("10.1.0.1".parse().unwrap(), 53)]);
    assert_eq!(config.auto_block_for, Duration::from_secs(7_200));
    assert_eq!(config.engine.bounds.hold, Duration::from_millis(300));
    for (text, says) in [
        ("[dns]\nredirct = \"off\"", "unknown key \"dns-redirct\""),
        ("[dns.redirect]\nto = \"off\"", "expected a string"),
        ("dns-redirect = \"off\"\n[dns]\nredirect = \"off\"", "\"dns-redirect\" is there twice"),
        ("[[dns]]\nredirect = \"off\"", "unknown key \"dns\""),
        ("alerts = []", "and the sections [[feed]], [[container]] and [[alert]]"),
    ] {
        let error = format!("{:#}", resolved(text).unwrap_err());
        assert!(error.contains(says) && error.lines().count() == 1, "{text}: {error}");
    }
}

#[test]
fn the_command_line_goes_before_the_file() {
    let given = options("hold-ms = 100\ncontainer-net = [\"10.9.0.0/16\"]");
    let file = options("hold-ms = 200\nqueue-num = 3\ncontainer-net = [\"10.8.0.0/16\"]");
    let daemon = given.daemon.or(file.daemon);
    let rules = given.rules.or(file.rules);
    assert_eq!((daemon.hold_ms, rules.queue_num), (Some(100), Some(3)));
    assert_eq!(rules.container_net, ["10.9.0.0/16"]);
}

#[test]
fn a_dry_run_always_fails_open() {
    assert_eq!(resolved("dry-run = true\nfail = \"closed\"").unwrap().rules.posture, Posture::Open);
    assert_eq!(resolved("").unwrap().rules.posture, Posture::Closed);
}

#[test]
fn values_that_cannot_be_are_refused_in_one_line() {
    for (text, says) in [
        ("hold-ms = 1000", "--hold-ms"),
        ("hold-ms = 0", "--hold-ms"),
        ("hold-budget = 0", "--hold-budget"),
        ("queues = 0", "--queues"),
        ("queue-num = 65535\nqueues = 2", "65535"),
        ("container-net = [\"10.0.0.1/8\"]", "--container-net 10.0.0.1/8"),
        ("dns-source = [\"docker:/dns\"]", "names no container"),
        ("dns-source = [\"http:x\"]", "--dns-source http:x"),
        ("fail = \"maybe\"", "maybe"),
        ("dns-redirect = \"here\"", "--dns-redirect here: write off, gateway"),
        ("local-policy = \"deny\"", "deny"),
        ("auto-block = \"all\"", "all"),
        ("auto-block-for = \"10s\"", "--auto-block-for: it must be between one minute"),
    ] {
        let error = format!("{:#}", resolved(text).unwrap_err());
        assert!(error.contains(says), "{text}: {error}");
    }
}

#[test]
fn without_named_networks_bridges_and_dockers_pool_are_judged() {
    let on = |interface: &str, address: &str, prefix| InterfaceAddress {
        interface: interface.to_owned(),
        address: address.parse().unwrap(),
        prefix,
    };
    let host = [
        on("docker0", "172.17.0.1", 16),
        on("br-123456789abc", "10.4.0.1", 24),
        on("br-123456789abc", "fd00:4::1", 64),
        on("br-123456789abc", "fe80::1", 64),
        on("eth0", "198.51.100.2", 24),
    ];
    let nets: Vec<String> = found(&host).unwrap().iter().map(ToString::to_string).collect();
    assert_eq!(nets, ["172.16.0.0/12", "10.4.0.0/24", "fd00:4::/64"]);
}

#[test]
fn our_own_dnsmasq_does_not_listen_on_an_uplink() {
    let on = |interface: &str, address: &str| InterfaceAddress {
        interface: interface.to_owned(),
        address: address.parse().unwrap(),
        prefix: 16,
    };
    // As in a cloud's default network, the uplink's address lies in the pool Docker takes its networks from.
    let host =
        vec![on("eth0", "172.31.5.7"), on("docker0", "172.17.0.1"), on("br-lan", "10.0.0.1")];
    let mut rules = resolve_rules(&RuleOptions::default()).unwrap();
    (rules.containers, rules.host) = (found(&host).unwrap(), host);
    let config = dnsmasq(&[], vec![], &rules).unwrap();
    assert_eq!(config.listen, [("172.17.0.1".parse().unwrap(), 53)]);
    assert_eq!(config.interfaces, ["docker0", "podman*", "cni*"], "br-lan is not Docker's");
    // Named networks are the user's word.
    rules.containers_named = true;
    assert_eq!(dnsmasq(&[], vec![], &rules).unwrap().listen.len(), 2);
}

#[test]
fn a_broken_file_is_told_in_one_line() {
    for (text, line) in [("a = 1\nhold-ms = ", "line 2"), ("hold-ms = \"x\"", "invalid type")] {
        let error = format!("{:#}", resolved(text).unwrap_err());
        assert!(error.lines().count() == 1 && error.contains(line), "{error}");
    }
}

#[test]
fn container_sections_are_read_in_order_and_checked() {
    let config = parse(
        r#"
        [[container]]
        name = "web-*"
        mode = "dry-run"
        hold-ms = 100
        allow = ["198.51.100.0/24", "a.example"]
        [[container]]
        image = "nginx*"
        scope = "container"
        refuse = "drop"
    "#,
    );
    let sections = config.unwrap().containers;
    assert_eq!(sections.len(), 2);
    assert_eq!(sections[0].wish.allow.len(), 2);
    assert_eq!(sections[1].wish.scope, Some(Scope::Container));
    for (wrong, part) in [
        ("mode = \"off\"", "needs `name` or `image`"),
        ("name = \"\"", "empty pattern"),
        ("name = \"a\"\nmode = \"on\"", "`on` is not one of"),
        ("name = \"a\"\nhold-ms = 1000", "between 1 and"),
        ("name = \"a\"\ncolour = \"blue\"", "unknown field"),
        ("name = \"a\"\nallow = [\"10.0.0\"]", "neither an address"),
    ] {
        let error = format!("{:#}", parse(&format!("[[container]]\n{wrong}")).unwrap_err());
        assert!(error.contains("container") && error.contains(part), "{wrong}: {error}");
        assert!(!error.contains('\n'), "{error}");
    }
    let error = parse("[container]\nname = \"a\"").unwrap_err().to_string();
    assert!(error.contains("two brackets"), "{error}");
}

#[test]
fn alert_sections_are_checked_without_a_look_at_their_files() {
    let keys = "url = \"https://a.example/\"\nsecret-file = \"/nowhere\"";
    let parsed = parse(&format!("[[alert]]\nkind = \"webhook\"\n{keys}"));
    assert_eq!(parsed.unwrap().alerts[0].name, "webhook");
    let error = format!("{:#}", parse("[[alert]]\nkind = \"pigeon\"").unwrap_err());
    assert!(error.starts_with("[[alert]] number 1: there is no kind"), "{error}");
    let error = parse("[alert]\nkind = \"syslog\"").unwrap_err().to_string();
    assert!(error.contains("two brackets"), "{error}");
}

#[test]
fn a_file_that_was_read_is_not_gone_without_a_word() {
    let folder = tempfile::tempdir().unwrap();
    let default = folder.path().join("synhold.toml");
    let config = load_or(None, &default, Options::default()).unwrap();
    assert_eq!((config.alerts.len(), config.read), (0, None), "it need not be there");
    std::fs::write(&default, "[[alert]]\nkind = \"syslog\"").unwrap();
    let config = load_or(None, &default, Options::default()).unwrap();
    assert_eq!((config.alerts.len(), &config.file), (1, &None));
    let again = load_sections(&config, config.read.as_deref()).unwrap();
    assert_eq!((again.alerts.len(), &again.read), (1, &config.read));
    std::fs::remove_file(&default).unwrap();
    let error = load_sections(&config, again.read.as_deref()).unwrap_err().to_string();
    assert!(error.starts_with("cannot read "), "{error}");
}

#[test]
fn a_word_that_should_be_sections_of_alerts_is_not_shown() {
    for wrong in [
        "alert = \"https://a.example/T0K3N\"",
        "alert = [\"https://a.example/T0K3N\"]",
        "alert = [[\"https://a.example/T0K3N\"]]",
        "alert = https://a.example/T0K3N",
        "[[alert]]\nurl = https://a.example/T0K3N",
        "[[alert]]\nurl = \"https://a.example/T0K3N",
    ] {
        let error = format!("{:#}", parse(wrong).unwrap_err());
        assert!(!error.contains("T0K3N") && !error.contains('\n'), "{error}");
        assert!(error.contains("[[alert]]") || error.starts_with("line "), "{error}");
    }
}

#[test]
fn a_containers_log_is_a_source_and_needs_the_engine() {
    let config = resolved("dns-source = [\"docker:resolver\", \"stdin\", \"docker:two\"]").unwrap();
    assert_eq!(config.resolver_containers(), ["resolver", "two"]);
    let error = resolved("dns-source = [\"docker:resolver\"]\nno-docker = true").unwrap_err();
    assert!(format!("{error:#}").contains("--no-docker"), "{error:#}");
}
