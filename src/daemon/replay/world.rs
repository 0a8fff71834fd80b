//! One engine in virtual time: what it is told, and what became of each packet. No clock, no kernel, no thread.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::dns::correlate::Correlator;
use crate::dns::line::parse;
use crate::engine::decision::{Answer, Decision};
use crate::engine::health::{Batch, SourceHealth};
use crate::engine::judge::Step;
use crate::engine::limits::HOLD_MAX;
use crate::engine::lists::Lists;
use crate::engine::owner::Owners;
use crate::engine::rebind::Rebinding;
use crate::engine::{Engine, Flow, Mono, Now, Record, Settings, Verdict, Wall};

/// Packets of a replay have one lane.
const LANE: u16 = 0;
/// How long the world has been there when it begins: nothing in it has just started.
const AGE: Duration = Duration::from_secs(24 * 60 * 60);

/// What became of a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It was decided, at once or after a hold.
    Decided(Box<Decision>),
    /// It was a copy of one that waited or had just been let through.
    Copy,
}

/// An engine with its own time.
pub struct World {
    engine: Engine<usize>,
    source: Arc<SourceHealth>,
    correlator: Correlator,
    start: Wall,
    now: Now,
    outcomes: Vec<Option<Outcome>>,
}

impl World {
    /// A world that begins at `start`, with an empty registry and one healthy source.
    pub fn new(settings: Settings, start: Wall) -> World {
        let source = Arc::new(SourceHealth::new("replay"));
        source.mark_up(Mono(1));
        source.count(Batch { lines: 1, ..Batch::default() }, Now { mono: Mono(1), wall: Wall(1) });
        let engine = Engine::new(settings, vec![Arc::clone(&source)]);
        let now = Now { mono: Mono(0) + AGE, wall: start };
        let (correlator, outcomes) = Default::default();
        World { engine, source, correlator, start, now, outcomes }
    }

    /// The engine, for whoever wants to know or change more.
    pub fn engine(&self) -> &Engine<usize> {
        &self.engine
    }

    /// The present.
    pub fn now(&self) -> Now {
        self.now
    }

    /// The source that every line and record comes from.
    pub fn source(&self) -> &SourceHealth {
        &self.source
    }

    /// Lets time pass; what has waited long enough by then is decided when its time is up. Time never goes back.
    pub fn advance(&mut self, to: Wall) {
        let end = self.at(to.max(self.now.wall));
        while let Some(deadline) = self.engine.next_deadline(LANE).filter(|at| *at <= end.mono) {
            // A verdict thread wakes when the deadline is there.
            let wall = self.start + deadline.since(Mono(0) + AGE);
            self.now = Now { mono: deadline.max(self.now.mono), wall: wall.max(self.now.wall) };
            let answers = self.engine.expire(LANE, self.now);
            self.settle(answers);
        }
        self.now = end;
    }

    fn at(&self, wall: Wall) -> Now {
        let passed = Duration::from_micros(wall.0.saturating_sub(self.start.0));
        Now { mono: Mono(0) + AGE + passed, wall }
    }

    /// Reads a line of dnsmasq's log.
    pub fn line(&mut self, line: &[u8]) {
        self.line_unless(line, |_| false);
    }

    /// The same, but for answers that are known from elsewhere.
    pub fn line_unless(&mut self, line: &[u8], known: impl Fn(&Record) -> bool) {
        let (mut records, now) = (Vec::new(), self.now.wall);
        // What cannot be read is no evidence, live or here.
        if let Ok(line) = parse(line) {
            let _ =
                self.correlator.feed(&line, &mut |answer| records.extend(answer.to_record(now)));
        }
        self.source.count(Batch { lines: 1, ..Batch::default() }, self.now);
        records.iter().filter(|record| !known(record)).for_each(|record| self.record(record));
    }

    /// Takes a record in.
    pub fn record(&mut self, record: &Record) {
        let released = self.engine.record(record, self.now).released;
        self.settle(released);
    }

