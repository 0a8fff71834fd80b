//! The thread that fetches feeds: it waits for servers, so nobody waits for it.

use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::clock;
use super::inbox::Inbox;
use super::library::{Note, Notes};
use crate::config::Config;
use crate::lists::{FeedReport, Feeds, Folder, Refreshed, Source};

/// Changed files waiting; one that does not fit is read when its refresh is due.
const CHANGED_MAX: usize = 1024;
/// No nap is longer, so that a clock that was set is noticed.
const NAP_MAX: Duration = Duration::from_secs(60);

/// The state of all feeds, to be compiled and reported.
#[derive(Debug, Default)]
pub struct Subscribed {
    /// The copies there are.
    pub sources: Vec<Source>,
    /// What is known about each feed.
    pub reports: Vec<FeedReport>,
}

/// One feed that was looked at.
#[derive(Debug)]
pub struct FeedNews {
    /// All feeds now.
    pub all: Subscribed,
    /// Which one.
    pub name: String,
    /// Why it brought nothing, if so.
    pub error: Option<String>,
    /// True if it has another content than before.
    pub is_new: bool,
}

/// Feed files that changed, for the thread. It is never waited for: it ends with the process.
pub type Changed = Arc<Inbox<PathBuf>>;

/// The feeds with the copies that are on disk, and the files among them.
pub fn open(config: &Config, folder: &Folder) -> (Feeds, Subscribed, Vec<PathBuf>) {
    // Only spreads the load on publishers: any number that differs between hosts does.
    let seed = u64::from(std::process::id()) ^ clock::wall().0;
    let feeds = Feeds::open(config.feeds.clone(), folder, !config.memory_only, seed, clock::now());
    let (all, paths) = (subscribed(&feeds), feeds.paths());
    (feeds, all, paths)
}

/// Starts fetching.
///
/// # Errors
/// If the system gives no thread or descriptor.
pub fn start(mut feeds: Feeds, notes: Notes) -> Result<Changed> {
    let changed: Changed = Arc::new(Inbox::new(CHANGED_MAX)?);
    if feeds.next_due().is_none() {
        return Ok(changed);
    }
    let ear = Arc::clone(&changed);
    let thread = std::thread::Builder::new().name("feeds".to_owned()).spawn(move || {
        loop {
            wait(&feeds, &ear);
            for path in ear.take() {
                feeds.path_changed(&path, clock::now());
            }
            while let Some(refreshed) = feeds.refresh_next(clock::now()) {
                notes.put_always(Note::Feed(news(refreshed, &feeds)));
            }
        }
    });
    drop(thread.context("cannot start the thread that fetches feeds")?);
    Ok(changed)
}

fn wait(feeds: &Feeds, changed: &Inbox<PathBuf>) {
    let due = feeds.next_due().map_or(NAP_MAX, |due| due.since(clock::mono()));
    let nap = PollTimeout::try_from(due.min(NAP_MAX) + Duration::from_millis(1));
    let mut descriptors = [PollFd::new(changed.as_fd(), PollFlags::POLLIN)];
    // An interrupted wait is a short wait.
    let _ = poll(&mut descriptors, nap.unwrap_or(PollTimeout::ZERO));
}

fn subscribed(feeds: &Feeds) -> Subscribed {
    Subscribed { sources: feeds.sources(), reports: feeds.reports() }
}

fn news(refreshed: Refreshed, feeds: &Feeds) -> FeedNews {
    let is_new = refreshed.is_new();
    let Refreshed { name, result } = refreshed;
    let error = result.err().map(|error| error.to_string());
    FeedNews { all: subscribed(feeds), name, error, is_new }
}
