//! The command line: parses, calls, prints.

mod alert;
mod check;
mod chosen;
mod containers;
mod events;
mod explain;
mod generate;
mod lists;
mod log;
mod paint;
mod registry;
mod replay;
mod report;
mod review;
mod rules;
mod run;
mod sets;
mod status;
mod table;
mod top;
mod words;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};
use serde::Serialize;

use crate::config::Options;

/// The answer is no: drift, not found, would refuse.
const NO: u8 = 1;
/// Usage or error.
const ERROR: u8 = 2;

/// Inline egress firewall for container hosts.
///
/// A container that connects to an address nobody resolved through DNS uses a hardcoded address, as malware does.
/// synhold holds the first packet of such a flow until the matching DNS record arrives, and refuses it if none does.
#[derive(Debug, Parser)]
#[command(name = "synhold", version, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the firewall until SIGTERM or Ctrl-C
    Run {
        /// Configuration file [default: /etc/synhold/synhold.toml if it is there]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
        #[command(flatten)]
        options: Box<Options>,
    },
    /// Look for what stands in the way of a start, and say what to do; exit 1 if `run` would not do its work
    Check(check::CheckArgs),
    /// Install, remove, show or check the rules in the kernel
    Rules {
        #[command(subcommand)]
        action: rules::Action,
        /// Configuration file [default: /etc/synhold/synhold.toml if it is there]
        #[arg(long, value_name = "FILE", global = true)]
        config: Option<PathBuf>,
    },
    /// Show how the daemon does, and every container with its addresses and counts; exit 1 if none runs
    Status(status::StatusArgs),
    /// Watch all that live in the terminal; explain, allow and block what is selected
    Top(top::TopArgs),
    /// Show what happened lately, and follow what happens; exit 1 if no daemon runs
    Events(events::EventsArgs),
    /// Tell what would become of a first packet to an address or a name, why, and what to do about it; exit 1 if it would be refused in the end
    Explain(explain::ExplainArgs),
    /// Look up, carry elsewhere, merge and forget what is known from DNS
    Registry(registry::RegistryArgs),
    /// Judge what happened once more from logs, offline, and tell what other settings would change
    Replay(replay::ReplayArgs),
    /// Decide about what was refused, or would have been: mistakes are allowed, the rest is kept; exit 1 if something is left
    Review(review::ReviewArgs),
    /// Write blocked addresses as CSV, and all findings as a page with charts
    Report(report::ReportArgs),
    /// Show what the kernel's sets hold, and ask what would become of an address
    Sets(sets::SetsArgs),
    /// Send a test through every sink that alerts go to; exit 1 if one takes none
    Alert(alert::AlertArgs),
    /// Refuse addresses, networks or domains, or a container
    Block(lists::BlockArgs),
    /// Take entries out of block.txt and auto.txt, as they stand there, or a container out of quarantine
    Unblock(lists::UnblockArgs),
    /// Accept addresses, networks or domains, whatever else is said about them
    Allow(lists::AddArgs),
    /// Take entries out of allow.txt
    Unallow(lists::RemoveArgs),
    /// Make man pages and shell completions
    #[command(hide = true)]
    Generate(generate::GenerateArgs),
}

/// What a command found.
enum Answer {
    Fine,
    No,
}

/// Runs the command line of this process and returns its exit code: 0 fine, 1 the answer is no, 2 usage or error.
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    log::start();
    let answer = match cli.command {
        Command::Run { config, options } => {
            run::run(config.as_deref(), *options).map(|()| Answer::Fine)
        }
        Command::Check(args) => check::run(&args),
        Command::Rules { action, config } => rules::run(&action, config.as_deref()),
        Command::Status(args) => status::run(&args),
        Command::Top(args) => top::run(&args),
        Command::Events(args) => events::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Registry(args) => registry::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Review(args) => review::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Sets(args) => sets::run(&args),
        Command::Alert(args) => alert::run(&args),
        Command::Block(args) => lists::block(&args),
        Command::Unblock(args) => lists::unblock(&args),
        Command::Allow(args) => lists::allow(&args),
        Command::Unallow(args) => lists::unallow(&args),
        Command::Generate(args) => generate::run(&args).map(|()| Answer::Fine),
    };
    match answer {
        Ok(Answer::Fine) => ExitCode::SUCCESS,
        Ok(Answer::No) => ExitCode::from(NO),
        Err(error) => {
            // Where standard error is gone, the exit code still tells.
            let _ = writeln!(std::io::stderr(), "synhold: {error:#}");
            ExitCode::from(ERROR)
        }
    }
}

/// Prints to standard output; a reader that has gone away is no error.
fn say(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    match writeln!(out, "{text}").and_then(|()| out.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints an answer as one JSON object.
fn say_json(answer: &impl Serialize) -> Result<()> {
    say(&serde_json::to_string_pretty(answer)?)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_tree_is_consistent() {
        Cli::command().debug_assert();
    }
}
