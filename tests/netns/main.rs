//! Privileged tests: the real kernel in network namespaces made here. Needs root.
#![allow(missing_docs, reason = "a test binary has no readers of its docs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "a test that meets the unexpected is to fail"
)]

mod alerts;
mod blocked;
mod bulk;
mod bypass;
mod canary;
mod check;
mod conntrack;
mod control;
mod denied;
mod desk;
mod dns;
mod docker_alerts;
mod docker_boot;
mod docker_commands;
mod docker_dns;
mod docker_heirs;
mod docker_lab;
mod docker_late;
mod docker_many;
mod docker_names;
mod docker_nets;
mod docker_overlay;
mod docker_permits;
mod docker_policy;
mod docker_quarantine;
mod docker_resolver;
mod docker_rough;
mod docker_stand;
mod doors;
mod evidence;
mod failures;
mod findings;
mod grow;
mod health;
mod hits;
mod hung;
mod inbound;
mod journal;
mod lab;
mod lab_test;
mod learning;
mod lifecycle;
mod lists;
mod members;
mod metrics;
mod modes;
mod package;
mod policies;
mod quarantine;
mod registry_cli;
mod registry_disk;
mod reopened;
mod replay;
mod revoke;
mod rules;
mod sequence;
mod sets_cli;
mod stand;
mod status;
mod steal;
mod top;
mod truth;
mod verdicts;
