//! What others left in our table, or the table they hold: told, mended where that can be, never a dead end.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};

use synhold::nftables::{
    Error, Options, Ruleset, apply, check, probe, read, remove, render, restorable,
};

use super::{assert_drift, handle_of, in_netns, install, nft, nft_load, options};

#[test]
fn an_element_for_every_address_is_named_taken_out_and_removed() {
    for set in ["containers4", "containers6", "local4", "local6"] {
        in_netns(move || {
            let wanted = Ruleset::new(&options());
            // nft 1.0.6 dies of adding `*` to a set that is there, so it comes with the set.
            let text = render(&wanted);
            let (head, tail) = text.split_once(&format!("set {set} {{")).unwrap();
            let tail = tail.replacen("elements = { ", "elements = { *, ", 1);
            let text = format!("{head}set {set} {{{tail}");
            nft_load(&text);
            let rule = handle_of("judge tcp");
            let drift = check(&wanted, read().unwrap().as_ref());
            assert_eq!(
                drift[0].to_string(),
                format!("set {set}: element *: should not be there"),
                "{drift:?}"
            );
            assert_eq!(install(&options()), wanted);
            assert_drift(&wanted, &[]);
            assert!(!nft("list table inet synhold").contains("*"));
            assert_eq!(handle_of("judge tcp"), rule, "no rule had to go for it");

            assert!(remove().unwrap());
            nft_load(&text);
            assert!(remove().unwrap());
            assert_eq!(nft("list ruleset"), "");
        });
    }
}

#[test]
fn a_sleeping_table_is_woken_and_filled_whatever_is_in_it() {
    for content in [
        "",
        "set block4 { type ipv4_addr; flags interval, timeout; gc-interval 1d; elements = { 203.0.113.9 }; }",
        "chain verdict { counter accept; }",
    ] {
        in_netns(move || {
            nft_load(&format!("table inet synhold {{\nflags dormant\n{content}\n}}"));
            let wanted = Ruleset::new(&options());
            let drift = check(&wanted, read().unwrap().as_ref());
            assert!(drift.iter().any(|drift| drift.to_string().contains("dormant")), "{drift:?}");
            assert_eq!(install(&options()), wanted);
            assert_eq!(read().unwrap(), Some(wanted));
            if content.contains("block4") {
                let set = nft("list set inet synhold block4");
                assert!(set.contains("203.0.113.9"), "whoever filled it did not want it emptied");
            }
        });
    }
}

/// A base chain asleep is not ours to judge: it would wake.
#[test]
fn a_sleeping_base_chain_of_others_stays_in_the_way() {
    in_netns(|| {
        nft_load(
            "table inet synhold {\nflags dormant\nchain b { type filter hook input priority 0; }\n}",
        );
        let before = nft("-a list ruleset");
        let wanted = Ruleset::new(&options());
        let error = apply(&wanted, read().unwrap().as_ref()).unwrap_err();
        assert!(matches!(error, Error::InTheWay { .. }), "{error}");
        assert_eq!(nft("-a list ruleset"), before);
    });
}

const STRAY: &str = "
add chain inet synhold stray
add chain inet synhold deep
add rule inet synhold deep jump stray
add map inet synhold m { type ipv4_addr : verdict; }
add element inet synhold m { 192.0.2.4 : goto stray }
insert rule inet synhold forward ip saddr vmap @m
insert rule inet synhold verdict ip saddr vmap { 192.0.2.5 : jump deep }
";

#[test]
fn stray_chains_go_with_the_maps_and_rules_that_lead_to_them() {
    in_netns(|| {
        let wanted = install(&options());
        nft_load(STRAY);
        let drift = check(&wanted, read().unwrap().as_ref());
        for name in ["chain stray", "chain deep", "set m"] {
            let line = format!("{name}: should not be there");
            assert!(drift.iter().any(|drift| drift.to_string() == line), "{name}: {drift:?}");
        }
        assert_eq!(install(&options()), wanted);
        assert_drift(&wanted, &[]);
        let listing = nft("list ruleset");
        assert!(!listing.contains("stray") && !listing.contains("vmap"), "{listing}");
    });
}

#[test]
fn rules_nobody_here_understands_are_told_and_not_written_back_as_others() {
    in_netns(|| {
        let clean = install(&options());
        nft_load(STRAY);
        nft_load(
            "insert rule inet synhold forward meta mark set 1\n\
             insert rule inet synhold refuse limit rate 5/second log prefix \"bye\"\n\
             insert rule inet synhold forward tcp dport { 80, 443 } accept\n\
             add rule inet synhold refuse counter accept comment \"theirs\"",
        );
        let previous = read().unwrap().unwrap();
        let applied = Ruleset::new(&Options { queues: 2, ..options() });
        apply(&applied, Some(&previous)).unwrap();
        let back = restorable(&previous, &applied);
        assert_eq!(back.discarded.len(), 8, "{:?}", back.discarded);
        apply(&back.ruleset, read().unwrap().as_ref()).unwrap();
        assert_drift(&clean, &["chain refuse: rule \"theirs\": should not be there"]);

        // As it was read it cannot be written, and the attempt changes nothing.
        let before = nft("-a list ruleset");
        let error = apply(&previous, read().unwrap().as_ref()).unwrap_err();
        assert!(matches!(error, Error::NotOurs { .. }), "{error}");
        assert_eq!(nft("-a list ruleset"), before);
    });
}

#[test]
fn a_table_that_was_there_without_chains_is_given_back() {
    in_netns(|| {
        nft("add table inet synhold");
        let previous = read().unwrap().unwrap();
        let applied = install(&options());
        apply(&restorable(&previous, &applied).ruleset, Some(&applied)).unwrap();
        let listing = nft("list table inet synhold");
        assert!(!listing.contains("queue to") && !listing.contains("comment"), "{listing}");
    });
}

#[test]
fn the_mark_of_ownership_comes_and_goes_without_touching_a_rule() {
    in_netns(|| {
        let owned = install(&Options { owned: true, ..options() });
        assert!(read().unwrap().unwrap().is_owned());
        let judge = handle_of("judge tcp");
        let users = Ruleset::new(&options());
        assert_drift(&users, &["chain installed_by_run: should not be there"]);
        assert_eq!(owned.unmarked(), users);
        install(&options());
        assert!(!read().unwrap().unwrap().is_owned());
        assert_eq!(handle_of("judge tcp"), judge);
        assert_drift(&owned, &["chain installed_by_run: missing"]);
    });
}

#[test]
fn a_table_another_program_owns_is_told_from_missing_rights() {
    in_netns(|| {
        let mut owner = Command::new("nft")
            .arg("-i")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = owner.stdin.take().unwrap();
        stdin.write_all(b"add table inet synhold { flags owner; }\nlist tables\n").unwrap();
        let mut answer = String::new();
        let mut lines = BufReader::new(owner.stdout.take().unwrap());
        while !answer.contains("table inet synhold\n") {
            assert_ne!(lines.read_line(&mut answer).unwrap(), 0, "{answer}");
        }
        assert!(read().unwrap().is_some(), "reading is free to all");
        let wanted = Ruleset::new(&Options::default());
        let refusals = [
            probe().unwrap_err(),
            apply(&wanted, read().unwrap().as_ref()).unwrap_err(),
            remove().unwrap_err(),
        ];
        for error in refusals {
            assert!(matches!(error, Error::Owned), "{error}");
        }
        drop(stdin);
        owner.wait().unwrap();
        // The table went with its owner.
        install(&options());
    });
}
