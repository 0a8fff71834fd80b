//! How a status reads.

use super::*;
use serde_json::json;

fn status(containers: &serde_json::Value) -> Status {
    let zeros = [
        "released",
        "malformed",
        "copies",
        "gone",
        "overruns",
        "reopened",
        "panics",
        "unrefused",
        "kernel_dropped",
        "user_dropped",
        "events_shed",
    ];
    let mut totals = json!({"accepted": 12, "refused": 3, "held": 4});
    for zero in zeros {
        totals[zero] = json!(0);
    }
    serde_json::from_value(json!({
        "daemon": {"pid": 7, "version": "0.1.0", "state_dir": "/s", "memory_only": false, "netns": 1,
            "since": "1970-01-01T00:00:00.000000Z"},
        "mode": "enforce", "posture": "closed", "rules": "absent",
        "evidence": {"healthy": false, "records": 5, "lag_us": 0, "lines": 9, "skipped": 0, "lost": 0,
            "last_line_ms": 4000, "why": ["file:/log down"]},
        "held_now": 2, "totals": totals,
        "docker": {"state": "down", "what": "no\u{1b}[2J socket", "since": "1970-01-01T00:00:01.000000Z"},
        "containers": containers, "left_out": 0
    }))
    .unwrap()
}

#[test]
fn what_is_wrong_is_loud_and_nothing_of_strangers_reaches_the_terminal() {
    let mut status = status(&json!([]));
    status.faults = vec!["file:/log is\u{1b}[2J down".to_owned(); 20];
    let text = tell(&status, Wall(10_000_000), Paint::always(false));
    assert!(text.starts_with("NOT ENFORCING: NO RULES IN THE KERNEL"), "{text}");
    assert!(text.contains("  ! file:/log is [2J down\n") && text.contains("and 12 more"), "{text}");
    assert!(text.contains("NOT HEALTHY: file:/log down"), "{text}");
    assert!(text.contains("Docker: DOWN since 9 s ago: no [2J socket"), "{text}");
    assert!(
        text.contains("12 accepted, 3 refused, 4 held of which 0 released; 2 wait now"),
        "{text}"
    );
    assert!(!text.contains('\u{1b}'));
}

#[test]
fn rules_that_were_left_behind_are_told_where_nobody_runs() {
    let says = |queue| nobody(Path::new("/s"), queue, Paint::always(true));
    assert!(!says(None).contains('\n'));
    assert!(says(Some(Queue::Served)).contains("another synhold"));
    let dropping = says(Some(Queue::Dropping));
    let red = dropping.lines().nth(1).unwrap();
    assert!(red.starts_with("\u{1b}[1;31m") && red.contains("DROPPED until"), "{dropping}");
    assert!(says(Some(Queue::Passing)).contains("PASS UNJUDGED"));
}

#[test]
fn a_container_is_one_line_and_its_gaps_come_last() {
    let policy = json!({"mode": "dry-run", "scope": "global", "hold_ms": 750, "refuse": "reset",
        "allow": [], "origins": {}, "faults": ["label synhold.mode is not followed: no"]});
    let web = json!({"name": "web", "id": "ab", "image": "nginx", "policy": policy, "quarantined": false,
        "addresses": ["172.17.0.2"], "networks": ["bridge"], "gaps": ["it uses the host's network"],
        "accepted": 10, "held": 2, "refused": 1,
        "last_refusal": {"at": "1970-01-01T00:00:07.000000Z", "dst": "203.0.113.9", "port": 443,
            "proto": "tcp", "reason": "never-resolved"}});
    let text = tell(&status(&json!([web])), Wall(10_000_000), Paint::always(false));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{text}");
    let row = lines.iter().find(|line| line.starts_with("web")).unwrap();
    let words: Vec<&str> = row.split_whitespace().collect();
    assert_eq!(words[..6], ["web", "dry-run", "172.17.0.2", "10", "2", "1"]);
    assert!(row.ends_with("3 s ago never-resolved 203.0.113.9 tcp/443"), "{row}");
    assert_eq!(
        lines[lines.len() - 2..],
        ["  web: it uses the host's network", "  web: label synhold.mode is not followed: no"]
    );
}

