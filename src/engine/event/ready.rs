//! The event that says verdicts are being given, and how.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::engine::judge::Mode;

/// See [`super::Body::Ready`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ready {
    /// Enforce or dry-run.
    pub mode: Mode,
    /// `closed` or `open`.
    pub posture: String,
    /// `reset` or `drop`.
    pub refuse: String,
    /// How packets reach us: `queue` (native) or `compat` (the xtables target).
    pub queue_via: String,
    /// First queue number.
    pub queue_num: u16,
    /// Number of queues.
    pub queues: u16,
    /// How long a packet is held, in milliseconds.
    pub hold_ms: u64,
    /// What else decides about evidence, as the configuration writes it.
    #[serde(default)]
    pub settings: BTreeMap<String, String>,
    /// Networks whose containers are judged.
    pub containers: Vec<String>,
    /// The container engine and its version; null if none is heard, or none is to be asked.
    #[serde(default)]
    pub docker: Option<String>,
    /// DNS sources.
    pub sources: Vec<String>,
    /// Addresses the registry had at start.
    pub records: u64,
    /// True if this process put the rules in and takes them away when it stops.
    pub own_rules: bool,
    /// The version of synhold.
    pub version: String,
}
