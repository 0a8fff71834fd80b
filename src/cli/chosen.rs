//! What a look back is about: which events, of when, of whom; the same for reviews and reports.

use std::path::PathBuf;

use anyhow::Result;
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
        let events = match self.events.as_slice() {
            // One that was never written to tells nothing.
            [] => {
                theirs.or(config.events.clone()).filter(|path| path.exists()).into_iter().collect()
            }
            named => named.to_vec(),
        };
        let since =
            self.since.as_deref().map(|text| parse_since(text, clock::wall())).transpose()?;
        let none = events.is_empty();
        let none = none.then(|| "no event file is read: name it with --events FILE".to_owned());
        let sources = Sources { events, since, container: self.container.clone() };
        Ok(Found { config, misread, sources, notes: none.into_iter().collect() })
    }
}
