//! Refusals of a moment ago, in the kernel: a retry meets `denied4/6` instead of the queue, until its record arrives.
//!
//! No pair stays refused after its record: a refusal is noted in [`Denied::pairs`] *before* the engine is asked
//! again, and a record is in the registry *before* its reader looks for noted refusals. A full fence lies between
//! the two steps on both sides, and one thread ([`Server`]) does both to the kernel, in order.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst, fence};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use dashmap::DashMap;

use super::clock;
use crate::engine::judge::Decision;
use crate::engine::{Flow, Mono, Reason, Verdict};

/// Notes on their way to the thread that changes the set: a flood of refusals is told by those that fit.
const NOTES_MAX: usize = 4096;
/// Notes taken in one go: one transaction instead of many under load.
const BATCH_MAX: usize = 256;
/// Pairs remembered, as many as the kernel's set holds.
const PAIRS_MAX: usize = 65_536;

/// How long who refuses pairs waits for the kernel to have them: much longer than a batch of notes takes.
const REFUSE_WAIT: Duration = Duration::from_secs(1);

/// Source and destination.
pub type Pair = (IpAddr, IpAddr);

/// A flow refused as never resolved, on its way to the block list if so configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accused(pub Flow);

enum Note {
    Refused(Flow, Reason),
    /// Nobody tried these; told once the kernel has them.
    Refuse(Vec<Pair>, SyncSender<()>),
    Resolved(IpAddr),
    /// Whoever has these from now on was refused nothing yet.
    Left(Vec<IpAddr>),
    Again,
    Stop,
}

/// What verdict threads and log readers tell.
#[derive(Debug)]
pub struct Denied {
    notes: SyncSender<Note>,
    /// Sources refused, by destination, and until when the kernel does.
    pairs: DashMap<IpAddr, HashMap<IpAddr, Mono>>,
    /// A note did not fit: everything has to be looked at again.
    missed: AtomicBool,
    /// Destinations that are blocked only because they were refused once.
    accused: ArcSwap<HashSet<IpAddr>>,
    /// The log readers' way to the kernel's set; none until the threads run, and in a dry run.
    direct: Mutex<Option<Box<dyn Sets>>>,
    loading: AtomicBool,
}

impl std::fmt::Debug for Note {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Note")
    }
}

/// Who changes the kernel's set.
pub trait Sets: Send + std::fmt::Debug {
    /// Takes pairs out and puts others in, for `timeout`. What is gone already is no error.
    ///
    /// # Errors
    /// In one line, if the kernel does not do it.
    fn change(&mut self, out: &[Pair], into: &[Pair], timeout: Duration) -> anyhow::Result<()>;
}

/// What the thread asks and tells beyond the kernel.
pub struct Hooks {
    /// Whether a first packet would be accepted now.
    pub accepts: Box<dyn Fn(Pair) -> bool + Send>,
    /// Whether the address has a name by now.
    pub knows: Box<dyn Fn(IpAddr) -> bool + Send>,
    /// Whether the user's lists refuse it by themselves, so that the kernel's element is not ours.
    pub listed: Box<dyn Fn(Pair) -> bool + Send>,
    /// A flow was refused that nobody ever resolved.
    pub accused: Box<dyn Fn(Accused) + Send>,
    /// A destination that was blocked for being never resolved has a record now.
    pub forgiven: Box<dyn Fn(IpAddr) + Send>,
}

impl Denied {
    /// The shared half, and the ear of its [`Server`].
    pub fn new() -> (Denied, Ear) {
        let (notes, ear) = sync_channel(NOTES_MAX);
        let (pairs, missed, accused, direct, loading) = Default::default();
        (Denied { notes, pairs, missed, accused, direct, loading }, Ear(ear))
    }

    /// Notes a refusal that was carried out. Never waits.
    pub fn refused(&self, decision: &Decision) {
        let lasting = matches!(
            decision.reason,
            Reason::NeverResolved | Reason::OutOfScope | Reason::Blocklisted
        );
        if decision.verdict == Verdict::Drop && lasting {
            // A retry that is not noted asks the daemon again, that is all.
            let _ = self.notes.try_send(Note::Refused(decision.flow, decision.reason));
        }
    }

    /// Puts pairs in that the lists refuse, as if each had been tried, and waits until the kernel has them; false if it
    /// has not for what this thread knows. What is accepted by then is left out.
    pub fn refuse_pairs(&self, pairs: Vec<Pair>) -> bool {
        let (done, told) = sync_channel(1);
        self.notes.try_send(Note::Refuse(pairs, done)).is_ok()
            && told.recv_timeout(REFUSE_WAIT) == Ok(())
    }

