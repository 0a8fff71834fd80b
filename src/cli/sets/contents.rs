//! `synhold sets show`: the elements of a set, and where each comes from.

use std::os::unix::fs::MetadataExt as _;

use anyhow::Result;

use super::answer;
use crate::cli::lists::Place;
use crate::cli::table::{Align, Table};
use crate::cli::{Answer, say, say_json, words};
use crate::control::Question;
use crate::daemon::inspect::{self, Asked, Contents, ElementLine, SHOWN_MAX, SetContents};
use crate::lists::Found;

pub(super) fn run(place: &Place, name: &str, limit: usize, within: Option<&str>) -> Result<Answer> {
    let asked = Asked::new(name, limit, within)?;
    // More than a daemon shows is for whoever may ask the kernel.
    let own = || inspect::contents(&place.books()?.0, &asked);
    let contents = match limit > SHOWN_MAX && may_read(place)? {
        true => own()?,
        false => {
            let question = Question::SetsShow {
                name: name.to_owned(),
                limit: u64::try_from(limit).unwrap_or(u64::MAX),
                within: within.map(str::to_owned),
            };
            let told = answer(place, &question, |books| inspect::contents(books, &asked))?;
            if is_cut(&told, limit) && may_read(place)? { own()? } else { told }
        }
    };
    if place.json {
        say_json(&contents)?;
    } else {
        say(&tell(&contents, asked.within.is_some()))?;
    }
    let present = contents.sets.iter().all(|set| set.present);
    Ok(if present { Answer::Fine } else { Answer::No })
}

/// Whether there was no room in an answer for all that was asked for.
fn is_cut(contents: &Contents, limit: usize) -> bool {
    let asked = |set: &SetContents| set.elements.len() as u64 + set.missing;
    contents.sets.iter().any(|set| set.more && asked(set) < limit as u64)
}

/// Whether this process may ask the kernel that the daemon asks.
fn may_read(place: &Place) -> Result<bool> {
    if !nix::unistd::geteuid().is_root() {
        return Ok(false);
    }
    let ours = std::fs::metadata("/proc/thread-self/ns/net")?.ino();
    Ok(place.known()?.daemon.is_none_or(|daemon| daemon.netns == ours))
}

fn tell(contents: &Contents, matching: bool) -> String {
    let mut lines = Vec::new();
    for set in &contents.sets {
        if !lines.is_empty() {
            lines.push(String::new());
        }
        lines.extend(one_set(set, matching));
    }
    lines.extend(contents.notes.iter().cloned());
    lines.join("\n")
}

fn one_set(set: &SetContents, matching: bool) -> Vec<String> {
    let name = &set.name;
    if !set.present {
        return vec![format!("{name}: not in the kernel; `synhold run` puts it in")];
    }
    let shown = set.elements.len();
    let of = match set.count {
        Some(1) => "1 element in the kernel".to_owned(),
        Some(count) => format!("{count} elements in the kernel"),
        None => "in the kernel".to_owned(),
    };
    let those = match (matching, set.more) {
        (false, false) => String::new(),
        (false, true) => format!(", {shown} of them shown"),
        (true, false) => format!(", {shown} match"),
        (true, true) => format!(", {shown} of those that match shown"),
    };
    let mut lines = vec![format!("{name}: {of}{those}")];
    if shown > 0 {
        lines.extend(table(&set.elements));
    }
    if set.missing > 0 {
        lines.push(format!("{} more are in the lists, but not in the kernel", set.missing));
    }
    lines
}

fn table(elements: &[ElementLine]) -> Vec<String> {
    let mut table = Table::new(&[
        ("ELEMENT", Align::Left),
        ("LEFT", Align::Right),
        ("HITS", Align::Right),
        ("FROM", Align::Cut),
        ("NAMES", Align::Cut),
        ("CONTAINER", Align::Left),
    ]);
    for line in elements {
        table.row(vec![
            line.element.clone(),
            line.expires_ms.map_or_else(words::dash, words::span),
            words::count(line.hits),
            from(&line.entries),
            names(&line.names),
            line.container.clone().unwrap_or_else(words::dash),
        ]);
    }
    table.lines()
}

/// `drop: SBL123`, with the entry where it is not alone in its element.
fn from(entries: &[Found]) -> String {
    let Some(first) = entries.first() else { return words::dash() };
    let why = match &first.note {
        Some(note) => format!("{}: {note}", first.list),
        None => format!("{} line {}", first.list, first.line),
    };
    and_more(why, entries.len())
}

fn names(names: &[String]) -> String {
    names.first().map_or_else(words::dash, |first| and_more(first.clone(), names.len()))
}

fn and_more(first: String, all: usize) -> String {
    if all > 1 { format!("{first} +{}", all - 1) } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_answer_had_no_room_for_is_known_by_its_number() {
        let said = |more: bool, missing: u64| {
            let set = SetContents {
                name: "block4".to_owned(),
                present: true,
                count: Some(9),
                elements: Vec::new(),
                more,
                missing,
            };
            is_cut(&Contents { sets: vec![set], notes: Vec::new() }, 5)
        };
        assert!(said(true, 0) && said(true, 4));
        assert!(!said(true, 5), "five were looked for");
        assert!(!said(false, 0), "there are no more");
    }
}
