//! A verdict thread: one queue, one mailbox, and nothing else it could wait for.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::clock;
use super::mailbox::Mailbox;
use super::shared::{Phase, Shared, Ticket};
use crate::engine::judge::{Answer, Decision, Mode, Step};
use crate::engine::limits::{PACKETS_PER_ROUND, QUEUE_LEN_MAX, REOPEN_PAUSE_MAX, REOPEN_PAUSE_MIN};
use crate::engine::wish::Refusal;
use crate::engine::{Reason, Verdict, packet};
use crate::nfq::{Disposition, Link, Packet, Queue, Received};

/// Panics in a row after which the socket is not trusted any more.
const PANICS_MAX: u32 = 16;
/// Breath after a panic, so that one in every turn does not take a whole processor.
const PANIC_PAUSE: Duration = Duration::from_millis(1);
/// Rounds after which a socket that never runs empty has at least been emptied of what was in it.
const DRAIN_TURNS_MAX: usize = (QUEUE_LEN_MAX as usize).div_ceil(PACKETS_PER_ROUND);

/// Opens the lane's queue socket, at start and after a failure.
pub type Opener<L> = Box<dyn Fn() -> io::Result<L> + Send>;

/// One verdict thread's state.
pub struct Lane<L: Link> {
    number: u16,
    open: Opener<L>,
    /// None only while it is being opened again: the number is free once the old socket is closed.
    queue: Option<Queue<L>>,
    /// Which socket it is. The kernel numbers packets from 1 again on each, and an answer may be late.
    generation: u32,
    /// Answers not given yet. Kept here, so that a panic over one does not lose the others.
    answers: VecDeque<Answer<Ticket>>,
    shared: Arc<Shared>,
    drained: Option<Sender<()>>,
    drain_turns: usize,
    panics: u32,
}

enum Round {
    More,
    Idle,
    Broken(io::Error),
}

impl<L: Link + AsFd> Lane<L> {
    /// Opens the queue of lane `number`. `drained` is told once nothing is held any more in [`Phase::Drain`].
    ///
    /// # Errors
    /// If the queue cannot be opened, with a sentence that says what to do.
    pub fn open(
        number: u16,
        open: Opener<L>,
        shared: Arc<Shared>,
        drained: Sender<()>,
    ) -> io::Result<Lane<L>> {
        let queue = Some(new_queue(open()?, &shared));
        let (generation, answers, drain_turns, panics) = Default::default();
        let drained = Some(drained);
        Ok(Lane { number, open, queue, generation, answers, shared, drained, drain_turns, panics })
    }

    /// Serves until [`Phase::Close`].
    pub fn run(mut self) {
        while self.shared.phase() != Phase::Close {
            // The guard has answered the packet by the time its panic arrives here, the engine's lock forgives, and
            // what is not done yet is done in the next turn.
            match catch_unwind(AssertUnwindSafe(|| self.turn())) {
                Ok(()) => self.panics = 0,
                Err(_) => self.panicked(),
            }
        }
    }

    fn turn(&mut self) {
        self.beat();
        if self.mailbox().is_some_and(Mailbox::take_queue_lost) {
            return self.reopen(&io::Error::other("the kernel no longer has it"));
        }
        let draining = self.shared.phase() == Phase::Drain;
        if draining {
            self.give_up(self.shared.unanswered);
        }
        self.take_mail();
        self.expire();
        self.answer();
        let round = self.round();
        if draining {
            self.tell_drained(&round);
        }
        match round {
            Round::More => {}
            Round::Idle => self.wait(),
            Round::Broken(_) if draining => self.pause(REOPEN_PAUSE_MIN),
            Round::Broken(error) => self.reopen(&error),
        }
    }

    /// Tells that nothing is held any more: neither by the queue, whose last answers may still be on their way from a
    /// reader, nor in the socket, unless more keeps coming than was there to begin with.
    fn tell_drained(&mut self, round: &Round) {
        self.drain_turns += 1;
        let emptied = match round {
            Round::Idle | Round::Broken(_) => true,
            Round::More => self.drain_turns > DRAIN_TURNS_MAX,
        };
        let nothing_held = self.queue.as_ref().is_none_or(Queue::is_idle);
        if emptied
            && nothing_held
            && let Some(drained) = self.drained.take()
        {
            // Nobody listening means that nobody waits for us.
            let _ = drained.send(());
        }
    }

