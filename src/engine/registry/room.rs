//! How much is kept, and what goes first: by age, then what an asker has beyond its share, then what nobody needs.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use super::Registry;
use super::askers::{Account, Client};
use crate::engine::limits::{
    ASKER_SHARE, ASKER_SLACK, ASKERS_PER_ADDRESS_MAX, CHAIN_MAX, NAME_BYTES_MAX,
    NAMES_PER_ADDRESS_MAX, REGISTRY_BYTES_PER_ADDRESS, REGISTRY_SIZE_DEFAULT, ROOM_BEGINS,
    ROOM_UNTIL, SEEN_RECENTLY, USED_RECENTLY,
};
use crate::engine::time::Wall;

/// How much is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Addresses, at most. Bytes are bounded with them.
    pub addresses: usize,
    /// How long an address is kept that is neither seen nor used; for ever if nothing.
    pub keep: Option<Duration>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { addresses: REGISTRY_SIZE_DEFAULT, keep: None }
    }
}

/// Addresses that were thrown out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Vacated {
    /// Older than is kept.
    pub aged: usize,
    /// Of askers that had more than their share.
    pub over_quota: usize,
    /// To make room for others.
    pub for_room: usize,
}

impl Vacated {
    /// All of them.
    pub fn total(&self) -> usize {
        self.aged + self.over_quota + self.for_room
    }
}

/// More than one address can take, with all its names, their chains and askers.
const ADDRESS_BYTES_MAX: usize = 1 << 18;
const _: () = assert!(
    NAMES_PER_ADDRESS_MAX * (NAME_BYTES_MAX + 200) * (1 + CHAIN_MAX) + ASKERS_PER_ADDRESS_MAX * 40
        < ADDRESS_BYTES_MAX
);

/// What there may be, and what there is.
#[derive(Debug)]
pub(super) struct Room {
    most: AtomicUsize,
    /// Seconds; the greatest number is for ever.
    keep: AtomicU64,
    pub(super) addresses: AtomicUsize,
    pub(super) bytes: AtomicU64,
    wanted: AtomicBool,
}

impl Room {
    pub(super) fn new(limits: Limits) -> Room {
        let (most, keep, addresses, bytes, wanted) = Default::default();
        let room = Room { most, keep, addresses, bytes, wanted };
        room.set(limits);
        room
    }

    pub(super) fn set(&self, limits: Limits) {
        self.most.store(limits.addresses, Relaxed);
        self.keep.store(limits.keep.map_or(u64::MAX, |keep| keep.as_secs()), Relaxed);
    }

    pub(super) fn limits(&self) -> Limits {
        let keep = Some(self.keep.load(Relaxed)).filter(|keep| *keep != u64::MAX);
        Limits { addresses: self.most.load(Relaxed), keep: keep.map(Duration::from_secs) }
    }

    fn most_bytes(&self) -> u64 {
        let addresses = u64::try_from(self.most.load(Relaxed)).unwrap_or(u64::MAX);
        addresses.saturating_mul(REGISTRY_BYTES_PER_ADDRESS)
    }

    pub(super) fn is_full(&self) -> bool {
        self.addresses.load(Relaxed) >= self.most.load(Relaxed)
            || self.bytes.load(Relaxed) >= self.most_bytes()
    }

    /// Whether more than so many sixteenths of everything are taken.
    fn reaches(&self, sixteenths: usize) -> bool {
        let bytes = u64::try_from(sixteenths).unwrap_or(16);
        self.addresses.load(Relaxed) > self.most.load(Relaxed).saturating_mul(sixteenths) / 16
            || self.bytes.load(Relaxed) > self.most_bytes().saturating_mul(bytes) / 16
    }

    /// Whether there is more than a share on an account by so many parts of it.
    fn exceeds(&self, account: &Account, more: usize) -> bool {
        let share = |all: usize| all / ASKER_SHARE + all / ASKER_SHARE / ASKER_SLACK * more;
        let bytes = usize::try_from(self.most_bytes()).unwrap_or(usize::MAX);
        let has = usize::try_from(account.bytes.load(Relaxed)).unwrap_or(usize::MAX);
        account.addresses.load(Relaxed) > share(self.most.load(Relaxed)) || has > share(bytes)
    }

    /// Whether another address of an asker fits. Asks for room well before it does not.
    pub(super) fn fits(&self, client: Option<&Arc<Client>>, restored: bool) -> bool {
        let fits = self.fits_name(client, restored);
        fits && self.addresses.load(Relaxed) < self.most.load(Relaxed)
    }

    /// The same for another name of an address that is known.
    pub(super) fn fits_name(&self, client: Option<&Arc<Client>>, restored: bool) -> bool {
        let over = |more| client.is_some_and(|client| self.exceeds(&client.account(), more));
        if self.reaches(ROOM_BEGINS) || over(0) {
            self.wanted.store(true, Relaxed);
        }
        self.bytes.load(Relaxed) < self.most_bytes() && (restored || !over(1))
    }

    /// Whether nothing new of a client's fits, for there is too much on its account.
    pub(super) fn is_over(&self, client: &Client) -> bool {
        self.exceeds(&client.account(), 1)
    }

    /// Whether all the names of an address fit, however many.
    pub(super) fn fits_whole(&self) -> bool {
        let spare = self.most_bytes().saturating_sub(self.bytes.load(Relaxed));
        usize::try_from(spare).is_ok_and(|spare| spare > ADDRESS_BYTES_MAX)
            && self.fits_name(None, true)
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.wanted.load(Relaxed)
    }
}

