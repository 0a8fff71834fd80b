//! The lists as a command of its own process sees them: the files, and what the daemon last said about them.

use std::path::PathBuf;

use std::net::IpAddr;

use crate::config::ListConfig;
use crate::engine::Wall;
use crate::lists::{
    self, Compiled, DOH_SERVERS, Feed, Feeds, Findings, Folder, Protected, Query, Source, Status,
};

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
    /// What no block list may take away.
    pub protected: Vec<Protected>,
    /// What the daemon said last, though it may have ended since.
    pub status: Option<Status>,
    /// True if a daemon uses the state directory.
    pub running: bool,
    /// When the books were opened.
    pub now: Wall,
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
        Books {
            sources: sources(&folder, &config.feeds, refuse_doh),
            protected: protected::all(&config.host, &config.upstreams),
            status,
            running: lock::is_state_in_use(&config.state_dir),
            now: clock::wall(),
            state_dir: config.state_dir.clone(),
            folder,
        }
    }

    /// Blocked addresses that the running daemon lets through, since an allowed domain has a name of theirs.
    pub fn named(&self) -> &[IpAddr] {
        self.status.as_ref().filter(|_| self.running).map_or(&[], |status| &status.named)
    }

    /// Reads and compiles everything.
    pub fn compile(&self) -> Compiled {
        lists::compile(&self.sources, &self.protected, self.now)
    }

    /// Finds entries by one reading of everything.
    pub fn find(&self, wanted: &[Query]) -> Findings {
        lists::find(&self.sources, wanted, &self.protected, self.now)
    }
}

/// All lists there are: our own, the last good copies of feeds, and what comes with the program.
fn sources(folder: &Folder, feeds: &[Feed], refuse_doh: bool) -> Vec<Source> {
    let mut sources = Source::all_own(folder);
    sources.extend(Feeds::open(feeds.to_vec(), folder, true, 0, clock::now()).sources());
    if refuse_doh {
        sources.push(Source::doh_servers());
    }
    sources
}
