//! Whether the absence of a record proves anything: the health of the evidence, and what follows where it does not.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use super::Engine;
use crate::engine::health::{Evidence, SourceState};
use crate::engine::limits::{ESTABLISHED_FOR, ESTABLISHED_MAX, EXPIRE_BATCH};
use crate::engine::owner::Owner;
use crate::engine::settings::OnUnhealthy;
use crate::engine::time::{Mono, Now};

/// What is known about the evidence beyond the health of its sources.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// Until then nobody is accused; 0 is no grace.
    grace_until: AtomicU64,
    learning: AtomicBool,
    established: ArcSwapOption<Established>,
    troubles: Mutex<BTreeMap<&'static str, String>>,
    troubled: AtomicBool,
    /// Longest hold in microseconds; 0 is none.
    longest_us: AtomicU64,
}

/// Flows that were there at the first start, by source and destination.
#[derive(Debug)]
struct Established {
    pairs: HashSet<(IpAddr, IpAddr)>,
    until: Mono,
}

const GRACE: &str =
    "the registry was empty at the start, and the grace for that (--evidence-grace) is not over";

impl Trust {
    fn in_grace(&self, now: Mono) -> bool {
        now.0 < self.grace_until.load(Relaxed)
    }

    fn troubles(&self) -> MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.troubles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Engine<T> {
    /// The registry is empty: for the grace of a first start nobody is accused.
    pub fn begin_grace(&self, now: Mono) {
        self.trust.grace_until.store((now + self.settings.evidence.grace).0, Relaxed);
    }

    /// Whether the grace of a first start lasts.
    pub fn in_grace(&self, now: Mono) -> bool {
        self.trust.in_grace(now)
    }

    /// Begins or ends the learning period.
    pub fn set_learning(&self, learning: bool) {
        self.trust.learning.store(learning, Relaxed);
    }

    /// Whether what the evidence alone would refuse passes.
    pub fn is_learning(&self) -> bool {
        self.trust.learning.load(Relaxed)
    }

    /// The flows that were there at the first start, source and destination: they may be opened again for a while.
    pub fn set_established(&self, pairs: impl IntoIterator<Item = (IpAddr, IpAddr)>, now: Mono) {
        let pairs: HashSet<_> = pairs.into_iter().take(ESTABLISHED_MAX).collect();
        let until = now + ESTABLISHED_FOR;
        let established = (!pairs.is_empty()).then(|| Arc::new(Established { pairs, until }));
        self.trust.established.store(established);
    }

    /// Forgets what clients asked for and had open: the next one to have such an address is not to inherit it.
    pub fn forget_clients(&self, clients: &BTreeSet<IpAddr>) {
        self.registry.forget_askers(clients);
        self.trust.established.rcu(|known| {
            let known = known.as_ref()?;
            let pairs = known.pairs.iter().filter(|(src, _)| !clients.contains(src)).copied();
            Some(Arc::new(Established { pairs: pairs.collect(), until: known.until }))
        });
    }

    pub(super) fn is_established(&self, src: IpAddr, dst: IpAddr, now: Mono) -> bool {
        let established = self.trust.established.load();
        let has = |known: &Arc<Established>| now < known.until && known.pairs.contains(&(src, dst));
        established.as_ref().is_some_and(has)
    }

    /// Notes, or takes back, something beside the sources for which the evidence is not to be trusted.
    pub fn set_trouble(&self, what: &'static str, why: Option<String>) {
        let mut troubles = self.trust.troubles();
        match why {
            Some(why) => troubles.insert(what, why),
            None => troubles.remove(what),
        };
        self.trust.troubled.store(!troubles.is_empty(), Relaxed);
    }

    /// The health of all evidence, for a packet that waits as long as the host's settings say.
    pub fn evidence(&self, now: Now) -> Evidence {
        self.evidence_for(self.bound(self.settings.bounds.hold, now.mono), now)
    }

    /// The same for a packet that waits for `hold`. A reader further behind than that proves nothing.
    pub(super) fn evidence_for(&self, hold: Duration, now: Now) -> Evidence {
        let records = u64::try_from(self.registry.len()).unwrap_or(u64::MAX);
        let sources = self.sources.iter().map(AsRef::as_ref);
        let mut evidence = Evidence::gather(sources, records, now, hold);
        evidence.full = self.registry.is_full();
        if evidence.full {
            evidence.why.push("the registry is full".to_owned());
        }
        if self.trust.in_grace(now.mono) {
            evidence.why.push(GRACE.to_owned());
        }
        if self.trust.troubled.load(Relaxed) {
            evidence.why.extend(self.trust.troubles().values().cloned());
        }
        evidence.healthy = evidence.why.is_empty();
        evidence
    }

    /// Each source for people, as of a packet that waits as long as the host's settings say.
    pub fn source_states(&self, now: Now) -> Vec<SourceState> {
        let longest = self.settings.bounds.hold;
        let hold = self.bound(longest, now.mono);
        self.sources.iter().map(|source| source.state(longest, hold, now)).collect()
    }

    /// How long a packet is held now, as far as the host's settings say, in microseconds.
    pub fn hold_now(&self, now: Mono) -> u64 {
        let hold = self.bound(self.settings.bounds.hold, now);
        u64::try_from(hold.as_micros()).unwrap_or(u64::MAX)
    }

    /// What becomes of a packet that waits in vain while the evidence is not trusted.
    pub fn on_unhealthy(&self, now: Mono) -> OnUnhealthy {
        let by_default = || match self.trust.in_grace(now) {
            true => OnUnhealthy::Accept,
            false => OnUnhealthy::Refuse,
        };
        self.settings.evidence.on_unhealthy.unwrap_or_else(by_default)
    }

    /// Gives packets of `lane` whose time is up, but was cut short by what was measured, all the time they may have where
    /// the evidence turns out not to be trusted: what was measured does not hold now.
    pub(super) fn lengthen(&self, lane: u16, now: Now) {
        if !self.settings.evidence.adaptive {
            return;
        }
        let longer = |owner: Option<&Owner>, hold: Duration| {
            let longest = self.capped(self.policy_of(owner).hold);
            (hold < longest && !self.evidence_for(hold, now).healthy).then_some(longest)
        };
        self.hold().lengthen(lane, now.mono, EXPIRE_BATCH, longer);
    }

    /// Holds no packet longer than this, whatever else is set: a replay does what was done then.
    pub fn cap_hold(&self, longest: Option<Duration>) {
        let us =
            longest.map_or(0, |longest| u64::try_from(longest.as_micros()).unwrap_or(u64::MAX));
        self.trust.longest_us.store(us, Relaxed);
    }

    fn capped(&self, hold: Duration) -> Duration {
        let cap = self.trust.longest_us.load(Relaxed);
        if cap == 0 { hold } else { hold.min(Duration::from_micros(cap)) }
    }

    /// How long a packet is held that may be held for `hold`: no longer than the slowest source takes.
    pub fn bound(&self, hold: Duration, now: Mono) -> Duration {
        let hold = self.capped(hold);
        if !self.settings.evidence.adaptive {
            return hold;
        }
        let bounds = self.sources.iter().map(|source| source.delays.bound(hold, now));
        bounds.max().map_or(hold, |bound| bound.min(hold))
    }
}

#[cfg(test)]
#[path = "adaptive_test.rs"]
mod adaptive_tests;
