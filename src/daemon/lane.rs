//! A verdict thread: one queue, one mailbox, and nothing else it could wait for.

use std::io;
use std::os::fd::AsFd as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::Sender;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use super::clock;
use super::shared::{Mailbox, Phase, Shared};
use crate::engine::judge::{Answer, Mode, Step};
use crate::engine::limits::{PACKETS_PER_ROUND, REOPEN_PAUSE_MAX, REOPEN_PAUSE_MIN};
use crate::engine::{Reason, Verdict, packet};
use crate::nfq::{Disposition, KernelLink, Options, Packet, Queue, Received};

/// Panics in a row after which the socket is not trusted any more.
const PANICS_MAX: u32 = 16;

/// One verdict thread's state.
pub struct Lane {
    number: u16,
    options: Options,
    /// None only while it is being opened again: the number is free once the old socket is closed.
    queue: Option<Queue<KernelLink>>,
    shared: Arc<Shared>,
    drained: Option<Sender<()>>,
}

enum Round {
    More,
    Idle,
    Broken(io::Error),
}

impl Lane {
    /// Opens the queue of lane `number`. `drained` is told once nothing is held any more in [`Phase::Drain`].
    ///
    /// # Errors
    /// If the queue cannot be opened, with a sentence that says what to do.
    pub fn open(
        number: u16,
        options: Options,
        shared: Arc<Shared>,
        drained: Sender<()>,
    ) -> io::Result<Lane> {
        let queue = open_queue(options, &shared)?;
        Ok(Lane { number, options, queue: Some(queue), shared, drained: Some(drained) })
    }

    /// Serves until [`Phase::Close`].
    pub fn run(mut self) {
        loop {
            match self.shared.phase() {
                Phase::Serve => {}
                Phase::Drain => self.drain(),
                Phase::Close => return,
            }
            self.deliver();
            self.expire();
            match self.round() {
                Round::More => {}
                Round::Idle => self.wait(),
                Round::Broken(error) => self.reopen(&error),
            }
        }
    }

    fn round(&mut self) -> Round {
        if self.mailbox().is_some_and(Mailbox::take_queue_lost) {
            return Round::Broken(io::Error::other("the kernel no longer has it"));
        }
        let mut panics = 0;
        let Some(queue) = &mut self.queue else {
            return Round::Broken(io::Error::other("no queue"));
        };
        for _ in 0..PACKETS_PER_ROUND {
            let (shared, number) = (&self.shared, self.number);
            // The guard has answered the packet by the time a panic arrives here; the engine's lock forgives.
            match catch_unwind(AssertUnwindSafe(|| one(queue, shared, number))) {
                Ok(None) => panics = 0,
                Ok(Some(round)) => return round,
                Err(_) => {
                    panics += 1;
                    self.shared.tally.panics.fetch_add(1, Relaxed);
                    if panics == PANICS_MAX {
                        return Round::Broken(io::Error::other(
                            "the verdict thread panics on every packet",
                        ));
                    }
                }
            }
        }
        Round::More
    }

    fn mailbox(&self) -> Option<&Mailbox> {
        self.shared.mailboxes.get(usize::from(self.number))
    }

    /// Answers what others decided.
    fn deliver(&mut self) {
        let Some(mailbox) = self.mailbox() else { return };
        let answers = mailbox.take();
        self.answer(answers);
    }

    /// Refuses what has waited long enough.
    fn expire(&mut self) {
        let now = clock::now();
        if self
            .shared
            .engine
            .next_deadline(self.number)
            .is_some_and(|deadline| deadline <= now.mono)
        {
            let answers = self.shared.engine.expire(self.number, now);
            self.answer(answers);
        }
    }

    fn drain(&mut self) {
        self.deliver();
        let answers = self.shared.engine.drain(self.number, self.shared.unanswered, clock::mono());
        self.answer(answers);
        if let Some(drained) = self.drained.take() {
            // Nobody listening means that nobody waits for us.
            let _ = drained.send(());
        }
    }

