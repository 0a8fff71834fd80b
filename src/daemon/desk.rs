//! What threads leave at the operator's desk for whoever asks: signs of life, what the kernel was found to be, lists, sinks.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::clock;
use crate::control::SinkState;
use crate::engine::{Mono, Wall};
use crate::lists::{ListStatus, SetStatus};

/// Threads that move all the time, with how long they may take for one turn: the one that looks at queues every second,
/// and the one that keeps the kernel true, which may load millions of elements in one go.
const BEATS: [(&str, Duration); 2] = [
    ("the daemon's own", Duration::from_secs(15)),
    ("the kernel's rules", Duration::from_secs(90)),
];

/// A thread that moves all the time.
#[derive(Clone, Copy, Debug)]
pub enum Beat {
    /// The one that looks at the queues.
    Watch = 0,
    /// The one that keeps the kernel true.
    Rules = 1,
}

/// The desk.
#[derive(Debug, Default)]
pub struct Desk {
    /// Verdicts are being given.
    pub serving: AtomicBool,
    /// Packets wait that nobody takes.
    pub stuck: AtomicBool,
    /// When each thread moved last; zero before it did.
    beats: [AtomicU64; BEATS.len()],
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

impl Desk {
    /// A thread moves.
    pub fn beat(&self, who: Beat) {
        if let Some(beat) = self.beats.get(who as usize) {
            beat.store(clock::mono().0.max(1), Relaxed);
        }
    }

    /// Who has not moved for too long.
    pub fn silent(&self, now: Mono) -> Vec<String> {
        let late = |((name, patience), beat): (&(&str, Duration), &AtomicU64)| {
            let last = beat.load(Relaxed);
            let silence = now.since(Mono(last));
            let seconds = silence.as_secs();
            (last != 0 && silence > *patience)
                .then(|| format!("{name} thread has not moved for {seconds} s"))
        };
        BEATS.iter().zip(&self.beats).filter_map(late).collect()
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
        let desk = Desk::default();
        let later = |seconds| clock::mono() + Duration::from_secs(seconds);
        assert!(desk.silent(later(1_000)).is_empty(), "it has not begun");
        desk.beat(Beat::Watch);
        assert!(desk.silent(later(10)).is_empty());
        let [said] = &desk.silent(later(60))[..] else { panic!() };
        assert!(said.starts_with("the daemon's own thread has not moved for "), "{said}");
        desk.beat(Beat::Rules);
        assert_eq!(desk.silent(later(100)).len(), 2);
    }

    #[test]
    fn drift_is_as_it_was_found_last() {
        let desk = Desk::default();
        assert_eq!(desk.drift(), Drift { compared: None, differs: false, mends: 0 });
        desk.compared(true);
        desk.mended();
        let drift = desk.drift();
        assert!(drift.compared.is_some() && drift.differs && drift.mends == 1);
    }
}
