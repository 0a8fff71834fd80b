//! All sets and all lists at a glance: what is wanted, what is there, and what it did.

use std::collections::HashMap;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use super::drift::Drift;
use super::state::RulesState;
use crate::daemon::books::Books;
use crate::daemon::wants::Want;
use crate::engine::Wall;
use crate::lists::{Kind, ListStatus, SetStatus, serde_time};
use crate::nftables::expr::Expr;
use crate::nftables::ruleset::{INTERVAL, Key};
use crate::nftables::{self, Channel, Options, RuleCount, Ruleset, SetInfo, names};

/// Bytes the kernel takes for a single address in a hash, as measured (kernel 6.18, IPv4).
const HOST_BYTES: u64 = 88;
/// The same for a range, which is two nodes of a tree and their share of the array that is searched.
const RANGE_BYTES: u64 = 140;
/// The same for a source and destination with a time and a counter.
const PAIR_BYTES: u64 = 160;

/// The answer of `sets`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overview {
    /// What the rules do with what the sets say.
    pub rules: RulesState,
    /// Process id of the daemon that uses the state directory.
    pub daemon: Option<u32>,
    /// Which configuration was read, where that daemon reads another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misread: Option<String>,
    /// True if some set is known not to hold what the lists say.
    pub drift: bool,
    /// Every set, in the order in which the rules ask them.
    pub sets: Vec<SetLine>,
    /// Every list and feed, as it is on disk.
    pub lists: Vec<ListLine>,
}

/// One set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetLine {
    /// Its name.
    pub name: String,
    /// True if the kernel has it.
    pub present: bool,
    /// Elements that the lists come to; nothing for sets that are filled otherwise.
    pub wanted: Option<u64>,
    /// Elements in the kernel; nothing if it does not say.
    pub kernel: Option<u64>,
    /// Whether the two differ; nothing if it cannot be told.
    pub drift: Option<bool>,
    /// Ranges that are to be there and are not, at least.
    pub missing: u64,
    /// Ranges that are there and are not to be, at least.
    pub extra: u64,
    /// Bytes of kernel memory, about.
    pub memory_bytes: Option<u64>,
    /// Packets that the rules of this set decided; nothing if they do not count.
    pub hits: Option<u64>,
    /// When a daemon loaded it last.
    #[serde(with = "serde_time")]
    pub loaded: Option<Wall>,
    /// How long loading all sets took then, in milliseconds.
    pub took_ms: Option<u64>,
}

/// One list or feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListLine {
    /// Its name.
    pub name: String,
    /// What its entries mean.
    pub kind: Kind,
    /// Entries that hold, domains among them.
    pub entries: u64,
    /// Those that are domains.
    pub domains: u64,
    /// Lines that were not understood.
    pub bad: u64,
    /// Entries that are too dangerous to hold.
    pub refused: u64,
    /// Entries whose time is over.
    pub expired: u64,
    /// Where it comes from: a file, a URL, or nothing for one that comes with the program.
    pub source: Option<String>,
    /// When the copy in use was fetched.
    #[serde(with = "serde_time")]
    pub fetched: Option<Wall>,
    /// When it is fetched next; nothing if no daemon is there to do it.
    #[serde(with = "serde_time")]
    pub next_fetch: Option<Wall>,
    /// Why the last fetching or reading brought nothing.
    pub error: Option<String>,
    /// The first bad lines and refused entries, each with its line and what to do.
    pub messages: Vec<String>,
}

impl Overview {
    /// True if the kernel does what the lists say.
    pub fn is_fine(&self) -> bool {
        self.rules.is_active() && !self.drift
    }
}

