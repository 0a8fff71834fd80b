//! Unprivileged tests of the whole: the command line, the documents, and the rules of the house.
#![allow(missing_docs, reason = "a test binary has no readers of its docs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets the unexpected is to fail"
)]

mod cli;
mod docs;
mod lists;
mod package;
mod registry;
mod scenarios;
mod simulation;
mod support;
mod tidy;
