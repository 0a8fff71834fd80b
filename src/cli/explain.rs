//! `synhold explain`: what would become of a first packet now, why, in the order of the rules, and what to do about it.

mod advice;
mod name;
mod proof;
mod steps;
mod verdict;

use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;

use anyhow::{Context as _, Result, bail};
use clap::Args;
use serde::Serialize;

use super::lists::Place;
use super::{Answer, say, say_json, words};
use crate::control::{Explained, Fault, FaultKind, Question};
use crate::daemon::books::Books;
use crate::daemon::clock;
use crate::daemon::control::Asker;
use crate::daemon::inspect::{self, Tested};
use crate::engine::trace::{Basis, Finding};
use crate::engine::{Name, Wall};
use crate::lists::{Entry, Found, Query};

/// Columns of a sentence.
const WIDTH: usize = 100;

#[derive(Args, Debug)]
pub(super) struct ExplainArgs {
    /// The destination; of a name every address that it is known to have
    #[arg(value_name = "ADDRESS|NAME")]
    destination: String,
    /// The container it would come from
    #[arg(long, value_name = "NAME|ID|ADDRESS")]
    container: Option<String>,
    #[command(flatten)]
    place: Place,
}

/// The whole answer about one address.
#[derive(Debug, Serialize)]
pub(super) struct Explanation {
    /// Whether the packet gets out in the end.
    passes: bool,
    /// Why, in one sentence.
    because: String,
    /// What speaks for that, one sentence each.
    proof: Vec<String>,
    /// What to do about it, the likeliest first.
    advice: Vec<String>,
    /// What the daemon says.
    daemon: Explained,
    /// What the kernel's sets say; nothing where they cannot be asked from here.
    kernel: Option<Tested>,
    /// Why they cannot.
    #[serde(skip_serializing_if = "Option::is_none")]
    kernel_not_asked: Option<String>,
    /// Entries of lists with the domain that decides, where one does.
    entries: Vec<Found>,
    /// Why they are not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    lists_not_asked: Option<String>,
}

pub(super) fn run(args: &ExplainArgs) -> Result<Answer> {
    let place = &args.place;
    let state_dir = place.state_dir()?;
    let Some(mut asker) = Asker::find(&state_dir)? else {
        bail!(
            "no synhold runs on {}: `synhold sets test {}` asks the kernel's sets and the lists without one",
            state_dir.display(),
            args.destination
        );
    };
    let container = args.container.as_deref();
    let Ok(address) = args.destination.parse::<IpAddr>() else {
        let name = Name::new(&args.destination)
            .with_context(|| format!("{:?} is neither an address nor a name", args.destination))?;
        return name::run(&mut asker, place, &name, container);
    };
    let explanation = explain(&mut asker, place, address, container)??;
    if place.json {
        say_json(&explanation)?;
    } else {
        say(&tell(&explanation, clock::wall()))?;
    }
    Ok(if explanation.passes { Answer::Fine } else { Answer::No })
}

/// Asks the daemon, and by it the kernel and the lists, about one address. What the daemon cannot answer is kept apart.
///
/// # Errors
/// In one line, if it does not answer at all.
pub(super) fn explain(
    asker: &mut Asker,
    place: &Place,
    address: IpAddr,
    container: Option<&str>,
) -> Result<Result<Explanation, Fault>> {
    let container = container.map(str::to_owned);
    let daemon: Explained = match asker.try_ask(&Question::Explain { address, container })? {
        Ok(daemon) => daemon,
        Err(fault) => return Ok(Err(fault)),
    };
    let (kernel, kernel_not_asked) = match ask_kernel(asker, place, &daemon)? {
        Ok(tested) => (Some(tested), None),
        Err(why) => (None, Some(why)),
    };
    let (entries, lists_not_asked) = match domain(&daemon) {
        Some(domain) => entries(asker, place, domain)?,
        None => (Vec::new(), None),
    };
    let (passes, because) = verdict::verdict(&daemon, kernel.as_ref());
    let proof = proof::proof(&daemon, clock::wall());
    let mut explanation = Explanation {
        passes,
        because,
        proof,
        advice: Vec::new(),
        daemon,
        kernel,
        kernel_not_asked,
        entries,
        lists_not_asked,
    };
    explanation.advice = advice::advice(&explanation);
    Ok(Ok(explanation))
}

