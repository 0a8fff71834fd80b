//! How far the log of each container and the journal of each unit that is a DNS source was read, kept across restarts.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::dns::{self, journal};
use crate::docker::{self, logs};
use crate::engine::health::Skip;
use crate::engine::limits::LOG_HISTORY;
use crate::engine::{Mono, Wall};
use crate::store::{Small, Version};

use super::clock;

/// How much of a log is read again after a restart: an answer that comes after it may belong to a question before it,
/// and dnsmasq gives an upstream server ten seconds.
const OVERLAP: Duration = Duration::from_secs(10);
/// Largest file read; ours have some fifty bytes.
const FILE_BYTES_MAX: u64 = 4096;
const LOSS: &str = "its log is read again as at a first start";

/// One mark for each source that somebody else keeps: a container's log, or a journal.
#[derive(Debug, Default)]
pub struct Marks(Vec<Mark>);

/// Whose log it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Container,
    Unit,
}

#[derive(Debug)]
struct Mark {
    of: Of,
    name: String,
    file: Small,
    /// The time of the last line that was taken in, in microseconds; 0 before the first.
    read: AtomicU64,
    /// The journal's name for that line; empty for a container's log.
    cursor: Mutex<String>,
    saved: AtomicU64,
}

/// What stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: Version<1>,
    /// Of the last line read, in RFC 3339.
    read_until: String,
    /// Its name in the journal, where it is in one.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    cursor: String,
}

impl Saved {
    fn new(reached: &journal::Place) -> Saved {
        let time = std::time::UNIX_EPOCH + Duration::from_micros(reached.at.0);
        let read_until = humantime::format_rfc3339_micros(time).to_string();
        Saved { version: Version, read_until, cursor: reached.cursor.clone() }
    }

    fn place(self) -> Option<journal::Place> {
        let time = humantime::parse_rfc3339(&self.read_until).ok()?;
        let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
        let at = u64::try_from(since.as_micros()).ok().map(Wall)?;
        Some(journal::Place { cursor: self.cursor, at })
    }
}

/// How far each log had been read at one moment.
pub struct Reached(Vec<journal::Place>);

impl Marks {
    /// The marks of the sources of `config`, as they were left. `forgotten` if nothing is known of what was read up to
    /// there: then all is to be read anew.
    pub fn load(config: &Config, forgotten: bool) -> Marks {
        let containers = config.resolver_containers().into_iter().map(|name| (Of::Container, name));
        let units = config.sources.iter().filter_map(dns::Spec::unit).map(|unit| (Of::Unit, unit));
        let mark = |(of, name): (Of, &str)| {
            let path = config.state_dir.join(of.file(name));
            let reads = !forgotten && !config.memory_only;
            Mark::load(of, name, Small::new(path, FILE_BYTES_MAX, !config.memory_only), reads)
        };
        Marks(containers.chain(units).map(mark).collect())
    }

    /// From when on to read the log of `name`.
    fn since(&self, of: Of, name: &str, now: Wall) -> Wall {
        match self.find(of, name).map(|mark| Wall(mark.read.load(Ordering::Relaxed))) {
            // A mark of the future is of a clock that was set back since: what it says is not known.
            Some(read) if read != Wall(0) && read <= now => before(read, OVERLAP),
            _ => before(now, LOG_HISTORY),
        }
    }

    /// Where to begin with the journal of `unit`. As with a container's log a little is read again; but a journal knows
    /// its place even if the clock was set back.
    fn left(&self, unit: &str, now: Wall) -> journal::Left {
        match self.find(Of::Unit, unit).map(Mark::place) {
            Some(place) if place.at > now && journal::is_cursor(&place.cursor) => {
                journal::Left::At(place.cursor)
            }
            _ => journal::Left::Since(self.since(Of::Unit, unit, now)),
        }
    }

    fn find(&self, of: Of, name: &str) -> Option<&Mark> {
        self.0.iter().find(|mark| mark.of == of && mark.name == name)
    }

    /// How far the logs have been read: everything up to there is in the registry.
    pub fn reached(&self) -> Reached {
        Reached(self.0.iter().map(Mark::place).collect())
    }

