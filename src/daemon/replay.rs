//! Replays a saved log of DNS answers and a log of flows through the engine, offline, in virtual time.
//!
//! An event log has all it takes: packets with the moment of their decision, records as they came, containers, and the
//! settings of then. Other logs have less: a DNS log tells whole seconds, and a flow comes after what the same second says.

mod read;
mod report;
mod run;
mod timeline;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::engine::Wall;
use crate::engine::sieve::Sieve;
use crate::store;
use timeline::{Item, Moment, Packet, Timeline};

pub(super) use read::each_event;
pub use report::{Change, Column, Difference, Report, Word};
pub use run::Got;
pub use world::{Outcome, World};

/// What is replayed, and how.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// Event logs of ours.
    pub events: Vec<PathBuf>,
    /// Logs of dnsmasq.
    pub dns_logs: Vec<PathBuf>,
    /// Logs of flows.
    pub flows: Vec<PathBuf>,
    /// A registry as it was before.
    pub registry: Option<PathBuf>,
    /// Settings that take the place of those the event log tells.
    pub set: BTreeMap<String, String>,
    /// Settings to compare with, each a change to those.
    pub compare: Vec<BTreeMap<String, String>>,
}

/// Reads the logs and replays them.
///
/// # Errors
/// In one line: a log that cannot be read or holds nothing, settings that cannot be.
pub fn replay(request: &Request) -> Result<Report> {
    ensure!(
        !(request.events.is_empty() && request.flows.is_empty()),
        "nothing to judge: give --events (a log of synhold's) or --flows"
    );
    let mut timeline = Timeline::default();
    for path in &request.events {
        read::events(path, &mut timeline)?;
    }
    for path in &request.dns_logs {
        read::dns_log(path, &mut timeline)?;
    }
    for path in &request.flows {
        read::flows(path, &mut timeline)?;
    }
    let start = timeline.start().context("the logs are empty")?;
    let (told, skipped, cut) = (timeline.told(), timeline.skipped.clone(), timeline.cut);
    let moments = timeline.in_order();
    let recorded = written(&moments);
    let prepare = |world: &World| load_registry(request, world, start);
    let judge = |change: &BTreeMap<String, String>| {
        let mut all = request.set.clone();
        all.extend(change.clone());
        let setup =
            run::Setup { recorded: &recorded, change: &all, prepare: &prepare, told: &told };
        run::run(&moments, &setup)
    };
    let base = judge(&BTreeMap::new())?;
    let mut others = Vec::new();
    for change in &request.compare {
        let name: Vec<String> =
            change.iter().map(|(key, value)| format!("{key}={value}")).collect();
        others.push((name.join(" "), judge(change)?.got));
    }
    let packets: Vec<&Packet> = moments.iter().filter_map(packet).collect();
    let span = (start, moments.last().map_or(start, |moment| moment.at));
    let warnings = warnings(request, &moments, &recorded, cut);
    let report = Report::new(span, &packets, &base.got, &others, skipped);
    Ok(Report { warnings, reordered: base.reordered, ..report })
}

/// What a person should know before believing the rest.
fn warnings(
    request: &Request,
    moments: &[Moment],
    recorded: &BTreeMap<String, String>,
    cut: bool,
) -> Vec<String> {
    let mut warnings = Vec::new();
    let first = moments.iter().find_map(|moment| match &moment.item {
        Item::Ready(ready) => Some(ready),
        _ => None,
    });
    match first {
        None if !request.events.is_empty() => warnings.push(
            "no start of synhold is in the event log: its settings of then are not known, and what it knew is missing; the \
             defaults are taken (--set), and an empty registry (--registry)"
                .to_owned(),
        ),
        Some(ready) if ready.records > 0 && request.registry.is_none() => warnings.push(format!(
            "synhold knew {} addresses when it started: without them (--registry) what they were resolved by is missing",
            ready.records
        )),
        _ => {}
    }
    if recorded.contains_key("evidence-max-age") && request.dns_logs.is_empty() {
        warnings.push(
            "where evidence ages, the event log tells only now and then that it was seen again: give --dns-log too".to_owned(),
        );
    }
    if cut {
        warnings.push(
            "the logs hold more than is read at a time: what comes later is left out".to_owned(),
        );
    }
    warnings
}

fn packet(moment: &Moment) -> Option<&Packet> {
    match &moment.item {
        Item::Packet(packet) => Some(packet),
        _ => None,
    }
}

/// The settings of the first start in the logs; the defaults if none is.
fn written(moments: &[Moment]) -> BTreeMap<String, String> {
    let settings = moments.iter().find_map(|moment| match &moment.item {
        Item::Ready(ready) => Some(ready.settings.clone()),
        _ => None,
    });
    settings.unwrap_or_default()
}

fn load_registry(request: &Request, world: &World, start: Wall) -> Result<()> {
    let Some(path) = &request.registry else { return Ok(()) };
    ensure!(path.exists(), "cannot read {}: it is not there", path.display());
    let registry = world.engine().registry();
    // As it is in a state directory, or as it was exported.
    if path.is_dir() {
        // As of then: nothing is measured by the present.
        store::load(path, registry, &Sieve::new(None, start))?;
    } else {
        store::read_json(path, start, |address, saved| {
            registry.restore(address, &saved);
        })?;
    }
    Ok(())
}
