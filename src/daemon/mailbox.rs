//! Where readers leave answers for a verdict thread, with a bell.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use super::shared::Ticket;
use super::watchdog::Beat;
use crate::engine::judge::Answer;

/// Answers on their way to the verdict thread that holds the packets. Bounded by what may be held.
#[derive(Debug)]
pub struct Mailbox {
    answers: Mutex<Vec<Answer<Ticket>>>,
    filled: AtomicBool,
    queue_lost: AtomicBool,
    /// The verdict thread's sign of life.
    pub beat: Beat,
    wake: EventFd,
}

impl Mailbox {
    /// An empty mailbox.
    ///
    /// # Errors
    /// If the kernel gives no event descriptor.
    pub fn new() -> nix::Result<Mailbox> {
        let wake =
            EventFd::from_value_and_flags(0, EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let (filled, queue_lost, beat) = Default::default();
        Ok(Mailbox { answers: Mutex::default(), filled, queue_lost, beat, wake })
    }

    /// Tells the verdict thread that the kernel no longer has its queue.
    pub fn report_queue_lost(&self) {
        self.queue_lost.store(true, Ordering::Release);
        self.ring();
    }

    /// True once after [`Mailbox::report_queue_lost`].
    pub fn take_queue_lost(&self) -> bool {
        self.queue_lost.swap(false, Ordering::AcqRel)
    }

    /// Takes everything out; cheap when there is nothing.
    pub fn take(&self) -> Vec<Answer<Ticket>> {
        if !self.filled.swap(false, Ordering::AcqRel) {
            return Vec::new();
        }
        std::mem::take(&mut *self.answers.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Wakes the verdict thread.
    pub fn ring(&self) {
        // Fails only when the counter is full, and then the thread is awake anyway.
        let _ = self.wake.write(1);
    }

    /// The descriptor that becomes readable when rung.
    pub fn descriptor(&self) -> &EventFd {
        &self.wake
    }

    /// Silences the bell once the thread is awake.
    pub fn hush(&self) {
        // Fails only when nobody rang.
        let _ = self.wake.read();
    }

    /// Puts an answer in. The thread is to be rung after that.
    pub(super) fn put(&self, answer: Answer<Ticket>) {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner).push(answer);
        self.filled.store(true, Ordering::Release);
    }
}
