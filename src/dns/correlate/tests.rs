//! What counts as an answer, and to whom it is credited.

use std::net::IpAddr;

use crate::dns::line::parse;
use crate::engine::limits::CHAIN_MAX;

use super::*;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub address: String,
    pub name: String,
    pub client: String,
    pub kind: Kind,
    pub chain: Vec<String>,
}

/// Feeds a log and gives what came of it, with the number of skipped lines.
pub fn feed(correlator: &mut Correlator, log: &str) -> (Vec<Seen>, usize) {
    let (mut seen, mut skipped) = (Vec::new(), 0);
    for text in log.lines().map(str::trim_start).filter(|text| !text.is_empty()) {
        let fed = parse(text.as_bytes()).and_then(|line| {
            correlator.feed(&line, &mut |answer| {
                seen.push(Seen {
                    address: answer.address.to_string(),
                    name: answer.name.to_owned(),
                    client: answer.client.map_or_else(String::new, |client| client.to_string()),
                    kind: answer.kind,
                    chain: answer.chain.to_vec(),
                });
            })
        });
        skipped += usize::from(fed.is_err());
    }
    (seen, skipped)
}

/// `address name client [chain...]` of each answer, for short assertions.
pub fn short(log: &str) -> Vec<String> {
    let (seen, _) = feed(&mut Correlator::default(), log);
    let line = |seen: &Seen| {
        let mut words = vec![seen.address.clone(), seen.name.clone(), seen.client.clone()];
        words.extend(seen.chain.iter().cloned());
        words.join(" ")
    };
    seen.iter().map(line).collect()
}

#[test]
fn all_addresses_of_an_answer_are_credited_to_the_asker() {
    let log = "1 10.0.0.2/9 query[A] WWW.Example.com from 10.0.0.2
        1 10.0.0.2/9 forwarded WWW.Example.com to 9.9.9.9
        1 10.0.0.2/9 reply WWW.Example.com is 192.0.2.1
        1 10.0.0.2/9 reply WWW.Example.com is 192.0.2.2";
    let wanted = ["192.0.2.1 www.example.com 10.0.0.2", "192.0.2.2 www.example.com 10.0.0.2"];
    assert_eq!(short(log), wanted);
}

#[test]
fn a_chain_credits_the_name_asked_and_is_kept() {
    let chain = |start: &str| {
        format!(
            "{start}query[A] www.a.example from 10.0.0.2
            {start}reply www.a.example is <CNAME>
            {start}reply edge.b.example is <CNAME>
            {start}reply pop.c.example is 192.0.2.1
            {start}reply pop.c.example is 192.0.2.2"
        )
    };
    let wanted = ["1", "2"]
        .map(|last| format!("192.0.2.{last} www.a.example 10.0.0.2 edge.b.example pop.c.example"));
    assert_eq!(short(&chain("")), wanted);
    assert_eq!(short(&chain("1 10.0.0.2/9 ")), wanted);
}

#[test]
fn a_chain_found_half_in_the_cache_is_listed_twice_and_kept_once() {
    let log = "8 10.0.0.2/9 query[AAAA] a.example from 10.0.0.2
        8 10.0.0.2/9 cached a.example is <CNAME>
        8 10.0.0.2/9 cached b.example is <CNAME>
        8 10.0.0.2/9 forwarded a.example to 9.9.9.9
        8 10.0.0.2/9 reply a.example is <CNAME>
        8 10.0.0.2/9 reply b.example is <CNAME>
        8 10.0.0.2/9 reply c.example is 2001:db8::1";
    assert_eq!(short(log), ["2001:db8::1 a.example 10.0.0.2 b.example c.example"]);
}

