//! The learning period of a first start: nothing is refused for want of evidence, and what would have been is kept.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::shared::Shared;
use crate::config::Config;
use crate::engine::decision::Decision;
use crate::engine::event::{Body, LearnBody, WouldRefuse};
use crate::engine::learned::{LEARNED_MAX, Learned};
use crate::engine::{Mode, Mono, Now, Verdict, Wall};
use crate::store::{Small, Version};

const FILE: &str = "learn.json";
/// Bytes of an entry at most: a container's name, an address, words, and what JSON puts around them.
const ENTRY_BYTES_MAX: u64 = 512;
/// How often the books are saved: what a crash loses is a minute of counts.
const SAVE_EVERY: Duration = Duration::from_secs(60);
/// Rows of the summary in the event; the file has the rest.
const TOLD_MAX: usize = 50;

/// The period and its books.
#[derive(Debug)]
pub struct Learning {
    file: Small,
    period: Duration,
    /// What had passed of it before this run.
    passed: Duration,
    started: Mono,
    books: Mutex<Books>,
    /// One writer at a time; never held by who counts.
    writing: Mutex<()>,
}

#[derive(Debug)]
struct Books {
    learned: Learned,
    over: bool,
    saved: Mono,
}

/// What stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: Version<1>,
    /// Seconds of the period that have passed while synhold ran.
    passed_s: u64,
    over: bool,
    refused: u64,
    would_refuse: Vec<WouldRefuse>,
}

impl Learning {
    /// The period that `config` asks for, from the first start on that did; none if it asks for none. What is kept of an
    /// earlier run goes on.
    pub fn load(config: &Config, now: Mono) -> Option<Learning> {
        let period = config.evidence.learn;
        if period.is_zero() || config.engine.mode != Mode::Enforce {
            return None;
        }
        let file = file(&config.state_dir, !config.memory_only);
        let saved = match read(&file) {
            Ok(saved) => saved,
            Err(error) => {
                // It was begun once, and nobody may end the enforcement by damaging a file.
                tracing::error!("{error:#}: nothing is learned any more; remove it to learn anew");
                return None;
            }
        };
        let passed = saved.as_ref().map_or(0, |saved| saved.passed_s);
        let passed = Duration::from_secs(passed);
        let over = saved.as_ref().is_some_and(|saved| saved.over) && passed >= period;
        let learned = saved.map(|saved| Learned::from_rows(saved.refused, saved.would_refuse));
        let learned = learned.unwrap_or_default();
        let books = Mutex::new(Books { learned, over, saved: Mono(0) });
        let writing = Mutex::default();
        Some(Learning { file, period, passed, started: now, books, writing })
    }

    /// Whether the period has not been declared over.
    pub fn lasts(&self) -> bool {
        !self.books().over
    }

    /// Counts a verdict of the period.
    pub fn count(&self, decision: &Decision) {
        if decision.mode == Mode::Learn && decision.verdict == Verdict::Drop {
            self.books().learned.count(decision);
        }
    }

    /// When it ends, and how many first packets enforcing would have refused so far; nothing if it is over.
    pub fn state(&self, now: Now) -> Option<(Wall, u64)> {
        let books = self.books();
        (!books.over).then(|| (self.until(now), books.learned.total()))
    }

    /// How much of the period has passed. A clock that is set changes nothing.
    fn passed(&self, now: Mono) -> Duration {
        self.passed + now.since(self.started)
    }

    fn until(&self, now: Now) -> Wall {
        now.wall + self.period.saturating_sub(self.passed(now.mono))
    }

    /// Ends the period when it is time, and saves the books now and then.
    pub fn look(&self, shared: &Shared, now: Now) {
        let (ends, due) = {
            let mut books = self.books();
            let ends = !books.over && self.passed(now.mono) >= self.period;
            books.over |= ends;
            let late = now.mono >= books.saved + SAVE_EVERY;
            (ends, books.saved == Mono(0) || (late && !books.over))
        };
        if ends {
            shared.engine.set_learning(false);
            shared.event(Body::Learn(self.body(true, now)));
        }
        if ends || due {
            self.save(now.mono);
        }
    }

    /// Saves the books at a stop.
    pub fn stop(&self, now: Mono) {
        self.save(now);
    }

    /// The event that says how it stands.
    pub fn body(&self, over: bool, now: Now) -> LearnBody {
        let books = self.books();
        let mut would_refuse = books.learned.rows();
        would_refuse.truncate(TOLD_MAX);
        let until = self.until(now).0 / 1_000_000;
        LearnBody { over, until, refused: books.learned.total(), would_refuse }
    }

    /// Writes what the books have now. Who counts waits for no disk.
    fn save(&self, now: Mono) {
        let _one = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let saved = {
            let mut books = self.books();
            books.saved = now.max(Mono(1));
            Saved {
                version: Version,
                passed_s: self.passed(now).as_secs(),
                over: books.over,
                refused: books.learned.total(),
                would_refuse: books.learned.rows(),
            }
        };
        if let Err(error) = self.file.save(&saved) {
            tracing::warn!("{error}; a restart learns anew");
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the books of a state directory say enforcing would have refused; nothing if nothing was ever learned there.
///
/// # Errors
/// If the file is damaged.
pub fn rows(state_dir: &Path) -> Result<Vec<WouldRefuse>> {
    Ok(read(&file(state_dir, false))?.map(|saved| saved.would_refuse).unwrap_or_default())
}

fn file(state_dir: &Path, writes: bool) -> Small {
    let most = u64::try_from(LEARNED_MAX).unwrap_or(u64::MAX) * ENTRY_BYTES_MAX;
    Small::new(state_dir.join(FILE), most, writes)
}

fn read(file: &Small) -> Result<Option<Saved>> {
    file.read(Some).with_context(|| format!("cannot use {}", file.path().display()))
}

#[cfg(test)]
#[path = "learn_test.rs"]
mod tests;
