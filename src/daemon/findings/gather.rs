//! Reads everything that tells of refusals: event files, `auto.txt`, the books of a learning period.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::files::rotated;
use super::group::{Group, Groups, Hour};
use super::known::{self, Known};
use super::wanted::Wanted;
use crate::daemon::books::Books;
use crate::daemon::{learn, replay};
use crate::engine::event::{Body, Ready};
use crate::engine::{Mode, Proto, Wall};
use crate::lists::{Line, Own, Source};

/// Where to look.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// Event files; rotated ones beside them are read too.
    pub events: Vec<PathBuf>,
    /// Nothing before this.
    pub since: Option<Wall>,
    /// Only this container, by name or address.
    pub container: Option<String>,
}

impl Sources {
    /// True if nothing is left out.
    pub fn is_everything(&self) -> bool {
        self.since.is_none() && self.container.is_none()
    }

    /// True if what a container of this address did belongs to it, as far as the address tells.
    pub fn has(&self, from: IpAddr) -> bool {
        Wanted::new(self.container.as_deref()).has(None, from)
    }
}

/// What was found.
#[derive(Debug)]
pub struct Collected {
    /// Each container and destination.
    pub groups: Vec<Group>,
    /// What is known now about each destination.
    pub known: BTreeMap<IpAddr, Known>,
    /// Refusals by hour and reason.
    pub hours: BTreeMap<Hour, u64>,
    /// Refusals beyond those that are kept one by one.
    pub more: u64,
    /// The mode at the last start that the logs tell of.
    pub mode: Option<Mode>,
    /// The first and the last event.
    pub span: Option<(Wall, Wall)>,
    /// What a person should know before believing the rest.
    pub notes: Vec<String>,
}

/// Reads it all.
///
/// # Errors
/// If a file that was named cannot be read.
pub fn collect(sources: &Sources, books: &Books) -> Result<Collected> {
    let (mut groups, mut notes) = (Groups::of(sources.container.as_deref()), Vec::new());
    let (mut mode, mut span) = (None, None);
    let mut read = BTreeSet::new();
    for path in &sources.events {
        let (files, compressed) = rotated(path);
        if compressed {
            notes.push(format!(
                "compressed files beside {} are not read: unpack them, and name them with --events",
                path.display()
            ));
        }
        for file in files {
            // `e*` names `e.1`, and so does what is beside `e`.
            if std::fs::metadata(&file).is_ok_and(|found| !read.insert((found.dev(), found.ino())))
            {
                continue;
            }
            let mut take = |at: Wall, body: Body| {
                if sources.since.is_some_and(|since| at < since) {
                    return;
                }
                let (first, last) = span.unwrap_or((at, at));
                span = Some((first.min(at), last.max(at)));
                if let Body::Ready(Ready { mode: started, .. }) = &body {
                    mode = Some(*started);
                }
                groups.take(at, &body);
            };
            let foreign = replay::each_event(&file, is_uninteresting, &mut take)?;
            notes.extend(left_out(&file, foreign));
        }
    }
    // These have no times: whoever asks about a time means events.
    if sources.since.is_none() {
        match learn::rows(&books.state_dir) {
            Ok(rows) => rows.into_iter().for_each(|row| groups.learned(row)),
            Err(error) => notes.push(format!("{error:#}")),
        }
    }
    take_auto(books, &mut groups, &mut notes);
    let (found, groups) = groups.finish();
    let addresses: BTreeSet<IpAddr> = found.iter().map(|group| group.key.dst).collect();
    let known = known::know(&addresses, &groups, books, &mut notes);
    let Groups { more, hours, .. } = groups;
    Ok(Collected { groups: found, known, hours, more, mode, span, notes })
}

/// Whoever names a file that is no event log is not to read that nothing was refused.
fn left_out(file: &Path, foreign: u64) -> Option<String> {
    let lines = match foreign {
        0 => return None,
        1 => "1 line".to_owned(),
        more => format!("{more} lines"),
    };
    Some(format!("{lines} of {} tell no event of synhold and are left out", file.display()))
}

/// Nearly all lines of a log are of packets that were accepted.
fn is_uninteresting(line: &str) -> bool {
    line.contains(r#""verdict":"accept""#)
}

fn take_auto(books: &Books, groups: &mut Groups, notes: &mut Vec<String>) {
    let read = Source::own(&books.folder, Own::Auto).read(&mut |line| {
        let Line::Item(item) = line else { return };
        let is_over = item.until.is_some_and(|until| until <= books.now);
        if let Some(dst) = item.entry.single().filter(|_| !is_over) {
            let (from, port) = item.note.map_or((None, None), said);
            groups.listed(item.from.or(from), dst, port);
        }
    });
    if let Err(error) = read {
        notes.push(format!("auto.txt: {error}"));
    }
}

/// `never-resolved: tcp/443 from 172.17.0.2`, as the daemon writes it.
fn said(note: &str) -> (Option<IpAddr>, Option<(Proto, u16)>) {
    let Some(rest) = note.strip_prefix("never-resolved: ") else { return (None, None) };
    let Some((flow, from)) = rest.split_once(" from ") else { return (None, None) };
    let port = flow.split_once('/').and_then(|(proto, port)| {
        let proto = match proto {
            "tcp" => Proto::Tcp,
            "udp" => Proto::Udp,
            _ => return None,
        };
        Some((proto, port.parse().ok()?))
    });
    (from.parse().ok(), port)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_s_own_comment_is_read_back() {
        let from = "172.17.0.2".parse().ok();
        assert_eq!(
            said("never-resolved: tcp/443 from 172.17.0.2"),
            (from, Some((Proto::Tcp, 443)))
        );
        for other in ["", "mine", "never-resolved: tcp/443", "never-resolved: x from y"] {
            assert_eq!(said(other), (None, None), "{other}");
        }
    }
}
