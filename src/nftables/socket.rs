//! The netlink socket: transactions answered message by message, and dumps.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use libc::NETLINK_NETFILTER;
use netlink_sys::Socket;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use rustables::sys;

use super::batch::Batch;
use super::error::{Error, Purpose};
use super::wire::{self, Attr, Attrs, Garbled, HEADER_LEN, Message, flag};
use crate::netlink;

/// One answer. The kernel fills dumps up to 32 KiB at a time, whatever room there is.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Answers to one request. A dump of every element of our small sets and all rules is a few.
const ANSWERS_MAX: usize = 65_536;
/// Receive buffer: every message of a transaction is answered before we can read the first answer, at about
/// 1 KiB of accounting each.
pub(super) const RCVBUF: usize = 4 << 20;
/// Send buffer needed beyond the bytes themselves, for the kernel's accounting.
const SNDBUF_SLACK: usize = 256 << 10;

/// A socket of this thread's network namespace.
pub struct Channel {
    socket: Socket,
    seq: u32,
}

/// How a question was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    /// Fully.
    Complete,
    /// Rules changed halfway: what was seen may be torn.
    Torn,
    /// There is no such thing.
    Absent,
    /// Enough was seen.
    Stopped,
}

impl Channel {
    /// Opens a socket in the calling thread's network namespace, where it stays.
    pub fn open() -> Result<Channel, Error> {
        let mut socket = Socket::new(NETLINK_NETFILTER as isize).map_err(Error::socket)?;
        socket.bind_auto().map_err(Error::socket)?;
        // Both only make answers shorter and clearer; old kernels lack them.
        let _ = socket.set_cap_ack(true);
        let _ = socket.set_ext_ack(true);
        // Needs CAP_NET_ADMIN, as everything that follows does; that will say so better.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RCVBUF);
        Ok(Channel { socket, seq: 1 })
    }

    /// Sends one transaction. On any error nothing of it was done.
    pub(super) fn transact(&mut self, batch: &Batch) -> Result<(), Error> {
        self.send(&batch.bytes)?;
        let mut answers: BTreeMap<u32, Option<Refusal>> = BTreeMap::new();
        // The kernel has done everything, answers included, when send returns: nothing left means all read.
        for _ in 0..ANSWERS_MAX {
            let Some(bytes) = self.receive()? else { break };
            for message in wire::messages(&bytes)? {
                if message.kind == flag(sys::NLMSG_ERROR) {
                    let answer = refusal_of(&message)?;
                    let known = answers.entry(message.seq).or_default();
                    *known = known.take().or(answer);
                }
            }
        }
        judge(batch, &answers)
    }

