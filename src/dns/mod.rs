//! DNS evidence adapter: reads dnsmasq's query log from its source, one plain thread each, and hands over answers.

pub mod correlate;
mod fifo;
mod file;
pub mod framing;
pub mod journal;
pub mod line;
mod outside;
mod pump;
pub mod spawn;
pub mod stamp;
mod stdin;
mod stop;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use crate::engine::health::{Batch, Disk};
use crate::engine::limits::{REOPEN_PAUSE_MAX, REOPEN_PAUSE_MIN};

pub use correlate::Answer;
pub use outside::{Nowhere, Outside, Taker};
use pump::Pump;
pub use spawn::SpawnConfig;
use stop::Ready;
pub use stop::Stop;

/// Bytes of a container's name. Docker sets no limit; a file named after it has 255 at the most.
const CONTAINER_NAME_BYTES_MAX: usize = 200;

/// Where a log comes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Spec {
    /// A dnsmasq of our own, logging to a pipe.
    Spawn,
    /// A file, followed across rotation and truncation.
    File(PathBuf),
    /// A FIFO, made if it is not there.
    Fifo(PathBuf),
    /// Standard input.
    Stdin,
    /// What a container of this name writes to its standard output and error.
    Docker(String),
    /// What a systemd unit of this full name writes to the journal.
    Journal(String),
}

/// Why a text is no source.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// No source at all.
    #[error(
        "unknown DNS source `{0}`; use spawn, file:PATH, fifo:PATH, docker:NAME, journal:UNIT or stdin"
    )]
    Unknown(String),
    /// `file:` or `fifo:` and nothing after it.
    #[error("DNS source `{0}` names no path")]
    NoPath(String),
    /// `docker:` and what no container can be called.
    #[error("DNS source `{0}` names no container: names have letters, digits and _.- only")]
    NoContainer(String),
    /// `journal:` and what no unit can be called.
    #[error("DNS source `{0}` names no systemd unit, as dnsmasq.service is one")]
    NoUnit(String),
}

impl FromStr for Spec {
    type Err = SpecError;
    fn from_str(text: &str) -> Result<Spec, SpecError> {
        match text.split_once(':') {
            None if text == "spawn" => Ok(Spec::Spawn),
            None if text == "stdin" => Ok(Spec::Stdin),
            Some(("file" | "fifo", "")) => Err(SpecError::NoPath(text.to_owned())),
            Some(("file", path)) => Ok(Spec::File(path.into())),
            Some(("fifo", path)) => Ok(Spec::Fifo(path.into())),
            Some(("docker", name)) if is_container_name(name) => Ok(Spec::Docker(name.to_owned())),
            Some(("docker", _)) => Err(SpecError::NoContainer(text.to_owned())),
            Some(("journal", unit)) => journal::unit(unit)
                .map(Spec::Journal)
                .ok_or_else(|| SpecError::NoUnit(text.to_owned())),
            _ => Err(SpecError::Unknown(text.to_owned())),
        }
    }
}

impl Spec {
    /// True if dnsmasq itself writes where we read, so that a line is there before its answer is sent.
    pub fn is_direct(&self) -> bool {
        match self {
            Spec::Spawn | Spec::Fifo(_) => true,
            Spec::File(_) | Spec::Stdin | Spec::Docker(_) | Spec::Journal(_) => false,
        }
    }

    /// The container whose log this is, if it is one's.
    pub fn container(&self) -> Option<&str> {
        match self {
            Spec::Docker(name) => Some(name),
            _ => None,
        }
    }

    /// The unit whose journal this is, if it is one's.
    pub fn unit(&self) -> Option<&str> {
        match self {
            Spec::Journal(unit) => Some(unit),
            _ => None,
        }
    }
}

/// As Docker wants them; so a name is also safe in a request and in a file's name.
fn is_container_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    let first = bytes.next().is_some_and(|c| c.is_ascii_alphanumeric());
    let rest = bytes.all(|c| c.is_ascii_alphanumeric() || b"_.-".contains(&c));
    first && rest && (2..=CONTAINER_NAME_BYTES_MAX).contains(&name.len())
}

impl fmt::Display for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spec::Spawn => f.write_str("spawn"),
            Spec::File(path) => write!(f, "file:{}", path.display()),
            Spec::Fifo(path) => write!(f, "fifo:{}", path.display()),
            Spec::Stdin => f.write_str("stdin"),
            Spec::Docker(name) => write!(f, "docker:{name}"),
            Spec::Journal(unit) => write!(f, "journal:{unit}"),
        }
    }
}

