//! Adapter: the container engine, Docker or another that speaks its API, as the source of who is who.

mod connect;
pub mod logs;

pub use connect::{Address, AddressError, connect};
