//! What would become of a first packet to an address: the sets asked in the order of the rules, then the names.

use std::collections::HashSet;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Result, ensure};
use serde::{Deserialize, Serialize};

use super::comes_from;
use super::known::Known;
use super::state::{Queue, RulesState};
use super::steps::{Role, questions};
use crate::daemon::books::Books;
use crate::engine::Name;
use crate::engine::lists::{Listed, Lists, Party, Side};
use crate::lists::{Entry, Found, Kind, Query};
use crate::nftables::names::{self, Pair};
use crate::nftables::{self, Channel};

/// What would become of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// A set, or a domain of a list, refuses it.
    Refused,
    /// A set, or a domain of a list, accepts it.
    Accepted,
    /// It is not egress of a container, so it passes without being judged.
    NotJudged,
    /// No set and no list decides: the daemon judges it by what DNS said.
    Undecided,
}

/// The answer of `sets test`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tested {
    /// The destination asked about.
    pub address: IpAddr,
    /// The container asked about.
    pub from: Option<IpAddr>,
    /// What would become of a first packet.
    pub verdict: Verdict,
    /// Why, in one sentence.
    pub because: String,
    /// What the rules do with what the sets say.
    pub rules: RulesState,
    /// The sets in the order in which the rules ask them.
    pub steps: Vec<Step>,
    /// Names the address answered to, latest first: as the daemon knows them, or as the registry was saved last.
    pub names: Vec<String>,
    /// Entries of the lists for a domain that one of the names lies under.
    pub domains: Vec<Found>,
    /// What else there is to know, such as that kernel and lists do not agree.
    pub notes: Vec<String>,
}

/// One question to the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// The set.
    pub set: String,
    /// What was looked for in it.
    pub asked: String,
    /// The element that has it.
    pub element: Option<String>,
    /// Milliseconds the element still has to live; nothing is for ever.
    pub expires_ms: Option<u64>,
    /// True if the rules end here.
    pub decides: bool,
    /// Entries of the lists that the element comes from.
    pub entries: Vec<Found>,
}

/// Asks the kernel and reads the lists.
///
/// # Errors
/// In one line, if the kernel does not answer.
pub fn test(books: &Books, address: IpAddr, from: Option<IpAddr>) -> Result<Tested> {
    let same = from.is_none_or(|from| from.is_ipv4() == address.is_ipv4());
    ensure!(same, "ADDRESS and --from are not of one family");
    let ruleset = nftables::read()?;
    let (rules, queue) = (RulesState::of(ruleset.as_ref()), ruleset.as_ref().and_then(Queue::of));
    let known = Known::read(books, &HashSet::from([address]));
    let spoken = Spoken::find(books, address, from, &known);
    let mut steps = Vec::new();
    if rules.is_active() {
        let mut channel = Channel::open()?;
        for question in questions(address, from) {
            steps.push(question.ask(&mut channel, &spoken, books.now)?);
        }
    }
    let by_name = spoken.judge(from, address, &known);
    let mut notes: Vec<String> = known.note.iter().chain(&spoken.errors).cloned().collect();
    notes.extend(disagreements(&steps, &spoken));
    notes.extend(books.misread.clone());
    let names = known.names(address);
    let (verdict, because) = decide(&mut steps, rules, by_name, &spoken, &names);
    let (verdict, because) = match steps.iter().any(|step| step.decides) || !rules.is_active() {
        true => (verdict, because),
        false => unserved(queue, verdict, because),
    };
    let domains = spoken.domains;
    Ok(Tested { address, from, verdict, because, rules, steps, names, domains, notes })
}

/// What the lists say about an address, its names and a container.
pub(super) struct Spoken {
    address: IpAddr,
    by_address: Vec<Found>,
    by_source: Vec<Found>,
    /// For a source alone.
    pairs: Vec<Found>,
    domains: Vec<Found>,
    errors: Vec<String>,
    /// A daemon runs.
    running: bool,
}

