//! Reports, put together: what is blocked with what is known of it, and everything for the page.

mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use anyhow::Result;

use super::books::Books;
use super::clock;
use super::findings::{Collected, Group, Hour, Known, Proposal, Second, Sources, collect, propose};
use crate::config::FindingConfig;
use crate::engine::special::{NOWHERE4, NOWHERE6, PRIVATE4, PRIVATE6, is_in};
use crate::engine::{Mode, Reason, Wall};
use crate::lists::{Kind, Line, Own, Query, Source, show_time};
use crate::report::lookup::{Lookups, Wanted};
use crate::report::page::{Finding, Page};
use crate::report::row::{Row, network};
use memory::{Memory, Remembered};

/// Rows of a report; a block list that large is a feed.
const ROWS_MAX: usize = 100_000;
/// Whose a private address is.
const PRIVATE: &str = "Private/Reserved IP";
/// What stands in for a name.
const NAMELESS: &str = "(no reverse DNS)";
/// Names of an address in one cell.
const NAMES_MAX: usize = 3;

/// What there is to report.
#[derive(Debug)]
pub struct Report {
    /// Blocked addresses.
    pub rows: Vec<Row>,
    /// Everything for the page.
    pub page: Page,
    /// Why answers are not remembered, if they are not.
    pub forgotten: Option<String>,
}

/// Puts it together, asking whoever is to be asked about addresses nobody was asked about lately. `misread` says that the
/// configuration is not the daemon's, if it is not.
///
/// # Errors
/// In one line: a file that cannot be read.
pub fn report(
    config: &FindingConfig,
    misread: Option<String>,
    sources: &Sources,
    lookups: &Lookups,
) -> Result<Report> {
    let books = Books { misread, ..Books::open(&config.lists) };
    let mut second = Second::new(&config.opensnitch_db);
    let mut collected = collect(sources, &books)?;
    let blocked = blocked(&books, sources, &mut collected);
    let (mut memory, complaint) = Memory::load(&books.state_dir, books.now);
    collected.notes.extend(complaint);
    // A part of what is blocked says nothing about the rest.
    if sources.is_everything() {
        memory.keep_only(&blocked.keys().copied().collect());
    }
    for (address, one) in &blocked {
        memory.seen(*address, one.first, books.now);
    }
    let failures = ask(&mut memory, &blocked, lookups, books.now);
    let rows = blocked.iter().map(|(address, one)| {
        let remembered = memory.of(*address).cloned().unwrap_or_default();
        row(*address, one, &remembered, failures.get(address))
    });
    let rows = rows.collect();
    let page = page(collected, &memory, &mut second, books.now);
    let forgotten = memory.save(&books.state_dir).err().map(|error| error.to_string());
    Ok(Report { rows, page, forgotten })
}

/// Why an address is blocked.
#[derive(Clone, Debug, Default)]
struct Blocked {
    first: Option<Wall>,
    why: String,
    names: Vec<String>,
}

/// Answers that failed, by what they were to tell.
#[derive(Clone, Debug, Default)]
struct Failed {
    ptr: Option<String>,
    rdap: Option<String>,
    abuse: Option<String>,
}

/// Single addresses of `block.txt` and `auto.txt`, and destinations that were refused; nothing that a list allows.
fn blocked(
    books: &Books,
    sources: &Sources,
    collected: &mut Collected,
) -> BTreeMap<IpAddr, Blocked> {
    let mut blocked: BTreeMap<IpAddr, Blocked> = BTreeMap::new();
    for group in collected.groups.iter().filter(|group| is_refused(group)) {
        let known = collected.known.get(&group.key.dst);
        if known.is_some_and(|known| known.allowed.is_some()) {
            continue;
        }
        let one = blocked.entry(group.key.dst).or_default();
        one.first = match (one.first, group.first) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        };
        let why = format!("{}: {}", group.reason(), group.key.container);
        if !one.why.contains(&why) {
            one.why = if one.why.is_empty() { why } else { format!("{}; {why}", one.why) };
        }
        one.names = names(group, known);
    }
    // What auto.txt has for one container is among the groups; block.txt holds for all of them.
    let auto = sources.container.is_none().then_some(Own::Auto);
    for own in [Own::Block].into_iter().chain(auto) {
        let read = Source::own(&books.folder, own).read(&mut |line| {
            let Line::Item(item) = line else { return };
            let is_over = item.until.is_some_and(|until| until <= books.now);
            let Some(address) = item.entry.single().filter(|_| !is_over) else { return };
            let is_theirs = item.from.is_none_or(|from| sources.has(from));
            if blocked.len() >= ROWS_MAX || !is_theirs {
                return;
            }
            let one = blocked.entry(address).or_default();
            if one.why.is_empty() {
                one.why = item.note.map_or_else(|| format!("{}.txt", own.name()), str::to_owned);
            }
        });
        if let Err(error) = read {
            collected.notes.push(format!("{}.txt: {error}", own.name()));
        }
    }
    leave_allowed(books, &mut blocked);
    blocked
}

