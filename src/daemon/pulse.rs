//! What threads leave for whoever asks how we do: signs of life, how the kernel's rules were found, lists, sinks of alerts.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock;
use crate::control::SinkState;
use crate::engine::{Mono, Wall};
use crate::lists::{ListStatus, SetStatus};

/// The daemon's own thread looks at everything once a second; this long it may take on a busy machine.
const PATIENCE: Duration = Duration::from_secs(15);

/// All of it.
#[derive(Debug, Default)]
pub struct Pulse {
    /// Verdicts are being given.
    pub serving: AtomicBool,
    /// When the daemon's own thread moved last; zero before it did.
    ticked: AtomicU64,
    /// Threads that stand still, as the watchdog found them.
    still: Mutex<Vec<String>>,
    compared: AtomicU64,
    differs: AtomicBool,
    mends: AtomicU64,
    lists: Mutex<Lists>,
    sinks: Mutex<Vec<SinkState>>,
}

/// Lists and sets as they were left last.
#[derive(Debug, Default)]
pub struct Lists {
    /// Each list.
    pub lists: Vec<ListStatus>,
    /// Each set that follows from them.
    pub sets: Vec<SetStatus>,
}

/// How the rules in the kernel were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Drift {
    /// When they were compared last, if ever.
    pub compared: Option<Wall>,
    /// They were not as wanted.
    pub differs: bool,
    /// How often they, or sets, were put back.
    pub mends: u64,
}

impl Pulse {
    /// The daemon's own thread moves.
    pub fn tick(&self, now: Mono) {
        self.ticked.store(now.0.max(1), Relaxed);
    }

    /// These threads stand still.
    pub fn set_still(&self, threads: Vec<String>) {
        *self.still.lock().unwrap_or_else(PoisonError::into_inner) = threads;
    }

    /// Who does not move, in sentences.
    pub fn silent(&self, now: Mono) -> Vec<String> {
        let last = self.ticked.load(Relaxed);
        let silence = now.since(Mono(last));
        let own = (last != 0 && silence > PATIENCE)
            .then(|| format!("the daemon's own thread has not moved for {} s", silence.as_secs()));
        let still = self.still.lock().unwrap_or_else(PoisonError::into_inner);
        own.into_iter().chain(still.iter().map(|name| format!("{name} stands still"))).collect()
    }

    /// The rules were compared with what is wanted.
    pub fn compared(&self, differs: bool) {
        self.compared.store(clock::wall().0, Relaxed);
        self.differs.store(differs, Relaxed);
    }

    /// Rules or sets were put back.
    pub fn mended(&self) {
        self.mends.fetch_add(1, Relaxed);
    }

    /// How the rules were found.
    pub fn drift(&self) -> Drift {
        let compared = self.compared.load(Relaxed);
        Drift {
            compared: (compared != 0).then_some(Wall(compared)),
            differs: self.differs.load(Relaxed),
            mends: self.mends.load(Relaxed),
        }
    }

    /// Lists and sets.
    pub fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where alerts go, and how that went.
    pub fn sinks(&self) -> MutexGuard<'_, Vec<SinkState>> {
        self.sinks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_stops_moving_is_named() {
        let pulse = Pulse::default();
        let at = |seconds| Mono(0) + Duration::from_secs(seconds);
        assert!(pulse.silent(at(1_000)).is_empty(), "it has not begun");
        pulse.tick(at(1_000));
        assert!(pulse.silent(at(1_010)).is_empty());
        let said = pulse.silent(at(1_060));
        assert_eq!(said, ["the daemon's own thread has not moved for 60 s"]);
        pulse.tick(at(1_060));
        pulse.set_still(vec!["the verdict thread of queue 0".to_owned()]);
        assert_eq!(pulse.silent(at(1_060)), ["the verdict thread of queue 0 stands still"]);
    }

    #[test]
    fn drift_is_as_it_was_found_last() {
        let pulse = Pulse::default();
        assert_eq!(pulse.drift(), Drift { compared: None, differs: false, mends: 0 });
        pulse.compared(true);
        pulse.mended();
        let drift = pulse.drift();
        assert!(drift.compared.is_some() && drift.differs && drift.mends == 1);
    }
}
