//! The engine: registry, hold and policy behind one surface that verdict threads and log readers share.
//!
//! No wake-up is lost: [`Engine::packet`] parks before it looks the registry up again, and [`Engine::record`]
//! writes the registry before it looks for parked packets. A full fence between the two steps on either side
//! means that at least one of them sees the other.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::flow::Flow;
use super::health::{Evidence, SourceHealth};
use super::hold::{Arrival, Hold, Left, Park};
use super::limits::EXPIRE_BATCH;
use super::lists::{Lists, Party};
use super::name::Name;
use super::owner::{Owner, Owners};
use super::policy::Policy;
use super::record::Record;
use super::registry::{Known, Registry};
use super::time::{Mono, Now};
use super::verdict::{Grade, Reason, Verdict};
use super::wish::{Refusal, Treatment};
use arc_swap::ArcSwap;

pub use super::decision::{Answer, Decision, Recorded, Step};
pub use super::settings::{Mode, Scope, Settings};

/// Registry, hold and policy. Shared by reference between threads.
#[derive(Debug)]
pub struct Engine<T> {
    settings: Settings,
    /// What holds for addresses that nobody owns.
    base: Policy,
    registry: Registry,
    lists: ArcSwap<Lists>,
    owners: ArcSwap<Owners>,
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
            // How the host refuses is the adapter's business, and nobody asks for it here.
            base: Policy::new(&settings, Refusal::Reset),
            registry: Registry::default(),
            lists: ArcSwap::default(),
            owners: ArcSwap::default(),
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

    /// The health of all evidence, for a packet that waits as long as the host's settings say.
    pub fn evidence(&self, now: Now) -> Evidence {
        self.evidence_for(self.settings.bounds.hold, now)
    }

    /// The same for a packet that waits for `hold`. A reader further behind than that proves nothing.
    fn evidence_for(&self, hold: Duration, now: Now) -> Evidence {
        let records = u64::try_from(self.registry.len()).unwrap_or(u64::MAX);
        let sources = self.sources.iter().map(AsRef::as_ref);
        let mut evidence = Evidence::gather(sources, records, now, hold);
        evidence.full = self.registry.is_full();
        if evidence.full {
            evidence.healthy = false;
            evidence.why.push("the registry is full".to_owned());
        }
        evidence
    }

    /// Who owns which address now.
    pub fn owners(&self) -> Arc<Owners> {
        self.owners.load_full()
    }

    /// Replaces the owners and decides what waits and may pass now.
    pub fn set_owners(&self, owners: Owners, now: Mono) -> Vec<Answer<T>> {
        self.owners.store(Arc::new(owners));
        self.decide_again(now)
    }

    /// Judges the first packet of a flow.
    pub fn packet(&self, flow: Flow, lane: u16, ticket: T, now: Mono) -> Step {
        let owner = self.owner(flow.src.ip());
        if self.flows.load(SeqCst) != 0 && self.with_hold(|hold| hold.join(&flow, now)) {
            return Step::Copy(self.mode_of(owner.as_deref()));
        }
        match self.quick(flow, lane, owner.clone()) {
            Some(decision) => Step::Decided(decision),
            None => self.park(Arrival { flow, lane, ticket, owner }, now),
        }
    }

    /// Whether refusals of what comes from an address are carried out.
    pub fn mode_at(&self, address: IpAddr) -> Mode {
        self.mode_of(self.owner(address).as_deref())
    }

    /// Who owns an address.
    pub fn owner(&self, address: IpAddr) -> Option<Arc<Owner>> {
        self.owners.load().of(address).cloned()
    }

    /// The quick look: decided if policy or lists say something, accepted if the registry knows the destination well
    /// enough.
    pub fn quick(&self, flow: Flow, lane: u16, owner: Option<Arc<Owner>>) -> Option<Decision> {
        let (src, dst) = (flow.src.ip(), flow.dst.ip());
        let (grade, known) = self.look_up(src, dst);
        let (verdict, reason, domain) = self.decide(src, dst, grade, owner.as_deref())?;
        let name = owner.as_ref().map(|owner| &*owner.name);
        let mode = match self.lists.load().confines(src, name) {
            // Quarantine beats a container's mode, as in the kernel.
            true => self.settings.mode,
            false => self.mode_of(owner.as_deref()),
        };
        let held = Duration::ZERO;
        Some(Decision {
            flow,
            lane,
            verdict,
            reason,
            grade,
            known,
            held,
            copies: 0,
            domain,
            mode,
            owner,
        })
    }

