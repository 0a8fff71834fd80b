//! Each container's packets, for as many containers as a collector likes to keep series of.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use super::{label, real, whole};
use crate::daemon::roster::books;
use crate::daemon::shared::Shared;
use crate::engine::owner::OwnerCounts;
use crate::metrics::Family;

/// Containers with series of their own. Four series each are what a collector takes from a host without complaint.
const NAMED_MAX: usize = 200;
/// The name of all others; no container can have it.
const OTHERS: &str = "(other)";

/// Which containers have series of their own. Whoever has them keeps them while it runs: who comes later takes no place
/// away, and a sum that lost a part would look like a counter that began anew.
#[derive(Debug, Default)]
pub struct Series {
    named: HashSet<Arc<str>>,
    /// What those without had last.
    others: HashMap<Arc<str>, Counts>,
    /// What those of them had that are gone.
    gone: Counts,
}

/// Accepted, refused, held.
type Counts = [u64; 3];

pub fn families(shared: &Shared, series: &mut Series) -> Vec<Family> {
    // The books are closed again before anything is written.
    let (running, left_out): (Vec<_>, u64) = {
        let books = books(shared);
        (books.running().collect(), books.left_out())
    };
    let lists = shared.engine.lists();
    let quarantined = running
        .iter()
        .filter(|(owner, place)| {
            lists.confined.has(&owner.name)
                || place.addresses.iter().any(|ip| lists.confines(*ip, Some(&owner.name)))
        })
        .count();
    let now = running
        .iter()
        .map(|(owner, _)| (Arc::clone(&owner.id), Arc::clone(&owner.name), owner.tally.counts()));
    let shown = series.take(now);
    let family = |name, help, place: usize| {
        let of = |(name, counts): (&String, &Counts)| {
            (label("container", name.clone()), counts.get(place).copied().unwrap_or(0))
        };
        Family::counters(name, help, shown.iter().map(of))
    };
    vec![
        family("container_accepted_packets", "Packets of each container that were accepted", 0),
        family(
            "container_refused_packets",
            "Packets of each container that were refused, by the kernel's sets too, or would have been",
            1,
        ),
        family("container_held_packets", "Packets of each container that were held", 2),
        Family::gauge("containers", "Containers that run", whole(running.len())),
        Family::gauge("containers_quarantined", "Containers in quarantine", whole(quarantined)),
        Family::gauge("containers_left_out", "Containers too many to be known", real(left_out)),
    ]
}

impl Series {
    /// Counts by name, from those of the containers that run.
    fn take(
        &mut self,
        now: impl Iterator<Item = (Arc<str>, Arc<str>, OwnerCounts)>,
    ) -> BTreeMap<String, Counts> {
        let now: HashMap<Arc<str>, (Arc<str>, Counts)> = now
            .map(|(id, name, counts)| (id, (name, [counts.accepted, counts.refused, counts.held])))
            .collect();
        self.named.retain(|id| now.contains_key(id));
        let gone = self.others.extract_if(|id, _| !now.contains_key(id));
        gone.for_each(|(_, counts)| add(&mut self.gone, counts));
        let mut shown: BTreeMap<String, Counts> = BTreeMap::new();
        for (id, (name, counts)) in now {
            let known = self.named.contains(&id) || self.others.contains_key(&id);
            if !known && self.named.len() < NAMED_MAX {
                self.named.insert(Arc::clone(&id));
            }
            if self.named.contains(&id) {
                add(shown.entry(name.to_string()).or_default(), counts);
            } else {
                self.others.insert(id, counts);
            }
        }
        if !self.others.is_empty() || self.gone != Counts::default() {
            let sum = shown.entry(OTHERS.to_owned()).or_default();
            add(sum, self.gone);
            self.others.values().for_each(|counts| add(sum, *counts));
        }
        shown
    }
}

fn add(sum: &mut Counts, counts: Counts) {
    sum.iter_mut().zip(counts).for_each(|(sum, count)| *sum = sum.saturating_add(count));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn container(n: usize, accepted: u64) -> (Arc<str>, Arc<str>, OwnerCounts) {
        let counts = OwnerCounts { accepted, ..OwnerCounts::default() };
        (format!("id{n}").into(), format!("c{n}").into(), counts)
    }

    #[test]
    fn who_has_a_series_keeps_it_and_the_rest_is_a_sum_that_never_shrinks() {
        let mut series = Series::default();
        let shown = series.take((0..NAMED_MAX).map(|n| container(n, 1)));
        assert_eq!((shown.len(), shown["c0"]), (NAMED_MAX, [1, 0, 0]));
        let shown = series.take((0..NAMED_MAX + 3).map(|n| container(n, 2)));
        assert_eq!(
            (shown.len(), shown[OTHERS], shown["c0"]),
            (NAMED_MAX + 1, [6, 0, 0], [2, 0, 0])
        );
        // One with a series goes, and one of the others: the others keep what they had.
        let left = || (1..NAMED_MAX + 2).map(|n| container(n, 3));
        let shown = series.take(left());
        assert_eq!((shown[OTHERS], shown.contains_key("c0")), ([2 + 6, 0, 0], false));
        // The place goes to who comes next, not to one of the others.
        let shown = series.take(left().chain([container(999, 9)]));
        assert_eq!((shown["c999"], shown[OTHERS]), ([9, 0, 0], [8, 0, 0]));
        let shown = series.take(std::iter::empty());
        assert_eq!(shown, BTreeMap::from([(OTHERS.to_owned(), [8, 0, 0])]));
    }
}