    /// Notes that a record for `address` is in the registry. What is `accepted` now leaves the kernel before this returns,
    /// since the first packet may be on its way: unless a large load keeps the kernel busy, which nobody may wait for.
    pub fn resolved(&self, address: IpAddr, accepted: impl Fn(Pair) -> bool) {
        fence(SeqCst);
        let sources = self.pairs.get(&address).map(|pairs| pairs.keys().copied().collect());
        let sources: Vec<IpAddr> = sources.unwrap_or_default();
        if sources.is_empty() && !self.accused.load().contains(&address) {
            return;
        }
        let pairs: Vec<Pair> = sources.into_iter().map(|src| (src, address)).collect();
        let out: Vec<Pair> = pairs.into_iter().filter(|pair| accepted(*pair)).collect();
        if !out.is_empty()
            && !self.loading.load(SeqCst)
            && let Ok(mut direct) = self.direct.try_lock()
            && let Some(sets) = direct.as_mut()
            && let Err(error) = sets.change(&out, &[], Duration::ZERO)
        {
            tracing::debug!("left to the thread of refusals: {error:#}");
        }
        // A refusal may be on its way into the kernel; that thread has the last word.
        self.tell(Note::Resolved(address));
    }

    /// Gives log readers their own way to the kernel's set.
    pub fn set_direct(&self, sets: impl Sets + 'static) {
        *self.direct.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(sets));
    }

    /// Says whether a large load keeps the kernel busy.
    pub fn set_loading(&self, loading: bool) {
        self.loading.store(loading, SeqCst);
    }

    /// Whether this pair was refused a moment ago.
    pub fn has(&self, (src, dst): Pair) -> bool {
        self.pairs.get(&dst).is_some_and(|sources| sources.contains_key(&src))
    }

    /// Forgets what was refused to these addresses, refusals on their way included: their owner is gone. Waits for room.
    pub fn leave(&self, addresses: Vec<IpAddr>) {
        // In a dry run nobody listens, and there is nothing to forget.
        if let Err(TrySendError::Full(note)) = self.notes.try_send(Note::Left(addresses))
            && !self.pairs.is_empty()
        {
            let _ = self.notes.send(note);
        }
    }

    /// Has every pair looked at again, since the lists changed.
    pub fn look_again(&self) {
        self.tell(Note::Again);
    }

    /// Sets the destinations that a later record may take off the block list.
    pub fn set_accused(&self, accused: HashSet<IpAddr>) {
        self.accused.store(Arc::new(accused));
    }

    /// Ends [`Server::run`].
    pub fn stop(&self) {
        let _ = self.notes.send(Note::Stop);
    }

    fn tell(&self, note: Note) {
        if self.notes.try_send(note).is_err() {
            self.missed.store(true, SeqCst);
        }
    }
}

/// See [`Denied::new`].
pub struct Ear(Receiver<Note>);

/// The thread that keeps the kernel's set.
pub struct Server<S> {
    /// What it is told about.
    pub denied: Arc<Denied>,
    /// How it is told.
    pub ear: Ear,
    /// The kernel's set.
    pub sets: S,
    /// Whom it asks and tells.
    pub hooks: Hooks,
    /// How long the kernel keeps a refusal.
    pub timeout: Duration,
}

impl<S: Sets> Server<S> {
    /// Serves until [`Denied::stop`].
    pub fn run(mut self) {
        let (mut failing, mut count) = (false, 0);
        while let Ok(first) = self.ear.0.recv() {
            let mut work = Work::new(&self.denied, &self.hooks, self.timeout, &mut count);
            let mut stop = work.take(first);
            for note in self.ear.0.try_iter().take(BATCH_MAX) {
                stop |= work.take(note);
            }
            if self.denied.missed.swap(false, SeqCst) {
                work.look_again();
            }
            match work.done(&mut self.sets) {
                Ok(()) => failing = false,
                Err(error) if !std::mem::replace(&mut failing, true) => {
                    tracing::warn!("retries of refused flows come back to the queue: {error:#}");
                }
                Err(_) => {}
            }
            if stop {
                return;
            }
        }
    }
}

/// One transaction in the making.
struct Work<'a> {
    denied: &'a Denied,
    hooks: &'a Hooks,
    timeout: Duration,
    /// Pairs remembered; only this thread changes them.
    count: &'a mut usize,
    out: Vec<Pair>,
    into: Vec<Pair>,
    /// They wait to hear that this is done.
    waiting: Vec<SyncSender<()>>,
}

