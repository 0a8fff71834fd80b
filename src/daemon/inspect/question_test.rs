//! Which answer decides, and how it is put.

use super::*;
use crate::daemon::inspect::steps::Question;
use crate::daemon::wants::time_left;
use crate::engine::registry::Seen;
use crate::engine::{Kind as Evidence, Wall};

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn found(kind: Kind, entry: &str, note: Option<&str>) -> Found {
    Found {
        query: 0,
        list: "drop".to_owned(),
        kind,
        line: 7,
        entry: entry.to_owned(),
        note: note.map(str::to_owned),
        until: None,
        from: None,
    }
}

fn spoken(domains: Vec<Found>) -> Spoken {
    let (by_address, by_source, pairs, errors) = Default::default();
    Spoken {
        address: ip("203.0.113.9"),
        by_address,
        by_source,
        pairs,
        domains,
        errors,
        running: false,
    }
}

/// Every question for one source, answered yes by these sets.
fn steps(yes: &[&str]) -> Vec<Step> {
    let questions = questions(ip("203.0.113.9"), Some(ip("172.17.0.2")));
    let step = |question: &Question| {
        let set = question.pair.v4;
        let is_in = yes.contains(&set);
        Step {
            set: set.to_owned(),
            asked: "203.0.113.9".to_owned(),
            element: is_in.then(|| "203.0.113.0/24".to_owned()),
            expires_ms: is_in.then_some(43_500),
            decides: false,
            entries: Vec::new(),
        }
    };
    questions.iter().map(step).collect()
}

/// The set that decides, and what becomes of it.
fn decided(yes: &[&str], rules: RulesState) -> (Option<String>, Verdict, String) {
    let mut steps = steps(yes);
    let (verdict, because) = decide(&mut steps, rules, None, &spoken(Vec::new()), &[]);
    let decider = steps.into_iter().find(|step| step.decides);
    (decider.map(|step| step.set), verdict, because)
}

#[test]
fn a_containers_policy_frees_it_unless_in_quarantine() {
    let check = |yes: &[&str], set: Option<&str>, wanted: Verdict, part: &str| {
        let yes = [&["containers4"], yes].concat();
        let (decider, verdict, because) = decided(&yes, RulesState::Enforcing);
        assert_eq!((decider.as_deref(), verdict), (set, wanted), "{because}");
        assert!(because.contains(part), "{because}");
    };
    check(&["exempt4", "block4"], Some("exempt4"), Verdict::NotJudged, "by its policy");
    check(&["permits4", "block4"], Some("permits4"), Verdict::Accepted, "by its policy");
    check(&["dryrun4", "block4"], Some("block4"), Verdict::Refused, "passes all the same");
    check(&["dryrun4"], None, Verdict::Undecided, "by DNS");
    for policy in ["exempt4", "permits4", "dryrun4"] {
        let yes = ["quarantine4", policy];
        check(&yes, Some("quarantine4"), Verdict::Refused, "refused: set quarantine4");
        let (.., because) = decided(&[&["containers4"], &yes[..]].concat(), RulesState::Enforcing);
        assert!(!because.contains("all the same"), "{because}");
    }
}

#[test]
fn the_first_set_that_has_it_decides() {
    let check = |yes: &[&str], set: Option<&str>, wanted: Verdict| {
        let (decider, verdict, because) = decided(yes, RulesState::Enforcing);
        assert_eq!((decider.as_deref(), verdict), (set, wanted), "{because}");
    };
    check(&[], Some("containers4"), Verdict::NotJudged);
    check(&["containers4"], None, Verdict::Undecided);
    let all = ["quarantine4", "local4", "allow4", "block4", "blockhosts4", "denied4"];
    let verdicts = [
        Verdict::Refused,
        Verdict::NotJudged,
        Verdict::Accepted,
        Verdict::Refused,
        Verdict::Refused,
        Verdict::Refused,
    ];
    for (place, (set, verdict)) in all.iter().zip(verdicts).enumerate() {
        let yes = [&["containers4"], &all[place..]].concat();
        check(&yes, Some(set), verdict);
    }
}

