//! What is measured, asked for over HTTP: gathered from what threads count anyway, when somebody asks.

mod containers;
mod evidence;
mod ground;
mod verdicts;

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};

use super::clock;
use super::glance::{self, Ground};
use super::inspect::RulesState;
use super::shared::Shared;
use crate::config::Config;
use crate::engine::{Mode, Wall};
use crate::metrics::{Family, Labels, Server, Source, State};
use containers::Series;

/// Serves from now on, if that is wanted. Judging does not depend on it.
pub fn start(config: &Config, shared: &Arc<Shared>) -> Option<Server> {
    let at = config.desk.metrics?;
    let source = Meters {
        shared: Arc::clone(shared),
        since: clock::wall(),
        queues: config.rules.queues,
        series: Mutex::default(),
    };
    Server::start(at, Arc::new(source))
        .inspect_err(|error| {
            let message = format!("metrics are not served: {error}");
            shared.report_health("metrics", false, message);
        })
        .ok()
}

struct Meters {
    shared: Arc<Shared>,
    since: Wall,
    queues: u16,
    /// Which containers have series of their own.
    series: Mutex<Series>,
}

impl Source for Meters {
    fn families(&self) -> Vec<Family> {
        let shared = &self.shared;
        let mut series = self.series.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = self.own();
        all.extend(verdicts::families(shared, self.queues));
        all.extend(evidence::families(shared));
        all.extend(ground::families(shared));
        all.extend(containers::families(shared, &mut series));
        all
    }

    fn health(&self) -> State {
        let wrong = self.shared.pulse.silent(clock::mono());
        state(&wrong, "alive, and its threads move")
    }

    fn readiness(&self) -> State {
        let shared = &self.shared;
        let mut wrong = Vec::new();
        if !shared.pulse.serving.load(Relaxed) {
            wrong.push("no verdicts are given".to_owned());
        }
        wrong.extend(self.on_ground(|ground| ground.faults()));
        let evidence = shared.engine.evidence(clock::now());
        if !evidence.healthy {
            wrong.push(format!("the evidence is not healthy: {}", evidence.why.join(", ")));
        }
        let mode = match shared.present_mode() {
            Mode::Enforce => "enforcing",
            Mode::DryRun => "ready, in a dry run: nothing is refused",
            Mode::Learn => "ready, learning: nothing is refused for want of evidence",
        };
        state(&wrong, mode)
    }

    fn listens(&self, at: SocketAddr, error: Option<&io::Error>) {
        match error {
            None => {
                let exposed = exposure(at);
                if let Some(exposed) = exposed {
                    tracing::warn!("metrics on {at}: {exposed}");
                }
                let mut message = format!("metrics are served on http://{at}/metrics");
                message.extend(exposed.map(|exposed| format!("; {exposed}")));
                self.shared.report_health("metrics", true, message);
            }
            Some(error) => {
                let message =
                    format!("metrics cannot be served on {at}, which is tried again: {error}");
                self.shared.report_health("metrics", false, message);
            }
        }
    }
}

/// What to say of an address that others than this host may reach.
fn exposure(at: SocketAddr) -> Option<&'static str> {
    let text = "who reaches this address, containers too, reads which there are and what is refused: nobody is asked who \
                they are, so keep others out with a firewall";
    (!at.ip().to_canonical().is_loopback()).then_some(text)
}

impl Meters {
    /// What refusing stands on, as a status has it too.
    fn on_ground<A>(&self, ask: impl FnOnce(Ground<'_>) -> A) -> A {
        let shared = &self.shared;
        let (queues, canary) = (glance::queues(shared), shared.canary().clone());
        let rules = shared.rules.state().map(RulesState::as_str);
        ask(Ground { mode: shared.present_mode(), rules, queues: &queues, canary: &canary })
    }

    /// What it is and whether it does its work.
    fn own(&self) -> Vec<Family> {
        let present = self.shared.present_mode();
        let mode = |(mode, word): (Mode, &'static str)| {
            (label("mode", word), f64::from(u8::from(mode == present)))
        };
        let modes = [(Mode::Enforce, "enforce"), (Mode::DryRun, "dry-run"), (Mode::Learn, "learn")]
            .map(mode);
        let enforcing = self.on_ground(|ground| ground.is_enforcing());
        let version = label("version", env!("CARGO_PKG_VERSION"));
        vec![
            Family::info("build", "Which synhold this is", version),
            Family::gauge("start_time", "When it began, since the Unix epoch", seconds(self.since))
                .in_unit(crate::metrics::Unit::Seconds),
            Family::gauges("mode", "1 for the mode it is in", modes),
            Family::flag(
                "enforcing",
                "What is to be refused is refused, as `synhold status` says: by mode, rules, queues and canary",
                enforcing,
            ),
            Family::flag("ready", "What /readyz says", self.readiness().ok),
            Family::flag("healthy", "What /healthz says", self.health().ok),
        ]
    }
}

fn state(wrong: &[String], well: &str) -> State {
    let ok = wrong.is_empty();
    State { ok, message: if ok { well.to_owned() } else { wrong.join("; ") } }
}

fn label(key: &'static str, value: impl Into<std::borrow::Cow<'static, str>>) -> Labels {
    vec![(key, value.into())]
}

#[expect(clippy::cast_precision_loss, reason = "a metric is a floating point number")]
fn real(number: u64) -> f64 {
    number as f64
}

fn whole(number: usize) -> f64 {
    real(u64::try_from(number).unwrap_or(u64::MAX))
}

/// Microseconds as seconds.
fn micros(us: u64) -> f64 {
    real(us) / 1e6
}

fn seconds(time: Wall) -> f64 {
    micros(time.0)
}

#[cfg(test)]
#[path = "metrics_test.rs"]
mod tests;
