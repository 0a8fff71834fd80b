//! A command's edits of the lists: the files, what other lists say about the same, and whether a daemon took it over.

mod confirm;
mod local;

use std::io::ErrorKind;

use anyhow::{Context as _, Error, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

use super::books::Books;
use super::clock;
use super::told::Told;
use crate::engine::Wall;
use crate::lists::{
    self, Added, Addition, EditError, Entry, Found, Kind, Own, Query, Removal, serde_time,
};

pub use confirm::Daemon;

const MICROS: u64 = 1_000_000;

/// What is to be done to entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    /// Refuse them.
    Block,
    /// Refuse them no more.
    Unblock,
    /// Accept them whatever else is said.
    Allow,
    /// No longer accept them whatever else is said.
    Unallow,
    /// Refuse everything new from these containers.
    Quarantine,
    /// Let these containers out of it.
    Release,
}

/// Entries, and how they are to stand in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// What is to be done.
    pub action: Action,
    /// To what.
    pub entries: Vec<Entry>,
    /// When it ends; nothing means never.
    pub until: Option<Wall>,
    /// Its comment; nothing keeps the one that is there.
    pub note: Option<String>,
    /// Even if this host is cut off by it.
    pub force: bool,
}

/// What was done: the answer of `block`, `allow`, `unblock` and `unallow`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edited {
    /// What was asked for.
    pub action: Action,
    /// Each entry, in the order they were given.
    pub entries: Vec<EditedEntry>,
    /// Whether it is in force; nothing where no file changed.
    pub daemon: Option<Daemon>,
}

/// What was done about one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EditedEntry {
    /// The entry.
    pub entry: String,
    /// What became of its line; nothing for a removal.
    pub added: Option<AddedAs>,
    /// Lines that were removed.
    pub removed: Vec<RemovedLine>,
    /// When it ends.
    #[serde(with = "serde_time")]
    pub until: Option<Wall>,
    /// Entries of the lists, after the edit, that have a word in what becomes of the same address or name.
    pub others: Vec<Found>,
    /// The set of local addresses that has all of what was blocked, so that it passes all the same: it is not judged.
    pub local: Option<String>,
}

/// See [`Added`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AddedAs {
    /// It was not there.
    New,
    /// It was there with another time, another comment or without `force`.
    Changed,
    /// It was there just so.
    Unchanged,
}

/// A line that was taken out of a list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedLine {
    /// The list.
    pub list: String,
    /// The line.
    pub line: String,
}

/// Does it: all or nothing in each file, and no longer than some seconds.
///
/// # Errors
/// In one line: a dangerous entry without `force`, or a file that cannot be changed.
pub fn edit(books: &Books, request: &Request) -> Result<Edited> {
    edit_and(books, request, |changed_at| confirm::wait(books, changed_at))
}

/// The same within the daemon, which knows by itself what is in force.
///
/// # Errors
/// As [`edit`].
pub(super) fn edit_live(books: &Books, request: &Request, told: &Told) -> Result<Edited> {
    edit_and(books, request, |changed_at| confirm::wait_live(books, changed_at, told))
}

/// When something ends that holds for `text` (`1h`, `30d`) from now on. Whole seconds are easier to read, and nobody means
/// less.
///
/// # Errors
/// In one line: it is no time, or none at all.
pub fn end_of(now: Wall, text: &str) -> Result<Wall> {
    let time = humantime::parse_duration(text)
        .with_context(|| format!("{text}: write a time as 1h or 30d"))?;
    ensure!(!time.is_zero(), "{text}: that is over at once");
    let end = now + time;
    Ok(Wall(end.0.div_ceil(MICROS).saturating_mul(MICROS)))
}

fn edit_and(
    books: &Books,
    request: &Request,
    confirm: impl FnOnce(Wall) -> Daemon,
) -> Result<Edited> {
    let added = match add_to(request.action) {
        Some(own) => add(books, own, request)?,
        None => vec![None; request.entries.len()],
    };
    let mut entries = Vec::new();
    for (entry, added) in request.entries.iter().zip(added) {
        entries.push(EditedEntry {
            entry: entry.to_string(),
            added,
            removed: remove(books, request.action, entry)?,
            until: request.until.filter(|_| added.is_some()),
            others: Vec::new(),
            local: None,
        });
    }
    find_local(request, &mut entries);
    let changed_at = clock::wall();
    let is_changed = |entry: &EditedEntry| {
        !entry.removed.is_empty() || matches!(entry.added, Some(AddedAs::New | AddedAs::Changed))
    };
    let changed = entries.iter().any(is_changed);
    find_others(books, request.action, &request.entries, &mut entries);
    let daemon = changed.then(|| confirm(changed_at));
    Ok(Edited { action: request.action, entries, daemon })
}

