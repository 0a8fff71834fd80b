//! A queue with its guard: every packet taken from it is answered once, on every path.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::{Disposition, Link};

/// What went wrong without being fatal. Shared with whoever reports it.
#[derive(Debug, Default)]
pub struct QueueStats {
    /// Answers for packets the kernel no longer had.
    pub gone: AtomicU64,
    /// Times the receive buffer overflowed.
    pub overruns: AtomicU64,
}

/// A queue and the packets of it that wait for their answer.
#[derive(Debug)]
pub struct Queue<L: Link> {
    link: L,
    unanswered: Disposition,
    held: HashMap<u32, L::Message>,
    stats: Arc<QueueStats>,
}

/// What came of asking for a packet.
pub enum Received<'q, L: Link> {
    /// A packet, to be answered or held.
    Packet(Packet<'q, L>),
    /// Nothing there; wait for the descriptor.
    Empty,
    /// Something was lost and counted; ask again.
    Lost,
    /// The socket is of no more use.
    Closed(io::Error),
}

/// The guard of one packet. Dropped without an answer, as by a panic, it gives the queue's default answer.
pub struct Packet<'q, L: Link> {
    queue: &'q mut Queue<L>,
    message: Option<L::Message>,
}

impl<L: Link> Queue<L> {
    /// A queue over `link` whose packets get the answer `unanswered` if nobody gives another.
    pub fn new(link: L, unanswered: Disposition, stats: Arc<QueueStats>) -> Queue<L> {
        Queue { link, unanswered, held: HashMap::new(), stats }
    }

    /// The link, for its descriptor.
    pub fn link(&self) -> &L {
        &self.link
    }

    /// The next packet, if there is one. Never blocks.
    pub fn receive(&mut self) -> Received<'_, L> {
        match self.link.receive() {
            Ok(message) => Received::Packet(Packet { queue: self, message: Some(message) }),
            Err(error) => self.classify(error),
        }
    }

    fn classify(&self, error: io::Error) -> Received<'_, L> {
        match error.raw_os_error() {
            Some(libc::EAGAIN) => Received::Empty,
            Some(libc::EINTR) => Received::Lost,
            Some(libc::ENOENT) => {
                self.stats.gone.fetch_add(1, Relaxed);
                Received::Lost
            }
            Some(libc::ENOBUFS | libc::ENOSPC) => {
                self.stats.overruns.fetch_add(1, Relaxed);
                Received::Lost
            }
            _ => Received::Closed(error),
        }
    }

    /// Answers a packet that was held. False if it is not held here.
    pub fn answer_held(&mut self, id: u32, disposition: Disposition) -> bool {
        let Some(message) = self.held.remove(&id) else { return false };
        self.send(message, disposition);
        true
    }

    /// True if nothing is held.
    pub fn is_idle(&self) -> bool {
        self.held.is_empty()
    }

    fn send(&mut self, message: L::Message, disposition: Disposition) {
        if self.link.answer(message, disposition).is_err() {
            self.stats.gone.fetch_add(1, Relaxed);
        }
    }
}

impl<L: Link> Drop for Queue<L> {
    fn drop(&mut self) {
        for (_, message) in std::mem::take(&mut self.held) {
            self.send(message, self.unanswered);
        }
    }
}

impl<L: Link> Packet<'_, L> {
    /// The kernel's number for the packet.
    pub fn id(&self) -> u32 {
        self.message.as_ref().map_or(0, L::id)
    }

    /// The packet's first bytes, from the IP header on.
    pub fn payload(&self) -> &[u8] {
        self.message.as_ref().map_or(&[], L::payload)
    }

    /// True if it was refused before and came back.
    pub fn was_refused(&self) -> bool {
        self.message.as_ref().is_some_and(|message| self.queue.link.was_refused(message))
    }

    /// Answers the packet.
    pub fn answer(mut self, disposition: Disposition) {
        self.finish(disposition);
    }

    /// Keeps the packet until [`Queue::answer_held`] is called with its number.
    pub fn hold(mut self) {
        if let Some(message) = self.message.take() {
            self.queue.held.insert(L::id(&message), message);
        }
    }

    fn finish(&mut self, disposition: Disposition) {
        if let Some(message) = self.message.take() {
            self.queue.send(message, disposition);
        }
    }
}

impl<L: Link> Drop for Packet<'_, L> {
    fn drop(&mut self) {
        self.finish(self.queue.unanswered);
    }
}

#[cfg(test)]
#[path = "queue_test.rs"]
mod tests;
