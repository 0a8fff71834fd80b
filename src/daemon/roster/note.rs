//! What the thread that knows the containers is told, by whom.

use std::sync::Arc;

use anyhow::Result;

use super::admitted::Admitted;
use crate::daemon::inbox::Inbox;
use crate::docker::Listener;
use crate::engine::Now;
use crate::engine::container::Dated;
use crate::engine::health::Evidence;
use crate::engine::judge::Decision;
use crate::engine::lists::Lists;
use crate::engine::policy::Section;

/// Verdicts that may wait for a name; more are told without one.
pub const UNNAMED_MAX: usize = 4096;

/// What the thread is told.
#[derive(Debug)]
pub enum Note {
    /// Something became known about containers or networks.
    Change(Dated),
    /// Containers are treated by these sections from now on.
    Sections(Vec<Section>),
    /// The container engine answers: who and which version.
    Up(String),
    /// It does not, and why.
    Down(String),
    /// A verdict about a packet whose container is not known yet.
    Unnamed(Box<Unnamed>),
    /// The lists from now on: the kernel's thread gets them once it has what containers may reach in spite of them.
    Lists(Arc<Lists>),
    /// A container may reach a blocked address by a name that is allowed to it.
    Admitted(Admitted),
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

/// Passes on what the engine tells.
pub struct Ear(pub Notes);

impl Listener for Ear {
    fn change(&mut self, change: Dated) {
        self.0.put_always(Note::Change(change));
    }

    fn up(&mut self, version: &str) {
        self.0.put_always(Note::Up(version.to_owned()));
    }

    fn down(&mut self, why: &str) {
        self.0.put_always(Note::Down(why.to_owned()));
    }

    fn odd(&mut self, count: u64) {
        tracing::debug!("the container engine said {count} things that were not understood");
    }
}
