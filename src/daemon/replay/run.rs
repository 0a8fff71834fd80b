//! One run of the engine over what happened, with settings of one's choice.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::timeline::{Item, Moment, Packet, Said, Told};
use super::world::{Outcome, World};
use crate::engine::event::ContainerBody;
use crate::engine::inventory::What;
use crate::engine::owner::{Owner, Owners};
use crate::engine::policy::Policy;
use crate::engine::wish::Refusal;
use crate::engine::{Grade, Name, Reason, Settings, Verdict, Wall};

/// Threads read the clock before they look: a record that a packet was accepted by may bear a later time than it, by as
/// long as a busy machine keeps a thread from running.
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
    /// What decides.
    pub settings: Settings,
    /// What decided when the logs were written.
    pub recorded: Settings,
    /// Fills the registry before anything happens.
    pub prepare: &'a dyn Fn(&World),
    /// Answers that are told to the microsecond.
    pub told: &'a Told,
}

/// What became of each packet, in the order of the packets; nothing for a copy of one that waited.
pub fn run(moments: &[Moment], setup: &Setup<'_>) -> Vec<Option<Got>> {
    let start = moments.first().map_or(Wall(0), |moment| moment.at);
    let mut run = Run {
        world: World::new(setup.settings, start),
        setup,
        containers: BTreeMap::new(),
        tenants: HashMap::new(),
        packets: Vec::new(),
    };
    (setup.prepare)(&run.world);
    let established = moments.iter().filter_map(established);
    run.world.engine().set_established(established, run.world.now().mono);
    for (place, moment) in moments.iter().enumerate() {
        run.world.advance(moment.at);
        run.take(&moment.item, moments.get(place + 1..).unwrap_or_default());
    }
    run.world.finish();
    run.results()
}

/// A pair that had a flow at a first start.
fn established(moment: &Moment) -> Option<(IpAddr, IpAddr)> {
    let Item::Packet(packet) = &moment.item else { return None };
    let was = packet.said.as_ref().is_some_and(|said| said.reason == Reason::Established);
    was.then(|| (packet.flow.src.ip(), packet.flow.dst.ip()))
}

struct Run<'a> {
    world: World,
    setup: &'a Setup<'a>,
    containers: BTreeMap<Arc<str>, ContainerBody>,
    /// Who had an address last.
    tenants: HashMap<IpAddr, Arc<str>>,
    packets: Vec<Judged>,
}

/// Where a packet's verdict comes from.
enum Judged {
    /// The engine, under this number.
    Here(usize),
    /// The user's lists and other things that are not replayed.
    AsThen(Got),
}

impl Run<'_> {
    fn take(&mut self, item: &Item, next: &[Moment]) {
        match item {
            Item::Ready(ready) => self.begin(ready.records == 0),
            Item::Health(why) => self.world.set_trouble(why.as_deref()),
            Item::Container(body) => self.container(body),
            Item::Record(record) => self.world.record(record),
            Item::Line(line) => {
                let told = self.setup.told;
                self.world.line_unless(line, |record| told.has(record));
            }
            Item::Packet(packet) => self.packet(packet, next),
        }
    }

    /// synhold started, with an empty registry or with what it knew.
    fn begin(&mut self, empty: bool) {
        let engine = self.world.engine();
        if empty {
            for address in engine.registry().addresses() {
                engine.registry().forget(address);
            }
            engine.begin_grace(self.world.now().mono);
        }
    }

    fn packet(&mut self, packet: &Packet, next: &[Moment]) {
        if let Some(got) = packet.said.as_ref().and_then(as_then) {
            return self.packets.push(Judged::AsThen(got));
        }
        self.settle_race(packet, next);
        let said_bound = packet.said.as_ref().map(|said| said.bound).filter(|it| !it.is_zero());
        let (ours, theirs) = (&self.setup.settings, &self.setup.recorded);
        let same_hold = (ours.bounds.hold, ours.evidence.adaptive)
            == (theirs.bounds.hold, theirs.evidence.adaptive);
        self.world.engine().cap_hold(said_bound.filter(|_| same_hold));
        let ticket = self.world.packet(packet.flow);
        self.packets.push(Judged::Here(ticket));
    }

    /// Takes in ahead of its time the record by which this packet was accepted at once.
    fn settle_race(&mut self, packet: &Packet, next: &[Moment]) {
        let resolved = |said: &Said| said.reason == Reason::Resolved;
        if !packet.said.as_ref().is_some_and(resolved) {
            return;
        }
        let (src, dst, now) = (packet.flow.src.ip(), packet.flow.dst.ip(), self.world.now());
        if self.world.engine().outlook(src, dst, now).is_some() {
            return;
        }
        let soon = next.iter().take_while(|moment| moment.at.0 <= now.wall.0 + RACE_US);
        let record = soon.filter_map(|moment| match &moment.item {
            Item::Record(record) if record.address == dst => Some(record),
            _ => None,
        });
        if let Some(record) = record.into_iter().next() {
            self.world.record(record);
        }
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
                self.world.engine().registry().forget_askers(&heirs);
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
        let (ours, theirs) = (&self.setup.settings, &self.setup.recorded);
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

    fn results(self) -> Vec<Option<Got>> {
        let Run { world, packets, .. } = self;
        let got = |judged| match judged {
            Judged::AsThen(got) => Some(got),
            Judged::Here(ticket) => match world.outcome(ticket)? {
                Outcome::Copy => None,
                Outcome::Decided(decision) => Some(Got {
                    verdict: decision.verdict,
                    reason: decision.reason,
                    grade: decision.grade,
                    held: decision.held,
                    names: decision.known.names.clone(),
                }),
            },
        };
        packets.into_iter().map(got).collect()
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
