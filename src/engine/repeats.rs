//! What is told once an hour and counted in between: bounded, and fair to every asker.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;

use super::abuse::{TOLD_AGAIN, TOLD_MAX, TOLD_PER_ACCOUNT, TOLD_PER_ASKER};

/// What was told, by who caused it.
#[derive(Debug)]
pub struct Repeats<K> {
    told: HashMap<(Option<IpAddr>, K), Told>,
    /// How much of it by whom.
    by: HashMap<Option<IpAddr>, usize>,
    /// How much of it on whose account.
    on: HashMap<Option<IpAddr>, usize>,
    /// What was not told, by account, since something of it was.
    withheld: HashMap<Option<IpAddr>, u64>,
    /// When what is over was taken out last.
    swept: u32,
}

/// Seconds between two looks for what is over, so that a flood is turned away without one.
const SWEEP: u32 = 60;

#[derive(Clone, Copy, Debug)]
struct Told {
    at: u32,
    since: u64,
    account: Option<IpAddr>,
}

/// Who caused something.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// The address it came from.
    pub client: Option<IpAddr>,
    /// On whose account that is, where it is known; else on its own.
    pub payer: Option<IpAddr>,
}

/// What is to be told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Telling {
    /// How often it happened since it was told last.
    pub count: u64,
    /// How often something else on the same account happened and was not told, for there was too much of it.
    pub withheld: u64,
}

impl<K> Default for Repeats<K> {
    fn default() -> Repeats<K> {
        let (told, by, on, withheld, swept) = Default::default();
        Repeats { told, by, on, withheld, swept }
    }
}

impl<K: Hash + Eq> Repeats<K> {
    /// Notes that `what` happened for `who` in this second since the Unix epoch. Some if it is to be told now; nothing
    /// too if too much was told already.
    pub fn note(&mut self, who: Who, what: K, at: u32) -> Option<Telling> {
        let account = who.payer.or(who.client);
        let key = (who.client, what);
        if let Some(told) = self.told.get_mut(&key) {
            told.since += 1;
            if !Self::is_over(told, at) {
                return None;
            }
            told.at = at;
            let count = std::mem::take(&mut told.since);
            return Some(self.telling(account, count));
        }
        if !self.has_room(who.client, account, at) {
            self.withhold(account);
            return None;
        }
        *self.by.entry(who.client).or_default() += 1;
        *self.on.entry(account).or_default() += 1;
        self.told.insert(key, Told { at, since: 0, account });
        Some(self.telling(account, 1))
    }

    fn telling(&mut self, account: Option<IpAddr>, count: u64) -> Telling {
        Telling { count, withheld: self.withheld.remove(&account).unwrap_or(0) }
    }

    fn withhold(&mut self, account: Option<IpAddr>) {
        if self.withheld.len() < TOLD_MAX || self.withheld.contains_key(&account) {
            *self.withheld.entry(account).or_default() += 1;
        }
    }

    fn has_room(&mut self, who: Option<IpAddr>, account: Option<IpAddr>, at: u32) -> bool {
        let room = |repeats: &Repeats<K>| {
            let of_asker = repeats.by.get(&who).copied().unwrap_or(0);
            let on_account = repeats.on.get(&account).copied().unwrap_or(0);
            repeats.told.len() < TOLD_MAX
                && of_asker < TOLD_PER_ASKER
                && on_account < TOLD_PER_ACCOUNT
        };
        if !room(self) && at.abs_diff(self.swept) >= SWEEP {
            self.swept = at;
            self.told.retain(|_, told| !Self::is_over(told, at));
            (self.by, self.on) = Default::default();
            for ((who, _), told) in &self.told {
                *self.by.entry(*who).or_default() += 1;
                *self.on.entry(told.account).or_default() += 1;
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

    fn asker(n: u8) -> Who {
        Who { client: Some(IpAddr::from([172, 17, 0, n])), payer: None }
    }

    fn told(count: u64, withheld: u64) -> Option<Telling> {
        Some(Telling { count, withheld })
    }

    #[test]
    fn what_repeats_is_told_once_an_hour_with_its_count() {
        let mut repeats = Repeats::default();
        assert_eq!(repeats.note(asker(1), "a", 1_000), told(1, 0));
        for second in 1_001..1_100 {
            assert_eq!(repeats.note(asker(1), "a", second), None);
        }
        assert_eq!(repeats.note(asker(2), "a", 1_100), told(1, 0), "another's is another thing");
        assert_eq!(repeats.note(asker(1), "a", 1_000 + TOLD_AGAIN), told(100, 0));
        assert_eq!(repeats.note(asker(1), "a", 1_001 + TOLD_AGAIN), None);
    }

    #[test]
    fn one_asker_cannot_drown_another() {
        let mut repeats = Repeats::default();
        let all = (0..10_000).filter(|n| repeats.note(asker(1), *n, 1_000).is_some()).count();
        assert_eq!(all, TOLD_PER_ASKER);
        let withheld = 10_000 - u64::try_from(all).unwrap();
        assert_eq!(repeats.note(asker(2), 7, 1_000), told(1, 0));
        assert_eq!(repeats.note(asker(1), 20_000, 1_000 + TOLD_AGAIN), told(1, withheld), "later");
    }

    #[test]
    fn addresses_on_one_account_cannot_drown_another() {
        let mut repeats = Repeats::default();
        let payer = Some(crate::engine::registry::UNOWNED);
        let mut all = 0;
        for forged in 3..=255 {
            for name in 0..32 {
                all += usize::from(
                    repeats.note(Who { payer, ..asker(forged) }, name, 1_000).is_some(),
                );
            }
        }
        assert_eq!(all, TOLD_PER_ACCOUNT);
        let other = Who { payer: asker(2).client, ..asker(2) };
        assert_eq!(repeats.note(other, 0, 1_001), told(1, 0));
        let later = repeats.note(Who { payer, ..asker(3) }, 99, 1_000 + TOLD_AGAIN);
        assert_eq!(later, told(1, 253 * 32 - 128));
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
