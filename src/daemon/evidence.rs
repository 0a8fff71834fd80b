//! Log readers: one thread a source, each feeding the engine and waking whoever waited.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use anyhow::{Context, Result};

use super::clock;
use super::roster::{Note, books};
use super::shared::Shared;
use super::truth::Order;
use crate::dns::{self, Answer, SpawnConfig, Stop};
use crate::engine::event::{Body, Event, RecordBody};
use crate::engine::health::{Batch, Disk, SourceHealth};
use crate::engine::limits::{DELAY_MAX, LOOK_TICK};
use crate::engine::registry::Inserted;
use crate::engine::{Mono, Record, Verdict, Wall};

/// The running readers.
pub struct Readers {
    stop: Stop,
    ended: Receiver<()>,
}

/// How long a reader may take to end; one that hangs on a dead disk must not keep us.
const END_PATIENCE: Duration = Duration::from_secs(5);
/// Age in microseconds from which on a record is history. What is new is read within milliseconds, and whose address
/// it was is then known by the packets that follow.
const LATE_US: u64 = 1_000_000;
/// Pause before a reader that panicked reads on.
const PANIC_PAUSE: Duration = Duration::from_secs(1);

/// The state of a source right after its start, for whoever waits for it.
pub struct SourceState {
    /// Which source.
    pub label: String,
    /// Why it is down, if it is.
    pub down: Option<String>,
}

struct Reader {
    shared: Arc<Shared>,
    health: Arc<SourceHealth>,
    states: Sender<SourceState>,
    was_up: bool,
    /// When it was last looked whether there is anything to be read.
    began: Mono,
    /// When the bytes were there that are being read.
    behind: Mono,
    /// Something of them was worth measuring.
    dated: bool,
    /// Lines were among them that somebody asked for.
    heard: bool,
}

impl Readers {
    /// Starts a reader for each source; `states` is told whenever one comes up or goes down.
    ///
    /// # Errors
    /// If the system gives no more threads or descriptors.
    pub fn start(
        sources: &[(dns::Spec, Arc<SourceHealth>)],
        config: &SpawnConfig,
        outside: &Arc<dyn dns::Outside>,
        shared: &Arc<Shared>,
        states: &Sender<SourceState>,
    ) -> Result<Readers> {
        let (alive, ended) = channel::<()>();
        let readers = Readers { stop: Stop::new()?, ended };
        // Declared after the readers, so that it goes before them: dropped, they wait until nobody has a sender.
        let alive = alive;
        for (spec, health) in sources {
            let alive = alive.clone();
            let (spec, config, stop) = (spec.clone(), config.clone(), readers.stop.clone());
            let outside = Arc::clone(outside);
            let mut reader = Reader {
                shared: Arc::clone(shared),
                health: Arc::clone(health),
                states: states.clone(),
                was_up: false,
                began: Mono(0),
                behind: Mono(0),
                dated: false,
                heard: false,
            };
            let thread = std::thread::Builder::new()
                .name("dns".to_owned())
                .spawn(move || {
                    reader.read(&spec, &config, &*outside, &stop);
                    drop(alive);
                })
                .context("cannot start a log reader")?;
            drop(thread);
        }
        Ok(readers)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.stop.raise();
        if self.ended.recv_timeout(END_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::error!("a DNS source does not let go; it ends with the process");
        }
    }
}

impl Reader {
    /// Reads until it is time to stop. A panic over a line ends neither the source nor us.
    fn read(
        &mut self,
        spec: &dns::Spec,
        config: &SpawnConfig,
        outside: &dyn dns::Outside,
        stop: &Stop,
    ) {
        while !stop.is_raised() {
            let run = AssertUnwindSafe(|| dns::run(spec, config, outside, stop, self));
            if catch_unwind(run).is_err() {
                dns::Sink::down(self, "its reader panicked and starts again");
            }
            stop.wait(PANIC_PAUSE);
        }
    }
}

impl Reader {
    /// True if the asker's address was another container's at that moment: the present one is not to inherit that.
    fn was_another(&self, record: &Record, asked: Wall) -> bool {
        record.client.is_some_and(|client| books(&self.shared).was_anothers(client, asked))
    }
}

impl Reader {
    /// Nobody knows when it was asked: what is known already grows no younger by it.
    fn date_by_registry(&self, record: &mut Record) {
        let known = self.shared.engine.registry().names(record.address);
        if let Some(seen) = known.into_iter().find(|seen| seen.name == record.name) {
            record.time = Wall(u64::from(seen.last) * 1_000_000);
        }
    }

    /// Measures how long a record took: since its line was logged, where that is known, and as long as a packet waited
    /// for it, or came too late for.
    fn measure(&mut self, logged: Option<Wall>, waited: Option<Duration>) {
        if !self.was_up {
            return;
        }
        let (mono, wall) = (clock::mono(), clock::wall());
        self.dated |= logged.is_some();
        let took =
            logged.and_then(|logged| wall.0.checked_sub(logged.0)).map(Duration::from_micros);
        if let Some(took) = took.filter(|took| *took <= DELAY_MAX) {
            self.health.delays.observe(took, mono);
        }
        if let Some(waited) = waited {
            self.health.delays.observe_wait(waited, mono);
        }
    }
}

