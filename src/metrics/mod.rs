//! Metrics over HTTP: families as plain data, written as OpenMetrics 1.0, and a small server for them and for two questions
//! that others' watchdogs ask.
//!
//! ```text
//! GET /metrics  everything measured
//! GET /healthz  200 while the process lives and its threads move
//! GET /readyz   200 while verdicts are given, the rules are in the kernel, and the evidence can be used
//! ```
//!
//! The server has a thread of its own and waits for nobody: whoever is slow is let go.

mod family;
mod guard;
mod server;
mod text;

pub use family::{Family, Labels, Spread, Unit};
pub use guard::is_expected;
pub use server::{CONNECTIONS_MAX, Server, Source, State};
pub use text::{CONTENT_TYPE, encode};
