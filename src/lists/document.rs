//! The text of one of our files, changed without touching a byte that need not change.

use std::collections::HashMap;
use std::net::IpAddr;

use super::LINE_BYTES_MAX;
use super::entry::Entry;
use super::item::Item;
use super::text::{note, show_time};
use crate::engine::Wall;

/// The byte order mark some editors put first.
const BOM: &[u8] = b"\xef\xbb\xbf";
/// Bytes of a note we write; with the longest entry and all options a line stays below [`LINE_BYTES_MAX`].
const NOTE_BYTES_MAX: usize = 2048;
const _: () = assert!(NOTE_BYTES_MAX + 512 < LINE_BYTES_MAX);

/// An entry to be in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Addition {
    /// What it stands for.
    pub entry: Entry,
    /// When it ends; nothing means never.
    pub until: Option<Wall>,
    /// The only source address it is to hold for.
    pub from: Option<IpAddr>,
    /// Held to although it is dangerous.
    pub force: bool,
    /// The comment; nothing keeps the one that is there.
    pub note: Option<String>,
}

/// An entry not to be in a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// What it stands for.
    pub entry: Entry,
    /// Only the line that holds for this source address; nothing means all lines of the entry.
    pub from: Option<IpAddr>,
}

/// What became of an addition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Added {
    /// It was not there.
    New,
    /// It was there with other options or another note.
    Changed,
    /// It was there just so.
    Unchanged,
}

/// One entry is one line: the same destination for the same source.
type Key = (Entry, Option<IpAddr>);

/// Adds each entry, or brings its line up to date. Nothing is returned for the text if it stays as it is.
pub(super) fn add(old: &[u8], additions: &[Addition]) -> (Option<Vec<u8>>, Vec<Added>) {
    // Of two additions of one entry, the later says what is meant.
    let wanted: HashMap<Key, usize> =
        additions.iter().enumerate().map(|(i, a)| ((a.entry.clone(), a.from), i)).collect();
    let mut results: Vec<Option<Added>> = vec![None; additions.len()];
    let (mark, text) = unmarked(old);
    let mut new = Vec::with_capacity(old.len() + 128);
    new.extend_from_slice(mark);
    for line in rows(text) {
        let key = line.item.and_then(|item| Some((item.entry.kept()?, item.from)));
        let place = key.and_then(|key| wanted.get(&key)).copied();
        let hit = place.and_then(|p| Some((line.item?, additions.get(p)?, results.get_mut(p)?)));
        match hit {
            None => line.keep(&mut new),
            // The entry has its line already; a second one goes.
            Some((_, _, Some(_))) => {}
            Some((item, addition, result)) if addition.says(&item) => {
                *result = Some(Added::Unchanged);
                line.keep(&mut new);
            }
            Some((item, addition, result)) => {
                *result = Some(Added::Changed);
                line.put(&mut new, addition.render(item.text, item.note).as_bytes());
            }
        }
    }
    let end = line_end(text);
    for (key, place) in sorted(wanted) {
        if let (Some(addition), Some(result @ None)) =
            (additions.get(place), results.get_mut(place))
        {
            *result = Some(Added::New);
            if new.len() > mark.len() && !new.ends_with(b"\n") {
                new.extend_from_slice(end);
            }
            new.extend_from_slice(addition.render(&key.0.to_string(), None).as_bytes());
            new.extend_from_slice(end);
        }
    }
    let results = results.into_iter().map(|result| result.unwrap_or(Added::Unchanged)).collect();
    ((new != old).then_some(new), results)
}

/// In the order they were asked for.
fn sorted(wanted: HashMap<Key, usize>) -> Vec<(Key, usize)> {
    let mut wanted: Vec<(Key, usize)> = wanted.into_iter().collect();
    wanted.sort_unstable_by_key(|(_, place)| *place);
    wanted
}

