//! What containers change: networks and policies that come and go, and addresses that are given up.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Keeper;
use crate::conntrack;
use crate::daemon::policies::{Networks, Policies};
use crate::daemon::revoke::Revoker;
use crate::daemon::wants::Want;
use crate::engine::Mode;

/// Pause before networks that the kernel did not take are tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Keeper {
    /// Brings the sets that follow the networks to these.
    pub(super) fn follow(&mut self, networks: Networks) {
        match self.rules.follow(&networks) {
            Ok(unnamed) => {
                if self.networks.take().is_some() {
                    self.report(
                        true,
                        "the rules follow the networks of containers again".to_owned(),
                    );
                }
                for name in unnamed {
                    let message = format!(
                        "bridge {name:?} has a name that no set takes: forged sources get in there"
                    );
                    if self.unnamed.insert(name) {
                        self.report(false, message);
                    }
                }
                self.revoker = Revoker::new(&self.rules, self.policies.freedom());
            }
            Err(error) => {
                if self.networks.is_none() {
                    let message = format!(
                        "the rules do not follow the networks of containers, which is tried again: {error:#}"
                    );
                    self.report(false, message);
                }
                self.networks = Some((Instant::now() + RETRY_AFTER, networks));
            }
        }
    }

    /// Tries again what the kernel did not take.
    pub(super) fn follow_due(&mut self, now: Instant) {
        if self.networks.as_ref().is_some_and(|(at, _)| *at <= now)
            && let Some((_, networks)) = self.networks.clone()
        {
            self.follow(networks);
        }
    }

    /// Brings the sets of policies to these, without a look at the lists. What lost a freedom keeps no flow by it.
    pub(super) fn set_policies(&mut self, policies: Arc<Policies>) {
        let stricter = policies.are_stricter_than(&self.policies);
        self.revoker = Revoker::new(&self.rules, policies.freedom());
        self.hits.set_freedom(policies.freedom());
        self.policies = policies;
        self.load_policies();
        if stricter && let Some(lists) = self.lists.clone() {
            self.revoke(&lists);
        }
    }

    /// The sets of policies by themselves; what fails is made up for with the next load of the lists.
    pub(super) fn load_policies(&mut self) {
        let wants = Want::policies(&self.policies);
        self.wants.retain(|want| wants.iter().all(|policy| policy.set != want.set));
        // Sets may be empty because the kernel has none of ours now: that is mended as all is.
        let loaded = self.sets.load(&wants);
        if let Err(error) = loaded {
            wants.iter().for_each(|want| self.sets.forget(want.set));
            tracing::warn!("policies of containers take hold late: {error:#}");
            self.changed = true;
        }
        self.wants.extend(wants);
    }

    /// Addresses whose owner is gone: what it did is told as its own, and nothing of it is left to the next one.
    pub(super) fn leave(&mut self, addresses: &HashSet<IpAddr>) {
        if addresses.is_empty() {
            return;
        }
        self.look_at_hits();
        if let Err(error) = self.hits.forget(addresses) {
            tracing::debug!("what met a list is told again of who comes next: {error:#}");
        }
        self.listener.left(addresses.iter().copied().collect());
        self.shared.denied.leave(addresses.iter().copied().collect());
        // In a dry run nothing is refused to whoever comes next, so nothing it goes on with matters.
        if self.shared.mode() == Mode::DryRun {
            return;
        }
        let keep = |flow: &conntrack::Flow| {
            ![flow.src, flow.dst, flow.peer].iter().any(|end| addresses.contains(end))
        };
        let ended = conntrack::Channel::open().and_then(|mut channel| channel.end_flows(keep));
        if let Err(error) = ended {
            tracing::warn!("flows of a container that is gone may be another's: {error:#}");
        }
    }
}

#[cfg(test)]
#[path = "follow_test.rs"]
mod tests;
