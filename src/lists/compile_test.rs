//! Compiling: what holds, what does not, and what is said about it.

use super::*;
use crate::engine::Net;
use crate::lists::{Column, Content, Format, Own};
use proptest::prelude::*;

fn list(own: Own, text: &str) -> Source {
    Source::own_from(own, Content::Memory(text.as_bytes().into()))
}

fn feed(name: &str, kind: Kind, text: &str) -> Source {
    Source { name: name.to_owned(), own: false, kind, ..list(Own::Block, text) }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn at(text: &str) -> Wall {
    crate::lists::text::time(text).unwrap()
}

const NOW: &str = "2026-01-01T00:00:00Z";

fn spans(side: &Side) -> Vec<String> {
    let of =
        |family| side.lasting.spans(family).map(move |s| crate::engine::net::show_span(s, family));
    Family::BOTH.into_iter().flat_map(of).collect()
}

#[test]
fn every_list_goes_to_its_side_and_overlaps_are_merged() {
    let sources = [
        list(Own::Allow, "192.0.2.1\ngood.example\n"),
        list(Own::Block, "192.0.2.0/25\n192.0.2.128/25\nevil.example\n*.EVIL.example\nfd00::1\n"),
        list(Own::Auto, "203.0.113.9 from=172.17.0.2\n203.0.113.9\n"),
        list(Own::Quarantine, "172.17.0.3\n172.17.0.3 until=2027-01-01T00:00:00Z\n"),
        feed("bad-nets", Kind::Block, "192.0.2.64/26\n198.51.100.1-198.51.100.2\n"),
        feed("good-nets", Kind::Allow, "198.51.100.1\n"),
    ];
    let compiled = compile(&sources, &[], at(NOW));
    let lists = &compiled.lists;
    assert_eq!(spans(&lists.allow), ["192.0.2.1", "198.51.100.1"]);
    assert_eq!(
        spans(&lists.block),
        ["192.0.2.0/24", "198.51.100.1-198.51.100.2", "203.0.113.9", "fd00::1"]
    );
    assert_eq!((lists.allow.names.len(), lists.block.names.len()), (1, 1));
    assert_eq!(lists.pairs, [((ip("172.17.0.2"), ip("203.0.113.9")), None)]);
    assert_eq!(lists.quarantine, [(ip("172.17.0.3"), None)], "for good beats a time");
    let counts: Vec<_> =
        compiled.per_list.iter().map(|r| (r.name.as_str(), r.kind, r.entries, r.domains)).collect();
    assert_eq!(
        counts,
        [
            ("allow", Kind::Allow, 2, 1),
            ("block", Kind::Block, 5, 2),
            ("auto", Kind::Block, 2, 0),
            ("quarantine", Kind::Quarantine, 2, 0),
            ("bad-nets", Kind::Block, 2, 0),
            ("good-nets", Kind::Allow, 1, 0),
        ]
    );
    assert!(compiled.per_list.iter().all(|r| r.bad == 0 && r.refused == 0 && r.error.is_none()));
}

#[test]
fn times_end_and_the_first_to_come_is_told() {
    let text = "\
        192.0.2.1 until=2025-12-31T23:59:59Z\n\
        192.0.2.2 until=2026-01-01T00:00:00Z\n\
        192.0.2.3 until=2026-01-01T00:00:01Z\n\
        evil.example until=2026-01-01T00:00:02Z\n\
        192.0.2.4 from=172.17.0.2 until=2026-01-01T00:00:03Z\n";
    let sources = [list(Own::Block, text)];
    let compiled = compile(&sources, &[], at(NOW));
    assert_eq!((compiled.per_list[0].entries, compiled.per_list[0].expired), (3, 2));
    assert_eq!(compiled.next_expiry, Some(at("2026-01-01T00:00:01Z")));
    let timed = &compiled.lists.block.timed;
    assert_eq!((timed.len(), timed[0].until), (1, at("2026-01-01T00:00:01Z")));
    let later = compile(&sources, &[], at("2026-01-01T00:00:02Z"));
    assert_eq!(later.lists.block.names.len(), 0, "a domain ends by compiling again");
    assert_eq!(later.next_expiry, Some(at("2026-01-01T00:00:03Z")));
    let last = compile(&sources, &[], at("2026-01-01T00:00:03Z"));
    assert_eq!((last.next_expiry, last.lists), (None, Lists::default()));
}

#[test]
fn dangerous_entries_are_refused_with_advice_unless_forced() {
    let protected = [
        Protected {
            net: "192.0.2.1".parse().unwrap(),
            what: "this host's address on eth0".to_owned(),
        },
        Protected { net: "fd00::/64".parse().unwrap(), what: "the network of docker0".to_owned() },
    ];
    let text = "0.0.0.0/0\n::/0\n192.0.2.0/24\nfd00::7\n0.0.0.0-95.255.255.255\n2000::/3\n\
                192.0.2.0/24 force\n192.0.2.1 from=172.17.0.2\n";
    let compiled = compile(&[list(Own::Block, text)], &protected, at(NOW));
    let report = &compiled.per_list[0];
    assert_eq!((report.entries, report.refused, report.bad), (1, 7, 0), "{report:?}");
    assert_eq!(
        report.refused_entries[2],
        "block.txt:3: 192.0.2.0/24 is refused: it covers 192.0.2.1, this host's address on eth0; \
         to block it all the same, write `192.0.2.0/24 force`"
    );
    assert!(report.refused_entries[0].starts_with("block.txt:1: 0.0.0.0/0 is refused: it covers"));
    assert!(report.refused_entries[3].contains("fd00::/64, the network of docker0"));
    assert!(
        report.refused_entries[4].contains("a large part of the Internet")
            || report.refused_entries[4].contains("192.0.2.1")
    );
    assert!(report.refused_entries[5].contains("a large part of the Internet"));
    assert_eq!(spans(&compiled.lists.block), ["192.0.2.0/24"]);
    let mut feed = feed("bad-nets", Kind::Block, "192.0.2.0/24\n");
    let refused = compile(std::slice::from_ref(&feed), &protected, at(NOW));
    assert!(
        refused.per_list[0].refused_entries[0].ends_with("set `force = true` for bad-nets"),
        "{:?}",
        refused.per_list[0]
    );
    feed.force = true;
    assert_eq!(compile(&[feed], &protected, at(NOW)).per_list[0].entries, 1);
    // Nobody is cut off by allowing.
    assert_eq!(compile(&[list(Own::Allow, text)], &protected, at(NOW)).per_list[0].refused, 0);
}

#[test]
fn only_what_is_handed_out_counts_as_wide() {
    let refused = |text: &str| compile(&[list(Own::Block, text)], &[], at(NOW)).per_list[0].refused;
    for net in [
        "0.0.0.0/0",
        "0.0.0.0/1",
        "128.0.0.0/1",
        "64.0.0.0/3",
        "16.0.0.0-32.0.0.0",
        "::/0",
        "2000::/7",
    ] {
        assert_eq!(refused(net), 1, "{net}");
    }
    for net in
        ["16.0.0.0/4", "224.0.0.0/3", "16.0.0.0-31.255.255.255", "fc00::/7", "8000::/1", "2000::/8"]
    {
        assert_eq!(refused(net), 0, "{net}");
    }
}

#[test]
fn what_is_in_the_wrong_list_is_a_bad_line() {
    let sources = [
        list(Own::Allow, "192.0.2.1 from=172.17.0.2\n"),
        list(Own::Quarantine, "172.17.0.0/16\nevil.example\n172.17.0.2 from=172.17.0.3\n"),
    ];
    let compiled = compile(&sources, &[], at(NOW));
    assert_eq!(compiled.lists, Lists::default());
    assert_eq!(compiled.per_list[0].bad_lines, ["allow.txt:1: from= belongs in a block list"]);
    assert_eq!(compiled.per_list[1].bad, 3);
}

#[test]
fn messages_are_bounded_and_everything_is_counted() {
    let text = format!("{}{}", "nonsense!\n".repeat(100), "0.0.0.0/0\n".repeat(100));
    let report = compile(&[list(Own::Block, &text)], &[], at(NOW)).per_list.remove(0);
    assert_eq!((report.bad, report.refused), (100, 100));
    assert_eq!(
        (report.bad_lines.len(), report.refused_entries.len()),
        (MESSAGES_MAX, MESSAGES_MAX)
    );
    assert!(report.bad_lines[19].starts_with("block.txt:20: `nonsense!` is neither"), "{report:?}");
}

#[test]
fn one_unreadable_list_leaves_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut broken = list(Own::Block, "");
    broken.content = Content::File(folder.path().to_owned());
    let mut table = feed("table", Kind::Block, "a,b\n1,2\n");
    table.format = Format::Csv(Column::Name("ip".to_owned()));
    let missing = Source { content: Content::File(folder.path().join("none")), ..broken.clone() };
    let good = list(Own::Allow, "192.0.2.1\n");
    let compiled = compile(&[broken, table, missing, good], &[], at(NOW));
    assert!(compiled.per_list[0].error.is_some());
    assert_eq!(compiled.per_list[1].error.as_deref(), Some("no column is called \"ip\""));
    assert_eq!((compiled.per_list[2].entries, &compiled.per_list[2].error), (0, &None));
    assert!(compiled.lists.allow.has_address(ip("192.0.2.1")));
}

