//! What happened, in order: packets, records, lines of DNS logs, containers, and what was said about the packets then.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::engine::event::{ContainerBody, Ready, VerdictBody};
use crate::engine::{Flow, Grade, Name, Reason, Record, Verdict, Wall};

/// Moments kept in memory, at some 200 bytes each. More is days of a busy host: cut the logs.
pub const MOMENTS_MAX: usize = 10_000_000;
/// A line of a DNS log tells whole seconds; a record event of the same answer within this time of it is that answer.
const SAME_ANSWER_US: u64 = 2_000_000;

/// Something that happened.
#[derive(Clone, Debug)]
pub struct Moment {
    /// When.
    pub at: Wall,
    /// What.
    pub item: Item,
}

/// What happened.
#[derive(Clone, Debug)]
pub enum Item {
    /// synhold began to give verdicts.
    Ready(Box<Ready>),
    /// Whether the evidence was to be trusted from then on, and why not.
    Health(Option<Arc<str>>),
    /// A container came, went or changed.
    Container(Box<ContainerBody>),
    /// The registry learned something.
    Record(Box<Record>),
    /// A line of dnsmasq's log.
    Line(Box<[u8]>),
    /// A first packet.
    Packet(Box<Packet>),
}

/// A first packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Its flow.
    pub flow: Flow,
    /// The container it came from, where the log names it.
    pub container: Option<Arc<str>>,
    /// What was decided then, if the log says so.
    pub said: Option<Said>,
}

/// What was decided about a packet when it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said {
    /// Accept or drop.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// How good the evidence was.
    pub grade: Grade,
    /// Names known then.
    pub names: Vec<Name>,
    /// How long it might have waited; zero if it was decided at once.
    pub bound: Duration,
    /// When it was decided.
    pub at: Wall,
}

/// Everything that happened.
#[derive(Debug, Default)]
pub struct Timeline {
    moments: Vec<Moment>,
    /// What was in the logs and is of no use here, by what it is.
    pub skipped: HashMap<&'static str, u64>,
    /// The logs hold more than is kept.
    pub cut: bool,
}

impl Timeline {
    /// Adds something that happened.
    pub fn add(&mut self, at: Wall, item: Item) {
        if self.moments.len() < MOMENTS_MAX {
            self.moments.push(Moment { at, item });
        } else {
            self.cut = true;
        }
    }

    /// Counts something that is of no use.
    pub fn skip(&mut self, what: &'static str) {
        *self.skipped.entry(what).or_default() += 1;
    }

    /// Adds the verdict of an event: its packet when it came, and what it says about the health of the evidence.
    pub fn add_verdict(&mut self, decided: Wall, body: VerdictBody) {
        let ends = body.proto.zip(body.src.zip(body.sport)).zip(body.dst.zip(body.dport));
        let Some(((proto, src), dst)) = ends else {
            return self.skip("packets that could not be read");
        };
        let (held, bound) =
            (Duration::from_micros(body.held_us), Duration::from_micros(body.bound_us));
        let came = Wall(decided.0.saturating_sub(body.held_us));
        self.add_health(came, decided, bound, &body);
        let said = Said {
            verdict: body.verdict,
            reason: body.reason,
            grade: body.grade,
            names: body.names,
            bound,
            at: decided,
        };
        // Two readings of the clock, in microseconds: a packet that was held came before what released it.
        let came = if held.is_zero() && bound.is_zero() { came } else { came.min(before(decided)) };
        let flow = Flow::new(proto, src, dst);
        let packet = Packet { flow, container: body.container, said: Some(said) };
        self.add(came, Item::Packet(Box::new(packet)));
    }

    fn add_health(&mut self, came: Wall, decided: Wall, bound: Duration, body: &VerdictBody) {
        let why = || Some(body.evidence.why.join("; ").into());
        match body.reason {
            // Nothing is held while it is not trusted and such packets pass.
            _ if !bound.is_zero() && body.verdict == Verdict::Accept => {
                self.add(before(came), Item::Health(None));
            }
            Reason::Unhealthy if bound.is_zero() => self.add(before(came), Item::Health(why())),
            Reason::Unhealthy => self.add(before(decided.min(came + bound)), Item::Health(why())),
            Reason::NeverResolved | Reason::Stale | Reason::OutOfScope => {
                self.add(before(decided.min(came + bound)), Item::Health(None));
            }
            _ => {}
        }
    }

    /// Everything in the order it happened. Lines of a DNS log come as early in their second as they can: but where a
    /// record event tells of an answer, that is when it came.
    pub fn in_order(mut self) -> Vec<Moment> {
        self.moments.sort_by_key(|moment| (moment.at, rank(&moment.item)));
        self.moments
    }

    /// The first moment.
    pub fn start(&self) -> Option<Wall> {
        self.moments.iter().map(|moment| moment.at).min()
    }

    /// Answers that record events tell of, by address and name: when each came.
    pub fn told(&self) -> Told {
        let mut told = Told::default();
        for moment in &self.moments {
            if let Item::Record(record) = &moment.item {
                let key = (record.address, record.name.clone());
                told.0.entry(key).or_default().push(moment.at);
            }
        }
        told
    }
}

/// See [`Timeline::told`].
#[derive(Debug, Default)]
pub struct Told(HashMap<(IpAddr, Name), Vec<Wall>>);

impl Told {
    /// Whether an answer that a DNS log has in this second is told by a record event, to the microsecond.
    pub fn has(&self, record: &Record) -> bool {
        let times = self.0.get(&(record.address, record.name.clone()));
        let near = |at: &Wall| at.0.abs_diff(record.time.0) <= SAME_ANSWER_US;
        times.is_some_and(|times| times.iter().any(near))
    }
}

fn before(at: Wall) -> Wall {
    Wall(at.0.saturating_sub(1))
}

/// What comes first of what has the same time.
fn rank(item: &Item) -> u8 {
    match item {
        Item::Ready(_) => 0,
        Item::Health(_) => 1,
        Item::Container(_) => 2,
        Item::Record(_) | Item::Line(_) => 3,
        Item::Packet(_) => 4,
    }
}
