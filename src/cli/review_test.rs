//! A review as a person sees it, and its questions.

use super::ask::ask;
use super::*;
use crate::daemon::findings::{Group, Proposed, testing};
use crate::engine::opinion::Opinion;

const NOW: Wall = Wall(1_800_000_000_000_000);

fn item(container: &str, dst: &str, proposal: Proposal) -> Item {
    let mut group: Group = testing::refused(container, dst, "never-resolved", NOW.0 - 5_000_000);
    group.would_refuse = 2;
    let because = "resolved later as x.example".to_owned();
    let opensnitch = Opinion { view: View::NeedsReview, why: "nothing".to_owned() };
    let proposed = Proposed { proposal, because };
    Item { group, known: Vec::new(), blocked: None, opensnitch, proposed }
}

fn items() -> Vec<Item> {
    vec![
        item("db", "203.0.113.7", Proposal::Keep),
        item("web", "203.0.113.8", Proposal::Accept),
        item("web\u{1b}[2J", "203.0.113.9", Proposal::Keep),
        item("web", "203.0.113.10", Proposal::Accept),
    ]
}

fn played(keys: &str) -> (Vec<String>, Vec<String>, String) {
    let (items, mut out) = (items(), Vec::new());
    let asked = ask(&items, NOW, &mut keys.as_bytes(), &mut out).unwrap();
    let names = |items: &[&Item]| items.iter().map(|item| item.group.key.dst.to_string()).collect();
    (names(&asked.accepted), names(&asked.kept), String::from_utf8(out).unwrap())
}

#[test]
fn each_is_asked_about_until_there_is_an_answer() {
    let (accepted, kept, out) = played("n\nY\nhuh\ne\ns\ny\n");
    assert_eq!(accepted, ["203.0.113.8", "203.0.113.10"]);
    assert_eq!(kept, ["203.0.113.7"]);
    assert!(out.contains("keep it refused") && out.contains("names known now: none"), "{out}");
    assert!(out.contains("Allow 203.0.113.7 to every container? [y,"), "{out}");
    assert!(out.contains("(4/4) web → tcp 203.0.113.10:443"), "{out}");
    assert!(!out.contains('\u{1b}'), "a name is no command of a terminal");
}

#[test]
fn all_that_is_proposed_is_no_more_than_that() {
    assert_eq!(played("s\na\n").0, ["203.0.113.8", "203.0.113.10"]);
    assert_eq!(played("y\nq\n").0, ["203.0.113.7"]);
    let (accepted, kept, _) = played("");
    assert!(accepted.is_empty() && kept.is_empty(), "nobody there decides nothing");
}

#[test]
fn the_heading_says_what_enforcing_would_break() {
    let breaks = [("web", 3), ("db", 1)]
        .map(|(container, destinations)| Breaks { container: container.into(), destinations });
    assert_eq!(
        would_break(&breaks).unwrap(),
        "If you enforce now, 2 containers break: web (3 destinations), db (1 destination). Allow before what they need."
    );
    assert_eq!(would_break(&[]), None);
    let review = Review {
        items: items(),
        more: 0,
        allowed: 1,
        kept: 2,
        would_break: breaks.into(),
        mode: None,
        opensnitch: Some("there is no OpenSnitch database".to_owned()),
        notes: vec!["a \u{1b}note".to_owned()],
    };
    let text = tell(&review, NOW, Paint::always(false), false);
    assert!(
        text.starts_with("To review: 4 destinations of 3 containers; 1 allowed since, 2 kept"),
        "{text}"
    );
    assert!(text.contains("--yes allows what is proposed to be (2)."), "{text}");
    assert!(text.ends_with("to every container from then on."), "{text}");
    assert!(
        !text.contains('\u{1b}') && text.lines().all(|line| line.chars().count() < 130),
        "{text}"
    );
}
