//! The way to end a source from another thread: an eventfd, so that a poll(2) returns at once.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::eventfd::{EfdFlags, EventFd};

/// Raised once, seen by everyone who holds a clone, for good.
#[derive(Clone, Debug)]
pub struct Stop(Arc<EventFd>);

impl Stop {
    /// A stop that is not raised.
    ///
    /// # Errors
    /// When the process is out of file descriptors.
    pub fn new() -> std::io::Result<Stop> {
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        Ok(Stop(Arc::new(EventFd::from_flags(flags)?)))
    }

    /// Tells everyone to end.
    pub fn raise(&self) {
        // Fails only when the counter is full, that is when it has been raised 2^64 times.
        let _ = self.0.write(1);
    }

    /// True from [`Stop::raise`] on; nobody ever reads the counter back to zero.
    pub fn is_raised(&self) -> bool {
        ready(&[self.fd()], Some(Duration::ZERO)).stopped
    }

    /// Readable once raised.
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }

    /// Waits for as long as `pause`; true if raised.
    pub fn wait(&self, pause: Duration) -> bool {
        ready(&[self.fd()], Some(pause)).stopped
    }

    /// Waits until one of `fds` has something to read or has ended, or `timeout` passes.
    pub fn poll(&self, fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Ready {
        let mut all = vec![self.fd()];
        all.extend_from_slice(fds);
        ready(&all, timeout)
    }
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ready {
    /// The stop was raised.
    pub stopped: bool,
    /// Which of the descriptors have bytes, one bit each.
    pub readable: u32,
    /// Which have ended or failed.
    pub ended: u32,
}

impl Ready {
    /// True if descriptor `index` has bytes.
    pub fn is_readable(self, index: usize) -> bool {
        self.readable & (1 << index) != 0
    }

    /// True if descriptor `index` has ended.
    pub fn is_ended(self, index: usize) -> bool {
        self.ended & (1 << index) != 0
    }
}

/// The first descriptor is the stop's.
fn ready(fds: &[BorrowedFd<'_>], timeout: Option<Duration>) -> Ready {
    let mut set: Vec<PollFd<'_>> =
        fds.iter().map(|fd| PollFd::new(*fd, PollFlags::POLLIN)).collect();
    let timeout = timeout.map_or(PollTimeout::NONE, |timeout| {
        // Rounded up, so that a short pause is never a busy loop.
        let millis = timeout.as_micros().div_ceil(1_000);
        PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
    });
    match poll(&mut set, timeout) {
        Ok(_) | Err(Errno::EINTR) => {}
        // Out of memory: better an empty answer a little later than a thread that ends.
        Err(_) => std::thread::yield_now(),
    }
    let mut out = Ready::default();
    for (index, fd) in set.iter().enumerate() {
        let events = fd.revents().unwrap_or(PollFlags::empty());
        let ended = PollFlags::POLLHUP | PollFlags::POLLERR | PollFlags::POLLNVAL;
        match index.checked_sub(1) {
            None => out.stopped = events.contains(PollFlags::POLLIN),
            Some(index) => {
                out.readable |= u32::from(events.contains(PollFlags::POLLIN)) << index;
                out.ended |= u32::from(events.intersects(ended)) << index;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn raised_is_seen_by_every_clone_and_for_good() {
        let stop = Stop::new().unwrap();
        assert!(!stop.is_raised());
        let other = stop.clone();
        let waiter = std::thread::spawn(move || other.poll(&[], None).stopped);
        stop.raise();
        assert!(waiter.join().unwrap());
        assert!(stop.is_raised() && stop.wait(Duration::from_secs(60)));
    }
}
