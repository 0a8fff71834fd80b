//! Messages for a thread that also waits for descriptors.

use std::collections::VecDeque;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// A bounded queue with a descriptor that is readable while something is in it.
#[derive(Debug)]
pub struct Inbox<T> {
    queue: Mutex<VecDeque<T>>,
    limit: usize,
    /// How often it was emptied: a sign of life of whoever empties it.
    taken: AtomicU64,
    wake: EventFd,
}

impl<T> Inbox<T> {
    /// An empty inbox for `limit` messages.
    ///
    /// # Errors
    /// If the kernel gives no event descriptor.
    pub fn new(limit: usize) -> nix::Result<Inbox<T>> {
        let flags = EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC;
        let wake = EventFd::from_value_and_flags(0, flags)?;
        Ok(Inbox { queue: Mutex::default(), limit, taken: AtomicU64::new(0), wake })
    }

    /// Puts a message in; false if there is no room for it.
    pub fn put(&self, message: T) -> bool {
        self.offer(message).is_ok()
    }

    /// Puts a message in, or gives it back if there is no room for it.
    ///
    /// # Errors
    /// The message.
    pub fn offer(&self, message: T) -> Result<(), T> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let left = if queue.len() < self.limit {
            queue.push_back(message);
            Ok(())
        } else {
            Err(message)
        };
        drop(queue);
        self.ring();
        left
    }

    /// Puts in what must not be lost, room or not: there are few of these.
    pub fn put_always(&self, message: T) {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner).push_back(message);
        self.ring();
    }

    /// Wakes whoever waits for messages, without one.
    pub fn ring(&self) {
        // Fails only when the counter is full, and then the thread is awake anyway.
        let _ = self.wake.write(1);
    }

    /// How often it was emptied.
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Takes everything out and silences the descriptor.
    pub fn take(&self) -> VecDeque<T> {
        self.taken.fetch_add(1, Relaxed);
        // First the bell: what is put in meanwhile rings again.
        let _ = self.wake.read();
        std::mem::take(&mut *self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl<T> AsFd for Inbox<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    fn rings<T>(inbox: &Inbox<T>) -> bool {
        let mut descriptors = [PollFd::new(inbox.as_fd(), PollFlags::POLLIN)];
        poll(&mut descriptors, PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn rings_while_something_is_in_it_and_keeps_its_bound() {
        let inbox = Inbox::new(2).unwrap();
        assert!(!rings(&inbox));
        assert!(inbox.put(1) && inbox.put(2) && !inbox.put(3));
        inbox.put_always(4);
        assert!(rings(&inbox));
        assert_eq!(inbox.take(), [1, 2, 4]);
        assert!(!rings(&inbox) && inbox.take().is_empty());
        assert_eq!(inbox.taken(), 2);
        inbox.ring();
        assert!(rings(&inbox) && inbox.take().is_empty());
    }
}
