//! What the daemon says about its lists; `STATE/lists/status.json`, for the command line.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _};
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::atomic::{Access, replace};
use super::compile::ListReport;
use super::feeds::FeedReport;
use super::folder::{Folder, Own};
use super::hold::Protected;
use super::text::serde_time;
use crate::engine::Wall;

/// Largest status read: that of many feeds with all their messages is a few hundred kilobytes.
const STATUS_BYTES_MAX: u64 = 16 << 20;
/// As readable as the lists.
const STATUS_MODE: u32 = 0o640;

/// Lists and sets as the daemon last left them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Status {
    /// Process id of the daemon; what it wrote may outlive it.
    pub pid: u32,
    /// Counts the times this daemon has brought the kernel's sets to what the lists say.
    pub loads: u64,
    /// Open flows that the last of these ended.
    pub ended_flows: u64,
    /// Open flows all loads of this daemon ended.
    pub ended_in_all: u64,
    /// When the last reading of the lists began.
    #[serde(with = "serde_time")]
    pub read: Option<Wall>,
    /// True if the kernel has what that reading said.
    pub in_force: bool,
    /// Blocked addresses that are in the allow sets, since an allowed domain has a name of theirs.
    pub named: Vec<IpAddr>,
    /// When it was written.
    #[serde(with = "serde_time")]
    pub written: Option<Wall>,
    /// When the first entry with a time ends.
    #[serde(with = "serde_time")]
    pub next_expiry: Option<Wall>,
    /// Each list.
    pub lists: Vec<ListStatus>,
    /// Each set of the kernel.
    pub sets: Vec<SetStatus>,
    /// Addresses no block list may take away.
    pub protected: Vec<Protected>,
}

/// One list.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ListStatus {
    /// What is in it.
    #[serde(flatten)]
    pub report: ListReport,
    /// Where it comes from: a file, a URL, or nothing for one that comes with the program.
    pub source: Option<String>,
    /// When the copy in use was fetched.
    #[serde(with = "serde_time", default)]
    pub fetched: Option<Wall>,
    /// When it is fetched next.
    #[serde(with = "serde_time", default)]
    pub next_fetch: Option<Wall>,
    /// Why the last fetch or reading brought nothing.
    pub last_error: Option<String>,
}

/// One set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct SetStatus {
    /// Its name in the kernel.
    pub name: String,
    /// Elements it should have.
    pub wanted: u64,
    /// When it was last brought to that.
    #[serde(with = "serde_time")]
    pub loaded_at: Option<Wall>,
    /// How long that took, in milliseconds.
    pub took_ms: u64,
    /// Elements put in then.
    pub added: u64,
    /// Elements taken out then.
    pub removed: u64,
}

impl ListStatus {
    /// What is known about every list: those that were compiled, and the feeds that have no copy yet.
    pub fn all(compiled: &[ListReport], feeds: &[FeedReport], folder: &Folder) -> Vec<ListStatus> {
        let of = |name: &str| feeds.iter().find(|feed| feed.name == name);
        let known = compiled.iter().map(|report| {
            let own = Own::ALL.into_iter().find(|own| own.name() == report.name);
            let file = own.map(|own| folder.own(own).display().to_string());
            ListStatus::new(report.clone(), file, of(&report.name))
        });
        let waiting = feeds.iter().filter(|f| compiled.iter().all(|report| report.name != f.name));
        let waiting = waiting
            .map(|feed| ListStatus::new(ListReport::new(&feed.name, feed.kind), None, Some(feed)));
        known.chain(waiting).collect()
    }

    fn new(report: ListReport, file: Option<String>, feed: Option<&FeedReport>) -> ListStatus {
        let last_error = feed.and_then(|feed| feed.last_error.clone());
        ListStatus {
            last_error: last_error.or_else(|| report.error.clone()),
            source: file.or_else(|| feed.map(|feed| feed.source.clone())),
            fetched: feed.and_then(|feed| feed.fetched),
            next_fetch: feed.map(|feed| feed.next_fetch),
            report,
        }
    }
}

impl Status {
    /// What was last written; nothing if no daemon has run here.
    ///
    /// # Errors
    /// If the file cannot be read or is none of ours.
    pub fn load(folder: &Folder) -> io::Result<Option<Status>> {
        let file = match File::open(folder.status()) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut text = Vec::new();
        file.take(STATUS_BYTES_MAX).read_to_end(&mut text)?;
        Ok(Some(serde_json::from_slice(&text)?))
    }

    /// Writes it in one step. The folder of lists must be there.
    ///
    /// # Errors
    /// If it cannot be written; the old one is then still there.
    pub fn save(&self, folder: &Folder) -> io::Result<()> {
        let mut text = serde_json::to_vec(self)?;
        text.push(b'\n');
        replace(&folder.status(), &text, Access::new(STATUS_MODE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lists::{Kind, Source, compile};

    #[test]
    fn every_list_and_every_feed_has_its_line() {
        let folder = Folder::new(std::path::Path::new("/state"));
        let sources = [Source::own(&folder, Own::Block), Source::doh_servers()];
        let mut compiled = compile(&sources, &[], Wall(0)).per_list;
        compiled[0].error = Some("broken".to_owned());
        let feed = |name: &str| FeedReport {
            name: name.to_owned(),
            kind: Kind::Allow,
            source: "https://lists.example/a".to_owned(),
            fetched: None,
            next_fetch: Wall(7),
            last_error: Some("not there".to_owned()),
        };
        let all = ListStatus::all(&compiled, &[feed("late"), feed("doh-servers")], &folder);
        let shown: Vec<_> = all
            .iter()
            .map(|l| {
                (l.report.name.as_str(), l.source.as_deref(), l.last_error.as_deref(), l.next_fetch)
            })
            .collect();
        let url = Some("https://lists.example/a");
        assert_eq!(
            shown,
            [
                ("block", Some("/state/lists/block.txt"), Some("broken"), None),
                ("doh-servers", url, Some("not there"), Some(Wall(7))),
                ("late", url, Some("not there"), Some(Wall(7))),
            ]
        );
        assert_eq!((all[2].report.kind, all[2].report.entries), (Kind::Allow, 0));
    }

    #[test]
    fn what_is_written_is_read_again() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        assert_eq!(Status::load(&folder).unwrap(), None);
        std::fs::create_dir(folder.lists()).unwrap();
        let report = compile(&[Source::doh_servers()], &[], Wall(0)).per_list.remove(0);
        assert_eq!(report.kind, Kind::Block);
        let list = ListStatus {
            report,
            source: Some("https://lists.example/a".to_owned()),
            fetched: Some(Wall(1_767_323_045_000_000)),
            next_fetch: None,
            last_error: Some("the server answered 404".to_owned()),
        };
        let set =
            SetStatus { name: "block4".to_owned(), wanted: 7, took_ms: 3, ..SetStatus::default() };
        let net = Protected { net: "192.0.2.1".parse().unwrap(), what: "the gateway".to_owned() };
        let status = Status {
            pid: 1,
            loads: 2,
            ended_flows: 3,
            ended_in_all: 4,
            read: Some(Wall(5)),
            in_force: true,
            named: vec!["192.0.2.9".parse().unwrap()],
            written: Some(Wall(1)),
            next_expiry: None,
            lists: vec![list],
            sets: vec![set],
            protected: vec![net],
        };
        status.save(&folder).unwrap();
        assert_eq!(Status::load(&folder).unwrap(), Some(status));
        std::fs::write(folder.status(), "{").unwrap();
        assert!(Status::load(&folder).is_err());
    }
}
