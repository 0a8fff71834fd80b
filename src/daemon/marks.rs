//! How far the log of each container that is a DNS source was read, kept across restarts.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::dns;
use crate::docker::{self, logs};
use crate::engine::health::Skip;
use crate::engine::limits::LOG_HISTORY;
use crate::engine::{Mono, Wall};
use crate::store::write_atomically;

use super::clock;

/// How much of a log is read again after a restart: an answer that comes after it may belong to a question before it,
/// and dnsmasq gives an upstream server ten seconds.
const OVERLAP: Duration = Duration::from_secs(10);
/// Largest file read; ours have some fifty bytes.
const FILE_BYTES_MAX: u64 = 4096;
const VERSION: u64 = 1;

/// One mark for each source that is a container's log.
#[derive(Debug, Default)]
pub struct Marks(Vec<Mark>);

#[derive(Debug)]
struct Mark {
    name: String,
    /// None if nothing may be written.
    path: Option<PathBuf>,
    /// The time of the last line that was taken in, in microseconds; 0 before the first.
    read: AtomicU64,
    saved: AtomicU64,
}

/// What stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u64,
    /// Of the last line read, in RFC 3339.
    read_until: String,
}

/// How far each log had been read at one moment.
pub struct Reached(Vec<u64>);

impl Marks {
    /// The marks of the sources of `config`, as they were left. `forgotten` if nothing is known of what was read up to
    /// there: then all is to be read anew.
    pub fn load(config: &Config, forgotten: bool) -> Marks {
        let mark = |name: &str| {
            let path = config.state_dir.join(format!("dns-docker-{name}.json"));
            let path = (!config.memory_only).then_some(path);
            let read = path.as_deref().filter(|_| !forgotten).and_then(load).unwrap_or_default().0;
            Mark { name: name.to_owned(), path, read: read.into(), saved: read.into() }
        };
        Marks(config.resolver_containers().into_iter().map(mark).collect())
    }

    /// From when on to read the log of `name`.
    fn since(&self, name: &str, now: Wall) -> Wall {
        let before = |moment: Wall, by: Duration| {
            Wall(moment.0.saturating_sub(u64::try_from(by.as_micros()).unwrap_or(u64::MAX)))
        };
        match self.find(name).map(|mark| Wall(mark.read.load(Ordering::Relaxed))) {
            // A mark of the future is of a clock that was set back since: what it says is not known.
            Some(read) if read != Wall(0) && read <= now => before(read, OVERLAP),
            _ => before(now, LOG_HISTORY),
        }
    }

    fn find(&self, name: &str) -> Option<&Mark> {
        self.0.iter().find(|mark| mark.name == name)
    }

    /// How far the logs have been read: everything up to there is in the registry.
    pub fn reached(&self) -> Reached {
        Reached(self.0.iter().map(|mark| mark.read.load(Ordering::Acquire)).collect())
    }

    /// Keeps what was reached, once the registry that holds it is on disk.
    pub fn save(&self, reached: &Reached) {
        for (mark, reached) in self.0.iter().zip(&reached.0) {
            let Some(path) = &mark.path else { continue };
            if mark.saved.load(Ordering::Relaxed) == *reached {
                continue;
            }
            match save(path, Wall(*reached)) {
                Ok(()) => mark.saved.store(*reached, Ordering::Relaxed),
                // The registry lies beside it, and whoever saves that has told.
                Err(error) => tracing::debug!("cannot save {}: {error}", path.display()),
            }
        }
    }
}

fn load(path: &Path) -> Option<Wall> {
    if std::fs::metadata(path).ok()?.len() > FILE_BYTES_MAX {
        return None;
    }
    let saved: Saved = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    let time =
        humantime::parse_rfc3339(&saved.read_until).ok().filter(|_| saved.version == VERSION)?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(since.as_micros()).ok().map(Wall)
}

fn save(path: &Path, read: Wall) -> std::io::Result<()> {
    let time = std::time::UNIX_EPOCH + Duration::from_micros(read.0);
    let read_until = humantime::format_rfc3339_micros(time).to_string();
    let text = serde_json::to_vec(&Saved { version: VERSION, read_until })?;
    write_atomically(path, |mut file| file.write_all(&text))
}

/// The logs of containers, as the sources take them.
pub struct ContainerLogs {
    /// None if it is not to be asked; then no source is a container's log.
    engine: Option<docker::Address>,
    marks: Arc<Marks>,
}

impl ContainerLogs {
    /// Of the engine that is listening there.
    pub fn new(engine: Option<docker::Address>, marks: Arc<Marks>) -> ContainerLogs {
        ContainerLogs { engine, marks }
    }
}

impl dns::Outside for ContainerLogs {
    fn follow(&self, name: &str, stop: &dns::Stop, taker: &mut dyn dns::Taker) {
        let Some(engine) = &self.engine else { return dns::Nowhere.follow(name, stop, taker) };
        let mark = self.marks.find(name);
        let since = self.marks.since(name, clock::wall());
        logs::follow(engine, name, since, stop.fd(), &mut Passed { taker, mark });
    }

    fn clock(&self) -> Mono {
        clock::mono()
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
mod tests {
    use super::*;

    fn marks(folder: &Path, name: &str) -> Marks {
        let path = folder.join(format!("dns-docker-{name}.json"));
        let read = load(&path).unwrap_or_default().0;
        Marks(vec![Mark {
            name: name.to_owned(),
            path: Some(path),
            read: read.into(),
            saved: read.into(),
        }])
    }

    const HOUR: u64 = 3_600_000_000;
    const NOW: Wall = Wall(495_000 * HOUR);

    #[test]
    fn the_first_start_reads_history_and_later_ones_go_on() {
        let folder = tempfile::tempdir().unwrap();
        let first = marks(folder.path(), "dns");
        assert_eq!(first.since("dns", NOW), Wall(NOW.0 - 48 * HOUR));
        let read = NOW.0 - HOUR + 17;
        first.0[0].read.store(read, Ordering::Release);
        first.save(&first.reached());
        let again = marks(folder.path(), "dns");
        assert_eq!(again.since("dns", NOW), Wall(read - 10_000_000));
        assert_eq!(marks(folder.path(), "other").since("other", NOW), Wall(NOW.0 - 48 * HOUR));
        assert_eq!(again.since("dns", Wall(read - 1)), Wall(read - 1 - 48 * HOUR), "set back");
    }

    #[test]
    fn only_what_the_saved_registry_holds_is_marked() {
        let folder = tempfile::tempdir().unwrap();
        let marks = marks(folder.path(), "dns");
        marks.0[0].read.store(NOW.0, Ordering::Release);
        let reached = marks.reached();
        marks.0[0].read.store(NOW.0 + HOUR, Ordering::Release);
        marks.save(&reached);
        assert_eq!(load(&folder.path().join("dns-docker-dns.json")), Some(NOW));
    }

    #[test]
    fn a_damaged_mark_is_none() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mark");
        let long = format!(
            "{{\"version\":1,{}\"read_until\":\"2026-01-01T00:00:00Z\"}}",
            " ".repeat(5_000)
        );
        for text in [
            "",
            "{",
            "7",
            "{\"version\":2,\"read_until\":\"2026-01-01T00:00:00Z\"}",
            "{\"version\":1,\"read_until\":\"yesterday\"}",
            "{\"version\":1,\"read_until\":\"1960-01-01T00:00:00Z\"}",
            &long,
        ] {
            std::fs::write(&path, text).unwrap();
            assert_eq!(load(&path), None, "{text}");
        }
    }
}
