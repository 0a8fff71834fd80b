//! One client: its question so far, its answer as far as it has gone.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use nix::poll::PollFlags;
use serde_json::Value;

use super::PATIENCE;
use super::protocol::{Fault, FaultKind, QUESTION_BYTES_MAX, Question, answer_line, parse};

/// Bytes read at once.
const CHUNK_BYTES: usize = 4096;
/// Questions answered before others have their turn.
const QUESTIONS_A_TURN: usize = 16;

/// Who answers.
pub(super) type Answerer<'a> = dyn FnMut(Question) -> Result<Value, Fault> + 'a;

/// One client.
pub(super) struct Connection {
    stream: UnixStream,
    question: Vec<u8>,
    answer: Vec<u8>,
    sent: usize,
    /// Let go when the answer is out.
    last: bool,
    /// Nothing more will be asked.
    ended: bool,
    deadline: Instant,
}

/// Whether to go on with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It waits for the client.
    Wait,
    /// It has more to do at once.
    More,
    /// It is over.
    Over,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, now: Instant) -> Connection {
        let (question, answer) = Default::default();
        let (sent, last, ended, deadline) = (0, false, false, now + PATIENCE);
        Connection { stream, question, answer, sent, last, ended, deadline }
    }

    /// A client that gets nothing but this.
    pub(super) fn refused(stream: UnixStream, fault: Fault, now: Instant) -> Connection {
        let mut connection = Connection::new(stream, now);
        connection.answer = answer_line(Err(fault));
        connection.last = true;
        connection
    }

    /// When it is let go unless it moves on.
    pub(super) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What it waits for.
    pub(super) fn waits_for(&self) -> PollFlags {
        if self.answer.is_empty() { PollFlags::POLLIN } else { PollFlags::POLLOUT }
    }

    /// Sends, reads and answers as far as it goes without waiting. While an answer is not out, nothing is read.
    pub(super) fn turn(&mut self, answerer: &mut Answerer<'_>, now: Instant) -> Turn {
        for _ in 0..QUESTIONS_A_TURN {
            match self.send() {
                Turn::More if self.last => return Turn::Over,
                Turn::More => {}
                other => return other,
            }
            match self.receive() {
                Turn::More => {}
                other => return other,
            }
            let Some(end) = self.question.iter().position(|byte| *byte == b'\n') else { continue };
            let line: Vec<u8> = self.question.drain(..=end).collect();
            let asked = parse(line.get(..end).unwrap_or_default());
            self.answer = answer_line(asked.and_then(&mut *answerer));
            self.deadline = now + PATIENCE;
        }
        Turn::More
    }

    /// More if all is out.
    fn send(&mut self) -> Turn {
        while let Some(left) = self.answer.get(self.sent..).filter(|left| !left.is_empty()) {
            match self.stream.write(left) {
                Ok(count) if count > 0 => self.sent += count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Wait,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => return Turn::Over,
            }
        }
        // A large answer's room is given back.
        (self.answer, self.sent) = (Vec::new(), 0);
        Turn::More
    }

    /// More if there is a whole line, or it makes sense to look again.
    fn receive(&mut self) -> Turn {
        if self.question.contains(&b'\n') {
            return Turn::More;
        }
        if self.ended {
            return Turn::Over;
        }
        let mut chunk = [0; CHUNK_BYTES];
        match self.stream.read(&mut chunk) {
            Ok(0) => self.ended = true,
            Ok(count) => self.question.extend_from_slice(chunk.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Turn::Wait,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return Turn::Over,
        }
        let line = self.question.iter().position(|byte| *byte == b'\n');
        if line.unwrap_or(self.question.len()) >= QUESTION_BYTES_MAX {
            let text = format!("a question has at most {QUESTION_BYTES_MAX} bytes");
            self.question = Vec::new();
            self.answer = answer_line(Err(Fault::new(FaultKind::TooLong, text)));
            self.last = true;
        }
        Turn::More
    }
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
