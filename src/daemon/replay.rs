//! Replays a saved log of DNS answers and a log of flows through the engine, offline, in virtual time.

mod world;

pub use world::{Outcome, World};