/// The sets of the daemon's kernel; or why they cannot be asked.
fn ask_kernel(
    asker: &mut Asker,
    place: &Place,
    daemon: &Explained,
) -> Result<Result<Tested, String>> {
    let question = Question::SetsTest { address: daemon.address, from: daemon.source };
    Ok(match asker.try_ask(&question)? {
        Err(fault) if fault.kind == FaultKind::UnknownQuestion => ask_kernel_here(place, daemon),
        answered => answered.map_err(|fault| format!("the kernel's sets were not asked: {fault}")),
    })
}

/// The same by this process, for a daemon of an older version.
fn ask_kernel_here(place: &Place, daemon: &Explained) -> Result<Tested, String> {
    let ours = std::fs::metadata("/proc/thread-self/ns/net").map(|ours| ours.ino());
    if !ours.is_ok_and(|ours| ours == daemon.daemon.netns) {
        let pid = daemon.daemon.pid;
        return Err(format!(
            "the daemon is in another network namespace, so its sets were not asked: try `nsenter -t {pid} -n`"
        ));
    }
    let tested = |(books, _): (Books, _)| inspect::test(&books, daemon.address, daemon.source);
    place
        .books()
        .and_then(tested)
        .map_err(|error| format!("the kernel's sets were not asked: {error:#}; that takes root"))
}

/// The domain of a list that decides, if one does.
fn domain(daemon: &Explained) -> Option<&Name> {
    daemon.steps.iter().find_map(|step| match &step.finding {
        Finding::Allow { by: Some(Basis::Domain(domain)) }
        | Finding::Block { by: Some(Basis::Domain(domain)) } => Some(domain),
        _ => None,
    })
}

/// Where exactly a domain is listed.
fn entries(asker: &mut Asker, place: &Place, domain: &Name) -> Result<Listed> {
    let is =
        |found: &Found| matches!(found.entry.parse(), Ok(Entry::Domain(name)) if name == *domain);
    let (mut found, why_not) = listed(asker, place, domain)?;
    found.retain(is);
    Ok((found, why_not))
}

/// Entries of lists, or why they are not known: they explain what decides without them.
type Listed = (Vec<Found>, Option<String>);

/// What the lists say about a name.
fn listed(asker: &mut Asker, place: &Place, name: &Name) -> Result<Listed> {
    Ok(match asker.try_ask(&Question::ListsLookup { name: name.clone() })? {
        Err(fault) if fault.kind == FaultKind::UnknownQuestion => {
            // An older daemon's lists can be read by root alone, and only explain.
            let find = |(books, _): (Books, _)| books.find(&[Query::Name(name.clone())]).found;
            (place.books().map(find).unwrap_or_default(), None)
        }
        Err(fault) => (Vec::new(), Some(format!("the lists were not asked: {fault}"))),
        Ok(found) => (found, None),
    })
}

/// As people read it.
pub(super) fn tell(explanation: &Explanation, now: Wall) -> String {
    let Explanation { daemon, kernel, .. } = explanation;
    let word = if explanation.passes { "PASSES" } else { "REFUSED" };
    let because = &explanation.because;
    // Twice the same word says no more.
    let because = ["refused: ", "accepted: "].iter().find_map(|word| because.strip_prefix(word));
    let because = because.unwrap_or(&explanation.because);
    let mut lines = vec![format!("{word}: {}", words::plain(because))];
    lines.extend(steps::who(daemon));
    lines.push(steps::policy(&daemon.policy));
    let sets = kernel.as_ref().map(steps::kernel).unwrap_or_default();
    if !sets.is_empty() {
        lines.push(String::new());
        lines.extend(sets);
    }
    let decided =
        |tested: &Tested| !tested.rules.is_active() || tested.steps.iter().any(|step| step.decides);
    let reached = !kernel.as_ref().is_some_and(decided);
    lines.push(String::new());
    lines.extend(steps::engine(daemon, &explanation.entries, reached, now));
    let notes = kernel.iter().flat_map(|tested| &tested.notes);
    let notes = notes.chain(&explanation.kernel_not_asked).chain(&explanation.lists_not_asked);
    let proof: Vec<&String> = explanation.proof.iter().chain(notes).collect();
    for (title, all) in [("Why:", proof), ("What to do:", explanation.advice.iter().collect())] {
        if !all.is_empty() {
            lines.push(String::new());
            lines.push(title.to_owned());
            lines.extend(all.iter().flat_map(|one| words::point(one, WIDTH)));
        }
    }
    lines.join("\n")
}

#[cfg(test)]
#[path = "explain_test.rs"]
mod tests;