/// Allows each entry with a comment of its own, as [`Action::Allow`] does with one for all.
///
/// # Errors
/// As [`edit`].
pub fn allow_each(books: &Books, entries: &[(Entry, String)]) -> Result<Edited> {
    let addition = |(entry, note): &(Entry, String)| Addition {
        entry: entry.clone(),
        until: None,
        from: None,
        force: false,
        note: Some(note.clone()),
    };
    let additions: Vec<Addition> = entries.iter().map(addition).collect();
    let added = lists::add(&books.folder, Own::Allow, &additions).map_err(told)?;
    let mut edited = Vec::new();
    for ((entry, _), added) in entries.iter().zip(added) {
        edited.push(EditedEntry {
            entry: entry.to_string(),
            added: Some(AddedAs::from(added)),
            removed: remove(books, Action::Allow, entry)?,
            until: None,
            others: Vec::new(),
            local: None,
        });
    }
    let wanted: Vec<Entry> = entries.iter().map(|(entry, _)| entry.clone()).collect();
    let daemon = (!entries.is_empty()).then(|| confirm::wait(books, clock::wall()));
    find_others(books, Action::Allow, &wanted, &mut edited);
    Ok(Edited { action: Action::Allow, entries: edited, daemon })
}

/// The list that an action adds to.
fn add_to(action: Action) -> Option<Own> {
    match action {
        Action::Block => Some(Own::Block),
        Action::Allow => Some(Own::Allow),
        Action::Quarantine => Some(Own::Quarantine),
        Action::Unblock | Action::Unallow | Action::Release => None,
    }
}

/// The lists that an action removes from. What the user allows, synhold itself is not to block either.
fn remove_from(action: Action) -> &'static [Own] {
    match action {
        Action::Block | Action::Quarantine => &[],
        Action::Allow => &[Own::Auto],
        Action::Unblock => &[Own::Block, Own::Auto],
        Action::Unallow => &[Own::Allow],
        Action::Release => &[Own::Quarantine],
    }
}

fn add(books: &Books, own: Own, request: &Request) -> Result<Vec<Option<AddedAs>>> {
    let mut additions = Vec::new();
    for entry in &request.entries {
        let danger = match own {
            Own::Block => lists::danger(entry, &books.protected),
            Own::Allow | Own::Auto | Own::Quarantine => None,
        };
        if let Some(why) = danger.as_ref().filter(|_| !request.force) {
            bail!("{entry} is not blocked: {why}; with --force it is blocked all the same");
        }
        additions.push(Addition {
            entry: entry.clone(),
            until: request.until,
            from: None,
            force: danger.is_some(),
            note: request.note.clone(),
        });
    }
    let added = lists::add(&books.folder, own, &additions).map_err(told)?;
    Ok(added.into_iter().map(|added| Some(AddedAs::from(added))).collect())
}

/// Its text names its cause already.
#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn told(error: EditError) -> Error {
    match &error {
        EditError::Io { source, .. } if source.kind() == ErrorKind::PermissionDenied => {
            anyhow!("{error}: changing lists needs root, for instance with sudo")
        }
        _ => anyhow!("{error}"),
    }
}

fn remove(books: &Books, action: Action, entry: &Entry) -> Result<Vec<RemovedLine>> {
    let removal = [Removal { entry: entry.clone(), from: None }];
    let mut removed = Vec::new();
    for &own in remove_from(action) {
        let lines = lists::remove(&books.folder, own, &removal).map_err(told)?;
        let line = |line| RemovedLine { list: own.name().to_owned(), line };
        removed.extend(lines.into_iter().map(line));
    }
    Ok(removed)
}

/// Blocking has no effect on what is not judged.
fn find_local(request: &Request, entries: &mut [EditedEntry]) {
    if request.action != Action::Block {
        return;
    }
    let local = local::local();
    for (entry, edited) in request.entries.iter().zip(entries) {
        edited.local = local::unjudged(entry, &local);
    }
}

/// What the other lists say, by one reading of them all.
fn find_others(books: &Books, action: Action, wanted: &[Entry], entries: &mut [EditedEntry]) {
    let kinds: &[Kind] = match action {
        Action::Block => &[Kind::Allow],
        Action::Allow | Action::Unblock => &[Kind::Block],
        Action::Unallow => &[Kind::Allow, Kind::Block],
        Action::Quarantine | Action::Release => return,
    };
    let queries: Vec<Query> = wanted.iter().map(query).collect();
    for found in books.find(&queries).found {
        if let Some(entry) = entries.get_mut(found.query).filter(|_| kinds.contains(&found.kind)) {
            entry.others.push(found);
        }
    }
}

fn query(entry: &Entry) -> Query {
    match entry {
        Entry::Addresses(family, span) => Query::Range(*family, *span),
        Entry::Domain(name) => Query::Name(name.clone()),
        Entry::Container(name) => Query::Container(name.clone()),
    }
}

impl From<Added> for AddedAs {
    fn from(added: Added) -> AddedAs {
        match added {
            Added::New => AddedAs::New,
            Added::Changed => AddedAs::Changed,
            Added::Unchanged => AddedAs::Unchanged,
        }
    }
}
