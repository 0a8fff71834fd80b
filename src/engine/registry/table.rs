//! The addresses, in parts that are locked apart, each with the list of what changed in it.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashTable;

use super::entry::{Entry, Key};
use crate::engine::limits::{DIRTY_MAX, REGISTRY_SHARDS};

/// Addresses that are looked at for one that may go at once, while somebody waits, ...
const SAMPLE: usize = 64;
/// ... and if none of them may: an account that is full has one in some hundreds at least.
const SAMPLES_MAX: usize = 1_024;

/// Addresses whose evidence changed, for whoever keeps it on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dirty {
    /// Each once, in no order. One of which nothing is known any more was forgotten.
    pub addresses: Vec<IpAddr>,
    /// More changed than is remembered: everything has to be written.
    pub overflowed: bool,
}

/// A part: a fraction of the addresses.
#[derive(Default)]
pub(super) struct Part {
    pub(super) entries: HashTable<Box<Entry>>,
    dirty: Vec<Key>,
}

pub(super) struct Table {
    parts: Box<[RwLock<Part>]>,
    hasher: RandomState,
    /// In all lists together.
    pub(super) dirty: AtomicUsize,
    overflowed: AtomicBool,
}

/// One address's place, locked.
pub(super) struct Place<'a> {
    table: &'a Table,
    hash: u64,
    pub(super) key: Key,
    part: RwLockWriteGuard<'a, Part>,
}

impl Default for Table {
    fn default() -> Table {
        let parts = (0..REGISTRY_SHARDS).map(|_| RwLock::default()).collect();
        let (dirty, overflowed) = Default::default();
        Table { parts, hasher: RandomState::new(), dirty, overflowed }
    }
}

impl Table {
    fn hash(&self, key: Key) -> u64 {
        self.hasher.hash_one(key)
    }

    fn write(part: &RwLock<Part>) -> RwLockWriteGuard<'_, Part> {
        part.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(part: &RwLock<Part>) -> RwLockReadGuard<'_, Part> {
        part.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hands an entry to `ask`; its part stays locked for readers meanwhile.
    pub(super) fn with<R>(&self, address: IpAddr, ask: impl FnOnce(&Entry) -> R) -> Option<R> {
        let key = Key::from(address);
        let hash = self.hash(key);
        let part = Table::read(super::part(&self.parts, hash));
        part.entries.find(hash, |entry| entry.key == key).map(|entry| ask(entry))
    }

    /// Makes room for so many addresses.
    pub(super) fn reserve(&self, addresses: usize) {
        for part in &self.parts {
            let each = addresses / REGISTRY_SHARDS;
            Table::write(part).entries.reserve(each, |entry| self.hash(entry.key));
        }
    }

