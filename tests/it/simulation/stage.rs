//! Plays a world to the engine and to the model, and compares them after every step.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use synhold::daemon::replay::{Outcome, World};
use synhold::engine::decision::Decision;
use synhold::engine::health::Batch;
use synhold::engine::lists::{DomainSet, Lists, Side};
use synhold::engine::owner::{Owner, Owners};
use synhold::engine::policy::Policy;
use synhold::engine::rebind::Rebinding;
use synhold::engine::wish::Refusal;
use synhold::engine::{Family, Flow, Name, Net, Reason, Settings, Verdict, Wall};

use super::START;
use super::cast::{Cast, HARDCODED, HOST, LOCAL_DOMAIN};
use super::model::{Fate, Model, Ruling};
use super::step::{Dated, Fault, Listing, Micros, Step, Tenant};

/// A packet the engine was given.
struct Sent {
    flow: Flow,
    at: Micros,
    fate: Option<Fate>,
}

/// One world on both stages.
pub struct Stage<'c> {
    cast: &'c Cast,
    world: World,
    model: Model,
    /// Every packet, in the order they came.
    sent: Vec<Sent>,
    /// The number of the first packet of this run of ours: the world counts from there.
    first: usize,
    trouble: bool,
    learning: bool,
    tenants: Vec<Tenant>,
    listing: Listing,
}

/// How long copies of a packet that was let through after a wait may still come.
const LINGER: Micros = 250_000;

/// How many packets met what.
pub type Tally = HashMap<String, usize>;

fn world(cast: &Cast, at: Micros) -> World {
    let world = World::new(cast.settings, START + Duration::from_micros(at));
    let local_domains: DomainSet = [Name::new(LOCAL_DOMAIN).unwrap()].into_iter().collect();
    world.engine().set_rebinding(Rebinding { own: vec![HOST], local_domains });
    world
}

