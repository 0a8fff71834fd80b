//! Refusals gathered by who went where, bounded however many there are.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use crate::engine::event::{BlockBody, Body, RecordBody, VerdictBody, WouldRefuse};
use crate::engine::{Grade, Name, Proto, Reason, Verdict, Wall};
use crate::lists::serde_time;
use crate::nftables::names;

use super::wanted::Wanted;

mod prune;

/// Groups kept: more than anybody reviews, at about a kilobyte each. While they are gathered, there are up to twice as many.
const GROUPS_MAX: usize = 10_000;
/// Groups of one container, the latest ones, so that a scanner leaves room for the others and hides nothing behind decoys.
const OF_ONE_MAX: usize = 1_000;
/// Names and source addresses kept of a group.
const NAMES_MAX: usize = 8;
/// Hours of the chart that are kept: ten years.
const HOURS_MAX: usize = 10 * 366 * 24;
const HOUR: u64 = 3_600_000_000;
/// Sets whose hits are retries of a refusal that was told already.
const RETRIES: &str = "denied";
/// Sets whose hits are about the source.
const SPOOFS: &str = "spoofs";

/// One container and one destination, exactly.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Key {
    /// Container name, where known; else its address.
    pub container: Arc<str>,
    /// Where to.
    pub dst: IpAddr,
    /// Port; nothing where only the address is known.
    pub dport: Option<u16>,
    /// Protocol; likewise.
    pub proto: Option<Proto>,
}

/// What is known about refusals of one container and destination.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Group {
    /// Who and where to.
    #[serde(flatten)]
    pub key: Key,
    /// The container's addresses.
    pub sources: BTreeSet<IpAddr>,
    /// First packets that were refused.
    pub refused: u64,
    /// First packets that enforcing would have refused.
    pub would_refuse: u64,
    /// Packets that the kernel refused without asking.
    pub retries: u64,
    /// Of all of them, those that came while the evidence was not to be trusted.
    pub unhealthy: u64,
    /// Why, and how often.
    pub reasons: BTreeMap<&'static str, u64>,
    /// How good the evidence was the last time.
    pub grade: Option<Grade>,
    /// How long a packet was held at most, in microseconds.
    pub held_us: u64,
    /// The first time.
    #[serde(with = "serde_time")]
    pub first: Option<Wall>,
    /// The last time.
    #[serde(with = "serde_time")]
    pub last: Option<Wall>,
    /// Names known at the time.
    pub names: Vec<Name>,
    /// The list and entry that decided.
    pub list: Option<String>,
    /// True if `auto.txt` has it.
    pub auto: bool,
    /// True if the container was in quarantine: that says nothing of the destination.
    pub confined: bool,
}

/// Refusals of one hour, for one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Hour {
    /// Hours since the Unix epoch.
    pub hour: u64,
    /// Why.
    pub reason: &'static str,
}

/// All groups.
#[derive(Debug, Default)]
pub(super) struct Groups {
    wanted: Wanted,
    groups: HashMap<Key, Group>,
    each: HashMap<Arc<str>, usize>,
    /// Names that addresses got after they were refused, as the same logs tell.
    pub later: HashMap<IpAddr, Vec<(Name, Wall)>>,
    refused: BTreeSet<IpAddr>,
    /// Refusals beyond the groups that are kept.
    pub more: u64,
    pub hours: BTreeMap<Hour, u64>,
}

impl Group {
    fn new(key: Key) -> Group {
        let (sources, refused, would_refuse, retries, unhealthy, reasons) = Default::default();
        let (grade, held_us, first, last, names, list, auto, confined) = Default::default();
        Group {
            key,
            sources,
            refused,
            would_refuse,
            retries,
            unhealthy,
            reasons,
            grade,
            held_us,
            first,
            last,
            names,
            list,
            auto,
            confined,
        }
    }

    /// Everything counted.
    pub fn count(&self) -> u64 {
        self.refused + self.would_refuse + self.retries
    }

    /// The reason that came most often.
    pub fn reason(&self) -> &'static str {
        let most = self.reasons.iter().max_by_key(|(_, count)| **count);
        most.map_or("never-resolved", |(reason, _)| reason)
    }

    /// `tcp 203.0.113.9:443`, or the address alone.
    pub fn destination(&self) -> String {
        let Key { dst, dport, proto, .. } = &self.key;
        match (dport, proto) {
            (Some(port), Some(proto)) => {
                format!("{} {}", proto.as_str(), std::net::SocketAddr::from((*dst, *port)))
            }
            _ => dst.to_string(),
        }
    }

    fn seen(&mut self, at: Wall) {
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        self.last = Some(self.last.map_or(at, |last| last.max(at)));
    }

    fn because(&mut self, reason: &'static str, count: u64) {
        *self.reasons.entry(reason).or_default() += count;
    }
}