    fn answer(&mut self, answers: Vec<Answer<u32>>) {
        for Answer { ticket, decision } in answers {
            if let (Some(queue), Mode::Enforce) = (&mut self.queue, self.shared.mode()) {
                queue.answer_held(
                    ticket,
                    disposition(decision.verdict, decision.reason, &self.shared),
                );
            }
            self.shared.report(decision);
        }
    }

    fn wait(&self) {
        let Some(mailbox) = self.mailbox() else { return };
        let Some(queue) = &self.queue else { return };
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
        let queue = self.options.number;
        self.shared.report_health(
            "queue",
            false,
            format!("queue {queue} failed ({error}) and is opened again"),
        );
        let lost = self.shared.engine.drain(self.number, self.shared.unanswered, clock::mono());
        self.answer(lost);
        self.queue = None;
        let mut pause = REOPEN_PAUSE_MIN;
        while self.shared.phase() != Phase::Close {
            match open_queue(self.options, &self.shared) {
                Ok(fresh) => {
                    self.queue = Some(fresh);
                    self.deliver();
                    self.shared.tally.reopened.fetch_add(1, Relaxed);
                    self.shared.report_health(
                        "queue",
                        true,
                        format!("queue {queue} is served again"),
                    );
                    return;
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

/// Takes one packet and judges it; some round if there was none.
fn one(queue: &mut Queue<KernelLink>, shared: &Shared, lane: u16) -> Option<Round> {
    match queue.receive() {
        Received::Packet(packet) => {
            judge(packet, shared, lane);
            None
        }
        Received::Lost => None,
        Received::Empty => Some(Round::Idle),
        Received::Closed(error) => Some(Round::Broken(error)),
    }
}

fn judge(packet: Packet<'_, KernelLink>, shared: &Shared, lane: u16) {
    let flow = match packet::parse(packet.payload()) {
        Ok(flow) => flow,
        Err(malformed) => {
            packet.answer(disposition(Verdict::Drop, Reason::Malformed, shared));
            shared.report_malformed(&malformed, lane);
            return;
        }
    };
    let step = match shared.phase() {
        Phase::Serve => shared.engine.packet(flow, lane, packet.id(), clock::mono()),
        Phase::Drain | Phase::Close => {
            Step::Decided(shared.engine.stopping(flow, lane, shared.unanswered))
        }
    };
    match (step, shared.mode()) {
        (Step::Decided(decision), _) => {
            packet.answer(disposition(decision.verdict, decision.reason, shared));
            shared.report(decision);
        }
        (Step::Hold, mode) => {
            shared.tally.held.fetch_add(1, Relaxed);
            match mode {
                Mode::Enforce => packet.hold(),
                Mode::DryRun => packet.answer(Disposition::Accept),
            }
        }
        (Step::Copy, mode) => {
            shared.tally.copies.fetch_add(1, Relaxed);
            packet.answer(match mode {
                Mode::Enforce => Disposition::Drop,
                Mode::DryRun => Disposition::Accept,
            });
        }
    }
}

/// At a stop a packet goes in silence: its retransmission is judged by whoever serves the queue next.
fn disposition(verdict: Verdict, reason: Reason, shared: &Shared) -> Disposition {
    match (shared.mode(), verdict, reason) {
        (Mode::DryRun, _, _) | (Mode::Enforce, Verdict::Accept, _) => Disposition::Accept,
        (Mode::Enforce, Verdict::Drop, Reason::Shutdown) => Disposition::Drop,
        (Mode::Enforce, Verdict::Drop, _) => shared.refuse,
    }
}

fn open_queue(options: Options, shared: &Shared) -> io::Result<Queue<KernelLink>> {
    let unanswered = match shared.unanswered {
        Verdict::Accept => Disposition::Accept,
        Verdict::Drop => Disposition::Drop,
    };
    let link = KernelLink::open(options)?;
    Ok(Queue::new(link, unanswered, Arc::clone(&shared.queue_stats)))
}
