//! What the engine is told once.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::hold::Bounds;
use super::limits::GRACE_DEFAULT;

/// Whether refusals are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Refusals are carried out.
    #[default]
    Enforce,
    /// Everything passes at once; events say what enforcing would have done.
    DryRun,
    /// What the evidence alone would refuse passes at once, until the learning period is over; lists are enforced.
    Learn,
}

/// Whose look-ups count as evidence.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Anybody's.
    #[default]
    Global,
    /// The container's own, and static entries.
    Container,
}

/// What the engine is told once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Enforce or dry-run.
    pub mode: Mode,
    /// Whose look-ups count.
    pub scope: Scope,
    /// How long and how much is held.
    pub bounds: Bounds,
    /// What counts as evidence, and what if it cannot be trusted.
    pub evidence: EvidenceRules,
}

/// Whether evidence of a grade is enough.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Weight {
    /// It is.
    #[default]
    Accept,
    /// It is not: the packet is held for better evidence, then refused.
    Refuse,
}

/// What becomes of a packet that waited in vain while the evidence could not be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnUnhealthy {
    /// It passes.
    Accept,
    /// It goes in silence, so that its sender tries again and is judged anew.
    Hold,
    /// It is refused.
    Refuse,
}

/// What counts as evidence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EvidenceRules {
    /// How long after it was seen last evidence is fresh; for ever if nothing.
    pub max_age: Option<Duration>,
    /// An accepted flow makes the evidence it rests on fresh again.
    pub refresh: bool,
    /// Whether stale evidence is enough.
    pub stale: Weight,
    /// Whether a hosts file or dnsmasq's configuration is enough.
    pub fixed: Weight,
    /// What if the evidence cannot be trusted; nothing says [`OnUnhealthy::Accept`] within the grace of a first start
    /// and [`OnUnhealthy::Refuse`] later.
    pub on_unhealthy: Option<OnUnhealthy>,
    /// How long after a start with an empty registry nobody is accused.
    pub grace: Duration,
    /// Whether the hold follows the measured delay of the sources.
    pub adaptive: bool,
}

impl Default for EvidenceRules {
    fn default() -> EvidenceRules {
        EvidenceRules {
            max_age: None,
            refresh: false,
            stale: Weight::Accept,
            fixed: Weight::Accept,
            on_unhealthy: None,
            grace: GRACE_DEFAULT,
            adaptive: true,
        }
    }
}
