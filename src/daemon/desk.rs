//! What an operator wants at a glance, remembered off the packet path: refusals of late, changed rules, rates.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::control::{ListState, Rate, Rates, Refused, Rejected, RulesNews};
use crate::engine::event::{AlertBody, BlockBody, Body, Event, Health, Totals, VerdictBody};
use crate::engine::{Alarm, Mono, Reason, Verdict, Wall};
use crate::events::{EventSender, Tapped};
use crate::nftables::names;

/// Events that may wait to be read: refusals come in floods, and beyond that they are counted only.
const EVENTS_MAX: usize = 1024;
/// Pairs of container and destination remembered: a few screens of what is going on.
const REFUSED_MAX: usize = 64;
/// Answers that were no evidence remembered, for whoever asks why one does not count.
const REJECTED_MAX: usize = 64;
/// Totals remembered, one a second: a minute needs both its ends.
const TOTALS_MAX: usize = 61;
/// See [`Rates`].
const SHORT: Duration = Duration::from_secs(10);
/// See [`Rates`].
const LONG: Duration = Duration::from_secs(60);

/// Everything remembered.
#[derive(Debug, Default)]
pub struct Desk(Mutex<Memory>);

#[derive(Debug, Default)]
struct Memory {
    events: Option<Tapped>,
    refused: Vec<Refused>,
    missed: u64,
    rejected: VecDeque<Rejected>,
    rules: Option<RulesNews>,
    totals: VecDeque<(Mono, Totals)>,
    lists: Vec<ListState>,
}

/// What there is to see.
#[derive(Debug, Default)]
pub struct View {
    /// Refusals of late, the latest first.
    pub refused: Vec<Refused>,
    /// Refusals that came too fast to be remembered.
    pub missed: u64,
    /// What was last said about the rules.
    pub rules: Option<RulesNews>,
    /// How much happens.
    pub rates: Rates,
    /// Lists and feeds.
    pub lists: Vec<ListState>,
}

impl Desk {
    /// Reads events along from now on.
    pub fn listen(&self, events: &EventSender) {
        let wants = |body: &Body| match body {
            Body::Verdict(verdict) => verdict.verdict == Verdict::Drop,
            Body::Block(_) => true,
            Body::Health(health) => health.what == "rules",
            Body::Alert(alert) => alert.alert == Alarm::Rebinding,
            _ => false,
        };
        self.memory().events = Some(events.tap(EVENTS_MAX, Box::new(wants)));
    }

    /// Once a second: takes in what was told, and notes the totals.
    pub fn tick(&self, totals: Totals, now: Mono) {
        let mut memory = self.memory();
        memory.read();
        if memory.totals.len() == TOTALS_MAX {
            memory.totals.pop_front();
        }
        memory.totals.push_back((now, totals));
    }

    /// The lists are like this now.
    pub fn set_lists(&self, lists: Vec<ListState>) {
        self.memory().lists = lists;
    }

    /// What there is to see, with `totals` of this moment.
    pub fn view(&self, totals: Totals, now: Mono) -> View {
        let mut memory = self.memory();
        memory.read();
        let mut refused = memory.refused.clone();
        refused.sort_by_key(|one| std::cmp::Reverse(one.last));
        View {
            refused,
            missed: memory.missed,
            rules: memory.rules.clone(),
            rates: memory.rates(totals, now),
            lists: memory.lists.clone(),
        }
    }

