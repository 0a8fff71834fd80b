//! Which container has which address, since when, and who had it before.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::limits::{PAST_OWNERS_MAX, TENANTS_MAX};
use crate::engine::owner::Owner;
use crate::engine::time::Wall;

/// How long before its news a container may have had its address: an engine tells of a start once it is done.
const NEWS_DELAY: Duration = Duration::from_secs(2);
/// How long after a container gave its address up a packet of it may still be on its way to us.
const IN_FLIGHT: Duration = Duration::from_millis(100);

/// All claims.
#[derive(Debug, Default)]
pub(super) struct Claims {
    current: HashMap<IpAddr, Claim>,
    past: VecDeque<Past>,
    tenants: Tenants,
}

/// The last container on each address.
pub type Tenants = HashMap<IpAddr, Tenant>;

/// The last container on an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// Its id.
    pub id: Arc<str>,
    /// What came from the address before was another's; 0 if no other is known of.
    pub since: Wall,
}

#[derive(Debug)]
struct Claim {
    owner: Arc<Owner>,
    from: Wall,
}

#[derive(Debug)]
struct Past {
    address: IpAddr,
    owner: Arc<Owner>,
    from: Wall,
    until: Wall,
}

/// What a claim changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Claimed {
    /// It took the address over from a container whose end is still to be told.
    pub displaced: bool,
    /// The last container on the address was another.
    pub new_tenant: bool,
}

impl Claims {
    /// `owner` has `address` from now on, told at `at`; nothing if it had it before.
    pub fn claim(&mut self, address: IpAddr, owner: &Arc<Owner>, at: Wall) -> Option<Claimed> {
        let mut claimed = Claimed::default();
        match self.current.get_mut(&address) {
            Some(claim) if claim.owner.id == owner.id => {
                claim.owner = Arc::clone(owner);
                return None;
            }
            Some(_) => {
                self.end(address, at);
                claimed.displaced = true;
            }
            None => {}
        }
        let ended = self.past.iter().rev().find(|past| past.address == address);
        let ended = ended.map(|past| past.until);
        let earliest = Wall(at.0.saturating_sub(micros(NEWS_DELAY)));
        let from = earliest.max(ended.unwrap_or(Wall(0)));
        let last = self.tenants.get(&address).map(|last| last.id == owner.id);
        claimed.new_tenant = last == Some(false);
        if last.is_none() && self.tenants.len() >= TENANTS_MAX {
            // Those that have their addresses are known anyway.
            self.tenants.retain(|address, _| self.current.contains_key(address));
        }
        if last != Some(true) {
            // Of one that came while nobody watched it is not known when; rather nothing is its than another's.
            let known = ended.unwrap_or(at);
            let since = if claimed.new_tenant { known } else { Wall(0) };
            self.tenants.insert(address, Tenant { id: Arc::clone(&owner.id), since });
        }
        self.current.insert(address, Claim { owner: Arc::clone(owner), from });
        Some(claimed)
    }

    /// The owner as it is now, if it has the address.
    pub fn renew(&mut self, address: IpAddr, owner: &Arc<Owner>) {
        if let Some(claim) = self.current.get_mut(&address)
            && claim.owner.id == owner.id
        {
            claim.owner = Arc::clone(owner);
        }
    }

    /// The container gives an address up; false if it is another's by now.
    pub fn release(&mut self, address: IpAddr, id: &str, at: Wall) -> bool {
        let is_its = self.current.get(&address).is_some_and(|claim| *claim.owner.id == *id);
        if is_its {
            self.end(address, at);
        }
        is_its
    }

    fn end(&mut self, address: IpAddr, until: Wall) {
        let Some(Claim { owner, from }) = self.current.remove(&address) else { return };
        if self.past.len() >= PAST_OWNERS_MAX {
            self.past.pop_front();
        }
        self.past.push_back(Past { address, owner, from, until });
    }

    /// Whose a packet from `address` was at a moment.
    pub fn owner_at(&self, address: IpAddr, at: Wall) -> Option<Arc<Owner>> {
        let claim = self.current.get(&address).filter(|claim| claim.from <= at);
        let was = |past: &&Past| {
            past.address == address && past.from <= at && at <= past.until + IN_FLIGHT
        };
        let past = || self.past.iter().rev().find(was).map(|past| Arc::clone(&past.owner));
        claim.map(|claim| Arc::clone(&claim.owner)).or_else(past)
    }

    /// The container that had `address` between two moments, if it was one alone.
    pub fn owner_between(&self, address: IpAddr, from: Wall, to: Wall) -> Option<Arc<Owner>> {
        let past = self.past.iter().filter(|past| {
            past.address == address && past.from <= to && from <= past.until + IN_FLIGHT
        });
        let current = self.current.get(&address).filter(|claim| claim.from <= to);
        let mut all = past.map(|past| &past.owner).chain(current.map(|claim| &claim.owner));
        let first = all.next()?;
        all.all(|owner| owner.id == first.id).then(|| Arc::clone(first))
    }

    /// Whether what came from `address` at a moment is not to be put down to whoever has it now.
    pub fn was_anothers(&self, address: IpAddr, at: Wall) -> bool {
        let another = |then: Arc<Owner>| {
            self.current.get(&address).is_none_or(|claim| claim.owner.id != then.id)
        };
        // Of a time before the books it is known only when the last one came.
        self.tenants.get(&address).is_some_and(|last| at < last.since)
            || self.owner_at(address, at).is_some_and(another)
    }

    /// Who was last on which address.
    pub fn tenants(&self) -> &Tenants {
        &self.tenants
    }

    /// Takes in who was last on which address, as an earlier run knew it.
    pub fn remember(&mut self, tenants: &Tenants) {
        for (address, tenant) in tenants {
            self.tenants.entry(*address).or_insert_with(|| tenant.clone());
        }
    }

    /// Who has which address now.
    pub fn by_address(&self) -> HashMap<IpAddr, Arc<Owner>> {
        self.current.iter().map(|(ip, claim)| (*ip, Arc::clone(&claim.owner))).collect()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