impl Groups {
    /// Of one container, by name or address, or of all of them.
    pub(super) fn of(container: Option<&str>) -> Groups {
        Groups { wanted: Wanted::new(container), ..Groups::default() }
    }

    /// Takes what an event says about refusals.
    pub(super) fn take(&mut self, at: Wall, body: &Body) {
        match body {
            Body::Verdict(verdict) if verdict.verdict == Verdict::Drop => self.verdict(at, verdict),
            Body::Block(block) if !block.set.starts_with(SPOOFS) => self.block(at, block),
            Body::Record(record) => self.record(at, record),
            Body::Verdict(_)
            | Body::Block(_)
            | Body::Ready(_)
            | Body::Container(_)
            | Body::Alert(_)
            | Body::Learn(_)
            | Body::Health(_)
            | Body::Reload(_)
            | Body::Stop(_) => {}
        }
    }

    fn verdict(&mut self, at: Wall, verdict: &VerdictBody) {
        // These say nothing about the destination.
        if matches!(verdict.reason, Reason::Malformed | Reason::Shutdown) {
            return;
        }
        let (Some(src), Some(dst)) = (verdict.src, verdict.dst) else { return };
        if !self.wanted.has(verdict.container.as_ref(), src) {
            return;
        }
        let container = named(verdict.container.as_ref(), src);
        let reason = verdict.reason.as_str();
        let hour = Hour { hour: at.0 / HOUR, reason };
        self.count_hour(hour, 1);
        let key = Key { container, dst, dport: verdict.dport, proto: verdict.proto };
        let group = self.group(key);
        group.seen(at);
        group.because(reason, 1);
        let counted = if verdict.enforced { &mut group.refused } else { &mut group.would_refuse };
        *counted += 1;
        group.unhealthy += u64::from(!verdict.evidence.healthy);
        group.grade = Some(verdict.grade);
        group.held_us = group.held_us.max(verdict.held_us);
        if group.sources.len() < NAMES_MAX {
            group.sources.insert(src);
        }
        for name in &verdict.names {
            if group.names.len() < NAMES_MAX && !group.names.contains(name) {
                group.names.push(name.clone());
            }
        }
        if let Some(domain) = &verdict.domain {
            group.list = Some(format!("the block list has {domain}"));
        }
    }

    fn block(&mut self, at: Wall, block: &BlockBody) {
        if !self.wanted.has(block.container.as_ref(), block.src) {
            return;
        }
        let container = named(block.container.as_ref(), block.src);
        let is_retry = block.set.starts_with(RETRIES);
        let reason = if is_retry { Reason::NeverResolved } else { Reason::Blocklisted }.as_str();
        if !is_retry {
            self.count_hour(Hour { hour: at.0 / HOUR, reason }, block.count);
        }
        let key = Key { container, dst: block.dst, dport: None, proto: None };
        let group = self.group(key);
        group.seen(at);
        if group.sources.len() < NAMES_MAX {
            group.sources.insert(block.src);
        }
        match (is_retry, block.enforced) {
            (true, _) => group.retries += block.count,
            (false, true) => group.refused += block.count,
            (false, false) => group.would_refuse += block.count,
        }
        if !is_retry {
            group.because(reason, block.count);
        }
        if let (Some(list), Some(entry)) = (&block.list, &block.entry) {
            group.list = Some(format!("list {list} has {entry}"));
        }
        group.confined |= names::QUARANTINE.has(&block.set);
    }

    fn record(&mut self, at: Wall, record: &RecordBody) {
        if !self.refused.contains(&record.address) {
            return;
        }
        let names = self.later.entry(record.address).or_default();
        if names.len() < NAMES_MAX && names.iter().all(|(name, _)| *name != record.name) {
            names.push((record.name.clone(), at));
        }
    }

    /// Takes a row of a learning period's books, unless the events told of the same.
    pub(super) fn learned(&mut self, row: WouldRefuse) {
        let WouldRefuse { container, dst, dport, proto, reason, count } = row;
        let key = Key { container, dst, dport: Some(dport), proto: Some(proto) };
        if self.groups.contains_key(&key) || !self.wanted.is_called(Some(&key.container)) {
            return;
        }
        let group = self.group(key);
        group.would_refuse += count;
        group.because(reason.as_str(), count);
    }