#[test]
fn text_and_reverse_answers_shaped_like_addresses_never_count() {
    for start in ["", "1 10.0.0.2/9 ", "dnsmasq[1]: ", "dnsmasq[1]: 1 10.0.0.2/9 "] {
        for log in [
            "query[TXT] t.example from 10.0.0.2\nreply t.example is 6.6.6.6",
            "query[PTR] 4.3.2.1.in-addr.arpa from 10.0.0.2\nreply 1.2.3.4 is 6.6.6.6",
            "query[TXT] t.example from 10.0.0.2\nreply t.example is <CNAME>\nreply u.example is 6.6.6.6",
            "query[TXT] t.example from 10.0.0.2\nreply t.example is <CNAME>\nreply u.example is text\nreply u.example is 6.6.6.6",
            "query[A] t.example from 10.0.0.2\nreply t.example is 2001:db8::6",
            "query[AAAA] t.example from 10.0.0.2\nreply t.example is 6.6.6.6",
            "reply t.example is 6.6.6.6",
        ] {
            let log: Vec<String> = log.lines().map(|line| format!("{start}{line}")).collect();
            let (seen, skipped) = feed(&mut Correlator::default(), &log.join("\n"));
            assert_eq!((seen, skipped), (Vec::new(), 1), "{log:?}");
        }
    }
}

#[test]
fn without_serials_a_name_also_asked_as_text_is_ambiguous() {
    let log = "query[A] t.example from 10.0.0.2
        query[A] u.example from 10.0.0.2
        query[A] 1.2.3.4 from 10.0.0.2
        query[TXT] t.example from 10.0.0.2
        query[PTR] 4.3.2.1.in-addr.arpa from 10.0.0.2
        reply t.example is some text
        reply t.example is 6.6.6.6
        reply 1.2.3.4 is 6.6.6.6
        reply t.example is <CNAME>
        reply u.example is 6.6.6.6";
    assert_eq!(short(log), [""; 0]);
}

#[test]
fn with_serials_the_same_name_asked_as_text_and_as_address_is_told_apart() {
    let log = "1 10.0.0.2/9 query[A] t.example from 10.0.0.2
        2 10.0.0.2/8 query[TXT] t.example from 10.0.0.2
        2 10.0.0.2/8 reply t.example is 6.6.6.6
        1 10.0.0.2/9 reply t.example is 192.0.2.1";
    assert_eq!(short(log), ["192.0.2.1 t.example 10.0.0.2"]);
}

#[test]
fn both_families_and_two_clients_are_kept_apart() {
    let log = "1 10.0.0.2/9 query[A] a.example from 10.0.0.2
        2 10.0.0.3/9 query[AAAA] a.example from 10.0.0.3
        2 10.0.0.3/9 reply a.example is 2001:db8::1
        1 10.0.0.2/9 reply a.example is 192.0.2.1
        3 10.0.0.4/9 query[A] a.example from 10.0.0.4
        3 10.0.0.4/9 cached a.example is 192.0.2.1";
    let wanted = [
        "2001:db8::1 a.example 10.0.0.3",
        "192.0.2.1 a.example 10.0.0.2",
        "192.0.2.1 a.example 10.0.0.4",
    ];
    assert_eq!(short(log), wanted);
    let plain: Vec<String> = log
        .lines()
        .map(|line| line.trim_start().splitn(3, ' ').last().unwrap().to_owned())
        .collect();
    assert_eq!(short(&plain.join("\n")), wanted);
}

#[test]
fn one_answer_for_several_clients_is_credited_to_each() {
    let log = "344 10.0.0.5/40338 query[A] dup.example from 10.0.0.5
        345 10.0.0.6/46234 query[A] Dup.example from 10.0.0.6
        346 10.0.0.7/58268 query[TXT] dup.example from 10.0.0.7
        344 10.0.0.5/40338 reply dup.example is <CNAME>
        344 10.0.0.5/40338 reply to.example is 192.0.2.1
        344 10.0.0.5/40338 reply to.example is 192.0.2.2
        345 10.0.0.6/46234 reply query is duplicate
        346 10.0.0.7/58268 reply query is duplicate";
    let wanted = [
        "192.0.2.1 dup.example 10.0.0.5 to.example",
        "192.0.2.2 dup.example 10.0.0.5 to.example",
        "192.0.2.1 dup.example 10.0.0.6 to.example",
        "192.0.2.2 dup.example 10.0.0.6 to.example",
    ];
    assert_eq!(short(log), wanted);
}

