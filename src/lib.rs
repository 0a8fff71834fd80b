//! synhold: an inline egress firewall for container hosts.

pub mod dns;
pub mod engine;
pub mod events;
pub mod nfq;
pub mod nftables;
pub mod store;
