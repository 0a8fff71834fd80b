//! Hits of the kernel's sets as events: each container and destination at once, then once a minute with its count.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::hits::{By, Hit};
use super::shared::Shared;
use crate::engine::Family;
use crate::engine::event::{BlockBody, Body};
use crate::engine::lists::Lists;
use crate::engine::owner::Owner;
use crate::engine::{Inquiry, Mode, Name};
use crate::lists::{Found, Kind, Protected, Query, Source, find};
use crate::nftables::names;

/// How often one container and destination are told again.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// Pairs remembered; as many as the kernel's sets of hits hold, in both families.
const PAIRS_MAX: usize = 8192;
/// Events of one look. More at once is a scan, and the rest is told in the looks that follow, oldest first
/// and each source in turn.
const EVENTS_MAX: usize = 100;
/// How long after a look that was full the next one comes: it may have to read all lists for its entries.
const REST_AFTER: Duration = Duration::from_secs(5);
/// Addresses whose entry is remembered, so that a list is not read anew for each hit.
const ENTRIES_MAX: usize = 4096;

/// What was told, and what is to be told.
#[derive(Default)]
pub struct Teller {
    pairs: HashMap<Pair, Told>,
    /// Which entry of which list is behind a set and an address; nothing where none was found.
    entries: HashMap<Met, Option<Found>>,
    /// When the next look may be, if the last one was full.
    rest_at: Option<Instant>,
}

/// Source, destination, and what refused it.
type Pair = (IpAddr, IpAddr, By);

