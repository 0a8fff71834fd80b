//! What a person is to look at: refusals that nobody has decided about, what is proposed, and what was decided.

mod kept;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::books::Books;
use super::clock;
use super::edit::{self, Edited};
use super::findings::{
    Collected, Group, KnownName, Proposal, Proposed, Second, Sources, collect, propose,
};
use crate::config::FindingConfig;
use crate::engine::opinion::Opinion;
use crate::engine::{Mode, Wall};
use crate::lists::{Entry, show_time};
use kept::Kept;

/// Characters of `2026-11-22`.
const DAY_CHARS: usize = 10;

/// One container and destination, and all that speaks for and against it.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    /// What happened.
    #[serde(flatten)]
    pub group: Group,
    /// Names the address has now.
    pub known: Vec<KnownName>,
    /// The entry of a list that blocks it.
    pub blocked: Option<String>,
    /// What OpenSnitch makes of it.
    pub opensnitch: Opinion,
    /// What is proposed.
    #[serde(flatten)]
    pub proposed: Proposed,
}

/// A container that would lose something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Breaks {
    /// Which.
    pub container: Arc<str>,
    /// How many destinations.
    pub destinations: u64,
}

/// What there is to look at.
#[derive(Clone, Debug, Serialize)]
pub struct Review {
    /// What is to be decided about, of each container in turn.
    pub items: Vec<Item>,
    /// Refusals that are not listed one by one, for there were too many.
    pub more: u64,
    /// Destinations that a list allows by now.
    pub allowed: u64,
    /// Destinations that a person kept refused in an earlier review.
    pub kept: u64,
    /// What enforcing would break, by what was seen while it did not.
    pub would_break: Vec<Breaks>,
    /// How synhold ran last, as far as the logs tell.
    pub mode: Option<Mode>,
    /// Why OpenSnitch cannot be asked, if it cannot.
    pub opensnitch: Option<String>,
    /// What a person should know before believing the rest.
    pub notes: Vec<String>,
}

/// The desk at which a review is done.
#[derive(Debug)]
pub struct Desk {
    books: Books,
    second: Second,
}

impl Desk {
    /// Opens it. Nothing is read yet but what the daemon last said about its lists. `misread` says that the configuration
    /// is not the daemon's, if it is not.
    pub fn open(config: &FindingConfig, misread: Option<String>) -> Desk {
        let books = Books { misread, ..Books::open(&config.lists) };
        Desk { books, second: Second::new(&config.opensnitch_db) }
    }

    /// The current moment by its books.
    pub fn now(&self) -> Wall {
        self.books.now
    }

    /// The state directory it is about.
    pub fn state_dir(&self) -> &Path {
        &self.books.state_dir
    }

    /// Gathers what there is; with `all`, also what a person kept refused before.
    ///
    /// # Errors
    /// In one line: a file that cannot be read.
    pub fn review(&mut self, sources: &Sources, all: bool) -> Result<Review> {
        let Collected { groups, known, more, mode, mut notes, .. } = collect(sources, &self.books)?;
        let (kept, complaint) = Kept::load(&self.books.state_dir, self.books.now);
        notes.extend(complaint);
        let now = clock::now();
        let opensnitch = self.second.trouble(now).map(ToString::to_string);
        let mut review = Review {
            items: Vec::new(),
            more,
            allowed: 0,
            kept: 0,
            would_break: Vec::new(),
            mode,
            opensnitch,
            notes,
        };
        for group in groups {
            let known = known.get(&group.key.dst).cloned().unwrap_or_default();
            if known.allowed.is_some() {
                review.allowed += 1;
                continue;
            }
            if !all && kept.has(&group.key) {
                review.kept += 1;
                continue;
            }
            let opinion = self.second.opinion(group.key.dst, now);
            let proposed = propose(&group, &known, &opinion);
            let blocked = known.blocked.map(|listed| listed.text);
            let known = known.names;
            review.items.push(Item { group, known, blocked, opensnitch: opinion, proposed });
        }
        // Whoever enforces already has seen it break.
        if review.mode != Some(Mode::Enforce) {
            review.would_break = breaks(&review.items);
        }
        Ok(review)
    }

    /// Allows the addresses of these, each with a comment that says why and for whom, and takes them off `auto.txt`.
    ///
    /// # Errors
    /// If the lists cannot be changed.
    pub fn accept(&self, items: &[&Item]) -> Result<Edited> {
        let mut entries: Vec<(Entry, String)> = Vec::new();
        for item in items {
            let entry = Entry::from(item.group.key.dst);
            if entries.iter().all(|(known, _)| *known != entry) {
                entries.push((entry, note(item, self.books.now)));
            }
        }
        edit::allow_each(&self.books, &entries)
    }

    /// Notes that these stay refused, so that nobody is asked about them again.
    ///
    /// # Errors
    /// If that cannot be written down.
    pub fn keep(&self, items: &[&Item]) -> Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let (mut kept, complaint) = Kept::load(&self.books.state_dir, self.books.now);
        ensure!(complaint.is_none(), "{}", complaint.unwrap_or_default());
        items.iter().for_each(|item| kept.add(&item.group.key, self.books.now));
        kept.save(&self.books.state_dir)
    }
}

/// `review 2026-11-22: web -> 203.0.113.9:443, resolved later as x.example`
fn note(item: &Item, now: Wall) -> String {
    let Item { group, proposed, .. } = item;
    let time = show_time(now);
    let day = time.get(..DAY_CHARS).unwrap_or(&time);
    let to = match group.key.dport {
        Some(port) => std::net::SocketAddr::from((group.key.dst, port)).to_string(),
        None => group.key.dst.to_string(),
    };
    let because = match proposed.proposal {
        Proposal::Accept => proposed.because.as_str(),
        Proposal::Keep => "a person's word",
    };
    format!("review {day}: {} -> {to}, {because}", group.key.container)
}

/// What was let through only because nothing was enforced, and has no name to this moment.
fn breaks(items: &[Item]) -> Vec<Breaks> {
    let mut by_container: BTreeMap<&Arc<str>, u64> = BTreeMap::new();
    let would =
        |item: &&Item| item.group.would_refuse > 0 && item.proposed.proposal == Proposal::Keep;
    for item in items.iter().filter(would) {
        *by_container.entry(&item.group.key.container).or_default() += 1;
    }
    let breaks = |(container, destinations): (&Arc<str>, u64)| Breaks {
        container: Arc::clone(container),
        destinations,
    };
    let mut all: Vec<Breaks> = by_container.into_iter().map(breaks).collect();
    all.sort_by_key(|one| std::cmp::Reverse(one.destinations));
    all
}