/// What may be taken from an account: whether it was used lately, when it was seen or used last, and the address.
type Candidate = (bool, u32, IpAddr);

/// All of them, each with the client that has it on that account.
type Candidates = Vec<(Candidate, Arc<Client>)>;

/// Pieces of old evidence that may go for one new one. One may be much smaller than another.
const WAYS_MAX: usize = 4;

fn ago(at: u32, time: Duration) -> u32 {
    at.saturating_sub(u32::try_from(time.as_secs()).unwrap_or(u32::MAX)).max(1)
}

impl Registry {
    /// Throws out what is older than is kept, what askers have beyond their share, and if there is still too little room
    /// what was neither used nor seen lately, the oldest first. Takes a while: for a thread nobody waits for.
    pub fn make_room(&self, now: Wall) -> Vacated {
        self.room.wanted.store(false, Relaxed);
        let at = now.seconds();
        let vacated = Vacated {
            aged: self.throw_out_aged(at),
            over_quota: self.throw_out_excess(at),
            for_room: self.throw_out_unneeded(at),
        };
        self.clients.sweep(at);
        vacated
    }

    fn throw_out_aged(&self, at: u32) -> usize {
        let Some(keep) = self.room.limits().keep else { return 0 };
        let keep = u32::try_from(keep.as_secs()).unwrap_or(u32::MAX);
        let Some(before) = at.checked_sub(keep) else { return 0 };
        let aged = self.table.keys(|entry| entry.live() < before);
        aged.into_iter().filter(|address| self.throw_out(*address, before)).count()
    }

    /// Takes from each account over its share its own oldest evidence, what is used last of all. What others asked for as
    /// well stays, on their account.
    fn throw_out_excess(&self, at: u32) -> usize {
        let accounts = self.clients.all().into_iter().map(|client| client.account());
        let over = accounts.filter(|account| self.room.exceeds(account, 0));
        let mut over: HashMap<usize, (Arc<Account>, Candidates)> =
            over.map(|account| (Arc::as_ptr(&account).addr(), (account, Vec::new()))).collect();
        if over.is_empty() {
            return 0;
        }
        let used = ago(at, USED_RECENTLY);
        self.table.each(|entry| {
            let candidate = (entry.used >= used, entry.live(), IpAddr::from(entry.key));
            for payer in entry.payers() {
                if let Some((_, places)) = over.get_mut(&payer.account_id()) {
                    places.push((candidate, Arc::clone(payer)));
                }
            }
        });
        over.into_values().map(|(account, places)| self.shrink(&account, places)).sum()
    }

    fn shrink(&self, account: &Account, mut places: Candidates) -> usize {
        places.sort_unstable_by_key(|(candidate, _)| *candidate);
        // A little below its share, so that the next record does not ask for room again.
        let addresses = self.room.most.load(Relaxed) / ASKER_SHARE;
        let bytes = self.room.most_bytes() / u64::try_from(ASKER_SHARE).unwrap_or(1);
        let enough = || {
            account.addresses.load(Relaxed) <= addresses / 8 * 7
                && account.bytes.load(Relaxed) <= bytes / 8 * 7
        };
        let mut places = places.into_iter();
        let mut gone = 0;
        while !enough() {
            let Some(((.., address), client)) = places.next() else { break };
            gone += usize::from(self.shed(&client, address));
        }
        gone
    }

    /// Takes an old piece of evidence, and a few if need be, from an account that is full, so that something new of its
    /// own fits: what it asks for now it needs now. What was used lately stays.
    pub(super) fn make_way(&self, client: &Client, near: IpAddr, at: u32) {
        let (account, used) = (client.account(), ago(at, USED_RECENTLY));
        let id = client.account_id();
        for _ in 0..WAYS_MAX {
            if !self.room.exceeds(&account, 1) {
                return;
            }
            let pays = |client: &Arc<Client>| client.account_id() == id;
            let oldest = self.table.least_near(near, |entry| {
                let pays = || entry.bill().any(|(client, ..)| client.is_some_and(pays));
                (entry.used < used && pays()).then(|| entry.live())
            });
            let Some(oldest) = oldest else { return };
            let payers = self.table.with(oldest, |entry| {
                entry.payers().into_iter().filter(|client| pays(client)).cloned().collect()
            });
            let payers: Vec<Arc<Client>> = payers.unwrap_or_default();
            for payer in payers {
                self.shed(&payer, oldest);
            }
        }
    }

    fn throw_out_unneeded(&self, at: u32) -> usize {
        if !self.room.reaches(ROOM_BEGINS) {
            return 0;
        }
        let (used, seen) = (ago(at, USED_RECENTLY), ago(at, SEEN_RECENTLY));
        let mut unneeded = Vec::new();
        self.table.each(|entry| {
            if entry.used < used && entry.last() < seen {
                unneeded.push((entry.live(), IpAddr::from(entry.key)));
            }
        });
        unneeded.sort_unstable();
        let mut gone = 0;
        for (live, address) in unneeded {
            if !self.room.reaches(ROOM_UNTIL) {
                break;
            }
            gone += usize::from(self.throw_out(address, live.saturating_add(1)));
        }
        gone
    }
}
