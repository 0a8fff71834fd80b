//! Who asked: each client once, with what it takes of the registry and how fast it brings new names.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use crate::engine::abuse::{NAMES_PER_ASKER, NAMES_WINDOW};
use crate::engine::limits::{ASKER_SHARDS, ASKERS_MAX};

/// One client. Its account is what it brought into the registry first; nobody pays for what others brought.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) address: IpAddr,
    /// Addresses on its account.
    pub(super) addresses: AtomicUsize,
    /// Bytes on its account, by our own estimate.
    pub(super) bytes: AtomicU64,
    flood: Mutex<Flood>,
}

/// New names of one client in one window; times are seconds since the Unix epoch.
#[derive(Debug, Default)]
struct Flood {
    start: u32,
    names: u32,
    until: u32,
}

type Part = HashMap<IpAddr, Arc<Client>>;

/// All clients. A lock of a part of it is taken under one of a part of the registry, never the other way round.
#[derive(Debug)]
pub(super) struct Clients {
    parts: Box<[RwLock<Part>]>,
    hasher: RandomState,
    len: AtomicUsize,
    full: AtomicBool,
}

impl Client {
    fn new(address: IpAddr) -> Client {
        let (addresses, bytes, flood) = Default::default();
        Client { address, addresses, bytes, flood }
    }

    /// Counts a new name; true while there are too many of them.
    pub(super) fn floods(&self, at: u32) -> bool {
        let mut flood = self.flood.lock().unwrap_or_else(PoisonError::into_inner);
        if at.abs_diff(flood.start) >= NAMES_WINDOW {
            (flood.start, flood.names) = (at, 0);
        }
        flood.names = flood.names.saturating_add(1);
        if flood.names > NAMES_PER_ASKER {
            flood.until = at.saturating_add(NAMES_WINDOW);
        }
        at < flood.until
    }

    /// Whether a window of it may still be open.
    fn is_busy(&self, now: u32) -> bool {
        let flood = self.flood.lock().unwrap_or_else(PoisonError::into_inner);
        now.abs_diff(flood.start) < NAMES_WINDOW || now < flood.until
    }
}

impl Default for Clients {
    fn default() -> Clients {
        let parts = (0..ASKER_SHARDS).map(|_| RwLock::default()).collect();
        let (len, full) = Default::default();
        Clients { parts, hasher: RandomState::new(), len, full }
    }
}

impl Clients {
    /// The client of an address; nothing if there are too many of them.
    pub(super) fn of(&self, address: IpAddr) -> Option<Arc<Client>> {
        let part = super::part(&self.parts, self.hasher.hash_one(address));
        if let Some(client) = part.read().unwrap_or_else(PoisonError::into_inner).get(&address) {
            return Some(Arc::clone(client));
        }
        if self.len.load(Relaxed) >= ASKERS_MAX {
            self.full.store(true, Relaxed);
            return None;
        }
        let mut clients = part.write().unwrap_or_else(PoisonError::into_inner);
        let client = clients.entry(address).or_insert_with(|| {
            self.len.fetch_add(1, Relaxed);
            Arc::new(Client::new(address))
        });
        Some(Arc::clone(client))
    }

    /// Every client, copied out.
    pub(super) fn all(&self) -> Vec<Arc<Client>> {
        let clients = |part: &RwLock<Part>| -> Vec<Arc<Client>> {
            part.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
        };
        self.parts.iter().flat_map(clients).collect()
    }

    /// Forgets those of whom nothing is known any more.
    pub(super) fn sweep(&self, now: u32) {
        self.full.store(false, Relaxed);
        for part in &self.parts {
            let mut clients = part.write().unwrap_or_else(PoisonError::into_inner);
            let before = clients.len();
            // One is ours; more can be had from here only, and that is locked.
            clients.retain(|_, client| Arc::strong_count(client) > 1 || client.is_busy(now));
            self.len.fetch_sub(before - clients.len(), Relaxed);
            if clients.capacity() > 4 * clients.len() {
                clients.shrink_to_fit();
            }
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// True if somebody was turned away since the last sweep.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Relaxed)
    }
}
