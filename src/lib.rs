//! synhold: an inline egress firewall for container hosts.

pub mod cli;
pub mod config;
pub mod daemon;
pub mod dns;
pub mod engine;
pub mod events;
pub mod host;
pub mod nfq;
pub mod nftables;
pub mod store;
