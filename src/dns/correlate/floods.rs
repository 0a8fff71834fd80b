//! Floods of queries, and old queries that must not come back: what the red team found.

use super::tests::{feed, short};
use super::*;

/// A query for `slow.example`, then `flood`, then its two addresses: how many of them count.
fn slow_answers_after(flood: &[String]) -> usize {
    let start = "dnsmasq[77]: 10 10.0.0.2/40000";
    let log = format!(
        "{start} query[A] slow.example from 10.0.0.2
        {start} cached slow.example is <CNAME>
        {start} forwarded slow.example to 9.9.9.9
        {}
        {start} reply slow.example is <CNAME>
        {start} reply edge.example is 192.0.2.1
        {start} reply edge.example is 192.0.2.2",
        flood.join("\n")
    );
    let mut correlator = Correlator::default();
    let (seen, _) = feed(&mut correlator, &log);
    assert!(correlator.serials.pending() <= PENDING_MAX);
    seen.iter().filter(|seen| seen.name == "slow.example" && seen.client == "10.0.0.2").count()
}

#[test]
fn queries_of_another_client_do_not_displace_one_that_is_still_to_be_answered() {
    let flood = |answer: &str, qtype: &str, queries: u64| {
        let each = (11..11 + queries).flat_map(|serial| {
            let start = format!("dnsmasq[77]: {serial} 10.0.0.3/5000");
            let query = format!("{start} query[{qtype}] spam.example from 10.0.0.3");
            [query, format!("{start} {answer}")]
        });
        slow_answers_after(&each.collect::<Vec<String>>())
    };
    assert_eq!(flood("cached spam.example is 198.51.100.1", "A", 8_200), 2);
    assert_eq!(flood("config error is REFUSED", "AAAA", 20_000), 2);
    assert_eq!(flood("forwarded spam.example to 9.9.9.9", "TXT", 20_000), 2);
    // Never answered at all: the client that asks them forgets its own.
    assert_eq!(flood("forwarded spam.example to 9.9.9.9", "A", 30_000), 2);
}

#[test]
fn a_restart_forgets_queries_that_gave_up_their_slot_too() {
    let mut flood: Vec<String> = (11..8_300)
        .map(|serial| {
            format!("dnsmasq[77]: {serial} 10.0.0.3/5000 query[A] spam.example from 10.0.0.3")
        })
        .collect();
    assert_eq!(slow_answers_after(&flood), 2);
    flood.push("dnsmasq[77]: started, version 2.90 cachesize 150".to_owned());
    assert_eq!(slow_answers_after(&flood), 0);
}

#[test]
fn a_serial_used_again_is_the_newer_query_wherever_the_older_one_is() {
    let query = |serial: u64, qtype: &str| {
        format!("{serial} 10.0.0.2/9 query[{qtype}] t.example from 10.0.0.2\n")
    };
    // As after a restart nobody logged: serial 1 asks for an address, then, long after, for text.
    let mut log = query(1, "A");
    (2..9_000).for_each(|serial| log += &query(serial, "A"));
    log += &query(1, "TXT");
    (2..9_000).for_each(|serial| log += &query(serial, "A"));
    log += "1 10.0.0.2/9 reply t.example is 6.6.6.6";
    assert_eq!(short(&log), [""; 0]);
}

#[test]
fn without_serials_no_flood_makes_a_name_asked_as_text_count_again() {
    for (count, qtype) in [(QUERIES_MAX, "A"), (20_000, "TXT")] {
        let mut log = String::from("query[TXT] t.example from 10.0.0.2\n");
        for n in 0..count {
            log += &format!("query[{qtype}] s{n}.t.example from 10.0.0.2\n");
        }
        log += "query[A] t.example from 10.0.0.2
            reply t.example is 6.6.6.6
            query[A] other.example from 10.0.0.2
            reply other.example is <CNAME>
            reply t.example is 6.6.6.6";
        assert_eq!(short(&log), [""; 0], "{qtype}");
    }
}
