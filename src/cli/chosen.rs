//! What a look back is about: which events, of when, of whom; the same for reviews and reports.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use clap::Args;

use super::lists::Place;
use crate::config::{self, FindingConfig};
use crate::daemon::clock;
use crate::daemon::findings::{Sources, parse_since};

#[derive(Args, Debug)]
pub(super) struct Chosen {
    /// An event log of synhold's, as --events of `run` writes it; repeatable. FILE.1, FILE.2 ... beside it are read too
    /// [default: the running daemon's, or the one the configuration names]
    #[arg(long, value_name = "FILE")]
    events: Vec<PathBuf>,
    /// No events before this: 24h or 7d ago, a day as 2026-01-31, or a time as events have it
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Only this container
    #[arg(long, value_name = "NAME|ADDRESS")]
    container: Option<String>,
    /// OpenSnitch's database [default: what the configuration says, or /var/lib/opensnitch/opensnitch.sqlite3]
    #[arg(long, value_name = "FILE")]
    opensnitch_db: Option<PathBuf>,
    #[command(flatten)]
    pub place: Place,
}

/// What was chosen, found.
pub(super) struct Found {
    pub config: FindingConfig,
    /// Which configuration it is, where the running daemon has another.
    pub misread: Option<String>,
    pub sources: Sources,
    /// What a person should know before believing the rest.
    pub notes: Vec<String>,
}

impl Chosen {
    /// Finds the configuration and the event files.
    pub(super) fn find(&self) -> Result<Found> {
        let known = self.place.known()?;
        let misread = known.misread();
        let (file, state_dir) = (known.file.as_deref(), Some(known.state_dir));
        let config = config::load_findings(file, state_dir, self.opensnitch_db.clone())?;
        let theirs = known.daemon.and_then(|daemon| daemon.events);
        // Its command line goes before its file; and whoever names a file means that one.
        let theirs = theirs.filter(|_| self.place.config.is_none());
        let mut notes = Vec::new();
        let events = match (self.events.as_slice(), theirs.or(config.events.clone())) {
            ([], None) => Vec::new(),
            ([], Some(path)) => {
                let kind = kind(&path)?;
                let not_read = format!("{} is no file: name one with --events", path.display());
                notes.extend((kind == Kind::Other).then_some(not_read));
                Some(path).filter(|_| kind == Kind::File).into_iter().collect()
            }
            (named, _) => named.to_vec(),
        };
        let since =
            self.since.as_deref().map(|text| parse_since(text, clock::wall())).transpose()?;
        if events.is_empty() {
            notes.push("no event file is read: name it with --events FILE".to_owned());
        }
        let sources = Sources { events, since, container: self.container.clone() };
        Ok(Found { config, misread, sources, notes })
    }
}

/// What a daemon may write its events to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// Its lines stay there.
    File,
    /// One that was never written to tells nothing.
    Missing,
    /// A pipe or a terminal: reading it would take its reader's lines, and have no end.
    Other,
}

fn kind(path: &Path) -> Result<Kind> {
    match std::fs::metadata(path) {
        Ok(about) if about.is_file() => Ok(Kind::File),
        Ok(_) => Ok(Kind::Other),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(Kind::Missing),
        Err(error) => bail!("cannot read events from {}: {}", path.display(), error.kind()),
    }
}
