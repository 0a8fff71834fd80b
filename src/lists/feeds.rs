//! All feeds: which is due, what refreshing it brought, and the last good copy of each.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::Kind;
use super::copy::{About, Shelf};
use super::feed::{Feed, Origin};
use super::fetch::{FetchError, Fetched, Patience, Validators, fetch};
use super::folder::Folder;
use super::read::{Counts, ReadError};
use super::schedule::{first_pause, pause};
use super::shrink::is_suspicious;
use super::source::{Content, Source};
use super::text::excerpt;
use crate::engine::{Mono, Now, Wall};

/// Every feed that is configured. One thread owns it: refreshing waits for servers.
#[derive(Debug)]
pub struct Feeds {
    all: Vec<Subscription>,
    seed: u64,
}

/// One feed, its copy and its schedule.
#[derive(Debug)]
struct Subscription {
    feed: Feed,
    shelf: Shelf,
    about: About,
    content: Option<Content>,
    failures: u32,
    round: u64,
    due: Now,
}

/// What refreshing one feed brought.
#[derive(Debug)]
pub struct Refreshed {
    /// The feed.
    pub name: String,
    /// What became of it.
    pub result: Result<News, RefreshError>,
}

/// A refresh that worked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// There is a new copy: compile again.
    New {
        /// Entries in it.
        entries: u64,
        /// Lines that were not understood.
        bad: u64,
    },
    /// The copy is still the current one.
    Unchanged,
}

/// Why the last good copy, if there is one, stays.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// It could not be fetched.
    #[error(transparent)]
    Fetch(#[from] FetchError),
    /// It is no list.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Not a single line of it was understood.
    #[error("no entry in it ({bad} lines that are none): is `format` right?")]
    NoEntries {
        /// Lines that were not understood.
        bad: u64,
    },
    /// It lost 90 % of its entries or more.
    #[error(
        "it shrank from {before} entries to {after}: `allow-shrink = true` or removing {copy} takes it"
    )]
    Shrunk {
        /// Entries of the copy.
        before: u64,
        /// Entries of what was fetched.
        after: u64,
        /// The copy.
        copy: PathBuf,
    },
    /// The copy cannot be kept.
    #[error("cannot keep the copy: {0}")]
    Keep(io::Error),
    /// There is a new copy, but the next start will not know it.
    #[error("the new copy is in use, but what is known about it cannot be kept: {0}")]
    Undescribed(io::Error),
}

impl Refreshed {
    /// True if there is a new copy: compile again.
    pub fn is_new(&self) -> bool {
        matches!(self.result, Ok(News::New { .. }) | Err(RefreshError::Undescribed(_)))
    }
}

/// What is known about a feed, for reports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedReport {
    /// The feed.
    pub name: String,
    /// What its entries mean.
    pub kind: Kind,
    /// Where it comes from.
    pub source: String,
    /// When the copy in use was fetched.
    pub fetched: Option<Wall>,
    /// When it is fetched next.
    pub next_fetch: Wall,
    /// Why the last attempt brought nothing.
    pub last_error: Option<String>,
}

impl Feeds {
    /// Takes up the copies that are there. `seed` is random for each host; with `on_disk` false nothing is written and
    /// copies are kept in memory.
    pub fn open(feeds: Vec<Feed>, folder: &Folder, on_disk: bool, seed: u64, now: Now) -> Feeds {
        let open = |feed| Subscription::open(feed, folder, on_disk, seed, now);
        Feeds { all: feeds.into_iter().map(open).collect(), seed }
    }

    /// When the next feed is due.
    pub fn next_due(&self) -> Option<Mono> {
        self.all.iter().map(|one| one.due.mono).min()
    }

    /// Refreshes the feed that is due longest, if one is. Waits for its server, at most some minutes.
    pub fn refresh_next(&mut self, now: Now) -> Option<Refreshed> {
        let due = self.all.iter_mut().filter(|one| one.due.mono <= now.mono);
        let one = due.min_by_key(|one| one.due.mono)?;
        let result = one.refresh(Patience::default(), now.wall);
        one.plan(result.is_err(), self.seed, now);
        Some(Refreshed { name: one.feed.name.clone(), result })
    }

    /// Makes the feeds that are kept in this file, or whose copy it was, due at once. True if there is one.
    pub fn path_changed(&mut self, path: &Path, now: Now) -> bool {
        let mut any = false;
        for one in &mut self.all {
            let is_origin = matches!(&one.feed.origin, Origin::Path(own) if own == path);
            if is_origin || one.shelf.is_data(path) && one.is_copy_gone() {
                one.due = now;
                any = true;
            }
        }
        any
    }

    /// The files that feeds are kept in and their copies, to be watched.
    pub fn paths(&self) -> Vec<PathBuf> {
        let origin = |one: &Subscription| match &one.feed.origin {
            Origin::Path(path) => Some(path.clone()),
            Origin::Url(_) => None,
        };
        let copy =
            |one: &Subscription| Some(one.shelf.data()).filter(|path| one.shelf.is_data(path));
        self.all.iter().flat_map(|one| origin(one).into_iter().chain(copy(one))).collect()
    }

