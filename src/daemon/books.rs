//! The lists as a command of its own process sees them: the files, and what the daemon last said about them.

use std::path::PathBuf;

use crate::config::ListConfig;
use crate::engine::Wall;
use crate::lists::{
    self, Compiled, DOH_SERVERS, Findings, Folder, Protected, Query, Source, Status,
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
        let status = Status::read(&folder);
        // A switch of `run` is in no file, but the daemon told which lists it read.
        let told = |status: &Status| status.lists.iter().any(|list| list.name == DOH_SERVERS);
        let refuse_doh = config.refuse_doh || status.as_ref().is_some_and(told);
        Books {
            sources: sources(&folder, refuse_doh),
            protected: protected::all(&config.host, &config.upstreams),
            status,
            running: lock::is_state_in_use(&config.state_dir),
            now: clock::wall(),
            state_dir: config.state_dir.clone(),
            folder,
        }
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

/// All lists there are.
pub fn sources(folder: &Folder, refuse_doh: bool) -> Vec<Source> {
    let mut sources = Source::all_own(folder);
    if refuse_doh {
        sources.push(Source::doh_servers());
    }
    sources
}