#[test]
fn a_repeated_query_is_answered_under_its_new_serial() {
    let log = "347 10.0.0.8/36195 query[AAAA] dup.example from 10.0.0.8
        348 10.0.0.8/36195 query[AAAA] dup.example from 10.0.0.8
        348 10.0.0.8/36195 reply dup.example is 2001:db8::1";
    assert_eq!(short(log), ["2001:db8::1 dup.example 10.0.0.8"]);
}

#[test]
fn the_same_serial_of_another_process_or_client_is_another_query() {
    let log = "dnsmasq[1]: 5 10.0.0.2/9 query[A] a.example from 10.0.0.2
        dnsmasq[2]: 5 10.0.0.2/9 reply a.example is 192.0.2.1
        dnsmasq[1]: 5 10.0.0.3/9 reply a.example is 192.0.2.2
        dnsmasq[1]: 5 10.0.0.2/8 reply a.example is 192.0.2.3
        dnsmasq[1]: 5 reply a.example is 192.0.2.4
        dnsmasq[1]: 5 10.0.0.2/9 reply a.example is 192.0.2.5";
    assert_eq!(short(log), ["192.0.2.5 a.example 10.0.0.2"]);
}

#[test]
fn a_restart_forgets_what_its_process_was_asked() {
    let log = "dnsmasq[1]: 5 10.0.0.2/9 query[A] a.example from 10.0.0.2
        dnsmasq[2]: 5 10.0.0.2/9 query[A] a.example from 10.0.0.2
        dnsmasq[1]: started, version 2.90 cachesize 150
        dnsmasq[1]: 5 10.0.0.2/9 reply a.example is 192.0.2.1
        dnsmasq[2]: 5 10.0.0.2/9 reply a.example is 192.0.2.2";
    assert_eq!(short(log), ["192.0.2.2 a.example 10.0.0.2"]);
}

#[test]
fn answers_of_interleaved_processes_do_not_mix() {
    let log = "dnsmasq[1]: query[A] a.example from 10.0.0.2
        dnsmasq[2]: query[A] c.example from 10.0.0.3
        dnsmasq[1]: reply a.example is <CNAME>
        dnsmasq[2]: reply c.example is <CNAME>
        dnsmasq[1]: reply b.example is 192.0.2.1
        dnsmasq[2]: reply d.example is 192.0.2.2";
    let wanted =
        ["192.0.2.1 a.example 10.0.0.2 b.example", "192.0.2.2 c.example 10.0.0.3 d.example"];
    assert_eq!(short(log), wanted);
}

#[test]
fn without_serials_a_target_asked_itself_is_credited_to_itself() {
    let log = "query[A] www.example from 10.0.0.2
        query[A] cdn.example from 10.0.0.3
        reply www.example is <CNAME>
        reply cdn.example is 192.0.2.1
        query[A] other.example from 10.0.0.2
        cached cdn.example is 192.0.2.1";
    let wanted = ["192.0.2.1 www.example 10.0.0.2 cdn.example", "192.0.2.1 cdn.example 10.0.0.3"];
    assert_eq!(short(log), wanted);
}

#[test]
fn set_additions_within_an_answer_do_not_break_its_chain() {
    let log = "query[A] www.example from 10.0.0.2
        reply www.example is <CNAME>
        ipset add known 192.0.2.1 cdn.example
        reply cdn.example is 192.0.2.1";
    assert_eq!(short(log), ["192.0.2.1 www.example 10.0.0.2 cdn.example"]);
}

#[test]
fn without_serials_answers_that_run_into_each_other_are_not_credited() {
    let mut log = String::from("query[A] a.example from 10.0.0.2\nreply a.example is <CNAME>\n");
    for link in 0..=CHAIN_MAX {
        log.push_str(&format!("reply l{link}.example is <CNAME>\n"));
    }
    log.push_str("reply last.example is 6.6.6.6");
    assert_eq!(short(&log), [""; 0]);
}

