//! The NFQUEUE adapter: packets in, exactly one answer each out.
//!
//! A queue is opened before the rules that feed it go in, and closed after everything held is answered: closing
//! the socket makes the kernel drop whatever still waits.

pub mod counters;
mod kernel;
mod queue;

use std::io;

pub use kernel::{KernelLink, Options};
pub use queue::{Packet, Queue, QueueStats, Received};

/// What the kernel is told to do with a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Disposition {
    /// NF_ACCEPT: on to the next hook.
    Accept,
    /// NF_DROP: gone without a word.
    Drop,
    /// NF_REPEAT with a mark: the base chain sees the packet again and its rule for that mark refuses it as
    /// configured, by TCP reset or ICMP.
    Refuse,
}

/// The socket under a [`Queue`]. A trait, so that what the kernel does only once in a while can be tested.
pub trait Link {
    /// A received packet.
    type Message;

    /// Receives a packet without blocking.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; ENOENT if an earlier answer was for a packet that is gone; ENOBUFS if
    /// packets were lost; anything else means that the socket is of no more use.
    fn receive(&mut self) -> io::Result<Self::Message>;

    /// Answers a packet.
    ///
    /// # Errors
    /// If the kernel could not be told.
    fn answer(&mut self, message: Self::Message, disposition: Disposition) -> io::Result<()>;

    /// The kernel's number for the packet, unique in its queue.
    fn id(message: &Self::Message) -> u32;

    /// The packet's first bytes, from the IP header on.
    fn payload(message: &Self::Message) -> &[u8];

    /// True if the packet carries the mark of [`Disposition::Refuse`]: it was answered so, and came back.
    fn was_refused(&self, message: &Self::Message) -> bool;
}

#[cfg(test)]
pub mod script;
