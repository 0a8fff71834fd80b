//! What to do about a verdict: commands as they can be typed.

use super::Explanation;
use crate::control::Explained;
use crate::daemon::inspect::{RulesState, Step};
use crate::engine::{Grade, Reason};
use crate::lists::{Found, Kind};

/// The lists that commands edit; others are fetched, or come with the program.
const OWN_BLOCKS: [&str; 2] = ["block", "auto"];

pub(super) fn advice(explanation: &Explanation) -> Vec<String> {
    let Explanation { daemon, kernel, .. } = explanation;
    let rules = kernel.as_ref().map(|tested| tested.rules);
    if matches!(rules, Some(RulesState::Absent | RulesState::Dormant)) {
        return vec![
            "`synhold rules install` puts the rules in; `synhold rules check` tells the difference"
                .to_owned(),
        ];
    }
    let steps = kernel.iter().flat_map(|tested| &tested.steps);
    let decisive: Option<&Step> = steps.into_iter().find(|step| step.decides);
    if let Some(step) = decisive {
        return by_set(explanation, step);
    }
    if explanation.passes && daemon.marks.is_empty() && daemon.rejected.is_empty() {
        return would_be(daemon);
    }
    by_engine(explanation)
}

/// What a dry run or learning lets through today.
fn would_be(daemon: &Explained) -> Vec<String> {
    match daemon.verdict {
        crate::engine::Verdict::Accept => Vec::new(),
        crate::engine::Verdict::Drop => {
            let mut advice = vec!["nothing now; before you enforce:".to_owned()];
            advice.extend(let_through(daemon));
            advice
        }
    }
}

fn by_set(explanation: &Explanation, step: &Step) -> Vec<String> {
    let daemon = &explanation.daemon;
    let address = daemon.address;
    if step.set.starts_with("quarantine") {
        return vec![release(daemon, &step.entries)];
    }
    if step.set.starts_with("block") {
        return unblock(daemon, &step.entries);
    }
    if step.set.starts_with("denied") && step.entries.is_empty() {
        let again =
            "it was refused a moment ago, and is judged anew when that is over or its record comes";
        let mut advice = vec![again.to_owned()];
        advice.extend(by_engine(explanation));
        return advice;
    }
    if step.set.starts_with("denied") {
        return vec![
            format!("`synhold unblock {address}` takes it out of auto.txt"),
            allow(daemon),
        ];
    }
    Vec::new()
}

fn by_engine(explanation: &Explanation) -> Vec<String> {
    let daemon = &explanation.daemon;
    match daemon.reason {
        Reason::Blocklisted if daemon.quarantined => vec![release(daemon, &[])],
        Reason::Blocklisted => unblock(daemon, &explanation.entries),
        Reason::NeverResolved => let_through(daemon),
        Reason::Stale => vec![
            "have the container resolve the name again: programs that keep addresses for so long should be restarted"
                .to_owned(),
            "or let evidence count for longer: `--evidence-max-age`, or `--evidence-refresh` for what is in use".to_owned(),
            allow(daemon),
        ],
        Reason::OutOfScope if daemon.grade == Grade::Static => vec![
            "`--evidence-static accept` has hosts files and the resolver's configuration count".to_owned(),
            allow(daemon),
        ],
        Reason::OutOfScope => vec![
            format!("have {} resolve the name itself, by the resolver whose log is read", who(daemon)),
            section(daemon, "scope = \"global\"", "has others' look-ups count for it"),
            allow(daemon),
        ],
        Reason::Unhealthy => vec![
            "`synhold status` shows the DNS sources: mend what is wrong there".to_owned(),
            "after a start wait a moment: a source has to be read for as long as a packet is held".to_owned(),
            allow(daemon),
        ],
        Reason::Resolved | Reason::ResolvedAfterHold if !daemon.marks.is_empty() => vec![
            format!("if that is not meant: `synhold block {}`, or a name of it", daemon.address),
        ],
        _ => Vec::new(),
    }
}

/// Ways out for an address that nobody resolved.
fn let_through(daemon: &Explained) -> Vec<String> {
    let mut advice = Vec::new();
    let asks = daemon.clients.iter().any(|client| client.asks);
    if !daemon.clients.is_empty() && !asks {
        advice.push(format!(
            "have {} use the resolver whose log is read (its /etc/resolv.conf, Docker's `--dns`): it asks another",
            who(daemon)
        ));
    }
    if !daemon.rejected.is_empty() {
        advice.push(
            "if the name is this network's own: `--local-domain` has its answers count".to_owned(),
        );
    }
    advice.push(allow(daemon));
    let value = format!("allow = [\"{}\"]", daemon.address);
    advice.push(section(daemon, &value, "allows it to this container alone"));
    if let Some(container) = &daemon.container {
        advice.push(format!(
            "if it is not meant: `synhold block --container {}` puts it into quarantine",
            container.name
        ));
    }
    advice
}

fn unblock(daemon: &Explained, entries: &[Found]) -> Vec<String> {
    let blocks = entries.iter().filter(|found| found.kind == Kind::Block);
    let own = blocks.filter(|found| OWN_BLOCKS.contains(&found.list.as_str()));
    let mut advice: Vec<String> = own
        .map(|found| {
            format!("`synhold unblock {}` takes it out of {}.txt", found.entry, found.list)
        })
        .collect();
    advice.push(allow(daemon));
    advice
}

fn allow(daemon: &Explained) -> String {
    format!("if it is meant: `synhold allow {}` lets it through for everybody", daemon.address)
}

fn section(daemon: &Explained, setting: &str, effect: &str) -> String {
    let name = daemon.container.as_ref().map_or("NAME", |container| container.name.as_str());
    format!("a section [[container]] with name = \"{name}\" and {setting}, then SIGHUP, {effect}")
}

fn release(daemon: &Explained, entries: &[Found]) -> String {
    let name = daemon.container.as_ref().map(|container| container.name.clone());
    let by_address = entries.iter().any(|found| found.entry.parse::<std::net::IpAddr>().is_ok());
    let source = daemon.source.map(|source| source.to_string());
    let who = match by_address {
        true => source.or(name),
        false => name.or(source),
    };
    let who = who.unwrap_or("NAME".to_owned());
    format!("`synhold unblock --container {who}` lets it out of quarantine")
}

fn who(daemon: &Explained) -> &str {
    daemon.container.as_ref().map_or("the container", |container| container.name.as_str())
}
