//! How an explanation reads.

use super::*;
use crate::daemon::inspect::RulesState;
use serde_json::json;

fn explained(verdict: &str, reason: &str, mode: &str) -> Explained {
    serde_json::from_value(json!({
        "daemon": {"pid": 7, "version": "0.1.0", "state_dir": "/s", "memory_only": false, "netns": 1,
            "since": "1970-01-01T00:00:00.000000Z"},
        "address": "203.0.113.9", "source": "172.17.0.2", "container": null,
        "policy": {"mode": "enforce", "scope": "global", "hold_ms": 500, "refuse": "reset", "allow": [],
            "origins": {"mode": "[[container]] number 2"}, "faults": []},
        "quarantined": false, "verdict": verdict, "reason": reason, "held_ms": 500, "mode": mode,
        "domain": null, "denied": false, "grade": "never", "names": [],
        "evidence": {"healthy": true, "records": 5, "lag_us": 0, "lines": 9, "skipped": 0, "lost": 0,
            "last_line_ms": 4000}
    }))
    .unwrap()
}

fn tested(decides: bool, verdict: Sets) -> Tested {
    let step = Step {
        set: "block4".to_owned(),
        asked: "203.0.113.9".to_owned(),
        element: decides.then(|| "203.0.113.0/24".to_owned()),
        expires_ms: None,
        decides,
        entries: Vec::new(),
    };
    Tested {
        address: "203.0.113.9".parse().unwrap(),
        from: None,
        verdict,
        because: "as the sets say".to_owned(),
        rules: RulesState::Enforcing,
        steps: vec![step],
        names: Vec::new(),
        domains: Vec::new(),
        notes: Vec::new(),
    }
}

#[test]
fn the_sets_decide_first_and_the_daemon_what_they_let_go() {
    let never = explained("drop", "never-resolved", "enforce");
    let (passes, because) = verdict(&never, Some(&tested(false, Sets::Accepted)));
    assert!(!passes, "names on disk do not decide");
    assert_eq!(
        because,
        "held for 500 ms, and if no record comes, refused (never-resolved): no DNS answer ever named \
         203.0.113.9"
    );
    assert_eq!(
        verdict(&never, Some(&tested(true, Sets::Accepted))),
        (true, "as the sets say".into())
    );
    let resolved = explained("accept", "resolved", "enforce");
    assert_eq!(
        verdict(&resolved, Some(&tested(true, Sets::Refused))),
        (false, "as the sets say".into())
    );
    assert!(verdict(&resolved, None).0);
    let absent = Tested { rules: RulesState::Absent, ..tested(false, Sets::NotJudged) };
    assert!(verdict(&never, Some(&absent)).0, "nothing is judged");
}

#[test]
fn a_dry_run_lets_everything_pass_and_says_what_would_be() {
    let (passes, because) = verdict(&explained("drop", "never-resolved", "dry-run"), None);
    assert!(passes && because.contains("refused (never-resolved)"), "{because}");
    assert!(because.ends_with("it is a dry run, so it passes all the same"), "{because}");
}

#[test]
fn every_setting_says_where_it_comes_from() {
    let daemon = explained("drop", "never-resolved", "enforce");
    let text =
        tell(&Explanation { passes: false, because: String::new(), daemon, kernel: None }, Wall(0));
    assert!(
        text.contains("mode enforce ([[container]] number 2); scope global; hold-ms 500"),
        "{text}"
    );
    assert!(text.lines().any(|line| line.starts_with(">") && line.contains("DNS")), "{text}");
    assert!(text.contains("no container is known to have it"), "{text}");
    assert!(text.contains("nsenter -t 7 -n"), "{text}");
}