    /// Takes an entry of `auto.txt`: whose it is, and what its comment says.
    pub(super) fn listed(&mut self, from: Option<IpAddr>, dst: IpAddr, port: Option<(Proto, u16)>) {
        let mut is_known = false;
        for group in self.groups.values_mut().filter(|group| group.key.dst == dst) {
            if from.is_none_or(|from| group.sources.contains(&from)) {
                group.auto = true;
                is_known = true;
            }
        }
        if is_known || !self.is_theirs(from) {
            return;
        }
        let container = from.map_or_else(|| "all".into(), |from| from.to_string().into());
        let (proto, dport) = port.unzip();
        let group = self.group(Key { container, dst, dport, proto });
        group.auto = true;
        group.sources.extend(from);
        group.because(Reason::NeverResolved.as_str(), 1);
    }

    /// Whether an entry for this address is of who is wanted. Of a name, the addresses are those that events tell.
    fn is_theirs(&self, from: Option<IpAddr>) -> bool {
        let has = |from: IpAddr| {
            self.wanted.has(None, from)
                || self.groups.values().any(|group| group.sources.contains(&from))
        };
        from.map_or(self.wanted.is_everybody(), has)
    }

    /// All groups, of each container in turn, retries with what they are retries of.
    pub(super) fn finish(mut self) -> (Vec<Group>, Groups) {
        self.join_retries();
        self.prune(OF_ONE_MAX);
        if self.groups.len() > GROUPS_MAX {
            self.prune_all();
        }
        let mut groups: Vec<Group> = self.groups.drain().map(|(_, group)| group).collect();
        groups.sort_by(|a, b| a.key.cmp(&b.key));
        (groups, self)
    }

    fn join_retries(&mut self) {
        let mut by_pair: HashMap<(Arc<str>, IpAddr), Vec<Key>> = HashMap::new();
        for key in self.groups.keys().filter(|key| key.dport.is_some()) {
            let pair = (Arc::clone(&key.container), key.dst);
            by_pair.entry(pair).or_default().push(key.clone());
        }
        let portless: Vec<Key> =
            self.groups.keys().filter(|key| key.dport.is_none()).cloned().collect();
        for key in portless {
            let pair = (Arc::clone(&key.container), key.dst);
            let Some(latest) = by_pair.get(&pair).and_then(|keys| self.latest(keys)) else {
                continue;
            };
            // What a list refused stands by itself.
            if self.groups.get(&key).is_none_or(|group| !group.reasons.is_empty()) {
                continue;
            }
            let Some(retries) = self.groups.remove(&key) else { continue };
            if let Some(group) = self.groups.get_mut(&latest) {
                group.retries += retries.retries;
                retries.last.into_iter().for_each(|last| group.seen(last));
            }
        }
    }

    fn latest(&self, keys: &[Key]) -> Option<Key> {
        let of = |key: &&Key| self.groups.get(key).and_then(|group| group.last);
        keys.iter().max_by_key(of).cloned()
    }

    fn group(&mut self, key: Key) -> &mut Group {
        if !self.groups.contains_key(&key) {
            let of_one = self.each.get(&key.container).copied().unwrap_or(0);
            // Half of what is there goes at a time, so that nobody sorts for each event.
            if of_one >= 2 * OF_ONE_MAX {
                self.prune(OF_ONE_MAX);
            } else if self.groups.len() >= 2 * GROUPS_MAX {
                self.prune_all();
            }
            *self.each.entry(Arc::clone(&key.container)).or_default() += 1;
            self.refused.insert(key.dst);
        }
        self.groups.entry(key.clone()).or_insert_with(|| Group::new(key))
    }

    fn count_hour(&mut self, hour: Hour, count: u64) {
        if self.hours.len() < HOURS_MAX || self.hours.contains_key(&hour) {
            *self.hours.entry(hour).or_default() += count;
        }
    }
}

fn named(container: Option<&Arc<str>>, src: IpAddr) -> Arc<str> {
    container.map_or_else(|| src.to_string().into(), Arc::clone)
}

#[cfg(test)]
#[path = "group_test.rs"]
mod tests;

#[cfg(test)]
#[path = "group_testing.rs"]
pub(crate) mod testing;
