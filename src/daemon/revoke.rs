//! Ends open flows that the lists refuse: their conntrack entries are deleted, and the next packet meets the rules.
//!
//! If that packet comes from the far end, only the kernel's sets can tell that it is refused. Those of the lists have
//! every address, but no domain: what a domain refuses is put into `denied4/6` first. It leaves that set after a minute,
//! as refusals do. A far end that keeps silent for so long and then goes on with a datagram or in the middle of a
//! connection is heard again, and so is answered.

use std::cell::RefCell;
use std::collections::BTreeSet;

use anyhow::Result;

use super::denied::{Denied, Pair};
use super::policies::Freedom;
use super::rules::Rules;
use crate::conntrack::{self, Flow};
use crate::engine::lists::{Listed, Lists, Party};
use crate::engine::ranges::RangeSet;
use crate::engine::registry::Registry;
use crate::nftables::names;

/// Pairs put into `denied4/6` at a time. Flows of further pairs are ended as well, only their far ends may go on.
const PAIRS_MAX: usize = 1024;

/// Which flows are ours to end.
pub struct Revoker {
    containers: RangeSet,
    local: RangeSet,
    freedom: Freedom,
}

impl Revoker {
    /// For the networks the rules judge, but for whom the lists do not stop.
    pub fn new(rules: &Rules, freedom: Freedom) -> Revoker {
        Revoker {
            freedom,
            containers: rules.elements(names::CONTAINERS),
            local: rules.elements(names::LOCAL),
        }
    }

    /// Ends every flow that the lists now refuse; returns how many. `denied` has the pairs that no set of the lists has before their flows
    /// end, or the log says that it has not.
    ///
    /// # Errors
    /// If conntrack cannot be read or changed.
    pub fn end_flows(&self, lists: &Lists, registry: &Registry, denied: &Denied) -> Result<u64> {
        let nobody = lists.quarantine.is_empty() && lists.confined.is_empty();
        if lists.block.is_empty() && nobody && lists.pairs.is_empty() {
            return Ok(0);
        }
        let mut conntrack = conntrack::Channel::open()?;
        let pairs = self.by_domain(&mut conntrack, lists, registry)?;
        if !pairs.is_empty() && !denied.refuse_pairs(pairs) {
            tracing::warn!("far ends of flows that a domain now blocks may go on with them");
        }
        let keep = |flow: &Flow| !self.refuses(flow, lists, registry);
        let ended = conntrack.end_flows(keep)?;
        Ok(u64::try_from(ended.ended).unwrap_or(u64::MAX))
    }

    /// The pairs of the flows to be ended that no set of the lists has: a domain refuses them.
    fn by_domain(
        &self,
        conntrack: &mut conntrack::Channel,
        lists: &Lists,
        registry: &Registry,
    ) -> Result<Vec<Pair>> {
        if lists.block.names.is_empty() {
            return Ok(Vec::new());
        }
        let found = RefCell::new(BTreeSet::new());
        conntrack.end_flows(|flow: &Flow| {
            let pair = (flow.src, flow.peer);
            let room = found.borrow().len() < PAIRS_MAX;
            if room && !has_set(lists, pair) && self.refuses(flow, lists, registry) {
                found.borrow_mut().insert(pair);
            }
            true
        })?;
        Ok(found.into_inner().into_iter().collect())
    }

    /// Whether the lists refuse a flow. A container in quarantine has none at all, whoever opened it, not even with this
    /// host; beyond that, what containers open is judged.
    fn refuses(&self, flow: &Flow, lists: &Lists, registry: &Registry) -> bool {
        let cut = |end| self.containers.contains(end) && lists.has_quarantined(end);
        [flow.src, flow.dst, flow.peer].into_iter().any(cut)
            || (self.containers.contains(flow.src) && self.blocks(flow, lists, registry))
    }

    /// Whether a list blocks where a container's flow leads. The rules see who answers, so that one comes first; whom it
    /// asked for counts where the lists say nothing about the other.
    fn blocks(&self, flow: &Flow, lists: &Lists, registry: &Registry) -> bool {
        if self.local.contains(flow.peer) || self.freedom.covers(flow.src, flow.peer) {
            return false;
        }
        let listed = lists.judge(&Party::alone(&flow.src), flow.peer, registry).or_else(|| {
            let is_other = flow.dst != flow.peer && !self.local.contains(flow.dst);
            is_other.then(|| lists.judge(&Party::alone(&flow.src), flow.dst, registry)).flatten()
        });
        matches!(listed, Some(Listed::Blocked(_)))
    }
}