    /// The copies there are, to be compiled.
    pub fn sources(&self) -> Vec<Source> {
        self.all.iter().filter_map(Subscription::source).collect()
    }

    /// What is known about each feed, those without a copy included.
    pub fn reports(&self) -> Vec<FeedReport> {
        self.all.iter().map(Subscription::report).collect()
    }
}

impl Subscription {
    fn open(feed: Feed, folder: &Folder, on_disk: bool, seed: u64, now: Now) -> Subscription {
        let shelf = Shelf::new(folder, &feed.name, on_disk);
        let fresh = About::new(&feed);
        let found = shelf.load().filter(|(about, _)| {
            // A copy of another place or in another format says nothing about this feed.
            about.source == fresh.source && about.format == fresh.format
        });
        let (about, content) = match found {
            Some((about, content)) => (about, Some(content)),
            None => (fresh, None),
        };
        let age =
            about.checked.map(|then| Duration::from_micros(now.wall.0.saturating_sub(then.0)));
        // A file is looked at at once: it may have changed while nobody watched.
        let age = age.filter(|_| matches!(feed.origin, Origin::Url(_)) && content.is_some());
        let due = now + first_pause(feed.refresh, age, &feed.name, seed);
        Subscription { feed, shelf, about, content, failures: 0, round: 0, due }
    }

    fn refresh(&mut self, patience: Patience, now: Wall) -> Result<News, RefreshError> {
        let result = self.try_refresh(patience, now);
        self.about.last_error = result.as_ref().err().map(|error| excerpt(&error.to_string()));
        if self.content.is_none() || self.is_copy_gone() {
            return result;
        }
        self.about.checked = result.is_ok().then_some(now).or(self.about.checked);
        let described = self.shelf.describe(&self.about);
        let result = match (result, described) {
            (Ok(News::New { .. }), Err(error)) => Err(RefreshError::Undescribed(error)),
            (Ok(News::Unchanged), Err(error)) => Err(RefreshError::Keep(error)),
            (result, _) => result,
        };
        self.about.last_error = result.as_ref().err().map(|error| excerpt(&error.to_string()));
        result
    }

    /// True if somebody removed the copy. It is used on, but the next one may be whatever it is.
    fn is_copy_gone(&self) -> bool {
        self.content.is_some() && self.shelf.is_gone()
    }

    fn try_refresh(&mut self, patience: Patience, now: Wall) -> Result<News, RefreshError> {
        let mut body = self.shelf.begin().map_err(RefreshError::Keep)?;
        let known = match &self.content {
            Some(_) if !self.is_copy_gone() => self.about.validators(),
            Some(_) | None => Validators::default(),
        };
        let fetched = match fetch(&self.feed, &known, patience, &mut body)? {
            Fetched::Unchanged => return Ok(News::Unchanged),
            Fetched::Body(validators) => validators,
        };
        let counts = body.count(&self.feed.format)?;
        self.judge(counts)?;
        self.content = Some(self.shelf.keep(body).map_err(RefreshError::Keep)?);
        let Counts { items: entries, bad } = counts;
        let Validators { etag, last_modified } = fetched;
        let fresh = About::new(&self.feed);
        self.about = About { etag, last_modified, fetched: Some(now), entries, bad, ..fresh };
        Ok(News::New { entries, bad })
    }

    /// Whether what was fetched may take the place of the copy.
    fn judge(&self, counts: Counts) -> Result<(), RefreshError> {
        let (before, after) = (self.about.entries, counts.items);
        if after == 0 && (counts.bad > 0 || !self.feed.allow_shrink) {
            return Err(RefreshError::NoEntries { bad: counts.bad });
        }
        let is_doubted = self.content.is_some() && !self.feed.allow_shrink && !self.is_copy_gone();
        if is_doubted && is_suspicious(before, after) {
            let copy = self.shelf.data();
            return Err(RefreshError::Shrunk { before, after, copy });
        }
        Ok(())
    }

    fn plan(&mut self, failed: bool, seed: u64, now: Now) {
        self.failures = if failed { self.failures.saturating_add(1) } else { 0 };
        self.round += 1;
        let Feed { name, refresh, .. } = &self.feed;
        self.due = now + pause(*refresh, self.failures, name, seed, self.round);
    }

    fn source(&self) -> Option<Source> {
        Some(Source {
            name: self.feed.name.clone(),
            kind: self.feed.kind,
            format: self.feed.format.clone(),
            own: false,
            force: self.feed.force,
            content: self.content.clone()?,
        })
    }

    fn report(&self) -> FeedReport {
        FeedReport {
            name: self.feed.name.clone(),
            kind: self.feed.kind,
            source: self.feed.origin.shown(),
            fetched: self.about.fetched.filter(|_| self.content.is_some()),
            next_fetch: self.due.wall,
            last_error: self.about.last_error.clone(),
        }
    }
}

impl About {
    fn new(feed: &Feed) -> About {
        let source = match &feed.origin {
            Origin::Path(path) => path.display().to_string(),
            Origin::Url(url) => url.clone(),
        };
        About { source, format: format!("{:?}", feed.format), ..About::default() }
    }
}

#[cfg(test)]
#[path = "feeds_test.rs"]
mod tests;