/// Refused for what it is: not because too much waited, the evidence was not to be trusted, or its container is in
/// quarantine.
fn is_refused(group: &Group) -> bool {
    let mut passing = vec![Reason::HoldBudget, Reason::Unhealthy];
    passing.extend(group.confined.then_some(Reason::Blocklisted));
    let accused =
        group.reasons.keys().any(|reason| passing.iter().all(|one| one.as_str() != *reason));
    (group.refused > 0 && accused) || group.retries > 0 || group.auto
}

/// An entry of a block list says nothing against one that allows.
fn leave_allowed(books: &Books, blocked: &mut BTreeMap<IpAddr, Blocked>) {
    let addresses: Vec<IpAddr> = blocked.keys().copied().collect();
    let queries: Vec<Query> = addresses.iter().map(|address| Query::Address(*address)).collect();
    let found = books.find(&queries).found;
    for one in found.iter().filter(|found| found.kind == Kind::Allow && found.from.is_none()) {
        addresses.get(one.query).and_then(|address| blocked.remove(address));
    }
}

fn names(group: &Group, known: Option<&Known>) -> Vec<String> {
    let then = group.names.iter().map(ToString::to_string);
    let now = known.into_iter().flat_map(|known| &known.names).map(|name| name.name.to_string());
    let mut names: Vec<String> = Vec::new();
    for name in now.chain(then) {
        if names.len() < NAMES_MAX && !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

fn is_private(address: IpAddr) -> bool {
    let address = address.to_canonical();
    is_in(address, NOWHERE4, NOWHERE6) || is_in(address, PRIVATE4, PRIVATE6)
}

/// Asks about what is not remembered, or too old.
fn ask(
    memory: &mut Memory,
    blocked: &BTreeMap<IpAddr, Blocked>,
    lookups: &Lookups,
    now: Wall,
) -> BTreeMap<IpAddr, Failed> {
    if lookups.is_none() {
        return BTreeMap::new();
    }
    let wanted = blocked.keys().filter(|address| !is_private(**address)).map(|address| {
        let wanted = memory.of(*address).map_or_else(Wanted::default, |one| one.wanted(now));
        (*address, wanted)
    });
    let wanted: Vec<_> = wanted.filter(|(_, wanted)| *wanted != Wanted::default()).collect();
    let mut failures: BTreeMap<IpAddr, Failed> = BTreeMap::new();
    for (address, found) in lookups.ask(wanted) {
        let failed = failures.entry(address).or_default();
        failed.ptr = found.ptr.as_ref().and_then(|answer| answer.as_ref().err().cloned());
        failed.rdap = found.rdap.as_ref().and_then(|answer| answer.as_ref().err().cloned());
        failed.abuse = found.abuse.as_ref().and_then(|answer| answer.as_ref().err().cloned());
        memory.answered(address, found, now);
    }
    failures
}

fn row(address: IpAddr, one: &Blocked, memory: &Remembered, failed: Option<&Failed>) -> Row {
    let failed = failed.cloned().unwrap_or_default();
    let registration = memory.rdap.as_ref().map(|known| known.what.clone()).unwrap_or_default();
    let fame = memory.abuse.as_ref().map(|known| known.what.clone()).unwrap_or_default();
    let ptr = memory.ptr.as_ref().map(|known| known.what.clone());
    let domain = match (one.names.is_empty(), ptr, failed.ptr) {
        (false, ..) => one.names.join(" "),
        (true, Some(Some(name)), _) => name,
        (true, Some(None), _) => NAMELESS.to_owned(),
        (true, None, failed) => failed.unwrap_or_default(),
    };
    let org_name = match is_private(address) {
        true => PRIVATE.to_owned(),
        false => failed.rdap.unwrap_or(registration.org_name),
    };
    let description = match registration.description.is_empty() {
        true => one.why.clone(),
        false => registration.description,
    };
    let time = |at: Wall| if at == Wall(0) { String::new() } else { show_time(second(at)) };
    Row {
        ip: address,
        domain,
        org_name,
        country: registration.country,
        abuse_score: failed.abuse.unwrap_or(fame.abuse_score),
        total_reports: fame.total_reports,
        usage_type: fame.usage_type,
        is_tor: fame.is_tor,
        last_reported: fame.last_reported,
        emails: registration.emails,
        phone: registration.phone,
        description,
        first_seen: time(memory.first),
        last_updated: time(memory.updated),
    }
}

/// People read no microseconds.
fn second(at: Wall) -> Wall {
    Wall(at.0 / 1_000_000 * 1_000_000)
}

fn page(collected: Collected, memory: &Memory, second: &mut Second, now: Wall) -> Page {
    let Collected { groups, known, hours, mode, span, mut notes, more } = collected;
    if more > 0 {
        notes.push(format!("{more} refusals are beyond those that are kept one by one"));
    }
    let moment = clock::now();
    let opensnitch = second.trouble(moment).map(ToString::to_string);
    let mut findings = Vec::new();
    let none = Known::default();
    for group in groups {
        let known = known.get(&group.key.dst).unwrap_or(&none);
        let opinion = second.opinion(group.key.dst, moment);
        let proposed = propose(&group, known, &opinion);
        let decided = match (&known.allowed, proposed.proposal) {
            (Some(allowed), _) => format!("allowed by now: {}", allowed.text),
            (None, Proposal::Accept) => format!("allow: {}", proposed.because),
            (None, Proposal::Keep) => format!("keep: {}", proposed.because),
        };
        let org = memory.of(group.key.dst).and_then(|one| one.rdap.as_ref());
        let net = network(group.key.dst);
        findings.push(Finding {
            container: group.key.container.to_string(),
            destination: group.destination(),
            network: org.map_or_else(|| net.clone(), |org| format!("{net} {}", org.what.org_name)),
            refused: group.refused + group.retries,
            would_refuse: group.would_refuse,
            first: group.first,
            last: group.last,
            reason: group.reason(),
            names: names(&group, Some(known)),
            proof: proof(&group),
            view: opinion.view,
            why: opinion.why,
            proposed: decided,
        });
    }
    findings.sort_by_key(|finding| {
        (finding.view, std::cmp::Reverse(finding.refused + finding.would_refuse))
    });
    let hours = hours.into_iter().map(|(Hour { hour, reason }, count)| ((hour, reason), count));
    let mode = mode.map(|mode| match mode {
        Mode::Enforce => "enforce",
        Mode::Learn => "learn",
        Mode::DryRun => "dry run",
    });
    Page { made: now, span, mode, hours: hours.collect(), findings, opensnitch, notes }
}

fn proof(group: &Group) -> String {
    let mut parts = Vec::new();
    if let Some(list) = &group.list {
        parts.push(list.clone());
    }
    if group.held_us > 0 {
        parts.push(format!("waited {} ms for a record", group.held_us / 1000));
    }
    if let Some(grade) = group.grade {
        parts.push(format!("grade {}", grade.as_str()));
    }
    match (group.unhealthy, group.refused + group.would_refuse) {
        (0, 0) => {}
        (0, _) if group.list.is_none() => parts.push("evidence healthy".to_owned()),
        (0, _) => {}
        (1, _) => parts.push("evidence unreliable once".to_owned()),
        (unhealthy, _) => parts.push(format!("evidence unreliable {unhealthy} times")),
    }
    if group.auto {
        parts.push("in auto.txt".to_owned());
    }
    parts.join(", ")
}

/// Addresses whose rows are remembered.
type Addresses = BTreeSet<IpAddr>;

#[cfg(test)]
#[path = "report_test.rs"]
mod tests;
