//! nftables adapter: the one table of ours, put in, compared and taken out by netlink.
//!
//! [`Ruleset::new`] says what is wanted, [`read`] what the kernel has, [`check`] how they differ, [`apply`]
//! makes them one. All work in the network namespace of the calling thread.

mod batch;
mod decode;
pub mod drift;
mod encode;
pub mod error;
pub mod expr;
mod foreign;
pub mod kernel;
mod marks;
pub mod names;
mod options;
mod phrase;
mod plan;
pub mod render;
#[cfg(test)]
mod roundtrip;
mod rules;
pub mod ruleset;
mod sets;
mod socket;
mod wanted;
mod wire;

pub use crate::engine::net::{Family, Net, NetError};
pub use drift::{Change, Drift, check};
pub use error::Error;
pub use foreign::{Restorable, restorable};
pub use kernel::{Applied, apply, generation, probe, read, remove};
pub use options::{
    DnsRedirect, HOSTS_SIZE_DEFAULT, LocalPolicy, Options, Posture, QueueVia, Refuse,
};
pub use render::render;
pub use ruleset::Ruleset;
