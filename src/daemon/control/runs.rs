//! Answers that take a while: one at a time for those who may change things, and one for all others, so that neither
//! sort waits for the other, and nobody for either who asks for what is there at once.

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context as _, Result};
use serde::Serialize;
use serde_json::Value;

use crate::control::{Bell, Fault, FaultKind, Peer, Pending, Promise, Said};

/// Answers of each sort that wait for one in the making: each takes some seconds at most, and nobody waits longer than
/// [`crate::control::LATER_PATIENCE`].
const WAITING_MAX: usize = 4;

type Run = Box<dyn FnOnce() -> Result<Value, Fault> + Send>;

/// The way to the threads. They end when this is dropped, and nobody waits for them.
#[derive(Debug)]
pub struct Runs {
    masters: SyncSender<Job>,
    members: SyncSender<Job>,
    /// Members one of whose answers waits.
    waiting: Arc<Mutex<BTreeSet<u32>>>,
}

struct Job {
    run: Run,
    promise: Promise,
    _turn: Option<Turn>,
}

/// A place of a member among those that wait, until this is dropped.
struct Turn {
    uid: u32,
    waiting: Arc<Mutex<BTreeSet<u32>>>,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.uid);
    }
}

impl Runs {
    /// Starts the threads.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn start(bell: &Bell) -> Result<Runs> {
        let (masters, members) = (start("answers", bell)?, start("answers-group", bell)?);
        Ok(Runs { masters, members, waiting: Arc::default() })
    }

    /// Has an answer made.
    ///
    /// # Errors
    /// If too many of its sort wait, or one for the same member does.
    pub fn ask<A: Serialize>(
        &self,
        peer: &Peer,
        make: impl FnOnce() -> Result<A, Fault> + Send + 'static,
    ) -> Result<Said, Fault> {
        let (way, turn) = match peer.may_change {
            true => (&self.masters, None),
            false => (&self.members, Some(self.turn(peer.uid)?)),
        };
        let (pending, promise) = Pending::new();
        let run: Run = Box::new(move || make().and_then(|answer| value(&answer)));
        match way.try_send(Job { run, promise, _turn: turn }) {
            Ok(()) => Ok(Said::Later(pending)),
            Err(TrySendError::Full(_)) => {
                let text = format!("{WAITING_MAX} long answers wait already: try again");
                Err(Fault::new(FaultKind::Busy, text))
            }
            Err(TrySendError::Disconnected(_)) => {
                Err(Fault::new(FaultKind::Failed, "the thread that makes long answers has ended"))
            }
        }
    }

    /// One of each member waits, so that nobody fills all places.
    fn turn(&self, uid: u32) -> Result<Turn, Fault> {
        let is_first = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(uid);
        match is_first {
            true => Ok(Turn { uid, waiting: Arc::clone(&self.waiting) }),
            false => {
                let text = "another long answer for you waits already: try again";
                Err(Fault::new(FaultKind::Busy, text))
            }
        }
    }
}

fn start(name: &str, bell: &Bell) -> Result<SyncSender<Job>> {
    let (way, work) = sync_channel(WAITING_MAX);
    let bell = bell.clone();
    std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || serve(&work, &bell))
        .context("cannot start a thread that answers")?;
    Ok(way)
}

/// An answer as it stands on a line.
pub fn value(answer: &impl Serialize) -> Result<Value, Fault> {
    let failed = |error: serde_json::Error| Fault::new(FaultKind::Failed, error.to_string());
    serde_json::to_value(answer).map_err(failed)
}

