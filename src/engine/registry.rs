//! The registry: which names an address answered to, when, for whom. Shared by verdict threads and log readers.

mod entry;
mod saved;

use std::collections::hash_map::RandomState;
use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use dashmap::DashMap;

use super::inquiry::Inquiry;
use super::limits::{NAME_BYTES_MAX, REGISTRY_BYTES_MAX, REGISTRY_SHARDS};
use super::mark::Mark;
use super::name::Name;
use super::rebind::Inside;
use super::record::Record;
use super::verdict::Grade;
use entry::{ADDRESS_BYTES, Entry, Key};

pub use entry::Seen;
pub use saved::{Asker, Saved};

/// Address to names. Every method may be called from any thread.
#[derive(Debug)]
pub struct Registry {
    entries: DashMap<Key, Box<Entry>, RandomState>,
    addresses: AtomicUsize,
    changes: AtomicU64,
    /// Estimated bytes.
    bytes: AtomicU64,
}

impl Default for Registry {
    fn default() -> Registry {
        let entries = DashMap::with_hasher_and_shard_amount(RandomState::new(), REGISTRY_SHARDS);
        let (addresses, changes, bytes) = Default::default();
        Registry { entries, addresses, changes, bytes }
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The address or the name was not known for it.
    New,
    /// Seen before; times and asker are brought up to date.
    Seen,
    /// New, but there is no room until [`Registry::make_room`] has been called.
    LeftOut,
    /// No evidence: a public name answered with such an address.
    Rejected(Inside),
}

/// What a verdict needs to know about an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// A few names, the one seen last first.
    pub names: Vec<Name>,
    /// Names beyond those.
    pub more: usize,
    /// What is suspicious about them.
    pub marks: Vec<Mark>,
}

/// Addresses whose evidence changed, for whoever keeps it on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Each once, in no order. One of which nothing is known any more was forgotten.
    pub addresses: Vec<IpAddr>,
    /// More changed than is remembered: everything has to be written.
    pub overflowed: bool,
}

impl Registry {
    /// Takes a record in.
    pub fn insert(&self, record: &Record) -> Inserted {
        let seen = Seen {
            name: record.name.clone(),
            first: record.time.seconds(),
            last: record.time.seconds(),
            asker: record.client,
            kind: record.kind,
            chain: (!record.chain.is_empty()).then(|| Box::new(record.chain.clone())),
        };
        self.merge(record.address, seen)
    }

    /// Takes in one name of one address, as [`Registry::insert`] does and as a saved registry holds it.
    pub fn merge(&self, address: IpAddr, seen: Seen) -> Inserted {
        self.changes.fetch_add(1, Relaxed);
        let key = Key::from(address);
        // Nearly every record is about an address that is known: that takes no entry, and no second look.
        match self.entries.get_mut(&key) {
            Some(mut entry) => self.merge_into(&mut entry, seen),
            None => match self.entries.entry(key) {
                dashmap::Entry::Occupied(mut entry) => self.merge_into(entry.get_mut(), seen),
                dashmap::Entry::Vacant(_) if self.is_full() => Inserted::LeftOut,
                dashmap::Entry::Vacant(vacant) => {
                    let entry = Entry { first: seen, more: None, askers: None };
                    self.bytes.fetch_add(entry.cost(), Relaxed);
                    vacant.insert(Box::new(entry));
                    self.addresses.fetch_add(1, Relaxed);
                    Inserted::New
                }
            },
        }
    }

    fn merge_into(&self, entry: &mut Entry, seen: Seen) -> Inserted {
        if let Some(displaced) = entry.update(&seen) {
            self.changing(entry, |entry| entry.remember_asker(displaced));
            return Inserted::Seen;
        }
        if self.is_full() {
            // The address is evidence already; at least its asker is to be known.
            self.changing(entry, |entry| entry.remember_asker(seen.asker));
            return Inserted::LeftOut;
        }
        self.changing(entry, |entry| entry.add(seen));
        Inserted::New
    }

    /// Changes an entry and books what that does to its size.
    fn changing(&self, entry: &mut Entry, change: impl FnOnce(&mut Entry)) {
        let before = entry.cost();
        change(entry);
        self.bytes.fetch_add(entry.cost(), Relaxed);
        self.bytes.fetch_sub(before, Relaxed);
    }

    /// Throws the older half of what the heaviest asker resolved out, again and again while the registry is more
    /// than three quarters full; so a container that resolves random names pushes out its own. Takes a while: to be
    /// called by a thread nobody waits for. Returns how many addresses went.
    pub fn make_room(&self) -> usize {
        let before = self.len();
        while self.bytes.load(Relaxed) > REGISTRY_BYTES_MAX / 4 * 3 {
            let Some((asker, cutoff)) = self.heaviest() else { break };
            self.entries.retain(|_, entry| {
                let goes = entry.first.asker == asker && entry.last() <= cutoff;
                if goes {
                    self.bytes.fetch_sub(entry.cost(), Relaxed);
                    self.addresses.fetch_sub(1, Relaxed);
                }
                !goes
            });
            self.changes.fetch_add(1, Relaxed);
        }
        before.saturating_sub(self.len())
    }

