//! The owner of an address: a container with its policy and its counters, shared by all who judge and tell.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};

use super::flow::Proto;
use super::judge::Decision;
use super::net::Net;
use super::policy::Policy;
use super::record::Record;
use super::registry::{Registry, UNOWNED};
use super::time::Wall;
use super::verdict::{Reason, Verdict};

/// A container that owns addresses.
#[derive(Clone, Debug)]
pub struct Owner {
    /// Full id.
    pub id: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Image.
    pub image: Arc<str>,
    /// What holds for it.
    pub policy: Arc<Policy>,
    /// What became of its packets.
    pub tally: Arc<OwnerTally>,
}

/// Two are the same if they are the same container, named and treated alike.
impl PartialEq for Owner {
    fn eq(&self, other: &Owner) -> bool {
        (&self.id, &self.name, &self.image, &self.policy)
            == (&other.id, &other.name, &other.image, &other.policy)
    }
}

impl Eq for Owner {}

/// Counts since the container was first seen.
#[derive(Debug, Default)]
pub struct OwnerTally {
    accepted: AtomicU64,
    refused: AtomicU64,
    held: AtomicU64,
    last_refusal: Mutex<Option<Refused>>,
}

/// A refusal, or what would have been one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused {
    /// When.
    pub at: Wall,
    /// Where to.
    pub dst: IpAddr,
    /// Protocol and port; the kernel's sets do not tell.
    pub port: Option<(Proto, u16)>,
    /// Why.
    pub reason: Reason,
}

/// Counts at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OwnerCounts {
    /// Packets accepted.
    pub accepted: u64,
    /// Packets refused, or that enforcing would have refused.
    pub refused: u64,
    /// Packets that were held, or would have been.
    pub held: u64,
    /// The last refusal.
    pub last_refusal: Option<Refused>,
}

impl OwnerTally {
    /// Counts a verdict.
    pub fn count(&self, decision: &Decision, at: Wall) {
        match decision.verdict {
            Verdict::Accept => self.accepted.fetch_add(1, Relaxed),
            Verdict::Drop => {
                let (flow, reason) = (decision.flow, decision.reason);
                let port = Some((flow.proto, flow.dst.port()));
                self.refuse(1, Some(Refused { at, dst: flow.dst.ip(), port, reason }))
            }
        };
        if !decision.held.is_zero() {
            self.held.fetch_add(1, Relaxed);
        }
    }

    /// Counts packets that were refused; `last` is what there is to say about the last of them.
    pub fn refuse(&self, packets: u64, last: Option<Refused>) -> u64 {
        if last.is_some() {
            *self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner) = last;
        }
        self.refused.fetch_add(packets, Relaxed)
    }

    /// The counts now.
    pub fn counts(&self) -> OwnerCounts {
        let last_refusal = *self.last_refusal.lock().unwrap_or_else(PoisonError::into_inner);
        let [accepted, refused, held] =
            [&self.accepted, &self.refused, &self.held].map(|counter| counter.load(Relaxed));
        OwnerCounts { accepted, refused, held, last_refusal }
    }
}

/// Who owns which address at one moment: what verdict threads ask, never changed once it is there.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    by_address: HashMap<IpAddr, Arc<Owner>>,
    /// All addresses of those that have several, by id.
    siblings: HashMap<Arc<str>, Vec<IpAddr>>,
    /// Those with domains of their own to allow, by address; few as a rule.
    with_domains: Vec<(IpAddr, Arc<Owner>)>,
    /// Where addresses of containers are.
    nets: Vec<Net>,
}

impl Owners {
    /// Puts the parts together; `nets` are the networks whose addresses get an owner sooner or later.
    pub fn new(by_address: HashMap<IpAddr, Arc<Owner>>, nets: Vec<Net>) -> Owners {
        let names =
            |owner: &Owner| owner.policy.allow.as_ref().is_some_and(|side| !side.names.is_empty());
        let mut siblings: HashMap<Arc<str>, Vec<IpAddr>> = HashMap::new();
        for (address, owner) in &by_address {
            siblings.entry(Arc::clone(&owner.id)).or_default().push(*address);
        }
        siblings.retain(|_, addresses| addresses.len() > 1);
        let with_domains = by_address.iter().filter(|(_, owner)| names(owner));
        let mut with_domains: Vec<(IpAddr, Arc<Owner>)> =
            with_domains.map(|(ip, owner)| (*ip, Arc::clone(owner))).collect();
        with_domains.sort_unstable_by_key(|(ip, _)| *ip);
        Owners { by_address, siblings, with_domains, nets }
    }

    /// The owner of an address.
    pub fn of(&self, address: IpAddr) -> Option<&Arc<Owner>> {
        self.by_address.get(&address)
    }

    /// Every address of the container that has this one, it among them: whoever asks for a name from one may connect
    /// from another, as with IPv6 or in several networks.
    pub fn clients<'a>(&'a self, address: &'a IpAddr) -> &'a [IpAddr] {
        let siblings = || self.siblings.get(&self.of(*address)?.id);
        siblings().map_or(std::slice::from_ref(address), Vec::as_slice)
    }

    /// On whose account of the registry it goes what a client asks for: its container's, or the common one of all that
    /// nobody owns. While no container is known everybody pays for itself.
    pub fn payer(&self, client: IpAddr) -> Option<IpAddr> {
        if self.by_address.is_empty() {
            return None;
        }
        let of_owner = self.of(client).and_then(|_| self.clients(&client).iter().min());
        Some(of_owner.copied().unwrap_or(UNOWNED))
    }

    /// Whether an address without an owner should have one soon.
    pub fn expects(&self, address: IpAddr) -> bool {
        self.nets.iter().any(|net| net.contains(address))
    }

    /// All of them, by address.
    pub fn iter(&self) -> impl Iterator<Item = (IpAddr, &Arc<Owner>)> {
        self.by_address.iter().map(|(address, owner)| (*address, owner))
    }

    /// Whether the container at `src` may reach `dst` by a name of it.
    pub fn admits(&self, src: IpAddr, dst: IpAddr, registry: &Registry) -> bool {
        let side = self.of(src).and_then(|owner| owner.policy.allow.as_ref());
        side.is_some_and(|side| {
            let named = registry.with_names(dst, |names| {
                names.filter_map(|naming| side.names.find(naming.name())).next().is_some()
            });
            named.unwrap_or(false)
        })
    }

    /// Those that may reach something by a name, by address.
    pub fn with_domains(&self) -> &[(IpAddr, Arc<Owner>)] {
        &self.with_domains
    }

    /// The addresses of containers that may reach the record's address by its name.
    pub fn admitted_by(&self, record: &Record) -> Vec<IpAddr> {
        let admits = |owner: &Owner| {
            owner.policy.allow.as_ref().is_some_and(|side| side.names.find(&record.name).is_some())
        };
        let admitted = self.with_domains.iter().filter(|(_, owner)| admits(owner));
        admitted.map(|(address, _)| *address).collect()
    }
}
