//! What is told on: changes as they come, and the engine's health only when it changes.

use crate::engine::container::Dated;

/// Who is told. Every method is called on the watching thread, in order, and must not block for long: an engine
/// drops events for whoever is slow to take them.
pub trait Listener: Send {
    /// Something changed. The first after every [`Listener::up`] is all there is.
    ///
    /// What follows a [`crate::engine::container::Change::All`] may be dated a little before it: a list shows a
    /// container as running for a moment after it died, and as not attached until it runs.
    fn change(&mut self, change: Dated);
    /// The engine is heard: its name and version, and the version of the API.
    fn up(&mut self, version: &str);
    /// The engine is not heard, and why. What was told so far may be out of date.
    fn down(&mut self, why: &str);
    /// So many more things that the engine told were not understood, and passed over.
    fn odd(&mut self, _count: u64) {}
}

/// What the listener was told of the engine's health.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    Up(String),
    Down(String),
}

/// A listener, and what it knows.
pub(super) struct Voice<'a> {
    listener: &'a mut dyn Listener,
    said: Option<Said>,
    heard: bool,
}

impl<'a> Voice<'a> {
    pub(super) fn new(listener: &'a mut dyn Listener) -> Voice<'a> {
        Voice { listener, said: None, heard: false }
    }

    pub(super) fn change(&mut self, change: Dated) {
        self.listener.change(change);
    }

    /// All there is: the conversation has begun well.
    pub(super) fn heard(&mut self, all: Dated) {
        self.heard = true;
        self.listener.change(all);
    }

    /// Whether all there is was told since this was last asked.
    pub(super) fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    pub(super) fn up(&mut self, version: &str) {
        let say = Said::Up(version.to_owned());
        if self.said.as_ref() != Some(&say) {
            self.said = Some(say);
            self.listener.up(version);
        }
    }

    pub(super) fn down(&mut self, why: &str) {
        let say = Said::Down(why.to_owned());
        if self.said.as_ref() != Some(&say) {
            self.said = Some(say);
            self.listener.down(why);
        }
    }

    pub(super) fn odd(&mut self, count: u64) {
        if count > 0 {
            self.listener.odd(count);
        }
    }
}