    /// A verdict without waiting: by policy, lists and registry, in this order; nothing if none of them decides.
    fn decide(
        &self,
        src: IpAddr,
        dst: IpAddr,
        grade: Grade,
        owner: Option<&Owner>,
    ) -> Option<(Verdict, Reason, Option<Name>)> {
        let policy = self.policy_of(owner);
        let lists = self.lists.load();
        let name = owner.map(|owner| &*owner.name);
        if policy.mode == Treatment::Off && !lists.confines(src, name) {
            return Some((Verdict::Accept, Reason::Exempt, None));
        }
        let owners = self.owners.load();
        let clients = owners.clients(&src);
        let who = Party { src, clients, own: policy.allow.as_deref(), name };
        match lists.judge(&who, dst, &self.registry) {
            Some(listed) => Some(listed.verdict()),
            None if admits(policy.scope, grade) => Some((Verdict::Accept, Reason::Resolved, None)),
            None => None,
        }
    }

    fn look_up(&self, src: IpAddr, dst: IpAddr) -> (Grade, Known) {
        self.registry.look_up(self.owners.load().clients(&src), dst)
    }

    /// What holds for an owner, or for nobody.
    fn policy_of<'p>(&'p self, owner: Option<&'p Owner>) -> &'p Policy {
        owner.map_or(&self.base, |owner| &owner.policy)
    }

    /// Whether refusals are carried out. In a dry run nobody's are.
    fn mode_of(&self, owner: Option<&Owner>) -> Mode {
        match self.settings.mode {
            Mode::DryRun => Mode::DryRun,
            Mode::Enforce => self.policy_of(owner).verdicts(),
        }
    }

    /// What the lists say now.
    pub fn lists(&self) -> Arc<Lists> {
        self.lists.load_full()
    }

    /// Replaces the lists and decides what waits and is listed now.
    pub fn set_lists(&self, lists: Arc<Lists>, now: Mono) -> Vec<Answer<T>> {
        self.lists.store(lists);
        self.decide_again(now)
    }

    fn decide_again(&self, now: Mono) -> Vec<Answer<T>> {
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
        let owner = self.owner(src);
        let grade = self.registry.grade(self.owners.load().clients(&src), dst);
        self.decide(src, dst, grade, owner.as_deref()).map(|(verdict, ..)| verdict)
    }

