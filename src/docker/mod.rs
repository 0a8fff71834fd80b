//! Adapter: the container engine, Docker or another that speaks its API, as the source of who is who.

mod answer;
mod api;
mod batch;
mod connect;
mod event;
mod gateway;
mod lines;
pub mod logs;
mod raw;
mod session;
#[cfg(test)]
mod testing;
mod voice;
mod watch;

pub use connect::{Address, AddressError, connect};
pub use voice::Listener;
pub use watch::{Watch, watch};
