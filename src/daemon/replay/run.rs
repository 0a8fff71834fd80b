//! One run of the engine over what happened, with settings of one's choice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};

use super::timeline::{Item, Moment, Packet, Said, Told};
use super::world::{Outcome, World};
use crate::config::settings::from_pairs;
use crate::engine::event::{ContainerBody, Ready};
use crate::engine::inventory::What;
use crate::engine::owner::{Owner, Owners};
use crate::engine::policy::Policy;
use crate::engine::wish::Refusal;
use crate::engine::{Grade, Name, Reason, Record, Settings, Verdict, Wall};

/// A thread reads the clock before it looks, or writes, so what two of them do at once may bear the times in the other
/// order: by as long as a busy machine keeps a thread from running. What is recorded says which was first.
const RACE_US: u64 = 50_000;

/// What became of a packet in a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Got {
    /// Accept or drop.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// How good the evidence was.
    pub grade: Grade,
    /// How long it was held.
    pub held: Duration,
    /// Names known for the destination.
    pub names: Vec<Name>,
}

/// How a run is set up.
pub struct Setup<'a> {
    /// The settings of the first start in the logs, as it told them.
    pub recorded: &'a BTreeMap<String, String>,
    /// What takes the place of what was set.
    pub change: &'a BTreeMap<String, String>,
    /// Fills the registry before anything happens.
    pub prepare: &'a dyn Fn(&World) -> Result<()>,
    /// Answers that are told to the microsecond.
    pub told: &'a Told,
}

/// What came of a run.
pub struct Ran {
    /// What became of each packet, in the order of the packets; nothing for a copy of one that waited.
    pub got: Vec<Option<Got>>,
    /// Packets that what was recorded put before or after a record of the same moment.
    pub reordered: u64,
}

impl Setup<'_> {
    /// What decided after a start that told these settings, and what decides here.
    ///
    /// # Errors
    /// In one line.
    pub fn settings(&self, recorded: &BTreeMap<String, String>) -> Result<(Settings, Settings)> {
        let theirs = from_pairs(recorded).context("the settings in the event log")?;
        let mut pairs = recorded.clone();
        pairs.extend(self.change.clone());
        Ok((theirs, from_pairs(&pairs)?))
    }
}

/// Runs.
///
/// # Errors
/// If settings that are told or asked for cannot be.
pub fn run(moments: &[Moment], setup: &Setup<'_>) -> Result<Ran> {
    let start = moments.first().map_or(Wall(0), |moment| moment.at);
    let (theirs, ours) = setup.settings(setup.recorded)?;
    let mut run = Run {
        world: World::new(ours, start),
        theirs,
        setup,
        established: moments.iter().filter_map(established).collect(),
        containers: BTreeMap::new(),
        tenants: HashMap::new(),
        packets: BTreeMap::new(),
        reordered: 0,
    };
    (setup.prepare)(&run.world)?;
    run.remember_established();
    for (place, moment) in moments.iter().enumerate() {
        run.world.advance(moment.at);
        run.take(place, &moment.item, moments)?;
    }
    run.world.finish();
    run.settle();
    let got = run.packets.into_values().map(|judged| match judged {
        Judged::Done(got) => got,
        Judged::Here(_) => None,
    });
    Ok(Ran { got: got.collect(), reordered: run.reordered })
}

/// A pair that had a flow at a first start.
fn established(moment: &Moment) -> Option<(IpAddr, IpAddr)> {
    let Item::Packet(packet) = &moment.item else { return None };
    let was = packet.said.as_ref().is_some_and(|said| said.reason == Reason::Established);
    was.then(|| (packet.flow.src.ip(), packet.flow.dst.ip()))
}

/// What comes within the time by which threads may be apart, with its places.
fn soon(place: usize, moments: &[Moment]) -> impl Iterator<Item = (usize, &Moment)> {
    let end = moments.get(place).map_or(0, |moment| moment.at.0 + RACE_US);
    let later = moments.iter().enumerate().skip(place + 1);
    later.take_while(move |(_, moment)| moment.at.0 <= end)
}

