//! Alerts: what they are about, and the gate before each sink, which lets everything through once and counts it then.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::time::Mono;

/// Things remembered as told, for one sink: what the busiest takes in an hour. Where there are more, the oldest is forgotten.
const TOLD_MAX: usize = 4096;
/// What one container may have of what a sink takes in an hour, or one topic about synhold itself: a third, so that none
/// drowns the others. As much again is kept for the first of each container and topic, and a third of what is remembered.
const SHARES: u32 = 3;
/// How often what was held back is told.
const SUMMARY_EVERY: Duration = Duration::from_secs(10 * 60);
const HOUR: Duration = Duration::from_secs(60 * 60);

/// What an alert is about. The same word is configuration value, field and documentation key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Topic {
    /// A container dialled an address that nobody resolved.
    NeverResolved,
    /// A container dialled what a list refuses.
    Blocklisted,
    /// A container was put into quarantine, or tries to get out of it.
    Quarantined,
    /// The evidence cannot be trusted, or can be again.
    Evidence,
    /// Our own packet was not treated as it should be, or is again.
    Canary,
    /// Somebody changed the rules or sets.
    Drift,
    /// Packets were lost before we saw them.
    Queue,
    /// A public name answered with an address that is not public.
    Rebinding,
    /// One name has more addresses than services have.
    ManyAddresses,
    /// One container resolves new names faster than programs do.
    NameFlood,
    /// What is learned does not reach the disk.
    Disk,
    /// Another sink takes no alerts.
    Sink,
    /// Alerts that were held back, since there were too many.
    Withheld,
    /// Somebody wants to know whether alerts arrive.
    Test,
}

impl Topic {
    /// Those that can be asked for.
    pub const ALL: [Topic; 12] = [
        Topic::NeverResolved,
        Topic::Blocklisted,
        Topic::Quarantined,
        Topic::Evidence,
        Topic::Canary,
        Topic::Drift,
        Topic::Queue,
        Topic::Rebinding,
        Topic::ManyAddresses,
        Topic::NameFlood,
        Topic::Disk,
        Topic::Sink,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Topic::NeverResolved => "never-resolved",
            Topic::Blocklisted => "blocklisted",
            Topic::Quarantined => "quarantined",
            Topic::Evidence => "evidence",
            Topic::Canary => "canary",
            Topic::Drift => "drift",
            Topic::Queue => "queue",
            Topic::Rebinding => "rebinding",
            Topic::ManyAddresses => "many-addresses",
            Topic::NameFlood => "name-flood",
            Topic::Disk => "disk",
            Topic::Sink => "sink",
            Topic::Withheld => "withheld",
            Topic::Test => "test",
        }
    }

    /// True if containers cause it, as often as they like; what synhold says of itself has room of its own.
    pub fn is_traffic(self) -> bool {
        matches!(
            self,
            Topic::NeverResolved
                | Topic::Blocklisted
                | Topic::Quarantined
                | Topic::Rebinding
                | Topic::ManyAddresses
                | Topic::NameFlood
        )
    }
}

/// What makes two alerts the same.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// What they are about.
    pub topic: Topic,
    /// The container's name, or its address where it has none, or part of synhold.
    pub who: Option<Arc<str>>,
    /// The destination.
    pub address: Option<IpAddr>,
    /// False for a change of state, which is never the same as one before.
    pub repeats: bool,
}

/// How much goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// How long the same thing is only counted.
    pub repeat: Duration,
    /// Alerts about containers in an hour, and as many about synhold itself.
    pub per_hour: u32,
}

/// The gate before one sink.
#[derive(Debug)]
pub struct Gate<T> {
    pace: Pace,
    /// Things remembered as told, at most.
    room: usize,
    told: HashMap<Key, Told<T>>,
    /// What went through in the last hour: of containers and of synhold itself.
    traffic: VecDeque<Passed>,
    own: VecDeque<Passed>,
    held: BTreeMap<Topic, Held<T>>,
    /// When what was held back is told.
    summary_at: Option<Mono>,
}

/// What becomes of something that happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offered {
    /// It is to be told now.
    Now,
    /// It was told, and is counted.
    Counted,
    /// There is too much of it, or of everything.
    Held,
}

/// Something that went through.
#[derive(Debug)]
struct Passed {
    at: Mono,
    /// Whose room it took.
    who: Option<Arc<str>>,
    topic: Topic,
    /// It took none, as the first of its kind.
    reserved: bool,
}

#[derive(Debug)]
struct Told<T> {
    due: Mono,
    waiting: u64,
    last: T,
}

/// What was held back of one topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held<T> {
    /// How often.
    pub count: u64,
    /// The last of it.
    pub last: T,
}

impl Key {
    /// A change of state is synhold's own word, even where it is about a container.
    fn is_traffic(&self) -> bool {
        self.topic.is_traffic() && self.repeats
    }

