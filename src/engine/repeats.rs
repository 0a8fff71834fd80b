//! What is told once an hour and counted in between: bounded, and fair to every asker.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use super::abuse::{TOLD_AGAIN, TOLD_MAX, TOLD_PER_ASKER};

/// What was told, by who caused it.
#[derive(Debug)]
pub struct Repeats<K> {
    told: HashMap<(Option<IpAddr>, K), Told>,
    /// How much of it by whom.
    by: HashMap<Option<IpAddr>, usize>,
    /// When what is over was taken out last.
    swept: u32,
}

/// Seconds between two looks for what is over, so that a flood is turned away without one.
const SWEEP: u32 = 60;

#[derive(Clone, Copy, Debug)]
struct Told {
    at: u32,
    since: u64,
}

impl<K> Default for Repeats<K> {
    fn default() -> Repeats<K> {
        Repeats { told: HashMap::new(), by: HashMap::new(), swept: 0 }
    }
}

impl<K: Hash + Eq> Repeats<K> {
    /// Notes that `what` happened for `who` in this second since the Unix epoch. Some if it is to be told now: how often
    /// it happened since it was told last. Nothing too if too much was told already.
    pub fn note(&mut self, who: Option<IpAddr>, what: K, at: u32) -> Option<u64> {
        let key = (who, what);
        if let Some(told) = self.told.get_mut(&key) {
            told.since += 1;
            return Self::is_over(told, at).then(|| {
                told.at = at;
                std::mem::take(&mut told.since)
            });
        }
        if !self.has_room(who, at) {
            return None;
        }
        *self.by.entry(who).or_default() += 1;
        self.told.insert(key, Told { at, since: 0 });
        Some(1)
    }

    fn has_room(&mut self, who: Option<IpAddr>, at: u32) -> bool {
        let room = |repeats: &Repeats<K>| {
            let of_asker = repeats.by.get(&who).copied().unwrap_or(0);
            repeats.told.len() < TOLD_MAX && of_asker < TOLD_PER_ASKER
        };
        if !room(self) && at.abs_diff(self.swept) >= SWEEP {
            self.swept = at;
            self.told.retain(|_, told| !Self::is_over(told, at));
            self.by.clear();
            for (who, _) in self.told.keys() {
                *self.by.entry(*who).or_default() += 1;
            }
        }
        room(self)
    }

    /// A clock that was set back by more than an hour starts over too.
    fn is_over(told: &Told, at: u32) -> bool {
        at.abs_diff(told.at) >= TOLD_AGAIN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asker(n: u8) -> Option<IpAddr> {
        Some(IpAddr::from([172, 17, 0, n]))
    }

    #[test]
    fn what_repeats_is_told_once_an_hour_with_its_count() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.note(asker(1), "a", 1_000), Some(1));
        for second in 1_001..1_100 {
            assert_eq!(repeats.note(asker(1), "a", second), None);
        }
        assert_eq!(repeats.note(asker(2), "a", 1_100), Some(1), "another's is another thing");
        assert_eq!(repeats.note(asker(1), "a", 1_000 + TOLD_AGAIN), Some(100));
        assert_eq!(repeats.note(asker(1), "a", 1_001 + TOLD_AGAIN), None);
    }

    #[test]
    fn one_asker_cannot_drown_another() {
        let mut repeats = Repeats::default();
        let told = (0..10_000).filter(|n| repeats.note(asker(1), *n, 1_000).is_some()).count();
        assert_eq!(told, TOLD_PER_ASKER);
        assert_eq!(repeats.note(asker(2), 7, 1_000), Some(1));
        assert_eq!(repeats.note(asker(1), 20_000, 1_000 + TOLD_AGAIN), Some(1), "an hour later");
    }

    #[test]
    fn it_grows_to_its_bound_and_no_further() {
        let mut repeats = Repeats::default();
        for n in 0..=255 {
            for what in 0..255 {
                repeats.note(asker(n), what, 1_000);
            }
        }
        assert_eq!(repeats.told.len(), TOLD_MAX);
    }
}
