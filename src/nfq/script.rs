//! A link for tests that plays a script and writes down the answers.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard};

use nix::sys::eventfd::EventFd;

use super::{Disposition, Link};

/// What comes next from the kernel.
#[derive(Clone, Debug)]
pub enum Arrival {
    /// A packet with this number and these bytes.
    Packet(u32, Vec<u8>),
    /// The same, carrying the mark of a refusal.
    Refused(u32, Vec<u8>),
    /// An error.
    Errno(i32),
    /// The receiving code panics, as nfq does over a message cut short.
    Panic,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Script {
    arrivals: Arc<Mutex<VecDeque<Arrival>>>,
    answers: Arc<Mutex<Vec<(u32, Disposition)>>>,
    descriptor: Arc<OwnedFd>,
}

impl Script {
    /// A link on which these arrive, then nothing.
    pub fn new(arrivals: impl IntoIterator<Item = Arrival>) -> Script {
        let descriptor = Arc::new(OwnedFd::from(EventFd::new().unwrap()));
        let arrivals = Arc::new(Mutex::new(arrivals.into_iter().collect()));
        Script { arrivals, answers: Arc::default(), descriptor }
    }

    /// The answers so far, in order.
    pub fn answers(&self) -> Vec<(u32, Disposition)> {
        self.answers.lock().unwrap().clone()
    }

    /// While this is held, whoever receives stands still.
    pub fn stall(&self) -> MutexGuard<'_, VecDeque<Arrival>> {
        self.arrivals.lock().unwrap()
    }

    /// One more arrives.
    pub fn arrive(&self, arrival: Arrival) {
        self.arrivals.lock().unwrap().push_back(arrival);
    }
}

impl AsFd for Script {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}

impl Link for Script {
    type Message = (u32, Vec<u8>, bool);

    fn receive(&mut self) -> io::Result<Self::Message> {
        let next = self.arrivals.lock().unwrap().pop_front();
        match next {
            Some(Arrival::Packet(id, bytes)) => Ok((id, bytes, false)),
            Some(Arrival::Refused(id, bytes)) => Ok((id, bytes, true)),
            Some(Arrival::Errno(errno)) => Err(io::Error::from_raw_os_error(errno)),
            Some(Arrival::Panic) => panic!("as scripted"),
            None => Err(io::Error::from_raw_os_error(libc::EAGAIN)),
        }
    }

    fn answer(&mut self, message: Self::Message, disposition: Disposition) -> io::Result<()> {
        self.answers.lock().unwrap().push((message.0, disposition));
        Ok(())
    }

    fn id(message: &Self::Message) -> u32 {
        message.0
    }

    fn payload(message: &Self::Message) -> &[u8] {
        &message.1
    }

    fn was_refused(&self, message: &Self::Message) -> bool {
        message.2
    }
}
