//! How an explanation reads.

use super::verdict::verdict;
use super::*;
use crate::daemon::inspect::{RulesState, Step, Verdict as Sets};
use serde_json::json;

fn explained(verdict: &str, reason: &str, mode: &str) -> Explained {
    serde_json::from_value(json!({
        "daemon": {"pid": 7, "version": "0.1.0", "state_dir": "/s", "memory_only": false, "netns": 1,
            "since": "1970-01-01T00:00:00.000000Z"},
        "address": "203.0.113.9", "source": "172.17.0.2", "container": null,
        "policy": {"mode": "enforce", "scope": "global", "hold_ms": 500, "refuse": "reset", "allow": [],
            "origins": {"mode": "[[container]] number 2"}, "faults": []},
        "quarantined": false, "verdict": verdict, "reason": reason, "held_ms": 500, "mode": mode,
        "steps": [{"step": "mode", "mode": "enforce"}, {"step": "quarantine", "confined": false},
            {"step": "allow", "by": null}, {"step": "block", "by": null},
            {"step": "evidence", "grade": "never", "enough": null, "scope": "global", "stale": "accept",
                "fixed": "accept", "max_age_s": null},
            {"step": "established", "had": false}, {"step": "hold", "ms": 500},
            {"step": "absence", "proves": true, "why": [], "then": "refuse", "ends": [verdict, reason]}],
        "clients": [{"address": "172.17.0.2", "asks": false}],
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
    assert!(because.starts_with("would be held for 500 ms"), "{because}");
    assert!(because.ends_with("it is a dry run, so it passes all the same"), "{because}");
}

fn explanation(daemon: Explained) -> Explanation {
    let (passes, because) = verdict(&daemon, None);
    let proof = proof::proof(&daemon, Wall(1_000_000));
    let kernel_not_asked = Some("try `nsenter -t 7 -n`".to_owned());
    let lists_not_asked = Some("the lists were not asked: 4 wait".to_owned());
    let (advice, entries, kernel) = Default::default();
    let mut explanation = Explanation {
        passes,
        because,
        proof,
        advice,
        daemon,
        kernel,
        kernel_not_asked,
        entries,
        lists_not_asked,
    };
    explanation.advice = advice::advice(&explanation);
    explanation
}

#[test]
fn every_setting_says_where_it_comes_from_and_the_step_that_decides_is_marked() {
    let text = tell(&explanation(explained("drop", "never-resolved", "enforce")), Wall(0));
    assert!(text.starts_with("REFUSED: held for 500 ms"), "{text}");
    assert!(
        text.contains("mode enforce ([[container]] number 2); scope global; hold-ms 500"),
        "{text}"
    );
    let marked: Vec<&str> = text.lines().filter(|line| line.starts_with('>')).collect();
    assert!(marked.len() == 1 && marked[0].contains("evidence"), "{text}");
    assert!(text.contains("no container is known to have it"), "{text}");
    assert!(text.contains("nsenter -t 7 -n"), "{text}");
    assert!(text.contains("the lists were not asked: 4 wait"), "{text}");
}

#[test]
fn what_never_resolved_lists_what_was_looked_for_and_the_ways_out() {
    let said = explanation(explained("drop", "never-resolved", "enforce"));
    let proof = said.proof.join("\n");
    assert!(proof.contains("looked for: an A or AAAA answer with 203.0.113.9"), "{proof}");
    assert!(proof.contains("nothing at all is known that 172.17.0.2 ever asked for"), "{proof}");
    let advice = said.advice.join("\n");
    for part in
        ["use the resolver whose log is read", "`synhold allow 203.0.113.9`", "[[container]]"]
    {
        assert!(advice.contains(part), "{part}: {advice}");
    }
}

/// Each reason is told with its proof, and what helps against it.
#[test]
fn every_reason_has_its_proof_and_its_advice() {
    type Change = fn(&mut serde_json::Value);
    let all: [(&str, Change, &str, &str); 6] = [
        (
            "stale",
            |v| {
                v["grade"] = json!("stale");
                v["steps"][4]["grade"] = json!("stale");
                v["steps"][4]["max_age_s"] = json!(3600);
            },
            "evidence counts for 60 min",
            "--evidence-max-age",
        ),
        (
            "out-of-scope",
            |v| {
                v["grade"] = json!("other");
                v["steps"][4]["grade"] = json!("other");
                v["steps"][4]["scope"] = json!("container");
            },
            "what others asked for does not count",
            "scope = \"global\"",
        ),
        (
            "unhealthy",
            |v| {
                v["evidence"]["healthy"] = json!(false);
                v["evidence"]["why"] = json!(["file:/log down"]);
            },
            "nobody is accused: file:/log down",
            "`synhold status`",
        ),
        (
            "never-resolved",
            |v| {
                v["rejected"] = json!([{"at": "1970-01-01T00:00:00.500000Z", "name": "a.example",
                "address": "203.0.113.9", "container": null, "message": "a.example answers with an own address"}]);
            },
            "a.example answers with an own address (500 ms ago): a rebinding",
            "--local-domain",
        ),
        (
            "never-resolved",
            |v| v["marks"] = json!(["new-name"]),
            "suspicious (new-name)",
            "`synhold allow",
        ),
        (
            "blocklisted",
            |v| v["quarantined"] = json!(true),
            "",
            "`synhold unblock --container 172.17.0.2`",
        ),
    ];
    for (reason, change, proof, advice) in all {
        let mut daemon = serde_json::to_value(explained("drop", reason, "enforce")).unwrap();
        change(&mut daemon);
        let said = explanation(serde_json::from_value(daemon).unwrap());
        assert!(said.proof.join("\n").contains(proof), "{reason}: {:?}", said.proof);
        assert!(said.advice.join("\n").contains(advice), "{reason}: {:?}", said.advice);
    }
}

#[test]
fn without_rules_there_is_no_empty_table() {
    let mut said = explanation(explained("drop", "never-resolved", "enforce"));
    let nothing = Tested { rules: RulesState::Absent, ..tested(false, Sets::NotJudged) };
    said.kernel = Some(Tested { steps: Vec::new(), ..nothing });
    assert!(!tell(&said, Wall(0)).contains("KERNEL SET"));
    said.kernel = Some(tested(false, Sets::Undecided));
    assert!(tell(&said, Wall(0)).contains("KERNEL SET"));
}

#[test]
fn what_strangers_say_does_not_reach_the_terminal_as_it_is() {
    let mut daemon = explained("drop", "unhealthy", "enforce");
    daemon.evidence.healthy = false;
    daemon.evidence.why = vec!["\u{1b}[2J".to_owned()];
    assert!(!tell(&explanation(daemon), Wall(0)).contains('\u{1b}'));
}