#[test]
fn a_dry_run_says_what_would_be() {
    let refused = json!({"first": "1970-01-01T00:00:01.000000Z", "last": "1970-01-01T00:00:02.000000Z",
        "count": 1, "container": "web", "src": "172.17.0.2", "dst": "203.0.113.9", "port": 443, "proto": "tcp",
        "reason": "never-resolved", "names": [], "enforced": false});
    let policy = json!({"mode": "enforce", "scope": "global", "hold_ms": 750, "refuse": "reset",
        "allow": [], "origins": {}, "faults": []});
    let host = json!({"name": "host", "id": "ab", "image": "nginx", "policy": policy, "quarantined": false,
        "judged": false, "addresses": [], "networks": ["host"], "gaps": [], "accepted": 0, "held": 0, "refused": 0,
        "last_refusal": null});
    let mut status = status(&json!([host]));
    status.mode = Mode::DryRun;
    let rate = crate::control::Rate { over_ms: 10_000, verdicts: 100, refused: 1, held: 5 };
    (status.rates.short, status.rates.long) = (rate.clone(), rate);
    status.hold = crate::control::Timing { count: 5, p50_us: Some(500_000), p99_us: Some(500_000) };
    status.refusals = vec![serde_json::from_value(refused).unwrap()];
    let text = tell(&status, Wall(10_000_000), Paint::always(false));
    for part in [
        "10 verdicts/s, would be refused 6/min and held 0.5/s",
        "3 would be refused, 4 would be held",
        "Held packets would have waited",
        "WOULD BE REFUSED  CONTAINER",
        "host       not judged  -",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn a_source_that_is_not_to_be_trusted_is_red_where_there_are_colours() {
    let mut status = status(&json!([]));
    let source = |label: &str, up: bool, doubt: Option<&str>| {
        json!({"label": label, "up": up, "doubt": doubt, "lines": 1234, "records": 7, "skipped": 0, "lost": 3,
            "lag_us": 1260, "last_line_ms": 4000, "bound_us": 50000,
            "delay": {"samples": 5000, "p999_us": 2400, "longest_us": 9000}})
    };
    status.hold_us = 750_000;
    status.sources = serde_json::from_value(json!([
        source("file:/log", true, None),
        source("journal:dnsmasq.service", false, Some("down")),
        source("docker:dns", true, Some("lost lines within the last minute")),
        source("spawn", true, None),
    ]))
    .unwrap();
    status.sources[3].unanswered = Some(2);
    let plain = tell(&status, Wall(10_000_000), Paint::always(false));
    assert!(!plain.contains('\u{1b}'));
    let row = |text: &str, label: &str| {
        text.lines().find(|l| l.contains(label) && l.contains("50 ms")).map(str::to_owned)
    };
    let cells = row(&plain, "file:/log").unwrap();
    let cells: Vec<&str> = cells.split_whitespace().collect();
    assert_eq!(
        cells,
        ["file:/log", "up", "1234", "3", "4", "s", "1.2", "ms", "2.4", "ms", "50", "ms"]
    );
    assert!(row(&plain, "spawn").unwrap().contains(" SILENT "));
    assert!(row(&plain, "docker:dns").unwrap().ends_with("lost lines within the last minute"));
    assert!(plain.contains("A packet is held for 750 ms at most."), "{plain}");

    let painted = tell(&status, Wall(10_000_000), Paint::always(true));
    let red = |label: &str| row(&painted, label).unwrap().starts_with("\u{1b}[1;31m");
    assert_eq!(["file:/log", "journal:dnsmasq", "docker:dns"].map(red), [false, true, true]);
    assert!(painted.contains("\u{1b}[1;31mNOT HEALTHY"), "{painted}");
    assert_eq!(painted.replace("\u{1b}[1;31m", "").replace("\u{1b}[0m", ""), plain);
}

/// A host with some of everything, as a person would see it.
#[test]
fn a_normal_host_fits_a_screen_and_every_part_is_there() {
    let refused = |second: u64, n: u64| {
        json!({"first": "1970-01-01T00:00:01.000000Z", "last": format!("1970-01-01T00:00:{second:02}.000000Z"),
            "count": n, "container": format!("web-{n}"), "src": "172.17.0.2", "dst": format!("203.0.113.{n}"),
            "port": 443, "proto": "tcp", "reason": "never-resolved", "names": [], "enforced": n != 3})
    };
    let policy = json!({"mode": "enforce", "scope": "global", "hold_ms": 750, "refuse": "reset",
        "allow": [], "origins": {}, "faults": []});
    let web = |n: u64| {
        json!({"name": format!("web-{n}"), "id": "ab", "image": "nginx", "policy": policy, "quarantined": n == 4,
            "addresses": [format!("172.17.0.{n}")], "networks": ["bridge"], "gaps": [], "accepted": 10, "held": 2,
            "refused": 1, "last_refusal": null})
    };
    let mut status = status(&(1..5).map(web).collect());
    status.enforcing = true;
    status.rules = Some("enforcing".to_owned());
    status.evidence.healthy = true;
    status.docker.state = DockerState::Up;
    status.queues = serde_json::from_value(
        json!([{"number": 0, "served": true, "waiting": 1, "dropped_full": 0,
        "dropped_unread": 2}]),
    )
    .unwrap();
    status.canary = serde_json::from_value(json!({"state": "passing", "message": "both ways",
        "at": "1970-01-01T00:00:08.000000Z"}))
    .unwrap();
    status.rates.short =
        crate::control::Rate { over_ms: 10_000, verdicts: 123, refused: 1, held: 5 };
    status.rates.long =
        crate::control::Rate { over_ms: 60_000, verdicts: 600, refused: 3, held: 5 };
    status.latency = crate::control::Timing { count: 600, p50_us: Some(50), p99_us: Some(2500) };
    status.hold = crate::control::Timing { count: 5, p50_us: Some(500_000), p99_us: None };
    status.refusals =
        (1..13).map(|n| serde_json::from_value(refused(n % 10, n)).unwrap()).collect();
    status.lists = serde_json::from_value(json!([
        {"name": "drop", "kind": "block", "feed": true, "entries": 1200, "bad": 0,
            "fetched": "1970-01-01T00:00:01.000000Z"},
        {"name": "late", "kind": "allow", "feed": true, "entries": 0, "bad": 0, "error": "the server answered 404"},
        {"name": "auto", "kind": "block", "feed": false, "entries": 0, "bad": 0}]))
    .unwrap();
    let text = tell(&status, Wall(10_000_000), Paint::always(false));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines.len() <= 40, "{} lines\n{text}", lines.len());
    assert!(lines.iter().all(|line| line.chars().count() <= 100), "{text}");
    for part in [
        "ENFORCING: rules in the kernel, queue served, canary passed 2 s ago, unchanged by others",
        "Queues: 0 has 1 waiting, DROPPED 0 full and 2 unread",
        "Last 10 s: 12 verdicts/s, 6 refused/min, 0.5 held/s",
        "Last 60 s: 10 verdicts/s, 3 refused/min, 0 held/s",
        "Verdicts took below 50 us (half of them), below 2.5 ms (99 %)",
        "Held packets waited below 500 ms (half of them), longer than is measured (99 %)",
        "203.0.113.3 tcp/443       3  (never-resolved)",
        "and 2 more: `synhold top`",
        "the server answered 404",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
    assert!(!text.contains("auto "), "an empty list of our own\n{text}");
    status.canary.state = crate::control::CanaryState::Waiting;
    status.canary.message = "this host forwards nothing".to_owned();
    let (_, first) = headline::headline(&status, Wall(10_000_000));
    assert!(first.contains(", canary proves nothing: this host forwards nothing, "), "{first}");
}