    /// Whose room it takes: all containers that are put somewhere share one.
    fn payer(&self) -> Option<Arc<str>> {
        match self.topic.is_traffic() && !self.repeats {
            true => Some(self.topic.as_str().into()),
            false => self.who.clone(),
        }
    }
}

impl<T: Clone> Gate<T> {
    /// Nothing told yet.
    pub fn new(pace: Pace) -> Gate<T> {
        Gate::with_room(pace, TOLD_MAX)
    }

    fn with_room(pace: Pace, room: usize) -> Gate<T> {
        let (told, traffic, own, held, summary_at) =
            (HashMap::new(), VecDeque::new(), VecDeque::new(), BTreeMap::new(), None);
        Gate { pace, room, told, traffic, own, held, summary_at }
    }

    /// Something happened `count` times.
    pub fn offer(&mut self, key: Key, item: T, count: u64, now: Mono) -> Offered {
        if let Some(told) = self.told.get_mut(&key) {
            // What is due is told by `due`, in its turn.
            told.waiting += count;
            told.last = item;
            return Offered::Counted;
        }
        if !self.admits(&key, now) {
            self.hold(key.topic, item, count, now);
            return Offered::Held;
        }
        if key.repeats {
            self.make_room(&key, now);
            let due = now + self.pace.repeat;
            self.told.insert(key, Told { due, waiting: 0, last: item });
        }
        Offered::Now
    }

    /// Something that was told happened again, `count` times, without anything new to say about it.
    pub fn again(&mut self, key: &Key, count: u64) {
        if let Some(told) = self.told.get_mut(key) {
            told.waiting += count;
        }
    }

    /// What has happened again and is to be told now, with how often.
    pub fn due(&mut self, now: Mono) -> Vec<(T, u64)> {
        self.told.retain(|_, told| told.due > now || told.waiting > 0);
        let due: Vec<Key> = self
            .told
            .iter()
            .filter(|(_, told)| told.due <= now)
            .map(|(key, _)| key.clone())
            .collect();
        let mut out = Vec::new();
        for key in due {
            if !self.admits(&key, now) {
                continue;
            }
            let Some(told) = self.told.get_mut(&key) else { continue };
            told.due = now + self.pace.repeat;
            out.push((told.last.clone(), std::mem::take(&mut told.waiting)));
        }
        out
    }

    /// What was held back by topic, once it is to be told.
    pub fn summary(&mut self, now: Mono) -> Option<BTreeMap<Topic, Held<T>>> {
        self.summary_at.filter(|at| *at <= now)?;
        self.summary_at = None;
        Some(std::mem::take(&mut self.held))
    }

    /// Counts what cannot be told as held back.
    pub fn hold(&mut self, topic: Topic, item: T, count: u64, now: Mono) {
        self.summary_at.get_or_insert(now + SUMMARY_EVERY);
        match self.held.get_mut(&topic) {
            Some(held) => {
                held.count = held.count.saturating_add(count);
                held.last = item;
            }
            None => {
                self.held.insert(topic, Held { count, last: item });
            }
        }
    }

    /// Forgets what was told longest ago, if there is no room to remember more: of the same container, if it has its part.
    fn make_room(&mut self, key: &Key, now: Mono) {
        let theirs = self.told.keys().filter(|told| told.who == key.who).count();
        let part = theirs >= self.room / count(SHARES);
        if !part && self.told.len() < self.room {
            return;
        }
        let candidates = self.told.iter().filter(|(told, _)| !part || told.who == key.who);
        let oldest = candidates.min_by_key(|(_, told)| told.due).map(|(key, _)| key.clone());
        let Some((key, told)) = oldest.and_then(|key| self.told.remove_entry(&key)) else { return };
        if told.waiting > 0 {
            self.hold(key.topic, told.last, told.waiting, now);
        }
    }

    /// Takes room for one alert, if there is.
    fn admits(&mut self, key: &Key, now: Mono) -> bool {
        let limit = count(self.pace.per_hour);
        let share = count((self.pace.per_hour / SHARES).max(1));
        let passed = if key.is_traffic() { &mut self.traffic } else { &mut self.own };
        while passed.front().is_some_and(|passed| now.since(passed.at) >= HOUR) {
            passed.pop_front();
        }
        let who = key.payer();
        let (mut all, mut theirs, mut reserved, mut is_first) = (0, 0, 0, true);
        for passed in &*passed {
            let same = passed.who == who;
            is_first &= !(same && passed.topic == key.topic);
            if passed.reserved {
                reserved += 1;
            } else {
                all += 1;
                theirs += usize::from(same);
            }
        }
        let regular = all < limit && theirs < share;
        let admits = regular || (is_first && reserved < share);
        if admits {
            passed.push_back(Passed { at: now, who, topic: key.topic, reserved: !regular });
        }
        admits
    }
}

fn count(number: u32) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

#[cfg(test)]
#[path = "alert_test.rs"]
mod tests;
