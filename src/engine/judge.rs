//! The engine: registry, hold and policy behind one surface that verdict threads and log readers share.
//!
//! No wake-up is lost: [`Engine::packet`] parks before it looks the registry up again, and [`Engine::record`]
//! writes the registry before it looks for parked packets. A full fence between the two steps on either side
//! means that at least one of them sees the other.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use serde::{Deserialize, Serialize};

use super::flow::Flow;
use super::health::{Evidence, SourceHealth};
use super::hold::{Bounds, Hold, Left, Park};
use super::limits::EXPIRE_BATCH;
use super::lists::Lists;
use super::name::Name;
use super::record::Record;
use super::registry::{Inserted, Known, Registry};
use super::time::{Mono, Now};
use super::verdict::{Grade, Reason, Verdict};

/// Whether refusals are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Refusals are carried out.
    #[default]
    Enforce,
    /// Everything passes at once; events say what enforcing would have done.
    DryRun,
}

/// Whose look-ups count as evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Anybody's.
    #[default]
    Global,
    /// The container's own, and static entries.
    Container,
}

/// What the engine is told once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Enforce or dry-run.
    pub mode: Mode,
    /// Whose look-ups count.
    pub scope: Scope,
    /// How long and how much is held.
    pub bounds: Bounds,
}

/// What to do with a queued packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is decided.
    Decided(Decision),
    /// It waits; the decision comes out of [`Engine::record`], [`Engine::expire`] or [`Engine::drain`].
    Hold,
    /// A packet of its flow waits or was just let through; this one goes away in silence.
    Copy,
}

/// A verdict with its proof. In dry-run it is what enforcing would have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The flow it is about.
    pub flow: Flow,
    /// The queue its packet came from.
    pub lane: u16,
    /// Accept or drop.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// How good the evidence was.
    pub grade: Grade,
    /// What was known about the destination.
    pub known: Known,
    /// How long the packet waited.
    pub held: Duration,
    /// Copies that joined it meanwhile.
    pub copies: u32,
    /// The domain of the user's lists that decided, where one did.
    pub domain: Option<Name>,
}

/// A decision about a packet that waited, with the caller's ticket for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The caller's ticket.
    pub ticket: T,
    /// What was decided.
    pub decision: Decision,
}

/// What a record led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded<T> {
    /// What the registry made of it.
    pub inserted: Inserted,
    /// What waited for it and is now decided.
    pub released: Vec<Answer<T>>,
}

/// Registry, hold and policy. Shared by reference between threads.
#[derive(Debug)]
pub struct Engine<T> {
    settings: Settings,
    registry: Registry,
    lists: ArcSwap<Lists>,
    sources: Vec<Arc<SourceHealth>>,
    hold: Mutex<Hold<T>>,
    /// Flows in the hold, so that a packet that meets an empty hold takes no lock.
    flows: AtomicUsize,
}

impl<T> Engine<T> {
    /// An engine with an empty registry.
    pub fn new(settings: Settings, sources: Vec<Arc<SourceHealth>>) -> Engine<T> {
        let hold = Mutex::new(Hold::new(settings.bounds));
        Engine {
            settings,
            registry: Registry::default(),
            lists: ArcSwap::default(),
            sources,
            hold,
            flows: AtomicUsize::new(0),
        }
    }

    /// What the engine was told.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Who resolved what.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// The health of all evidence. A reader further behind than the hold lasts proves nothing.
    pub fn evidence(&self, now: Now) -> Evidence {
        let records = u64::try_from(self.registry.len()).unwrap_or(u64::MAX);
        let sources = self.sources.iter().map(AsRef::as_ref);
        let mut evidence = Evidence::gather(sources, records, now, self.settings.bounds.hold);
        evidence.full = self.registry.is_full();
        if evidence.full {
            evidence.healthy = false;
            evidence.why.push("the registry is full".to_owned());
        }
        evidence
    }

