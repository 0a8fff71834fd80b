//! `make demo`: the real synhold in a small internet of network namespaces, shown step by step with its timings.
#![allow(missing_docs, reason = "a demonstration has no readers of its docs")]
#![allow(
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "what cannot be shown must stop the demonstration loudly; its lab is cleaned up all the same"
)]

#[path = "../netns/lab/mod.rs"]
mod lab;
mod signals;
mod stage;
mod story;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::ExitCode;

use signals::{interrupted, watch_signals};

fn main() -> ExitCode {
    let mut args = std::env::args_os().skip(1);
    let (synhold, more) = (args.next().map(PathBuf::from), args.next());
    let (Some(synhold), None) = (synhold, more) else {
        eprintln!("usage: demo SYNHOLD (the binary, as target/release/synhold)");
        return ExitCode::from(2);
    };
    let synhold = match std::fs::canonicalize(&synhold) {
        Ok(synhold) => synhold,
        Err(error) => {
            eprintln!("{}: {error}; run `cargo build --release` first", synhold.display());
            return ExitCode::from(2);
        }
    };
    if !nix::unistd::geteuid().is_root() {
        eprintln!(
            "the demo needs root: it makes network namespaces (run `make demo`, or use sudo)"
        );
        return ExitCode::from(2);
    }
    watch_signals();
    // Interrupted, everything ends with an error; which one is of no interest then.
    std::panic::set_hook(Box::new(|panic| {
        if !interrupted() {
            eprintln!("demo: {panic}");
        }
    }));
    // Whatever happens in there, its lab is gone afterwards.
    let told = catch_unwind(AssertUnwindSafe(|| story::tell(&synhold)));
    match told {
        _ if interrupted() => {
            println!("\nInterrupted; everything is cleaned up.");
            ExitCode::from(130)
        }
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(wrong)) => {
            println!("\nWRONG: {wrong}");
            ExitCode::FAILURE
        }
        Err(_) => ExitCode::FAILURE,
    }
}
