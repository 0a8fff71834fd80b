//! The hold: first packets that wait for their record, as a state machine with the time passed in.
//!
//! A packet is known here by its flow, the lane (queue) it came from and a ticket the caller understands. Each
//! flow is held at most once: a copy joins. Each held flow leaves exactly once, by [`Hold::release`],
//! [`Hold::expire`] or [`Hold::drain`].

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::flow::Flow;
use super::limits::{HELD_MAX, HOLD_BUDGET_DEFAULT, HOLD_DEFAULT, HOLD_MAX, LATE_MAX, LINGER};
use super::owner::Owner;
use super::settings::Mode;
use super::time::Mono;

/// How long and how much may be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Time a packet waits before it is refused.
    pub hold: Duration,
    /// Held packets of one source address.
    pub budget: usize,
    /// Held packets of all sources.
    pub total: usize,
}

impl Default for Bounds {
    fn default() -> Bounds {
        Bounds { hold: HOLD_DEFAULT, budget: HOLD_BUDGET_DEFAULT, total: HELD_MAX }
    }
}

/// What became of a packet that asked to be held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Park {
    /// It waits.
    Held,
    /// A packet of its flow waits already, or has just been let through; this copy is not needed.
    Joined,
    /// Its source, or all sources together, hold as much as they may.
    OverBudget,
}

/// A packet that asks to be held.
#[derive(Clone, Debug)]
pub struct Arrival<T> {
    /// Its flow.
    pub flow: Flow,
    /// The lane it comes from.
    pub lane: u16,
    /// What the caller knows it by.
    pub ticket: T,
    /// Whose it is, where that is known.
    pub owner: Option<Arc<Owner>>,
    /// Whether it waits for real, or in the books alone.
    pub mode: Mode,
    /// How long it may wait.
    pub hold: Duration,
}

/// A packet that waits no longer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Left<T> {
    /// Its flow.
    pub flow: Flow,
    /// The lane it came from.
    pub lane: u16,
    /// What the caller gave to know it by.
    pub ticket: T,
    /// How long it waited.
    pub held: Duration,
    /// Copies that joined it.
    pub copies: u32,
    /// Whose it was when it came.
    pub owner: Option<Arc<Owner>>,
    /// How it waited.
    pub mode: Mode,
    /// How long it might have waited.
    pub hold: Duration,
}

#[derive(Debug)]
struct Waiting<T> {
    owner: Option<Arc<Owner>>,
    mode: Mode,
    hold: Duration,
    lane: u16,
    ticket: T,
    since: Mono,
    deadline: Mono,
    seq: u64,
    copies: u32,
}

/// All packets that wait.
#[derive(Debug)]
pub struct Hold<T> {
    bounds: Bounds,
    waiting: HashMap<Flow, Waiting<T>>,
    by_destination: BTreeMap<(IpAddr, u64), Flow>,
    deadlines: BTreeMap<(u16, Mono, u64), Flow>,
    per_source: HashMap<IpAddr, usize>,
    lingering: VecDeque<(Mono, Flow)>,
    let_through: HashSet<Flow>,
    /// Refused a moment ago: when each came, and where it went.
    refused: VecDeque<(Mono, IpAddr)>,
    seq: u64,
}

impl<T> Hold<T> {
    /// An empty hold.
    pub fn new(bounds: Bounds) -> Hold<T> {
        Hold {
            bounds,
            waiting: HashMap::new(),
            by_destination: BTreeMap::new(),
            deadlines: BTreeMap::new(),
            per_source: HashMap::new(),
            lingering: VecDeque::new(),
            let_through: HashSet::new(),
            refused: VecDeque::new(),
            seq: 0,
        }
    }

    /// Holds a packet, unless a copy of it waits or its source has no budget left.
    pub fn park(&mut self, arrival: Arrival<T>, now: Mono) -> Park {
        let Arrival { flow, lane, ticket, owner, mode, hold } = arrival;
        if self.join(&flow, now) {
            return Park::Joined;
        }
        let of_source = self.per_source.get(&flow.src.ip()).copied().unwrap_or(0);
        if of_source >= self.bounds.budget || self.waiting.len() >= self.bounds.total {
            return Park::OverBudget;
        }
        self.seq += 1;
        let deadline = now + hold;
        self.by_destination.insert((flow.dst.ip(), self.seq), flow);
        self.deadlines.insert((lane, deadline, self.seq), flow);
        self.per_source.insert(flow.src.ip(), of_source + 1);
        self.waiting.insert(
            flow,
            Waiting {
                lane,
                ticket,
                since: now,
                deadline,
                seq: self.seq,
                copies: 0,
                owner,
                mode,
                hold,
            },
        );
        Park::Held
    }

    /// True, and counted, if a packet of `flow` waits or has just been let through.
    pub fn join(&mut self, flow: &Flow, now: Mono) -> bool {
        self.forget_lingering(now);
        if let Some(waiting) = self.waiting.get_mut(flow) {
            waiting.copies = waiting.copies.saturating_add(1);
            return true;
        }
        self.let_through.contains(flow)
    }

    /// Takes out every packet that `decides` can say something about.
    pub fn release_all(&mut self, decides: impl Fn(&Flow) -> bool, now: Mono) -> Vec<Left<T>> {
        let flows: Vec<Flow> = self.waiting.keys().filter(|flow| decides(flow)).copied().collect();
        flows.into_iter().filter_map(|flow| self.let_go(&flow, now)).collect()
    }