/// Reads the lists and asks the kernel. No set is dumped unless it is small.
///
/// # Errors
/// In one line, if the kernel does not answer.
pub fn overview(books: &Books) -> Result<Overview> {
    let compiled = books.compile();
    let mut wants = Want::all(&compiled.lists, books.named());
    // A verdict of a moment ago is there too, so that without a pair in the lists there is nothing to compare.
    wants.extend(Want::pairs(&compiled.lists).into_iter().filter(|want| want.len() > 0));
    let rules = RulesState::of(nftables::read()?.as_ref());
    let hits = match rules {
        RulesState::Absent => HashMap::new(),
        _ => hits(&nftables::counters()?),
    };
    let lists = books.describe(&compiled);
    let mut channel = Channel::open()?;
    let mut sets = Vec::new();
    for set in names::all().map(|(pair, family)| pair.of(family)) {
        let want = wants.iter().find(|want| want.set == set);
        let info = channel.set_info(set)?;
        let status = books.status.iter().flat_map(|status| &status.sets);
        let status = status.into_iter().find(|status| status.name == set);
        let line = SetLine::new(set, want, info.as_ref(), status, hits.get(set).copied());
        let drift = match (want, &info) {
            (None, _) => Drift::default(),
            (Some(want), None) => Drift::absent(want),
            (Some(want), Some(_)) if names::DENIED.has(set) => {
                Drift::of_pairs(want, &mut channel, books.now)?
            }
            (Some(want), Some(info)) => Drift::of(want, info, &compiled.lists, books.now)?,
        };
        sets.push(SetLine {
            drift: drift.differs,
            missing: drift.missing,
            extra: drift.extra,
            ..line
        });
    }
    Ok(Overview {
        rules,
        daemon: books.status.as_ref().filter(|_| books.running).map(|status| status.pid),
        misread: books.misread.clone(),
        drift: sets.iter().any(|set| set.drift == Some(true)),
        sets,
        lists: lists.into_iter().map(|list| ListLine::new(list, books.running)).collect(),
    })
}

impl SetLine {
    fn new(
        name: &str,
        want: Option<&Want>,
        info: Option<&SetInfo>,
        status: Option<&SetStatus>,
        hits: Option<u64>,
    ) -> SetLine {
        let kernel = info.and_then(|info| info.count);
        SetLine {
            name: name.to_owned(),
            present: info.is_some(),
            wanted: want.map(|want| want.len() as u64),
            kernel,
            drift: None,
            missing: 0,
            extra: 0,
            memory_bytes: info.zip(kernel).map(|(info, count)| count * bytes_each(info)),
            hits,
            loaded: status.and_then(|status| status.loaded_at),
            took_ms: status.map(|status| status.took_ms),
        }
    }
}

fn bytes_each(info: &SetInfo) -> u64 {
    match info.key {
        Key::Pair(_) | Key::Home(_) => PAIR_BYTES,
        _ if info.flags & INTERVAL != 0 => RANGE_BYTES,
        _ => HOST_BYTES,
    }
}

/// Packets by set: each rule of ours that counts and asks a set counts for it.
fn hits(counts: &[RuleCount]) -> HashMap<String, u64> {
    let rules = Ruleset::new(&Options::default());
    let mut hits = HashMap::new();
    for chain in &rules.chains {
        for rule in chain.rules.iter().filter(|rule| rule.exprs.contains(&Expr::Counter)) {
            let is = |c: &&RuleCount| c.chain == chain.name && c.rule == rule.comment;
            let Some(counted) = counts.iter().find(is) else { continue };
            for expr in &rule.exprs {
                if let Expr::Lookup { set, .. } = expr {
                    *hits.entry(set.clone()).or_default() += counted.count.packets;
                }
            }
        }
    }
    hits
}

impl ListLine {
    fn new(list: ListStatus, running: bool) -> ListLine {
        let ListStatus { report, source, fetched, next_fetch, last_error } = list;
        ListLine {
            name: report.name,
            kind: report.kind,
            entries: report.entries,
            domains: report.domains,
            bad: report.bad,
            refused: report.refused,
            expired: report.expired,
            source,
            fetched,
            next_fetch: next_fetch.filter(|_| running),
            error: last_error,
            messages: [report.bad_lines, report.refused_entries].concat(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::Count;
    use crate::nftables::ruleset::Chain;

    #[test]
    fn every_list_set_and_no_other_has_a_rule_that_counts() {
        let rules = Ruleset::new(&Options::default());
        let count = |chain: &str, comment: &str| RuleCount {
            chain: chain.to_owned(),
            rule: comment.to_owned(),
            count: Count { packets: 1, bytes: 40 },
        };
        let of = |chain: &Chain| -> Vec<RuleCount> {
            chain.rules.iter().map(|rule| count(&chain.name, &rule.comment)).collect()
        };
        let counts: Vec<RuleCount> = rules.chains.iter().flat_map(of).collect();
        let hits = hits(&counts);
        let none = [names::CONTAINERS, names::LOCAL, names::HITS, names::SPOOFS, names::BRIDGES];
        for (pair, family) in names::all() {
            assert_eq!(
                hits.contains_key(pair.of(family)),
                !none.contains(&pair),
                "{}",
                pair.of(family)
            );
        }
    }
}