impl Spoken {
    /// One reading of all lists.
    fn find(books: &Books, address: IpAddr, from: Option<IpAddr>, known: &Known) -> Spoken {
        let seen = known.registry.names(address);
        let chains = seen.iter().flat_map(|seen| seen.chain.iter().flat_map(|chain| chain.iter()));
        let names: HashSet<&Name> = seen.iter().map(|seen| &seen.name).chain(chains).collect();
        // The address is the first query, the source the last.
        let mut queries = vec![Query::Address(address)];
        queries.extend(names.into_iter().map(|name| Query::Name(name.clone())));
        let source = queries.len();
        queries.extend(from.map(Query::Address));
        // A container may be in quarantine by its name, whatever its address.
        let named = from.filter(|_| books.running).and_then(|from| books.name_of(from));
        queries.extend(named.map(Query::Container));
        let findings = books.find(&queries);
        let mut spoken = Spoken {
            address,
            by_address: Vec::new(),
            by_source: Vec::new(),
            pairs: Vec::new(),
            domains: Vec::new(),
            errors: findings.errors,
            running: books.running,
        };
        for found in findings.found {
            let place = match (found.query, found.from) {
                (0, Some(src)) if Some(src) == from => &mut spoken.pairs,
                (_, Some(_)) => continue,
                (0, None) => &mut spoken.by_address,
                (query, None) if query >= source => &mut spoken.by_source,
                (_, None) => &mut spoken.domains,
            };
            place.push(found);
        }
        let mut seen = HashSet::new();
        spoken.domains.retain(|found| seen.insert((found.list.clone(), found.line)));
        spoken
    }

    /// What an element of a set with this role comes from.
    pub(super) fn of(&self, role: Role, subject: IpAddr) -> Vec<Found> {
        let about = if subject == self.address { &self.by_address } else { &self.by_source };
        let of = |kind: Kind| about.iter().filter(move |found| found.kind == kind).cloned();
        match role {
            Role::Containers | Role::Local | Role::Policy => Vec::new(),
            Role::Quarantine => of(Kind::Quarantine).collect(),
            Role::Block => of(Kind::Block).collect(),
            Role::Denied => self.pairs.clone(),
            // A blocked address that an allowed domain admits is there for its name.
            Role::Allow => {
                let domains = self.domains.iter().filter(|found| found.kind == Kind::Allow);
                of(Kind::Allow).chain(domains.cloned()).collect()
            }
        }
    }

    /// What the daemon would make of what reaches it, by the names of the address and for this source alone.
    fn judge(&self, from: Option<IpAddr>, address: IpAddr, known: &Known) -> Option<Listed> {
        let names = |kind: Kind| {
            let of = self.domains.iter().filter(move |found| found.kind == kind);
            of.filter_map(domain_of)
        };
        let side = |kind| Side { names: names(kind).collect(), ..Side::default() };
        let pairs = from.filter(|_| !self.pairs.is_empty()).map(|from| ((from, address), None));
        let lists = Lists {
            allow: side(Kind::Allow),
            block: side(Kind::Block),
            pairs: pairs.into_iter().collect(),
            ..Lists::default()
        };
        // A source that asked for nothing, where none is given.
        let source = from.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        lists.judge(&Party::alone(&source), address, &known.registry)
    }
}

fn domain_of(found: &Found) -> Option<Name> {
    match found.entry.parse() {
        Ok(Entry::Domain(name)) => Some(name),
        Ok(Entry::Addresses(..) | Entry::Container(_)) | Err(_) => None,
    }
}

/// Finds the step that ends it, marks it, and says so.
fn decide(
    steps: &mut [Step],
    rules: RulesState,
    by_name: Option<Listed>,
    spoken: &Spoken,
    names: &[String],
) -> (Verdict, String) {
    match rules {
        RulesState::Absent => return no_rules("there are no rules of ours", spoken.running),
        RulesState::Dormant => return no_rules("our table is dormant", spoken.running),
        RulesState::Enforcing | RulesState::DryRun => {}
    }
    let decision = steps.iter_mut().find_map(|step| {
        let decision = step.decision()?;
        step.decides = true;
        Some(decision)
    });
    let (verdict, because) = decision.unwrap_or_else(|| by_daemon(by_name, spoken, names));
    let has = |step: &Step, pair: Pair| pair.has(&step.set) && step.element.is_some();
    let own_dry_run = steps.iter().any(|step| has(step, names::DRYRUN))
        && !steps.iter().any(|step| has(step, names::QUARANTINE));
    match (rules, verdict) {
        (RulesState::Enforcing, Verdict::Refused) if own_dry_run => (
            verdict,
            format!(
                "{because}; its container is in a dry run of its own, so it passes all the same"
            ),
        ),
        (RulesState::DryRun, Verdict::Refused) => (
            verdict,
            format!("{because}; the rules are those of a dry run, so it passes all the same"),
        ),
        _ => (verdict, because),
    }
}

fn no_rules(what: &str, running: bool) -> (Verdict, String) {
    // One that runs puts back what others take, but not what a person took by command.
    let command = if running { "synhold rules install" } else { "synhold run" };
    let because =
        format!("not judged: {what} in the kernel, so everything passes; `{command}` puts them in");
    (Verdict::NotJudged, because)
}