    /// Takes out every packet to `address` whose source `admits`: they wait for nothing more.
    pub fn release(
        &mut self,
        address: IpAddr,
        admits: impl Fn(IpAddr) -> bool,
        now: Mono,
    ) -> Vec<Left<T>> {
        let range = (address, 0)..=(address, u64::MAX);
        let flows: Vec<Flow> = self
            .by_destination
            .range(range)
            .map(|(_, flow)| *flow)
            .filter(|flow| admits(flow.src.ip()))
            .collect();
        flows.into_iter().filter_map(|flow| self.let_go(&flow, now)).collect()
    }

    /// Takes out one packet that waits for nothing more.
    pub fn let_go(&mut self, flow: &Flow, now: Mono) -> Option<Left<T>> {
        let left = self.take(flow, now)?;
        self.linger(flow, now);
        Some(left)
    }

    /// A packet that waited has been let through: its copies are known for a while.
    pub fn linger(&mut self, flow: &Flow, now: Mono) {
        if self.lingering.len() >= HELD_MAX
            && let Some((_, oldest)) = self.lingering.pop_front()
        {
            self.let_through.remove(&oldest);
        }
        self.lingering.push_back((now + LINGER, *flow));
        self.let_through.insert(*flow);
    }

    /// Takes out packets of `lane` whose time is up, at most `limit`; they are to be refused.
    pub fn expire(&mut self, lane: u16, now: Mono, limit: usize) -> Vec<Left<T>> {
        self.forget_lingering(now);
        let range = (lane, Mono(0), 0)..=(lane, now, u64::MAX);
        let due = self.deadlines.range(range).take(limit);
        let flows: Vec<Flow> = due.map(|(_, flow)| *flow).collect();
        let left: Vec<Left<T>> = flows.iter().filter_map(|flow| self.take(flow, now)).collect();
        self.remember_refused(&left, now);
        left
    }

    /// Gives those of the first `limit` packets of `lane` whose time is up the time that `longer` says, counted from when
    /// they came, given whose they are and how long they might wait.
    pub fn lengthen(
        &mut self,
        lane: u16,
        now: Mono,
        limit: usize,
        longer: impl Fn(Option<&Owner>, Duration) -> Option<Duration>,
    ) {
        let range = (lane, Mono(0), 0)..=(lane, now, u64::MAX);
        let due: Vec<Flow> =
            self.deadlines.range(range).take(limit).map(|(_, flow)| *flow).collect();
        for flow in due {
            let Some(waiting) = self.waiting.get_mut(&flow) else { continue };
            let Some(hold) = longer(waiting.owner.as_deref(), waiting.hold) else { continue };
            self.deadlines.remove(&(lane, waiting.deadline, waiting.seq));
            waiting.hold = hold;
            waiting.deadline = waiting.since + hold;
            self.deadlines.insert((lane, waiting.deadline, waiting.seq), flow);
        }
    }

    fn remember_refused(&mut self, left: &[Left<T>], now: Mono) {
        while self.refused.front().is_some_and(|(came, _)| now.since(*came) > HOLD_MAX) {
            self.refused.pop_front();
        }
        let room = LATE_MAX.saturating_sub(self.refused.len());
        self.refused
            .extend(left.iter().take(room).map(|left| (now - left.held, left.flow.dst.ip())));
    }

    /// How long ago the first packet to `address` came that was refused before its record was here, if that is no longer
    /// than a packet may ever wait. Told once.
    pub fn late(&mut self, address: IpAddr, now: Mono) -> Option<Duration> {
        let place = self.refused.iter().position(|(_, dst)| *dst == address)?;
        let (came, _) = self.refused.remove(place)?;
        Some(now.since(came)).filter(|late| *late <= HOLD_MAX)
    }

    /// Refusals of a moment ago that a record may come too late for.
    pub fn refused(&self) -> usize {
        self.refused.len()
    }

    /// When the next packet of `lane` has to be refused.
    pub fn next_deadline(&self, lane: u16) -> Option<Mono> {
        let range = (lane, Mono(0), 0)..=(lane, Mono(u64::MAX), u64::MAX);
        self.deadlines.range(range).next().map(|((_, deadline, _), _)| *deadline)
    }

    /// Takes out one lane's packets, however much time they have left.
    pub fn drain(&mut self, lane: u16, now: Mono) -> Vec<Left<T>> {
        let range = (lane, Mono(0), 0)..=(lane, Mono(u64::MAX), u64::MAX);
        let flows: Vec<Flow> = self.deadlines.range(range).map(|(_, flow)| *flow).collect();
        flows.iter().filter_map(|flow| self.take(flow, now)).collect()
    }

    /// Packets that wait.
    pub fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Flows whose next packet is a copy: those that wait and those just let through.
    pub fn flows(&self) -> usize {
        self.waiting.len() + self.let_through.len()
    }

    /// True if nothing waits.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn take(&mut self, flow: &Flow, now: Mono) -> Option<Left<T>> {
        let waiting = self.waiting.remove(flow)?;
        self.by_destination.remove(&(flow.dst.ip(), waiting.seq));
        self.deadlines.remove(&(waiting.lane, waiting.deadline, waiting.seq));
        if let Some(count) = self.per_source.get_mut(&flow.src.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_source.remove(&flow.src.ip());
            }
        }
        Some(Left {
            flow: *flow,
            lane: waiting.lane,
            ticket: waiting.ticket,
            held: now.since(waiting.since),
            copies: waiting.copies,
            owner: waiting.owner,
            mode: waiting.mode,
            hold: waiting.hold,
        })
    }

    fn forget_lingering(&mut self, now: Mono) {
        while let Some((until, flow)) = self.lingering.front() {
            if *until > now {
                break;
            }
            self.let_through.remove(flow);
            self.lingering.pop_front();
        }
    }
}

#[cfg(test)]
#[path = "hold_test.rs"]
mod tests;