/// Takes out the lines of these entries. Returns the text if it changed, and the lines.
pub(super) fn remove(old: &[u8], removals: &[Removal]) -> (Option<Vec<u8>>, Vec<String>) {
    let mut wanted: HashMap<&Entry, Vec<Option<IpAddr>>> = HashMap::new();
    for removal in removals {
        wanted.entry(&removal.entry).or_default().push(removal.from);
    }
    cut(old, |item| {
        let sources = item.entry.kept().and_then(|entry| wanted.get(&entry));
        sources.is_some_and(|sources| sources.contains(&None) || sources.contains(&item.from))
    })
}

/// Takes out the lines whose time is over.
pub(super) fn prune(old: &[u8], now: Wall) -> (Option<Vec<u8>>, Vec<String>) {
    cut(old, |item| item.until.is_some_and(|until| until <= now))
}

fn cut(old: &[u8], goes: impl Fn(&Item<'_>) -> bool) -> (Option<Vec<u8>>, Vec<String>) {
    let (mark, text) = unmarked(old);
    let mut new = Vec::with_capacity(old.len());
    new.extend_from_slice(mark);
    let mut removed = Vec::new();
    for line in rows(text) {
        match line.item.as_ref().is_some_and(&goes) {
            true => removed.push(String::from_utf8_lossy(line.body).trim().to_owned()),
            false => line.keep(&mut new),
        }
    }
    ((!removed.is_empty()).then_some(new), removed)
}

/// One line: its text and its end.
struct Row<'a> {
    body: &'a [u8],
    end: &'a [u8],
    item: Option<Item<'a>>,
}

/// A byte order mark, if there is one, and the text behind it.
fn unmarked(text: &[u8]) -> (&[u8], &[u8]) {
    match text.strip_prefix(BOM) {
        Some(text) => (BOM, text),
        None => (&[], text),
    }
}

/// The lines as the reader understands them; what it would not take for an entry has no item.
fn rows(text: &[u8]) -> impl Iterator<Item = Row<'_>> {
    text.split_inclusive(|byte| *byte == b'\n').map(|row| {
        let body = row.strip_suffix(b"\n").unwrap_or(row);
        let body = body.strip_suffix(b"\r").unwrap_or(body);
        let end = row.get(body.len()..).unwrap_or_default();
        let readable = std::str::from_utf8(body).ok().filter(|_| body.len() <= LINE_BYTES_MAX);
        let item = readable.and_then(|body| Item::plain(0, body, true).ok().flatten());
        Row { body, end, item }
    })
}

impl Row<'_> {
    fn keep(&self, new: &mut Vec<u8>) {
        self.put(new, self.body);
    }

    fn put(&self, new: &mut Vec<u8>, body: &[u8]) {
        new.extend_from_slice(body);
        new.extend_from_slice(self.end);
    }
}

impl Addition {
    /// True if a line already says the same.
    fn says(&self, item: &Item<'_>) -> bool {
        let noted = self.note.as_deref().map(clipped);
        let same_note = noted.is_none_or(|noted| noted == item.note.unwrap_or_default());
        self.until == item.until && self.force == item.force && same_note
    }

    /// The line, with the entry as it is written there and the note it had.
    fn render(&self, entry: &str, old_note: Option<&str>) -> String {
        let mut line = entry.to_owned();
        if let Some(until) = self.until {
            line += &format!(" until={}", show_time(until));
        }
        if let Some(from) = self.from {
            line += &format!(" from={from}");
        }
        if self.force {
            line += " force";
        }
        let note = self.note.as_deref().or(old_note).map(clipped).unwrap_or_default();
        if !note.is_empty() {
            line += &format!(" # {note}");
        }
        line
    }
}

fn clipped(text: &str) -> String {
    let text = note(text);
    let ends = text.char_indices().map(|(start, c)| start + c.len_utf8());
    let end = ends.take_while(|end| *end <= NOTE_BYTES_MAX).last().unwrap_or_default();
    text.get(..end).unwrap_or_default().trim_end().to_owned()
}

/// The line end of the first line, which new lines get too.
fn line_end(text: &[u8]) -> &'static [u8] {
    let first = text.split_inclusive(|byte| *byte == b'\n').next();
    if first.is_some_and(|line| line.ends_with(b"\r\n")) { b"\r\n" } else { b"\n" }
}

#[cfg(test)]
#[path = "document_test.rs"]
mod tests;