    fn panicked(&mut self) {
        self.panics += 1;
        self.shared.tally.panics.fetch_add(1, Relaxed);
        if self.panics == 1 {
            let message = "a verdict thread panicked; the packet got the posture's answer";
            self.shared.report_health("worker", false, message.to_owned());
        }
        if self.panics.is_multiple_of(PANICS_MAX)
            && let Some(mailbox) = self.mailbox()
        {
            mailbox.report_queue_lost();
        }
        self.pause(PANIC_PAUSE);
    }

    fn round(&mut self) -> Round {
        let Some(queue) = &mut self.queue else {
            return Round::Broken(io::Error::other("it is not open"));
        };
        for _ in 0..PACKETS_PER_ROUND {
            match queue.receive() {
                Received::Packet(packet) => {
                    judge(packet, self.generation, &self.shared, self.number);
                }
                Received::Lost => {}
                Received::Empty => return Round::Idle,
                Received::Closed(error) => return Round::Broken(error),
            }
        }
        Round::More
    }

    fn beat(&self) {
        if let Some(mailbox) = self.mailbox() {
            mailbox.beat.count();
        }
    }

    fn mailbox(&self) -> Option<&Mailbox> {
        self.shared.mailboxes.get(usize::from(self.number))
    }

    /// Takes over what others decided.
    fn take_mail(&mut self) {
        let mail = self.mailbox().map(Mailbox::take).unwrap_or_default();
        self.answers.extend(mail);
    }

    /// Refuses what has waited long enough.
    fn expire(&mut self) {
        let now = clock::now();
        let deadline = self.shared.engine.next_deadline(self.number);
        if deadline.is_some_and(|deadline| deadline <= now.mono) {
            self.answers.extend(self.shared.engine.expire(self.number, now));
        }
    }

    /// Decides everything that waits.
    fn give_up(&mut self, verdict: Verdict) {
        self.answers.extend(self.shared.engine.drain(self.number, verdict, clock::now()));
    }

    fn answer(&mut self) {
        while let Some(Answer { ticket, decision }) = self.answers.pop_front() {
            // In a dry run the packet is long gone, and the queue holds none of that number.
            if let Some(queue) = &mut self.queue
                && ticket.generation == self.generation
            {
                queue.answer_held(ticket.packet, disposition(&decision, &self.shared));
            }
            self.shared.report(decision);
        }
    }

    fn wait(&self) {
        let (Some(mailbox), Some(queue)) = (self.mailbox(), &self.queue) else { return };
        let deadline = self.shared.engine.next_deadline(self.number);
        let patience = deadline.map(|deadline| TimeSpec::from(deadline.since(clock::mono())));
        let mut descriptors = [
            PollFd::new(queue.link().as_fd(), PollFlags::POLLIN),
            PollFd::new(mailbox.descriptor().as_fd(), PollFlags::POLLIN),
        ];
        // An interrupted wait is a short wait.
        let _ = ppoll(&mut descriptors, patience, None);
        let [_, bell] = &descriptors;
        if bell.any().unwrap_or(true) {
            mailbox.hush();
        }
    }

    /// The socket is dead: the kernel has dropped what it held. Opens another as soon as that works.
    fn reopen(&mut self, error: &io::Error) {
        let queue = self.shared.queue_num + self.number;
        let message = format!("queue {queue} failed ({error}) and is opened again");
        self.shared.report_health("queue", false, message);
        self.queue = None;
        self.generation = self.generation.wrapping_add(1);
        self.give_up(Verdict::Drop);
        self.answer();
        let mut pause = REOPEN_PAUSE_MIN;
        while self.shared.phase() == Phase::Serve {
            self.beat();
            match (self.open)() {
                Ok(link) => {
                    // Whoever missed the old socket meanwhile did not mean this one.
                    self.mailbox().map(Mailbox::take_queue_lost);
                    self.queue = Some(new_queue(link, &self.shared));
                    self.shared.tally.reopened.fetch_add(1, Relaxed);
                    let message = format!("queue {queue} is served again");
                    return self.shared.report_health("queue", true, message);
                }
                Err(error) => tracing::warn!("{error}"),
            }
            self.pause(pause);
            pause = (pause * 2).min(REOPEN_PAUSE_MAX);
        }
    }

