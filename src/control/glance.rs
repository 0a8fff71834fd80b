//! Parts of a status: what shows at a glance whether the firewall works, and what it refused of late.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::when;
use crate::engine::flow::Proto;
use crate::engine::{Name, Reason, Wall};

/// One queue of the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueState {
    /// Its number.
    pub number: u16,
    /// We serve it.
    pub served: bool,
    /// Packets that wait in it.
    pub waiting: u64,
    /// Packets that the kernel dropped because it was full, since it was opened.
    pub dropped_full: u64,
    /// Packets that the kernel could not hand over.
    pub dropped_unread: u64,
}

/// What happened in the time up to now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// How long that time is, in milliseconds.
    pub over_ms: u64,
    /// Verdicts given.
    pub verdicts: u64,
    /// Refusals among them.
    pub refused: u64,
    /// Packets that were held.
    pub held: u64,
}

/// The same over a short and a longer time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rates {
    /// The last ten seconds, or less after a start.
    pub short: Rate,
    /// The last minute, or less after a start.
    pub long: Rate,
    /// Verdicts of each of the last seconds, the latest last.
    pub each_second: Vec<u64>,
}

/// How long something took, by bounds: so many lie below.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// How many were measured since start.
    pub count: u64,
    /// Half of them lie below this, in microseconds; nothing if none were measured, or it is beyond the last bound.
    pub p50_us: Option<u64>,
    /// 99 of 100 lie below this.
    pub p99_us: Option<u64>,
}

/// What one container was refused at one destination, or would have been.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// When first, as far as it is remembered.
    #[serde(with = "when::text")]
    pub first: Wall,
    /// When last.
    #[serde(with = "when::text")]
    pub last: Wall,
    /// How often.
    pub count: u64,
    /// Who, where that is known.
    pub container: Option<String>,
    /// From which address.
    pub src: Option<IpAddr>,
    /// Where to; nothing for packets that say nothing of it.
    pub dst: Option<IpAddr>,
    /// Which port, the last time; nothing for what a set of the kernel refused.
    pub port: Option<u16>,
    /// Transport protocol, likewise.
    pub proto: Option<Proto>,
    /// Why.
    pub reason: Reason,
    /// Names that the destination had.
    pub names: Vec<Name>,
    /// False where it was told, and not done.
    pub enforced: bool,
}

/// One list or feed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListState {
    /// Its name.
    pub name: String,
    /// What its entries mean: `allow`, `block` or `quarantine`.
    pub kind: String,
    /// It is fetched.
    pub feed: bool,
    /// Entries that hold.
    pub entries: u64,
    /// Lines that do not.
    pub bad: u64,
    /// The first of those, with its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_bad: Option<String>,
    /// When the copy in use was fetched.
    #[serde(default, with = "when::maybe", skip_serializing_if = "Option::is_none")]
    pub fetched: Option<Wall>,
    /// Why the last fetching or reading failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// How much the registry has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryState {
    /// Addresses.
    pub addresses: u64,
    /// Addresses it may have.
    pub limit: u64,
    /// Whether it takes no more.
    pub full: bool,
}

/// What was last said about the rules in the kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RulesNews {
    /// When.
    #[serde(with = "when::text")]
    pub at: Wall,
    /// They are as they should be again.
    pub healthy: bool,
    /// One sentence for a person: who changed what.
    pub message: String,
}

/// An answer that was no evidence, because a public name has no such address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejected {
    /// When it was told.
    #[serde(with = "when::text")]
    pub at: Wall,
    /// The name.
    pub name: Name,
    /// The address.
    pub address: IpAddr,
    /// Who asked, where known.
    pub container: Option<String>,
    /// One sentence for a person.
    pub message: String,
}

/// Where alerts go, and how that went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SinkState {
    /// The sink.
    pub name: String,
    /// `command`, `webhook`, `mail` or `syslog`.
    pub kind: String,
    /// It took the last alert, or has had none and nothing is wrong with what it needs.
    pub ok: bool,
    /// Why it did not.
    pub message: String,
    /// Alerts it took.
    pub sent: u64,
    /// Alerts it did not take, however often they were tried.
    pub failed: u64,
    /// Alerts that were not tried, since too many waited for it.
    pub dropped: u64,
    /// Things that happened and were only counted, since it has an hourly limit.
    pub withheld: u64,
    /// When it took the last one.
    #[serde(default, with = "when::maybe", skip_serializing_if = "Option::is_none")]
    pub last: Option<Wall>,
}