    /// Judges the first packet of a flow.
    pub fn packet(&self, flow: Flow, lane: u16, ticket: T, now: Mono) -> Step {
        if self.flows.load(SeqCst) != 0 && self.with_hold(|hold| hold.join(&flow, now)) {
            return Step::Copy;
        }
        match self.quick(flow, lane) {
            Some(decision) => Step::Decided(decision),
            None => self.park(flow, lane, ticket, now),
        }
    }

    /// The quick look: decided if the lists say something, accepted if the registry knows the destination well enough.
    pub fn quick(&self, flow: Flow, lane: u16) -> Option<Decision> {
        let listed = self.lists.load().judge(flow.src.ip(), flow.dst.ip(), &self.registry);
        let (grade, known) = self.registry.look_up(flow.src.ip(), flow.dst.ip());
        let (verdict, reason, domain) = match listed {
            Some(listed) => listed.verdict(),
            None if self.admits(grade) => (Verdict::Accept, Reason::Resolved, None),
            None => return None,
        };
        let held = Duration::ZERO;
        Some(Decision { flow, lane, verdict, reason, grade, known, held, copies: 0, domain })
    }

    /// What the lists say now.
    pub fn lists(&self) -> Arc<Lists> {
        self.lists.load_full()
    }

    /// Replaces the lists and decides what waits and is listed now.
    pub fn set_lists(&self, lists: Arc<Lists>, now: Mono) -> Vec<Answer<T>> {
        self.lists.store(lists);
        fence(SeqCst);
        if self.flows.load(SeqCst) == 0 {
            return Vec::new();
        }
        let decides = |flow: &Flow| self.decides(flow.src.ip(), flow.dst.ip());
        let left = self.with_hold(|hold| hold.release_all(decides, now));
        left.into_iter().map(|left| self.release(left)).collect()
    }

    /// Whether a record is about a blocked address and gives it a name under an allowed domain, so that the kernel has to
    /// let it through.
    pub fn unblocks(&self, record: &Record) -> bool {
        let lists = self.lists.load();
        lists.allow.names.find(&record.name).is_some() && lists.refuses_address(record.address)
    }

    /// What a first packet from `src` to `dst` would meet without being held: a verdict, or nothing that decides.
    pub fn outlook(&self, src: IpAddr, dst: IpAddr) -> Option<Verdict> {
        match self.lists.load().judge(src, dst, &self.registry) {
            Some(listed) => Some(listed.verdict().0),
            None => self.admits(self.registry.grade(src, dst)).then_some(Verdict::Accept),
        }
    }

    /// The slow path: holds the packet, then looks again for a record that came in between.
    pub fn park(&self, flow: Flow, lane: u16, ticket: T, now: Mono) -> Step {
        match self.with_hold(|hold| hold.park(flow, lane, ticket, now)) {
            Park::Joined => Step::Copy,
            Park::OverBudget => {
                Step::Decided(self.refuse(flow, lane, Reason::HoldBudget, Duration::ZERO, 0))
            }
            Park::Held => {
                fence(SeqCst);
                if !self.decides(flow.src.ip(), flow.dst.ip()) {
                    return Step::Hold;
                }
                // Nothing left to take means that the record's own thread released the packet.
                match self.with_hold(|hold| hold.let_go(&flow, now)) {
                    Some(left) => Step::Decided(self.release(left).decision),
                    None => Step::Hold,
                }
            }
        }
    }

    /// Takes a record in and lets go what waited for it.
    pub fn record(&self, record: &Record, now: Mono) -> Recorded<T> {
        let inserted = self.registry.insert(record);
        fence(SeqCst);
        if self.flows.load(SeqCst) == 0 {
            return Recorded { inserted, released: Vec::new() };
        }
        let decides = |client: IpAddr| self.decides(client, record.address);
        let left = self.with_hold(|hold| hold.release(record.address, decides, now));
        Recorded { inserted, released: left.into_iter().map(|left| self.release(left)).collect() }
    }