impl dns::Sink for Reader {
    fn behind(&mut self) {
        self.behind = clock::mono();
        self.health.fell_behind(self.behind);
    }

    fn looking(&mut self) {
        self.began = clock::mono();
    }

    fn looked(&mut self) {
        self.health.looked(self.began);
    }

    fn patience(&self) -> Option<Duration> {
        self.health.delays.is_known(clock::mono()).then_some(LOOK_TICK)
    }

    fn disk(&mut self, disk: Disk) {
        if self.health.set_disk(disk, clock::mono()) {
            let what = match disk {
                Disk::Fine => "can be written again",
                Disk::Full => "cannot be written: its disk is full",
                Disk::ReadOnly => "cannot be written: its disk is read-only",
            };
            let message = format!("DNS source {} {what}", self.health.label);
            self.shared.report_health("source", disk == Disk::Fine, message);
        }
    }

    fn answer(&mut self, answer: Answer<'_>) {
        // One reading of the clock for all that follows: a replay puts packets and records in this order.
        let at = clock::now();
        let now = at.wall;
        let history = !self.was_up;
        let undated = history && answer.logged.is_none();
        let logged = answer.logged;
        let Some(mut record) = answer.to_record(now) else { return };
        if undated {
            self.date_by_registry(&mut record);
        }
        // What a file held before us may have been asked for at any time.
        let asked = if undated { Wall(0) } else { record.time };
        let late = history || now.0.saturating_sub(asked.0) > LATE_US;
        if late && self.was_another(&record, asked) {
            record.client = None;
        }
        let engine = &self.shared.engine;
        let recorded = match undated {
            true => engine.recall(&record, at),
            false => engine.record(&record, at),
        };
        self.measure(logged, recorded.waited);
        if let Inserted::Rejected(inside) = recorded.inserted {
            // What was logged before us was told when it was read first.
            if !history {
                self.shared.alerts.rejected(&record, inside, &self.shared);
            }
            return;
        }
        self.shared.deliver(recorded.released);
        let accepted = |(src, dst)| {
            self.shared.engine.outlook(src, dst, clock::now()) == Some(Verdict::Accept)
        };
        self.shared.denied.resolved(record.address, accepted);
        if self.shared.engine.unblocks(&record) {
            // What does not fit waits for its next answer.
            self.shared.orders.put(Order::Named(record.address));
        }
        if self.shared.engine.lists().refuses_address(record.address) {
            for container in self.shared.engine.owners().admitted_by(&record) {
                self.shared.roster.put(Note::Admitted((container, record.address)));
            }
        }
        if recorded.is_news {
            let body = Body::Record(RecordBody::from(&record));
            self.shared.events.send(Event { time: now, body });
        }
    }

    fn lines(&mut self, batch: Batch) {
        self.heard |= batch.lines > 0;
        if self.health.count(batch, clock::now()) {
            let message = format!("{}: dnsmasq lost {} log lines", self.health.label, batch.lost);
            self.shared.report_health("source", false, message);
        }
    }

    fn caught_up(&mut self) {
        let now = clock::mono();
        self.health.caught_up(now);
        // Of a dnsmasq that only we ask nothing is measured: it would have its reader look all the time.
        let heard = std::mem::take(&mut self.heard);
        if self.was_up && !self.dated && heard {
            self.health.delays.observe(now.since(self.behind), now);
        }
    }

    fn unanswered(&mut self, questions: u32) {
        let label = &self.health.label;
        let Some(answers) = self.health.set_unanswered(questions) else { return };
        let message = match answers {
            true => format!("DNS source {label}: dnsmasq answers again"),
            false => format!(
                "DNS source {label}: dnsmasq did not answer {questions} questions in a row, so containers resolve nothing"
            ),
        };
        self.shared.report_health("source", answers, message);
    }

    fn note(&mut self, what: &str) {
        let message = format!("DNS source {}: {what}", self.health.label);
        self.shared.report_health("source", self.health.is_up(), message);
    }

    fn up(&mut self) {
        self.health.mark_up(clock::mono());
        if !std::mem::replace(&mut self.was_up, true) {
            self.shared.report_health(
                "source",
                true,
                format!("DNS source {} is read", self.health.label),
            );
        }
        let _ = self.states.send(SourceState { label: self.health.label.clone(), down: None });
    }

    fn down(&mut self, why: &str) {
        self.was_up = false;
        self.health.mark_down();
        self.shared.report_health(
            "source",
            false,
            format!("DNS source {} is down: {why}", self.health.label),
        );
        // Nobody listens once the daemon is up.
        let _ = self
            .states
            .send(SourceState { label: self.health.label.clone(), down: Some(why.to_owned()) });
    }
}