    /// Answers with an address that were no evidence, the latest first.
    pub fn rejected(&self, address: IpAddr) -> Vec<Rejected> {
        let mut memory = self.memory();
        memory.read();
        let about = memory.rejected.iter().rev().filter(|one| one.address == address);
        about.cloned().collect()
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Memory {
    fn read(&mut self) {
        let Some(events) = self.events.take() else { return };
        for event in events.events().try_iter() {
            self.take(&event);
        }
        self.missed += events.missed();
        self.events = Some(events);
    }

    fn take(&mut self, event: &Event) {
        let at = event.time;
        match &event.body {
            Body::Verdict(verdict) => self.refuse(of_verdict(verdict, at)),
            Body::Block(block) if names::DENIED.has(&block.set) => self.repeat(block, at),
            Body::Block(block) => self.refuse(of_block(block, at)),
            Body::Health(Health { healthy, message, .. }) => {
                let (healthy, message) = (*healthy, message.clone());
                self.rules = Some(RulesNews { at, healthy, message });
            }
            Body::Alert(alert) => self.reject(alert, at),
            _ => {}
        }
    }

    fn known(&mut self, one: &Refused) -> Option<&mut Refused> {
        let same = |known: &&mut Refused| {
            let is_same = match (&known.container, &one.container) {
                (Some(known), Some(one)) => known == one,
                (None, None) => known.src == one.src,
                _ => false,
            };
            is_same && known.dst == one.dst
        };
        self.refused.iter_mut().find(same)
    }

    /// The kernel did by itself what a verdict said a moment ago: why is known from there.
    fn repeat(&mut self, block: &BlockBody, at: Wall) {
        if let Some(known) = self.known(&of_block(block, at)) {
            (known.count, known.last) = (known.count + block.count, at);
        }
    }

    fn refuse(&mut self, one: Refused) {
        if let Some(known) = self.known(&one) {
            // A set of the kernel does not tell the port.
            let (port, proto) = (one.port.or(known.port), one.proto.or(known.proto));
            let (first, count) = (known.first, known.count + one.count);
            *known = Refused { first, count, port, proto, ..one };
            return;
        }
        if self.refused.len() == REFUSED_MAX {
            let oldest = self.refused.iter().enumerate().min_by_key(|(_, one)| one.last);
            if let Some((place, _)) = oldest {
                self.refused.swap_remove(place);
            }
        }
        self.refused.push(one);
    }

    fn reject(&mut self, alert: &AlertBody, at: Wall) {
        let (Some(name), Some(address)) = (alert.name.clone(), alert.address) else { return };
        if self.rejected.len() == REJECTED_MAX {
            self.rejected.pop_front();
        }
        let container = alert.container.as_deref().map(str::to_owned);
        let message = alert.message.clone();
        self.rejected.push_back(Rejected { at, name, address, container, message });
    }

    fn rates(&self, totals: Totals, now: Mono) -> Rates {
        let over = |span: Duration| {
            let within = |(at, _): &&(Mono, Totals)| now.since(*at) <= span;
            let first = self.totals.iter().find(within);
            first.map_or_else(Rate::default, |(at, before)| rate(before, &totals, now.since(*at)))
        };
        let verdicts = |totals: &Totals| totals.accepted + totals.refused;
        let pairs = self.totals.iter().zip(self.totals.iter().skip(1));
        let each = pairs.map(|((_, one), (_, next))| verdicts(next).saturating_sub(verdicts(one)));
        Rates { short: over(SHORT), long: over(LONG), each_second: each.collect() }
    }
}

fn rate(before: &Totals, now: &Totals, over: Duration) -> Rate {
    let grown = |of: fn(&Totals) -> u64| of(now).saturating_sub(of(before));
    Rate {
        over_ms: u64::try_from(over.as_millis()).unwrap_or(u64::MAX),
        verdicts: grown(|totals| totals.accepted + totals.refused),
        refused: grown(|totals| totals.refused),
        held: grown(|totals| totals.held),
    }
}

fn of_verdict(verdict: &VerdictBody, at: Wall) -> Refused {
    Refused {
        first: at,
        last: at,
        count: 1,
        container: verdict.container.as_deref().map(str::to_owned),
        src: verdict.src,
        dst: verdict.dst,
        port: verdict.dport,
        proto: verdict.proto,
        reason: verdict.reason,
        names: verdict.names.clone(),
        enforced: verdict.enforced,
    }
}

fn of_block(block: &BlockBody, at: Wall) -> Refused {
    Refused {
        first: at,
        last: at,
        count: block.count,
        container: block.container.as_deref().map(str::to_owned),
        src: Some(block.src),
        dst: Some(block.dst),
        port: None,
        proto: None,
        reason: Reason::Blocklisted,
        names: block.names.clone(),
        enforced: block.enforced,
    }
}

#[cfg(test)]
#[path = "desk_test.rs"]
mod tests;
