//! The thread that makes alerts of what happens and hands them to the sinks there are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use super::outlet::Outlet;
use super::sluice::Sluice;
use super::state::States;
use super::translate::{Draft, Scribe};
use super::worker::Closed;
use crate::alert::{Severity, Sink};
use crate::daemon::clock;
use crate::daemon::shared::Shared;
use crate::engine::alert::Topic;
use crate::engine::event::Event;
use crate::events::Tapped;

/// Events that may wait to be read: a scan in a second or two.
const EVENTS_MAX: usize = 4096;
/// How often states are looked at that no event tells.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether to end.
pub(super) const NAP: Duration = Duration::from_millis(200);
/// How long sinks may take for what waits at stop, or when they are gone from the configuration.
pub(super) const FLUSH_PATIENCE: Duration = Duration::from_secs(3);
/// How long a program that was given up may take to die.
pub(super) const LAST_PATIENCE: Duration = Duration::from_millis(300);

/// What is wrong at this moment, by what it is about: the evidence is doubted, and a source of it does not answer.
#[derive(Default)]
pub(super) struct Standing(pub BTreeMap<(Topic, String), Draft>);

impl Standing {
    /// Keeps what is wrong until the same is well again.
    pub(super) fn note(&mut self, about: (Topic, String), draft: Draft) {
        match draft.notice.severity {
            Severity::Critical => drop(self.0.insert(about, draft)),
            Severity::Warning | Severity::Info => drop(self.0.remove(&about)),
        }
    }
}

/// Everything but the thread itself.
pub(super) struct Teller {
    shared: Arc<Shared>,
    /// Events of the time before.
    before: Vec<Arc<Event>>,
    tapped: Tapped,
    /// Events that were too many of one source.
    kept_back: Arc<AtomicU64>,
    outlets: Vec<Outlet>,
    /// Sinks that are configured no more and still get what waited, and until when.
    leaving: Vec<(String, Closed, Instant)>,
    /// What is wrong at this moment, for whoever comes new.
    standing: Standing,
    scribe: Scribe,
    states: States,
    changes: Receiver<Vec<Sink>>,
    stop: Arc<AtomicBool>,
}

impl Teller {
    /// Reads along from now on, or from the oldest event that is kept.
    pub(super) fn new(
        shared: &Arc<Shared>,
        changes: Receiver<Vec<Sink>>,
        stop: Arc<AtomicBool>,
        with_recent: bool,
    ) -> Teller {
        let (sluice, kept_back) = Sluice::new();
        let wants = Box::new(move |body: &_| sluice.passes(body));
        let (mut before, tapped) = shared.events.tap_with_recent(EVENTS_MAX, wants);
        before.retain(|_| with_recent);
        Teller {
            scribe: Scribe::new(Arc::clone(shared)),
            states: States::new(shared),
            shared: Arc::clone(shared),
            before,
            tapped,
            kept_back,
            outlets: Vec::new(),
            leaving: Vec::new(),
            standing: Standing::default(),
            changes,
            stop,
        }
    }

    /// These sinks from now on, whatever there were.
    pub(super) fn set(&mut self, sinks: &[Sink]) {
        let is_wanted = |outlet: &Outlet| sinks.iter().any(|sink| outlet.is(sink));
        let (kept, gone): (Vec<Outlet>, Vec<Outlet>) =
            std::mem::take(&mut self.outlets).into_iter().partition(is_wanted);
        let until = Instant::now() + FLUSH_PATIENCE;
        self.leaving.extend(gone.into_iter().map(|outlet| (outlet.name(), outlet.leave(), until)));
        self.outlets = kept;
        for sink in sinks {
            if !self.outlets.iter().any(|outlet| outlet.is(sink)) {
                self.open(sink);
            }
        }
        let place = |name: &str| sinks.iter().position(|sink| sink.name == *name);
        self.shared.pulse.sinks().sort_by_key(|state| place(&state.name));
    }

    fn open(&mut self, sink: &Sink) {
        // A failure is told by itself.
        let Ok(mut outlet) = Outlet::open(sink, &self.shared) else { return };
        let now = clock::mono();
        self.standing.0.values().for_each(|draft| outlet.offer(draft, now));
        self.outlets.push(outlet);
    }

    /// Until it is time to stop; then what waits is sent, for a short while.
    pub(super) fn run(mut self) {
        let mut look_at = Instant::now();
        std::mem::take(&mut self.before).iter().for_each(|event| self.take(event));
        while !self.stop.load(Relaxed) {
            match self.tapped.events().recv_timeout(NAP) {
                Ok(event) => self.take(&event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if let Ok(sinks) = self.changes.try_recv() {
                self.set(&sinks);
                super::tell(&self.shared);
            }
            if Instant::now() >= look_at {
                look_at = Instant::now() + LOOK_EVERY;
                self.look();
            }
        }
        self.finish();
    }

    fn take(&mut self, event: &Event) {
        if let Some(draft) = self.scribe.draft(event) {
            self.tell(&draft);
        }
    }

    fn tell(&mut self, draft: &Draft) {
        let now = clock::mono();
        self.outlets.iter_mut().for_each(|outlet| outlet.offer(draft, now));
    }

    /// What no event tells, and what is due.
    fn look(&mut self) {
        for (severity, topic, what, message) in self.states.look(&self.shared, clock::now()) {
            let draft = self.scribe.state(severity, topic, &what, &message);
            self.tell(&draft);
            self.standing.note((topic, what), draft);
        }
        let (missed, kept_back) = (self.tapped.missed(), self.kept_back.swap(0, Relaxed));
        let now = clock::mono();
        for outlet in &mut self.outlets {
            // What is kept back is of containers, whom not everybody asked about.
            let theirs = if outlet.wants_traffic() { kept_back } else { 0 };
            outlet.missed(missed + theirs, &self.scribe, now);
            outlet.due(&self.scribe, now);
        }
        self.leaving.retain(|(name, closed, until)| {
            let has_ended = closed.ended_by(Instant::now());
            let is_late = !has_ended && Instant::now() >= *until;
            if is_late {
                closed.abandon();
                tracing::warn!(
                    "alert {name} is configured no more, and took too long for its last"
                );
            }
            !has_ended && !is_late
        });
    }

    /// Sends what waits, for a short while.
    fn finish(mut self) {
        let rest: Vec<Arc<Event>> = self.tapped.events().try_iter().collect();
        rest.iter().for_each(|event| self.take(event));
        let until = Instant::now() + FLUSH_PATIENCE;
        let left = self.leaving.into_iter().map(|(_, closed, _)| closed);
        let workers: Vec<Closed> =
            self.outlets.into_iter().map(Outlet::close).chain(left).collect();
        let late: Vec<&Closed> = workers.iter().filter(|worker| !worker.ended_by(until)).collect();
        if !late.is_empty() {
            late.iter().for_each(|worker| worker.abandon());
            let until = Instant::now() + LAST_PATIENCE;
            let left = late.iter().filter(|worker| !worker.ended_by(until)).count();
            let late = late.len();
            tracing::warn!(
                "{late} alert sinks took too long at stop, {left} are left where they are"
            );
        }
    }
}