/// What no set decides is for whoever serves the queue, if anybody does.
fn unserved(queue: Option<Queue>, verdict: Verdict, because: String) -> (Verdict, String) {
    match queue {
        None | Some(Queue::Served) => (verdict, because),
        Some(Queue::Dropping) => (
            Verdict::Refused,
            format!(
                "refused: no synhold serves the queue, and the rules are those that fail closed, so what no set decides is \
                 DROPPED until `synhold run` starts, or `synhold rules remove`; once it runs: {because}"
            ),
        ),
        Some(Queue::Passing) => (
            Verdict::NotJudged,
            format!(
                "not judged: no synhold serves the queue, and the rules are those that fail open, so what no set decides \
                 passes until `synhold run` starts; once it runs: {because}"
            ),
        ),
    }
}

impl Step {
    fn decision(&self) -> Option<(Verdict, String)> {
        let (set, asked) = (&self.set, &self.asked);
        let Some(element) = &self.element else {
            let outside = names::CONTAINERS.has(set);
            let because = || format!("not judged: {asked} is in no container network (set {set})");
            return outside.then(|| (Verdict::NotJudged, because()));
        };
        let comes = comes_from(&self.entries);
        if names::CONTAINERS.has(set) || names::DRYRUN.has(set) {
            return None;
        }
        Some(if names::EXEMPT.has(set) {
            (Verdict::NotJudged, format!("not judged: set {set} has {element}, by its policy"))
        } else if names::PERMITS.has(set) {
            (Verdict::Accepted, format!("accepted: set {set} has {element}, by its policy"))
        } else if names::LOCAL.has(set) {
            (Verdict::NotJudged, format!("not judged: set {set} has {element}, which is no egress"))
        } else if names::ALLOW.has(set) {
            (Verdict::Accepted, format!("accepted: set {set} has {element}, {comes}"))
        } else if names::DENIED.has(set) && self.entries.is_empty() {
            let left = self.expires_ms.unwrap_or_default() / 1000;
            let because = format!(
                "refused: set {set} has {element}, refused a moment ago, for {left} s more"
            );
            (Verdict::Refused, because)
        } else {
            (Verdict::Refused, format!("refused: set {set} has {element}, {comes}"))
        })
    }
}

fn by_daemon(by_name: Option<Listed>, spoken: &Spoken, names: &[String]) -> (Verdict, String) {
    let address = spoken.address;
    let domain = |kind: Kind, name: &Name| {
        let is = |found: &&Found| found.kind == kind && domain_of(found).as_ref() == Some(name);
        let entries: Vec<Found> = spoken.domains.iter().filter(is).cloned().collect();
        format!("a name of {address} is {name} or under it, {}", comes_from(&entries))
    };
    match by_name {
        Some(Listed::Allowed(Some(name))) => {
            (Verdict::Accepted, format!("accepted by the daemon: {}", domain(Kind::Allow, &name)))
        }
        Some(Listed::Blocked(Some(name))) => {
            (Verdict::Refused, format!("refused by the daemon: {}", domain(Kind::Block, &name)))
        }
        Some(Listed::Blocked(None)) => {
            let because =
                format!("refused by the daemon for this source, {}", comes_from(&spoken.pairs));
            (Verdict::Refused, because)
        }
        Some(Listed::Allowed(None)) | None => {
            let known = match names {
                [] => format!("the registry has no name for {address}"),
                [name] => format!("the registry knows {address} as {name}"),
                [name, more @ ..] => {
                    format!("the registry knows {address} as {name} and {} more names", more.len())
                }
            };
            (Verdict::Undecided, format!("no set decides: the daemon judges it by DNS; {known}"))
        }
    }
}

/// Where the lists say something that the kernel does not.
fn disagreements(steps: &[Step], spoken: &Spoken) -> Vec<String> {
    let missing = |kind: Kind, pairs: &[Pair]| {
        let listed = spoken.by_address.iter().find(|found| found.kind == kind)?;
        let of = |step: &&Step| pairs.iter().any(|pair| pair.has(&step.set));
        let asked: Vec<&Step> = steps.iter().filter(of).collect();
        let says = format!("list {} has {}, line {}", listed.list, listed.entry, listed.line);
        let sets: Vec<&str> = asked.iter().map(|step| step.set.as_str()).collect();
        match asked.iter().any(|step| step.element.is_some()) {
            true => None,
            false if asked.is_empty() => Some(says),
            false => Some(format!(
                "{says}, but nothing in {} does: `synhold sets` compares them",
                sets.join(" or ")
            )),
        }
    };
    let allow = missing(Kind::Allow, &[names::ALLOW]);
    let block = missing(Kind::Block, &[names::BLOCK, names::BLOCKHOSTS]);
    allow.into_iter().chain(block).collect()
}

#[cfg(test)]
#[path = "question_test.rs"]
mod tests;
