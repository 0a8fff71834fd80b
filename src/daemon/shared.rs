//! What verdict threads and log readers share: the engine, the way to each verdict thread, and the counters.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use super::alerts::Alerts;
use super::canary::seen;
use super::clock;
use super::denied::Denied;
use super::desk::Desk;
use super::learn::Learning;
use super::library;
use super::look::RulesLook;
use super::mailbox::Mailbox;
use super::measures::Measures;
use super::persist::DiskState;
use super::pulse::Pulse;
use super::roster::{Note, Notes, Unnamed};
use super::saver;
use super::tenants::TenantBook;
use super::told::Told;
use super::truth::Orders;
use crate::control::{Canary, Docker, DockerState};
use crate::engine::event::{Body, Event, Health, Totals, VerdictBody};
use crate::engine::inventory::Inventory;
use crate::engine::judge::{Answer, Decision, Engine, Mode};
use crate::engine::packet::Malformed;
use crate::engine::{Reason, Verdict};
use crate::events::EventSender;
use crate::nfq::{Disposition, QueueStats};

/// How a held packet is known: the kernel's number for it, on that queue socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ticket {
    /// Counts the sockets of a lane: a new one numbers its packets from the start again.
    pub generation: u32,
    /// The kernel's packet number.
    pub packet: u32,
}

/// What the verdict threads are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// Judge and hold.
    Serve = 0,
    /// Answer everything held, hold nothing more.
    Drain = 1,
    /// End.
    Close = 2,
}

/// Shared state of one daemon.
#[derive(Debug)]
pub struct Shared {
    /// Who decides.
    pub engine: Engine<Ticket>,
    /// One mailbox a verdict thread.
    pub mailboxes: Vec<Mailbox>,
    /// The event log.
    pub events: EventSender,
    /// Refusals of a moment ago.
    pub denied: Arc<Denied>,
    /// The way to the thread that keeps the kernel true.
    pub orders: Orders,
    /// The way to the thread that knows the containers.
    pub roster: Notes,
    /// Who was last on which address, as far as the registry knows.
    pub tenants: TenantBook,
    /// What is known about containers. Never asked on the packet path.
    pub inventory: Mutex<Inventory>,
    /// The way to the thread that reads the lists, once there is one.
    pub library: OnceLock<library::Notes>,
    /// The learning period, if there is one.
    pub learning: OnceLock<Learning>,
    /// Whether the container engine answers.
    pub docker: Mutex<Docker>,
    /// Whether the registry reaches the disk. See [`Shared::disk`].
    registry_disk: Mutex<DiskState>,
    /// The way to the thread that saves the registry, once there is one.
    pub saver: OnceLock<saver::Notes>,
    /// What is known about the lists, once they were read.
    pub told: Arc<Told>,
    /// Answers that were no evidence, as far as they were told.
    pub alerts: Alerts,
    /// Counters since start.
    pub tally: Tally,
    /// Verdicts by reason, and their times.
    pub measures: Measures,
    /// What an operator wants at a glance.
    pub desk: Desk,
    /// What threads leave for whoever asks.
    pub pulse: Pulse,
    /// What the rules in the kernel do.
    pub rules: RulesLook,
    /// What our own packet found last. See [`Shared::canary`].
    canary: Mutex<Canary>,
    /// Verdicts on that packet.
    pub canary_way: seen::Way,
    /// Losses seen on the queue sockets.
    pub queue_stats: Arc<QueueStats>,
    /// The answer for packets that nobody judged, by posture.
    pub unanswered: Verdict,
    /// How a refusal is put to the kernel.
    pub refuse: Disposition,
    /// First queue number; lane 0 serves it.
    pub queue_num: u16,
    phase: AtomicU8,
}

