//! Ends open flows that the lists refuse: their conntrack entries are deleted, and the next packet meets the rules.

use anyhow::Result;

use super::rules::Rules;
use crate::conntrack;
use crate::engine::lists::{Listed, Lists};
use crate::engine::ranges::RangeSet;
use crate::engine::registry::Registry;
use crate::nftables::names;

/// Which flows are ours to end.
pub struct Revoker {
    containers: RangeSet,
    local: RangeSet,
}

impl Revoker {
    /// For the networks the rules judge.
    pub fn new(rules: &Rules) -> Revoker {
        Revoker {
            containers: rules.elements(names::CONTAINERS),
            local: rules.elements(names::LOCAL),
        }
    }

    /// Ends every flow of a container whose destination, or container, the lists now refuse; returns how many.
    ///
    /// # Errors
    /// If conntrack cannot be read or changed.
    pub fn end_flows(&self, lists: &Lists, registry: &Registry) -> Result<u64> {
        if lists.block.is_empty() && lists.quarantine.is_empty() && lists.pairs.is_empty() {
            return Ok(0);
        }
        let quarantined =
            |src| lists.quarantine.binary_search_by_key(&src, |(address, _)| *address).is_ok();
        let keep = |flow: &conntrack::Flow| {
            let ours = self.containers.contains(flow.src);
            let judged = !self.local.contains(flow.dst) || quarantined(flow.src);
            !(ours
                && judged
                && matches!(lists.judge(flow.src, flow.dst, registry), Some(Listed::Blocked(_))))
        };
        let ended = conntrack::Channel::open()?.end_flows(keep)?;
        Ok(u64::try_from(ended.ended).unwrap_or(u64::MAX))
    }
}