#[test]
fn a_refusal_of_a_moment_ago_is_told_from_one_of_a_list() {
    let (.., because) = decided(&["containers4", "denied4"], RulesState::Enforcing);
    assert!(because.ends_with("refused a moment ago, for 43 s more"), "{because}");
    let mut all = steps(&["denied4"]).into_iter();
    let mut step = all.rfind(|step| step.set == "denied4").unwrap();
    step.entries = vec![found(Kind::Block, "203.0.113.9", Some("tcp/443"))];
    let (_, because) = step.decision().unwrap();
    assert!(because.ends_with("from list drop: tcp/443"), "{because}");
}

#[test]
fn rules_that_refuse_nothing_are_named() {
    let yes = ["containers4", "block4"];
    let (_, verdict, because) = decided(&yes, RulesState::DryRun);
    assert!(because.ends_with("a dry run, so it passes all the same"), "{because}");
    assert_eq!(verdict, Verdict::Refused);
    for state in [RulesState::Absent, RulesState::Dormant] {
        let (decider, verdict, because) = decided(&yes, state);
        assert_eq!((decider, verdict), (None, Verdict::NotJudged));
        assert!(because.contains("everything passes; `synhold run`"), "{because}");
        let beside = Spoken { running: true, ..spoken(Vec::new()) };
        let (_, because) = decide(&mut steps(&yes), state, None, &beside, &[]);
        assert!(because.contains("everything passes; `synhold rules install`"), "{because}");
    }
}

#[test]
fn nobody_judges_where_nobody_serves_the_queue() {
    let says = |queue| unserved(queue, Verdict::Undecided, "by DNS".to_owned());
    assert_eq!(says(Some(Queue::Served)), (Verdict::Undecided, "by DNS".to_owned()));
    let (verdict, because) = says(Some(Queue::Dropping));
    assert!(verdict == Verdict::Refused && because.contains("DROPPED until"), "{because}");
    let (verdict, because) = says(Some(Queue::Passing));
    assert!(verdict == Verdict::NotJudged && because.contains("passes until"), "{because}");
}

#[test]
fn where_no_set_decides_a_domain_may() {
    let known = Known::default();
    let name = Name::new("www.evil.example").unwrap();
    let (asker, kind) = (Some(ip("172.17.0.2")), Evidence::Reply);
    let seen = Seen { name, first: 1, last: 1, asker, kind, chain: None };
    known.registry.merge(ip("203.0.113.9"), &seen);
    let says = |domain: Found, from: &str| {
        let spoken = spoken(vec![domain]);
        let by_name = spoken.judge(Some(ip(from)), ip("203.0.113.9"), &known);
        by_daemon(by_name, &spoken, &known.names(ip("203.0.113.9")))
    };
    let block = || found(Kind::Block, "*.evil.example", Some("campaign"));
    let (verdict, because) = says(block(), "172.17.0.2");
    assert_eq!(verdict, Verdict::Refused);
    let wanted = "a name of 203.0.113.9 is evil.example or under it, from list drop: campaign";
    assert!(because.ends_with(wanted), "{because}");
    let (verdict, because) = says(found(Kind::Allow, "evil.example", None), "172.17.0.9");
    assert_eq!(verdict, Verdict::Accepted);
    assert!(because.ends_with("from list drop, line 7"), "{because}");
    let (verdict, because) = says(found(Kind::Block, "other.example", None), "172.17.0.2");
    assert_eq!(verdict, Verdict::Undecided);
    assert!(because.ends_with("the registry knows 203.0.113.9 as www.evil.example"), "{because}");
}

#[test]
fn lists_that_the_kernel_does_not_follow_are_named() {
    let mut spoken = spoken(Vec::new());
    spoken.by_address = vec![found(Kind::Block, "203.0.113.0/24", None)];
    assert!(disagreements(&steps(&["block4"]), &spoken).is_empty());
    let note = disagreements(&steps(&[]), &spoken).concat();
    let wanted = "list drop has 203.0.113.0/24, line 7, but nothing in block4 or blockhosts4 does";
    assert!(note.starts_with(wanted), "{note}");
    assert_eq!(disagreements(&[], &spoken), ["list drop has 203.0.113.0/24, line 7"]);
}

#[test]
fn what_is_there_for_good_has_no_time_left() {
    let now = Wall(1_800_000_000_000_000);
    assert_eq!(time_left(Some(5), now), Some(5));
    assert_eq!(time_left(None, now), None);
    let until_2100 = (4_102_444_800_000_000 - now.0) / 1000;
    assert_eq!(time_left(Some(until_2100), now), None);
}