/// Counters since start.
#[derive(Debug, Default)]
pub struct Tally {
    pub(super) held: AtomicU64,
    released: AtomicU64,
    malformed: AtomicU64,
    pub(super) copies: AtomicU64,
    pub(super) panics: AtomicU64,
    pub(super) unrefused: AtomicU64,
    pub(super) reopened: AtomicU64,
    pub(super) kernel_dropped: AtomicU64,
    pub(super) user_dropped: AtomicU64,
}

impl Shared {
    /// Puts the parts together.
    #[expect(
        clippy::too_many_arguments,
        reason = "each is a part, and they come from all over the daemon"
    )]
    pub fn new(
        engine: Engine<Ticket>,
        mailboxes: Vec<Mailbox>,
        events: EventSender,
        denied: Arc<Denied>,
        orders: Orders,
        (roster, inventory, tenants): (Notes, Inventory, TenantBook),
        unanswered: Verdict,
        refuse: Disposition,
        queue_num: u16,
    ) -> Shared {
        let (told, alerts, tally, measures) = Default::default();
        let (pulse, rules, canary, canary_way, queue_stats) = Default::default();
        let phase = AtomicU8::new(Phase::Serve as u8);
        let desk = Desk::default();
        desk.listen(&events);
        Shared {
            engine,
            mailboxes,
            events,
            denied,
            orders,
            roster,
            inventory: Mutex::new(inventory),
            tenants,
            library: OnceLock::new(),
            learning: OnceLock::new(),
            docker: Mutex::new(unheard()),
            registry_disk: Mutex::new(DiskState::new()),
            saver: OnceLock::new(),
            told,
            alerts,
            tally,
            measures,
            desk,
            pulse,
            rules,
            canary,
            canary_way,
            queue_stats,
            unanswered,
            refuse,
            queue_num,
            phase,
        }
    }

    /// Sends answers to the threads that hold their packets.
    pub fn deliver(&self, answers: Vec<Answer<Ticket>>) {
        for answer in answers {
            if let Some(mailbox) = self.mailboxes.get(usize::from(answer.decision.lane)) {
                mailbox.put(answer);
                mailbox.ring();
            }
        }
    }

    /// What the verdict threads are to do.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Ordering::Acquire) {
            0 => Phase::Serve,
            1 => Phase::Drain,
            _ => Phase::Close,
        }
    }

    /// Tells the verdict threads what to do.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.store(phase as u8, Ordering::Release);
        self.mailboxes.iter().for_each(Mailbox::ring);
    }

    /// Whether the registry reaches the disk.
    pub fn disk(&self) -> MutexGuard<'_, DiskState> {
        self.registry_disk.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What our own packet found last.
    pub fn canary(&self) -> MutexGuard<'_, Canary> {
        self.canary.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Mode of the engine.
    pub fn mode(&self) -> Mode {
        self.engine.settings().mode
    }

    /// The same, but for a learning period that lasts.
    pub fn present_mode(&self) -> Mode {
        if self.engine.is_learning() { Mode::Learn } else { self.mode() }
    }

    /// Packets of containers' that wait for their record.
    pub fn held(&self) -> usize {
        self.engine.held().saturating_sub(self.canary_way.waiting())
    }

    /// Counts and reports a verdict.
    pub fn report(&self, mut decision: Decision) {
        if self.canary_way.takes(&decision) {
            return;
        }
        let now = clock::now();
        self.tally.count(&decision);
        self.measures.count(&decision, now.mono);
        if decision.mode == Mode::Enforce && self.is_at_home(&decision) {
            self.denied.refused(&decision);
        }
        if let Some(learning) = self.learning.get() {
            learning.count(&decision);
        }
        if let Some(owner) = &decision.owner {
            owner.tally.count(&decision, now.wall);
        }
        // What was decided by is told; where nobody looked at it, how it is now.
        let proof = decision.proof.take().map(|proof| *proof);
        let evidence = proof.unwrap_or_else(|| self.engine.evidence(now));
        let expected =
            decision.owner.is_none() && self.engine.owners().expects(decision.flow.src.ip());
        let unnamed = Unnamed { now, decision, evidence };
        if !expected {
            return self.tell(unnamed);
        }
        // What does not fit is told by whoever finds no room for it.
        if let Err(Note::Unnamed(unnamed)) = self.roster.offer(Note::Unnamed(Box::new(unnamed))) {
            self.tell(*unnamed);
        }
    }

    /// False if the container that was judged is gone: its address may be the next one's, which was refused nothing.
    fn is_at_home(&self, decision: &Decision) -> bool {
        decision.owner.as_ref().is_none_or(|owner| {
            let present = self.engine.owner(decision.flow.src.ip());
            present.is_some_and(|present| present.id == owner.id)
        })
    }

    /// Puts a verdict into the log.
    pub fn tell(&self, verdict: Unnamed) {
        let queue = self.queue_num + verdict.decision.lane;
        let time = verdict.decision.at.wall;
        let body = VerdictBody::decided(verdict.decision, verdict.evidence, queue);
        self.events.send(Event { time, body: Body::Verdict(body) });
    }

    /// Counts and reports a packet that cannot be read.
    pub fn report_malformed(&self, malformed: &Malformed, mode: Mode, lane: u16) {
        self.tally.malformed.fetch_add(1, Ordering::Relaxed);
        self.measures.count_reason(Verdict::Drop, Reason::Malformed);
        let now = clock::now();
        let evidence = self.engine.evidence(now);
        let mut body = VerdictBody::malformed(malformed, mode, evidence, self.queue_num + lane);
        if let Some(owner) = body.src.and_then(|src| self.engine.owner(src)) {
            body.name(&owner);
        }
        self.events.send(Event { time: now.wall, body: Body::Verdict(body) });
    }

    /// Notes and reports whether the container engine answers.
    pub fn report_docker(&self, up: bool, what: String) {
        let state = if up { DockerState::Up } else { DockerState::Down };
        let docker = Docker { state, what: what.clone(), since: clock::wall() };
        *self.docker.lock().unwrap_or_else(PoisonError::into_inner) = docker;
        let message = if up { format!("the container engine is heard: {what}") } else { what };
        self.report_health("docker", up, message);
    }

    /// The container engine and its version, if it answers.
    pub fn docker_heard(&self) -> Option<String> {
        let docker = self.docker.lock().unwrap_or_else(PoisonError::into_inner);
        (docker.state == DockerState::Up).then(|| docker.what.clone())
    }

    /// Reports a change in something we depend on.
    pub fn report_health(&self, what: &str, healthy: bool, message: String) {
        self.event(Body::Health(Health { what: what.to_owned(), healthy, message }));
        self.canary_way.call();
    }

    /// Puts an event of this moment into the log.
    pub fn event(&self, body: Body) {
        self.events.send(Event { time: clock::wall(), body });
    }

    /// All counters.
    pub fn totals(&self) -> Totals {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let tally = &self.tally;
        Totals {
            accepted: self.measures.sum(Verdict::Accept),
            refused: self.measures.sum(Verdict::Drop),
            held: read(&tally.held),
            released: read(&tally.released),
            malformed: read(&tally.malformed),
            copies: read(&tally.copies),
            gone: read(&self.queue_stats.gone),
            overruns: read(&self.queue_stats.overruns),
            reopened: read(&tally.reopened),
            panics: read(&tally.panics),
            unrefused: read(&tally.unrefused),
            kernel_dropped: read(&tally.kernel_dropped),
            user_dropped: read(&tally.user_dropped),
            events_shed: self.events.shed(),
        }
    }
}

fn unheard() -> Docker {
    Docker { state: DockerState::Unheard, what: String::new(), since: clock::wall() }
}

impl Tally {
    fn count(&self, decision: &Decision) {
        if decision.reason == Reason::ResolvedAfterHold {
            self.released.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
#[path = "shared_test.rs"]
mod tests;
