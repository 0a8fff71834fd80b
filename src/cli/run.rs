//! `synhold run`: the daemon, and what a person is told when it is up.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Result, anyhow};

use super::say;
use crate::config::{self, Config, Options};
use crate::daemon;
use crate::dns::Spec;
use crate::engine::Mode;
use crate::engine::event::Ready;
use crate::events::LogFormat;
use crate::nftables::Refuse;

pub(super) fn run(file: Option<&Path>, options: Options) -> Result<()> {
    let config = config::load(file, options)?;
    let mut is_ready = false;
    let ran = daemon::run(&config, |ready| {
        is_ready = true;
        match config.log_format {
            LogFormat::Human => say(&welcome(&config, ready)),
            LogFormat::Json => Ok(()),
        }
    });
    ran.map_err(|error| match is_ready {
        true => error,
        false => anyhow!("{error:#} (`synhold check` looks for what is in the way)"),
    })
}

/// What is protected, and how a container comes to use it.
fn welcome(config: &Config, ready: &Ready) -> String {
    let mut text = String::new();
    let hold = config.engine.bounds.hold.as_millis();
    let refused = match (config.engine.mode, config.rules.refuse) {
        (Mode::DryRun, _) => "would be refused (dry run: everything passes at once)",
        (Mode::Enforce | Mode::Learn, Refuse::Reset) => "refused with a reset",
        (Mode::Enforce | Mode::Learn, Refuse::Drop) => "dropped in silence",
    };
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "synhold judges every new TCP and UDP flow from {} to the outside.",
        ready.containers.join(", ")
    );
    let _ = match (&ready.docker, &config.docker) {
        (Some(engine), _) => {
            writeln!(text, "  Containers by name, their networks and labels: {engine}.")
        }
        (None, Some(address)) => writeln!(
            text,
            "  No container engine is heard at {address}: containers have no names until one is."
        ),
        (None, None) => {
            writeln!(text, "  Containers have no names: no engine is asked (--no-docker).")
        }
    };
    let _ = writeln!(
        text,
        "  A destination that no DNS answer named is held up to {hold} ms for its record, then {refused}."
    );
    if let Some(exception) = exception(config, ready) {
        let _ = writeln!(text, "  {exception}");
    }
    for source in &config.sources {
        let _ = writeln!(text, "  DNS evidence: {}", evidence(source, config));
    }
    let _ = match resolver(config) {
        Some(address) => write!(
            text,
            "  Containers use it with:  docker run --dns {address} ...\n  \
             or for all of them:      {{\"dns\": [\"{address}\"]}} in /etc/docker/daemon.json"
        ),
        None => write!(text, "  Containers are to ask the dnsmasq that writes this log."),
    };
    text
}

/// For how long that does not hold, where it does not.
fn exception(config: &Config, ready: &Ready) -> Option<String> {
    let rules = &config.engine.evidence;
    if ready.mode == Mode::Learn {
        let until = "until the learning period is over (--learn)";
        return Some(format!("It passes all the same {until}, and the events tell."));
    }
    let grace = ready.records == 0 && !rules.grace.is_zero() && rules.on_unhealthy.is_none();
    let enforces = config.engine.mode == Mode::Enforce;
    (grace && enforces).then(|| {
        let time = humantime::format_duration(rules.grace);
        format!(
            "For the first {time} it passes all the same: nothing is known yet (--evidence-grace)."
        )
    })
}

fn evidence(source: &Spec, config: &Config) -> String {
    if !matches!(source, Spec::Spawn) {
        return source.to_string();
    }
    let mut listens: Vec<String> =
        config.dnsmasq.listen.iter().map(|at| SocketAddr::from(*at).to_string()).collect();
    if !config.dnsmasq.interfaces.is_empty() {
        listens.push(format!("port 53 of the bridges {}", config.dnsmasq.interfaces.join(", ")));
    }
    let upstream = match config.dnsmasq.upstreams.as_slice() {
        [] => "the host's resolvers".to_owned(),
        some => some.join(", "),
    };
    format!("our own dnsmasq on {}, asking {upstream}", listens.join(" and "))
}

/// The address containers ask: where our own dnsmasq listens, or will once Docker's default bridge is there.
fn resolver(config: &Config) -> Option<String> {
    config.sources.iter().find(|source| matches!(source, Spec::Spawn))?;
    let listens = config.dnsmasq.listen.iter().map(|(address, _)| *address);
    let first =
        listens.clone().find(|address| address.is_ipv4()).or_else(|| listens.into_iter().next());
    Some(first.map_or_else(|| "172.17.0.1".to_owned(), |address| address.to_string()))
}
