//! The thread that reads the user's lists: compiled for the engine, handed to the kernel, read again when they change.

mod auto;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::clock;
use super::feeds::{self, Changed, FeedNews, Subscribed};
use super::hits::Hit;
use super::inbox::Inbox;
use super::protected;
use super::reporter::Reporter;
use super::roster;
use super::shared::Shared;
use super::tell::Teller;
use super::truth::{self, Held};
use crate::config::{AutoBlock, Config};
use crate::engine::event::{Body, ListsReload, Reload};
use crate::engine::lists::Lists;
use crate::engine::{Flow, Wall};
use crate::lists::{
    self, Addition, Compiled, DEBOUNCE, Feeds, Folder, Own, OwnLists, Protected, Source, Watch,
};

/// Notes waiting: refusals to be listed, hits to be told.
const NOTES_MAX: usize = 4096;
/// No nap is longer, so that a clock that was set is noticed.
const NAP_MAX: Duration = Duration::from_secs(60);

/// What the thread is told.
#[derive(Debug)]
pub enum Note {
    /// Nobody ever resolved this destination.
    Accused(Flow),
    /// Somebody did now.
    Forgiven(IpAddr),
    /// The kernel's sets refused these.
    Hits(Vec<Hit>),
    /// Addresses have other owners than before.
    Owners,
    /// Addresses whose owner is gone.
    Left(Vec<IpAddr>),
    /// The kernel has what the lists say.
    Loaded(Arc<Lists>, ListsReload, Held),
    /// A feed was fetched, or could not be.
    Feed(FeedNews),
    /// End.
    Stop,
}

/// Where notes go.
pub type Notes = Arc<Inbox<Note>>;

/// An empty place for notes.
///
/// # Errors
/// If the kernel gives no descriptor.
pub fn notes() -> Result<Notes> {
    Ok(Arc::new(Inbox::new(NOTES_MAX)?))
}

/// Hands what the kernel's thread tells to this one.
pub struct Messenger(pub Notes);

impl truth::Listener for Messenger {
    fn loaded(&mut self, lists: &Arc<Lists>, reload: ListsReload, held: Held) {
        self.0.put_always(Note::Loaded(Arc::clone(lists), reload, held));
    }

    fn hits(&mut self, hits: Vec<Hit>) {
        self.0.put(Note::Hits(hits));
    }

    fn left(&mut self, addresses: Vec<IpAddr>) {
        self.0.put_always(Note::Left(addresses));
    }
}

/// The lists of one daemon.
pub struct Library {
    settings: Settings,
    folder: Folder,
    shared: Arc<Shared>,
    notes: Notes,
    /// None where the system gives no more watches.
    watch: Option<Watch>,
    own: OwnLists,
    own_sources: Vec<Source>,
    feeds: Subscribed,
    /// Where feeds are fetched, until the thread is started.
    fetching: Option<Feeds>,
    changed_feeds: Option<Changed>,
    protected: Vec<Protected>,
    teller: Teller,
    reporter: Reporter,
    /// Refusals not written down yet, and when they are to be.
    accused: Vec<Addition>,
    write_at: Option<Instant>,
    auto_entries: u64,
    /// Entries of `auto.txt` because of each container.
    auto_sources: HashMap<IpAddr, u64>,
    next_expiry: Option<Wall>,
    /// When changed files are to be read.
    read_at: Option<Instant>,
    stop: bool,
}

/// What is configured about lists.
#[derive(Clone, Debug)]
struct Settings {
    refuse_doh: bool,
    auto_block: AutoBlock,
    auto_block_for: Duration,
    forgive: bool,
    writes: bool,
}

