//! Queries still to be answered when their slot was taken: bounded, and full only for who fills it.

use std::collections::HashMap;
use std::net::IpAddr;

use super::serials::{Key, Query};

/// Queries in order of age. Room is made by taking from the clients that have most here, the oldest of each first, so
/// that a client that asks what is never answered forgets its own queries. One that forges many source addresses is
/// many clients, and can make the others forget theirs.
pub struct Pending {
    size: usize,
    queries: Vec<Query>,
    at: HashMap<Key, usize>,
    /// Kept for its memory only.
    counts: HashMap<IpAddr, usize>,
    /// Names of queries that are gone, for their memory.
    spare: Vec<String>,
}

impl Pending {
    /// Room for `size` queries.
    pub fn new(size: usize) -> Pending {
        let (queries, at) = (Vec::new(), HashMap::new());
        Pending { size, queries, at, counts: HashMap::new(), spare: Vec::new() }
    }

    /// Takes a query in, and gives memory for the next name.
    pub fn keep(&mut self, query: Query) -> String {
        if self.queries.len() >= self.size {
            self.make_room();
        }
        self.at.insert(query.key, self.queries.len());
        self.queries.push(query);
        self.spare.pop().unwrap_or_default()
    }

    /// The query of `key`.
    pub fn get(&mut self, key: Key) -> Option<&mut Query> {
        self.queries.get_mut(*self.at.get(&key)?)
    }

    /// Forgets the query of `key`, which stands for another one now.
    pub fn supersede(&mut self, key: Key) {
        if self.at.is_empty() {
            return;
        }
        if let Some(query) = self.at.remove(&key).and_then(|at| self.queries.get_mut(at)) {
            query.answered = true;
        }
    }

    /// Forgets every query put to `pid`.
    pub fn forget(&mut self, pid: Option<u32>) {
        self.retain(|query| query.key.1 != pid && !query.answered);
    }

    /// Makes room for a quarter, so that the work is done once for many queries. What has been answered goes first;
    /// then as many of each client are left as can be left of all.
    fn make_room(&mut self) {
        let room = self.size - self.size.div_ceil(4);
        let mut counts = std::mem::take(&mut self.counts);
        counts.clear();
        for query in self.queries.iter().filter(|query| !query.answered) {
            *counts.entry(query.client.0).or_default() += 1;
        }
        let total = |each: usize| counts.values().map(|count| (*count).min(each)).sum::<usize>();
        let (mut each, mut high) = (1, room);
        while each < high {
            let middle = (each + high).div_ceil(2);
            if total(middle) <= room { each = middle } else { high = middle - 1 }
        }
        // More clients than room: the oldest go, whosever they are.
        let mut beyond = total(each).saturating_sub(room);
        counts.values_mut().for_each(|count| *count = count.saturating_sub(each));
        self.retain(|query| {
            if query.answered {
                return false;
            }
            let excess = counts.get_mut(&query.client.0).filter(|excess| **excess > 0);
            match excess.or_else(|| Some(&mut beyond).filter(|beyond| **beyond > 0)) {
                Some(count) => {
                    *count -= 1;
                    false
                }
                None => true,
            }
        });
        self.counts = counts;
    }

    fn retain(&mut self, mut wanted: impl FnMut(&Query) -> bool) {
        let (at, spare, mut next) = (&mut self.at, &mut self.spare, 0);
        at.clear();
        self.queries.retain_mut(|query| {
            let stays = wanted(query);
            if stays {
                at.insert(query.key, next);
                next += 1;
            } else {
                spare.push(std::mem::take(&mut query.name));
            }
            stays
        });
    }

    /// Queries remembered, answered or not.
    #[cfg(test)]
    pub fn len(&self) -> usize {
        assert!(self.at.len() <= self.queries.len() && self.queries.len() <= self.size);
        self.queries.len()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use crate::dns::line::Qtype;

    use super::*;

    const SIZE: usize = 64;
    const ROOM: usize = 48;

    fn query(serial: u64, client: u8) -> Query {
        Query {
            key: (serial, Some(1)),
            client: (IpAddr::from([10, 0, 0, client]), 9),
            qtype: Qtype::A,
            answered: false,
            name: "a.example".to_owned(),
        }
    }

    #[test]
    fn more_clients_than_room_leave_the_newest() {
        let mut pending = Pending::new(SIZE);
        (0..=SIZE as u64).for_each(|n| drop(pending.keep(query(n, n.to_le_bytes()[0]))));
        let known: Vec<u64> =
            (0..=SIZE as u64).filter(|n| pending.get((*n, Some(1))).is_some()).collect();
        assert_eq!(known, ((SIZE - ROOM) as u64..=SIZE as u64).collect::<Vec<_>>());
    }

    #[test]
    fn names_of_the_forgotten_lend_their_memory() {
        let mut pending = Pending::new(SIZE);
        (0..SIZE as u64).for_each(|n| drop(pending.keep(query(n, 1))));
        assert_eq!(pending.keep(query(99, 1)).capacity(), "a.example".len());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn who_has_no_more_than_its_share_forgets_nothing(
            steps in prop::collection::vec((prop_oneof![8 => Just(0u8), 1 => 1u8..6], 0u8..10), 0..2_000),
        ) {
            let mut pending = Pending::new(SIZE);
            let mut naive: [VecDeque<u64>; 6] = Default::default();
            for (serial, (client, what)) in (0u64..).zip(steps) {
                let own = &mut naive[usize::from(client)];
                match what {
                    // The oldest of this client is answered.
                    0..3 => {
                        let Some(old) = own.pop_front() else { continue };
                        if let Some(query) = pending.get((old, Some(1))) {
                            query.answered = true;
                        }
                    }
                    // Its serial number stands for another query now.
                    3 => {
                        let Some(old) = own.pop_front() else { continue };
                        pending.supersede((old, Some(1)));
                        prop_assert!(pending.get((old, Some(1))).is_none());
                    }
                    _ => {
                        pending.keep(query(serial, client));
                        own.push_back(serial);
                    }
                }
                prop_assert!(pending.len() <= SIZE);
                // Every client but the flooding one stays below its share, so all of theirs are there.
                for client in 1..6u8 {
                    for serial in naive[usize::from(client)].iter().rev().take(ROOM / 6) {
                        let known = pending.get((*serial, Some(1)));
                        prop_assert!(known.is_some_and(|query| query.client.0 == IpAddr::from([10, 0, 0, client])));
                    }
                }
            }
            pending.forget(Some(2));
            pending.forget(Some(1));
            prop_assert_eq!(pending.len(), 0);
        }
    }
}
