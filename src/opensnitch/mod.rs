//! OpenSnitch's database, read and never written: what the other firewall of this host made of the same addresses.

mod arpa;
mod database;
mod open;
mod stamp;

pub use arpa::reversed;
pub use database::{Database, Denials, Denied, Trouble};
