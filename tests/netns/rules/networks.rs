//! The sets that follow the networks of containers: in the kernel's words and in nft's, changed in place.

use synhold::nftables::names::is_managed;
use synhold::nftables::{Options, Ruleset, apply, check, read, render};

use super::{assert_drift, bridge, handle_of, in_netns, install, nft, nft_load, options};

#[test]
fn nft_shows_bridges_and_what_belongs_on_them() {
    in_netns(|| {
        let wanted = install(&options());
        for (set, lines) in [
            ("bridges", &["type ifname", "\"br-0123456789ab\"", "\"docker0\""][..]),
            (
                "homes4",
                &[
                    "type ifname . ipv4_addr",
                    "flags interval",
                    "\"docker0\" . 172.17.0.0/16",
                    "\"docker0\" . 0.0.0.0",
                    "\"br-0123456789ab\" . 198.51.100.0/24",
                ],
            ),
            (
                "homes6",
                &[
                    "type ifname . ipv6_addr",
                    "\"br-0123456789ab\" . 2001:db8:1::/64",
                    "\"br-0123456789ab\" . fe80::/10",
                    "\"docker0\" . ::",
                ],
            ),
        ] {
            let (listing, ours) = (nft(&format!("list set inet synhold {set}")), render(&wanted));
            let ours = ours.split_once(&format!("set {set} {{")).unwrap().1;
            let ours = ours.split_once("\t}\n").unwrap().0;
            for line in lines {
                assert!(listing.contains(line), "{line} in {listing}");
                assert!(ours.contains(line), "{line} in {ours}");
            }
        }
    });
}

#[test]
fn what_is_shown_loads_and_is_the_same() {
    in_netns(|| {
        let wanted = install(&options());
        let text = render(&wanted);
        super::remove().unwrap();
        // Where nft has no words to queue, the rest is as it should be.
        nft_load(&text);
        let drift = check(&wanted, read().unwrap().as_ref());
        let drift: Vec<String> = drift.iter().map(ToString::to_string).collect();
        assert!(drift.iter().all(|line| line.contains("ask the daemon")), "{drift:?}");
    });
}

#[test]
fn networks_come_and_go_in_place() {
    in_netns(|| {
        let before = install(&options());
        let rule = handle_of("a forged source, IPv4");
        nft("add element inet synhold exempt4 { 172.17.0.9 }");
        nft("add element inet synhold permits4 { 172.17.0.9 . 203.0.113.0/24 }");
        let mut other = options();
        other.bridges[0] = bridge("docker0", &["172.17.0.0/17"]);
        other.bridges.push(bridge("br-new", &["10.9.0.0/24"]));
        other.bridges.remove(2);
        let wanted = Ruleset::new(&other);
        apply(&wanted, Some(&before)).unwrap();
        assert_eq!(read().unwrap(), Some(wanted));
        assert_eq!(handle_of("a forged source, IPv4"), rule, "no rule was touched");
        let none = Ruleset::new(&Options { bridges: Vec::new(), ..other });
        apply(&none, read().unwrap().as_ref()).unwrap();
        assert_drift(&none, &[]);
        assert!(!nft("list set inet synhold homes4").contains("elements"));
        assert!(nft("list set inet synhold permits4").contains("172.17.0.9 . 203.0.113.0/24"));
    });
}

#[test]
fn foreign_elements_are_named_and_taken_out() {
    in_netns(|| {
        let wanted = install(&options());
        nft("add element inet synhold bridges { \"eth7\" }");
        nft("add element inet synhold homes4 { \"docker0\" . 10.0.0.0-10.0.0.6 }");
        nft("delete element inet synhold homes6 { \"docker0\" . fe80::/10 }");
        assert_drift(
            &wanted,
            &[
                "set homes4: element \"docker0\" . 10.0.0.0-10.0.0.6: should not be there",
                "set homes6: element \"docker0\" . fe80::/10: missing",
                "set bridges: element \"eth7\": should not be there",
            ],
        );
        assert_eq!(install(&options()), wanted);
        assert_eq!(read().unwrap(), Some(wanted));
    });
}

#[test]
fn bridges_no_set_can_name_are_left_out_and_told() {
    let odd = ["a-name-of-16-byt", "br*"];
    let mut bridges = vec![bridge("docker0", &["172.17.0.0/16"])];
    bridges.extend(odd.map(|name| bridge(name, &["10.0.0.0/8"])));
    let options = Options { bridges, ..Options::default() };
    assert_eq!(options.unnamed().collect::<Vec<_>>(), odd);
    let sets = Ruleset::new(&options).sets;
    let text = format!("{:?}", sets.iter().filter(|set| is_managed(&set.name)).collect::<Vec<_>>());
    assert!(text.contains("docker0") && !text.contains("br*") && !text.contains("a-name"));
}

#[test]
fn without_anti_spoof_there_is_no_chain_or_an_empty_one() {
    in_netns(|| {
        let off = Options { anti_spoof: false, ..options() };
        let wanted = install(&off);
        assert!(!nft("list table inet synhold").contains("chain spoofed"));
        install(&options());
        apply(&wanted, read().unwrap().as_ref()).unwrap();
        let listing = nft("list table inet synhold");
        assert!(listing.contains("chain spoofed") && !listing.contains("forged source"));
        assert_drift(&wanted, &[]);
    });
}
