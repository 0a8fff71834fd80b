//! `synhold explain`: what would become of a first packet now, and why, in the order of the rules.

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use super::lists::Place;
use super::sets::yes;
use super::table::{Align, Table};
use super::{Answer, say, say_json, words};
use crate::control::{Container, Explained, Named, Policy, Question};
use crate::daemon::clock;
use crate::daemon::control::Asker;
use crate::daemon::inspect::{self, Step, Tested, Verdict as Sets};
use crate::engine::{Grade, Mode, Reason, Verdict, Wall};

/// Names shown.
const NAMES_SHOWN: usize = 5;

#[derive(Args, Debug)]
pub(super) struct ExplainArgs {
    /// The destination
    address: IpAddr,
    /// The container it would come from
    #[arg(long, value_name = "NAME|ID|ADDRESS")]
    container: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// The whole answer.
#[derive(Serialize)]
struct Explanation {
    /// Whether the packet gets out in the end.
    passes: bool,
    /// Why, in one sentence.
    because: String,
    /// What the daemon says.
    daemon: Explained,
    /// What the kernel's sets say; nothing where they are not of the daemon's network namespace.
    kernel: Option<Tested>,
}

pub(super) fn run(args: &ExplainArgs) -> Result<Answer> {
    let place = &args.place;
    let (books, state_dir) = place.books()?;
    let Some(mut asker) = Asker::find(&state_dir)? else {
        bail!(
            "no synhold runs on {}: `synhold sets test {}` asks the kernel's sets and the lists without one",
            state_dir.display(),
            args.address
        );
    };
    let question = Question::Explain { address: args.address, container: args.container.clone() };
    let daemon: Explained = asker.ask(&question)?;
    let kernel = match is_here(&daemon) {
        true => Some(inspect::test(&books, args.address, daemon.source)?),
        false => None,
    };
    let (passes, because) = verdict(&daemon, kernel.as_ref());
    let explanation = Explanation { passes, because, daemon, kernel };
    if place.json {
        say_json(&explanation)?;
    } else {
        say(&tell(&explanation, clock::wall()))?;
    }
    Ok(if passes { Answer::Fine } else { Answer::No })
}

/// Whether the kernel we ask is the one that the daemon's rules are in.
fn is_here(explained: &Explained) -> bool {
    let ours = std::fs::metadata("/proc/thread-self/ns/net").map(|ours| ours.ino());
    ours.is_ok_and(|ours| ours == explained.daemon.netns)
}

/// The kernel's sets come first; what they let go is the daemon's.
fn verdict(daemon: &Explained, kernel: Option<&Tested>) -> (bool, String) {
    let by_sets = kernel
        .filter(|tested| !tested.rules.is_active() || tested.steps.iter().any(|step| step.decides));
    let (refused, because) = match by_sets {
        Some(tested) => (tested.verdict == Sets::Refused, tested.because.clone()),
        None => (daemon.verdict == Verdict::Drop, by_daemon(daemon)),
    };
    // A quarantined container is refused everything, in a dry run of its own too.
    match daemon.mode {
        Mode::DryRun if refused && !because.ends_with("passes all the same") => {
            (true, format!("{because}; it is a dry run, so it passes all the same"))
        }
        Mode::DryRun => (true, because),
        // Lists are enforced all the same.
        Mode::Learn if refused => {
            (true, format!("{because}; synhold is still learning, so it passes"))
        }
        Mode::Enforce | Mode::Learn => (!refused, because),
    }
}

fn by_daemon(daemon: &Explained) -> String {
    let address = daemon.address;
    let domain = daemon.domain.as_ref().map(|domain| format!(", by the domain {domain}"));
    let domain = domain.unwrap_or_default();
    let held = match daemon.held_ms {
        0 => String::new(),
        ms => format!("held for {ms} ms, and if no record comes, "),
    };
    let word = daemon.reason.as_str();
    let why = match daemon.reason {
        Reason::Resolved | Reason::ResolvedAfterHold => match daemon.names.first() {
            Some(named) => format!("DNS named {address}: {}", named.name),
            None => format!("DNS named {address}"),
        },
        Reason::Allowlisted => format!("it is allowed{domain}"),
        Reason::Exempt => "the container's mode is off".to_owned(),
        Reason::Blocklisted if daemon.quarantined => "the container is in quarantine".to_owned(),
        Reason::Blocklisted => format!("the lists block it{domain}"),
        Reason::NeverResolved => format!("no DNS answer ever named {address}"),
        Reason::Stale => format!("the last DNS answer that named {address} is too old"),
        Reason::OutOfScope if daemon.grade == Grade::Static => {
            "only a hosts file or the resolver's configuration names it".to_owned()
        }
        Reason::OutOfScope => "only others asked for it, and its scope is `container`".to_owned(),
        Reason::Established => "it had a flow there when synhold started here first".to_owned(),
        Reason::Unhealthy => {
            let named = match daemon.grade {
                Grade::Stale => format!("the last DNS answer that named {address} is too old"),
                Grade::Other => "only others asked for it".to_owned(),
                Grade::Own | Grade::Static | Grade::Never => {
                    format!("no DNS answer named {address}")
                }
            };
            format!("{named}, but {}", daemon.evidence.why.join("; "))
        }
        Reason::HoldBudget | Reason::Malformed | Reason::Shutdown => String::new(),
    };
    match daemon.verdict {
        Verdict::Accept => format!("accepted ({word}): {why}"),
        Verdict::Drop => format!("{held}refused ({word}): {why}"),
    }
}

fn tell(explanation: &Explanation, now: Wall) -> String {
    let Explanation { because, daemon, kernel, .. } = explanation;
    let mut lines = vec![because.clone(), String::new()];
    lines.extend(steps(daemon, kernel.as_ref(), now));
    lines.push(String::new());
    lines.extend(who(daemon));
    lines.push(policy(&daemon.policy));
    if let Some(container) = &daemon.container {
        lines
            .extend(container.gaps.iter().map(|gap| format!("not covered: {}", words::plain(gap))));
    }
    lines.extend(daemon.policy.faults.iter().map(|fault| words::plain(fault)));
    lines.extend(kernel.iter().flat_map(|tested| &tested.notes).cloned());
    if kernel.is_none() {
        lines.push(format!(
            "the daemon is in another network namespace, so its sets were not asked: try `nsenter -t {} -n`",
            daemon.daemon.pid
        ));
    }
    lines.join("\n")
}

/// Every question in the order of the rules; a mark at the one that decides.
fn steps(daemon: &Explained, kernel: Option<&Tested>, now: Wall) -> Vec<String> {
    let columns = [
        ("", Align::Left),
        ("STEP", Align::Left),
        ("ASKED FOR", Align::Left),
        ("ANSWER", Align::Cut),
    ];
    let mut table = Table::new(&columns);
    let mut row = |decides: bool, step: &str, asked: &str, answer: String| {
        let mark = if decides { ">" } else { "" };
        table.row(vec![mark.to_owned(), step.to_owned(), asked.to_owned(), answer]);
    };
    let asked: &[Step] = kernel.map_or(&[], |tested| &tested.steps);
    let by_sets = asked.iter().any(|step| step.decides);
    let reason = |reasons: &[Reason]| !by_sets && reasons.contains(&daemon.reason);
    let source = daemon.source.map_or_else(words::dash, |source| source.to_string());
    let address = daemon.address.to_string();
    let is_before_mode =
        |step: &&Step| step.set.starts_with("containers") || step.set.starts_with("quarantine");
    let sets = |step: &Step| step.element.as_ref().map_or("no".to_owned(), |e| yes(step, e));
    for step in asked.iter().filter(is_before_mode) {
        row(step.decides, &step.set, &step.asked, sets(step));
    }
    if kernel.is_none() {
        let quarantined = if daemon.quarantined { "yes" } else { "no" };
        row(daemon.quarantined, "quarantine", &source, quarantined.to_owned());
    }
    row(reason(&[Reason::Exempt]), "mode", &source, setting(&daemon.policy, "mode"));
    for step in asked.iter().filter(|step| !is_before_mode(step)) {
        row(step.decides, &step.set, &step.asked, sets(step));
    }
    let listed = match (&daemon.domain, daemon.reason) {
        (Some(domain), Reason::Allowlisted) => format!("allow: the domain {domain}"),
        (Some(domain), Reason::Blocklisted) => format!("block: the domain {domain}"),
        (None, Reason::Allowlisted) => "allow".to_owned(),
        (None, Reason::Blocklisted) => "block".to_owned(),
        _ => "no".to_owned(),
    };
    row(reason(&[Reason::Allowlisted, Reason::Blocklisted]), "lists", &address, listed);
    if daemon.denied && kernel.is_none() {
        row(false, "denied", &address, "yes, refused a moment ago".to_owned());
    }
    let dns = [
        Reason::Resolved,
        Reason::NeverResolved,
        Reason::Stale,
        Reason::OutOfScope,
        Reason::Established,
        Reason::Unhealthy,
    ];
    row(reason(&dns), "DNS", &address, dns_says(daemon, now));
    table.lines()
}

fn dns_says(daemon: &Explained, now: Wall) -> String {
    let says = match daemon.grade {
        Grade::Own => "asked by this container",
        Grade::Other => "asked by somebody",
        Grade::Static => "by a hosts file or the resolver's configuration",
        Grade::Stale => "asked, but too long ago",
        Grade::Never => return "never named".to_owned(),
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

fn who(daemon: &Explained) -> Option<String> {
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

fn policy(policy: &Policy) -> String {
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

#[cfg(test)]
#[path = "explain_test.rs"]
mod tests;
