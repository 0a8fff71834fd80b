//! One sink with its gate: what it is told now, what is counted, and what it is told of the rest.

use std::sync::Arc;

use super::translate::{Draft, Scribe};
use super::worker::{Books, Closed, Ending, Worker};
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
    shared: Arc<Shared>,
}

impl Outlet {
    /// Starts its thread, and looks whether what it needs is there.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn open(sink: &Sink, shared: &Arc<Shared>, ending: &Ending) -> std::io::Result<Outlet> {
        let sink = Arc::new(sink.clone());
        shared.pulse.sinks().push(SinkState {
            name: sink.name.clone(),
            kind: sink.kind().to_owned(),
            ok: true,
            message: String::new(),
            sent: 0,
            failed: 0,
            dropped: 0,
            withheld: 0,
            last: None,
        });
        let mut book = Book { name: sink.name.clone(), shared: Arc::clone(shared), delays: 0 };
        if let Err(error) = sink.check() {
            book.fails(&error);
        }
        let worker = Worker::start(Arc::clone(&sink), book, ending.clone())?;
        Ok(Outlet { gate: Gate::new(sink.pace), sink, worker, shared: Arc::clone(shared) })
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

    fn send(&mut self, notice: &Arc<Notice>, now: Mono) {
        if !self.worker.put(Arc::clone(notice)) {
            change(&self.shared, &self.sink.name, |state| state.dropped += 1);
            self.gate.hold(notice.kind, Arc::clone(notice), notice.count, now);
        }
    }

    fn withheld(&self, count: u64) {
        change(&self.shared, &self.sink.name, |state| state.withheld += count);
    }
}

fn part((topic, held): (&Topic, &Held<Arc<Notice>>)) -> String {
    format!("{} {}, the last: {}", held.count, topic.as_str(), held.last.message)
}

fn change(shared: &Shared, name: &str, change: impl FnOnce(&mut SinkState)) {
    if let Some(state) = shared.pulse.sinks().iter_mut().find(|state| state.name == name) {
        change(state);
    }
}

/// Tells what becomes of the sink's alerts.
struct Book {
    name: String,
    shared: Arc<Shared>,
    /// Tries of the present alert that failed.
    delays: u32,
}

impl Book {
    /// It fails from now on, which is told once.
    fn fails(&mut self, error: &SendError) {
        let mut news = false;
        change(&self.shared, &self.name, |state| {
            news = std::mem::replace(&mut state.ok, false);
            state.message.clone_from(&error.message);
        });
        if news {
            let message = format!("alerts do not reach {}: {error}", self.name);
            self.shared.report_health(&format!("alert {}", self.name), false, message);
        }
    }
}

impl Books for Book {
    fn sent(&mut self) {
        self.delays = 0;
        let mut news = false;
        change(&self.shared, &self.name, |state| {
            news = !std::mem::replace(&mut state.ok, true);
            state.message.clear();
            state.sent += 1;
            state.last = Some(clock::wall());
        });
        if news {
            let message = format!("alerts reach {} again", self.name);
            self.shared.report_health(&format!("alert {}", self.name), true, message);
        }
    }

    fn failed(&mut self, error: &SendError) {
        self.delays = 0;
        change(&self.shared, &self.name, |state| state.failed += 1);
        self.fails(error);
    }

    fn delayed(&mut self, error: &SendError) {
        // What goes out at the second try is no news.
        let tries = self.delays;
        self.delays += 1;
        match tries {
            0 => change(&self.shared, &self.name, |state| state.message.clone_from(&error.message)),
            _ => self.fails(error),
        }
    }
}
