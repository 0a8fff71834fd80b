//! The threads beside the packet path that keep lists, sets and rules: opened before the rules, stopped with them.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};

use super::denied::{Ear, Hooks, Server};
use super::library;
use super::library::{Library, Messenger, Note, Notes};
use super::rules::Rules;
use super::sets::DeniedSets;
use super::shared::Shared;
use super::truth::Truth;
use crate::config::{AutoBlock, Config};
use crate::engine::{Mode, Verdict};
use crate::nftables::names::DENIED_TIMEOUT_MS;

/// What is ready to be started once the rules are in.
pub struct Background {
    shared: Arc<Shared>,
    ear: Ear,
    library: Library,
    notes: Notes,
    auto_block: AutoBlock,
}

/// The running threads.
pub struct Running {
    shared: Arc<Shared>,
    notes: Notes,
    truth: Truth,
    library: JoinHandle<()>,
    denied: Option<JoinHandle<()>>,
}

impl Background {
    /// Reads the lists for the first time, so that the engine has them before the first packet.
    ///
    /// # Errors
    /// If the system gives no descriptor.
    pub fn open(config: &Config, shared: &Arc<Shared>, ear: Ear) -> Result<Background> {
        let notes = library::notes()?;
        // Set once, here.
        let _ = shared.library.set(Arc::clone(&notes));
        let library = Library::open(config, shared, Arc::clone(&notes));
        let shared = Arc::clone(shared);
        let auto_block = config.auto_block;
        Ok(Background { shared, ear, library, notes, auto_block })
    }

    /// Starts the threads; they now keep `rules`.
    ///
    /// # Errors
    /// If the system gives no thread or socket; the rules are then as they were.
    pub fn start(self, rules: Rules) -> Result<Running> {
        let Background { shared, ear, library, notes, auto_block } = self;
        let sets = DeniedSets::open()?;
        let messenger = Messenger(Arc::clone(&notes));
        let truth = Truth::start(rules, &shared, messenger)?;
        let thread = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let denied = match shared.mode() {
            Mode::DryRun => None,
            Mode::Enforce | Mode::Learn => {
                let denied = Arc::clone(&shared.denied);
                denied.set_direct(DeniedSets::open()?);
                let timeout = Duration::from_millis(DENIED_TIMEOUT_MS);
                let hooks = hooks(&shared, &notes, auto_block);
                let server = Server { denied, ear, sets, hooks, timeout };
                Some(thread("denied").spawn(move || server.run()))
            }
        };
        let denied = denied.transpose().context("cannot start the thread of refusals")?;
        let library = thread("lists").spawn(move || library.run());
        let library = library.context("cannot start the thread of lists")?;
        Ok(Running { shared, notes, truth, library, denied })
    }
}

impl Running {
    /// True if one ended although nobody told it to.
    pub fn any_ended(&self) -> bool {
        let denied = self.denied.as_ref().is_some_and(JoinHandle::is_finished);
        self.truth.has_ended() || self.library.is_finished() || denied
    }

    /// Ends all, and takes the rules back, or with `keep` leaves them.
    ///
    /// # Errors
    /// If the rules cannot be put back to what they were.
    pub fn stop(self, keep: bool) -> Result<()> {
        self.notes.put_always(Note::Stop);
        if self.library.join().is_err() {
            tracing::error!("the thread of lists panicked");
        }
        if let Some(denied) = self.denied {
            self.shared.denied.stop();
            if denied.join().is_err() {
                tracing::error!("the thread of refusals panicked");
            }
        }
        self.truth.stop(keep)
    }
}

fn hooks(shared: &Arc<Shared>, notes: &Notes, auto_block: AutoBlock) -> Hooks {
    let [engine, names, lists] = [(); 3].map(|()| Arc::clone(shared));
    let (accused, forgiven) = (Arc::clone(notes), Arc::clone(notes));
    Hooks {
        accepts: Box::new(move |(src, dst)| {
            engine.engine.outlook(src, dst, super::clock::now()) == Some(Verdict::Accept)
        }),
        knows: Box::new(move |dst| names.engine.registry().with_names(dst, |_| ()).is_some()),
        listed: Box::new(move |(src, dst)| lists.engine.lists().has_pair(src, dst)),
        accused: Box::new(move |flow| {
            if auto_block != AutoBlock::Off {
                // What does not fit is refused all the same, and accused again at its next try.
                accused.put(Note::Accused(flow.0));
            }
        }),
        forgiven: Box::new(move |address| forgiven.put_always(Note::Forgiven(address))),
    }
}
