//! One client: its question so far, its answer as far as it has gone, and what it follows.

use std::io::{ErrorKind, Read as _, Write as _};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::TryRecvError;
use std::time::Instant;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::peer::Peer;
use super::protocol::{Fault, FaultKind, QUESTION_BYTES_MAX, Question, answer_line, parse};
use super::said::{Lines, Pending, Said};
use super::{LATER_PATIENCE, PATIENCE};

/// Bytes read at once.
const CHUNK_BYTES: usize = 4096;
/// Questions answered, or helpings of lines sent, before others have their turn. Of those who may change nothing, it is
/// one question: some answers go through the whole registry.
const STEPS_A_TURN: usize = 16;

/// Who answers; never asked twice at once.
pub trait Answerer {
    /// What comes of a question.
    ///
    /// # Errors
    /// [`Fault`], for whoever asked.
    fn answer(&mut self, peer: &Peer, question: Question) -> Result<Said, Fault>;

    /// Hears that a client is gone.
    fn left(&mut self, _peer: &Peer) {}
}

impl<F: FnMut(&Peer, Question) -> Result<Said, Fault>> Answerer for F {
    fn answer(&mut self, peer: &Peer, question: Question) -> Result<Said, Fault> {
        self(peer, question)
    }
}

/// One client.
pub(super) struct Connection {
    stream: UnixStream,
    question: Vec<u8>,
    answer: Vec<u8>,
    sent: usize,
    doing: Doing,
    peer: Peer,
    /// Let go when the answer is out.
    last: bool,
    /// Nothing more will be asked.
    ended: bool,
    deadline: Instant,
}

/// What is done for a client once the answer so far is out.
enum Doing {
    /// Its next question is awaited.
    Listen,
    /// An answer is being made.
    Make(Pending),
    /// It follows.
    Follow(Box<dyn Lines>),
}

/// Whether to go on with a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// It waits for the client, or for the bell.
    Wait,
    /// It has more to do at once.
    More,
    /// It is over.
    Over,
}

impl Connection {
    pub(super) fn new(stream: UnixStream, peer: Peer, now: Instant) -> Connection {
        let (question, answer) = Default::default();
        let (sent, last, ended, deadline) = (0, false, false, now + PATIENCE);
        let doing = Doing::Listen;
        Connection { stream, question, answer, sent, doing, peer, last, ended, deadline }
    }

    /// A client that gets nothing but this.
    pub(super) fn refused(
        stream: UnixStream,
        peer: Peer,
        fault: Fault,
        now: Instant,
    ) -> Connection {
        let mut connection = Connection::new(stream, peer, now);
        connection.fault(fault);
        connection
    }

