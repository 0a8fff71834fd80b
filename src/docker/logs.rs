//! A container's log, followed: standard output and error, each line with its time, across whatever happens to it.

mod http;
mod lines;
mod place;
mod stamp;

use std::convert::Infallible;
use std::os::fd::BorrowedFd;
use std::time::Duration;

use http_body_util::BodyExt;
use hyper::body::{Bytes, Incoming};
use tokio::net::unix::pipe::Receiver;
use tokio::time::timeout;

use super::Address;
use crate::engine::Wall;
use crate::engine::health::Skip;
use crate::engine::limits::REOPEN_PAUSE_MIN;
use http::{BACKLOG_LINES_MAX, Container, Error, Http, Run};
use lines::Lines;
use place::{Place, Resume};
use stamp::Stamp;

/// Longest pause before a log that ended is looked for again. A container that starts again is not told of; until its
/// log is read nobody's look-ups count, and the engine is near.
const REOPEN_PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often it is checked that the name still means the container that is followed.
const LOOK_PAUSE: Duration = Duration::from_millis(if cfg!(test) { 50 } else { 5_000 });
/// Bytes read for the first line of a log, whose time says how far back that goes.
const FIRST_BYTES_MAX: usize = 64 << 10;
/// Silence after which history is taken to have ended although the last line known of it has not come.
const SILENCE_MAX: Duration = Duration::from_secs(60);

/// Lines at the end of a log in which the place where it was left is looked for, before all of it is read. An engine
/// finds the end of a log at once, and takes seconds to find a time in a long one.
const TAILS: [u64; 2] = [2_000, 60_000];
/// A log that ends this much before the place where it was left was written after the clock was set back.
const SET_BACK: Stamp = Stamp(1_000_000_000);

/// Who takes a log: everything in its order, on the thread that follows it.
pub trait Listener {
    /// The log is open; what was logged from `from` to `until` comes first, and [`Listener::up`] ends it.
    fn history(&mut self, from: Wall, until: Wall);
    /// It is looked whether there is anything to be read.
    fn looking(&mut self) {}
    /// How long to sleep before that at most, if it matters.
    fn patience(&self) -> Option<Duration> {
        None
    }
    /// Bytes are there.
    fn behind(&mut self);
    /// A line less its end and its time, or why there is none. Times may go back by a little.
    fn line(&mut self, at: Wall, line: Result<&[u8], Skip>);
    /// Everything that was there has been handed over.
    fn caught_up(&mut self);
    /// Everything logged before has been handed over.
    fn up(&mut self);
    /// The log cannot be read for now. May come again, with the same reason or another.
    fn down(&mut self, why: &str);
}

/// Follows the log of container `name` from `since` on until `stop` is readable. Every line is handed over once,
/// however often the engine or the container goes away meanwhile; but twice where the clock was set back.
///
/// `name` becomes part of a request as it is: it must be one that a container can have.
pub fn follow(
    address: &Address,
    name: &str,
    since: Wall,
    stop: BorrowedFd<'_>,
    listener: &mut dyn Listener,
) {
    let follower = Follower { address, name, since: since.into(), place: None, read_out: None };
    if let Err(error) = follower.start(stop, listener) {
        listener.down(&format!("its log cannot be followed: {error}"));
    }
}

struct Follower<'a> {
    address: &'a Address,
    name: &'a str,
    since: Stamp,
    place: Option<Place>,
    /// The run whose log was read to its end.
    read_out: Option<Run>,
}

/// What came next.
enum Next {
    Bytes(Bytes),
    /// Nothing for now.
    Nothing,
    Silence,
    End,
    Replaced,
}

impl Follower<'_> {
    fn start(mut self, stop: BorrowedFd<'_>, listener: &mut dyn Listener) -> std::io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            // No pipe, but waited for like one; nothing is read from it.
            let stop = Receiver::from_owned_fd_unchecked(stop.try_clone_to_owned()?)?;
            tokio::select! {
                biased;
                raised = stop.readable() => raised,
                () = self.run(listener) => Ok(()),
            }
        })
    }

    /// From when on to read a log whose last line is of this time.
    fn since(&mut self, last: Option<Stamp>) -> Stamp {
        if let (Some(place), Some(last)) = (self.place, last)
            && place.at().0.saturating_sub(last.0) > SET_BACK.0
        {
            // Rather twice than not at all.
            self.place = None;
            self.since = self.since.min(last);
        }
        self.place.map_or(self.since, Place::at)
    }

    async fn run(&mut self, listener: &mut dyn Listener) {
        let mut pause = REOPEN_PAUSE_MIN;
        loop {
            let before = self.place;
            let Err(error) = self.read(listener).await;
            let replaced = matches!(error, Error::Replaced(_));
            listener.caught_up();
            listener.down(&error.to_string());
            if replaced || self.place != before {
                pause = REOPEN_PAUSE_MIN;
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(REOPEN_PAUSE_MAX);
        }
    }

    /// Reads until that fails or ends, one way or another.
    async fn read(&mut self, listener: &mut dyn Listener) -> Result<Infallible, Error> {
        let http = Http::open(self.address).await?;
        let container = http.inspect(self.name).await?;
        // Of a container that stopped, what it logged to the end is read once.
        if !container.running && self.read_out.as_ref() == Some(&container.run) {
            return Err(Error::Stopped(self.name.to_owned()));
        }
        let last = http.last(&container).await?;
        let since = self.since(last);
        let until = last.filter(|last| *last > since);
        let replaced = http.replaced(self.name, &container.run, LOOK_PAUSE);
        let mut reading = Reading {
            resume: Resume::at(self.place),
            from: self.place.map_or(since, |_| Stamp(0)),
            place: &mut self.place,
            lines: Lines::new(container.terminal),
            since,
            until,
            up: !container.running,
            listener,
        };
        let body = reading.open(&http, &container, last.is_none()).await?;
        let ended = reading.all(body, replaced).await?;
        self.read_out = Some(container.run);
        let name = self.name.to_owned();
        Err(match ended {
            Next::Replaced => Error::Replaced(name),
            _ if container.running => Error::Ended(name),
            _ => Error::Stopped(name),
        })
    }
}