    /// Keeps what was reached, once the registry that holds it is on disk.
    pub fn save(&self, reached: &Reached) {
        for (mark, reached) in self.0.iter().zip(&reached.0) {
            if mark.saved.load(Ordering::Relaxed) == reached.at.0 {
                continue;
            }
            match mark.file.save(&Saved::new(reached)) {
                Ok(()) => mark.saved.store(reached.at.0, Ordering::Relaxed),
                // The registry lies beside it, and whoever saves that has told.
                Err(error) => tracing::debug!("{error}"),
            }
        }
    }
}

impl Of {
    fn file(self, name: &str) -> String {
        match self {
            Of::Container => format!("dns-docker-{name}.json"),
            Of::Unit => format!("dns-journal-{name}.json"),
        }
    }
}

impl Mark {
    /// As it was left, if the file is to be read.
    fn load(of: Of, name: &str, file: Small, reads: bool) -> Mark {
        let left = || file.load_or_warn(LOSS, clock::wall(), Saved::place);
        let left = reads.then(left).flatten().unwrap_or_default();
        let (read, saved) = (left.at.0.into(), left.at.0.into());
        Mark { of, name: name.to_owned(), file, read, cursor: Mutex::new(left.cursor), saved }
    }

    /// Time and cursor of one line.
    fn place(&self) -> journal::Place {
        let cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        journal::Place { cursor: cursor.clone(), at: Wall(self.read.load(Ordering::Acquire)) }
    }

    fn set(&self, place: &journal::Place) {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        cursor.clone_from(&place.cursor);
        self.read.store(place.at.0, Ordering::Release);
    }
}

fn before(moment: Wall, by: Duration) -> Wall {
    Wall(moment.0.saturating_sub(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
}

/// The logs of containers and the places in journals, as the sources take them.
pub struct Logs {
    /// None if it is not to be asked; then no source is a container's log.
    engine: Option<docker::Address>,
    marks: Arc<Marks>,
}

impl Logs {
    /// Of the engine that is listening there.
    pub fn new(engine: Option<docker::Address>, marks: Arc<Marks>) -> Logs {
        Logs { engine, marks }
    }
}

impl dns::Outside for Logs {
    fn follow(&self, name: &str, stop: &dns::Stop, taker: &mut dyn dns::Taker) {
        let Some(engine) = &self.engine else { return dns::Nowhere.follow(name, stop, taker) };
        let mark = self.marks.find(Of::Container, name);
        let since = self.marks.since(Of::Container, name, clock::wall());
        logs::follow(engine, name, since, stop.fd(), &mut Passed { taker, mark });
    }

    fn clock(&self) -> Mono {
        clock::mono()
    }

    fn journal_left(&self, unit: &str) -> journal::Left {
        self.marks.left(unit, clock::wall())
    }

    fn journal_since(&self) -> Wall {
        before(clock::wall(), LOG_HISTORY)
    }

    fn journal_reached(&self, unit: &str, place: &journal::Place) {
        if let Some(mark) = self.marks.find(Of::Unit, unit) {
            mark.set(place);
        }
    }
}

/// Passes a container's log on, and marks how far that went.
struct Passed<'a> {
    taker: &'a mut dyn dns::Taker,
    mark: Option<&'a Mark>,
}

impl logs::Listener for Passed<'_> {
    fn history(&mut self, from: Wall, until: Wall) {
        self.taker.history(from, until);
    }

    fn looking(&mut self) {
        self.taker.looking();
    }

    fn patience(&self) -> Option<Duration> {
        self.taker.patience()
    }

    fn behind(&mut self) {
        self.taker.behind();
    }

    fn line(&mut self, at: Wall, line: Result<&[u8], Skip>) {
        self.taker.line(at, line);
        if let Some(mark) = self.mark {
            mark.read.store(at.0, Ordering::Release);
        }
    }

    fn caught_up(&mut self) {
        self.taker.caught_up();
    }

    fn up(&mut self) {
        self.taker.up();
    }

    fn down(&mut self, why: &str) {
        self.taker.down(why);
    }
}

#[cfg(test)]
#[path = "marks_test.rs"]
mod tests;
