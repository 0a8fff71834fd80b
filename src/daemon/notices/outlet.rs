//! One sink with its gate: what it is told now, what is counted, and what it is told of the rest.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use super::translate::{Draft, Scribe};
use super::worker::{Books, Closed, Worker};
use crate::alert::{Notice, SendError, Severity, Sink};
use crate::control::SinkState;
use crate::daemon::clock;
use crate::daemon::shared::Shared;
use crate::engine::Mono;
use crate::engine::alert::{Gate, Held, Offered, Topic};

/// One sink.
pub struct Outlet {
    sink: Arc<Sink>,
    gate: Gate<Arc<Notice>>,
    worker: Worker,
    slot: Arc<Slot>,
}

impl Outlet {
    /// Starts its thread, and looks whether what it needs is there.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn open(sink: &Sink, shared: &Arc<Shared>) -> std::io::Result<Outlet> {
        let sink = Arc::new(sink.clone());
        let slot = Arc::new(Slot::new(&sink, shared));
        let mut book = Book { slot: Arc::clone(&slot), delays: 0 };
        if let Err(error) = sink.check() {
            book.fails(&error);
        }
        let worker = Worker::start(Arc::clone(&sink), book).inspect_err(|error| {
            let message = format!("it has no thread: {error}");
            Book { slot: Arc::clone(&slot), delays: 0 }.fails(&SendError { message, again: false });
        })?;
        Ok(Outlet { gate: Gate::new(sink.pace), sink, worker, slot })
    }

    /// Its name.
    pub fn name(&self) -> String {
        self.sink.name.clone()
    }

    /// True if it is for this sink, to the last word.
    pub fn is(&self, sink: &Sink) -> bool {
        *self.sink == *sink
    }

    /// True if it is told of anything that containers do.
    pub fn wants_traffic(&self) -> bool {
        self.sink.on.iter().any(|topic| topic.is_traffic())
    }

    /// Something happened.
    pub fn offer(&mut self, draft: &Draft, now: Mono) {
        let Draft { key, notice, only_counts } = draft;
        // Nobody is told by itself that it cannot be told.
        let own = key.topic == Topic::Sink && key.who.as_deref() == Some(self.sink.name.as_str());
        if own || !self.sink.wants(key.topic) {
            return;
        }
        if *only_counts {
            return self.gate.again(key, notice.count);
        }
        match self.gate.offer(key.clone(), Arc::clone(notice), notice.count, now) {
            Offered::Now => self.send(notice, now),
            Offered::Counted => {}
            Offered::Held => self.withheld(notice.count),
        }
    }

    /// Tells what is due.
    pub fn due(&mut self, scribe: &Scribe, now: Mono) {
        for (notice, count) in self.gate.due(now) {
            self.send(&Arc::new(Notice { count, ..(*notice).clone() }), now);
        }
        if let Some(held) = self.gate.summary(now) {
            let parts: Vec<String> = held.iter().map(part).collect();
            let message = format!("too much happened to tell it all: {}", parts.join("; "));
            let count = held.values().map(|held| held.count).sum();
            let notice = Notice::new(Topic::Withheld, Severity::Warning, &message);
            let notice = scribe.sign(Notice { count, ..notice }, clock::wall());
            self.send(&Arc::new(notice), now);
        }
    }

    /// Events went by that nobody had time to read.
    pub fn missed(&mut self, count: u64, scribe: &Scribe, now: Mono) {
        if count > 0 {
            let message = "events of whoever makes too many went by unread";
            let notice = Notice::new(Topic::Withheld, Severity::Warning, message);
            let notice = Arc::new(scribe.sign(notice, clock::wall()));
            self.gate.hold(Topic::Withheld, notice, count, now);
            self.withheld(count);
        }
    }

    /// Nothing more comes.
    pub fn close(self) -> Closed {
        self.worker.close()
    }

    /// It is not configured any more: what waits is still sent, and nobody asks what became of it.
    pub fn leave(self) -> Closed {
        self.slot.leave();
        self.worker.close()
    }

    fn send(&mut self, notice: &Arc<Notice>, now: Mono) {
        if !self.worker.put(Arc::clone(notice)) {
            self.slot.change(|state| state.dropped += 1);
            self.gate.hold(notice.kind, Arc::clone(notice), notice.count, now);
        }
    }

    fn withheld(&self, count: u64) {
        self.slot.change(|state| state.withheld += count);
    }
}