struct Run<'a> {
    world: World,
    /// What decided then.
    theirs: Settings,
    setup: &'a Setup<'a>,
    /// Source and destination of flows that were open at a first start.
    established: Vec<(IpAddr, IpAddr)>,
    containers: BTreeMap<Arc<str>, ContainerBody>,
    /// Who had an address last.
    tenants: HashMap<IpAddr, Arc<str>>,
    /// By their places among the moments.
    packets: BTreeMap<usize, Judged>,
    reordered: u64,
}

/// Where a packet's verdict comes from.
enum Judged {
    /// The engine, under this number.
    Here(usize),
    /// It is known: lists and other things that are not replayed decided, or an engine that is gone.
    Done(Option<Got>),
}

impl Run<'_> {
    fn take(&mut self, place: usize, item: &Item, moments: &[Moment]) -> Result<()> {
        match item {
            Item::Ready(ready) => self.begin(ready)?,
            Item::Health(why) => self.world.set_trouble(why.as_deref()),
            Item::Container(body) => self.container(body),
            Item::Record(record) => {
                self.judge_those_before(record, place, moments);
                self.world.record(record);
            }
            Item::Line(line) => {
                let told = self.setup.told;
                self.world.line_unless(line, |record| told.has(record));
            }
            Item::Packet(packet) => {
                self.take_records_before(packet, soon(place, moments));
                self.judge(place, packet);
            }
        }
        Ok(())
    }

    /// synhold started, with these settings, and with an empty registry or with what it knew.
    fn begin(&mut self, ready: &Ready) -> Result<()> {
        let (theirs, ours) = self.setup.settings(&ready.settings)?;
        if ours != *self.world.engine().settings() {
            self.start_anew(ours);
        }
        self.theirs = theirs;
        let engine = self.world.engine();
        if ready.records == 0 {
            for address in engine.registry().addresses() {
                engine.registry().forget(address);
            }
            engine.begin_grace(self.world.now().mono);
        }
        Ok(())
    }

    /// Another engine takes over what is known.
    fn start_anew(&mut self, settings: Settings) {
        let at = self.world.now().wall;
        self.world.finish();
        self.settle();
        let next = World::new(settings, at);
        let (old, new) = (self.world.engine().registry(), next.engine().registry());
        for address in old.addresses() {
            if let Some(saved) = old.saved(address) {
                new.restore(address, &saved);
            }
        }
        self.world = next;
        self.remember_established();
        let owners = self.owners();
        self.world.set_owners(owners);
    }

    fn remember_established(&self) {
        let pairs = self.established.iter().copied();
        self.world.engine().set_established(pairs, self.world.now().mono);
    }

    /// Notes what became of the packets of this engine.
    fn settle(&mut self) {
        for judged in self.packets.values_mut() {
            if let Judged::Here(ticket) = judged {
                *judged = Judged::Done(got(&self.world, *ticket));
            }
        }
    }

    fn judge(&mut self, place: usize, packet: &Packet) {
        if self.packets.contains_key(&place) {
            return;
        }
        if let Some(got) = packet.said.as_ref().and_then(as_then) {
            self.packets.insert(place, Judged::Done(Some(got)));
            return;
        }
        let said_bound = packet.said.as_ref().map(|said| said.bound).filter(|it| !it.is_zero());
        let (ours, theirs) = (self.world.engine().settings(), &self.theirs);
        let same_hold = (ours.bounds.hold, ours.evidence.adaptive)
            == (theirs.bounds.hold, theirs.evidence.adaptive);
        self.world.engine().cap_hold(said_bound.filter(|_| same_hold));
        let ticket = self.world.packet(packet.flow);
        self.packets.insert(place, Judged::Here(ticket));
    }

    /// Judges packets that come a moment later and were, as is recorded, judged without this record.
    fn judge_those_before(&mut self, record: &Record, place: usize, moments: &[Moment]) {
        for (ahead, moment) in soon(place, moments) {
            let Item::Packet(packet) = &moment.item else { continue };
            let Some(said) = packet.said.as_ref() else { continue };
            if packet.flow.dst.ip() != record.address {
                continue;
            }
            let (grade, decided) = self.present(packet);
            let at_once = said.bound.is_zero() && decided && grade == said.grade;
            let released = said.reason == Reason::ResolvedAfterHold && !decided;
            if at_once || (released && said.at.0 <= moment.at.0 + RACE_US) {
                self.reordered += u64::from(!self.packets.contains_key(&ahead));
                self.judge(ahead, packet);
            }
        }
    }

    /// Takes in ahead of their time the records by which this packet was, as is recorded, accepted at once.
    fn take_records_before<'m>(
        &mut self,
        packet: &Packet,
        soon: impl Iterator<Item = (usize, &'m Moment)>,
    ) {
        let Some(said) = packet.said.as_ref().filter(|said| said.reason == Reason::Resolved) else {
            return;
        };
        for (_, moment) in soon {
            if self.present(packet).0 == said.grade {
                return;
            }
            if let Item::Record(record) = &moment.item
                && record.address == packet.flow.dst.ip()
            {
                self.reordered += 1;
                self.world.record(record);
            }
        }
    }

    /// The grade of a packet's evidence now, and whether it would be decided at once.
    fn present(&self, packet: &Packet) -> (Grade, bool) {
        let (src, dst, now) = (packet.flow.src.ip(), packet.flow.dst.ip(), self.world.now());
        let engine = self.world.engine();
        (engine.grade(src, dst, now), engine.outlook(src, dst, now).is_some())
    }

    fn container(&mut self, body: &ContainerBody) {
        match body.what {
            What::Up | What::Changed => {
                let heirs: BTreeSet<IpAddr> = body
                    .addresses
                    .iter()
                    .filter(|address| {
                        let before = self.tenants.insert(**address, Arc::clone(&body.container_id));
                        before.is_some_and(|before| before != body.container_id)
                    })
                    .copied()
                    .collect();
                self.world.engine().forget_clients(&heirs);
                self.containers.insert(Arc::clone(&body.container_id), body.clone());
            }
            What::Gone => {
                self.containers.remove(&body.container_id);
            }
        }
        let owners = self.owners();
        self.world.set_owners(owners);
    }

    fn owners(&self) -> Owners {
        let mut by_address = HashMap::new();
        for body in self.containers.values() {
            let owner = Arc::new(self.owner(body));
            by_address.extend(body.addresses.iter().map(|at| (*at, Arc::clone(&owner))));
        }
        Owners::new(by_address, Vec::new())
    }

    /// A container as it was treated, but for what the settings change for all.
    fn owner(&self, body: &ContainerBody) -> Owner {
        let (ours, theirs) = (self.world.engine().settings(), &self.theirs);
        let hold = Duration::from_millis(body.hold_ms);
        let scope = if body.scope == theirs.scope { ours.scope } else { body.scope };
        let hold = if hold == theirs.bounds.hold { ours.bounds.hold } else { hold };
        let policy = Policy { mode: body.mode, scope, hold, ..Policy::new(ours, Refusal::Reset) };
        Owner {
            id: Arc::clone(&body.container_id),
            name: Arc::clone(&body.container),
            image: Arc::clone(&body.image),
            policy: Arc::new(policy),
            tally: Arc::default(),
        }
    }
}

/// What became of a packet of this world.
fn got(world: &World, ticket: usize) -> Option<Got> {
    match world.outcome(ticket)? {
        Outcome::Copy => None,
        Outcome::Decided(decision) => Some(Got {
            verdict: decision.verdict,
            reason: decision.reason,
            grade: decision.grade,
            held: decision.held,
            names: decision.known.names.clone(),
        }),
    }
}

/// What lists, a container's mode and a stop decided is taken over: none of them is in the logs.
fn as_then(said: &Said) -> Option<Got> {
    let kept = matches!(
        said.reason,
        Reason::Allowlisted | Reason::Blocklisted | Reason::Exempt | Reason::Shutdown
    );
    let Said { verdict, reason, grade, ref names, bound, .. } = *said;
    kept.then(|| Got { verdict, reason, grade, held: bound, names: names.clone() })
}

#[cfg(test)]
#[path = "run_test.rs"]
mod tests;
