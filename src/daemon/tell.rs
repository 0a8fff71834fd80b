//! Hits of the kernel's sets as events: each container and destination at once, then once a minute with its count.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::hits::Hit;
use super::shared::Shared;
use crate::engine::Family;
use crate::engine::event::{BlockBody, Body};
use crate::engine::lists::Lists;
use crate::engine::{Mode, Name};
use crate::lists::{Found, Kind, Protected, Query, Source, find};
use crate::nftables::names;

/// How often one container and destination are told again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Pairs remembered; as many as the kernel's sets of hits hold, in both families.
const PAIRS_MAX: usize = 8192;
/// Events of one look. More at once is a scan, and the rest is told a minute later with its counts.
const EVENTS_MAX: usize = 100;
/// Addresses whose entry is remembered, so that a list is not read anew for each hit.
const ENTRIES_MAX: usize = 4096;

/// What was told, and what is to be told.
#[derive(Default)]
pub struct Teller {
    pairs: HashMap<(IpAddr, IpAddr, bool), Told>,
    /// Which entry of which list has an address; nothing where none was found.
    entries: HashMap<IpAddr, Option<Found>>,
}

struct Told {
    at: Option<Instant>,
    waiting: u64,
}

impl Teller {
    /// The lists changed: what has an address has to be found anew.
    pub fn forget_entries(&mut self) {
        self.entries.clear();
    }

    /// Takes hits in and tells those that are due.
    pub fn take(
        &mut self,
        hits: &[Hit],
        sources: &[Source],
        protected: &[Protected],
        shared: &Shared,
    ) {
        for hit in hits {
            let key = (hit.src, hit.dst, hit.denied);
            if self.pairs.len() >= PAIRS_MAX && !self.pairs.contains_key(&key) {
                self.make_room();
            }
            let told = self.pairs.entry(key).or_insert(Told { at: None, waiting: 0 });
            told.waiting += hit.count;
        }
        self.tell_due(sources, protected, shared);
    }

    /// When something told before is to be told again, if anything waits.
    pub fn next(&self) -> Option<Instant> {
        let waiting = self.pairs.values().filter(|told| told.waiting > 0);
        waiting.map(|told| told.at.map_or_else(Instant::now, |at| at + AGAIN_AFTER)).min()
    }

    /// Tells what is due.
    pub fn tell_due(&mut self, sources: &[Source], protected: &[Protected], shared: &Shared) {
        let now = Instant::now();
        let due = |told: &Told| {
            told.waiting > 0 && told.at.is_none_or(|at| now.duration_since(at) >= AGAIN_AFTER)
        };
        let keys: Vec<(IpAddr, IpAddr, bool)> = self
            .pairs
            .iter()
            .filter(|(_, told)| due(told))
            .map(|(key, _)| *key)
            .take(EVENTS_MAX)
            .collect();
        let lists = shared.engine.lists();
        self.find(&keys, &lists, sources, protected);
        for (src, dst, denied) in keys {
            let Some(told) = self.pairs.get_mut(&(src, dst, denied)) else { continue };
            told.at = Some(now);
            let count = std::mem::take(&mut told.waiting);
            let set = set_of(&lists, src, dst, denied);
            let asked = if set == names::QUARANTINE.of(Family::of(src)) { src } else { dst };
            let entry = self.entries.get(&asked).cloned().flatten().filter(|_| !denied);
            shared.event(Body::Block(body(shared, set, (src, dst), count, entry)));
        }
    }

    /// Finds the entries of those not looked for yet, in one reading of the lists.
    fn find(
        &mut self,
        keys: &[(IpAddr, IpAddr, bool)],
        lists: &Lists,
        sources: &[Source],
        protected: &[Protected],
    ) {
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.clear();
        }
        let listed = keys.iter().filter(|(.., denied)| !denied).map(|(src, dst, denied)| {
            let quarantined = names::QUARANTINE.has(set_of(lists, *src, *dst, *denied));
            if quarantined { *src } else { *dst }
        });
        let mut wanted: Vec<IpAddr> =
            listed.filter(|address| !self.entries.contains_key(address)).collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return;
        }
        let queries: Vec<Query> = wanted.iter().map(|address| Query::Address(*address)).collect();
        let found = find(sources, &queries, protected, super::clock::wall());
        for (place, address) in wanted.into_iter().enumerate() {
            let mut of_it = found.found.iter().filter(|found| found.query == place);
            let entry = of_it.find(|found| found.kind != Kind::Allow).cloned();
            self.entries.insert(address, entry);
        }
    }

    /// Forgets pairs with nothing to tell; if that is not enough, all: they are told at once again.
    fn make_room(&mut self) {
        self.pairs.retain(|_, told| told.waiting > 0);
        if self.pairs.len() >= PAIRS_MAX {
            self.pairs.clear();
        }
    }
}

/// The set that refused it, in the order of the rules.
fn set_of(lists: &Lists, src: IpAddr, dst: IpAddr, denied: bool) -> &'static str {
    let family = Family::of(src);
    if denied {
        names::DENIED.of(family)
    } else if lists.quarantine.binary_search_by_key(&src, |(address, _)| *address).is_ok() {
        names::QUARANTINE.of(family)
    } else if lists.block.lasting.has_single(dst) {
        names::BLOCKHOSTS.of(family)
    } else {
        names::BLOCK.of(family)
    }
}

fn body(
    shared: &Shared,
    set: &str,
    (src, dst): (IpAddr, IpAddr),
    count: u64,
    entry: Option<Found>,
) -> BlockBody {
    let names: Vec<Name> = shared.engine.registry().look_up(src, dst).1.names;
    let (list, text, note) =
        entry.map_or((None, None, None), |found| (Some(found.list), Some(found.entry), found.note));
    BlockBody {
        mode: shared.mode(),
        enforced: shared.mode() == Mode::Enforce,
        set: set.to_owned(),
        container: None,
        src,
        dst,
        count,
        list,
        entry: text,
        note,
        names,
    }
}
