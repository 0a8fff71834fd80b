//! `synhold rules`: the rules in the kernel without the daemon.

use std::path::Path;

use anyhow::Result;
use clap::Subcommand;

use super::{Answer, say};
use crate::config::{self, RuleOptions};
use crate::daemon;
use crate::nftables::{self, Ruleset};

#[derive(Debug, Subcommand)]
pub(super) enum Action {
    /// Put the rules in, or change those that are there in place; they then stay when `synhold run` stops
    Install {
        #[command(flatten)]
        options: RuleOptions,
    },
    /// Take the rules away; new container flows then pass unjudged
    Remove,
    /// Print the rules in the kernel as nft text
    Show {
        /// Print what `install` would put in instead
        #[arg(long)]
        wanted: bool,
        #[command(flatten)]
        options: RuleOptions,
    },
    /// Compare the rules in the kernel with what `install` would put in; exit 1 if they differ
    Check {
        #[command(flatten)]
        options: RuleOptions,
    },
}

pub(super) fn run(action: &Action, file: Option<&Path>) -> Result<Answer> {
    if matches!(action, Action::Install { .. } | Action::Remove) {
        daemon::tell_rules_command();
    }
    match action {
        Action::Install { options } => install(file, options.clone()),
        Action::Remove => remove(),
        Action::Show { wanted: true, options } => {
            let ruleset = config::load_rules(file, options.clone())?.ruleset(nftables::probe()?);
            say(nftables::render(&ruleset).trim_end()).map(|()| Answer::Fine)
        }
        Action::Show { wanted: false, .. } => show(),
        Action::Check { options } => check(file, options.clone()),
    }
}

fn install(file: Option<&Path>, options: RuleOptions) -> Result<Answer> {
    let config = config::load_rules(file, options)?;
    let current = nftables::read()?;
    let ours = current.as_ref().filter(|_| daemon::is_running());
    let options = beside_a_run(config.options(nftables::probe()?), ours);
    let wanted = following(Ruleset::new(&options), current.as_ref());
    let applied = nftables::apply(&wanted, current.as_ref())?;
    let how = match (applied.changes.is_empty(), current) {
        (true, _) => "are in place already",
        (false, Some(_)) => "were changed in place",
        (false, None) => "are in place",
    };
    let until = if options.passes_unjudged() { "pass" } else { "are dropped" };
    say(&format!("the rules {how}; while no `synhold run` answers, new container flows {until}"))?;
    Ok(Answer::Fine)
}

/// The source of a daemon's own packets is as it says; one that was killed may have left it.
fn beside_a_run(options: nftables::Options, current: Option<&Ruleset>) -> nftables::Options {
    nftables::Options { canary: current.map(Ruleset::canary).unwrap_or_default(), ..options }
}

/// What is wanted while a daemon knows better where containers are, as the bridges in the kernel show: those networks.
fn following(wanted: Ruleset, current: Option<&Ruleset>) -> Ruleset {
    match current.filter(|current| current.knows_bridges()) {
        Some(current) if daemon::is_running() => wanted.with_networks_of(current),
        _ => wanted,
    }
}

/// What may stand while none runs: with the networks that the last one left, so that the posture holds for them too.
fn left_by_a_run(wanted: Ruleset, current: Option<&Ruleset>) -> Ruleset {
    match current {
        Some(current) if !daemon::is_running() => wanted.judging_also(current),
        _ => wanted,
    }
}

fn remove() -> Result<Answer> {
    say(if nftables::remove()? { "the rules are gone" } else { "there were no rules of ours" })?;
    Ok(Answer::Fine)
}

fn show() -> Result<Answer> {
    match nftables::read()? {
        Some(ruleset) => say(nftables::render(&ruleset).trim_end()).map(|()| Answer::Fine),
        None => say("no rules of ours are in the kernel; `synhold rules install` puts them in")
            .map(|()| Answer::No),
    }
}

fn check(file: Option<&Path>, options: RuleOptions) -> Result<Answer> {
    let config = config::load_rules(file, options)?;
    let actual = nftables::read()?;
    let wanted = Ruleset::new(&beside_a_run(config.options(nftables::probe()?), actual.as_ref()));
    let wanted = left_by_a_run(following(wanted, actual.as_ref()), actual.as_ref());
    // Whoever put them in, the rules are the same.
    let drift = nftables::check(&wanted, actual.as_ref().map(Ruleset::unmarked).as_ref());
    for difference in &drift {
        say(&difference.to_string())?;
    }
    if drift.is_empty() {
        say("the rules in the kernel are as they should be")?;
        return Ok(Answer::Fine);
    }
    say("`synhold rules install` with the same options mends this")?;
    Ok(Answer::No)
}
