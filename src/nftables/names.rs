//! Every table, chain, set, mark and priority name, once.

use crate::engine::net::Family;

/// Our one table, of family inet.
pub const TABLE: &str = "synhold";

/// Base chain: decides which first packets are ours to judge.
pub const FORWARD: &str = "forward";
/// Regular chain: hands a packet to the queue.
pub const VERDICT: &str = "verdict";
/// Regular chain: refuses a packet.
pub const REFUSE: &str = "refuse";
/// Regular chain without rules that nothing leads to: the mark of rules that `synhold run` put in.
pub const OWNED: &str = "installed_by_run";
/// Regular chains that nothing leads to: copies of the user's own rules while `synhold run` has changed them.
pub const COPIES: [(&str, &str); 3] = [
    (FORWARD, "before_run_forward"),
    (VERDICT, "before_run_verdict"),
    (REFUSE, "before_run_refuse"),
];
/// Chains in the order they are shown.
pub const CHAINS: [&str; 7] =
    [FORWARD, VERDICT, REFUSE, OWNED, COPIES[0].1, COPIES[1].1, COPIES[2].1];

/// Just before `filter` (0), so that no accept of somebody else's chain goes first.
pub const PRIORITY: i32 = -1;
/// A packet repeated (NF_REPEAT) with this mark has been refused in userspace. The bytes spell "synh".
pub const REFUSE_MARK: u32 = 0x7379_6e68;
/// How long a verdict of a moment ago refuses without a queue trip: a client's next tries, not its next job.
pub const DENIED_TIMEOUT_MS: u64 = 60_000;

/// The names of an IPv4 set and its IPv6 twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Name of the IPv4 set.
    pub v4: &'static str,
    /// Name of the IPv6 set.
    pub v6: &'static str,
}

impl Pair {
    /// The name for one family.
    pub fn of(self, family: Family) -> &'static str {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

/// Source networks that are judged.
pub const CONTAINERS: Pair = Pair { v4: "containers4", v6: "containers6" };
/// Sources that are refused everything.
pub const QUARANTINE: Pair = Pair { v4: "quarantine4", v6: "quarantine6" };
/// Destinations that are not egress.
pub const LOCAL: Pair = Pair { v4: "local4", v6: "local6" };
/// Destinations that are always accepted.
pub const ALLOW: Pair = Pair { v4: "allow4", v6: "allow6" };
/// Destinations that are always refused.
pub const BLOCK: Pair = Pair { v4: "block4", v6: "block6" };
/// Source and destination refused a moment ago.
pub const DENIED: Pair = Pair { v4: "denied4", v6: "denied6" };
/// All sets, in the order the rules ask them.
pub const PAIRS: [Pair; 6] = [CONTAINERS, QUARANTINE, LOCAL, ALLOW, BLOCK, DENIED];

/// Whether the elements of this set follow from the options; those of the others belong to whoever fills them.
pub fn is_managed(set: &str) -> bool {
    [CONTAINERS, LOCAL].iter().any(|pair| pair.v4 == set || pair.v6 == set)
}

/// Where a set stands when sets are listed; unknown ones come last.
pub fn set_rank(set: &str) -> usize {
    let names = PAIRS.iter().flat_map(|pair| [pair.v4, pair.v6]);
    names.into_iter().position(|name| name == set).unwrap_or(usize::MAX)
}

/// Where a chain stands when chains are listed; unknown ones come last.
pub fn chain_rank(chain: &str) -> usize {
    CHAINS.iter().position(|name| *name == chain).unwrap_or(usize::MAX)
}
