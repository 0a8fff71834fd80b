//! The names, each once however many addresses it has, with what is known of it across all of them.

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashTable;

use crate::engine::abuse::{ADDRESSES_PER_NAME, ADDRESSES_WINDOW};
use crate::engine::limits::REGISTRY_SHARDS;
use crate::engine::name::Name;

/// One name as all its addresses share it. Times are seconds since the Unix epoch.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) name: Name,
    /// When it was first seen, at whichever address.
    first: AtomicU32,
    /// Addresses that have it now.
    addresses: AtomicU32,
    /// When the count of new addresses began.
    window: AtomicU32,
    fresh: AtomicU32,
    wide_until: AtomicU32,
    flood: AtomicBool,
}

/// What is known of a name across its addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameFacts {
    /// When it was first seen, in seconds since the Unix epoch.
    pub first: u32,
    /// Addresses that have it now; none for a name that only CNAME chains have.
    pub addresses: u32,
}

/// The table. A lock of a part of it is taken under one of a part of the registry, never the other way round.
pub(super) struct Names {
    parts: Box<[RwLock<HashTable<Arc<Shared>>>]>,
    hasher: RandomState,
}

impl Shared {
    fn new(name: Name, at: u32) -> Shared {
        let (addresses, window, fresh, wide_until, flood) = Default::default();
        Shared { name, first: at.into(), addresses, window, fresh, wide_until, flood }
    }

    pub(super) fn facts(&self) -> NameFacts {
        NameFacts { first: self.first.load(Relaxed), addresses: self.addresses.load(Relaxed) }
    }

    /// Addresses that have it now.
    pub(super) fn addresses(&self) -> usize {
        usize::try_from(self.addresses.load(Relaxed)).unwrap_or(usize::MAX)
    }

    pub(super) fn seen_first(&self, at: u32) {
        self.first.fetch_min(at, Relaxed);
    }

    /// Counts an address that has it.
    pub(super) fn join(&self) {
        self.addresses.fetch_add(1, Relaxed);
    }

    /// Counts one less.
    pub(super) fn leave(&self) {
        self.addresses.fetch_sub(1, Relaxed);
    }

    /// Counts an address that was resolved just now; true if there were too many of late. Two writers at the very end of
    /// a window may lose a count, which changes nothing at such numbers.
    pub(super) fn widen(&self, at: u32) -> bool {
        let start = self.window.load(Relaxed);
        if at.abs_diff(start) >= ADDRESSES_WINDOW {
            self.window.store(at, Relaxed);
            self.fresh.store(0, Relaxed);
        }
        let wide = self.fresh.fetch_add(1, Relaxed) >= ADDRESSES_PER_NAME;
        if wide {
            self.wide_until.fetch_max(at.saturating_add(ADDRESSES_WINDOW), Relaxed);
        }
        wide
    }

    /// Whether it had too many new addresses within the window before.
    pub(super) fn is_wide(&self, at: u32) -> bool {
        at < self.wide_until.load(Relaxed)
    }

    pub(super) fn mark_flood(&self) {
        self.flood.store(true, Relaxed);
    }

    pub(super) fn is_flood(&self) -> bool {
        self.flood.load(Relaxed)
    }
}

impl Default for Names {
    fn default() -> Names {
        let parts = (0..REGISTRY_SHARDS).map(|_| RwLock::default()).collect();
        Names { parts, hasher: RandomState::new() }
    }
}

impl Names {
    fn hash(&self, text: &str) -> u64 {
        self.hasher.hash_one(text)
    }

    fn read(&self, hash: u64) -> RwLockReadGuard<'_, HashTable<Arc<Shared>>> {
        super::part(&self.parts, hash).read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self, hash: u64) -> RwLockWriteGuard<'_, HashTable<Arc<Shared>>> {
        super::part(&self.parts, hash).write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The shared form of a name; `at` is when it was first seen if it is new.
    pub(super) fn intern(&self, name: &Name, at: u32) -> Arc<Shared> {
        let text = name.as_str();
        let hash = self.hash(text);
        let same = |known: &Arc<Shared>| known.name.as_str() == text;
        if let Some(known) = self.read(hash).find(hash, same) {
            return Arc::clone(known);
        }
        let mut part = self.write(hash);
        let entry = part.entry(hash, same, |known| self.hash(known.name.as_str()));
        let known = entry.or_insert_with(|| Arc::new(Shared::new(name.clone(), at)));
        Arc::clone(known.get())
    }

    /// Gives back what [`Names::intern`] gave; the last one takes the name out.
    pub(super) fn release(&self, shared: Arc<Shared>) {
        let hash = self.hash(shared.name.as_str());
        // Given out and given back under this lock only: two left are the table's and this one.
        let mut part = self.write(hash);
        if Arc::strong_count(&shared) > 2 {
            return drop(shared);
        }
        if let Ok(found) = part.find_entry(hash, |known| Arc::ptr_eq(known, &shared)) {
            found.remove();
        }
        // A flood that has gone gives its memory back.
        if part.capacity() > 64 && part.len() * 4 < part.capacity() {
            part.shrink_to(0, |known| self.hash(known.name.as_str()));
        }
    }

    /// The shared form of a name that is known; to be given back as that of [`Names::intern`] is.
    pub(super) fn find(&self, name: &Name) -> Option<Arc<Shared>> {
        let hash = self.hash(name.as_str());
        self.read(hash).find(hash, |known| known.name == *name).map(Arc::clone)
    }

    pub(super) fn facts(&self, name: &Name) -> Option<NameFacts> {
        let hash = self.hash(name.as_str());
        self.read(hash).find(hash, |known| known.name == *name).map(|known| known.facts())
    }

    pub(super) fn len(&self) -> usize {
        let count =
            |part: &RwLock<HashTable<_>>| part.read().unwrap_or_else(PoisonError::into_inner).len();
        self.parts.iter().map(count).sum()
    }
}

impl fmt::Debug for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Names").field("len", &self.len()).finish()
    }
}
