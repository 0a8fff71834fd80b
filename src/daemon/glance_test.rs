//! No fault hides, and none of them leaves "enforcing" standing that ends it.

use serde_json::json;

use super::*;
use crate::control::{RulesNews, SinkState};
use crate::engine::health::SourceState;

const NOW: Wall = Wall(1_000_000_000);

fn sound() -> Status {
    let totals = crate::engine::event::Totals::default();
    serde_json::from_value(json!({
        "daemon": {"pid": 7, "version": "0.1.0", "state_dir": "/s", "memory_only": false, "netns": 1,
            "since": "1970-01-01T00:00:00.000000Z"},
        "mode": "enforce", "posture": "closed", "rules": "enforcing",
        "evidence": {"healthy": true, "records": 5, "lag_us": 0, "lines": 9, "skipped": 0, "lost": 0,
            "last_line_ms": 4000},
        "queues": [{"number": 0, "served": true, "waiting": 0, "dropped_full": 0, "dropped_unread": 0}],
        "held_now": 0, "totals": totals,
        "docker": {"state": "off", "what": "", "since": "1970-01-01T00:00:01.000000Z"},
        "containers": [], "left_out": 0
    }))
    .unwrap()
}

#[test]
fn a_sound_daemon_has_no_faults_and_enforces() {
    let status = sound();
    assert_eq!(faults(&status, NOW), Vec::<String>::new());
    assert!(Ground::of(&status).is_enforcing());
}

#[test]
fn every_fault_is_named_and_those_that_end_enforcing_do() {
    type Break = fn(&mut Status);
    let all: [(Break, &str, bool); 26] = [
        (|s| s.rules = Some("absent".into()), "NO RULES", false),
        (|s| s.rules = Some("dry-run".into()), "those of `dry-run`", false),
        (|s| s.rules = None, "does not tell its rules", false),
        (|s| s.queues[0].served = false, "nobody serves queue 0", false),
        (|s| s.queues.clear(), "does not tell its queues", false),
        (|s| s.canary.state = CanaryState::Failing, "canary", false),
        (|s| s.evidence.why = vec!["file:/log down".into()], "file:/log down", true),
        (|s| s.docker.state = DockerState::Down, "Docker is DOWN", true),
        (|s| s.registry.full = true, "registry is full", true),
        (|s| s.disk = Some("no room".into()), "no room", true),
        (|s| s.totals.kernel_dropped = 3, "3 packets lost", true),
        (silence, "spawn does not answer (2 questions in a row)", true),
        (|s| s.stalled = vec!["standard output".into()], "standard output takes nothing", true),
        (|s| s.canary.unable = true, "no canary", true),
        (|s| canary(s, CanaryState::Waiting, 0), "proves nothing", true),
        (|s| canary(s, CanaryState::Passing, 181), "heard of for 181 s", true),
        (|s| s.totals.panics = 1, "1 panics", true),
        (|s| s.rules = Some("dormant".into()), "DORMANT: nothing is judged", false),
        (|s| s.queues.push(QueueState { number: 1, ..QueueState::default() }), "queue 1", false),
        (|s| s.drift = Some(drift(false)), "flushed by nft", true),
        (|s| s.sources = vec![doubted()], "DNS source fifo:/log is behind", true),
        (|s| s.totals.user_dropped = 2, "2 packets lost", true),
        (|s| s.totals.events_shed = 4, "4 events not written", true),
        (|s| s.alerts = vec![failing_sink()], "alerts to mail fail: no route", true),
        (|s| s.lists = vec![feed("cut short")], "feed threats: cut short", true),
        (|s| s.left_out = 3, "3 containers beyond", true),
    ];
    for (break_it, word, enforcing) in all {
        let mut status = sound();
        break_it(&mut status);
        let faults = faults(&status, NOW);
        assert!(faults.len() == 1 && faults[0].contains(word), "{word}: {faults:?}");
        assert_eq!(Ground::of(&status).is_enforcing(), enforcing, "{word}");
    }
    let mut listed = sound();
    let list = json!({"name": "block", "kind": "block", "feed": false, "entries": 0, "bad": 1,
        "first_bad": "block.txt:3: what is it"});
    listed.lists = vec![serde_json::from_value(list).unwrap()];
    let said =
        "list block: 1 line does not count, first block.txt:3: what is it; mend or remove it";
    assert!(faults(&listed, NOW)[0].starts_with(said), "{:?}", faults(&listed, NOW));
    let mut learning = sound();
    learning.mode = Mode::Learn;
    assert!(!Ground::of(&learning).is_enforcing() && faults(&learning, NOW).is_empty());
}