impl Library {
    /// Reads all lists and gives them to the engine.
    pub fn open(config: &Config, shared: &Arc<Shared>, notes: Notes) -> Library {
        let folder = Folder::new(&config.state_dir);
        let writes = !config.memory_only;
        let settings = Settings {
            refuse_doh: config.refuse_doh,
            auto_block: config.auto_block,
            auto_block_for: config.auto_block_for,
            forgive: config.auto_block_forgive,
            writes,
        };
        let protected = protected::all(&config.rules.host, &config.dnsmasq.upstreams);
        let (fetching, feeds, paths) = feeds::open(config, &folder);
        let mut library = Library {
            settings,
            watch: watch(&folder, paths, writes),
            own: OwnLists::new(&folder),
            own_sources: Vec::new(),
            feeds,
            fetching: Some(fetching),
            changed_feeds: None,
            reporter: Reporter::new(&folder, writes, &protected, &shared.told),
            folder,
            shared: Arc::clone(shared),
            notes,
            protected,
            teller: Teller::default(),
            accused: Vec::new(),
            write_at: None,
            auto_entries: 0,
            auto_sources: HashMap::new(),
            next_expiry: None,
            read_at: None,
            stop: false,
        };
        library.read();
        library
    }

    /// Serves until [`Note::Stop`].
    pub fn run(mut self) {
        let lists = self.shared.engine.lists();
        // What the first reading found has been handed over by it.
        if *lists == Lists::default() {
            self.shared.roster.put_always(roster::Note::Lists(lists));
        }
        self.fetch();
        while !self.stop {
            self.wait();
            for note in self.notes.take() {
                self.take(note);
            }
            self.look_at_files();
            self.do_what_is_due();
        }
        self.write_accused();
    }

    /// Has the lists read then, or earlier if that was said before.
    fn read_by(&mut self, at: Instant) {
        self.read_at = Some(self.read_at.map_or(at, |before| before.min(at)));
    }

    fn fetch(&mut self) {
        let Some(feeds) = self.fetching.take() else { return };
        match feeds::start(feeds, Arc::clone(&self.notes)) {
            Ok(changed) => self.changed_feeds = Some(changed),
            Err(error) => tracing::error!("feeds stay as they are: {error:#}"),
        }
    }

    /// Notes which files changed: our own lists are read soon, feeds by their thread.
    fn look_at_files(&mut self) {
        let Some(watch) = &mut self.watch else { return };
        let changed = watch.changed().unwrap_or_else(|error| {
            tracing::warn!("changed lists may not be noticed: {error}");
            BTreeSet::new()
        });
        for path in changed {
            if path.starts_with(self.folder.lists()) {
                self.read_by(Instant::now() + DEBOUNCE);
            } else if let Some(feeds) = &self.changed_feeds {
                feeds.put(path);
            }
        }
    }

    fn wait(&self) {
        let now = Instant::now();
        let due = [self.read_at, self.write_at, self.teller.next()].into_iter().flatten().min();
        let until_due = due.map(|due| due.saturating_duration_since(now));
        let until_expiry = self.next_expiry.map(|end| until(end, clock::wall()));
        let nap = [until_due, until_expiry].into_iter().flatten().min().unwrap_or(NAP_MAX);
        // A little late rather than a little early, and then again.
        let nap = PollTimeout::try_from(nap.min(NAP_MAX) + Duration::from_millis(1));
        let mut descriptors = vec![PollFd::new(self.notes.as_fd(), PollFlags::POLLIN)];
        descriptors
            .extend(self.watch.as_ref().map(|watch| PollFd::new(watch.fd(), PollFlags::POLLIN)));
        // An interrupted wait is a short wait.
        let _ = poll(&mut descriptors, nap.unwrap_or(PollTimeout::ZERO));
    }

    fn take(&mut self, note: Note) {
        match note {
            Note::Accused(flow) => self.accuse(flow),
            Note::Forgiven(address) => self.forgive(&[address]),
            Note::Hits(hits) => {
                let sources = self.sources();
                self.teller.take(&hits, &sources, &self.protected, &self.shared);
            }
            Note::Owners => self.place(),
            Note::Left(addresses) => {
                self.forget(&addresses);
                let sources = self.sources();
                self.teller.leave(&addresses, &sources, &self.protected, &self.shared);
            }
            Note::Loaded(lists, reload, held) => self.loaded(&lists, reload, held),
            Note::Feed(news) => {
                self.reporter.fetched(&news, &self.shared);
                self.feeds = news.all;
                if news.is_new {
                    self.read_by(Instant::now());
                } else {
                    self.reporter.describe(&self.feeds.reports, &self.shared);
                }
            }
            Note::Stop => self.stop = true,
        }
    }