/// Who takes the evidence. Called on the source's thread, in the order of the log.
pub trait Sink {
    /// Bytes are there: from here to [`Sink::caught_up`] the reader is behind.
    fn behind(&mut self);
    /// An address answers a query. Comes at once, not when the batch ends.
    fn answer(&mut self, answer: Answer<'_>);
    /// What the lines just handed over were.
    fn lines(&mut self, batch: Batch);
    /// Everything that was there has been handed over.
    fn caught_up(&mut self);
    /// The source gives evidence.
    fn up(&mut self);
    /// The source gives none, and why. May come again with another reason.
    fn down(&mut self, why: &str);
    /// The reader looks whether there is anything to be read.
    fn looking(&mut self) {}
    /// Everything that was there when it began to look has been handed over.
    fn looked(&mut self) {}
    /// How long the reader may sleep before it looks again, if that matters.
    fn patience(&self) -> Option<Duration> {
        None
    }
    /// Whether dnsmasq can write its log.
    fn disk(&mut self, disk: Disk) {
        let _ = disk;
    }
    /// So many questions in a row that our own dnsmasq did not answer; 0 after an answer.
    fn unanswered(&mut self, questions: u32) {
        let _ = questions;
    }
    /// Something people may want to know about a source that is as it was.
    fn note(&mut self, what: &str) {
        let _ = what;
    }
}

/// Reads `spec` on the calling thread until `stop` is raised. A source never gives up before: what ends or fails is
/// opened again with growing pauses, and the sink is told why it is down.
///
/// `config` matters to [`Spec::Spawn`] only; check it with
/// [`SpawnConfig::check`] before, since a fault in it is reported as a source that stays down. `outside` follows the
/// log of [`Spec::Docker`], and keeps how far a [`Spec::Journal`] was read.
///
/// The dnsmasq of [`Spec::Spawn`] and the journalctl of [`Spec::Journal`] are tied to the calling thread: they end with it, however it ends.
pub fn run(
    spec: &Spec,
    config: &SpawnConfig,
    outside: &dyn Outside,
    stop: &Stop,
    sink: &mut dyn Sink,
) {
    match spec {
        Spec::Spawn => spawn::run(config, stop, sink),
        Spec::File(path) => file::run(path, stop, sink),
        Spec::Fifo(path) => fifo::run(path, stop, sink),
        Spec::Stdin => stdin::run(std::io::stdin(), stop, sink),
        Spec::Docker(name) => outside::run(name, outside, stop, sink),
        Spec::Journal(unit) => journal::run(unit, outside, stop, sink),
    }
}

/// Waits as [`Stop::poll`] does, no longer than the sink's patience, and tells the sink if there was nothing to read.
fn wait(
    stop: &Stop,
    fds: &[BorrowedFd<'_>],
    longest: Option<Duration>,
    sink: &mut dyn Sink,
) -> Ready {
    sink.looking();
    let ready = stop.poll(fds, Some(Duration::ZERO));
    if ready != Ready::default() {
        return ready;
    }
    sink.looked();
    stop.poll(fds, nap(longest, sink))
}

/// The shorter of the source's own pause and the sink's.
fn nap(longest: Option<Duration>, sink: &dyn Sink) -> Option<Duration> {
    [longest, sink.patience()].into_iter().flatten().min()
}

/// Reads what is at `path` by `follow`, which returns only with a failure or when stopped, again and again until `stop` is
/// raised.
fn persevere(
    path: &Path,
    stop: &Stop,
    sink: &mut dyn Sink,
    mut follow: impl FnMut(&mut Pump, &mut Status, &mut Backoff, &mut dyn Sink) -> std::io::Error,
) {
    let (mut status, mut backoff) = (Status::new(), Backoff::new());
    let mut pump = Pump::new();
    while !stop.is_raised() {
        let error = follow(&mut pump, &mut status, &mut backoff, sink);
        if stop.is_raised() {
            return;
        }
        pump.caught_up(sink);
        status.down(&format!("{}: {error}", path.display()), sink);
        if stop.wait(backoff.next()) {
            return;
        }
    }
}

/// The pause before the next attempt to open a source.
struct Backoff(Duration);

impl Backoff {
    fn new() -> Backoff {
        Backoff(REOPEN_PAUSE_MIN)
    }

    fn next(&mut self) -> Duration {
        let pause = self.0;
        self.0 = (pause * 2).min(REOPEN_PAUSE_MAX);
        pause
    }

    fn reset(&mut self) {
        self.0 = REOPEN_PAUSE_MIN;
    }
}

/// Tells the sink only what is new to it.
struct Status {
    up: bool,
    why: String,
}

impl Status {
    fn new() -> Status {
        Status { up: false, why: String::new() }
    }

    fn up(&mut self, sink: &mut dyn Sink) {
        if !self.up {
            (self.up, self.why) = (true, String::new());
            sink.up();
        }
    }

    fn down(&mut self, why: &str, sink: &mut dyn Sink) {
        if self.up || self.why != why {
            (self.up, self.why) = (false, why.to_owned());
            sink.down(why);
        }
    }
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
