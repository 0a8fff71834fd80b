//! One conversation with an engine: subscribed first, listed then, followed until it ends.

use std::collections::VecDeque;
use std::future::Future;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bollard::errors::Error;
use futures_util::stream::{BoxStream, StreamExt};

use crate::engine::container::{Change, Dated};
use crate::engine::time::Wall;

use super::api::Api;
use super::batch;
use super::connect::{Address, connect};
use super::event::{self, Event};
use super::lines::Lines;
use super::raw::AskError;
use super::voice::Voice;

/// How far before the subscription events are asked for again. An engine says 200 before it subscribes us, and lists
/// a container as running for a while after it died: both gaps are well below a second.
const SINCE: Duration = Duration::from_secs(5);
/// Events that may wait for the answers to those before them: minutes of them, or an engine gone mad. Too many, and
/// the lists are the shorter way.
const QUEUE_MAX: usize = 16_384;
/// Events taken at a time; their containers' ids have to fit into one request line.
const BATCH_MAX: usize = 64;
/// Quiet after which the engine is asked whether it still answers: its stream may be open and nobody behind it.
const QUIET: Duration = Duration::from_secs(10);
/// How long the engine may take until it has told who it is.
const HELLO_PATIENCE: Duration = Duration::from_secs(10);
/// Age at which a conversation is begun anew. An engine drops events, without a word, for whoever is slower than a
/// tenth of a second to take them.
const AGE_MAX: Duration = Duration::from_secs(600);
/// The same for Podman, which before version 5 does not tell that a network was removed.
const AGE_MAX_PODMAN: Duration = Duration::from_secs(60);

/// Why a conversation ended before its time.
#[derive(Debug, thiserror::Error)]
pub(super) enum Lost {
    /// The engine could not be asked.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The stream of events ended: the engine is being stopped.
    #[error("the engine ended its stream of events")]
    Ended,
    /// More events than can be looked into.
    #[error("events come faster than the engine answers questions on them")]
    Behind,
}

/// Talks with the engine until its answers are old enough to be asked for again.
pub(super) async fn run(address: &Address, voice: &mut Voice<'_>) -> Result<(), Lost> {
    let hello = tokio::time::timeout(HELLO_PATIENCE, connect(address)).await;
    let docker = hello.map_err(|_| AskError::Slow(HELLO_PATIENCE))?.map_err(AskError::from)?;
    let mut api = Api::new(docker.with_timeout(HELLO_PATIENCE));
    let begun = Instant::now();

    // Whatever happens from `since` on will come through the stream, though it were subscribed to after the lists
    // are made: the engine keeps its last 256 events for that. The other question gives the subscription a start.
    let since = Wall(now().0.saturating_sub(micros(SINCE)));
    let mut feed = Feed::new(api.events(since));
    feed.during(api.identify()).await??;
    let asked = now();
    let lists = feed.during(api.lists()).await??;
    feed.settle(asked);
    voice.up(&api.version());
    voice.heard(Dated {
        at: asked,
        change: Change::All { containers: lists.containers, networks: lists.networks },
    });

    let age = if api.is_podman() { AGE_MAX_PODMAN } else { AGE_MAX };
    while begun.elapsed() < age {
        voice.odd(feed.take_odd() + api.take_odd());
        if feed.missed {
            // Whoever starts a container writes its labels, and an event carries them all: only the lists tell what it was.
            return Ok(());
        }
        let events = feed.take();
        if events.is_empty() {
            match tokio::time::timeout(QUIET, feed.read()).await {
                Ok(read) => read?,
                Err(_) => feed.during(api.ping()).await??,
            }
            continue;
        }
        let questions = batch::questions(&events);
        let answers = feed.during(api.ask(&questions)).await??;
        for change in batch::changes(events, &answers) {
            voice.change(change);
        }
    }
    Ok(())
}

/// The stream of events, and those that wait.
struct Feed {
    stream: BoxStream<'static, Result<Vec<u8>, Error>>,
    lines: Lines,
    queue: VecDeque<Event>,
    odd: u64,
    /// An event was too long to be read since the lists were made.
    missed: bool,
}

impl Feed {
    fn new(stream: BoxStream<'static, Result<Vec<u8>, Error>>) -> Feed {
        Feed { stream, lines: Lines::default(), queue: VecDeque::new(), odd: 0, missed: false }
    }

    /// Reads what comes next. Can be given up at any time without loss.
    async fn read(&mut self) -> Result<(), Lost> {
        let piece = self.stream.next().await.ok_or(Lost::Ended)?.map_err(AskError::from)?;
        let (queue, odd, missed) = (&mut self.queue, &mut self.odd, &mut self.missed);
        self.lines.push(&piece, |line| {
            *missed |= line.is_none();
            match line.and_then(event::parse) {
                Some(event) => queue.push_back(event),
                None => *odd += 1,
            }
        });
        if self.queue.len() > QUEUE_MAX { Err(Lost::Behind) } else { Ok(()) }
    }

    /// Goes on reading while something else is done, so that the engine never waits for us.
    async fn during<T>(&mut self, work: impl Future<Output = T>) -> Result<T, Lost> {
        tokio::pin!(work);
        loop {
            tokio::select! {
                read = self.read() => read?,
                done = &mut work => return Ok(done),
            }
        }
    }

    /// Makes what came before the lists fit behind them.
    fn settle(&mut self, listed: Wall) {
        let mut events: Vec<Event> = self.queue.drain(..).collect();
        event::settle(&mut events, listed);
        self.queue = events.into();
        // What was too long before is in the lists.
        self.missed = false;
    }

    fn take(&mut self) -> Vec<Event> {
        self.queue.drain(..self.queue.len().min(BATCH_MAX)).collect()
    }

    fn take_odd(&mut self) -> u64 {
        std::mem::take(&mut self.odd)
    }
}

fn now() -> Wall {
    // Before 1970 there were no containers.
    Wall(micros(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()))
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
