//! Replays a saved log of DNS answers and a log of flows through the engine, offline, in virtual time.
//!
//! An event log has all it takes: packets with the moment of their decision, records as they came, containers, and the
//! settings of then. Other logs have less: a DNS log tells whole seconds, and a flow comes after what the same second says.

mod read;
mod report;
mod run;
mod stamp;
mod timeline;
mod world;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};

use crate::config::settings::from_pairs;
use crate::engine::{Settings, Wall};
use crate::store;
use timeline::{Item, Moment, Packet, Timeline};

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
    let prepare = |world: &World| load(request, world, start);
    // A registry that cannot be read is told once, before anything is judged.
    load_registry(request, &World::new(Settings::default(), start), start)?;
    let settings = |change: &BTreeMap<String, String>| -> Result<Settings> {
        let mut pairs = recorded.clone();
        pairs.extend(request.set.clone());
        pairs.extend(change.clone());
        from_pairs(&pairs)
    };
    let theirs = from_pairs(&recorded).context("the settings in the event log")?;
    let judge = |settings: Settings| {
        let setup = run::Setup { settings, recorded: theirs, prepare: &prepare, told: &told };
        run::run(&moments, &setup)
    };
    let base = judge(settings(&BTreeMap::new())?);
    let mut others = Vec::new();
    for change in &request.compare {
        let name: Vec<String> =
            change.iter().map(|(key, value)| format!("{key}={value}")).collect();
        others.push((name.join(" "), judge(settings(change)?)));
    }
    let packets: Vec<&Packet> = moments.iter().filter_map(packet).collect();
    let span = (start, moments.last().map_or(start, |moment| moment.at));
    Ok(Report::new(span, &packets, &base, &others, skipped, cut))
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

fn load(request: &Request, world: &World, start: Wall) {
    // It was read once before.
    let _ = load_registry(request, world, start);
}

fn load_registry(request: &Request, world: &World, start: Wall) -> Result<()> {
    let Some(path) = &request.registry else { return Ok(()) };
    ensure!(path.exists(), "cannot read {}: it is not there", path.display());
    let registry = world.engine().registry();
    // As it is in a state directory, or as it was exported.
    if path.is_dir() {
        store::load(path, registry)?;
    } else {
        store::read_json(path, start, |address, saved| {
            registry.restore(address, &saved);
        })?;
    }
    Ok(())
}
