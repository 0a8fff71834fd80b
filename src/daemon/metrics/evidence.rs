//! The evidence: each source, the hold that follows from it, and the registry.

use std::collections::HashMap;

use super::{label, micros, real, whole};
use crate::daemon::clock;
use crate::daemon::shared::Shared;
use crate::engine::health::SourceState;
use crate::metrics::{Family, Labels, Unit};

pub fn families(shared: &Shared) -> Vec<Family> {
    let now = clock::now();
    let evidence = shared.engine.evidence(now);
    let mut all = vec![
        Family::flag(
            "evidence_healthy",
            "The absence of a record proves something",
            evidence.healthy,
        ),
        Family::gauge(
            "evidence_lag",
            "From a log line being there to its record being applied, of the slowest source",
            micros(evidence.lag_us),
        )
        .in_unit(Unit::Seconds),
        Family::gauge(
            "hold_bound",
            "How long a packet is held at most at this moment",
            micros(shared.engine.hold_now(now.mono)),
        )
        .in_unit(Unit::Seconds),
    ];
    all.extend(sources(&shared.engine.source_states(now)));
    all.extend(registry(shared));
    all
}

/// Each source by the words it was configured with; the second of the same words is told apart.
fn sources(states: &[SourceState]) -> Vec<Family> {
    let mut seen: HashMap<&str, u32> = HashMap::new();
    let mut named: Vec<(Labels, &SourceState)> = Vec::new();
    for state in states {
        let times = seen.entry(&state.label).or_default();
        *times += 1;
        let name = match *times {
            1 => state.label.clone(),
            times => format!("{} ({times})", state.label),
        };
        named.push((label("source", name), state));
    }
    let gauge = |name, help, of: fn(&SourceState) -> f64| {
        Family::gauges(name, help, named.iter().map(|(labels, state)| (labels.clone(), of(state))))
    };
    let counter = |name, help, of: fn(&SourceState) -> u64| {
        Family::counters(
            name,
            help,
            named.iter().map(|(labels, state)| (labels.clone(), of(state))),
        )
    };
    let asked = named
        .iter()
        .filter_map(|(labels, state)| Some((labels.clone(), f64::from(state.unanswered?))));
    let what = "Questions of ours in a row that our own dnsmasq did not answer";
    vec![
        Family::gauges("source_unanswered_questions", what, asked),
        gauge("source_up", "The source is open", |state| f64::from(u8::from(state.up))),
        gauge("source_healthy", "There is no doubt about the source", |state| {
            f64::from(u8::from(state.doubt.is_none()))
        }),
        gauge("source_lag", "From a log line being there to its record being applied", |state| {
            micros(state.lag_us)
        })
        .in_unit(Unit::Seconds),
        counter("source_lines", "Log lines read", |state| state.lines),
        counter("source_records", "Answers to A and AAAA queries among them", |state| {
            state.records
        }),
        counter(
            "source_skipped_lines",
            "Log lines that gave nothing though they should have",
            |state| state.skipped,
        ),
        counter("source_lost_lines", "Log lines known to be lost", |state| state.lost),
    ]
}

fn registry(shared: &Shared) -> Vec<Family> {
    let stats = shared.engine.registry().stats();
    vec![
        Family::gauge("registry_addresses", "Addresses known", whole(stats.addresses)),
        Family::gauge(
            "registry_addresses_limit",
            "Addresses there may be",
            whole(stats.limits.addresses),
        ),
        Family::gauge(
            "registry_names",
            "Names known, those of CNAME chains included",
            whole(stats.names),
        ),
        Family::gauge("registry_askers", "Clients of whom something is known", whole(stats.askers)),
        Family::gauge(
            "registry_memory",
            "Memory of the registry, by its own estimate",
            real(stats.bytes),
        )
        .in_unit(Unit::Bytes),
        Family::flag(
            "registry_full",
            "The registry takes no more addresses",
            shared.engine.registry().is_full(),
        ),
        Family::flag(
            "registry_disk_ok",
            "What is learned reaches the disk, or is not meant to",
            shared.disk().ok,
        ),
    ]
}
