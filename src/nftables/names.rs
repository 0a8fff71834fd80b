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
/// Regular chain: refuses a packet, unless its container is in a dry run of its own.
pub const ENFORCE: &str = "enforce";
/// Regular chain: notes who met which entry of a list, then refuses as [`ENFORCE`] does.
pub const BLOCKED: &str = "blocked";
/// Regular chain: notes who has to do with a container in quarantine, then refuses whatever the container's mode.
pub const CUT: &str = "cut";
/// Regular chain: first packets from outside, which could open anew what a list has closed.
pub const INBOUND: &str = "inbound";
/// Base chain: cuts containers in quarantine from this host itself, its resolver above all. Chain `forward` sees none of
/// that, nor does this one see loopback.
pub const HOST: &str = "host";
/// Base chain, where it is asked for: sees what comes in from bridges before anything else does, conntrack included.
pub const SPOOFED: &str = "spoofed";
/// Regular chain: notes and drops what comes from a source that does not belong on its bridge.
pub const FORGED: &str = "forged";
/// Base chain, where it is asked for: leads containers' DNS to our resolver. (nft reads no chain named `redirect`.)
pub const REDIRECT: &str = "dns_redirect";
/// Regular chain without rules that nothing leads to: the mark of rules that `synhold run` put in.
pub const OWNED: &str = "installed_by_run";
/// Regular chains that nothing leads to: copies of the user's own rules while `synhold run` has changed them.
pub const COPIES: [(&str, &str); 11] = [
    (FORWARD, "before_run_forward"),
    (VERDICT, "before_run_verdict"),
    (REFUSE, "before_run_refuse"),
    (ENFORCE, "before_run_enforce"),
    (BLOCKED, "before_run_blocked"),
    (CUT, "before_run_cut"),
    (INBOUND, "before_run_inbound"),
    (HOST, "before_run_host"),
    (SPOOFED, "before_run_spoofed"),
    (FORGED, "before_run_forged"),
    (REDIRECT, "before_run_redirect"),
];
/// Chains in the order they are shown; copies come behind them.
const CHAINS: [&str; 12] = [
    FORWARD, VERDICT, REFUSE, ENFORCE, BLOCKED, CUT, INBOUND, HOST, SPOOFED, FORGED, REDIRECT,
    OWNED,
];

/// Just before `filter` (0), so that no accept of somebody else's chain goes first.
pub const PRIORITY: i32 = -1;
/// Just before `dstnat` (-100), so that a published port of somebody else's is no way past our resolver.
pub const REDIRECT_PRIORITY: i32 = -101;
/// `raw`: before conntrack (-200), so that a forged source opens no flow and goes on with none.
pub const SPOOFED_PRIORITY: i32 = -300;
/// A packet repeated (NF_REPEAT) with this mark has been refused in userspace. The bytes spell "synh".
pub const REFUSE_MARK: u32 = 0x7379_6e68;
/// How long a verdict of a moment ago refuses without a queue trip: a client's next tries, not its next job.
pub const DENIED_TIMEOUT_MS: u64 = 60_000;
/// Pairs denied at a time, about 10 MB in the kernel. One more goes to the queue again instead.
pub const DENIED_MAX: u32 = 65_536;
/// How long a pair that met a list is remembered after its last try: longer than anybody waits to read it.
pub const HITS_TIMEOUT_MS: u64 = 3_600_000;
/// Such pairs at a time. A container that walks through a whole list makes the kernel keep no more; what it tries
/// beyond is refused and counted all the same, only not by name.
pub const HITS_MAX: u32 = 4_096;
/// Time between the kernel's own sweeps through a set of ranges for what has expired. A sweep walks all of it while
/// rules are changed, which doubles the time of a large load; expired elements match nothing meanwhile.
pub const GC_INTERVAL_MS: u32 = 24 * 60 * 60 * 1000;

/// The names of an IPv4 set and its IPv6 twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// Name of the IPv4 set.
    pub v4: &'static str,
    /// Name of the IPv6 set.
    pub v6: &'static str,
}

impl Pair {
    /// Whether this is the name of one of the two.
    pub fn has(self, set: &str) -> bool {
        self.v4 == set || self.v6 == set
    }

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
/// Single destinations that are always refused: a hash of known size, which loads faster than ranges do.
pub const BLOCKHOSTS: Pair = Pair { v4: "blockhosts4", v6: "blockhosts6" };
/// Source and destination refused a moment ago.
pub const DENIED: Pair = Pair { v4: "denied4", v6: "denied6" };
/// Source and destination that met a list; the kernel fills it.
pub const HITS: Pair = Pair { v4: "hits4", v6: "hits6" };
/// Containers that are not judged.
pub const EXEMPT: Pair = Pair { v4: "exempt4", v6: "exempt6" };
/// Containers that are refused nothing, only what would be is noted.
pub const DRYRUN: Pair = Pair { v4: "dryrun4", v6: "dryrun6" };
/// Containers that learn of a refusal the other way than the rest.
pub const OTHERWAY: Pair = Pair { v4: "otherway4", v6: "otherway6" };
/// Source, and a network that it alone may reach whatever lists say.
pub const PERMITS: Pair = Pair { v4: "permits4", v6: "permits6" };
/// Interface, and the sources that belong on it.
pub const HOMES: Pair = Pair { v4: "homes4", v6: "homes6" };
/// Forged source and destination; the kernel fills it.
pub const SPOOFS: Pair = Pair { v4: "spoofs4", v6: "spoofs6" };
/// Interfaces of the bridges whose sources are known: one set, for both families.
pub const BRIDGES: Pair = Pair { v4: "bridges", v6: "bridges" };
/// All sets that come in pairs, roughly in the order the rules ask them.
pub const PAIRS: [Pair; 14] = [
    CONTAINERS, QUARANTINE, LOCAL, ALLOW, BLOCK, BLOCKHOSTS, DENIED, HITS, EXEMPT, PERMITS, DRYRUN,
    OTHERWAY, HOMES, SPOOFS,
];

/// Sets that follow from which networks of containers there are.
const MANAGED: [Pair; 4] = [CONTAINERS, LOCAL, HOMES, BRIDGES];

/// All sets, in the order they are listed.
pub fn all() -> impl Iterator<Item = (Pair, Family)> {
    let twins = PAIRS.into_iter().flat_map(|pair| Family::BOTH.map(|family| (pair, family)));
    twins.chain([(BRIDGES, Family::V4)])
}

/// The pair a set belongs to.
pub fn pair_of(set: &str) -> Option<Pair> {
    all().map(|(pair, _)| pair).find(|pair| pair.has(set))
}

/// Whether the elements of this set follow from the options; those of the others belong to whoever fills them.
pub fn is_managed(set: &str) -> bool {
    MANAGED.iter().any(|pair| pair.has(set))
}

/// Where a set stands when sets are listed; unknown ones come last.
pub fn set_rank(set: &str) -> usize {
    all().position(|(pair, family)| pair.of(family) == set).unwrap_or(usize::MAX)
}

/// Where a chain stands when chains are listed; unknown ones come last.
pub fn chain_rank(chain: &str) -> usize {
    let copies = COPIES.iter().map(|(_, copy)| copy);
    CHAINS.iter().chain(copies).position(|name| *name == chain).unwrap_or(usize::MAX)
}
