//! OpenSnitch's view, asked at most once a minute: a look goes through its whole table.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use crate::engine::opinion::Opinion;
use crate::engine::{Mono, Now, Wall};
use crate::opensnitch::{Database, Denials, Trouble};

/// How long a look counts.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// What it denied longer ago says nothing about whoever has the address by now.
const MEMORY: Duration = Duration::from_secs(90 * 24 * 60 * 60);

/// The second view, and when it was formed.
#[derive(Debug)]
pub struct Second {
    database: Database,
    last: Option<(Mono, Result<Denials, Trouble>)>,
}

impl Second {
    /// From the database of this path. Nothing is opened yet.
    pub fn new(path: &Path) -> Second {
        Second { database: Database::new(path), last: None }
    }

    /// True if there is somebody to ask.
    pub fn is_there(&self) -> bool {
        self.database.is_there()
    }

    /// What it makes of an address.
    pub fn opinion(&mut self, address: IpAddr, now: Now) -> Opinion {
        match self.look(now) {
            Ok(denials) => denials.opinion(address),
            Err(trouble) => trouble.opinion(),
        }
    }

    /// Why it cannot be asked, if it cannot.
    pub fn trouble(&mut self, now: Now) -> Option<&Trouble> {
        self.look(now).as_ref().err()
    }

    fn look(&mut self, now: Now) -> &Result<Denials, Trouble> {
        let is_fresh =
            |(at, _): &(Mono, Result<Denials, Trouble>)| now.mono.since(*at) < LOOK_EVERY;
        let last = self.last.take().filter(is_fresh);
        let since = now.wall.0.saturating_sub(u64::try_from(MEMORY.as_micros()).unwrap_or(0));
        let look = || (now.mono, self.database.look(Wall(since)));
        &self.last.insert(last.unwrap_or_else(look)).1
    }
}
