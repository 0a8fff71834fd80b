//! A sink that tells a test what it hears, and a source on a thread of its own.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::engine::health::Batch;

use super::{Answer, Nowhere, Sink, SpawnConfig, Spec, Stop, run};

/// Long enough for a busy machine. A test that passes never waits for it.
const PATIENCE: Duration = Duration::from_secs(20);

/// What a sink heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Address and name of an answer.
    Answer(String),
    Lines(u64),
    CaughtUp,
    Up,
    Down(String),
}

struct Teller(Sender<Heard>);

impl Teller {
    fn tell(&self, heard: Heard) {
        let _ = self.0.send(heard);
    }
}

impl Sink for Teller {
    fn behind(&mut self) {}
    fn answer(&mut self, answer: Answer<'_>) {
        self.tell(Heard::Answer(format!("{} {}", answer.name, answer.address)));
    }
    fn lines(&mut self, batch: Batch) {
        self.tell(Heard::Lines(batch.lines));
    }
    fn caught_up(&mut self) {
        self.tell(Heard::CaughtUp);
    }
    fn up(&mut self) {
        self.tell(Heard::Up);
    }
    fn down(&mut self, why: &str) {
        self.tell(Heard::Down(why.to_owned()));
    }
}

/// A running source. Dropping it stops it.
pub struct Source {
    stop: Stop,
    heard: Receiver<Heard>,
    thread: Option<JoinHandle<()>>,
}

impl Source {
    /// Starts reading `spec`.
    pub fn start(spec: Spec) -> Source {
        Source::with(move |stop, sink| run(&spec, &SpawnConfig::default(), &Nowhere, stop, sink))
    }

    /// Starts whatever reads.
    pub fn with(read: impl FnOnce(&Stop, &mut dyn Sink) + Send + 'static) -> Source {
        let (stop, (teller, heard)) = (Stop::new().unwrap(), channel());
        let raised = stop.clone();
        let thread = std::thread::spawn(move || read(&raised, &mut Teller(teller)));
        Source { stop, heard, thread: Some(thread) }
    }

    /// Waits for what `wanted` picks, and gives all that came before it too.
    pub fn until(&self, wanted: impl Fn(&Heard) -> bool) -> Vec<Heard> {
        let mut all = Vec::new();
        loop {
            match self.heard.recv_timeout(PATIENCE) {
                Ok(heard) => all.push(heard),
                Err(error) => panic!("{error} after {all:?}"),
            }
            if all.last().is_some_and(&wanted) {
                return all;
            }
        }
    }

    /// Waits for all of `names` to be answered, in this order, with nothing between them.
    pub fn answers(&self, names: impl IntoIterator<Item = String>) {
        let mut names: VecDeque<String> = names.into_iter().collect();
        while let Some(name) = names.pop_front() {
            let got = self.until(|heard| matches!(heard, Heard::Answer(_)));
            assert_eq!(
                got.last(),
                Some(&Heard::Answer(format!("{name}.example 192.0.2.1"))),
                "{got:?}"
            );
        }
    }

    /// Waits for a reason that contains `part`.
    pub fn down(&self, part: &str) {
        self.until(|heard| matches!(heard, Heard::Down(why) if why.contains(part)));
    }

    /// Waits until the source is up.
    pub fn up(&self) {
        self.until(|heard| *heard == Heard::Up);
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.stop.raise();
        let ended = self.thread.take().map(JoinHandle::join);
        assert!(std::thread::panicking() || matches!(ended, Some(Ok(()))));
    }
}

/// The lines of one query and its answer.
pub fn lookup(name: &str) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "dnsmasq[1]: query[A] {name}.example from 10.0.0.2");
    let _ = writeln!(text, "dnsmasq[1]: reply {name}.example is 192.0.2.1");
    text
}

/// So many names.
pub fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|n| format!("{prefix}{n}")).collect()
}
