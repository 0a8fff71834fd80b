//! Names asked as text, by hash and time: nothing pushes one out before its time, and a flood only widens the distrust.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::{Duration, Instant};

/// How long a text answer may be on its way. dnsmasq drops a query that is not answered for 40 s when it forwards the
/// next one, and ends its TCP children after 150 s; the rest is for a reader that was held up.
pub const TEXT_LIFE: Duration = Duration::from_secs(600);

/// Places for times: 4 MB, of which memory is used only for what has been asked. With 10,000 names asked as text within
/// [`TEXT_LIFE`], one other name in 3,000 is taken for one of them.
const PLACES: usize = 1 << 20;

/// The names asked as text of late. A name that was is always found; another one rarely.
pub struct Texts {
    /// By whose key names are spread: a container cannot work out which names share places.
    state: RandomState,
    began: Instant,
    /// Seconds since `began`, plus one. Zero for never.
    asked: Vec<u32>,
    any: bool,
}

impl Default for Texts {
    fn default() -> Texts {
        let (state, began) = (RandomState::new(), Instant::now());
        Texts { state, began, asked: vec![0; PLACES], any: false }
    }
}

impl Texts {
    /// `name` is asked as text.
    pub fn ask(&mut self, name: &str, now: Instant) {
        let stamp = self.stamp(now);
        for place in self.places(name) {
            if let Some(asked) = self.asked.get_mut(place) {
                *asked = stamp;
            }
        }
        self.any = true;
    }

    /// True if `name` was asked as text within [`TEXT_LIFE`], and by chance for some that were not.
    pub fn holds(&self, name: &str, now: impl FnOnce() -> Instant) -> bool {
        if !self.any {
            return false;
        }
        let times = self.places(name).map(|place| self.asked.get(place).copied().unwrap_or(0));
        let oldest = times.into_iter().min().unwrap_or(0);
        let life = u32::try_from(TEXT_LIFE.as_secs()).unwrap_or(u32::MAX);
        oldest > 0 && self.stamp(now()).saturating_sub(oldest) <= life
    }

    fn stamp(&self, now: Instant) -> u32 {
        let seconds = now.saturating_duration_since(self.began).as_secs();
        u32::try_from(seconds).unwrap_or(u32::MAX).saturating_add(1)
    }

    /// Two places, both of which have to be fresh.
    fn places(&self, name: &str) -> [usize; 2] {
        let hash = self.state.hash_one(name);
        [hash, hash >> 32].map(|half| usize::try_from(half % PLACES as u64).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_found_for_its_life_and_not_after() {
        let (mut texts, now) = (Texts::default(), Instant::now());
        assert!(!texts.holds("t.example", || now));
        texts.ask("t.example", now);
        assert!(texts.holds("t.example", || now + TEXT_LIFE));
        assert!(!texts.holds("t.example", || now + TEXT_LIFE + Duration::from_secs(2)));
        texts.ask("t.example", now + TEXT_LIFE);
        assert!(texts.holds("t.example", || now + TEXT_LIFE * 2));
    }

    #[test]
    fn no_flood_pushes_a_name_out_and_few_others_are_taken_for_one() {
        let (mut texts, now) = (Texts::default(), Instant::now());
        let flood = |n: usize| format!("n{n}.example");
        (0..10_000).for_each(|n| texts.ask(&flood(n), now));
        assert!((0..10_000).all(|n| texts.holds(&flood(n), || now)));
        let wrong = (10_000..110_000).filter(|n| texts.holds(&flood(*n), || now)).count();
        // 36 are expected.
        assert!(wrong < 120, "{wrong}");
    }
}
