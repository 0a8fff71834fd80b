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

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::engine::intervals::Span;
    use crate::engine::net::{Family, number};
    use crate::nftables::element::{Element, Key};

    fn bulk() -> Bulk {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let span = |first, last| Span::new(number(address(first)), number(address(last)));
        let ranges = [span("192.0.2.0", "192.0.2.9"), span("255.255.255.0", "255.255.255.255")];
        let mut bulk = Bulk::new();
        bulk.flush("block4");
        bulk.remove(
            "hits4",
            [Key::Pair(address("10.0.0.1"), address("192.0.2.1"))].map(Element::new),
        );
        bulk.add("block4", ranges.map(|span| Element::new(Key::Span(Family::V4, span))));
        bulk
    }

    fn judged(answers: &[(u32, Option<Errno>)], offset: Option<usize>) -> Result<(), Error> {
        let bulk = bulk();
        let mut taken = Answers::new(bulk.messages());
        for (seq, errno) in answers {
            taken.take(*seq, errno.map(|errno| Refusal { errno, words: None, offset }));
        }
        taken.judge(&bulk)
    }

    #[test]
    fn all_answered_is_done_and_one_missing_is_not() {
        assert!(judged(&[(1, None), (2, None), (3, None)], None).is_ok());
        assert!(judged(&[(0, None), (3, None), (2, None), (1, None), (9, None)], None).is_ok());
        let lost = judged(&[(1, None), (3, None)], None);
        assert!(matches!(lost, Err(Error::Busy(_))), "{lost:?}");
    }

    #[test]
    fn the_first_message_refused_is_the_cause() {
        let answers = [(1, None), (3, Some(Errno::EEXIST)), (2, Some(Errno::ENOENT))];
        let error = judged(&answers, None).unwrap_err();
        assert!(
            matches!(&error, Error::Stale { what, .. } if what == "the removal of elements from set hits4"),
            "{error}"
        );
        let full = judged(&[(3, Some(Errno::ENFILE))], None).unwrap_err();
        assert!(matches!(full, Error::Full { .. }), "{full}");
        let denied = judged(&[(0, Some(Errno::EPERM))], None).unwrap_err();
        assert!(matches!(denied, Error::NotPermitted), "{denied}");
        let owned = judged(&[(1, Some(Errno::EPERM))], None).unwrap_err();
        assert!(matches!(owned, Error::Owned), "{owned}");
        let again = judged(&[(0, Some(Errno::EAGAIN))], None).unwrap_err();
        assert!(matches!(again, Error::Busy(_)), "{again}");
    }

    #[test]
    fn the_kernels_offset_names_the_element() {
        // Headers, table and set take 20, 12 and 12 bytes, the list's head 4; a beginning 16, an end 24.
        for (offset, named) in [
            (48, "192.0.2.0-192.0.2.9"),
            (64, "192.0.2.0-192.0.2.9"),
            (88, "255.255.255.0"),
            (49, "elements"),
            (1_000_000, "elements"),
        ] {
            let error = judged(&[(3, Some(Errno::EEXIST))], Some(offset)).unwrap_err().to_string();
            let wanted = format!("the addition of {named} to set block4 does not fit");
            assert!(error.starts_with(&wanted), "{error}");
        }
        let error = judged(&[(2, Some(Errno::ENOENT))], Some(48)).unwrap_err().to_string();
        assert!(error.starts_with("the removal of 10.0.0.1 . 192.0.2.1 from set hits4"), "{error}");
        let error = judged(&[(1, Some(Errno::ENOENT))], Some(48)).unwrap_err().to_string();
        assert!(error.starts_with("the flush of set block4"), "{error}");
    }
}
