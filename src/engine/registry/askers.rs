//! Who asked: each client once, with what it takes of the registry and how fast it brings new names.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

use crate::engine::abuse::{NAMES_PER_ASKER, NAMES_WINDOW};
use crate::engine::limits::{ASKER_SHARDS, ASKERS_MAX};

/// Who pays for all that nobody owns while containers are known: a container may forge as many addresses as it likes.
pub const UNOWNED: IpAddr = IpAddr::V6(Ipv6Addr::UNSPECIFIED);

/// Clients that may be remembered while nobody owns them: the rest is for containers.
const UNOWNED_MAX: usize = ASKERS_MAX / 4 * 3;

/// What is paid for together: by all addresses of one container, or by all that nobody owns.
#[derive(Debug, Default)]
pub(super) struct Account {
    /// Addresses on it.
    pub(super) addresses: AtomicUsize,
    /// Bytes on it, by our own estimate.
    pub(super) bytes: AtomicU64,
}

/// One client. It pays for what it brought into the registry first; nobody pays for what others brought.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) address: IpAddr,
    /// What it has on its account.
    pub(super) own: Account,
    /// Its own alone, until it is known whose it is.
    account: Mutex<Arc<Account>>,
    flood: Mutex<Flood>,
}

/// New names of one client in one window; times are seconds since the Unix epoch.
#[derive(Debug, Default)]
struct Flood {
    start: u32,
    names: u32,
    until: u32,
}

impl Account {
    /// Books a change; wraps as a difference is meant to.
    fn add(&self, addresses: usize, bytes: u64) {
        self.addresses.fetch_add(addresses, Relaxed);
        self.bytes.fetch_add(bytes, Relaxed);
    }
}

type Part = HashMap<IpAddr, Arc<Client>>;

/// All clients. A lock of a part of it is taken under one of a part of the registry, never the other way round.
#[derive(Debug)]
pub(super) struct Clients {
    parts: Box<[RwLock<Part>]>,
    /// Those of containers, by one address of each, and that of nobody's. A lock under all others.
    accounts: RwLock<HashMap<IpAddr, Arc<Account>>>,
    hasher: RandomState,
    len: AtomicUsize,
    full: AtomicBool,
}

impl Client {
    fn new(address: IpAddr) -> Client {
        let (own, account, flood) = Default::default();
        Client { address, own, account, flood }
    }

    fn paying(&self) -> MutexGuard<'_, Arc<Account>> {
        self.account.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Who pays for it.
    pub(super) fn account(&self) -> Arc<Account> {
        Arc::clone(&self.paying())
    }

    /// Tells accounts apart.
    pub(super) fn account_id(&self) -> usize {
        Arc::as_ptr(&self.paying()).addr()
    }

    /// Books what changes on its account.
    pub(super) fn book(&self, addresses: isize, bytes: i64) {
        let (addresses, bytes) = (addresses.cast_unsigned(), bytes.cast_unsigned());
        let account = self.paying();
        self.own.add(addresses, bytes);
        account.add(addresses, bytes);
    }

    /// Has another account pay from now on, for what it has too.
    fn move_to(&self, account: &Arc<Account>) {
        let mut paying = self.paying();
        if Arc::ptr_eq(&paying, account) {
            return;
        }
        let (addresses, bytes) = (self.own.addresses.load(Relaxed), self.own.bytes.load(Relaxed));
        paying.add(addresses.wrapping_neg(), bytes.wrapping_neg());
        account.add(addresses, bytes);
        *paying = Arc::clone(account);
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
        let (accounts, len, full) = Default::default();
        Clients { parts, accounts, hasher: RandomState::new(), len, full }
    }
}

impl Clients {
    /// The client of an address, with the account of `payer` where that is known; nothing if there are too many clients.
    pub(super) fn of(&self, address: IpAddr, payer: Option<IpAddr>) -> Option<Arc<Client>> {
        let client = self.find(address, payer)?;
        if let Some(payer) = payer {
            client.move_to(&self.account(payer));
        }
        Some(client)
    }

    fn account(&self, payer: IpAddr) -> Arc<Account> {
        let known = self.accounts.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(account) = known.get(&payer) {
            return Arc::clone(account);
        }
        drop(known);
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(accounts.entry(payer).or_default())
    }

    fn find(&self, address: IpAddr, payer: Option<IpAddr>) -> Option<Arc<Client>> {
        let part = super::part(&self.parts, self.hasher.hash_one(address));
        if let Some(client) = part.read().unwrap_or_else(PoisonError::into_inner).get(&address) {
            return Some(Arc::clone(client));
        }
        let most = if payer == Some(UNOWNED) { UNOWNED_MAX } else { ASKERS_MAX };
        if self.len.load(Relaxed) >= most {
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

    /// Whether anything is known of a client.
    pub(super) fn knows(&self, address: IpAddr) -> bool {
        let part = super::part(&self.parts, self.hasher.hash_one(address));
        let clients = part.read().unwrap_or_else(PoisonError::into_inner);
        // The table keeps one for itself; every name it asked for has another.
        clients.get(&address).is_some_and(|client| Arc::strong_count(client) > 1)
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
        let mut accounts = self.accounts.write().unwrap_or_else(PoisonError::into_inner);
        accounts.retain(|_, account| Arc::strong_count(account) > 1);
    }

    pub(super) fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// True if somebody was turned away since the last sweep.
    pub(super) fn is_full(&self) -> bool {
        self.full.load(Relaxed)
    }
}