    /// The slow path: holds the packet, then looks again for a record that came in between.
    pub fn park(&self, arrival: Arrival<T>, now: Mono) -> Step {
        let Arrival { flow, lane, .. } = arrival;
        let owner = arrival.owner.clone();
        let mode = self.mode_of(owner.as_deref());
        match self.with_hold(|hold| hold.park(arrival, now)) {
            Park::Joined => Step::Copy(mode),
            Park::OverBudget => {
                let decision = self.refuse(flow, lane, Reason::HoldBudget, owner);
                Step::Decided(decision)
            }
            Park::Held => {
                fence(SeqCst);
                if !self.decides(flow.src.ip(), flow.dst.ip()) {
                    return Step::Hold(mode);
                }
                // Nothing left to take means that the record's own thread released the packet.
                match self.with_hold(|hold| hold.let_go(&flow, now)) {
                    Some(left) => Step::Decided(self.release(left).decision),
                    None => Step::Hold(mode),
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
        left.into_iter().map(|left| self.refused(left, now)).collect()
    }

    /// Takes out everything that waits in `lane`; the caller's posture says whether `verdict` is a drop.
    pub fn drain(&self, lane: u16, verdict: Verdict, now: Mono) -> Vec<Answer<T>> {
        let left = self.with_hold(|hold| hold.drain(lane, now));
        let decide = |left: Left<T>| {
            let Answer { ticket, decision } = self.refuse_left(left, Reason::Shutdown);
            Answer { ticket, decision: Decision { verdict, ..decision } }
        };
        left.into_iter().map(decide).collect()
    }

    /// Judges a packet while nothing is held any more: by policy, lists and registry, else `verdict`.
    pub fn stopping(&self, flow: Flow, lane: u16, verdict: Verdict) -> Decision {
        let owner = self.owner(flow.src.ip());
        let quick = self.quick(flow, lane, owner.clone());
        quick.unwrap_or_else(|| Decision {
            verdict,
            ..self.refuse(flow, lane, Reason::Shutdown, owner)
        })
    }

    /// When [`Engine::expire`] has something to do in `lane`.
    pub fn next_deadline(&self, lane: u16) -> Option<Mono> {
        if self.flows.load(SeqCst) == 0 { None } else { self.hold().next_deadline(lane) }
    }

    /// Packets that wait.
    pub fn held(&self) -> usize {
        self.hold().len()
    }

    /// True if nothing has to be waited for.
    fn decides(&self, src: IpAddr, dst: IpAddr) -> bool {
        self.outlook(src, dst).is_some()
    }

    /// The decision about a packet that waits no longer, because its record came, or lists or owners changed.
    fn release(&self, left: Left<T>) -> Answer<T> {
        let (held, copies) = (left.held, left.copies);
        // As it is treated by now, which is what decided.
        let now = self.owner(left.flow.src.ip());
        let same = |owner: &Arc<Owner>| now.as_ref().filter(|now| now.id == owner.id).cloned();
        let owner = match &left.owner {
            Some(owner) => Some(same(owner).unwrap_or_else(|| Arc::clone(owner))),
            None => now,
        };
        let quick = self.quick(left.flow, left.lane, owner);
        // What decided a moment ago may be gone again; the packet is on its way out, and nobody is accused.
        let Some(mut decision) = quick else { return self.refuse_left(left, Reason::Unhealthy) };
        if decision.reason == Reason::Resolved {
            decision.reason = Reason::ResolvedAfterHold;
        }
        (decision.held, decision.copies) = (held, copies);
        Answer { ticket: left.ticket, decision }
    }

    /// The decision about a packet that waited in vain.
    fn refused(&self, left: Left<T>, now: Now) -> Answer<T> {
        let hold = self.policy_of(left.owner.as_deref()).hold;
        let mut answer = self.refuse_left(left, Reason::NeverResolved);
        answer.decision.reason = self.in_vain(answer.decision.grade, hold, now);
        answer
    }

    fn in_vain(&self, grade: Grade, hold: Duration, now: Now) -> Reason {
        match grade {
            Grade::Never if !self.evidence_for(hold, now).healthy => Reason::Unhealthy,
            Grade::Never => Reason::NeverResolved,
            Grade::Own | Grade::Other | Grade::Static => Reason::OutOfScope,
        }
    }

    /// What a first packet of `flow` would meet in the end if no record came: nothing is held, counted or told.
    pub fn forecast(&self, flow: Flow, now: Now) -> Decision {
        let owner = self.owner(flow.src.ip());
        let hold = self.policy_of(owner.as_deref()).hold;
        self.quick(flow, 0, owner.clone()).unwrap_or_else(|| {
            let mut decision = self.refuse(flow, 0, Reason::NeverResolved, owner);
            decision.reason = self.in_vain(decision.grade, hold, now);
            decision.held = hold;
            decision
        })
    }

    fn refuse_left(&self, left: Left<T>, reason: Reason) -> Answer<T> {
        let owner = left.owner.or_else(|| self.owner(left.flow.src.ip()));
        let mut decision = self.refuse(left.flow, left.lane, reason, owner);
        (decision.held, decision.copies) = (left.held, left.copies);
        Answer { ticket: left.ticket, decision }
    }

    fn refuse(&self, flow: Flow, lane: u16, reason: Reason, owner: Option<Arc<Owner>>) -> Decision {
        let (grade, known) = self.look_up(flow.src.ip(), flow.dst.ip());
        let (verdict, domain, held) = (Verdict::Drop, None, Duration::ZERO);
        let mode = self.mode_of(owner.as_deref());
        Decision { flow, lane, verdict, reason, grade, known, held, copies: 0, domain, mode, owner }
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

fn admits(scope: Scope, grade: Grade) -> bool {
    match grade {
        Grade::Own | Grade::Static => true,
        Grade::Other => scope == Scope::Global,
        Grade::Never => false,
    }
}

#[cfg(test)]
#[path = "judge_test.rs"]
mod tests;

#[cfg(test)]
#[path = "judge_owner_test.rs"]
mod owner_tests;
