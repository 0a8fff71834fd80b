//! The steps of a decision, told by the code that decides to whoever wants to explain it.

use serde::{Deserialize, Serialize};

use super::name::Name;
use super::settings::{OnUnhealthy, Scope, Weight};
use super::verdict::{Grade, Reason, Verdict};
use super::wish::Treatment;

/// Who is told the steps of a decision. Verdict threads tell [`Untold`], for which nothing is compiled in.
pub trait Trace {
    /// A question was answered, and that was the end of it if `ends` says so. What was found is asked for only if
    /// somebody is told.
    fn step(&mut self, found: impl FnOnce() -> Finding, ends: Option<(Verdict, Reason)>);
}

/// Nobody is told.
#[derive(Clone, Copy, Debug, Default)]
pub struct Untold;

/// Everything is noted.
#[derive(Clone, Debug, Default)]
pub struct Told(pub Vec<Traced>);

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Traced {
    /// What was asked, and the answer.
    #[serde(flatten)]
    pub finding: Finding,
    /// The verdict, if it was decided by this; such a step is the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ends: Option<(Verdict, Reason)>,
}

/// What was asked, and the answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Finding {
    /// How the container is treated.
    Mode {
        /// `off` ends it, but for a container in quarantine.
        mode: Treatment,
    },
    /// Whether the container is in quarantine.
    Quarantine {
        /// It is.
        confined: bool,
    },
    /// Whether something allows the destination.
    Allow {
        /// What does.
        by: Option<Basis>,
    },
    /// Whether something blocks it.
    Block {
        /// What does.
        by: Option<Basis>,
    },
    /// What DNS said of it.
    Evidence {
        /// The best there is.
        grade: Grade,
        /// What is enough, if anything is.
        enough: Option<Grade>,
        /// Whose look-ups count.
        scope: Scope,
        /// Whether stale evidence is enough.
        stale: Weight,
        /// Whether a hosts file or a configuration is.
        fixed: Weight,
        /// How old evidence may be, in seconds; nothing is for ever.
        max_age_s: Option<u64>,
    },
    /// Whether the container had a flow there at the first start.
    Established {
        /// It had, and that still counts.
        had: bool,
    },
    /// The packet waits for its record.
    Hold {
        /// How long at most, in milliseconds.
        ms: u64,
    },
    /// Whether the absence of a record proves anything.
    Absence {
        /// It does.
        proves: bool,
        /// Why not.
        why: Vec<String>,
        /// What becomes of a packet for which it does not.
        then: OnUnhealthy,
    },
}

/// What allows or blocks a destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Basis {
    /// Its address.
    Address,
    /// Its address, in the container's own policy.
    Policy,
    /// Its address, for this source alone.
    Pair,
    /// A name of it under this domain.
    Domain(Name),
}

impl Trace for Untold {
    #[inline(always)]
    fn step(&mut self, _: impl FnOnce() -> Finding, _: Option<(Verdict, Reason)>) {}
}

impl Trace for Told {
    fn step(&mut self, found: impl FnOnce() -> Finding, ends: Option<(Verdict, Reason)>) {
        self.0.push(Traced { finding: found(), ends });
    }
}
