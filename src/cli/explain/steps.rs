//! The questions in their order: the kernel's sets, then the engine's own steps. A mark is at the one that decides.

use crate::cli::sets::yes;
use crate::cli::table::{Align, Table};
use crate::cli::words;
use crate::control::{Container, Explained, Named, Policy};
use crate::daemon::inspect::{self, Step, Tested};
use crate::engine::trace::{Basis, Finding, Traced};
use crate::engine::{Grade, OnUnhealthy, Wall};
use crate::lists::Found;

/// Names shown.
const NAMES_SHOWN: usize = 5;

/// The sets that the rules ask before anything comes to the engine.
pub fn kernel(tested: &Tested) -> Vec<String> {
    let columns = [
        ("", Align::Left),
        ("KERNEL SET", Align::Left),
        ("ASKED FOR", Align::Left),
        ("ANSWER", Align::Cut),
    ];
    let mut table = Table::new(&columns);
    if tested.steps.is_empty() {
        return Vec::new();
    }
    let answer = |step: &Step| step.element.as_ref().map_or("no".to_owned(), |e| yes(step, e));
    for step in &tested.steps {
        let mark = if step.decides { ">" } else { "" };
        table.row(vec![mark.to_owned(), step.set.clone(), step.asked.clone(), answer(step)]);
    }
    table.lines()
}

/// What the engine asks itself of what the sets let go. `reached` is false where they decide.
pub fn engine(daemon: &Explained, entries: &[Found], reached: bool, now: Wall) -> Vec<String> {
    let columns = [("", Align::Left), ("ENGINE STEP", Align::Left), ("ANSWER", Align::Left)];
    let mut table = Table::new(&columns);
    for step in &daemon.steps {
        let mark = if step.ends.is_some() && reached { ">" } else { "" };
        let (word, answer) = row(daemon, step, entries, now);
        table.row(vec![mark.to_owned(), word.to_owned(), answer]);
    }
    let mut lines = table.lines();
    if !reached && !lines.is_empty() {
        lines.push(
            "(A set decides before the engine is asked: this is what it would say.)".to_owned(),
        );
    }
    lines
}

fn row(daemon: &Explained, step: &Traced, entries: &[Found], now: Wall) -> (&'static str, String) {
    let by =
        |by: &Option<Basis>| by.as_ref().map_or("no".to_owned(), |by| basis(daemon, by, entries));
    match &step.finding {
        Finding::Mode { .. } => ("mode", setting(&daemon.policy, "mode")),
        Finding::Quarantine { confined } => {
            ("quarantine", if *confined { "yes" } else { "no" }.to_owned())
        }
        Finding::Allow { by: allows } => ("allow", by(allows)),
        Finding::Block { by: blocks } => ("block", by(blocks)),
        Finding::Evidence { grade, enough, .. } => {
            let enough = match enough {
                Some(enough) if enough == grade => String::new(),
                Some(enough) => format!("; enough is that it is {}", enough.as_str()),
                None if *grade == Grade::Never => String::new(),
                None => "; that is not enough".to_owned(),
            };
            ("DNS", format!("{}: {}{enough}", grade.as_str(), dns_says(daemon, now)))
        }
        Finding::Established { had } => {
            let had = if *had { "yes, so it may open it again" } else { "no" };
            ("open at start", had.to_owned())
        }
        Finding::Hold { ms } => ("hold", format!("up to {ms} ms for its record")),
        Finding::Absence { proves: true, .. } => {
            ("evidence", "healthy, so that there is no record proves something".to_owned())
        }
        Finding::Absence { why, then, .. } => {
            let then = match then {
                OnUnhealthy::Accept => "it passes",
                OnUnhealthy::Hold => "it goes in silence, to be tried again",
                OnUnhealthy::Refuse => "it is refused",
            };
            ("evidence", words::plain(&format!("NOT HEALTHY ({}): {then}", why.join("; "))))
        }
    }
}

fn basis(daemon: &Explained, basis: &Basis, entries: &[Found]) -> String {
    match basis {
        Basis::Address => "yes, by its address".to_owned(),
        Basis::Policy => {
            format!("yes, by the container's own: {}", setting(&daemon.policy, "allow"))
        }
        Basis::Pair => "yes, by its address for this source alone".to_owned(),
        Basis::Domain(domain) if entries.is_empty() => format!("yes, by the domain {domain}"),
        Basis::Domain(domain) => {
            format!("yes, by the domain {domain}, {}", inspect::comes_from(entries))
        }
    }
}

fn dns_says(daemon: &Explained, now: Wall) -> String {
    let says = match daemon.grade {
        Grade::Own => "asked by this container",
        Grade::Other => "asked by somebody",
        Grade::Static => "by a hosts file or the resolver's configuration",
        Grade::Stale => "asked, but too long ago",
        Grade::Never if daemon.names.is_empty() => return "never named".to_owned(),
        Grade::Never => "only by names that count for nothing",
    };
    let names: Vec<String> =
        daemon.names.iter().take(NAMES_SHOWN).map(|named| name(named, now)).collect();
    let more = match daemon.names.len().saturating_sub(NAMES_SHOWN) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    format!("{says}: {}{more}", names.join(", "))
}

/// `shop.example (web, 3 min ago)`
fn name(named: &Named, now: Wall) -> String {
    let asker = named.container.clone().map(|name| words::plain(&name));
    let asker = asker.or_else(|| named.asker.map(|asker| asker.to_string()));
    let asker = asker.map_or_else(String::new, |asker| format!("{asker}, "));
    format!("{} ({asker}{})", named.name, words::ago(named.last, now))
}

/// Whose packet it is.
pub fn who(daemon: &Explained) -> Option<String> {
    let source = daemon.source?;
    Some(match &daemon.container {
        Some(Container { name, id, image, networks, .. }) => format!(
            "from {source}: container {} ({}, image {}) in {}",
            words::plain(name),
            id.get(..12).unwrap_or(id),
            words::plain(image),
            words::plain(&networks.join(", "))
        ),
        None => format!("from {source}: no container is known to have it"),
    })
}

/// What holds for whoever sends it.
pub fn policy(policy: &Policy) -> String {
    let keys = ["mode", "scope", "hold-ms", "refuse", "allow"];
    let shown = keys.into_iter().filter(|key| *key != "allow" || !policy.allow.is_empty());
    let parts: Vec<String> = shown.map(|key| format!("{key} {}", setting(policy, key))).collect();
    format!("policy: {}", parts.join("; "))
}

/// What holds, and where it comes from if it is not the host's setting.
fn setting(policy: &Policy, key: &str) -> String {
    let value = match key {
        "mode" => policy.mode.as_str().to_owned(),
        "scope" => format!("{:?}", policy.scope).to_lowercase(),
        "hold-ms" => policy.hold_ms.to_string(),
        "refuse" => policy.refuse.as_str().to_owned(),
        _ => policy.allow.join(", "),
    };
    match policy.origins.get(key) {
        Some(origin) => format!("{value} ({})", words::plain(origin)),
        None => value,
    }
}