    /// Refuses what has waited long enough in `lane`, a batch at a time: call again while [`Engine::next_deadline`]
    /// is past. Whoever cannot trust the evidence accuses nobody: the
    /// reason is then [`Reason::Unhealthy`].
    pub fn expire(&self, lane: u16, now: Now) -> Vec<Answer<T>> {
        let left = self.with_hold(|hold| hold.expire(lane, now.mono, EXPIRE_BATCH));
        if left.is_empty() {
            return Vec::new();
        }
        let healthy = self.evidence(now).healthy;
        left.into_iter().map(|left| self.refused(left, healthy)).collect()
    }

    /// Takes out everything that waits in `lane`; the caller's posture says whether `verdict` is a drop.
    pub fn drain(&self, lane: u16, verdict: Verdict, now: Mono) -> Vec<Answer<T>> {
        let left = self.with_hold(|hold| hold.drain(lane, now));
        let decide = |left: Left<T>| {
            let decision = self.refuse(left.flow, lane, Reason::Shutdown, left.held, left.copies);
            Answer { ticket: left.ticket, decision: Decision { verdict, ..decision } }
        };
        left.into_iter().map(decide).collect()
    }

    /// Judges a packet while nothing is held any more: by lists and registry, else `verdict`.
    pub fn stopping(&self, flow: Flow, lane: u16, verdict: Verdict) -> Decision {
        let shutdown =
            || Decision { verdict, ..self.refuse(flow, lane, Reason::Shutdown, Duration::ZERO, 0) };
        self.quick(flow, lane).unwrap_or_else(shutdown)
    }

    /// When [`Engine::expire`] has something to do in `lane`.
    pub fn next_deadline(&self, lane: u16) -> Option<Mono> {
        if self.flows.load(SeqCst) == 0 { None } else { self.hold().next_deadline(lane) }
    }

    /// Packets that wait.
    pub fn held(&self) -> usize {
        self.hold().len()
    }

    fn admits(&self, grade: Grade) -> bool {
        match grade {
            Grade::Own | Grade::Static => true,
            Grade::Other => self.settings.scope == Scope::Global,
            Grade::Never => false,
        }
    }

    /// True if nothing has to be waited for.
    fn decides(&self, src: IpAddr, dst: IpAddr) -> bool {
        self.outlook(src, dst).is_some()
    }

    /// The decision about a packet that waits no longer, because its record came or the lists changed.
    fn release(&self, left: Left<T>) -> Answer<T> {
        let quick = self.quick(left.flow, left.lane);
        // What decided a moment ago may be gone again; the packet is on its way out, and nobody is accused.
        let mut decision = quick
            .unwrap_or_else(|| self.refuse(left.flow, left.lane, Reason::Unhealthy, left.held, 0));
        if decision.reason == Reason::Resolved {
            decision.reason = Reason::ResolvedAfterHold;
        }
        (decision.held, decision.copies) = (left.held, left.copies);
        Answer { ticket: left.ticket, decision }
    }

    fn refused(&self, left: Left<T>, healthy: bool) -> Answer<T> {
        let mut decision =
            self.refuse(left.flow, left.lane, Reason::NeverResolved, left.held, left.copies);
        decision.reason = match decision.grade {
            Grade::Never if !healthy => Reason::Unhealthy,
            Grade::Never => Reason::NeverResolved,
            Grade::Own | Grade::Other | Grade::Static => Reason::OutOfScope,
        };
        Answer { ticket: left.ticket, decision }
    }

    fn refuse(
        &self,
        flow: Flow,
        lane: u16,
        reason: Reason,
        held: Duration,
        copies: u32,
    ) -> Decision {
        let (grade, known) = self.registry.look_up(flow.src.ip(), flow.dst.ip());
        let (verdict, domain) = (Verdict::Drop, None);
        Decision { flow, lane, verdict, reason, grade, known, held, copies, domain }
    }

    fn with_hold<R>(&self, act: impl FnOnce(&mut Hold<T>) -> R) -> R {
        let mut hold = self.hold();
        let result = act(&mut hold);
        self.flows.store(hold.flows(), SeqCst);
        result
    }

    /// A panic elsewhere must not stop verdicts: the hold's state is sound between calls.
    fn hold(&self) -> MutexGuard<'_, Hold<T>> {
        self.hold.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "judge_test.rs"]
mod tests;
