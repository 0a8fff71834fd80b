//! Privileged tests: the real kernel in network namespaces made here. Needs root.
#![allow(missing_docs, reason = "a test binary has no readers of its docs")]

mod evidence;
mod lab;
mod lab_test;
mod lifecycle;
mod rules;
mod stand;
mod verdicts;
