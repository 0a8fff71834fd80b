//! What is reported and reviewed, from a state directory and an event file.

use std::path::{Path, PathBuf};

use super::*;
use crate::config;
use crate::daemon::review::Desk;

struct Place(tempfile::TempDir);

impl Place {
    fn new(lists: &[(&str, &str)]) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let place = Place(folder);
        std::fs::create_dir_all(place.at("state/lists")).unwrap();
        place.write("empty.toml", "");
        for (name, text) in lists {
            place.write(&format!("state/lists/{name}"), text);
        }
        place
    }

    fn at(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.at(name), text).unwrap();
    }

    fn config(&self) -> FindingConfig {
        let (empty, none) = (self.at("empty.toml"), self.at("none.sqlite3"));
        config::load_findings(Some(&empty), Some(self.at("state")), Some(none)).unwrap()
    }

    fn report(&self, container: Option<&str>) -> Report {
        let sources = self.sources(&["events"], container);
        report(&self.config(), None, &sources, &Lookups::default()).unwrap()
    }

    fn sources(&self, events: &[&str], container: Option<&str>) -> Sources {
        let events = events.iter().map(|name| self.at(name)).collect();
        Sources { events, since: None, container: container.map(str::to_owned) }
    }
}

fn refused(container: &str, src: &str, dst: &str, reason: &str) -> String {
    let evidence = serde_json::json!({ "healthy": reason != "unhealthy", "records": 1, "lag_us": 80, "lines": 9,
        "skipped": 0, "lost": 0, "last_line_ms": 3 });
    let verdict = serde_json::json!({ "ts": "2026-11-01T03:04:05Z", "event": "verdict", "mode": "enforce",
        "verdict": "drop", "enforced": true, "reason": reason, "grade": "never", "held_us": 750_113,
        "container": container, "container_id": "x", "proto": "tcp", "src": src, "sport": 40112, "dst": dst,
        "dport": 443, "names": [], "evidence": evidence, "queue": 0 });
    format!("{verdict}\n")
}

fn record(name: &str, address: &str) -> String {
    let record = serde_json::json!({ "ts": "2026-11-01T03:05:05Z", "event": "record", "address": address,
        "name": name, "client": null, "kind": "reply", "chain": [] });
    format!("{record}\n")
}

fn addresses(report: &Report) -> Vec<String> {
    report.rows.iter().map(|row| row.ip.to_string()).collect()
}

#[test]
fn a_blocked_name_is_not_proposed_to_be_allowed() {
    let place = Place::new(&[("block.txt", "malware.example\n198.51.100.0/24\n")]);
    let never = |dst| refused("web", "172.17.0.2", dst, "never-resolved");
    let mut events = never("203.0.113.9") + &never("203.0.113.8") + &never("198.51.100.7");
    // Hidden behind more names than are told.
    for n in 0..7 {
        events += &record(&format!("n{n}.example"), "203.0.113.9");
    }
    events += &record("c2.malware.example", "203.0.113.9");
    events += &record("late.example", "203.0.113.8");
    place.write("events", &events);
    let mut desk = Desk::open(&place.config(), None);
    let review = desk.review(&place.sources(&["events"], None), false).unwrap();
    let proposed = |dst: &str| {
        let item = review.items.iter().find(|item| item.group.key.dst.to_string() == dst).unwrap();
        (item.proposed.proposal, item.proposed.because.clone())
    };
    let keep = |why: &str| (Proposal::Keep, why.to_owned());
    assert_eq!(proposed("203.0.113.9"), keep("blocked: list block has malware.example"));
    assert_eq!(proposed("203.0.113.8").0, Proposal::Accept);
    // Whoever allows it all the same is told what list has it.
    let wanted = |item: &&crate::daemon::review::Item| item.blocked.is_some();
    let both: Vec<_> = review.items.iter().filter(wanted).collect();
    let edited = desk.accept(&both).unwrap();
    let others: Vec<usize> = edited.entries.iter().map(|entry| entry.others.len()).collect();
    assert_eq!(others, [1, 0], "{edited:?}");
}

