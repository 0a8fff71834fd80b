//! What containers may reach by names of their own although the lists refuse it.

use std::collections::{BTreeSet, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::{Keeper, follow};
use crate::daemon::truth::Order;
use crate::engine::lists::Lists;
use crate::engine::owner::Owners;
use crate::engine::registry::Registry;

/// A container and an address that it may reach by a name.
pub type Admitted = (IpAddr, IpAddr);

/// Pairs of a container and a blocked address that it may reach by a name of its own, at most.
const ADMITTED_MAX: usize = 4096;

impl Keeper {
    pub(super) fn admit(&mut self, pair: Admitted) {
        if self.admitted.len() < ADMITTED_MAX && self.admitted.insert(pair) {
            self.follow_policies();
        }
    }

    /// The lists for the kernel, behind what containers may reach in spite of them.
    pub(super) fn pass_on(&mut self, lists: Arc<Lists>) {
        let same = |before: &Arc<Lists>| before.block == lists.block && before.pairs == lists.pairs;
        if !self.lists.as_ref().is_some_and(same) {
            self.find_admitted(&lists);
            self.follow_policies();
        }
        self.shared.orders.put_always(Order::Lists(Arc::clone(&lists)));
        self.lists = Some(lists);
    }

    /// Finds what containers may reach by names that were asked for before it was refused, or before they were known.
    pub(super) fn find_admitted(&mut self, lists: &Lists) {
        let owners = self.shared.engine.owners();
        let registry = self.shared.engine.registry();
        self.admitted = find(&owners, lists, registry, ADMITTED_MAX);
    }

    pub(super) fn follow_policies(&mut self) {
        let owners = self.shared.engine.owners();
        // What a container may reach by name ends with the policy that names it.
        let registry = self.shared.engine.registry();
        self.admitted.retain(|(src, dst)| owners.admits(*src, *dst, registry));
        let policies = follow::policies(&owners, &self.base, &self.admitted);
        if policies != self.policies {
            self.policies = policies.clone();
            self.shared.orders.put_always(Order::Policies(Arc::new(policies)));
        }
    }
}

/// What containers may reach by names of their own among what the lists refuse, as the registry knows it; at most `max`.
fn find(owners: &Owners, lists: &Lists, registry: &Registry, max: usize) -> BTreeSet<Admitted> {
    let nothing = lists.block.lasting.is_empty() && lists.block.timed.is_empty();
    if owners.with_domains().is_empty() || (nothing && lists.pairs.is_empty()) {
        return BTreeSet::new();
    }
    let to_one: HashSet<IpAddr> = lists.pairs.iter().map(|((_, to), _)| *to).collect();
    let is_refused = |dst: &IpAddr| lists.block.has_address(*dst) || to_one.contains(dst);
    let refused = registry.addresses().into_iter().filter(is_refused);
    let sources = || owners.with_domains().iter().map(|(src, _)| *src);
    let pairs = refused.flat_map(|dst| sources().map(move |src| (src, dst)));
    pairs.filter(|(src, dst)| owners.admits(*src, *dst, registry)).take(max).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::lists::Side;
    use crate::engine::net::{Family, Net};
    use crate::engine::owner::Owner;
    use crate::engine::policy::Policy;
    use crate::engine::wish::Refusal;
    use crate::engine::{Kind, Name, Record, Settings, Wall};

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// A container at an address that may reach a domain.
    fn owner((address, domain): (&str, &str)) -> (IpAddr, Arc<Owner>) {
        let mut policy = Policy::new(&Settings::default(), Refusal::Reset);
        policy.allow = Some(Arc::new(Side::new([], [], Name::new(domain).ok())));
        let [id, name, image] = [address; 3].map(Into::into);
        let owner = Owner { id, name, image, policy: Arc::new(policy), tally: Arc::default() };
        (ip(address), Arc::new(owner))
    }

    fn registry(records: &[(&str, &str)]) -> Registry {
        let registry = Registry::default();
        for (name, address) in records {
            registry.insert(&Record {
                address: ip(address),
                name: Name::new(name).unwrap(),
                client: None,
                kind: Kind::Reply,
                chain: vec![],
                time: Wall(1),
            });
        }
        registry
    }

    #[test]
    fn what_was_resolved_before_it_was_refused_is_found_for_whom_it_is_allowed_to() {
        let allowed = [("10.0.0.2", "storage.example"), ("10.0.0.3", "other.example")];
        let owners = Owners::new(allowed.map(owner).into(), vec![]);
        let registry = registry(&[
            ("a.storage.example", "192.0.2.1"),
            ("storage.example", "192.0.2.2"),
            ("storage.example", "198.51.100.1"),
            ("storage.example", "203.0.113.1"),
            ("web.example", "192.0.2.3"),
        ]);
        let net: Net = "192.0.2.0/24".parse().unwrap();
        let block = Side::new([(Family::V4, net.span())], [], []);
        let pairs = vec![((ip("10.0.0.2"), ip("198.51.100.1")), None)];
        let lists = Lists { block, pairs, ..Lists::default() };
        let found = find(&owners, &lists, &registry, ADMITTED_MAX);
        let wanted = ["192.0.2.1", "192.0.2.2", "198.51.100.1"];
        assert_eq!(found, wanted.map(|dst| (ip("10.0.0.2"), ip(dst))).into());
        assert_eq!(find(&owners, &lists, &registry, 2).len(), 2);
        assert!(find(&owners, &Lists::default(), &registry, ADMITTED_MAX).is_empty());
        assert!(find(&Owners::default(), &lists, &registry, ADMITTED_MAX).is_empty());
    }
}