    /// Judges a first packet; its number is where its outcome will be.
    pub fn packet(&mut self, flow: Flow) -> usize {
        let ticket = self.outcomes.len();
        self.outcomes.push(None);
        let outcome = match self.engine.packet(flow, LANE, ticket, self.now) {
            Step::Decided(decision) => Some(Outcome::Decided(Box::new(decision))),
            Step::Copy(_) => Some(Outcome::Copy),
            Step::Hold(_) => None,
        };
        if let Some(place) = self.outcomes.get_mut(ticket) {
            // The engine may have decided it while it parked it.
            *place = outcome.or(place.take());
        }
        ticket
    }

    /// Replaces the owners of addresses.
    pub fn set_owners(&mut self, owners: Owners) {
        let answers = self.engine.set_owners(owners, self.now);
        self.settle(answers);
    }

    /// Replaces the user's lists.
    pub fn set_lists(&mut self, lists: Lists) {
        let answers = self.engine.set_lists(Arc::new(lists), self.now);
        self.settle(answers);
    }

    /// Says which addresses no public name may answer with.
    pub fn set_own(&mut self, own: Vec<IpAddr>) {
        self.engine.set_rebinding(Rebinding { own, ..Rebinding::default() });
    }

    /// Says why the evidence is not to be trusted from now on, or that it is.
    pub fn set_trouble(&mut self, why: Option<&str>) {
        self.engine.set_trouble("replay", why.map(str::to_owned));
    }

    /// What became of a packet; nothing while it waits.
    pub fn outcome(&self, ticket: usize) -> Option<&Outcome> {
        self.outcomes.get(ticket)?.as_ref()
    }

    /// The decision about a packet.
    pub fn decision(&self, ticket: usize) -> Option<&Decision> {
        match self.outcome(ticket)? {
            Outcome::Decided(decision) => Some(decision),
            Outcome::Copy => None,
        }
    }

    /// Lets everything that waits have its end.
    pub fn finish(&mut self) {
        self.advance(self.now.wall + HOLD_MAX);
        // Nothing is held for longer than that.
        let left = self.engine.drain(LANE, Verdict::Drop, self.now);
        self.settle(left);
    }

    fn settle(&mut self, answers: Vec<Answer<usize>>) {
        for Answer { ticket, decision } in answers {
            if let Some(place) = self.outcomes.get_mut(ticket) {
                *place = Some(Outcome::Decided(Box::new(decision)));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Proto, Reason};

    const START: Wall = Wall(1_700_000_000_000_000);

    fn flow(src: &str, dst: &str) -> Flow {
        Flow { proto: Proto::Tcp, src: src.parse().unwrap(), dst: dst.parse().unwrap() }
    }

    #[test]
    fn a_look_up_and_a_hardcoded_address_end_as_they_would_live() {
        let mut world = World::new(Settings::default(), START);
        world.line(b"1 172.17.0.2/40000 query[A] shop.example from 172.17.0.2");
        let early = world.packet(flow("172.17.0.2:1", "203.0.113.9:443"));
        let hardcoded = world.packet(flow("172.17.0.2:2", "203.0.113.66:443"));
        assert_eq!(world.outcome(early), None);
        world.advance(START + Duration::from_millis(3));
        world.line(b"1 172.17.0.2/40000 reply shop.example is 203.0.113.9");
        let decision = world.decision(early).unwrap();
        assert_eq!(decision.reason, Reason::ResolvedAfterHold);
        assert_eq!(decision.held, Duration::from_millis(3));
        let late = world.packet(flow("172.17.0.2:3", "203.0.113.9:443"));
        assert_eq!(world.decision(late).unwrap().reason, Reason::Resolved);
        world.finish();
        let decision = world.decision(hardcoded).unwrap();
        assert_eq!((decision.reason, decision.held), (Reason::NeverResolved, decision.bound));
        assert_eq!(decision.at.wall, START + Settings::default().bounds.hold);
    }
}
