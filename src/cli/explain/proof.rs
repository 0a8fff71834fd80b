//! What speaks for an explanation, one sentence each: what was looked for and where, what was found and does not count.

use crate::cli::words;
use crate::control::{Explained, Named};
use crate::engine::trace::Finding;
use crate::engine::{Grade, Mark, Mode, Reason, Scope, Wall};

/// Names told one by one.
const NAMES_TOLD: usize = 5;

pub fn proof(daemon: &Explained, now: Wall) -> Vec<String> {
    let mut proof = Vec::new();
    let by_evidence = matches!(daemon.reason, Reason::NeverResolved | Reason::Unhealthy);
    if daemon.grade == Grade::Never && by_evidence {
        proof.push(looked_for(daemon));
        proof.extend(silent(daemon));
    }
    proof.extend(weighed(daemon, now));
    proof.extend(daemon.marks.iter().map(|mark| mark_text(*mark)));
    proof.extend(
        daemon
            .rejected
            .iter()
            .map(|one| format!("{} ({}): a rebinding", one.message, words::ago(one.at, now))),
    );
    if !daemon.evidence.healthy {
        let why = daemon.evidence.why.join("; ");
        proof.push(format!("the DNS evidence is not healthy, so nobody is accused: {why}"));
    }
    match daemon.mode {
        Mode::DryRun => proof.push("it is a dry run: refusals are told, not done".to_owned()),
        Mode::Learn => proof.push("synhold is still learning: only lists refuse".to_owned()),
        Mode::Enforce => {}
    }
    let gaps = daemon.container.iter().flat_map(|container| &container.gaps);
    proof.extend(gaps.map(|gap| format!("not covered: {gap}")));
    proof.extend(daemon.policy.faults.iter().cloned());
    proof
}

/// What there would have to be, and where it was looked for.
fn looked_for(daemon: &Explained) -> String {
    let sources: Vec<&str> = daemon.sources.iter().map(|source| source.label.as_str()).collect();
    let whose = match (daemon.policy.scope, daemon.source) {
        (Scope::Global, _) | (_, None) => "anybody's question".to_owned(),
        (Scope::Container, Some(_)) => {
            let own = daemon.clients.iter().map(|client| client.address.to_string());
            format!("a question of {}", own.collect::<Vec<_>>().join(" or "))
        }
    };
    let last = daemon.evidence.last_line_ms;
    let last = last.map_or("none yet".to_owned(), |ms| format!("the last {} ago", words::span(ms)));
    format!(
        "looked for: an A or AAAA answer with {} to {whose}, or a hosts file's line, among {} known addresses from {} \
         log lines of {} ({last})",
        daemon.address,
        daemon.evidence.records,
        daemon.evidence.lines,
        if sources.is_empty() { "no source".to_owned() } else { sources.join(", ") },
    )
}

/// A container that asks nobody we hear is no malware, but one with another resolver.
fn silent(daemon: &Explained) -> Option<String> {
    let asks = daemon.clients.iter().any(|client| client.asks);
    let of: Vec<String> = daemon.clients.iter().map(|client| client.address.to_string()).collect();
    (!of.is_empty() && !asks)
        .then(|| format!("nothing at all is known that {} ever asked for", of.join(" or ")))
}

/// What was found and weighed.
fn weighed(daemon: &Explained, now: Wall) -> Vec<String> {
    let mut told: Vec<String> =
        daemon.names.iter().take(NAMES_TOLD).map(|named| name(named, now)).collect();
    let weighing = daemon.steps.iter().find_map(|step| match &step.finding {
        Finding::Evidence { grade, enough, scope, max_age_s, .. } => {
            Some((*grade, *enough, *scope, *max_age_s))
        }
        _ => None,
    });
    let Some((grade, enough, scope, max_age_s)) = weighing else { return told };
    let age = max_age_s.map(|s| words::span(s.saturating_mul(1000)));
    if let (Grade::Stale, Some(age)) = (grade, age) {
        told.push(format!("evidence counts for {age} after it was seen last"));
    }
    if grade == Grade::Other && enough.is_none() && scope == Scope::Container {
        told.push("the scope is `container`: what others asked for does not count".to_owned());
    }
    told
}

/// `shop.example was answered to web (172.17.0.2) 3 min ago, by way of cdn.example`
fn name(named: &Named, now: Wall) -> String {
    let who = match (&named.container, named.asker) {
        (Some(container), Some(asker)) => format!(" to {container} ({asker})"),
        (None, Some(asker)) => format!(" to {asker}"),
        _ => String::new(),
    };
    let how = match named.kind {
        Some(kind) if kind.is_static() => {
            "comes from a hosts file or the resolver's configuration".to_owned()
        }
        _ => format!("was answered{who}"),
    };
    let chain: Vec<String> = named.chain.iter().map(ToString::to_string).collect();
    let way =
        if chain.is_empty() { String::new() } else { format!(", by way of {}", chain.join(", ")) };
    format!("{} {how} {}{way}", named.name, words::ago(named.last, now))
}

fn mark_text(mark: Mark) -> String {
    let why = match mark {
        Mark::NewName => "every name of it was resolved for the first time a few seconds ago",
        Mark::ManyAddresses => "a name of it has had more addresses than ordinary services have",
        Mark::NameFlood => "its name was one of a flood of new names from one asker",
    };
    format!("suspicious ({}): {why}; that changes no verdict", mark.as_str())
}
