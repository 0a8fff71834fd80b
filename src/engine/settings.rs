//! What the engine is told once.

use serde::{Deserialize, Serialize};

use super::hold::Bounds;

/// Whether refusals are carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Refusals are carried out.
    #[default]
    Enforce,
    /// Everything passes at once; events say what enforcing would have done.
    DryRun,
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
}
