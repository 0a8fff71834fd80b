//! What comes of a question: an answer, one that takes a while, or lines from now on.

use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Arc, Weak};

use nix::sys::eventfd::{EfdFlags, EventFd};
use serde_json::Value;

use super::protocol::Fault;

/// What comes of a question.
pub enum Said {
    /// The answer.
    Value(Value),
    /// The answer comes by this way, within [`super::LATER_PATIENCE`]; the bell is to be rung for it.
    Later(Pending),
    /// The answer, and lines behind it.
    Lines {
        /// The answer.
        answer: Value,
        /// Whole lines that are there already.
        lines: Vec<u8>,
        /// Those that come until the client leaves; none if that is all.
        more: Option<Box<dyn Lines>>,
    },
}

/// An answer in the making, for whoever waits for it.
#[derive(Debug)]
pub struct Pending {
    made: Receiver<Result<Value, Fault>>,
    /// Gone with the client.
    _waits: Arc<()>,
}

/// The same for whoever makes it.
#[derive(Debug)]
pub struct Promise {
    made: Sender<Result<Value, Fault>>,
    waits: Weak<()>,
}

impl Pending {
    /// An answer that is not made yet.
    pub fn new() -> (Pending, Promise) {
        let (sender, made) = channel();
        let waits = Arc::new(());
        let promise = Promise { made: sender, waits: Arc::downgrade(&waits) };
        (Pending { made, _waits: waits }, promise)
    }

    /// The answer, if it is made.
    ///
    /// # Errors
    /// It is not made yet, or never will be.
    pub fn try_take(&self) -> Result<Result<Value, Fault>, TryRecvError> {
        self.made.try_recv()
    }

    #[cfg(test)]
    pub(crate) fn wait(&self) -> Result<Value, Fault> {
        self.made.recv().unwrap()
    }
}

impl Promise {
    /// False once whoever asked is gone, so that nobody needs to make it.
    pub fn is_wanted(&self) -> bool {
        self.waits.strong_count() > 0
    }

    /// Gives the answer; whoever asked may have gone.
    pub fn keep(self, answer: Result<Value, Fault>) {
        let _ = self.made.send(answer);
    }
}

/// Lines that come from time to time. Whoever makes them rings the bell, and bounds what is not taken yet.
pub trait Lines: Send {
    /// Appends whole lines, some [`super::LINES_BYTES`] of them at most, or nothing if there are none now.
    fn take(&mut self, into: &mut Vec<u8>);

    /// How many were lost since this was asked last, since they were not taken in time.
    fn missed(&mut self) -> u64;
}

/// Wakes the thread that answers.
#[derive(Clone, Debug)]
pub struct Bell {
    wake: Arc<EventFd>,
    stop: Arc<AtomicBool>,
}

impl Bell {
    /// One that nobody rang.
    ///
    /// # Errors
    /// If the kernel gives no descriptor.
    pub fn new() -> nix::Result<Bell> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        Ok(Bell { wake: Arc::new(EventFd::from_flags(flags)?), stop: Arc::default() })
    }

    /// Something is there for one of the clients.
    pub fn ring(&self) {
        // Fails only when the counter is full, and then the thread is awake anyway.
        let _ = self.wake.write(1);
    }

    /// The descriptor that rings.
    pub fn descriptor(&self) -> &Arc<EventFd> {
        &self.wake
    }

    pub(super) fn hush(&self) {
        // Fails only when nobody rang.
        let _ = self.wake.read();
    }

    pub(super) fn stop(&self) {
        self.stop.store(true, SeqCst);
        self.ring();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.stop.load(SeqCst)
    }
}
