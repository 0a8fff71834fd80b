//! The engine: registry, hold and policy behind one surface that verdict threads and log readers share.
//!
//! No wake-up is lost: [`Engine::packet`] parks before it looks the registry up again, and [`Engine::record`]
//! writes the registry before it looks for parked packets. A full fence between the two steps on either side
//! means that at least one of them sees the other.

mod decide;
mod trust;

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst, fence};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::abuse::is_live;
use super::flow::Flow;
use super::health::SourceHealth;
use super::hold::{Arrival, Hold, Left, Park};
use super::inquiry::Inquiry;
use super::limits::{AGE_STEPS, EXPIRE_BATCH};
use super::lists::Lists;
use super::owner::{Owner, Owners};
use super::policy::Policy;
use super::rebind::Rebinding;
use super::record::Record;
use super::registry::{Inserted, Registry};
use super::sieve::Sieve;
use super::time::{Mono, Now, Wall};
use super::verdict::{Grade, Reason, Verdict};
use super::wish::Refusal;
use arc_swap::ArcSwap;
use trust::Trust;

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
    /// Refusals of a moment ago in the hold, for records that come too late.
    refused: AtomicUsize,
    rebinding: ArcSwap<Rebinding>,
    trust: Trust,
    /// Held while a record goes in: two sources may bring one at once, and it is news once.
    news: Mutex<()>,
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
            refused: AtomicUsize::new(0),
            rebinding: ArcSwap::default(),
            trust: Trust::default(),
            news: Mutex::default(),
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

    /// Who owns which address now.
    pub fn owners(&self) -> Arc<Owners> {
        self.owners.load_full()
    }

    /// Replaces the owners and decides what waits and may pass now.
    pub fn set_owners(&self, owners: Owners, now: Now) -> Vec<Answer<T>> {
        self.owners.store(Arc::new(owners));
        self.decide_again(now)
    }

    /// Judges the first packet of a flow.
    pub fn packet(&self, flow: Flow, lane: u16, ticket: T, now: Now) -> Step {
        let owner = self.owner(flow.src.ip());
        if self.flows.load(SeqCst) != 0 && self.with_hold(|hold| hold.join(&flow, now.mono)) {
            return Step::Copy(self.waiting_mode(owner.as_deref()));
        }
        let quick = self.quick(flow, lane, owner.clone(), now);
        match quick.or_else(|| self.untrusted(flow, lane, owner.as_ref(), now)) {
            Some(decision) => {
                self.note_use(&decision, now);
                Step::Decided(decision)
            }
            None => self.park(flow, lane, ticket, owner, now),
        }
    }

    /// Who owns an address.
    pub fn owner(&self, address: IpAddr) -> Option<Arc<Owner>> {
        self.owners.load().of(address).cloned()
    }

    /// What the lists say now.
    pub fn lists(&self) -> Arc<Lists> {
        self.lists.load_full()
    }

    /// Replaces the lists and decides what waits and is listed now.
    pub fn set_lists(&self, lists: Arc<Lists>, now: Now) -> Vec<Answer<T>> {
        self.lists.store(lists);
        self.decide_again(now)
    }

    fn decide_again(&self, now: Now) -> Vec<Answer<T>> {
        fence(SeqCst);
        if self.flows.load(SeqCst) == 0 {
            return Vec::new();
        }
        let decides = |flow: &Flow| self.decides(flow.src.ip(), flow.dst.ip(), now);
        let left = self.with_hold(|hold| hold.release_all(decides, now.mono));
        left.into_iter().map(|left| self.release(left, now)).collect()
    }

    /// Whether a record is about a blocked address and gives it a name under an allowed domain, so that the kernel has to
    /// let it through.
    pub fn unblocks(&self, record: &Record) -> bool {
        let lists = self.lists.load();
        lists.allow.names.find(&record.name).is_some() && lists.refuses_address(record.address)
    }

    /// The slow path: holds the packet, then looks again for a record that came in between.
    fn park(&self, flow: Flow, lane: u16, ticket: T, owner: Option<Arc<Owner>>, now: Now) -> Step {
        let mode = self.waiting_mode(owner.as_deref());
        let hold = self.bound(self.policy_of(owner.as_deref()).hold, now.mono);
        let arrival = Arrival { flow, lane, ticket, owner: owner.clone(), mode, hold };
        match self.with_hold(|hold| hold.park(arrival, now.mono)) {
            Park::Joined => Step::Copy(mode),
            Park::OverBudget => {
                Step::Decided(self.refuse(flow, lane, Reason::HoldBudget, owner, now))
            }
            Park::Held => {
                fence(SeqCst);
                if !self.decides(flow.src.ip(), flow.dst.ip(), now) {
                    return Step::Hold(mode);
                }
                // Nothing left to take means that the record's own thread released the packet.
                match self.with_hold(|hold| hold.let_go(&flow, now.mono)) {
                    Some(left) => Step::Decided(self.release(left, now).decision),
                    None => Step::Hold(mode),
                }
            }
        }
    }

    /// How a packet waits: for real, or in the books alone.
    fn waiting_mode(&self, owner: Option<&Owner>) -> Mode {
        self.mode_for(owner, Reason::NeverResolved)
    }

    /// Takes a record in and lets go what waited for it.
    pub fn record(&self, record: &Record, now: Now) -> Recorded<T> {
        self.record_as(record, is_live(record.time, now.wall), now)
    }

    /// The same for a record that is read late, whatever its time says: it raises no alarm.
    pub fn recall(&self, record: &Record, now: Now) -> Recorded<T> {
        self.record_as(record, false, now)
    }

    fn record_as(&self, record: &Record, live: bool, now: Now) -> Recorded<T> {
        if let Some(inside) = self.rebinding.load().check(record) {
            let (released, is_news, waited) = Default::default();
            return Recorded { inserted: Inserted::Rejected(inside), released, is_news, waited };
        }
        let (inserted, is_news) = self.take_in(record, live, now);
        fence(SeqCst);
        if self.flows.load(SeqCst) == 0 && self.refused.load(SeqCst) == 0 {
            return Recorded { inserted, released: Vec::new(), is_news, waited: None };
        }
        let decides = |client: IpAddr| self.decides(client, record.address, now);
        let (left, late) = self.with_hold(|hold| {
            (hold.release(record.address, decides, now.mono), hold.late(record.address, now.mono))
        });
        let waited = left.iter().map(|left| left.held).chain(late).max();
        let released = left.into_iter().map(|left| self.release(left, now)).collect();
        Recorded { inserted, released, is_news, waited }
    }

    /// Puts a record into the registry: what became of it, and whether it says anything that was not known.
    fn take_in(&self, record: &Record, live: bool, now: Now) -> (Inserted, bool) {
        let _alone = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        let max_age = self.settings.evidence.max_age;
        let before = self.grade_for_asker(record, now, max_age);
        // Where evidence ages it matters when it was seen last, to a small part of the age that counts.
        let step = max_age.map(|age| age / AGE_STEPS);
        let is_older = step.is_some() && self.grade_for_asker(record, now, step) == Grade::Stale;
        let payer = record.client.and_then(|client| self.owners.load().payer(client));
        let inserted = match live {
            true => self.registry.insert_for(record, payer),
            false => self.registry.recall_for(record, payer),
        };
        let is_news = is_older
            || inserted == Inserted::New
            || self.grade_for_asker(record, now, max_age) < before;
        (inserted, is_news)
    }

    /// The grade of a record's address for whoever asked, where evidence of such an age is fresh.
    fn grade_for_asker(&self, record: &Record, now: Now, max_age: Option<Duration>) -> Grade {
        let owners = self.owners.load();
        let clients = record.client.as_ref().map_or(&[][..], |client| owners.clients(client));
        self.registry.grade(&Inquiry { clients, at: now.wall, max_age }, record.address)
    }

    /// For what was kept elsewhere or by an earlier run: it is taken in as far as a source would be believed now.
    pub fn sieve(&self, now: Wall) -> Sieve {
        Sieve::new(Some(self.rebinding.load_full()), now)
    }

    /// Says which addresses are this host's by now.
    pub fn set_own(&self, own: &[IpAddr]) {
        self.rebinding.rcu(|known| Rebinding { own: own.to_vec(), ..(**known).clone() });
    }

    /// Says which addresses no public name may answer with.
    pub fn set_rebinding(&self, rebinding: Rebinding) {
        self.rebinding.store(Arc::new(rebinding));
    }

    /// Refuses what has waited long enough in `lane`, a batch at a time: call again while [`Engine::next_deadline`]
    /// is past. Whoever cannot trust the evidence accuses nobody: the
    /// reason is then [`Reason::Unhealthy`].
    pub fn expire(&self, lane: u16, now: Now) -> Vec<Answer<T>> {
        self.lengthen(lane, now);
        let left = self.with_hold(|hold| hold.expire(lane, now.mono, EXPIRE_BATCH));
        if left.is_empty() {
            return Vec::new();
        }
        let answers: Vec<_> = left.into_iter().map(|left| self.refused(left, now)).collect();
        let passes = |answer: &&Answer<T>| answer.decision.verdict == Verdict::Accept;
        if answers.iter().any(|answer| passes(&answer)) {
            let flows = answers.iter().filter(passes).map(|answer| &answer.decision.flow);
            self.with_hold(|hold| flows.for_each(|flow| hold.linger(flow, now.mono)));
        }
        answers
    }

    /// Takes out everything that waits in `lane`; the caller's posture says whether `verdict` is a drop.
    pub fn drain(&self, lane: u16, verdict: Verdict, now: Now) -> Vec<Answer<T>> {
        let left = self.with_hold(|hold| hold.drain(lane, now.mono));
        let decide = |left: Left<T>| {
            let Answer { ticket, decision } = self.refuse_left(left, Reason::Shutdown, now);
            Answer { ticket, decision: Decision { verdict, ..decision } }
        };
        left.into_iter().map(decide).collect()
    }

    /// Judges a packet while nothing is held any more: by policy, lists and registry, else `verdict`.
    pub fn stopping(&self, flow: Flow, lane: u16, verdict: Verdict, now: Now) -> Decision {
        let owner = self.owner(flow.src.ip());
        let quick = self.quick(flow, lane, owner.clone(), now);
        quick.unwrap_or_else(|| Decision {
            verdict,
            ..self.refuse(flow, lane, Reason::Shutdown, owner, now)
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
    fn decides(&self, src: IpAddr, dst: IpAddr, now: Now) -> bool {
        self.outlook(src, dst, now).is_some()
    }

    /// The decision about a packet that waits no longer, because its record came, or lists or owners changed.
    fn release(&self, left: Left<T>, now: Now) -> Answer<T> {
        let (held, copies, mode, bound) = (left.held, left.copies, left.mode, left.hold);
        // As it is treated by now, which is what decided.
        let present = self.owner(left.flow.src.ip());
        let same = |owner: &Arc<Owner>| present.as_ref().filter(|now| now.id == owner.id).cloned();
        let owner = match &left.owner {
            Some(owner) => Some(same(owner).unwrap_or_else(|| Arc::clone(owner))),
            None => present,
        };
        let quick = self.quick(left.flow, left.lane, owner, now);
        // What decided a moment ago may be gone again; the packet is on its way out, and nobody is accused.
        let Some(mut decision) = quick else {
            return self.refuse_left(left, Reason::Unhealthy, now);
        };
        self.note_use(&decision, now);
        if decision.reason == Reason::Resolved {
            decision.reason = Reason::ResolvedAfterHold;
        }
        (decision.held, decision.copies, decision.bound) = (held, copies, bound);
        Answer { ticket: left.ticket, decision: decision.waited(mode) }
    }

    /// The decision about a packet that waited in vain.
    fn refused(&self, left: Left<T>, now: Now) -> Answer<T> {
        let Left { flow, lane, ticket, held, copies, owner, mode, hold } = left;
        let owner = owner.or_else(|| self.owner(flow.src.ip()));
        let decision = self.in_vain(flow, lane, owner, hold, now);
        let decision = Decision { held, copies, bound: hold, ..decision };
        Answer { ticket, decision: decision.waited(mode) }
    }

    fn refuse_left(&self, left: Left<T>, reason: Reason, now: Now) -> Answer<T> {
        let owner = left.owner.or_else(|| self.owner(left.flow.src.ip()));
        let decision = self.refuse(left.flow, left.lane, reason, owner, now);
        let (held, copies, bound) = (left.held, left.copies, left.hold);
        let decision = Decision { held, copies, bound, ..decision };
        Answer { ticket: left.ticket, decision: decision.waited(left.mode) }
    }

    fn with_hold<R>(&self, act: impl FnOnce(&mut Hold<T>) -> R) -> R {
        let mut hold = self.hold();
        let result = act(&mut hold);
        self.flows.store(hold.flows(), SeqCst);
        self.refused.store(hold.refused(), SeqCst);
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

#[cfg(test)]
#[path = "judge_owner_test.rs"]
mod owner_tests;

#[cfg(test)]
#[path = "judge/trust_test.rs"]
mod trust_tests;

#[cfg(test)]
#[path = "judge/evidence_test.rs"]
mod evidence_tests;

#[cfg(test)]
#[path = "judge/trace_test.rs"]
mod trace_tests;
