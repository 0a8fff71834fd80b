//! Alerts: read along with the events, told to each sink once and counted then, and never waited for.
//!
//! One thread makes alerts of events and of what it looks at every second; each sink has a gate, a short queue, and a thread
//! that waits for it. Whatever hangs, hangs there alone.

mod outlet;
mod sluice;
mod state;
mod translate;
mod worker;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::clock;
use super::shared::Shared;
use crate::config::Config;
use crate::engine::event::Event;
use crate::events::Tapped;
use outlet::Outlet;
use sluice::Sluice;
use state::States;
pub use translate::test_notice;
use translate::{Draft, Scribe};
use worker::Ending;

/// Events that may wait to be read: a scan in a second or two.
const EVENTS_MAX: usize = 4096;
/// How often states are looked at that no event tells.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether to end.
const NAP: Duration = Duration::from_millis(200);
/// How long sinks may take for what waits at stop.
const FLUSH_PATIENCE: Duration = Duration::from_secs(3);
/// How long a program that was given up may take to die.
const LAST_PATIENCE: Duration = Duration::from_millis(300);

/// The running threads. Dropping it sends what waits, unless that takes too long.
pub struct Notices {
    stop: Arc<AtomicBool>,
    ended: Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// Starts what the configuration asks for. Judging does not depend on it.
pub fn start(config: &Config, shared: &Arc<Shared>) -> Option<Notices> {
    if config.alerts.is_empty() {
        return None;
    }
    let (sluice, kept_back) = Sluice::new();
    let wants = Box::new(move |body: &_| sluice.passes(body));
    // What was wrong before anybody could be told is news too.
    let (before, tapped) = shared.events.tap_with_recent(EVENTS_MAX, wants);
    let (ending, stop) = (Ending::default(), Arc::new(AtomicBool::new(false)));
    let outlets: Vec<Outlet> = config
        .alerts
        .iter()
        .filter_map(|sink| {
            Outlet::open(sink, shared, &ending)
                .inspect_err(|error| {
                    let what = format!("alert {}", sink.name);
                    shared.report_health(&what, false, format!("has no thread: {error}"));
                })
                .ok()
        })
        .collect();
    let (alive, ended) = channel();
    let teller = Teller {
        scribe: Scribe::new(Arc::clone(shared)),
        states: States::new(shared),
        shared: Arc::clone(shared),
        before,
        tapped,
        kept_back,
        outlets,
        ending,
        stop: Arc::clone(&stop),
    };
    let run = move || {
        teller.run();
        drop(alive);
    };
    let thread = std::thread::Builder::new().name("alerts".to_owned()).spawn(run);
    let thread = thread
        .inspect_err(|error| {
            shared.report_health("alerts", false, format!("nobody is told of anything: {error}"));
        })
        .ok()?;
    Some(Notices { stop, ended, thread: Some(thread) })
}

impl Drop for Notices {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
        let patience = FLUSH_PATIENCE + LAST_PATIENCE + NAP * 2;
        if self.ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("alerts that wait are not sent");
            return;
        }
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread of the alerts panicked");
        }
    }
}

struct Teller {
    shared: Arc<Shared>,
    /// Events of the time before.
    before: Vec<Arc<Event>>,
    tapped: Tapped,
    /// Events that were too many of one source.
    kept_back: Arc<AtomicU64>,
    outlets: Vec<Outlet>,
    scribe: Scribe,
    states: States,
    ending: Ending,
    stop: Arc<AtomicBool>,
}

impl Teller {
    fn run(mut self) {
        let mut look_at = Instant::now();
        std::mem::take(&mut self.before).iter().for_each(|event| self.take(event));
        while !self.stop.load(Relaxed) {
            match self.tapped.events().recv_timeout(NAP) {
                Ok(event) => self.take(&event),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
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
        }
        let missed = self.tapped.missed() + self.kept_back.swap(0, Relaxed);
        let now = clock::mono();
        for outlet in &mut self.outlets {
            outlet.missed(missed, &self.scribe, now);
            outlet.due(&self.scribe, now);
        }
    }

    /// Sends what waits, for a short while.
    fn finish(mut self) {
        let rest: Vec<Arc<Event>> = self.tapped.events().try_iter().collect();
        rest.iter().for_each(|event| self.take(event));
        self.ending.begin();
        let until = Instant::now() + FLUSH_PATIENCE;
        let workers: Vec<_> = self.outlets.into_iter().map(Outlet::close).collect();
        let late = workers.iter().filter(|worker| !worker.ended_by(until)).count();
        if late > 0 {
            self.ending.abandon();
            let until = Instant::now() + LAST_PATIENCE;
            let left = workers.iter().filter(|worker| !worker.ended_by(until)).count();
            tracing::warn!(
                "{late} alert sinks took too long at stop, {left} are left where they are"
            );
        }
    }
}