impl<'c> Stage<'c> {
    pub fn new(cast: &'c Cast) -> Stage<'c> {
        let world = world(cast, 0);
        world.engine().begin_grace(world.now().mono);
        world.engine().set_learning(cast.learning);
        let model = Model::new(cast.settings, cast.learning);
        let (sent, first, trouble, learning) = (Vec::new(), 0, false, cast.learning);
        let (tenants, listing) = Default::default();
        Stage { cast, world, model, sent, first, trouble, learning, tenants, listing }
    }

    /// One step on both; what they disagree about is the error.
    pub fn step(&mut self, dated: &Dated) -> Result<(), String> {
        let Dated { at, step } = dated;
        let id = self.sent.len();
        if let Step::Packet(flow, _) = step {
            self.sent.push(Sent { flow: *flow, at: *at, fate: None });
        }
        let fates = self.model.step(*at, step, id);
        self.world.advance(START + Duration::from_micros(*at));
        if let Step::Restart = step {
            self.restart(*at, &fates)?;
        } else {
            self.act(step, id);
            for (id, fate) in fates {
                self.agree(id, fate)?;
            }
        }
        self.invariants()
    }

    fn act(&mut self, step: &Step, id: usize) {
        let now = self.world.now();
        match step {
            Step::Line(line) => self.world.line(line.text.as_bytes()),
            Step::Packet(flow, _) => {
                let ticket = self.world.packet(*flow);
                assert_eq!(ticket + self.first, id);
            }
            Step::Owners { tenants, gone } => {
                self.world.engine().registry().forget_askers(&gone.iter().copied().collect());
                self.tenants.clone_from(tenants);
                self.world.set_owners(owners(&self.tenants, &self.cast.settings));
            }
            Step::Lists(listing) => {
                self.listing = listing.clone();
                self.world.set_lists(lists(listing));
            }
            Step::Source(fault) => self.suffer(*fault),
            Step::Trouble(on) => {
                self.trouble = *on;
                self.world.set_trouble(on.then_some("something is wrong"));
            }
            Step::Learning(on) => {
                self.learning = *on;
                self.world.engine().set_learning(*on);
            }
            Step::Established(pairs) => {
                self.world.engine().set_established(pairs.iter().copied(), now.mono);
            }
            Step::Restart | Step::Pause => {}
        }
    }

    fn suffer(&self, fault: Fault) {
        let (source, now) = (self.world.source(), self.world.now());
        match fault {
            Fault::Down => source.mark_down(),
            Fault::Up => source.mark_up(now.mono),
            Fault::Lost => drop(source.count(Batch { lost: 1, ..Batch::default() }, now)),
            Fault::Behind => source.fell_behind(now.mono),
            Fault::CaughtUp => source.caught_up(now.mono),
        }
    }

    /// Everything that waits is answered, and a new engine gets the registry of the old one.
    fn restart(&mut self, at: Micros, fates: &[(usize, Fate)]) -> Result<(), String> {
        // What came to its end before the restart was decided by its time.
        let is_last = |fate: &Fate| matches!(fate, Fate::Decided(ruling) if ruling.reason == Reason::Shutdown);
        let (ended, earlier): (Vec<_>, Vec<_>) =
            fates.iter().cloned().partition(|(_, fate)| is_last(fate));
        for (id, fate) in earlier {
            self.agree(id, fate)?;
        }
        let now = self.world.now();
        let answers = self.world.engine().drain(0, Verdict::Drop, now);
        if answers.len() != ended.len() {
            return Err(format!("{} packets waited, not {}", answers.len(), ended.len()));
        }
        for (id, fate) in ended {
            let answer = answers.iter().find(|answer| answer.ticket + self.first == id);
            let seen = answer.map(|answer| Fate::Decided(ruling(&answer.decision)));
            self.compare(id, seen, fate)?;
        }
        let fresh = world(self.cast, at);
        let (old, new) = (self.world.engine().registry(), fresh.engine().registry());
        for address in old.addresses() {
            new.restore(address, &old.saved(address).unwrap());
        }
        if new.is_empty() {
            fresh.engine().begin_grace(fresh.now().mono);
        }
        fresh.engine().set_learning(self.learning);
        (self.world, self.first) = (fresh, self.sent.len());
        self.world.set_trouble(self.trouble.then_some("something is wrong"));
        self.world.set_owners(owners(&self.tenants, &self.cast.settings));
        self.world.set_lists(lists(&self.listing));
        Ok(())
    }

    fn agree(&mut self, id: usize, fate: Fate) -> Result<(), String> {
        let seen = id.checked_sub(self.first).and_then(|ticket| self.world.outcome(ticket));
        let seen = seen.map(|outcome| match outcome {
            Outcome::Copy => Fate::Copy,
            Outcome::Decided(decision) => Fate::Decided(ruling(decision)),
        });
        self.compare(id, seen, fate)
    }

    fn compare(&mut self, id: usize, seen: Option<Fate>, wanted: Fate) -> Result<(), String> {
        let sent = &mut self.sent[id];
        if sent.fate.is_some() {
            return Err(format!("{} is decided twice", sent.flow));
        }
        if seen.as_ref() != Some(&wanted) {
            let flow = sent.flow;
            return Err(format!("{flow}\n  engine: {seen:?}\n  model:  {wanted:?}"));
        }
        sent.fate = Some(wanted);
        self.unconditional(id)
    }

    /// What holds of every decided packet, whatever the model thinks.
    fn unconditional(&self, id: usize) -> Result<(), String> {
        let Sent { flow, at, fate } = &self.sent[id];
        let Some(Fate::Decided(ruling)) = fate else { return Ok(()) };
        let fail = |what: &str| Err(format!("{flow} {what}: {ruling:?}"));
        if ruling.held > ruling.bound && ruling.bound > 0 {
            return fail("waited longer than its bound");
        }
        let resolved = matches!(ruling.reason, Reason::Resolved | Reason::ResolvedAfterHold);
        if HARDCODED.contains(&flow.dst.ip()) && resolved {
            return fail("is accepted though no name leads there");
        }
        let accuses = ruling.reason == Reason::NeverResolved;
        if accuses && self.model.is_doubtful(ruling.bound) && *at + ruling.bound == self.now() {
            return fail("is accused on doubtful evidence");
        }
        // A copy of what has just been let through after a wait is none of its own.
        let was_held = |other: &Sent| match &other.fate {
            Some(Fate::Decided(first)) if first.verdict == Verdict::Accept && first.held > 0 => {
                other.flow == *flow && (other.at + 1..other.at + first.held + LINGER).contains(at)
            }
            _ => false,
        };
        if ruling.verdict == Verdict::Accept
            && self.sent[self.first.min(id)..id].iter().any(was_held)
        {
            return fail("is let through twice");
        }
        Ok(())
    }

    fn now(&self) -> Micros {
        self.world.now().wall.0 - START.0
    }

    /// What holds after every step.
    fn invariants(&self) -> Result<(), String> {
        let waiting: Vec<usize> = self.model.waiting().collect();
        let bounds = &self.cast.settings.bounds;
        let held = self.world.engine().held();
        if held != waiting.len() || held > bounds.total {
            return Err(format!("{held} are held, not {}", waiting.len()));
        }
        let mut per_source: HashMap<IpAddr, usize> = HashMap::new();
        for id in waiting {
            if self.world.outcome(id - self.first).is_some() {
                return Err(format!("{} is decided too early", self.sent[id].flow));
            }
            let count = per_source.entry(self.sent[id].flow.src.ip()).or_default();
            *count += 1;
            if *count > bounds.budget {
                return Err(format!("{} has more held than it may", self.sent[id].flow.src));
            }
        }
        let (known, wanted) = (self.world.engine().registry().len(), self.model.addresses());
        match known == wanted {
            true => Ok(()),
            false => Err(format!("{known} addresses are known, not {wanted}")),
        }
    }

    /// At the end nobody waits, and nothing that was decided has been decided again.
    pub fn finish(mut self, tally: &mut Tally) -> Result<(), String> {
        for id in 0..self.sent.len() {
            let Some(fate) = self.sent[id].fate else {
                return Err(format!("{} is never decided", self.sent[id].flow));
            };
            let what = match &fate {
                Fate::Copy => "copy".to_owned(),
                Fate::Decided(ruling) => {
                    format!(
                        "{:?} {} {}",
                        ruling.verdict,
                        ruling.reason.as_str(),
                        ruling.grade.as_str()
                    )
                }
            };
            *tally.entry(what).or_default() += 1;
            if id >= self.first {
                self.sent[id].fate = None;
                self.agree(id, fate)?;
            }
        }
        Ok(())
    }
}

fn ruling(decision: &Decision) -> Ruling {
    let micros = |duration: Duration| Micros::try_from(duration.as_micros()).unwrap();
    Ruling {
        verdict: decision.verdict,
        reason: decision.reason,
        grade: decision.grade,
        mode: decision.mode,
        held: micros(decision.held),
        bound: micros(decision.bound),
        copies: decision.copies,
        again: decision.again,
    }
}

fn names(names: &[String]) -> impl Iterator<Item = Name> {
    names.iter().map(|name| Name::new(name).unwrap())
}

fn side(addresses: &[IpAddr], domains: &[String]) -> Side {
    let span = |address: &IpAddr| {
        let net = Net::around(*address, Family::of(*address).bits());
        (net.family(), net.span())
    };
    Side::new(addresses.iter().map(span), [], names(domains))
}

fn lists(listing: &Listing) -> Lists {
    let for_good = |address: &IpAddr| (*address, None::<Wall>);
    Lists {
        allow: side(&listing.allow_addresses, &listing.allow_names),
        block: side(&listing.block_addresses, &listing.block_names),
        quarantine: listing.quarantine.iter().map(for_good).collect(),
        pairs: listing.pairs.iter().map(|pair| (*pair, None)).collect(),
        ..Lists::default()
    }
}

fn owners(tenants: &[Tenant], settings: &Settings) -> Owners {
    let owner = |tenant: &Tenant| {
        let Tenant { id, mode, scope, hold, allow_addresses, allow_names, .. } = tenant;
        let allow = side(allow_addresses, allow_names);
        let policy = Policy {
            mode: *mode,
            scope: *scope,
            hold: *hold,
            allow: (!allow.is_empty()).then(|| Arc::new(allow)),
            ..Policy::new(settings, Refusal::Reset)
        };
        Arc::new(Owner {
            id: format!("id{id}").into(),
            name: format!("container-{id}").into(),
            image: "image".into(),
            policy: Arc::new(policy),
            tally: Arc::default(),
        })
    };
    let places = tenants.iter().flat_map(|tenant| {
        let owner = owner(tenant);
        tenant.addresses.iter().map(move |address| (*address, Arc::clone(&owner)))
    });
    Owners::new(places.collect(), Vec::new())
}
