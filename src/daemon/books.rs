//! The lists as a command of its own process sees them: the files, and what the daemon last said about them.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;

use crate::config::ListConfig;
use crate::engine::inventory::Place;
use crate::engine::owner::Owner;
use crate::engine::{Name, Wall};
use crate::lists::{
    self, Compiled, DOH_SERVERS, FeedReport, Feeds, Findings, Folder, ListStatus, Protected, Query,
    Source, Status,
};

use super::control::{is_asked, names_here};
use super::roster::books;
use super::shared::Shared;
use super::{clock, lock, protected};

/// Everything that is listed, as it is on disk.
#[derive(Clone, Debug)]
pub struct Books {
    /// The state directory.
    pub state_dir: PathBuf,
    /// Where the lists are in it.
    pub folder: Folder,
    /// All lists.
    pub sources: Vec<Source>,
    /// What is known about the feeds among them, and about those without a copy yet.
    pub feeds: Vec<FeedReport>,
    /// What no block list may take away.
    pub protected: Vec<Protected>,
    /// What the daemon said last, though it may have ended since.
    pub status: Option<Status>,
    /// True if a daemon uses the state directory.
    pub running: bool,
    /// When the books were opened.
    pub now: Wall,
    /// Which configuration was read, where the running daemon reads another: what is told of lists is that one's.
    pub misread: Option<String>,
    /// Where the daemon itself reads them, what it knows beside.
    pub(super) live: Option<Arc<Shared>>,
}

impl Books {
    /// Opens the books of a state directory. Nothing is read but the daemon's status.
    pub fn open(config: &ListConfig) -> Books {
        let folder = Folder::new(&config.state_dir);
        let status = Status::load(&folder).ok().flatten();
        // A switch of `run` is in no file, but the daemon told which lists it read.
        let told =
            |status: &Status| status.lists.iter().any(|list| list.report.name == DOH_SERVERS);
        let refuse_doh = config.refuse_doh || status.as_ref().is_some_and(told);
        // One that writes nothing locks nothing, but answers.
        let running = lock::is_state_in_use(&config.state_dir) || is_asked(&config.state_dir);
        Books::with(config, status, refuse_doh, running)
    }

    /// The same for the daemon itself, which knows how it is.
    pub(super) fn of_daemon(config: &ListConfig, shared: &Arc<Shared>) -> Books {
        let status = shared.told.now().map(|status| (*status).clone());
        let books = Books::with(config, status, config.refuse_doh, true);
        Books { live: Some(Arc::clone(shared)), ..books }
    }

    fn with(config: &ListConfig, status: Option<Status>, refuse_doh: bool, running: bool) -> Books {
        let folder = Folder::new(&config.state_dir);
        let mut protected = protected::all(&config.host, &config.upstreams);
        // Likewise what only its command line names is not to be blocked.
        let named = status.iter().filter(|_| running).flat_map(|status| &status.protected);
        protected
            .extend(named.filter(|named| !protected.contains(named)).cloned().collect::<Vec<_>>());
        let feeds = Feeds::open(config.feeds.clone(), &folder, true, 0, clock::now());
        Books {
            sources: sources(&folder, &feeds, refuse_doh),
            feeds: feeds.reports(),
            protected,
            status,
            running,
            now: clock::wall(),
            misread: None,
            live: None,
            state_dir: config.state_dir.clone(),
            folder,
        }
    }

    /// Blocked addresses that the running daemon lets through, since an allowed domain has a name of theirs.
    pub fn named(&self) -> &[IpAddr] {
        self.status.as_ref().filter(|_| self.running).map_or(&[], |status| &status.named)
    }

    /// Reads and compiles everything. Where a container is that is listed by name, the running daemon knows.
    pub fn compile(&self) -> Compiled {
        let mut compiled = lists::compile(&self.sources, &self.protected, self.now);
        if self.running && !compiled.lists.confined.is_empty() {
            let names = self.containers();
            let named = names.iter().map(|(address, name)| (*address, name.as_str()));
            compiled.lists.confined = compiled.lists.confined.placed_by(named);
        }
        compiled
    }

    /// Names of containers by their addresses, as the running daemon knows them.
    pub fn containers(&self) -> BTreeMap<IpAddr, String> {
        let Some(shared) = &self.live else { return names_here(&self.state_dir) };
        let running: Vec<_> = books(shared).running().collect();
        let named = |(owner, place): (Arc<Owner>, Place)| {
            place.addresses.into_iter().map(move |address| (address, owner.name.to_string()))
        };
        running.into_iter().flat_map(named).collect()
    }

    /// The name of the container that has an address, likewise.
    pub fn name_of(&self, address: IpAddr) -> Option<Name> {
        self.containers().get(&address).and_then(|name| Name::new(name).ok())
    }

    /// All lists as a report has them. What the running daemon said about fetching goes before what the disk shows.
    pub fn describe(&self, compiled: &Compiled) -> Vec<ListStatus> {
        let mut lists = ListStatus::all(&compiled.per_list, &self.feeds, &self.folder);
        let told = self.status.as_ref().filter(|_| self.running).map_or(&[][..], |s| &s.lists);
        for list in &mut lists {
            if let Some(told) = told.iter().find(|told| told.report.name == list.report.name) {
                list.next_fetch = told.next_fetch;
                list.last_error = told.last_error.clone().or(list.report.error.clone());
            }
        }
        lists
    }

    /// Finds entries by one reading of everything.
    pub fn find(&self, wanted: &[Query]) -> Findings {
        lists::find(&self.sources, wanted, &self.protected, self.now)
    }
}

/// All lists there are: our own, the last good copies of feeds, and what comes with the program.
fn sources(folder: &Folder, feeds: &Feeds, refuse_doh: bool) -> Vec<Source> {
    let mut sources = Source::all_own(folder);
    sources.extend(feeds.sources());
    if refuse_doh {
        sources.push(Source::doh_servers());
    }
    sources
}