    /// When it is let go unless it moves on; never while it follows and has read everything.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let is_content = self.answer.is_empty() && matches!(self.doing, Doing::Follow(_));
        (!is_content).then_some(self.deadline)
    }

    /// Who it is.
    pub(super) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// Whether it follows.
    pub(super) fn follows(&self) -> bool {
        matches!(self.doing, Doing::Follow(_))
    }

    /// What it waits for. One whose answer is being made is only heard when it hangs up.
    pub(super) fn waits_for(&self) -> PollFlags {
        match (self.answer.is_empty(), &self.doing) {
            (false, _) => PollFlags::POLLOUT,
            (true, Doing::Make(_)) => PollFlags::empty(),
            (true, Doing::Listen | Doing::Follow(_)) => PollFlags::POLLIN,
        }
    }

    /// Sends, reads and answers as far as it goes without waiting. While an answer is not out, nothing is read.
    pub(super) fn turn(&mut self, answerer: &mut dyn Answerer, now: Instant) -> Turn {
        let mut had_its_own = false;
        for _ in 0..STEPS_A_TURN {
            match self.send(now) {
                Turn::More if self.last => return Turn::Over,
                Turn::More => {}
                other => return other,
            }
            if had_its_own {
                break;
            }
            let listens = matches!(self.doing, Doing::Listen);
            match self.step(answerer, now) {
                Turn::More => {}
                other => return other,
            }
            had_its_own = listens && !self.peer.may_change && !self.answer.is_empty();
        }
        Turn::More
    }

    /// What is lost with a client that is let go since it does not read, in words; nothing if it follows nothing.
    pub(super) fn obituary(&mut self) -> Option<String> {
        let Doing::Follow(lines) = &mut self.doing else { return None };
        let missed = lines.missed();
        Some(format!(
            "a reader of events has read nothing for {} s and is let go: it missed {missed} events, and what it had not \
             read",
            PATIENCE.as_secs()
        ))
    }

    /// Tells it that the daemon stops, as far as that goes at once.
    pub(super) fn farewell(&mut self, now: Instant) {
        if self.follows() && self.answer.is_empty() {
            self.fault(Fault::new(FaultKind::Stopping, "synhold stops, and tells nothing more"));
            let _ = self.send(now);
        }
    }

    fn step(&mut self, answerer: &mut dyn Answerer, now: Instant) -> Turn {
        match &mut self.doing {
            Doing::Listen => self.listen(answerer, now),
            Doing::Make(made) => {
                let answer = match made.try_take() {
                    Ok(answer) => answer,
                    Err(TryRecvError::Empty) if has_left(&self.stream) => return Turn::Over,
                    Err(TryRecvError::Empty) => return Turn::Wait,
                    Err(TryRecvError::Disconnected) => {
                        Err(Fault::new(FaultKind::Failed, "this could not be finished"))
                    }
                };
                self.doing = Doing::Listen;
                self.put(answer.map(Said::Value), now);
                Turn::More
            }
            Doing::Follow(_) => self.follow(now),
        }
    }

    fn listen(&mut self, answerer: &mut dyn Answerer, now: Instant) -> Turn {
        match self.receive() {
            Turn::More => {}
            other => return other,
        }
        let Some(end) = self.question.iter().position(|byte| *byte == b'\n') else {
            return Turn::More;
        };
        let line: Vec<u8> = self.question.drain(..=end).collect();
        let asked = parse(line.get(..end).unwrap_or_default());
        // Whoever has gone may have done it another way, and more since: it would come too late, and against that.
        if asked.as_ref().is_ok_and(Question::changes) && has_left(&self.stream) {
            return Turn::Over;
        }
        let said = asked.and_then(|question| match question.changes() && !self.peer.may_change {
            true => Err(may_not()),
            false => answerer.answer(&self.peer, question),
        });
        self.put(said, now);
        Turn::More
    }

    fn put(&mut self, said: Result<Said, Fault>, now: Instant) {
        self.deadline = now + PATIENCE;
        self.answer = match said {
            Ok(Said::Value(value)) => answer_line(Ok(value)),
            Ok(Said::Later(made)) => {
                self.doing = Doing::Make(made);
                // The client, which waits as long, is to be the first to know.
                self.deadline = now + LATER_PATIENCE + PATIENCE;
                return;
            }
            Ok(Said::Lines { answer, lines, more }) => {
                self.doing = more.map_or(Doing::Listen, Doing::Follow);
                let mut line = answer_line(Ok(answer));
                line.extend_from_slice(&lines);
                line
            }
            Err(fault) => answer_line(Err(fault)),
        };
    }

    /// The next helping of lines. Whoever was too slow for them gets the rest and the number, and is let go.
    fn follow(&mut self, now: Instant) -> Turn {
        let Doing::Follow(lines) = &mut self.doing else { return Turn::More };
        let missed = lines.missed();
        lines.take(&mut self.answer);
        if missed > 0 {
            let text =
                format!("{missed} events were missed: read faster, or ask for fewer (\"only\")");
            let fault = answer_line(Err(Fault::new(FaultKind::Behind, text)));
            self.answer.extend_from_slice(&fault);
            self.last = true;
        }
        if !self.answer.is_empty() {
            self.deadline = now + PATIENCE;
            return Turn::More;
        }
        // It has nothing more to say: anything it sends, and its end, is the end.
        match self.stream.read(&mut [0]) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Turn::Wait,
            Err(error) if error.kind() == ErrorKind::Interrupted => Turn::More,
            Ok(_) | Err(_) => Turn::Over,
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.answer = answer_line(Err(fault));
        self.last = true;
    }

    /// More if all is out.
    fn send(&mut self, now: Instant) -> Turn {
        while let Some(left) = self.answer.get(self.sent..).filter(|left| !left.is_empty()) {
            match self.stream.write(left) {
                Ok(count) if count > 0 => {
                    self.sent += count;
                    // Only whoever follows has all the time there is, as long as it reads.
                    if self.follows() {
                        self.deadline = now + PATIENCE;
                    }
                }
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
            self.fault(Fault::new(FaultKind::TooLong, text));
        }
        Turn::More
    }
}

/// Whether the other end is closed altogether. One that only asks nothing more still reads.
fn has_left(stream: &UnixStream) -> bool {
    let mut descriptors = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    poll(&mut descriptors, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}

fn may_not() -> Fault {
    let text = "only root and the daemon's own user may change anything: do it as root, for instance with sudo";
    Fault::new(FaultKind::NotAllowed, text)
}

impl AsFd for Connection {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.stream.as_fd()
    }
}