#[test]
fn the_captured_log_with_serials_gives_exactly_its_address_answers() {
    let log = include_str!("../../../tests/fixtures/dnsmasq-extra.log");
    let (seen, skipped) = feed(&mut Correlator::default(), log);
    // 9 lines with blanks, the TXT answer asked twice, the PTR answer, and the root name.
    assert_eq!(skipped, 9 + 2 + 1 + 1, "{seen:#?}");
    assert!(seen.iter().all(|seen| !["6.6.6.6", "5.5.5.5"].contains(&&*seen.address)));
    let of_the_ptr: Vec<_> = seen.iter().filter(|seen| seen.address == "1.2.3.4").collect();
    assert!(of_the_ptr.iter().all(|seen| seen.name == "mapped.example.com"), "{of_the_ptr:#?}");
    let count = |name: &str| seen.iter().filter(|seen| seen.name == name).count();
    let wanted = [
        ("www.example.com", 3 + 3 + 1 + 3 + 6),
        ("cdn.example.com", 2 + 2 + 1 + 2),
        ("txt.evil.example", 1),
        ("local.lan", 2),
        ("conf.test", 1),
        ("rec.lan", 2),
        ("dup.example.com", 9 + 1),
        ("upper.example.org", 1),
        ("tcp.example.com", 1),
        ("query", 1),
    ];
    for (name, times) in wanted {
        assert_eq!(count(name), times, "{name}");
    }
    for client in ["127.0.0.5", "127.0.0.6", "127.0.0.7"] {
        let own =
            seen.iter().filter(|seen| seen.name == "dup.example.com" && seen.client == client);
        assert_eq!(own.count(), 3, "{client}");
    }
}

#[test]
fn the_captured_log_without_serials_gives_no_more() {
    let log = include_str!("../../../tests/fixtures/dnsmasq-plain.log");
    let (seen, _) = feed(&mut Correlator::default(), log);
    assert!(seen.iter().all(|seen| !["6.6.6.6", "5.5.5.5"].contains(&&*seen.address)));
    let count = |name: &str| seen.iter().filter(|seen| seen.name == name).count();
    // Asked as TXT too: not told apart, so not credited.
    assert_eq!(count("txt.evil.example"), 0);
    assert_eq!((count("cdn.example.com"), count("local.lan")), (2 + 2 + 1 + 2, 2));
}

#[test]
fn a_record_keeps_the_answer() {
    let chain = ["b.example".to_owned()];
    let client = Some(IpAddr::from([10, 0, 0, 2]));
    let (address, kind) = (IpAddr::from([192, 0, 2, 1]), Kind::Cached);
    let answer = Answer { address, name: "a.example", client, kind, chain: &chain, logged: None };
    let record = answer.to_record(Wall(7)).unwrap();
    assert_eq!(record.name, Name::new("a.example").unwrap());
    assert_eq!(record.chain, [Name::new("b.example").unwrap()]);
    assert_eq!((record.address, record.client, record.time), (address, client, Wall(7)));
}

#[test]
fn an_ipv4_address_within_an_ipv6_one_is_handed_out_as_ipv4() {
    for start in ["", "1 10.0.0.2/9 "] {
        let log = ["AAAA", "A"].map(|qtype| {
            format!(
                "{start}query[{qtype}] m.example from 10.0.0.2
                {start}reply m.example is ::ffff:192.0.2.1"
            )
        });
        assert_eq!(short(&log[0]), ["192.0.2.1 m.example 10.0.0.2"]);
        // An A record holds no IPv6 address: this is something else.
        assert_eq!(short(&log[1]), [""; 0]);
    }
    let shared = "1 10.0.0.2/9 query[AAAA] m.example from 10.0.0.2
        2 10.0.0.3/9 query[AAAA] m.example from 10.0.0.3
        1 10.0.0.2/9 reply m.example is ::ffff:192.0.2.1
        2 10.0.0.3/9 reply query is duplicate";
    let wanted = ["192.0.2.1 m.example 10.0.0.2", "192.0.2.1 m.example 10.0.0.3"];
    assert_eq!(short(shared), wanted);
}
