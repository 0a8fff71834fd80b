//! Findings: what was refused or would have been, by container and destination, from all that still tells of it.

mod files;
mod gather;
mod group;
mod known;
mod propose;
mod second;
mod wanted;
mod watch;

pub use files::{parse_since, rotated};
pub use gather::{Collected, Sources, collect};
#[cfg(test)]
pub(crate) use group::testing;
pub use group::{Group, Hour, Key};
pub use known::{Known, KnownName, Listed};
pub use propose::{Proposal, Proposed, propose};
pub use second::Second;
pub(super) use watch::start;