/// What a packet met: a set, and the address that it has.
type Met = (&'static str, IpAddr);

struct Told {
    /// From when on what waits may be told.
    due: Instant,
    /// Packets not told yet.
    waiting: u64,
    /// The last of them passed, since lists do not stop this container.
    spared: bool,
    /// Whose the last of them was.
    owner: Option<Arc<Owner>>,
}

/// A pair that is to be told of, with its packets.
struct Due {
    key: Pair,
    count: u64,
    spared: bool,
    owner: Option<Arc<Owner>>,
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
        self.count(hits, Instant::now());
        self.tell_due(sources, protected, shared);
    }

    fn count(&mut self, hits: &[Hit], now: Instant) {
        for hit in hits {
            let key = (hit.src, hit.dst, hit.by);
            if self.pairs.len() >= PAIRS_MAX && !self.pairs.contains_key(&key) {
                self.make_room();
            }
            let fresh = Told { due: now, waiting: 0, spared: false, owner: None };
            let told = self.pairs.entry(key).or_insert(fresh);
            if told.waiting == 0 {
                told.due = told.due.max(now);
            }
            told.waiting += hit.count;
            told.spared = hit.spared;
            told.owner = hit.owner.clone().or(told.owner.take());
        }
    }

    /// When something is to be told, if anything waits.
    pub fn next(&self) -> Option<Instant> {
        let waiting = self.pairs.values().filter(|told| told.waiting > 0);
        let due = waiting.map(|told| told.due).min()?;
        Some(self.rest_at.map_or(due, |rest| rest.max(due)))
    }

    /// Tells what is due.
    pub fn tell_due(&mut self, sources: &[Source], protected: &[Protected], shared: &Shared) {
        let chosen = self.choose(Instant::now());
        self.tell(&chosen, sources, protected, shared);
    }

    /// Tells all that waits of sources whose owner is gone, and starts over with them.
    pub fn leave(
        &mut self,
        left: &[IpAddr],
        sources: &[Source],
        protected: &[Protected],
        shared: &Shared,
    ) {
        let theirs = self.pairs.extract_if(|(src, ..), _| left.contains(src));
        let waiting = theirs.filter(|(_, told)| told.waiting > 0);
        let mut due: Vec<Due> = waiting
            .map(|(key, told)| Due {
                key,
                count: told.waiting,
                spared: told.spared,
                owner: told.owner,
            })
            .collect();
        due.truncate(EVENTS_MAX);
        self.tell(&due, sources, protected, shared);
    }

    fn tell(&mut self, due: &[Due], sources: &[Source], protected: &[Protected], shared: &Shared) {
        let keys: Vec<Pair> = due.iter().map(|due| due.key).collect();
        let lists = shared.engine.lists();
        self.find(&keys, &lists, sources, protected);
        for Due { key: (src, dst, by), count, spared, owner } in due {
            let met = met(&lists, *src, *dst, *by);
            let entry = self.entries.get(&met).cloned().flatten();
            // Quarantine spares nobody.
            let enforced =
                shared.mode() == Mode::Enforce && (!spared || names::QUARANTINE.has(met.0));
            let body = body(shared, met.0, (*src, *dst), *count, entry);
            let container = owner.as_ref().map(|owner| Arc::clone(&owner.name));
            let container_id = owner.as_ref().map(|owner| Arc::clone(&owner.id));
            let body = BlockBody { enforced, container, container_id, ..body };
            shared.event(Body::Block(body));
        }
    }

    /// What is to be told now, with its packets; they are then told.
    fn choose(&mut self, now: Instant) -> Vec<Due> {
        if self.rest_at.is_some_and(|rest| rest > now) {
            return Vec::new();
        }
        let waiting = self.pairs.iter_mut().filter(|(_, told)| told.waiting > 0 && told.due <= now);
        let mut due: Vec<(&Pair, &mut Told)> = waiting.collect();
        self.rest_at = (due.len() > EVENTS_MAX).then(|| now + REST_AFTER);
        due.sort_unstable_by_key(|(_, told)| told.due);
        // One of each source in turn: who scans makes its neighbours wait for nothing.
        let mut turns: HashMap<IpAddr, usize> = HashMap::new();
        due.sort_by_cached_key(|((src, ..), _)| {
            let turn = turns.entry(*src).or_default();
            *turn += 1;
            *turn
        });
        due.truncate(EVENTS_MAX);
        let take = |(key, told): (&Pair, &mut Told)| {
            told.due = now + AGAIN_AFTER;
            let owner = told.owner.clone();
            Due { key: *key, count: std::mem::take(&mut told.waiting), spared: told.spared, owner }
        };
        due.into_iter().map(take).collect()
    }

    /// Finds the entries of those not looked for yet, in one reading of the lists.
    fn find(&mut self, keys: &[Pair], lists: &Lists, sources: &[Source], protected: &[Protected]) {
        if self.entries.len() >= ENTRIES_MAX {
            self.entries.clear();
        }
        let listed = keys.iter().filter(|(.., by)| *by == By::List);
        let mut wanted: Vec<Met> = listed
            .map(|(src, dst, by)| met(lists, *src, *dst, *by))
            .filter(|met| !self.entries.contains_key(met))
            .collect();
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return;
        }
        let queries: Vec<Query> =
            wanted.iter().map(|(_, address)| Query::Address(*address)).collect();
        let found = find(sources, &queries, protected, super::clock::wall());
        for (place, (set, address)) in wanted.into_iter().enumerate() {
            let kind = if names::QUARANTINE.has(set) { Kind::Quarantine } else { Kind::Block };
            let mut of_it = found.found.iter().filter(|found| found.query == place);
            let entry = of_it.find(|found| found.kind == kind).cloned();
            self.entries.insert((set, address), entry);
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

/// The set that refused it, in the order of the rules, and the address that it has.
fn met(lists: &Lists, src: IpAddr, dst: IpAddr, by: By) -> Met {
    let family = Family::of(src);
    let quarantined = [src, dst].into_iter().find(|end| lists.has_quarantined(*end));
    match quarantined {
        _ if by == By::Denied => (names::DENIED.of(family), dst),
        _ if by == By::Forged => (names::SPOOFS.of(family), src),
        Some(end) => (names::QUARANTINE.of(family), end),
        None if lists.block.lasting.has_single(dst) => (names::BLOCKHOSTS.of(family), dst),
        None => (names::BLOCK.of(family), dst),
    }
}

fn body(
    shared: &Shared,
    set: &str,
    (src, dst): (IpAddr, IpAddr),
    count: u64,
    entry: Option<Found>,
) -> BlockBody {
    let inquiry = Inquiry { clients: &[src], at: super::clock::wall(), max_age: None };
    let names: Vec<Name> = shared.engine.registry().look_up(&inquiry, dst).1.names;
    let (list, text, note) =
        entry.map_or((None, None, None), |found| (Some(found.list), Some(found.entry), found.note));
    BlockBody {
        mode: shared.mode(),
        enforced: shared.mode() == Mode::Enforce,
        set: set.to_owned(),
        container: None,
        container_id: None,
        src,
        dst,
        count,
        list,
        entry: text,
        note,
        names,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::engine::intervals::Span;
    use crate::engine::lists::Side;
    use crate::engine::net::number;
    use crate::lists::{Content, Folder, Own};

    const CONTAINER: &str = "172.17.0.2";
    const QUARANTINED: &str = "172.17.0.9";
    const HOST: &str = "203.0.113.66";
    const IN_NET: &str = "198.51.100.7";

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn list(own: Own, text: &str) -> Source {
        let content = Content::Memory(text.as_bytes().into());
        Source { content, ..Source::own(&Folder::new(Path::new("/nowhere")), own) }
    }

    /// The block list holds the container in quarantine too, in a network.
    fn lists() -> (Lists, [Source; 2]) {
        let span =
            |first: &str, last: &str| (Family::V4, Span::new(number(ip(first)), number(ip(last))));
        let nets = [("198.51.100.0", "198.51.100.255"), ("172.17.0.8", "172.17.0.11")];
        let block = nets.into_iter().chain([(HOST, HOST)]).map(|(first, last)| span(first, last));
        let lists = Lists {
            block: Side::new(block, [], []),
            quarantine: vec![(ip(QUARANTINED), None)],
            ..Lists::default()
        };
        let text = "198.51.100.0/24\n172.17.0.8/30\n203.0.113.66\n";
        (lists, [list(Own::Block, text), list(Own::Quarantine, "172.17.0.9 # case 12\n")])
    }

    #[test]
    fn a_hit_is_told_with_the_set_and_entry_that_refused_it() {
        let (lists, sources) = lists();
        let told = |src: &str, dst: &str, by: By| {
            let (mut teller, src, dst) = (Teller::default(), ip(src), ip(dst));
            teller.find(&[(src, dst, by)], &lists, &sources, &[]);
            let met = met(&lists, src, dst, by);
            (met.0, teller.entries.get(&met).cloned().flatten().map(|found| found.entry))
        };
        let entry = |text: &str| Some(text.to_owned());
        for (src, dst) in [
            (QUARANTINED, HOST),
            (CONTAINER, QUARANTINED),
            (HOST, QUARANTINED),
            (QUARANTINED, "172.17.0.1"),
        ] {
            assert_eq!(
                told(src, dst, By::List),
                ("quarantine4", entry(QUARANTINED)),
                "{src} {dst}"
            );
        }
        assert_eq!(told(CONTAINER, HOST, By::List), ("blockhosts4", entry(HOST)));
        assert_eq!(told(CONTAINER, IN_NET, By::List), ("block4", entry("198.51.100.0/24")));
        assert_eq!(told(CONTAINER, QUARANTINED, By::Denied), ("denied4", None), "no list did");
        assert_eq!(told(CONTAINER, QUARANTINED, By::Forged), ("spoofs4", None));
    }

    #[test]
    fn the_entries_of_one_look_are_found_together() {
        let (lists, sources) = lists();
        let mut teller = Teller::default();
        let keys = [(CONTAINER, HOST), (CONTAINER, QUARANTINED), (CONTAINER, IN_NET)]
            .map(|(src, dst)| (ip(src), ip(dst), By::List));
        teller.find(&keys, &lists, &sources, &[]);
        for (src, dst, by) in keys {
            assert!(teller.entries[&met(&lists, src, dst, by)].is_some(), "{dst}");
        }
    }

    #[test]
    fn a_scan_is_told_in_full_a_look_at_a_time() {
        const PAIRS: usize = 3 * EVENTS_MAX + 7;
        let (mut teller, mut now) = (Teller::default(), Instant::now());
        let hit = |place: usize| {
            let low = u32::try_from(place).unwrap();
            let dst = IpAddr::V4(low.into());
            Hit { src: ip(CONTAINER), dst, count: 2, by: By::List, spared: false, owner: None }
        };
        let scan: Vec<Hit> = (0..PAIRS).map(hit).collect();
        teller.count(&scan, now);
        let mut told: HashMap<Pair, u64> = HashMap::new();
        for look in 0..4 {
            // What comes in meanwhile waits its turn, and does not keep the others waiting.
            teller.count(&scan[..EVENTS_MAX], now);
            let chosen = teller.choose(now);
            assert_eq!(chosen.len(), if look < 3 { EVENTS_MAX } else { 7 }, "{look}");
            for Due { key, count, .. } in chosen {
                *told.entry(key).or_default() += count;
            }
            assert!(teller.choose(now).is_empty() && teller.next().is_none_or(|next| next > now));
            now += REST_AFTER;
        }
        assert_eq!(told.len(), PAIRS, "nobody is left out");
        while let Some(next) = teller.next() {
            for Due { key, count, .. } in teller.choose(next) {
                *told.entry(key).or_default() += count;
            }
        }
        let all: u64 = told.values().sum();
        assert_eq!(all, u64::try_from(2 * PAIRS + 2 * 4 * EVENTS_MAX).unwrap());
    }
}