    /// Who takes the most bytes, and the second the older half of its addresses was seen last.
    fn heaviest(&self) -> Option<(Option<IpAddr>, u32)> {
        let mut bytes: HashMap<Option<IpAddr>, u64> = HashMap::new();
        for entry in &self.entries {
            *bytes.entry(entry.first.asker).or_default() += entry.cost();
        }
        let (asker, _) = bytes.into_iter().max_by_key(|(_, bytes)| *bytes)?;
        let of_asker = self.entries.iter().filter(|entry| entry.first.asker == asker);
        let mut seen: Vec<u32> = of_asker.map(|entry| entry.last()).collect();
        let middle = seen.len().checked_sub(1)? / 2;
        let (_, cutoff, _) = seen.select_nth_unstable(middle);
        Some((asker, *cutoff))
    }

    /// True while there is no room for another address.
    pub fn is_full(&self) -> bool {
        self.bytes.load(Relaxed) + ADDRESS_BYTES + NAME_BYTES_MAX as u64 > REGISTRY_BYTES_MAX
    }

    /// Who asked for an address, beyond the last asker of each of its names.
    pub fn askers(&self, address: IpAddr) -> Vec<IpAddr> {
        let entry = self.entries.get(&Key::from(address));
        entry
            .and_then(|entry| entry.askers.as_ref().map(|askers| askers.to_vec()))
            .unwrap_or_default()
    }

    /// Remembers who asked for an address, as a saved registry holds it.
    pub fn remember_askers(&self, address: IpAddr, askers: &[IpAddr]) {
        if let Some(mut entry) = self.entries.get_mut(&Key::from(address)) {
            self.changing(&mut entry, |entry| {
                askers.iter().for_each(|asker| entry.remember_asker(Some(*asker)));
            });
        }
    }

    /// Forgets what these clients asked for; that somebody asked is still known. Goes through all addresses, so it is for
    /// a thread nobody waits for.
    pub fn forget_askers(&self, clients: &BTreeSet<IpAddr>) {
        for mut entry in self.entries.iter_mut() {
            if entry.has_asker(clients) {
                self.changing(&mut entry, |entry| entry.forget_askers(clients));
                self.changes.fetch_add(1, Relaxed);
            }
        }
    }

    /// The grade of the evidence for a flow to `address`.
    pub fn grade(&self, inquiry: &Inquiry<'_>, address: IpAddr) -> Grade {
        self.entries
            .get(&Key::from(address))
            .map_or(Grade::Never, |entry| entry.grade(inquiry.clients))
    }

    /// Grade and names in one look-up.
    pub fn look_up(&self, inquiry: &Inquiry<'_>, address: IpAddr) -> (Grade, Known) {
        match self.entries.get(&Key::from(address)) {
            Some(entry) => (entry.grade(inquiry.clients), entry.known()),
            None => (Grade::Never, Known::default()),
        }
    }

    /// Notes that a flow of the asking container to `address` was let through: it is not thrown out for a while. With
    /// `refresh` the evidence is as fresh as if it had been resolved again.
    pub fn used(&self, inquiry: &Inquiry<'_>, address: IpAddr, refresh: bool) {
        let _ = (inquiry, address, refresh);
    }

    /// Takes what changed since this was called last.
    pub fn take_dirty(&self) -> Dirty {
        Dirty::default()
    }

    /// Forgets an address with all its names; true if it was known.
    pub fn forget(&self, address: IpAddr) -> bool {
        let _ = address;
        false
    }

    /// Everything that is known of an address; nothing if it was forgotten.
    pub fn saved(&self, address: IpAddr) -> Option<Saved> {
        let names = self.names(address);
        let last = names.first()?.last;
        let unnamed = |address| Asker { address, last, name: Asker::UNNAMED };
        let askers = self.askers(address).into_iter().map(unnamed).collect();
        Some(Saved { names, askers, used: None })
    }

    /// Takes in what was saved of an address, beside what is known by now.
    pub fn restore(&self, address: IpAddr, saved: Saved) -> Inserted {
        let askers: Vec<IpAddr> = saved.askers.iter().map(|asker| asker.address).collect();
        let merged = saved.names.into_iter().rev().map(|seen| self.merge(address, seen)).last();
        self.remember_askers(address, &askers);
        merged.unwrap_or(Inserted::Seen)
    }

    /// Hands the names of an address to `ask`, latest first, without copying them. The address stays locked meanwhile.
    pub fn with_names<R>(
        &self,
        address: IpAddr,
        ask: impl FnOnce(&mut dyn Iterator<Item = &Seen>) -> R,
    ) -> Option<R> {
        self.entries.get(&Key::from(address)).map(|entry| ask(&mut entry.names()))
    }

    /// Every name of an address, latest first.
    pub fn names(&self, address: IpAddr) -> Vec<Seen> {
        let entry = self.entries.get(&Key::from(address));
        entry.map_or_else(Vec::new, |entry| entry.names().cloned().collect())
    }

    /// Addresses known.
    pub fn len(&self) -> usize {
        self.addresses.load(Relaxed)
    }

    /// True while nothing is known.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A number that grows with every change, so that a saver knows whether there is something to save.
    pub fn changes(&self) -> u64 {
        self.changes.load(Relaxed)
    }

    /// Every address, in no order. Copied out, so that whoever goes through them keeps no record waiting.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let mut addresses = Vec::with_capacity(self.len());
        addresses.extend(self.entries.iter().map(|entry| IpAddr::from(*entry.key())));
        addresses
    }
}

#[cfg(test)]
#[path = "registry_test.rs"]
mod tests;
