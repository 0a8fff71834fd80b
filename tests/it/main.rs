//! Unprivileged tests of the whole: the command line, the documents, and the rules of the house.
#![allow(missing_docs, reason = "a test binary has no readers of its docs")]

mod cli;
mod docs;
mod support;
mod tidy;