proptest! {
    #[test]
    fn compiled_lists_say_what_the_lines_say(
        lines in prop::collection::vec((0_u8..24, 0_u8..=8, any::<bool>(), prop::option::of(0_u64..4)), 0..12),
    ) {
        let mut texts = [String::new(), String::new()];
        let mut said: Vec<(bool, Net, Option<u64>)> = Vec::new();
        for (low, more, allow, until) in lines {
            let net = Net::around(IpAddr::from([192, 0, 2, low]), 32 - more);
            let until_text = until.map(|u| format!(" until=2026-01-01T00:00:0{u}Z")).unwrap_or_default();
            texts[usize::from(allow)] += &format!("{net}{until_text}\n");
            said.push((allow, net, until));
        }
        let sources = [list(Own::Block, &texts[0]), list(Own::Allow, &texts[1])];
        let compiled = compile(&sources, &[], Wall(at(NOW).0 + 1_000_000));
        for (allow, side) in [(false, &compiled.lists.block), (true, &compiled.lists.allow)] {
            for low in 0..=255_u8 {
                let address = IpAddr::from([192, 0, 2, low]);
                let wanted = said.iter().any(|(a, net, until)| {
                    *a == allow && net.contains(address) && until.is_none_or(|until| until > 1)
                });
                prop_assert_eq!(side.has_address(address), wanted, "{}", address);
            }
        }
    }
}

#[test]
fn containers_by_name_are_in_quarantine_alone() {
    let dir = tempfile::tempdir().unwrap();
    let folder = crate::lists::Folder::new(dir.path());
    std::fs::create_dir(folder.lists()).unwrap();
    let text = "container:Web_1.x # why\ncontainer:db until=1971-01-01T00:00:00Z\n\
                container:old until=1970-01-01T00:00:00Z\ncontainer:\ncontainer:a/b\n";
    std::fs::write(folder.own(Own::Quarantine), text).unwrap();
    std::fs::write(folder.own(Own::Block), "container:web\n").unwrap();
    let compiled = compile(&Source::all_own(&folder), &[], Wall(1));
    let confined = &compiled.lists.confined;
    assert!(confined.has("web_1.x") && confined.has("WEB_1.X") && confined.has("db"));
    assert!(!confined.has("web") && !confined.has("old"));
    let report = |name: &str| compiled.per_list.iter().find(|list| list.name == name).unwrap();
    assert_eq!((report("quarantine").entries, report("quarantine").bad), (2, 2));
    assert!(report("block").bad_lines[0].contains("belongs in quarantine.txt"));
    assert!(compiled.lists.block.is_empty());
}
