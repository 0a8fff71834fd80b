//! What the kernel's sets refused without asking: counts read from `hits4/6` and `denied4/6`, told as differences.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use anyhow::Result;

use super::policies::Freedom;
use crate::engine::inventory::Inventory;
use crate::engine::owner::{Owner, Refused};
use crate::engine::{Reason, Wall};
use crate::nftables::{self, Bulk, Channel, Element, Error, Key, names};

/// Pairs read from one set; the kernel's `hits` sets hold no more.
const PAIRS_MAX: usize = 4096;

/// Counts remembered of pairs that a cut reading left out; as many as one set of refusals holds.
const KEPT_MAX: usize = 65_536;

/// Packets of each pair, by set.
type Counts = HashMap<(&'static str, IpAddr, IpAddr), u64>;

/// Packets of one container to one destination that a set refused since the last look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The container's address.
    pub src: IpAddr,
    /// The destination.
    pub dst: IpAddr,
    /// Packets.
    pub count: u64,
    /// What they met.
    pub by: By,
    /// True if they passed all the same, since lists do not stop this container.
    pub spared: bool,
    /// Whose they were, if one container alone had the address since the last look.
    pub owner: Option<Arc<Owner>>,
}

impl Hit {
    /// Puts in whose the packets were that came between two looks, and counts them for it. Who forges a source is not
    /// who has the address.
    pub fn name(&mut self, books: &Inventory, from: Wall, to: Wall) {
        if self.by != By::Forged {
            self.owner = books.owner_between(self.src, from, to);
        }
        if let Some(owner) = &self.owner {
            // Why a pair is denied was told with the verdict of a moment ago.
            let (at, reason) = (to, Reason::Blocklisted);
            let last = Refused { at, dst: self.dst, port: None, reason };
            owner.tally.refuse(self.count, (self.by == By::List).then_some(last));
        }
    }
}

/// What refuses without asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum By {
    /// A list.
    List,
    /// A verdict of a moment ago.
    Denied,
    /// The rule against forged sources.
    Forged,
}

/// The counts of the last look.
#[derive(Debug, Default)]
pub struct Hits {
    last: Counts,
    freedom: Freedom,
}

impl Hits {
    /// Reads the counts and returns what was added to them; nothing at the first look, which sees what is history.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn look(&mut self, first: bool) -> Result<Vec<Hit>> {
        let mut now = Counts::new();
        for pair in [names::HITS, names::DENIED, names::SPOOFS] {
            for set in [pair.v4, pair.v6] {
                let (elements, cut) = nftables::dump(set, PAIRS_MAX)?;
                for found in elements {
                    if let (Key::Pair(src, dst), Some(count)) = (found.element.key, found.count) {
                        now.insert((set, src, dst), count.packets);
                    }
                }
                if cut {
                    keep(set, &self.last, &mut now);
                }
            }
        }
        let before = std::mem::replace(&mut self.last, now);
        let mut hits = if first { Vec::new() } else { grown(&before, &self.last) };
        for hit in &mut hits {
            hit.spared = hit.by == By::List && self.freedom.spares(hit.src);
        }
        Ok(hits)
    }

    /// Whom lists do not stop from now on.
    pub fn set_freedom(&mut self, freedom: Freedom) {
        self.freedom = freedom;
    }

    /// Takes what was noted of these addresses out of the kernel, so that it counts from the start for the next owner.
    ///
    /// # Errors
    /// If the kernel does not do it.
    pub fn forget(&mut self, addresses: &HashSet<IpAddr>) -> Result<()> {
        let mut channel = Channel::open()?;
        for set in [names::HITS, names::SPOOFS].into_iter().flat_map(|pair| [pair.v4, pair.v6]) {
            let (elements, _) = nftables::dump(set, PAIRS_MAX)?;
            for key in elements.iter().map(|found| found.element.key) {
                if !matches!(key, Key::Pair(src, _) if addresses.contains(&src)) {
                    continue;
                }
                let mut bulk = Bulk::new();
                bulk.remove(set, [Element::new(key)]);
                match channel.send_bulk(bulk) {
                    // It has expired.
                    Ok(()) | Err(Error::Stale { .. }) => {}
                    Err(error) => return Err(error.into()),
                }
            }
        }
        self.last.retain(|(_, src, _), _| !addresses.contains(src));
        Ok(())
    }
}

/// Keeps the counts of pairs that are not in a reading which had no room for all: they may be in the next.
fn keep(set: &str, before: &Counts, now: &mut Counts) {
    for (pair, count) in before.iter().filter(|(pair, _)| pair.0 == set) {
        if now.len() >= KEPT_MAX {
            return;
        }
        now.entry(*pair).or_insert(*count);
    }
}

fn grown(before: &Counts, now: &Counts) -> Vec<Hit> {
    let more = |((set, src, dst), count): (&(&'static str, IpAddr, IpAddr), &u64)| {
        // An element that expired and came back counts from the start again.
        let was = before.get(&(*set, *src, *dst)).copied().unwrap_or(0);
        let count = if *count >= was { count - was } else { *count };
        let by = match () {
            () if names::DENIED.has(set) => By::Denied,
            () if names::SPOOFS.has(set) => By::Forged,
            () => By::List,
        };
        (count > 0).then_some(Hit { src: *src, dst: *dst, count, by, spared: false, owner: None })
    };
    now.iter().filter_map(more).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_added_is_told_and_a_new_element_starts_over() {
        let pair = |dst: &str| ("hits4", "10.0.0.2".parse().unwrap(), dst.parse().unwrap());
        let (a, b, c) = (pair("192.0.2.1"), pair("192.0.2.2"), pair("192.0.2.3"));
        let before = HashMap::from([(a, 5), (b, 5)]);
        let now = HashMap::from([(a, 7), (b, 2), (c, 1)]);
        let mut told: Vec<(IpAddr, u64)> =
            grown(&before, &now).into_iter().map(|hit| (hit.dst, hit.count)).collect();
        told.sort_unstable();
        assert_eq!(told, [(a.2, 2), (b.2, 2), (c.2, 1)]);
        assert!(grown(&now, &now).is_empty());
    }

    #[test]
    fn what_a_cut_reading_leaves_out_is_not_told_twice() {
        let pair = |set, dst: &str| (set, "10.0.0.2".parse().unwrap(), dst.parse().unwrap());
        let (a, b) = (pair("denied4", "192.0.2.1"), pair("denied4", "192.0.2.2"));
        let other = pair("hits4", "192.0.2.2");
        let before = HashMap::from([(a, 5), (b, 5), (other, 5)]);
        let mut cut = HashMap::from([(a, 6)]);
        keep("denied4", &before, &mut cut);
        assert_eq!(cut, HashMap::from([(a, 6), (b, 5)]));
        let told = grown(&cut, &HashMap::from([(a, 6), (b, 8)]));
        assert_eq!(told.iter().map(|hit| (hit.dst, hit.count)).collect::<Vec<_>>(), [(b.2, 3)]);
    }
}
