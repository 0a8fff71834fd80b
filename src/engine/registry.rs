//! The registry: which names an address answered to, when, for whom. Shared by verdict threads and log readers.

mod entry;

use std::collections::hash_map::RandomState;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

use dashmap::DashMap;

use super::limits::{
    ASKER_BYTES_MAX, ASKERS_COUNTED_MAX, NAME_BYTES_MAX, REGISTRY_BYTES_MAX, REGISTRY_SHARDS,
};
use super::name::Name;
use super::record::Record;
use super::verdict::Grade;
use entry::{ADDRESS_BYTES, Entry, Key};

pub use entry::Seen;

/// Address to names. Every method may be called from any thread.
#[derive(Debug)]
pub struct Registry {
    entries: DashMap<Key, Box<Entry>, RandomState>,
    addresses: AtomicUsize,
    changes: AtomicU64,
    left_out: AtomicU64,
    /// Estimated bytes, altogether and by who asked: one container cannot fill what all share.
    bytes: AtomicU64,
    bytes_by_asker: DashMap<Option<IpAddr>, u64>,
}

impl Default for Registry {
    fn default() -> Registry {
        let entries = DashMap::with_hasher_and_shard_amount(RandomState::new(), REGISTRY_SHARDS);
        let (addresses, changes, left_out, bytes, bytes_by_asker) = Default::default();
        Registry { entries, addresses, changes, left_out, bytes, bytes_by_asker }
    }
}

/// What became of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    /// The address or the name was not known for it.
    New,
    /// Seen before; times and asker are brought up to date.
    Seen,
    /// New, but the registry is full, or the asker has used up its share of it.
    LeftOut,
}

/// What a verdict needs to know about an address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// A few names, latest first.
    pub names: Vec<Name>,
    /// Names beyond those.
    pub more: usize,
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
        let inserted = match self.entries.get_mut(&key) {
            Some(mut entry) => self.merge_into(&mut entry, seen),
            None => match self.entries.entry(key) {
                dashmap::Entry::Occupied(mut entry) => self.merge_into(entry.get_mut(), seen),
                dashmap::Entry::Vacant(_) if !self.charge(&seen) => Inserted::LeftOut,
                dashmap::Entry::Vacant(vacant) => {
                    vacant.insert(Box::new(Entry { first: seen, more: None, askers: None }));
                    self.addresses.fetch_add(1, Relaxed);
                    Inserted::New
                }
            },
        };
        if inserted == Inserted::LeftOut {
            self.left_out.fetch_add(1, Relaxed);
        }
        inserted
    }

    fn merge_into(&self, entry: &mut Entry, seen: Seen) -> Inserted {
        if let Some(known) = entry.find(&seen.name) {
            let displaced = known.update(&seen);
            entry.remember_asker(displaced);
            return Inserted::Seen;
        }
        if !self.charge(&seen) {
            // The address is evidence already; at least its asker is to be known.
            entry.remember_asker(seen.asker);
            return Inserted::LeftOut;
        }
        if let Some(evicted) = entry.add(seen) {
            self.refund(&evicted);
        }
        Inserted::New
    }

    /// Books the memory of a new name, unless there is no more of it for its asker or for anybody.
    fn charge(&self, seen: &Seen) -> bool {
        let cost = seen.cost();
        if self.bytes.load(Relaxed) + cost > REGISTRY_BYTES_MAX {
            return false;
        }
        let mut used = self.bytes_by_asker.entry(self.account(seen.asker)).or_default();
        if *used + cost > ASKER_BYTES_MAX {
            return false;
        }
        *used += cost;
        self.bytes.fetch_add(cost, Relaxed);
        true
    }

    fn refund(&self, seen: &Seen) {
        let cost = seen.cost();
        self.bytes.fetch_sub(cost, Relaxed);
        if let Some(mut used) = self.bytes_by_asker.get_mut(&self.account(seen.asker)) {
            *used = used.saturating_sub(cost);
        }
    }

    /// Askers beyond those that are counted share one account with those nobody knows.
    fn account(&self, asker: Option<IpAddr>) -> Option<IpAddr> {
        let room = self.bytes_by_asker.len() < ASKERS_COUNTED_MAX;
        asker.filter(|_| room || self.bytes_by_asker.contains_key(&asker))
    }

    /// True once there is no room for another address, whoever asks.
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
            askers.iter().for_each(|asker| entry.remember_asker(Some(*asker)));
        }
    }

    /// The grade of the evidence that `client` may open a flow to `address`.
    pub fn grade(&self, client: IpAddr, address: IpAddr) -> Grade {
        self.entries.get(&Key::from(address)).map_or(Grade::Never, |entry| entry.grade(client))
    }

    /// Grade and names in one look-up.
    pub fn look_up(&self, client: IpAddr, address: IpAddr) -> (Grade, Known) {
        match self.entries.get(&Key::from(address)) {
            Some(entry) => (entry.grade(client), entry.known()),
            None => (Grade::Never, Known::default()),
        }
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

    /// Names and addresses there was no room for.
    pub fn left_out(&self) -> u64 {
        self.left_out.load(Relaxed)
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