    fn do_what_is_due(&mut self) {
        let now = Instant::now();
        let is_due = |at: Option<Instant>| at.is_some_and(|at| at <= now);
        if self.next_expiry.is_some_and(|end| end <= clock::wall()) {
            self.prune();
            self.read_by(now);
        }
        if is_due(self.write_at) {
            self.write_accused();
        }
        if is_due(self.read_at) {
            self.read_at = None;
            self.read();
        }
        if is_due(self.teller.next()) {
            let sources = self.sources();
            self.teller.tell_due(&sources, &self.protected, &self.shared);
        }
    }

    /// Reads and compiles all lists; engine and kernel are told if they say something else than before.
    fn read(&mut self) {
        let loaded = self.own.load(clock::mono());
        self.own_sources = loaded.sources;
        if let Some(again) = loaded.look_again {
            self.read_by(Instant::now() + again.since(clock::mono()));
        }
        self.reporter.notices(&loaded.notices, &self.shared);
        let (sources, began) = (self.sources(), clock::wall());
        let mut compiled = lists::compile(&sources, &self.protected, began);
        let confined = compiled.lists.confined.placed(&self.shared.engine.owners());
        compiled.lists.confined = confined;
        self.next_expiry = compiled.next_expiry;
        self.auto_entries = entries_of(&compiled, Own::Auto);
        let news = *self.shared.engine.lists() != compiled.lists;
        self.reporter.compiled(&compiled, (began, news), &self.feeds.reports, &self.shared);
        self.teller.forget_entries();
        self.look_at_auto();
        if !news {
            return;
        }
        self.hand_out(compiled.lists);
    }

    /// Follows the containers in quarantine to the addresses they have now.
    fn place(&mut self) {
        let lists = self.shared.engine.lists();
        let confined = lists.confined.placed(&self.shared.engine.owners());
        if confined != lists.confined {
            self.hand_out(Lists { confined, ..(*lists).clone() });
        }
    }

    /// Engine first, kernel second, by way of who knows what single containers may reach all the same.
    fn hand_out(&self, lists: Lists) {
        let lists = Arc::new(lists);
        let answers = self.shared.engine.set_lists(Arc::clone(&lists), clock::now());
        self.shared.deliver(answers);
        self.shared.roster.put_always(roster::Note::Lists(lists));
    }

    fn sources(&self) -> Vec<Source> {
        let mut sources = self.own_sources.clone();
        sources.extend(self.feeds.sources.iter().cloned());
        if self.settings.refuse_doh {
            sources.push(Source::doh_servers());
        }
        sources
    }

    fn loaded(&mut self, lists: &Arc<Lists>, reload: ListsReload, held: Held) {
        let newest = Arc::ptr_eq(lists, &self.shared.engine.lists());
        let is_first = self.reporter.loaded(reload, held, newest, &self.shared);
        // At the start there may be nothing to tell; after a change there always is.
        if !is_first || reload.added + reload.removed + reload.ended_flows > 0 {
            let what = "lists".to_owned();
            self.shared.event(Body::Reload(Reload { what, lists: Some(reload), asked: None }));
        }
    }

    /// Takes lines whose time is over out of the files.
    fn prune(&mut self) {
        if !self.settings.writes {
            return;
        }
        for own in Own::ALL {
            if let Err(error) = lists::prune_expired(&self.folder, own, clock::wall()) {
                tracing::warn!("expired lines stay in {}: {error}", own.file_name());
            }
        }
    }
}

/// Our own lists and the files of feeds. A folder that is not there is noticed when it is made.
fn watch(folder: &Folder, feeds: Vec<PathBuf>, writes: bool) -> Option<Watch> {
    let made = if writes { folder.make() } else { Ok(()) };
    let files = Own::ALL.map(|own| folder.own(own)).into_iter().chain(feeds);
    made.and_then(|()| Watch::new(files))
        .inspect_err(|error| tracing::warn!("changed lists are not noticed: {error}"))
        .ok()
}

fn entries_of(compiled: &Compiled, own: Own) -> u64 {
    let report = compiled.per_list.iter().find(|report| report.name == own.name());
    report.map_or(0, |report| report.entries)
}

fn until(end: Wall, now: Wall) -> Duration {
    Duration::from_micros(end.0.saturating_sub(now.0))
}