fn serve(work: &Receiver<Job>, bell: &Bell) {
    while let Ok(Job { run, promise, _turn: turn }) = work.recv() {
        drop(turn);
        // Of those that wait for nobody none is made.
        if !promise.is_wanted() {
            continue;
        }
        // One list that cannot be read must not end all answers. The promise that is not kept tells the client.
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(answer) => promise.keep(answer),
            Err(_) => drop(promise),
        }
        bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};

    use super::*;

    fn peer(may_change: bool) -> Peer {
        Peer { connection: 0, uid: 0, pid: 0, may_change }
    }

    fn member(uid: u32) -> Peer {
        Peer { uid, ..peer(false) }
    }

    fn later(said: Result<Said, Fault>) -> Pending {
        match said {
            Ok(Said::Later(pending)) => pending,
            _ => panic!("it is made later"),
        }
    }

    /// An answer that begins when the returned receiver says so, and ends with the sender.
    fn slow(runs: &Runs, may_change: bool) -> (Pending, Receiver<()>, Sender<()>) {
        let (begun, begins) = channel();
        let (end, ends) = channel::<()>();
        let run = move || {
            begun.send(()).unwrap();
            let _ = ends.recv();
            Ok("slow")
        };
        (later(runs.ask(&peer(may_change), run)), begins, end)
    }

    fn runs() -> Runs {
        Runs::start(&Bell::new().unwrap()).unwrap()
    }

    #[test]
    fn members_run_one_at_a_time_and_keep_no_master_waiting() {
        let runs = runs();
        let (first, begun, end) = slow(&runs, false);
        begun.recv().unwrap();
        let members = 1..=u32::try_from(WAITING_MAX).unwrap();
        let waiting: Vec<Pending> =
            members.map(|uid| later(runs.ask(&member(uid), move || Ok(uid)))).collect();
        let Err(fault) = runs.ask(&member(77), || Ok(())) else { panic!("it is too much") };
        assert_eq!(fault.kind, FaultKind::Busy);
        assert!(waiting.iter().all(|one| one.try_take().is_err()), "one at a time");
        assert_eq!(later(runs.ask(&peer(true), || Ok("root"))).wait(), Ok(Value::from("root")));
        drop(end);
        assert_eq!(first.wait(), Ok(Value::from("slow")));
        for (uid, one) in (1..).zip(&waiting) {
            assert_eq!(one.wait(), Ok(Value::from(uid)));
        }
    }

    #[test]
    fn of_each_member_one_answer_waits_so_that_there_is_room_for_others() {
        let runs = runs();
        let (first, begun, end) = slow(&runs, false);
        begun.recv().unwrap();
        let second = later(runs.ask(&member(0), || Ok(2)));
        let Err(fault) = runs.ask(&member(0), || Ok(3)) else { panic!("one waits already") };
        assert!(fault.kind == FaultKind::Busy && fault.message.contains("for you"), "{fault}");
        let others = later(runs.ask(&member(1), || Ok(4)));
        drop(end);
        let all = [first, second, others].map(|one| one.wait().unwrap());
        assert_eq!(all, [Value::from("slow"), Value::from(2), Value::from(4)]);
        assert_eq!(later(runs.ask(&member(0), || Ok(5))).wait(), Ok(Value::from(5)));
    }

    #[test]
    fn nothing_is_made_for_whoever_has_gone() {
        let runs = runs();
        let (_first, begun, end) = slow(&runs, false);
        begun.recv().unwrap();
        let (made, makes) = channel();
        let ask = |n: u32| {
            let made = made.clone();
            later(runs.ask(&member(n + 1), move || {
                made.send(n).unwrap();
                Ok(n)
            }))
        };
        drop(ask(0));
        let stays = ask(1);
        drop(end);
        assert_eq!(stays.wait(), Ok(Value::from(1)));
        assert_eq!(makes.try_iter().collect::<Vec<u32>>(), [1]);
    }

    #[test]
    fn an_answer_that_panics_is_the_only_one_that_is_not_given() {
        let runs = runs();
        let broken = later(runs.ask(&peer(false), || -> Result<(), Fault> { panic!("a test's") }));
        assert_eq!(later(runs.ask(&member(1), || Ok(1))).wait(), Ok(Value::from(1)));
        assert_eq!(broken.try_take(), Err(std::sync::mpsc::TryRecvError::Disconnected));
    }
}
