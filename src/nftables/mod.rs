//! nftables adapter: the one table of ours, put in, compared and taken out by netlink.
//!
//! [`Ruleset::new`] says what is wanted, [`read`] what the kernel has, [`check`] how they differ, [`apply`]
//! makes them one. Elements by the million go in by [`Bulk`] and [`Channel::send_bulk`]; [`Channel::get`], [`dump`] and
//! [`counters`] ask for some; [`Watch`] notices that others change something. All work in the network namespace of the calling thread.

mod batch;
mod bulk;
#[cfg(test)]
mod bulk_test;
mod decode;
pub mod drift;
pub mod element;
mod encode;
pub mod error;
pub mod expr;
mod foreign;
mod inspect;
mod interface;
pub mod kernel;
mod load;
mod marks;
pub mod names;
mod options;
mod phrase;
mod plan;
pub mod render;
mod replace;
#[cfg(test)]
mod roundtrip;
mod rules;
pub mod ruleset;
mod sets;
mod socket;
mod wanted;
mod watch;
mod wire;

pub use crate::engine::net::{Family, Net, NetError};
pub use bulk::Bulk;
pub use drift::{Change, Drift, check};
pub use element::{Count, Element, Found, Key};
pub use error::Error;
pub use foreign::{Restorable, restorable};
pub use inspect::{RuleCount, SetInfo, counters, dump};
pub use interface::Interface;
pub use kernel::{Applied, apply, apply_by, generation, probe, read, remove};
pub use options::{
    Bridge, DnsRedirect, HOSTS_SIZE_DEFAULT, LocalPolicy, Options, Posture, QueueVia, Refuse,
};
pub use render::render;
pub use replace::{DUMP_MAX, Replaced, replace};
pub use ruleset::Ruleset;
pub use socket::Channel;
pub use watch::Watch;