    fn pause(&self, pause: Duration) {
        let Some(mailbox) = self.mailbox() else { return };
        let mut bell = [PollFd::new(mailbox.descriptor().as_fd(), PollFlags::POLLIN)];
        let _ = ppoll(&mut bell, Some(TimeSpec::from(pause)), None);
        mailbox.hush();
    }
}

fn judge<L: Link>(packet: Packet<'_, L>, generation: u32, shared: &Shared, lane: u16) {
    if packet.was_refused() {
        // Back from NF_REPEAT, so the rule that refuses it is gone: asking again would go round in circles.
        packet.answer(Disposition::Drop);
        shared.tally.unrefused.fetch_add(1, Relaxed);
        return;
    }
    let flow = match packet::parse(packet.payload()) {
        Ok(flow) => flow,
        Err(malformed) => {
            let src = malformed.addresses.map(|(src, _)| src);
            let mode = src.map_or(shared.mode(), |src| shared.engine.mode_at(src));
            packet.answer(refusal(mode, shared));
            shared.report_malformed(&malformed, mode, lane);
            return;
        }
    };
    let ticket = Ticket { generation, packet: packet.id() };
    let step = match shared.phase() {
        Phase::Serve => shared.engine.packet(flow, lane, ticket, clock::now()),
        Phase::Drain | Phase::Close => {
            Step::Decided(shared.engine.stopping(flow, lane, shared.unanswered, clock::now()))
        }
    };
    match step {
        Step::Decided(decision) => {
            packet.answer(disposition(&decision, shared));
            shared.report(decision);
        }
        Step::Hold(mode) => {
            if !shared.canary_way.holds(&flow) {
                shared.tally.held.fetch_add(1, Relaxed);
            }
            match mode {
                Mode::Enforce => packet.hold(),
                Mode::DryRun | Mode::Learn => packet.answer(Disposition::Accept),
            }
        }
        Step::Copy(mode) => {
            shared.tally.copies.fetch_add(1, Relaxed);
            packet.answer(match mode {
                Mode::Enforce => Disposition::Drop,
                Mode::DryRun | Mode::Learn => Disposition::Accept,
            });
        }
    }
}

/// At a stop a packet goes in silence: its retransmission is judged by whoever serves the queue next.
fn disposition(decision: &Decision, shared: &Shared) -> Disposition {
    let owner = decision.owner.as_deref();
    match (decision.mode, decision.verdict, decision.reason) {
        (Mode::DryRun | Mode::Learn, _, _) | (Mode::Enforce, Verdict::Accept, _) => {
            Disposition::Accept
        }
        (Mode::Enforce, Verdict::Drop, Reason::Shutdown) => Disposition::Drop,
        (Mode::Enforce, Verdict::Drop, _) if decision.again => Disposition::Drop,
        (Mode::Enforce, Verdict::Drop, _) => match owner.map(|owner| owner.policy.refuse) {
            None => shared.refuse,
            Some(Refusal::Reset) => Disposition::Refuse,
            Some(Refusal::Drop) => Disposition::Drop,
        },
    }
}

/// The refusal of a packet that says nothing about its flow.
fn refusal(mode: Mode, shared: &Shared) -> Disposition {
    match mode {
        Mode::DryRun | Mode::Learn => Disposition::Accept,
        Mode::Enforce => shared.refuse,
    }
}

fn new_queue<L: Link>(link: L, shared: &Shared) -> Queue<L> {
    let unanswered = match shared.unanswered {
        Verdict::Accept => Disposition::Accept,
        Verdict::Drop => Disposition::Drop,
    };
    Queue::new(link, unanswered, Arc::clone(&shared.queue_stats))
}

#[cfg(test)]
#[path = "lane_test.rs"]
mod tests;
