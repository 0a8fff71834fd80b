//! What the kernel's sets refused without asking: counts read from `hits4/6` and `denied4/6`, told as differences.

use std::collections::HashMap;
use std::net::IpAddr;

use anyhow::Result;

use crate::nftables::{self, Key, names};

/// Pairs read from one set; the kernel's `hits` sets hold no more.
const PAIRS_MAX: usize = 4096;

/// Counts remembered of pairs that a cut reading left out; as many as one set of refusals holds.
const KEPT_MAX: usize = 65_536;

/// Packets of each pair, by set.
type Counts = HashMap<(&'static str, IpAddr, IpAddr), u64>;

/// Packets of one container to one destination that a set refused since the last look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hit {
    /// The container's address.
    pub src: IpAddr,
    /// The destination.
    pub dst: IpAddr,
    /// Packets.
    pub count: u64,
    /// True if a verdict of a moment ago refused them, not a list.
    pub denied: bool,
}

/// The counts of the last look.
#[derive(Debug, Default)]
pub struct Hits {
    last: Counts,
}

impl Hits {
    /// Reads the counts and returns what was added to them; nothing at the first look, which sees what is history.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn look(&mut self, first: bool) -> Result<Vec<Hit>> {
        let mut now = Counts::new();
        for pair in [names::HITS, names::DENIED] {
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
        Ok(if first { Vec::new() } else { grown(&before, &self.last) })
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
        let denied = [names::DENIED.v4, names::DENIED.v6].contains(set);
        (count > 0).then_some(Hit { src: *src, dst: *dst, count, denied })
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
