//! `make bench`: synhold beside a bare accept-all queue program and no firewall at all, in one run, with a table.
#![allow(missing_docs, reason = "a benchmark has no readers of its docs")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a measurement that cannot be made must stop the benchmark loudly"
)]

mod bare;
mod connect;
#[path = "../netns/lab/mod.rs"]
mod lab;
mod parse;
mod registry;
mod release;
mod report;
mod sets;
#[path = "../demo/signals.rs"]
mod signals;
mod stats;

use std::path::PathBuf;
use std::time::Instant;

use report::Report;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Size {
    /// Rounds of the connect benchmark.
    pub rounds: usize,
    /// One-at-a-time connects of one variant in one round.
    pub singles: usize,
    /// Connects of one variant in one round with 64 under way.
    pub burst: usize,
    /// Held packets released, of each kind of source.
    pub releases: usize,
    /// Distinct names in the log that is parsed.
    pub names: usize,
    /// Times the log is parsed.
    pub parses: usize,
    /// Addresses in the registry.
    pub addresses: usize,
    /// Entries of the lists that are loaded into sets.
    pub lists: &'static [usize],
    /// Times the largest list is loaded each way.
    pub list_rounds: usize,
}

const FULL: Size = Size {
    rounds: 120,
    singles: 500,
    burst: 2_000,
    releases: 300,
    names: 100_000,
    parses: 5,
    addresses: 1_000_000,
    lists: &[10_000, 100_000, 1_000_000],
    list_rounds: 3,
};
const QUICK: Size = Size {
    rounds: 6,
    singles: 100,
    burst: 500,
    releases: 20,
    names: 10_000,
    parses: 2,
    addresses: 100_000,
    lists: &[10_000],
    list_rounds: 1,
};

struct Args {
    synhold: PathBuf,
    json: PathBuf,
    size: Size,
    quick: bool,
    only: Option<String>,
}

fn main() {
    let all: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = all.iter().map(String::as_str).collect();
    match words[..] {
        ["bare", queue] => return bare::run(queue.parse().expect("queue number")),
        ["registry-fill", path, addresses] => {
            return registry::fill(path.as_ref(), addresses.parse().expect("a number"));
        }
        ["registry-load", path] => return registry::load(path.as_ref()),
        ["sets-round", way, folder, entries] => {
            return sets::round(way, folder.as_ref(), entries.parse().expect("a number"));
        }
        ["sets-load", path] => return sets::load(path.as_ref()),
        _ => {}
    }
    let args = parse_args(&words);
    if !nix::unistd::geteuid().is_root() {
        eprintln!("the benchmark needs root: it makes network namespaces (run it with sudo)");
        std::process::exit(2);
    }
    signals::watch_signals();
    let start = Instant::now();
    let mut report = Report::new(args.quick);
    let wants = |part: &str| args.only.as_deref().is_none_or(|only| only == part);
    if wants("connect") {
        connect::measure(&args.synhold, args.size, &mut report);
    }
    if wants("release") {
        release::measure(&args.synhold, args.size, &mut report);
    }
    if wants("parse") {
        parse::measure(args.size, &mut report);
    }
    if wants("registry") {
        registry::measure(args.size, &mut report);
    }
    if wants("sets") {
        sets::measure(args.size, &mut report);
    }
    print!("{}", report.table());
    println!("\n{} s; {}", start.elapsed().as_secs(), args.json.display());
    if let Some(folder) = args.json.parent() {
        let _ = std::fs::create_dir_all(folder);
    }
    std::fs::write(&args.json, report.json()).expect("write the JSON report");
}

/// Ends the run, by way of taking its labs down, if somebody wants that.
fn go_on() {
    if signals::interrupted() {
        eprintln!("interrupted");
        std::panic::resume_unwind(Box::new(()));
    }
}

fn parse_args(words: &[&str]) -> Args {
    let mut args = Args {
        synhold: env!("CARGO_BIN_EXE_synhold").into(),
        json: "target/bench.json".into(),
        size: FULL,
        quick: false,
        only: None,
    };
    let mut words = words.iter();
    while let Some(word) = words.next() {
        match *word {
            "--bench" => {} // cargo adds it
            "--quick" => (args.quick, args.size) = (true, QUICK),
            "--json" => args.json = words.next().expect("--json PATH").into(),
            "--only" => args.only = words.next().map(|part| (*part).to_owned()),
            word if !word.starts_with('-') => args.synhold = word.into(),
            word => {
                eprintln!(
                    "unknown option {word}; bench [SYNHOLD] [--quick] [--json PATH] [--only PART]"
                );
                eprintln!("parts: connect, release, parse, registry, sets");
                std::process::exit(2);
            }
        }
    }
    // nsenter looks a bare name up in PATH, and the lab's processes may run elsewhere.
    args.synhold = std::fs::canonicalize(&args.synhold).unwrap_or_else(|error| {
        eprintln!("{}: {error}; run `cargo build --release` first", args.synhold.display());
        std::process::exit(2);
    });
    args
}
