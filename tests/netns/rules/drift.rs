//! What somebody else did to our table: named, and repaired where that costs no queued packet.

use std::process::Command;

use synhold::nftables::{
    Change, Drift, Error, Options, QueueVia, Ruleset, apply, check, probe, read, remove, render,
};

use super::{assert_drift, handle_of, in_netns, install, nft, nft_load, options, run};

#[test]
fn check_names_a_rule_deleted_or_replaced() {
    in_netns(|| {
        let wanted = install(&options());
        nft(&format!("delete rule inet synhold forward handle {}", handle_of("blocked, IPv4")));
        assert_drift(&wanted, &["chain forward: rule \"blocked, IPv4\": missing"]);
        let handle = handle_of("dns over udp");
        nft(&format!(
            "replace rule inet synhold forward handle {handle} udp dport 5353 counter return comment \"dns over udp\""
        ));
        assert_drift(
            &wanted,
            &[
                "chain forward: rule \"blocked, IPv4\": missing",
                "chain forward: rule \"dns over udp\": changed: is `udp dport 5353 counter return`, \
                 should be `udp dport 53 counter return`",
            ],
        );
        nft(&format!(
            "replace rule inet synhold refuse handle {} meta mark 5 limit rate 1/second accept",
            handle_of("refuse")
        ));
        let drift = check(&wanted, read().unwrap().as_ref());
        let last = drift.last().unwrap().to_string();
        assert_eq!(
            last,
            "chain refuse: rule \"meta mark 0x00000005 [limit] accept\": should not be there"
        );
        assert_eq!(install(&options()), wanted);
        assert_drift(&wanted, &[]);
    });
}

#[test]
fn check_names_sets_elements_and_chains() {
    in_netns(|| {
        let wanted = install(&options());
        nft("delete element inet synhold containers4 { 172.17.0.0/16 }");
        nft("add element inet synhold local6 { 2001:db8:77::/48 }");
        nft("add set inet synhold extra { type inet_service ; }");
        assert_drift(
            &wanted,
            &[
                "set containers4: element 172.17.0.0/16: missing",
                "set local6: element 2001:db8:77::/48: should not be there",
                "set extra: should not be there",
            ],
        );
        install(&options());
        assert_drift(&wanted, &[]);

        nft("flush chain inet synhold verdict");
        nft("flush chain inet synhold forward");
        nft("flush chain inet synhold inbound");
        nft("flush chain inet synhold host");
        nft("delete chain inet synhold verdict");
        nft("delete set inet synhold quarantine4");
        nft("add set inet synhold quarantine4 { type ipv6_addr ; }");
        let drift = check(&wanted, read().unwrap().as_ref());
        let lines: Vec<String> = drift.iter().map(Drift::to_string).collect();
        assert_eq!(
            lines[0],
            "set quarantine4: changed: is `type ipv6_addr, flags none`, should be `type ipv4_addr, flags timeout`"
        );
        assert!(lines.contains(&"chain verdict: missing".to_owned()), "{lines:?}");
        let chain = nft("-a list chains");
        assert_eq!(install(&options()), wanted);
        assert_drift(&wanted, &[]);
        let handle = chain.lines().find(|line| line.contains("chain forward")).unwrap().trim();
        assert!(nft("-a list chains").contains(handle), "the base chain was made anew");
    });
}

#[test]
fn a_table_from_before_a_base_chain_gets_it_and_keeps_the_rest() {
    in_netns(|| {
        let wanted = install(&options());
        nft("flush chain inet synhold host");
        nft("delete chain inet synhold host");
        assert_drift(&wanted, &["chain host: missing"]);
        let judge = handle_of("judge tcp");
        assert_eq!(install(&options()), wanted);
        assert_drift(&wanted, &[]);
        assert_eq!(handle_of("judge tcp"), judge);
        let chain = nft("list chain inet synhold host");
        assert!(
            chain.contains("type filter hook input priority filter - 1; policy accept;"),
            "{chain}"
        );
        assert!(remove().unwrap());
        assert_eq!(nft("list ruleset"), "");
    });
}

#[test]
fn a_set_of_another_type_is_replaced_under_its_rules() {
    in_netns(|| {
        let wanted = Ruleset::new(&options());
        let other = render(&Ruleset::new(&Options { queue_via: QueueVia::Compat, ..options() }))
            .replacen("type ipv4_addr\n\t\tflags timeout", "type ipv4_addr\n\t\tflags interval", 1);
        nft_load(&other);
        let applied = apply(&wanted, read().unwrap().as_ref()).unwrap();
        assert!(
            applied
                .changes
                .iter()
                .any(|drift| matches!(drift, Drift::Set { set, .. } if set == "quarantine4"))
        );
        assert_eq!(read().unwrap(), Some(wanted));
    });
}

#[test]
fn a_base_chain_elsewhere_is_reported_not_touched() {
    in_netns(|| {
        nft_load(
            "table inet synhold {\nchain forward { type filter hook forward priority 10; policy accept; }\n}",
        );
        let before = nft("-a list ruleset");
        let error = apply(&Ruleset::new(&options()), read().unwrap().as_ref()).unwrap_err();
        assert!(matches!(error, Error::InTheWay { .. }));
        assert!(
            error.to_string().ends_with("run `synhold rules remove`, then install again"),
            "{error}"
        );
        assert_eq!(nft("-a list ruleset"), before);
    });
}

#[test]
fn the_committed_text_is_the_installed_rules() {
    let text = include_str!("../../../nft/synhold.nft");
    in_netns(|| {
        let native = probe().unwrap() == QueueVia::Native;
        let loadable =
            if native { text.to_owned() } else { text.replace("counter queue to 0", "accept") };
        assert!(run(Command::new("nft").args(["-c", "-f", "-"]), &loadable).status.success());
        assert_eq!(nft("list ruleset"), "");
        nft_load(&loadable);
        let drift = check(&Ruleset::new(&Options::default()), read().unwrap().as_ref());
        match drift.as_slice() {
            [] => assert!(native),
            [Drift::Rule { chain, rule, change: Change::Differs { is, .. } }] => {
                assert_eq!(
                    (chain.as_str(), rule.as_str(), is.as_str()),
                    ("verdict", "ask the daemon", "accept")
                );
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn policy_and_sleep_are_repaired_in_place() {
    in_netns(|| {
        let wanted = install(&options());
        let before = nft("-a list ruleset");
        nft("add chain inet synhold forward { policy drop ; }");
        nft_load("table inet synhold { flags dormant; }");
        let drift = check(&wanted, read().unwrap().as_ref());
        assert!(drift.iter().any(|drift| drift.to_string().contains("policy drop")), "{drift:?}");
        assert!(drift.iter().any(|drift| drift.to_string().contains("dormant")), "{drift:?}");
        assert_eq!(install(&options()), wanted);
        assert_eq!(nft("-a list ruleset"), before);
    });
}