impl<'a> Work<'a> {
    fn new(
        denied: &'a Denied,
        hooks: &'a Hooks,
        timeout: Duration,
        count: &'a mut usize,
    ) -> Work<'a> {
        let (out, into, waiting) = Default::default();
        Work { denied, hooks, timeout, count, out, into, waiting }
    }

    /// True if this was the last note.
    fn take(&mut self, note: Note) -> bool {
        match note {
            Note::Refused(flow, reason) => {
                let refused = self.refuse((flow.src.ip(), flow.dst.ip()));
                if refused && reason == Reason::NeverResolved {
                    (self.hooks.accused)(Accused(flow));
                }
            }
            Note::Refuse(pairs, waiting) => {
                for pair in pairs {
                    self.refuse(pair);
                }
                self.waiting.push(waiting);
            }
            Note::Resolved(address) => {
                self.resolve(address);
                self.forgive(address);
            }
            Note::Left(addresses) => self.leave(&addresses),
            Note::Again => self.look_again(),
            Note::Stop => return true,
        }
        false
    }

    /// False if it would be accepted by now.
    fn refuse(&mut self, pair: Pair) -> bool {
        let (src, dst) = pair;
        let room = self.has_room();
        if room {
            let until = clock::mono() + self.timeout;
            let before = self.denied.pairs.entry(dst).or_default().insert(src, until);
            *self.count += usize::from(before.is_none());
        }
        fence(SeqCst);
        if (self.hooks.accepts)(pair) {
            self.forget(pair);
            return false;
        }
        if room && !(self.hooks.listed)(pair) {
            self.into.push(pair);
        }
        true
    }

    fn resolve(&mut self, address: IpAddr) {
        let sources = self.denied.pairs.get(&address).map(|pairs| pairs.keys().copied().collect());
        let sources: Vec<IpAddr> = sources.unwrap_or_default();
        for src in sources.into_iter().filter(|src| (self.hooks.accepts)((*src, address))) {
            self.forget((src, address));
        }
    }

    fn leave(&mut self, addresses: &[IpAddr]) {
        let mut gone = Vec::new();
        for entry in &self.denied.pairs {
            let dst = *entry.key();
            let all = addresses.contains(&dst);
            let sources = entry.value().keys().filter(|src| all || addresses.contains(src));
            gone.extend(sources.map(|src| (*src, dst)));
        }
        gone.into_iter().for_each(|pair| self.forget(pair));
    }

    /// Only a record forgives: the lists are read again for many reasons.
    fn forgive(&mut self, address: IpAddr) {
        if self.denied.accused.load().contains(&address) && (self.hooks.knows)(address) {
            (self.hooks.forgiven)(address);
        }
    }

    /// Notes of records may be among those that did not fit.
    fn look_again(&mut self) {
        let destinations: Vec<IpAddr> =
            self.denied.pairs.iter().map(|entry| *entry.key()).collect();
        for address in destinations {
            self.resolve(address);
        }
        for address in self.denied.accused.load().iter() {
            self.forgive(*address);
        }
    }

    fn forget(&mut self, pair: Pair) {
        let (src, dst) = pair;
        let known = self.denied.pairs.get_mut(&dst).and_then(|mut sources| sources.remove(&src));
        self.denied.pairs.remove_if(&dst, |_, sources| sources.is_empty());
        let Some(until) = known else { return };
        *self.count -= 1;
        // An earlier refusal may have put it in all the same.
        self.into.retain(|put| *put != pair);
        if until > clock::mono() && !(self.hooks.listed)(pair) {
            self.out.push(pair);
        }
    }

    /// Whether one more pair can be remembered, if need be once those are forgotten that the kernel let expire.
    fn has_room(&mut self) -> bool {
        if *self.count >= PAIRS_MAX {
            let (now, mut left) = (clock::mono(), 0);
            self.denied.pairs.retain(|_, sources| {
                sources.retain(|_, until| *until > now);
                left += sources.len();
                !sources.is_empty()
            });
            *self.count = left;
        }
        *self.count < PAIRS_MAX
    }

    fn done(self, sets: &mut impl Sets) -> anyhow::Result<()> {
        if !self.out.is_empty() || !self.into.is_empty() {
            sets.change(&self.out, &self.into, self.timeout)?;
        }
        for waiting in self.waiting {
            // Room for one, or who waited has given up.
            let _ = waiting.try_send(());
        }
        Ok(())
    }
}

#[cfg(test)]
#[path = "denied_test.rs"]
mod tests;
