//! The thread that keeps the books on containers, and passes on what follows: owners to the engine, networks and policies
//! to the kernel, names to what was judged before its container was known.

use std::collections::{BTreeSet, VecDeque};
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::clock;
use super::inbox::Inbox;
use super::shared::Shared;
use crate::engine::container::Dated;
use crate::engine::event::Body;
use crate::engine::health::Evidence;
use crate::engine::inventory::{Effects, Inventory};
use crate::engine::judge::Decision;
use crate::engine::{Mono, Now};

/// Verdicts that may wait for a name; more are told without one.
const UNNAMED_MAX: usize = 4096;
/// How long a verdict waits for the name of its container. An engine tells of a start within milliseconds.
const NAME_PATIENCE: Duration = Duration::from_secs(1);
/// How often those that wait are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the thread is told.
#[derive(Debug)]
pub enum Note {
    /// Something became known about containers or networks.
    Change(Dated),
    /// The container engine answers: who and which version.
    Up(String),
    /// It does not, and why.
    Down(String),
    /// A verdict about a packet whose container is not known yet.
    Unnamed(Box<Unnamed>),
    /// End.
    Stop,
}

/// A verdict that waits for its name.
#[derive(Debug)]
pub struct Unnamed {
    /// When it was given.
    pub now: Now,
    /// The verdict.
    pub decision: Decision,
    /// The evidence at that moment.
    pub evidence: Evidence,
}

/// The way to the thread.
pub type Notes = Arc<Inbox<Note>>;

/// A place for notes, before there is a thread.
///
/// # Errors
/// If the kernel gives no descriptor.
pub fn notes() -> Result<Notes> {
    Ok(Arc::new(Inbox::new(UNNAMED_MAX)?))
}

/// The running thread.
pub struct Roster {
    notes: Notes,
    thread: Option<JoinHandle<()>>,
}

struct Keeper {
    shared: Arc<Shared>,
    notes: Notes,
    waiting: VecDeque<Unnamed>,
}

impl Roster {
    /// Starts it.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(shared: &Arc<Shared>) -> Result<Roster> {
        let notes = Arc::clone(&shared.roster);
        let keeper = Keeper {
            shared: Arc::clone(shared),
            notes: Arc::clone(&notes),
            waiting: VecDeque::new(),
        };
        let thread = std::thread::Builder::new()
            .name("containers".to_owned())
            .spawn(move || keeper.run())
            .context("cannot start the thread that knows the containers")?;
        Ok(Roster { notes, thread: Some(thread) })
    }

    /// True if it ended although nobody told it to.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Roster {
    fn drop(&mut self) {
        self.notes.put_always(Note::Stop);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the thread that knows the containers panicked");
        }
    }
}

impl Keeper {
    fn run(mut self) {
        loop {
            self.wait();
            for note in self.notes.take() {
                match note {
                    Note::Change(dated) => self.change(dated),
                    Note::Up(who) => self.shared.report_health("docker", true, who),
                    Note::Down(why) => self.shared.report_health("docker", false, why),
                    Note::Unnamed(unnamed) => self.waiting.push_back(*unnamed),
                    Note::Stop => {
                        self.name(Mono(u64::MAX));
                        return;
                    }
                }
            }
            self.name(clock::mono());
        }
    }

    fn wait(&self) {
        let mut descriptors = [PollFd::new(self.notes.as_fd(), PollFlags::POLLIN)];
        let patience = match self.waiting.is_empty() {
            true => PollTimeout::NONE,
            false => PollTimeout::try_from(LOOK_EVERY).unwrap_or(PollTimeout::MAX),
        };
        // An interrupted wait is a short wait.
        let _ = poll(&mut descriptors, patience);
    }

    fn change(&self, dated: Dated) {
        let mut inventory = books(&self.shared);
        let effects = inventory.apply(dated);
        let owners = effects.owners.then(|| inventory.owners());
        drop(inventory);
        let Effects { new_tenants, news, .. } = effects;
        if !new_tenants.is_empty() {
            // Before anybody is credited with what the last container on the address asked for.
            let gone: BTreeSet<IpAddr> = new_tenants.into_iter().collect();
            self.shared.engine.registry().forget_askers(&gone);
        }
        if let Some(owners) = owners {
            let answers = self.shared.engine.set_owners(owners, clock::mono());
            self.shared.deliver(answers);
        }
        for news in news {
            self.shared.event(Body::Container(news.into()));
        }
    }

    /// Tells what has its name by now, or has waited long enough.
    fn name(&mut self, now: Mono) {
        if self.waiting.is_empty() {
            return;
        }
        let inventory = books(&self.shared);
        for mut unnamed in std::mem::take(&mut self.waiting) {
            let src = unnamed.decision.flow.src.ip();
            match inventory.owner_at(src, unnamed.now.wall) {
                Some(owner) => {
                    owner.tally.count(&unnamed.decision, unnamed.now.wall);
                    unnamed.decision.owner = Some(owner);
                    self.shared.tell(unnamed);
                }
                None if now.since(unnamed.now.mono) >= NAME_PATIENCE => self.shared.tell(unnamed),
                None => self.waiting.push_back(unnamed),
            }
        }
    }
}

/// The books; a panic elsewhere leaves them sound, since each change is taken in whole.
pub fn books(shared: &Shared) -> MutexGuard<'_, Inventory> {
    shared.inventory.lock().unwrap_or_else(PoisonError::into_inner)
}
