//! The thread that talks to the daemon, so that keys never wait for it: the status every second, and what keys ask for.

use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::keys::{Change, Job};
use crate::cli::explain;
use crate::cli::lists::{Place, told};
use crate::control::{Question, Status};
use crate::daemon::clock;
use crate::daemon::control::Asker;
use crate::daemon::edit::Edited;

/// How often the status is asked for.
const EVERY: Duration = Duration::from_secs(1);
/// The comment of lines that are written from here.
const NOTE: &str = "by synhold top";

/// What came of it.
#[derive(Debug)]
pub enum Outcome {
    /// How it is; or why nobody says.
    Status(Result<Box<Status>, String>),
    /// An answer to a job.
    Text { title: String, lines: Vec<String> },
}

/// The way to the thread, which ends when this is dropped.
pub struct Worker {
    jobs: Sender<Job>,
    outcomes: Receiver<Outcome>,
}

impl Worker {
    /// Starts it.
    ///
    /// # Errors
    /// If the system gives no thread.
    pub fn start(place: Place) -> Result<Worker> {
        let (jobs, todo) = channel();
        let (done, outcomes) = channel();
        let mut daemon = Daemon { place, asker: None };
        std::thread::Builder::new()
            .name("asks".to_owned())
            .spawn(move || daemon.serve(&todo, &done))
            .context("cannot start the thread that asks the daemon")?;
        Ok(Worker { jobs, outcomes })
    }

    /// Has something done.
    pub fn ask(&self, job: Job) {
        // It ends with us only.
        let _ = self.jobs.send(job);
    }

    /// What came of it so far.
    pub fn outcomes(&self) -> impl Iterator<Item = Outcome> {
        self.outcomes.try_iter()
    }
}

struct Daemon {
    place: Place,
    /// One connection, as long as it lasts.
    asker: Option<Asker>,
}

impl Daemon {
    fn serve(&mut self, jobs: &Receiver<Job>, done: &Sender<Outcome>) {
        loop {
            let next = Instant::now() + EVERY;
            let status = self.status().map_err(|error| format!("{error:#}"));
            if done.send(Outcome::Status(status)).is_err() {
                return;
            }
            match jobs.recv_timeout(next.saturating_duration_since(Instant::now())) {
                Ok(job) => {
                    let (title, lines) = self.job(&job);
                    // Nobody is left to hear it: told by the next sending.
                    let _ = done.send(Outcome::Text { title, lines });
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    fn asker(&mut self) -> Result<&mut Asker> {
        if self.asker.is_none() {
            self.asker = Asker::find(&self.place.state_dir()?)?;
        }
        match &mut self.asker {
            Some(asker) => Ok(asker),
            None => bail!("no synhold runs on {}", self.place.state_dir()?.display()),
        }
    }

    fn status(&mut self) -> Result<Box<Status>> {
        let answer = self.asker().and_then(|asker| asker.ask(&Question::Status {}));
        if answer.is_err() {
            self.asker = None;
        }
        answer.map(Box::new)
    }

    fn job(&mut self, job: &Job) -> (String, Vec<String>) {
        let (title, answer) = match job {
            Job::Explain { address, container } => {
                let container = container.as_deref();
                let title = match container {
                    Some(container) => format!("{address} from {container}"),
                    None => address.to_string(),
                };
                (title, self.explain(*address, container))
            }
            Job::Change(change) => (change.command(), self.change(change)),
        };
        (title, answer.unwrap_or_else(|error| vec![format!("FAILED: {error:#}")]))
    }

    fn explain(
        &mut self,
        address: std::net::IpAddr,
        container: Option<&str>,
    ) -> Result<Vec<String>> {
        let place = self.place.clone();
        let explanation = explain::explain(self.asker()?, &place, address, container)??;
        let text = explain::tell(&explanation, clock::wall());
        Ok(text.lines().map(str::to_owned).collect())
    }

    fn change(&mut self, change: &Change) -> Result<Vec<String>> {
        let state_dir = self.place.state_dir()?;
        let edited: Edited = self.asker()?.ask(&question(change))?;
        Ok(told(&edited, &[], &state_dir.display()))
    }
}

/// The change as the daemon is asked for it.
fn question(change: &Change) -> Question {
    let note = Some(NOTE.to_owned());
    match change {
        Change::Allow(to) => Question::Allow { entries: vec![to.to_string()], time: None, note },
        Change::Block(to) => {
            let (container, time) = Default::default();
            Question::Block { entries: vec![to.to_string()], container, time, note, force: false }
        }
        Change::Quarantine(who) => {
            let (entries, time) = Default::default();
            Question::Block { entries, container: Some(who.clone()), time, note, force: false }
        }
    }
}