fn drift(healthy: bool) -> RulesNews {
    RulesNews { at: NOW, healthy, message: "flushed by nft".to_owned() }
}

fn doubted() -> SourceState {
    let doubt = Some("is behind".to_owned());
    SourceState { label: "fifo:/log".to_owned(), doubt, ..SourceState::default() }
}

fn failing_sink() -> SinkState {
    serde_json::from_value(
        json!({"name": "mail", "kind": "mail", "ok": false, "message": "no route",
        "sent": 0, "failed": 1, "dropped": 0, "withheld": 0}),
    )
    .unwrap()
}

fn feed(error: &str) -> ListState {
    let name = "threats".to_owned();
    let (kind, error) = ("block".to_owned(), Some(error.to_owned()));
    ListState { name, kind, feed: true, entries: 0, bad: 0, first_bad: None, fetched: None, error }
}

#[test]
fn what_is_as_wanted_or_over_is_no_fault() {
    let mut dry = sound();
    (dry.mode, dry.rules) = (Mode::DryRun, Some("dry-run".to_owned()));
    // Whoever tries it out needs no proof that it refuses.
    dry.canary.unable = true;
    dry.drift = Some(drift(true));
    assert_eq!(faults(&dry, NOW), Vec::<String>::new());
    assert!(!Ground::of(&dry).is_enforcing());
    let mut unhealthy = sound();
    unhealthy.evidence.healthy = false;
    unhealthy.evidence.why = vec!["fifo:/log is behind".to_owned()];
    unhealthy.sources = vec![doubted()];
    assert_eq!(faults(&unhealthy, NOW).len(), 1, "told once: {:?}", faults(&unhealthy, NOW));
}

#[test]
fn every_list_and_every_feed_is_told_once() {
    let report = |name: &str| FeedReport {
        name: name.to_owned(),
        kind: Kind::Block,
        source: "https://feeds.example/".to_owned(),
        fetched: None,
        next_fetch: NOW,
        last_error: None,
    };
    let status = |name: &str| {
        ListStatus {
        report: serde_json::from_value(json!({"name": name, "kind": "block", "entries": 0, "domains": 0,
            "bad": 2, "refused": 3, "expired": 0, "bad-lines": [], "refused-entries": [], "error": null}))
        .unwrap(),
        source: None,
        fetched: None,
        next_fetch: None,
        last_error: None,
    }
    };
    let all = lists(&[status("block"), status("known")], &[report("known"), report("waits")]);
    let told: Vec<(&str, bool, u64, Option<&str>)> =
        all.iter().map(|list| (&*list.name, list.feed, list.bad, list.error.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("block", false, 5, None),
            ("known", true, 5, None),
            ("waits", true, 0, Some("not fetched yet")),
        ]
    );
}

/// One that has passed, and was heard of so long ago.
fn silence(status: &mut Status) {
    let source = SourceState { label: "spawn".into(), up: true, ..SourceState::default() };
    status.sources = [1, 2].map(|n| SourceState { unanswered: Some(n), ..source.clone() }).into();
}

fn canary(status: &mut Status, state: CanaryState, seconds: u64) {
    let at = Some(Wall(NOW.0 - seconds * 1_000_000));
    status.canary = Canary { state, passed: true, at, ..Canary::default() };
}

#[test]
fn a_canary_that_is_not_to_prove_anything_yet_is_no_fault() {
    let mut status = sound();
    status.canary.state = CanaryState::Waiting;
    assert_eq!(faults(&status, NOW), Vec::<String>::new());
    canary(&mut status, CanaryState::Passing, 70);
    assert_eq!(faults(&status, NOW), Vec::<String>::new());
    canary(&mut status, CanaryState::Waiting, 0);
    status.mode = Mode::Learn;
    assert_eq!(faults(&status, NOW), Vec::<String>::new());
}
