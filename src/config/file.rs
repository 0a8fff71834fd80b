//! The configuration file: found, read whole, and taken for what the command line could have said.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::Args as _;

use super::{ContainerSection, DEFAULT_FILE, Options};
use crate::alert;
use crate::engine::limits::CONFIG_BYTES_MAX;
use crate::lists::Feed;

pub(super) fn read(file: Option<&Path>) -> Result<Options> {
    Ok(read_or(file, Path::new(DEFAULT_FILE))?.0)
}

/// What `file` says, or `default` if it is there, and which file that was.
pub(super) fn read_or(file: Option<&Path>, default: &Path) -> Result<(Options, Option<PathBuf>)> {
    let path = file.unwrap_or(default);
    let mut text = String::new();
    match File::open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound && file.is_none() => {
            return Ok((Options::default(), None));
        }
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
        Ok(file) => file.take(CONFIG_BYTES_MAX + 1).read_to_string(&mut text),
    }
    .with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(
        text.len() as u64 <= CONFIG_BYTES_MAX,
        "{} is larger than a configuration can be",
        path.display()
    );
    let options = parse(&text).with_context(|| path.display().to_string())?;
    Ok((options, Some(path.to_owned())))
}

/// Keys are the long flags of `run`, or parts of them in a table named by the part before a dash; anything else is an error, since a misspelt key would protect nobody.
pub(super) fn parse(text: &str) -> Result<Options> {
    let table: toml::Table = text.parse().map_err(|error| one_line(&error, text))?;
    let single = ["feed", "container", "alert"]
        .iter()
        .any(|key| table.get(*key).is_some_and(toml::Value::is_table));
    let mut table = flat(table)?;
    let mut sections =
        |key: &str| table.remove(key).unwrap_or_else(|| toml::Value::Array(Vec::new()));
    let (feeds, containers, alerts) = (sections("feed"), sections("container"), sections("alert"));
    ensure!(
        !single,
        "write [[container]], [[feed]] and [[alert]] with two brackets: there may be several"
    );
    // What stands there by mistake may be the secret of a URL, which the parser's words would show.
    let is_sections = alerts.as_array().is_some_and(|all| all.iter().all(toml::Value::is_table));
    ensure!(is_sections, "write alerts as sections: [[alert]], and below it `kind` and the others");
    let command = Options::augment_args(clap::Command::new("run"));
    let known: BTreeSet<&str> = command.get_arguments().filter_map(clap::Arg::get_long).collect();
    if let Some(unknown) = table.keys().find(|key| !known.contains(key.as_str())) {
        let keys: Vec<&str> = known.into_iter().collect();
        bail!(
            "unknown key {unknown:?}; the keys are {}, and the sections [[feed]], [[container]] and [[alert]]",
            keys.join(", ")
        );
    }
    let value = toml::Value::Table(table);
    let into = |error: toml::de::Error| one_line(&error, text);
    Ok(Options {
        feeds: Feed::all(feeds.try_into().map_err(into).context("[[feed]]")?)?,
        alerts: alert::all(alerts.try_into().map_err(into).context("[[alert]]")?)?,
        containers: ContainerSection::all(
            containers.try_into().map_err(into).context("[[container]]")?,
        )?,
        rules: value.clone().try_into().map_err(into)?,
        evidence: value.clone().try_into().map_err(into)?,
        desk: value.clone().try_into().map_err(into)?,
        daemon: value.try_into().map_err(into)?,
    })
}

/// `[dns] redirect` says `dns-redirect`.
fn flat(table: toml::Table) -> Result<toml::Table> {
    let mut flat = toml::Table::new();
    for (key, value) in table {
        let parts = match value {
            toml::Value::Table(parts) => {
                parts.into_iter().map(|(part, value)| (format!("{key}-{part}"), value)).collect()
            }
            value => vec![(key, value)],
        };
        for (key, value) in parts {
            ensure!(flat.insert(key.clone(), value).is_none(), "key {key:?} is there twice");
        }
    }
    Ok(flat)
}

/// The parser draws a picture of several lines; an error here is one.
fn one_line(error: &toml::de::Error, text: &str) -> anyhow::Error {
    let message = error.message().lines().collect::<Vec<_>>().join("; ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => anyhow::anyhow!("line {}: {message}", before.lines().count().max(1)),
        None => anyhow::anyhow!("{message}"),
    }
}
