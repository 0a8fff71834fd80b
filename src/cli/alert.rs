//! `synhold alert test`: whether alerts arrive, without a daemon and before anything happened.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use clap::{Args, Subcommand};
use serde::Serialize;

use super::table::{Align, Table};
use super::{Answer, say, say_json, words};
use crate::alert::{Patience, SendError, Sink};
use crate::config;
use crate::daemon::notices::test_notice;

/// How long one sink may take.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub(super) struct AlertArgs {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Send a test alert through each configured sink now, by this process and not by the daemon
    Test {
        /// Only through this one
        #[arg(long, value_name = "SINK")]
        name: Option<String>,
        /// Configuration file [default: /etc/synhold/synhold.toml if it is there]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

/// What became of a test.
#[derive(Serialize)]
struct Tested {
    name: String,
    kind: &'static str,
    ok: bool,
    took_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

pub(super) fn run(args: &AlertArgs) -> Result<Answer> {
    let Action::Test { name, config, json } = &args.action;
    let sinks = sinks(config.as_deref(), name.as_deref())?;
    let tested = test(sinks);
    let ok = tested.iter().all(|tested| tested.ok);
    if *json {
        say_json(&tested)?;
    } else {
        say(&table(&tested).join("\n"))?;
    }
    Ok(if ok { Answer::Fine } else { Answer::No })
}

fn sinks(config: Option<&Path>, name: Option<&str>) -> Result<Vec<Sink>> {
    let mut sinks = config::load_alerts(config)?;
    let file = config.unwrap_or(Path::new(config::DEFAULT_FILE)).display();
    if sinks.is_empty() {
        bail!(
            "no alert goes anywhere: write an [[alert]] section in {file}, or name another file with --config"
        );
    }
    if let Some(name) = name {
        let names: Vec<String> = sinks.iter().map(|sink| sink.name.clone()).collect();
        sinks.retain(|sink| sink.name == name);
        if sinks.is_empty() {
            bail!("no [[alert]] in {file} has the name {name:?}; there are {}", names.join(", "));
        }
    }
    Ok(sinks)
}

/// All at once: one that hangs keeps only itself.
fn test(sinks: Vec<Sink>) -> Vec<Tested> {
    let running: Vec<_> = sinks
        .into_iter()
        .map(|sink| {
            let (name, kind) = (sink.name.clone(), sink.kind());
            (name, kind, std::thread::spawn(move || send(&sink)))
        })
        .collect();
    let done = running.into_iter().map(|(name, kind, thread)| {
        let broken = || (Err(SendError { message: "panicked".to_owned(), again: false }), 0);
        let (result, took_ms) = thread.join().unwrap_or_else(|_| broken());
        Tested { name, kind, ok: result.is_ok(), took_ms, error: result.err().map(|e| e.message) }
    });
    done.collect()
}

fn send(sink: &Sink) -> (Result<(), SendError>, u64) {
    let patience = Patience { total: PATIENCE, abandoned: Arc::new(AtomicBool::new(false)) };
    let began = Instant::now();
    let result = sink.check().and_then(|()| sink.send(&test_notice(&sink.name), &patience));
    (result, u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX))
}

/// The reason stands last and whole, however long it is.
fn table(tested: &[Tested]) -> Vec<String> {
    let columns =
        [("SINK", Align::Left), ("KIND", Align::Left), ("TOOK", Align::Right), ("", Align::Left)];
    let mut table = Table::new(&columns);
    for tested in tested {
        let answer = match &tested.error {
            None => "ok".to_owned(),
            Some(error) => format!("FAILED: {}", words::plain(error)),
        };
        let took = words::span(tested.took_ms);
        table.row(vec![tested.name.clone(), tested.kind.to_owned(), took, answer]);
    }
    table.lines()
}