    pub(super) fn lock(&self, address: IpAddr) -> Place<'_> {
        let key = Key::from(address);
        let hash = self.hash(key);
        Place { table: self, hash, key, part: Table::write(super::part(&self.parts, hash)) }
    }

    /// Hands every entry to `look`, part by part.
    pub(super) fn each(&self, mut look: impl FnMut(&Entry)) {
        for part in &self.parts {
            Table::read(part).entries.iter().for_each(|entry| look(entry));
        }
    }

    /// The address that ranks least among a few: from somewhere in the part of `near` on, and part by part until enough
    /// were looked at.
    pub(super) fn least_near<R: Ord>(
        &self,
        near: IpAddr,
        rank: impl Fn(&Entry) -> Option<R>,
    ) -> Option<IpAddr> {
        let hash = self.hash(Key::from(near));
        let start = usize::try_from(hash >> 32).unwrap_or(0);
        let (mut looked, mut least) = (0, None);
        let ranked = |entry: &Entry| Some((rank(entry)?, entry.key));
        for at in start..start.saturating_add(self.parts.len()) {
            let part = Table::read(self.parts.get(at % self.parts.len())?);
            let entries = || part.entries.iter();
            let skip = usize::try_from(hash & 0xffff).unwrap_or(0) % entries().len().max(1);
            let few = entries().skip(skip).chain(entries().take(skip)).take(SAMPLE);
            least = few.filter_map(|entry| ranked(entry)).chain(least).min();
            looked += entries().len().min(SAMPLE);
            if (least.is_some() && looked >= SAMPLE) || looked >= SAMPLES_MAX {
                break;
            }
        }
        least.map(|(_, key)| IpAddr::from(key))
    }

    /// The addresses of which something holds, copied out.
    pub(super) fn keys(&self, holds: impl Fn(&Entry) -> bool) -> Vec<IpAddr> {
        let mut keys = Vec::new();
        self.each(|entry| keys.extend(holds(entry).then(|| IpAddr::from(entry.key))));
        keys
    }

    /// The same, part by part until there are `most` of them, which may change meanwhile.
    pub(super) fn keys_up_to(
        &self,
        most: impl Fn() -> usize,
        holds: impl Fn(&Entry) -> bool,
    ) -> Vec<IpAddr> {
        let mut keys = Vec::new();
        let mut bound = 0;
        for part in &self.parts {
            // One that was found may be forgotten meanwhile, and those that are left are all the same to be found.
            bound = most().max(bound);
            if keys.len() >= bound {
                break;
            }
            let part = Table::read(part);
            keys.extend(part.entries.iter().filter(|e| holds(e)).map(|e| IpAddr::from(e.key)));
        }
        keys
    }

    /// Every address changed since this was called last, once.
    pub(super) fn take_dirty(&self) -> Dirty {
        // First: what finds no room from here on is for the next time.
        let overflowed = self.overflowed.swap(false, Relaxed);
        let mut addresses = Vec::new();
        for part in &self.parts {
            let mut part = Table::write(part);
            let mut keys = std::mem::take(&mut part.dirty);
            self.dirty.fetch_sub(keys.len(), Relaxed);
            for key in &keys {
                let hash = self.hash(*key);
                if let Some(entry) = part.entries.find_mut(hash, |entry| entry.key == *key) {
                    entry.dirty = false;
                }
            }
            drop(part);
            // One that went and came again is there twice.
            keys.sort_unstable();
            keys.dedup();
            addresses.extend(keys.into_iter().map(IpAddr::from));
        }
        Dirty { addresses, overflowed }
    }

    fn note_dirty(&self, part: &mut Part, key: Key) -> bool {
        if self.dirty.load(Relaxed) >= DIRTY_MAX {
            self.overflowed.store(true, Relaxed);
            return false;
        }
        self.dirty.fetch_add(1, Relaxed);
        part.dirty.push(key);
        true
    }
}

impl Place<'_> {
    pub(super) fn entry(&mut self) -> Option<&mut Entry> {
        let key = self.key;
        let found = self.part.entries.find_mut(self.hash, |entry| entry.key == key);
        found.map(|entry| &mut **entry)
    }

    pub(super) fn put(&mut self, entry: Entry) {
        let table = self.table;
        let entries = &mut self.part.entries;
        entries.insert_unique(self.hash, Box::new(entry), |entry| table.hash(entry.key));
    }

    pub(super) fn take(&mut self) -> Option<Entry> {
        let key = self.key;
        let found = self.part.entries.find_entry(self.hash, |entry| entry.key == key);
        let (entry, _) = found.ok()?.remove();
        let (table, part) = (self.table, &mut *self.part);
        if part.entries.capacity() > 64 && part.entries.len() * 4 < part.entries.capacity() {
            part.entries.shrink_to(0, |entry| table.hash(entry.key));
        }
        Some(*entry)
    }

    /// Notes that an address is as changed that is to be put there; false if there is no room for the note.
    pub(super) fn note(&mut self) -> bool {
        self.table.note_dirty(&mut self.part, self.key)
    }

    /// Notes that what is to be saved of the address is another now, or that it is gone.
    pub(super) fn changed(&mut self) {
        let key = self.key;
        let part = &mut *self.part;
        let entry = part.entries.find_mut(self.hash, |entry| entry.key == key);
        if entry.as_ref().is_some_and(|entry| entry.dirty) {
            return;
        }
        let noted = self.table.note_dirty(part, key);
        let entry = part.entries.find_mut(self.hash, |entry| entry.key == key);
        if let Some(entry) = entry.filter(|_| noted) {
            entry.dirty = true;
        }
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Table").finish_non_exhaustive()
    }
}