/// One answer of the engine, being read.
struct Reading<'a> {
    place: &'a mut Option<Place>,
    lines: Lines,
    resume: Resume,
    /// What is new, is new since then.
    since: Stamp,
    /// Lines before it are not wanted. Those after a known place are, whatever their times.
    from: Stamp,
    /// The time of history's last line, until it has been read.
    until: Option<Stamp>,
    /// Told so, or never to be: a container that does not run gives no evidence.
    up: bool,
    listener: &'a mut dyn Listener,
}

impl Reading<'_> {
    /// Opens as much of the log's end as holds all that is new, and takes its first bytes.
    /// An empty log has none.
    async fn open(
        &mut self,
        http: &Http,
        container: &Container,
        empty: bool,
    ) -> Result<Incoming, Error> {
        self.listener.history(self.since.wall(), self.until.unwrap_or(self.since).wall());
        let tails = if empty { &[][..] } else { &TAILS };
        for &count in tails {
            let mut body = http.follow(container, count, self.since).await?;
            let first = timeout(SILENCE_MAX, self.first(container, &mut body)).await;
            let Ok(first) = first else { continue };
            let (begun, bytes) = first?;
            // Before, since of the lines of one time all count.
            if begun.is_some_and(|begun| begun < self.since) {
                self.take(&bytes)?;
                return Ok(body);
            }
        }
        http.follow(container, BACKLOG_LINES_MAX, self.since).await
    }

    /// The time of an answer's first line, and the bytes read for it.
    async fn first(
        &self,
        container: &Container,
        body: &mut Incoming,
    ) -> Result<(Option<Stamp>, Vec<u8>), Error> {
        let mut lines = Lines::new(container.terminal);
        let (mut begun, mut bytes) = (None, Vec::new());
        while begun.is_none() && bytes.len() < FIRST_BYTES_MAX {
            let Next::Bytes(more) = next(body).await? else { break };
            lines.feed(&more, &mut |stamp, _| begun = begun.or(stamp))?;
            bytes.extend_from_slice(&more);
        }
        Ok((begun, bytes))
    }

    async fn all(
        &mut self,
        mut body: Incoming,
        replaced: impl Future<Output = ()>,
    ) -> Result<Next, Error> {
        let mut replaced = std::pin::pin!(replaced);
        loop {
            self.look_up();
            self.listener.looking();
            let ready = tokio::select! {
                biased;
                next = next(&mut body) => next?,
                // Lets the connection read on first: nothing is there only if it has nothing either.
                () = tokio::task::yield_now() => Next::Nothing,
            };
            let next = match ready {
                Next::Nothing => {
                    self.listener.caught_up();
                    let known = self.until.is_none();
                    let patience = self.listener.patience().filter(|_| known);
                    tokio::select! {
                        biased;
                        next = next(&mut body) => next?,
                        () = replaced.as_mut() => Next::Replaced,
                        () = tokio::time::sleep(patience.unwrap_or(SILENCE_MAX)) => Next::Silence,
                    }
                }
                ready => ready,
            };
            match next {
                Next::Bytes(bytes) => self.take(&bytes)?,
                Next::Silence => self.until = None,
                Next::Nothing => {}
                Next::End | Next::Replaced => return Ok(next),
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.listener.behind();
        let Reading { place, lines, resume, from, until, listener, .. } = self;
        lines.feed(bytes, &mut |stamp, line| {
            let Some(at) = stamp else {
                let at = place.map_or(Wall(0), |place| place.at().wall());
                return listener.line(at, line);
            };
            if resume.is_new(at) && at >= *from {
                listener.line(at.wall(), line);
                **place = Some(Place::after(**place, at));
            }
            if until.is_some_and(|until| at >= until) {
                *until = None;
            }
        })?;
        Ok(())
    }

    /// Tells, once, that history has been read.
    fn look_up(&mut self) {
        if self.until.is_none() && !std::mem::replace(&mut self.up, true) {
            self.listener.up();
        }
    }
}

async fn next(body: &mut Incoming) -> Result<Next, Error> {
    match body.frame().await {
        // A frame without data is a trailer.
        Some(frame) => Ok(frame?.into_data().map_or(Next::Nothing, Next::Bytes)),
        None => Ok(Next::End),
    }
}

#[cfg(test)]
#[path = "logs/fake_test.rs"]
mod fake;
#[cfg(test)]
#[path = "logs/logs_test.rs"]
mod tests;
