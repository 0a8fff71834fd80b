//! What is decided about a packet, and the one word that says why.

use serde::{Deserialize, Serialize};

/// Accept or drop; how a drop is put to the container (reset or silence) is the adapter's business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The packet goes on.
    Accept,
    /// The packet is refused.
    Drop,
}

/// Why. The same string is log field, metric label and documentation key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A record for the destination was known.
    Resolved,
    /// The record arrived while the packet was held.
    ResolvedAfterHold,
    /// The user's lists allow the destination or a name of it.
    Allowlisted,
    /// The container is not judged: its mode is `off`.
    Exempt,
    /// The user's lists block the destination, a name of it, or the container.
    Blocklisted,
    /// Nobody ever resolved the destination: a hardcoded address.
    NeverResolved,
    /// Resolved long ago, and evidence of that age is not to count.
    Stale,
    /// Resolved in a way that is not to count: by another container only, or by a hosts file.
    OutOfScope,
    /// The container had a flow to the destination when we started for the first time.
    Established,
    /// The source holds as many packets as it may.
    HoldBudget,
    /// The packet cannot be read.
    Malformed,
    /// Not resolved, but the evidence was not healthy enough to accuse anyone.
    Unhealthy,
    /// The daemon stopped, or lost its queue, while the packet was held.
    Shutdown,
}

impl Reason {
    /// Every reason, for tests and documentation.
    pub const ALL: [Reason; 13] = [
        Reason::Resolved,
        Reason::ResolvedAfterHold,
        Reason::Allowlisted,
        Reason::Exempt,
        Reason::Blocklisted,
        Reason::NeverResolved,
        Reason::Stale,
        Reason::OutOfScope,
        Reason::Established,
        Reason::HoldBudget,
        Reason::Malformed,
        Reason::Unhealthy,
        Reason::Shutdown,
    ];

    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Resolved => "resolved",
            Reason::ResolvedAfterHold => "resolved-after-hold",
            Reason::Allowlisted => "allowlisted",
            Reason::Exempt => "exempt",
            Reason::Blocklisted => "blocklisted",
            Reason::NeverResolved => "never-resolved",
            Reason::Stale => "stale",
            Reason::OutOfScope => "out-of-scope",
            Reason::Established => "established",
            Reason::HoldBudget => "hold-budget",
            Reason::Malformed => "malformed",
            Reason::Unhealthy => "unhealthy",
            Reason::Shutdown => "shutdown",
        }
    }
}

/// How good the evidence for (container, address) is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Grade {
    /// This client asked.
    Own,
    /// Somebody else asked, or the log does not say who.
    Other,
    /// A hosts file or dnsmasq's configuration says so; nobody outside did.
    Static,
    /// Somebody asked, but longer ago than evidence is to count.
    Stale,
    /// No record.
    Never,
}

impl Grade {
    /// The word used in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Grade::Own => "own",
            Grade::Other => "other",
            Grade::Static => "static",
            Grade::Stale => "stale",
            Grade::Never => "never",
        }
    }
}
