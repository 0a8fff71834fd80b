//! Sending a [`Bulk`], and what the answers to it mean.

use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use rustables::sys;

use super::bulk::Bulk;
use super::error::{Error, Purpose};
use super::socket::{Channel, Refusal, refusal_of};
use super::wire::{self, flag};

/// What one answer takes of the receive buffer: the kernel counts an empty packet's own memory too.
const ANSWER_BYTES: usize = 1 << 10;

impl Channel {
    /// Does it all, or on any error nothing. Returns when the kernel is done.
    ///
    /// # Errors
    /// [`Error::Stale`] if a set or an element to be removed is not there, or one to be added overlaps another:
    /// somebody changed the set, or it expired. [`Error::Full`] if a set of fixed size has no room.
    pub fn send_bulk(&mut self, mut bulk: Bulk) -> Result<(), Error> {
        if bulk.is_empty() {
            return Ok(());
        }
        let messages = bulk.messages();
        // Every answer has to fit before we can read the first; nobody answers them twice.
        self.make_room(messages.saturating_mul(ANSWER_BYTES));
        self.send(bulk.finish())?;
        let mut answers = Answers::new(messages);
        while let Some(bytes) = self.receive()? {
            for message in wire::messages(&bytes)? {
                if message.kind == flag(sys::NLMSG_ERROR) {
                    answers.take(message.seq, refusal_of(&message)?);
                }
            }
        }
        answers.judge(&bulk)
    }

    fn make_room(&self, bytes: usize) {
        if bytes > super::socket::RCVBUF {
            let _ = setsockopt(self.socket(), sockopt::RcvBufForce, &bytes);
        }
    }
}

/// The answers to the messages of a bulk.
struct Answers {
    /// For each message, whether it was answered; the opening one is the first.
    answered: Vec<bool>,
    /// The refusal of the earliest message. It is the cause; later ones may only follow from it.
    first: Option<(u32, Refusal)>,
}

impl Answers {
    fn new(messages: usize) -> Answers {
        Answers { answered: vec![false; messages + 1], first: None }
    }

    fn take(&mut self, seq: u32, refusal: Option<Refusal>) {
        let place = usize::try_from(seq).ok();
        if let Some(answered) = place.and_then(|place| self.answered.get_mut(place)) {
            *answered = true;
        }
        let Some(refusal) = refusal else { return };
        if self.first.as_ref().is_none_or(|(first, _)| seq < *first) {
            self.first = Some((seq, refusal));
        }
    }

    fn judge(&self, bulk: &Bulk) -> Result<(), Error> {
        if let Some((seq, refusal)) = &self.first {
            // The kernel answers the opening message with what befell the whole.
            let purpose = if *seq == 0 { Purpose::Transaction } else { Purpose::Elements };
            let what = bulk.what(*seq, refusal.offset);
            let words = refusal.words.as_deref();
            return Err(match refusal.errno {
                Errno::ENOMEM => Error::refused(Errno::ENOMEM, Purpose::Other, &what, words),
                errno => Error::refused(errno, purpose, &what, words),
            });
        }
        // New kernels alone answer the opening message.
        match self.answered.iter().skip(1).all(|answered| *answered) {
            true => Ok(()),
            false => Err(Error::Busy("answers were lost: check the sets")),
        }
    }
}