    /// Asks for one thing, or with `NLM_F_DUMP` for all of a kind, and hands over each message about it.
    pub(super) fn ask(
        &mut self,
        kind: u32,
        flags: u32,
        attrs: &[Attr],
        mut each: impl FnMut(&Attrs<'_>) -> Result<(), Garbled>,
    ) -> Result<Answer, Error> {
        self.answers(kind, flags, attrs, |attrs| each(attrs).map(ControlFlow::Continue))
    }

    /// The same, until enough was seen: the kernel stops when the socket goes.
    pub(super) fn ask_until(
        mut self,
        kind: u32,
        flags: u32,
        attrs: &[Attr],
        each: impl FnMut(&Attrs<'_>) -> Result<ControlFlow<()>, Garbled>,
    ) -> Result<Answer, Error> {
        self.answers(kind, flags, attrs, each)
    }

    fn answers(
        &mut self,
        kind: u32,
        flags: u32,
        attrs: &[Attr],
        mut each: impl FnMut(&Attrs<'_>) -> Result<ControlFlow<()>, Garbled>,
    ) -> Result<Answer, Error> {
        self.seq = self.seq.wrapping_add(1);
        let mut request = Vec::new();
        wire::put_message(&mut request, kind, flags | sys::NLM_F_ACK, self.seq, attrs);
        self.send(&request)?;
        let mut torn = false;
        for _ in 0..ANSWERS_MAX {
            // A dump goes on inside each receive; there is never anything to wait for.
            let Some(bytes) = self.receive()? else {
                return Err(Garbled("answer ends early").into());
            };
            for message in
                wire::messages(&bytes)?.into_iter().filter(|message| message.seq == self.seq)
            {
                torn |= message.flags & flag(sys::NLM_F_DUMP_INTR) != 0;
                match u32::from(message.kind) {
                    sys::NLMSG_ERROR | sys::NLMSG_DONE => return finish(&message, torn),
                    _ if each(&message.attrs()?)?.is_break() => return Ok(Answer::Stopped),
                    _ => {}
                }
            }
        }
        Err(Error::Busy("answer without end"))
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    pub(super) fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        if bytes.len() > SNDBUF_SLACK / 4 {
            let _ =
                setsockopt(&self.socket, sockopt::SndBufForce, &(2 * bytes.len() + SNDBUF_SLACK));
        }
        netlink::send(&self.socket, bytes).map_err(Error::socket)
    }

    /// The next answer, if there is one.
    pub(super) fn receive(&self) -> Result<Option<Vec<u8>>, Error> {
        netlink::receive(&self.socket, ANSWER_BYTES_MAX).map_err(Error::socket)
    }
}

/// What the answers to a transaction mean. The first message refused is the cause; later ones only follow.
fn judge(batch: &Batch, answers: &BTreeMap<u32, Option<Refusal>>) -> Result<(), Error> {
    for (seq, answer) in answers {
        let Some(Refusal { errno, words, .. }) = answer else { continue };
        let place = usize::try_from(*seq).ok();
        return Err(match place.and_then(|place| batch.messages.get(place)) {
            Some((purpose, what)) => Error::refused(*errno, *purpose, what, words.as_deref()),
            None => Error::refused(*errno, Purpose::Other, "the transaction", words.as_deref()),
        });
    }
    // The opening message (0) is answered by new kernels only.
    let unanswered =
        (1_u32..).zip(batch.messages.iter().skip(1)).find(|(seq, _)| !answers.contains_key(seq));
    match unanswered {
        Some(_) => Err(Error::Busy("answers were lost: check the rules")),
        None => Ok(()),
    }
}

fn finish(message: &Message<'_>, torn: bool) -> Result<Answer, Error> {
    match refusal_of(message)? {
        None if torn => Ok(Answer::Torn),
        None => Ok(Answer::Complete),
        Some(Refusal { errno: Errno::ENOENT, .. }) => Ok(Answer::Absent),
        Some(Refusal { errno: Errno::EINTR | Errno::EAGAIN, .. }) => Ok(Answer::Torn),
        Some(Refusal { errno, words, .. }) => {
            Err(Error::refused(errno, Purpose::Transaction, "a question", words.as_deref()))
        }
    }
}

/// How the kernel said no to a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    /// The code.
    pub errno: Errno,
    /// The kernel's own words, if it has any.
    pub words: Option<String>,
    /// Where in the message the attribute at fault begins, if the kernel says so.
    pub offset: Option<usize>,
}

/// Reads an answer; `None` is yes.
pub(super) fn refusal_of(message: &Message<'_>) -> Result<Option<Refusal>, Garbled> {
    Ok(message.errno()?.map(|errno| {
        let (words, offset) = kernel_words(message);
        Refusal { errno, words, offset }
    }))
}

fn kernel_words(message: &Message<'_>) -> (Option<String>, Option<usize>) {
    const MESSAGE: u16 = 1; // NLMSGERR_ATTR_MSG
    const OFFSET: u16 = 2; // NLMSGERR_ATTR_OFFS
    let told = flag(sys::NLM_F_CAPPED | sys::NLM_F_ACK_TLVS);
    // Behind the code comes the header of our message, without the rest of it.
    let behind = message.payload.get(4 + HEADER_LEN..).filter(|_| message.flags & told == told);
    let Some(Ok(attrs)) = behind.map(Attrs::parse) else { return (None, None) };
    let offset = attrs.get(OFFSET).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
    let words = attrs.text(MESSAGE, "kernel's words").ok();
    (words, offset.and_then(|offset| usize::try_from(offset).ok()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(messages: usize) -> Batch {
        let messages = (0..messages).map(|n| (Purpose::Add, format!("message {n}"))).collect();
        Batch { bytes: Vec::new(), messages }
    }

    #[test]
    fn the_first_refusal_is_the_cause() {
        let refused = |errno| Some(Refusal { errno, words: None, offset: None });
        let answers =
            BTreeMap::from([(1, None), (2, refused(Errno::EBUSY)), (3, refused(Errno::EEXIST))]);
        let text = judge(&batch(4), &answers).unwrap_err().to_string();
        assert!(text.starts_with("the kernel refused message 2 ("), "{text}");
    }

    #[test]
    fn every_message_but_the_first_has_to_be_answered() {
        let all = BTreeMap::from([(1, None), (2, None)]);
        assert!(judge(&batch(3), &all).is_ok());
        assert!(matches!(judge(&batch(4), &all), Err(Error::Busy(_))));
    }

    #[test]
    fn codes_and_words_are_read_from_any_bytes() {
        let mut payload = (-2_i32).to_ne_bytes().to_vec();
        payload.extend([0; HEADER_LEN]);
        payload.extend([8, 0, 1, 0, b'w', b'h', b'y', 0]);
        let words = payload.len();
        payload.extend([8, 0, 2, 0]);
        payload.extend(77_u32.to_ne_bytes());
        let flags = flag(sys::NLM_F_CAPPED | sys::NLM_F_ACK_TLVS);
        for end in 0..=payload.len() {
            let message = Message { kind: 2, flags, seq: 1, port: 0, payload: &payload[..end] };
            let refusal = refusal_of(&message).ok().flatten();
            assert_eq!(
                refusal.as_ref().map(|found| found.errno),
                (end >= 4).then_some(Errno::ENOENT)
            );
            let (text, offset) = refusal.map_or((None, None), |found| (found.words, found.offset));
            assert_eq!(text.is_some(), end == words || end == payload.len(), "{end}");
            assert_eq!(offset, (end == payload.len()).then_some(77), "{end}");
        }
    }
}