/// Whether a set that the lists fill refuses a pair by itself.
fn has_set(lists: &Lists, (src, peer): Pair) -> bool {
    [src, peer].into_iter().any(|end| lists.has_quarantined(end))
        || lists.block.has_address(peer)
        || lists.has_pair(src, peer)
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::daemon::policies::Policies;
    use crate::engine::Family;
    use crate::engine::intervals::Span;
    use crate::engine::lists::Side;
    use crate::engine::net::number;

    const CONTAINER: &str = "172.17.0.2";
    const NEIGHBOUR: &str = "172.17.0.3";
    const QUARANTINED: &str = "172.17.0.9";
    const HOST: &str = "192.0.2.1";
    const FAR: &str = "203.0.113.1";
    const BLOCKED: &str = "203.0.113.66";
    const ALLOWED: &str = "203.0.113.77";
    const EXEMPT: &str = "172.17.0.7";
    const PERMITTED: &str = "203.0.113.88";
    const LOCAL_BLOCKED: &str = "10.0.0.66";
    const RESOLVER: &str = "10.0.0.53";

    fn span(first: &str, last: &str) -> (Family, Span) {
        let [first, last]: [IpAddr; 2] = [first, last].map(|text| text.parse().unwrap());
        (Family::of(first), Span::new(number(first), number(last)))
    }

    fn one(address: &str) -> (Family, Span) {
        span(address, address)
    }

    fn revoker() -> Revoker {
        let networks = [span("172.17.0.0", "172.17.255.255"), span("fd00:17::", "fd00:17::ffff")];
        let local = [span("10.0.0.0", "10.255.255.255"), one(HOST)];
        Revoker {
            containers: RangeSet::new(networks),
            local: RangeSet::new(networks.into_iter().chain(local)),
            freedom: Policies {
                exempt: vec![EXEMPT.parse().unwrap()],
                permits: vec![(CONTAINER.parse().unwrap(), Family::V4, one(PERMITTED).1)],
                ..Policies::default()
            }
            .freedom(),
        }
    }

    fn lists() -> Lists {
        let mut quarantine =
            [QUARANTINED, "fd00:17::9", FAR, HOST].map(|text| (text.parse().unwrap(), None));
        quarantine.sort_unstable();
        let block = [BLOCKED, PERMITTED, LOCAL_BLOCKED, "2001:db8::66"].map(one);
        Lists {
            allow: Side::new([one(ALLOWED)], [], []),
            block: Side::new(block, [], []),
            quarantine: Vec::from(quarantine),
            pairs: Vec::new(),
            ..Lists::default()
        }
    }

    /// From, to, and who answers.
    #[track_caller]
    fn ends(src: &str, dst: &str, peer: &str, wanted: bool) {
        let [src, dst, peer] = [src, dst, peer].map(|text| text.parse().unwrap());
        let flow = Flow { proto: 6, src, dst, sport: 40_000, dport: 443, peer };
        let ended = revoker().refuses(&flow, &lists(), &Registry::default());
        assert_eq!(ended, wanted, "{flow}, answered by {peer}");
    }

    #[test]
    fn what_a_container_opened_to_a_blocked_address_ends() {
        ends(CONTAINER, BLOCKED, BLOCKED, true);
        ends("fd00:17::2", "2001:db8::66", "2001:db8::66", true);
        ends(CONTAINER, "203.0.113.2", "203.0.113.2", false);
        ends(CONTAINER, LOCAL_BLOCKED, LOCAL_BLOCKED, false);
    }

    #[test]
    fn translation_hides_no_blocked_address() {
        ends(CONTAINER, "203.0.113.2", BLOCKED, true);
        ends(CONTAINER, LOCAL_BLOCKED, BLOCKED, true);
        ends(CONTAINER, ALLOWED, BLOCKED, true);
        ends(CONTAINER, BLOCKED, "203.0.113.2", true);
        ends(CONTAINER, LOCAL_BLOCKED, "203.0.113.2", false);
        // The rules let these pass, whoever was asked for: a question led to our resolver, above all.
        ends(CONTAINER, BLOCKED, ALLOWED, false);
        ends(CONTAINER, BLOCKED, RESOLVER, false);
    }

    #[test]
    fn a_container_in_quarantine_keeps_no_flow_in_either_direction() {
        for other in [CONTAINER, NEIGHBOUR, ALLOWED, "203.0.113.2", RESOLVER, "192.0.2.9"] {
            ends(QUARANTINED, other, other, true);
            ends(other, QUARANTINED, QUARANTINED, true);
            // By a published port, and by an address that leads elsewhere.
            ends(other, "192.0.2.9", QUARANTINED, true);
            ends(other, QUARANTINED, NEIGHBOUR, true);
        }
        ends("2001:db8::1", "fd00:17::9", "fd00:17::9", true);
        ends("fd00:17::9", "fd00:17::1", "fd00:17::1", true);
        ends(NEIGHBOUR, CONTAINER, CONTAINER, false);
    }

    #[test]
    fn whom_lists_do_not_stop_keeps_its_flows_unless_in_quarantine() {
        ends(EXEMPT, BLOCKED, BLOCKED, false);
        ends(CONTAINER, PERMITTED, PERMITTED, false);
        ends(NEIGHBOUR, PERMITTED, PERMITTED, true);
        ends(EXEMPT, QUARANTINED, QUARANTINED, true);
    }

    #[test]
    fn what_others_opened_is_no_egress() {
        ends(BLOCKED, CONTAINER, CONTAINER, false);
        ends(BLOCKED, HOST, CONTAINER, false);
    }

    #[test]
    fn flows_between_others_go_on_whatever_the_lists_say() {
        ends("192.0.2.9", BLOCKED, BLOCKED, false);
        ends(HOST, FAR, FAR, false);
        ends(FAR, HOST, HOST, false);
        ends("192.0.2.9", "203.0.113.2", FAR, false);
        // Only containers are in quarantine, whatever else is written there.
        ends(FAR, CONTAINER, CONTAINER, false);
        ends(CONTAINER, HOST, HOST, false);
    }
}
