//! nftables adapter: the one table of ours, put in, compared and taken out by netlink.

pub mod drift;
pub mod expr;
pub mod intervals;
pub mod names;
pub mod net;
mod phrase;
pub mod render;
mod rules;
pub mod ruleset;
mod sets;

pub use drift::{Change, Drift, check};
pub use net::{Family, Net, NetError};
pub use render::render;
pub use ruleset::{Options, Posture, QueueVia, Refuse, Ruleset};
