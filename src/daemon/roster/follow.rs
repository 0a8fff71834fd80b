//! What follows from the books for the kernel: where containers are, and what each may on its own.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::admitted::Admitted;
use crate::config::RuleConfig;
use crate::daemon::policies::{Networks, Policies};
use crate::engine::container::Network;
use crate::engine::intervals::Span;
use crate::engine::inventory::Inventory;
use crate::engine::net::{Family, Net, number};
use crate::engine::owner::Owners;
use crate::engine::policy::Policy;
use crate::engine::wish::Treatment;
use crate::host::InterfaceAddress;
use crate::nftables::Bridge;

/// What decides where containers are, beside the books.
pub struct Ground<'a> {
    /// What is configured.
    pub rules: &'a RuleConfig,
    /// Networks of the engine when it was last heard, by an earlier run.
    pub remembered: &'a [Net],
    /// Gateways of this host.
    pub gateways: &'a [IpAddr],
    /// Bridges that led out before: their default route may be away for a moment.
    pub uplinks: &'a BTreeSet<Arc<str>>,
}

impl Ground<'_> {
    /// Where containers are: as configured, and in the networks of the engine. Until it was heard for the first time,
    /// where they were, were found or are likely to be.
    pub fn networks(&self, books: &Inventory) -> Networks {
        let mut containers = match (books.is_heard(), self.rules.containers_named) {
            (false, _) | (true, true) => self.rules.containers.clone(),
            (true, false) => of_bridges(&self.rules.host, |on| !is_dockers(on)).collect(),
        };
        let known = books.bridges().flat_map(|network| network.subnets.iter().copied());
        let found = of_bridges(&self.rules.host, |_| true);
        let likely = self.remembered.iter().copied().chain(found).filter(|_| !books.is_heard());
        for net in known.chain(likely) {
            if !containers.contains(&net) {
                containers.push(net);
            }
        }
        let bridges = books.bridges().filter(|network| !self.leads_out(network));
        let bridge = |network: &Network| {
            let interface = network.interface.as_ref()?.to_string();
            Some(Bridge { interface, nets: network.subnets.clone() })
        };
        Networks { containers, bridges: bridges.filter_map(bridge).collect() }
    }

    /// Bridges by which this host itself reaches the outside: what comes in there has any source.
    pub fn uplinks<'b>(&'b self, books: &'b Inventory) -> impl Iterator<Item = &'b Network> {
        books.bridges().filter(|network| self.leads_out(network))
    }

    fn leads_out(&self, network: &Network) -> bool {
        let within = |gateway: &IpAddr| network.subnets.iter().any(|net| net.contains(*gateway));
        self.gateways.iter().any(within) || self.uplinks.contains(&network.name)
    }
}

/// Networks of the container bridges there are, of those that fit.
fn of_bridges(
    host: &[InterfaceAddress],
    fits: impl Fn(&InterfaceAddress) -> bool,
) -> impl Iterator<Item = Net> {
    let link_local = |ip: IpAddr| matches!(ip, IpAddr::V6(v6) if v6.is_unicast_link_local());
    let bridges = host.iter().filter(move |on| on.is_on_bridge() && fits(on));
    let judged = bridges.filter(move |on| !link_local(on.address));
    judged.map(|on| Net::around(on.address, on.prefix))
}

/// Whether a bridge is Docker's, as far as its name tells.
fn is_dockers(on: &InterfaceAddress) -> bool {
    on.interface.starts_with("docker") || on.interface.starts_with("br-")
}

/// What single containers may; `admitted` by names of their own.
pub fn policies(owners: &Owners, base: &Policy, admitted: &BTreeSet<Admitted>) -> Policies {
    let mut policies = Policies::default();
    for (address, owner) in owners.iter() {
        let policy = &owner.policy;
        match policy.mode {
            Treatment::Off => policies.exempt.push(address),
            Treatment::DryRun if base.mode == Treatment::Enforce => policies.dryrun.push(address),
            Treatment::DryRun | Treatment::Enforce => {}
        }
        if policy.refuse != base.refuse {
            policies.otherway.push(address);
        }
        let spans = policy.allow.iter().flat_map(|side| side.lasting.all());
        let of_its = spans.filter(|(family, _)| *family == Family::of(address));
        policies.permits.extend(of_its.map(|(family, span)| (address, family, span)));
    }
    let single =
        |(src, dst): &Admitted| (*src, Family::of(*dst), Span::new(number(*dst), number(*dst)));
    policies.permits.extend(admitted.iter().map(single));
    // In the order of addresses, so that nothing changes where nothing did.
    policies.exempt.sort_unstable();
    policies.dryrun.sort_unstable();
    policies.otherway.sort_unstable();
    policies.permits.sort_unstable();
    policies
}