fn part((topic, held): (&Topic, &Held<Arc<Notice>>)) -> String {
    format!("{} {}, the last: {}", held.count, topic.as_str(), held.last.message)
}

/// What everybody can ask about it, as long as it is configured.
struct Slot {
    name: String,
    shared: Arc<Shared>,
    /// Changed with the list of all sinks locked: another may have the name by now.
    gone: AtomicBool,
}

impl Slot {
    fn new(sink: &Sink, shared: &Arc<Shared>) -> Slot {
        let (name, kind) = (sink.name.clone(), sink.kind().to_owned());
        let mut states = shared.pulse.sinks();
        // One that got no thread has left this.
        states.retain(|state| state.name != name);
        states.push(SinkState {
            name: name.clone(),
            kind,
            ok: true,
            message: String::new(),
            sent: 0,
            failed: 0,
            dropped: 0,
            withheld: 0,
            last: None,
        });
        drop(states);
        Slot { name, shared: Arc::clone(shared), gone: AtomicBool::new(false) }
    }

    /// False if it is not configured any more.
    fn change(&self, change: impl FnOnce(&mut SinkState)) -> bool {
        let mut states = self.shared.pulse.sinks();
        let is_there = !self.gone.load(Relaxed);
        let state = states.iter_mut().find(|state| is_there && state.name == self.name);
        state.map(change).is_some()
    }

    /// If others were told that it fails, they are told that this is over.
    fn leave(&self) {
        let mut states = self.shared.pulse.sinks();
        self.gone.store(true, Relaxed);
        let place = states.iter().position(|state| state.name == self.name);
        let fails = place.is_some_and(|place| !states.remove(place).ok);
        drop(states);
        if fails {
            self.tell(true, format!("alerts to {} are configured differently now", self.name));
        }
    }

    fn tell(&self, healthy: bool, message: String) {
        self.shared.report_health(&format!("alert {}", self.name), healthy, message);
    }
}

/// Tells what becomes of the sink's alerts.
struct Book {
    slot: Arc<Slot>,
    /// Tries of the present alert that failed.
    delays: u32,
}

impl Book {
    /// It fails from now on, which is told once.
    fn fails(&mut self, error: &SendError) {
        let (name, mut news) = (&self.slot.name, false);
        let is_there = self.slot.change(|state| {
            news = std::mem::replace(&mut state.ok, false);
            state.message.clone_from(&error.message);
        });
        if news {
            self.slot.tell(false, format!("alerts do not reach {name}: {error}"));
        }
        if !is_there {
            tracing::warn!("an alert to {name}, which is configured no more, is lost: {error}");
        }
    }
}

impl Books for Book {
    fn sent(&mut self) {
        self.delays = 0;
        let mut news = false;
        self.slot.change(|state| {
            news = !std::mem::replace(&mut state.ok, true);
            state.message.clear();
            state.sent += 1;
            state.last = Some(clock::wall());
        });
        if news {
            self.slot.tell(true, format!("alerts reach {} again", self.slot.name));
        }
    }

    fn failed(&mut self, error: &SendError) {
        self.delays = 0;
        self.slot.change(|state| state.failed += 1);
        self.fails(error);
    }

    fn delayed(&mut self, error: &SendError) {
        // What goes out at the second try is no news.
        let tries = self.delays;
        self.delays += 1;
        match tries {
            0 => {
                self.slot.change(|state| state.message.clone_from(&error.message));
            }
            _ => self.fails(error),
        }
    }
}
