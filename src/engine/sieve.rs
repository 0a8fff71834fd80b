//! What was kept elsewhere, rid of what the engine would not take from a source: rebindings, and times to come.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::rebind::Rebinding;
use super::registry::{Asker, Saved};
use super::time::Wall;

/// A clock before this (2024) has not been set yet, in seconds since the Unix epoch: it tells nothing about other times.
const CLOCK_MIN: u32 = 1_704_067_200;

/// Sifts what was saved before it is restored. It may be used by several threads.
#[derive(Debug)]
pub struct Sieve {
    /// None if nobody here knows what this host's own business is.
    rebinding: Option<Arc<Rebinding>>,
    /// None if the clock has not been set.
    now: Option<u32>,
    left_out: AtomicU64,
}

impl Sieve {
    /// With what the engine knows of this host; without, times alone are looked at.
    pub fn new(rebinding: Option<Arc<Rebinding>>, now: Wall) -> Sieve {
        let now = Some(now.seconds()).filter(|now| *now >= CLOCK_MIN);
        Sieve { rebinding, now, left_out: AtomicU64::new(0) }
    }

    /// Takes names out that are no evidence for the address, with who asked for them, and brings times to come, which
    /// would never grow old, to now. Without names nothing of the address is left to be restored.
    pub fn sift(&self, address: IpAddr, saved: &mut Saved) {
        if let Some(rebinding) = self.rebinding.as_ref().filter(|all| all.is_inside(address)) {
            let is_refused = |at: usize| {
                saved
                    .names
                    .get(at)
                    .is_some_and(|seen| rebinding.refuses(address, &seen.name, seen.kind).is_some())
            };
            let kept: Vec<usize> = (0..saved.names.len()).filter(|at| !is_refused(*at)).collect();
            let gone = saved.names.len() - kept.len();
            if gone > 0 {
                saved.askers.retain(|asker| !is_refused(usize::from(asker.name)));
                saved.keep(&kept);
                self.left_out.fetch_add(u64::try_from(gone).unwrap_or(u64::MAX), Relaxed);
            }
        }
        let Some(now) = self.now else { return };
        for seen in &mut saved.names {
            (seen.first, seen.last) = (seen.first.min(now), seen.last.min(now));
        }
        saved.askers.iter_mut().for_each(|asker| asker.last = asker.last.min(now));
        saved.used = saved.used.map(|used| used.min(now));
    }

    /// Names that were left out by now.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Relaxed)
    }
}

impl Saved {
    /// Keeps the names at these places, in this order. Who asked for another asked for one that is no longer kept.
    pub fn keep(&mut self, places: &[usize]) {
        let names = places.iter().filter_map(|at| self.names.get(*at).cloned()).collect();
        for asker in &mut self.askers {
            let place = places.iter().position(|at| *at == usize::from(asker.name));
            asker.name = place.and_then(|at| u16::try_from(at).ok()).unwrap_or(Asker::UNNAMED);
        }
        self.names = names;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::registry::Seen;
    use crate::engine::{Kind, Name};

    const NOW: u32 = CLOCK_MIN + 1_000;

    fn saved(names: &[(&str, Kind)]) -> Saved {
        let seen = |(name, kind): &(&str, Kind)| Seen {
            name: Name::new(name).unwrap(),
            first: NOW - 5,
            last: NOW + 5,
            asker: None,
            kind: *kind,
            chain: None,
        };
        let asker = |at: usize| Asker {
            address: IpAddr::from([172, 17, 0, u8::try_from(at).unwrap()]),
            last: NOW + 7,
            name: u16::try_from(at).unwrap(),
        };
        Saved {
            names: names.iter().map(seen).collect(),
            askers: (0..names.len()).map(asker).collect(),
            used: Some(u32::MAX),
        }
    }

    fn sifted(address: &str, names: &[(&str, Kind)], sieve: &Sieve) -> Saved {
        let mut saved = saved(names);
        sieve.sift(address.parse().unwrap(), &mut saved);
        saved
    }

    #[test]
    fn a_rebinding_is_left_out_and_who_asked_for_others_is_known() {
        let now = Wall(u64::from(NOW) * 1_000_000);
        let sieve = Sieve::new(Some(Arc::default()), now);
        let names = [
            ("evil.example.com", Kind::Reply),
            ("printer.lan", Kind::Reply),
            ("evil.example.org", Kind::Cached),
            ("meant.example.com", Kind::Hosts),
        ];
        let left = sifted("192.168.1.1", &names, &sieve);
        let texts: Vec<&str> = left.names.iter().map(|seen| seen.name.as_str()).collect();
        assert_eq!(texts, ["printer.lan", "meant.example.com"]);
        let asked: Vec<_> =
            left.askers.iter().map(|by| (by.address.to_string(), by.name)).collect();
        assert_eq!(asked, [("172.17.0.1".to_owned(), 0), ("172.17.0.3".to_owned(), 1)]);
        assert_eq!(sieve.left_out(), 2);
        assert_eq!(sifted("93.184.215.14", &names, &sieve).names.len(), 4, "as public as they are");
        let blind = Sieve::new(None, now);
        assert_eq!(sifted("192.168.1.1", &names, &blind).names.len(), 4);
    }

    #[test]
    fn times_to_come_are_now_unless_the_clock_was_never_set() {
        let names = [("a.example", Kind::Reply)];
        let at = |now: u32| Sieve::new(None, Wall(u64::from(now) * 1_000_000));
        let left = sifted("203.0.113.9", &names, &at(NOW));
        assert_eq!((left.names[0].first, left.names[0].last), (NOW - 5, NOW));
        assert_eq!((left.askers[0].last, left.used), (NOW, Some(NOW)));
        assert_eq!(sifted("203.0.113.9", &names, &at(100)), saved(&names));
    }
}