#[test]
fn nothing_is_proposed_to_be_allowed_while_a_list_is_not_known() {
    let place = Place::new(&[("block.txt", "198.51.100.0/24\n")]);
    let dst = "203.0.113.9";
    let refused = refused("web", "172.17.0.2", dst, "never-resolved");
    place.write("events", &(refused + &record("late.example", dst)));
    let look = |misread: Option<&str>| {
        let mut desk = Desk::open(&place.config(), misread.map(str::to_owned));
        let mut review = desk.review(&place.sources(&["events"], None), false).unwrap();
        (review.items.remove(0).proposed, review.notes)
    };
    let (proposed, notes) = look(None);
    assert_eq!((proposed.proposal, notes), (Proposal::Accept, Vec::new()));
    let is_unknown = |proposed: &crate::daemon::findings::Proposed| {
        proposed.proposal == Proposal::Keep
            && proposed.because.starts_with("whether it is blocked is unknown: ")
    };
    let (proposed, notes) = look(Some("it has another file"));
    assert!(is_unknown(&proposed), "{proposed:?}");
    assert_eq!(notes, ["it has another file"]);
    std::fs::remove_file(place.at("state/lists/block.txt")).unwrap();
    std::fs::create_dir(place.at("state/lists/block.txt")).unwrap();
    let (proposed, notes) = look(None);
    assert!(is_unknown(&proposed), "{proposed:?}");
    assert!(notes.len() == 1 && notes[0].contains("block"), "{notes:?}");
}

#[test]
fn what_is_allowed_or_accused_of_nothing_is_not_blocked() {
    let place = Place::new(&[
        ("block.txt", "203.0.113.1\n203.0.113.2\n"),
        ("allow.txt", "203.0.113.2\n203.0.113.6\n"),
    ]);
    let one = |dst: &str, reason: &str| refused("web", "172.17.0.2", dst, reason);
    let events = [
        one("203.0.113.3", "never-resolved"),
        one("203.0.113.4", "hold-budget"),
        one("203.0.113.5", "unhealthy"),
        one("203.0.113.6", "never-resolved"),
    ];
    // What a container in quarantine dials is not accused by that.
    let confined = serde_json::json!({ "ts": "2026-11-01T03:04:05Z", "event": "block", "mode": "enforce",
        "enforced": true, "set": "quarantine4", "container": "db", "container_id": "y", "src": "172.17.0.3",
        "dst": "203.0.113.9", "count": 3, "list": "quarantine", "entry": "172.17.0.3", "names": [] });
    let listed = confined.to_string().replace("quarantine4", "block4").replace("113.9", "113.8");
    place.write("events", &format!("{}{confined}\n{listed}\n", events.concat()));
    let blocked = ["203.0.113.1", "203.0.113.3", "203.0.113.8"];
    assert_eq!(addresses(&place.report(None)), blocked);
}

#[test]
fn a_report_of_one_container_is_all_about_it_and_forgets_nobody_else() {
    let auto = "203.0.113.7 from=172.17.0.2\n203.0.113.8 from=172.17.0.3\n";
    let place = Place::new(&[("auto.txt", auto)]);
    let events = refused("web", "172.17.0.2", "203.0.113.1", "never-resolved")
        + &refused("db", "172.17.0.3", "203.0.113.2", "never-resolved");
    place.write("events", &events);
    assert_eq!(place.report(None).rows.len(), 4);
    for container in ["web", "172.17.0.2"] {
        let of_one = place.report(Some(container));
        assert_eq!(addresses(&of_one), ["203.0.113.1", "203.0.113.7"], "{container}");
        assert_eq!(of_one.page.hours.values().sum::<u64>(), 1, "{container}");
    }
    let other: IpAddr = "203.0.113.8".parse().unwrap();
    let state = place.at("state");
    let remembers = |state: &Path| Memory::load(state, Wall(0)).0.of(other).is_some();
    assert!(remembers(&state), "it is blocked still");
    place.write("state/lists/auto.txt", "");
    place.report(None);
    assert!(!remembers(&state), "it is blocked no more");
}

#[test]
fn a_file_that_is_named_twice_is_read_once() {
    let place = Place::new(&[]);
    let event = refused("web", "172.17.0.2", "203.0.113.1", "never-resolved");
    place.write("events", &event);
    place.write("events.1", &event);
    let sources = place.sources(&["events", "events.1", "./events"], None);
    let report = report(&place.config(), None, &sources, &Lookups::default()).unwrap();
    assert_eq!(report.page.findings[0].refused, 2);
}
