//! The canary: every minute a packet of our own shows that what nobody resolved is refused, and what was resolved passes.

mod both;
mod flight;
pub mod seen;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use super::clock;
use super::shared::Shared;
use crate::config::{Config, RuleConfig};
use crate::control::{Canary as State, CanaryState};
use crate::engine::canary::Place;
use crate::engine::canary::probe::Finding;
use crate::engine::lists::Party;
use crate::engine::net::{Family, Net};
use crate::engine::{Mode, Wall};
use crate::host::{self, Namespace};
use crate::nftables::Refuse;
use both::Found;
use seen::Ear;

/// Pause before the first packet: the rules are in, and whoever waits for us at start does not wait for this.
const FIRST_AFTER: Duration = Duration::from_secs(2);
/// Pause between two looks that found everything as it should be.
pub const EVERY: Duration = Duration::from_secs(60);
/// The same while something is wrong, or nothing can be proved: a person waits to see it right.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Failing looks between two tries with a new link: one a minute.
const RENEW_EVERY: u32 = 12;
/// More packets than are sent in a second.
const TURNS_A_SECOND: u64 = 8;
/// The least time from a call to the look.
const BREATH: Duration = Duration::from_secs(1);
/// How long the thread may take to end; what it waits for is bounded, what the kernel does for it is not.
const END_PATIENCE: Duration = Duration::from_secs(3);

/// The running thread; dropped, it ends and its link is gone.
pub struct Canary {
    shared: Arc<Shared>,
    stopped: Arc<AtomicBool>,
    ended: Receiver<()>,
}

/// Adds the canary's place to what is judged, if there is to be one; else says why not.
pub fn place(config: &Config, wanted: RuleConfig, shared: &Shared) -> RuleConfig {
    let why = match config.engine.mode {
        _ if !config.desk.canary => "it is switched off (--canary off)",
        Mode::DryRun | Mode::Learn => {
            "nothing is refused in a dry run, so there is nothing to prove"
        }
        Mode::Enforce => {
            let routes = host::destinations().into_iter();
            // What a killed run has left goes when we start.
            let routes = routes.filter(|(by, _)| by != host::CANARY_LINK).map(|(_, net)| net);
            let own = wanted.host.iter().map(|on| Net::from(on.address));
            let taken: Vec<Net> =
                routes.chain(own).chain(wanted.containers.iter().copied()).collect();
            let place = |family| Place::free(family, &taken).map(Place::judged);
            match place(Family::V4) {
                Some(v4) => {
                    let v6 = place(Family::V6).filter(|_| host::has_ipv6());
                    return RuleConfig {
                        canary: [Some(v4), v6].into_iter().flatten().collect(),
                        ..wanted
                    };
                }
                None => {
                    "this host routes all of 198.18.0.0/15, where it would live: say --canary off"
                }
            }
        }
    };
    set(shared, CanaryState::Off, why.to_owned());
    shared.canary().unable = config.desk.canary && config.engine.mode == Mode::Enforce;
    wanted
}

/// Starts it, where [`place`] found one.
pub fn start(wanted: &RuleConfig, shared: &Arc<Shared>) -> Option<Canary> {
    let senders = wanted.canary.iter();
    let places: Vec<Place> = senders.filter_map(|net| Place::of_sender(net.address())).collect();
    if places.is_empty() {
        return None;
    }
    let ear = shared.canary_way.open(places.clone())?;
    set(shared, CanaryState::Waiting, "it has not flown yet".to_owned());
    let stopped = Arc::new(AtomicBool::new(false));
    let (alive, ended) = channel();
    let bird = Bird {
        shared: Arc::clone(shared),
        halves: Vec::new(),
        places,
        judged6: wanted.containers.iter().any(|net| net.family() == Family::V6),
        ear,
        stopped: Arc::clone(&stopped),
        silent: wanted.refuse == Refuse::Drop,
        turn: first_turn(clock::wall()),
        alarmed: false,
    };
    let run = move || {
        bird.live();
        drop(alive);
    };
    let started = std::thread::Builder::new().name("canary".to_owned()).spawn(run);
    match started {
        Ok(_) => Some(Canary { shared: Arc::clone(shared), stopped, ended }),
        Err(error) => {
            unable(shared, format!("there is no thread for it: {error}"));
            None
        }
    }
}

/// Where a run begins, so that none sends again what the kernel remembers of the one before: that of a first packet
/// without an answer lasts for minutes, and lets the next like it pass unasked.
fn first_turn(now: Wall) -> u32 {
    let seconds = now.0 / 1_000_000;
    u32::try_from(seconds * TURNS_A_SECOND % u64::from(u32::MAX)).unwrap_or_default()
}

impl Drop for Canary {
    fn drop(&mut self) {
        self.stopped.store(true, SeqCst);
        self.shared.canary_way.call();
        if self.ended.recv_timeout(END_PATIENCE) == Err(RecvTimeoutError::Timeout) {
            tracing::warn!("the canary does not come home; its link goes with the process");
        }
    }
}

struct Bird {
    shared: Arc<Shared>,
    places: Vec<Place>,
    halves: Vec<Half>,
    /// Whether a network of IPv6 was to be judged from the start.
    judged6: bool,
    ear: Ear,
    stopped: Arc<AtomicBool>,
    silent: bool,
    turn: u32,
    /// It was told that something is wrong.
    alarmed: bool,
}

/// What flies in one family.
struct Half {
    place: Place,
    /// Looks in a row that found something wrong.
    failed: u32,
    /// It has passed once.
    passed: bool,
    /// Looks in a row in which its link lacked it.
    lacked: u32,
}

impl Half {
    fn new(place: Place) -> Half {
        Half { place, failed: 0, passed: false, lacked: 0 }
    }
}

/// Why nothing can be proved.
enum Obstacle {
    /// There is nothing to prove.
    Off(&'static str),
    /// Now.
    Now(&'static str),
    /// We cannot.
    Lacks(String),
}

impl Bird {
    fn live(mut self) {
        let mut namespace = match Namespace::enter(&self.places) {
            Ok(namespace) => namespace,
            Err(error) => return unable(&self.shared, error.to_string()),
        };
        let mut pause = FIRST_AFTER;
        while self.rest(pause) {
            // A fault of ours is no reason to end what it watches.
            let look = AssertUnwindSafe(|| self.look_all(&mut namespace));
            let found = catch_unwind(look).unwrap_or_default();
            let (state, message) = match &found[..] {
                [] => (CanaryState::Waiting, "its thread panicked: please report it".to_owned()),
                found => both::sum(found),
            };
            // What was out when we were told to stop has proved nothing.
            if self.is_stopped() {
                return;
            }
            pause = if state == CanaryState::Passing { EVERY } else { AGAIN_AFTER };
            self.tell(state, message, found);
        }
    }

    /// Waits until it is time to look, or something changed; false if it is time to end.
    fn rest(&self, pause: Duration) -> bool {
        let called = self.ear.calls.recv_timeout(pause).is_ok();
        if called && !self.is_stopped() {
            // What is changing may not be done, and of those who call much nobody keeps it flying.
            let end = Instant::now() + BREATH;
            while !self.is_stopped() {
                let left = end.saturating_duration_since(Instant::now());
                if self.ear.calls.recv_timeout(left).is_err() {
                    break;
                }
            }
        }
        !self.is_stopped()
    }

    /// Notes what was found; a person is told of the first time it is wrong, and of the first time it is right again.
    fn tell(&mut self, state: CanaryState, message: String, found: Vec<Found>) {
        let healthy = match (state, self.alarmed) {
            (CanaryState::Failing, false) => Some(false),
            (CanaryState::Passing, true) => Some(true),
            _ => None,
        };
        if let Some(healthy) = healthy {
            self.alarmed = !healthy;
            self.shared.report_health("canary", healthy, format!("the canary: {message}"));
        }
        set(&self.shared, state, message);
        self.shared.canary().families = both::each(found);
    }

    fn look_all(&mut self, namespace: &mut Namespace) -> Vec<Found> {
        // At first, and after a panic.
        if self.halves.is_empty() {
            self.halves = self.places.iter().copied().map(Half::new).collect();
        }
        let mut found = Vec::new();
        for mut half in std::mem::take(&mut self.halves) {
            let (state, message) = self.look(&mut half, namespace);
            found.push(Found { family: half.place.family(), state, message });
            self.halves.push(half);
        }
        found
    }

    fn look(&mut self, half: &mut Half, namespace: &mut Namespace) -> (CanaryState, String) {
        match self.obstacle(half.place, namespace) {
            Some(Obstacle::Off(why)) => return (CanaryState::Off, why.to_owned()),
            Some(Obstacle::Now(why)) => return (CanaryState::Waiting, why.to_owned()),
            Some(Obstacle::Lacks(why)) => {
                if half.lacked % RENEW_EVERY == 1 {
                    // What was in its way may be gone by now; if not, that is told as it was.
                    let _ = namespace.renew(&self.places);
                }
                half.lacked += 1;
                // What has been proved once, and is proved no more, is for a person to know.
                let state = if half.passed { CanaryState::Waiting } else { CanaryState::Off };
                return (state, why);
            }
            None => half.lacked = 0,
        }
        // Once may be a machine that was too busy for a moment.
        let finding = match self.fly(half.place, namespace) {
            Finding::Bad(_) => self.fly(half.place, namespace),
            other => other,
        };
        let finding = match finding {
            Finding::Bad(_) if half.failed.is_multiple_of(RENEW_EVERY) => {
                self.fly_anew(half.place, namespace)
            }
            other => other,
        };
        half.failed = if matches!(finding, Finding::Bad(_)) { half.failed + 1 } else { 0 };
        half.passed |= matches!(finding, Finding::Good(_));
        match finding {
            Finding::Good(None) => (
                CanaryState::Passing,
                "an unresolved address was refused, a resolved one was reached".to_owned(),
            ),
            Finding::Good(Some(note)) => (
                CanaryState::Passing,
                format!("an unresolved address was refused, a resolved one was {note}"),
            ),
            Finding::Unsure(why) => (CanaryState::Waiting, why.to_owned()),
            Finding::Bad(what) => (CanaryState::Failing, what),
        }
    }

    /// The same with another link: somebody may have taken away the one there was, or its route.
    fn fly_anew(&mut self, place: Place, namespace: &mut Namespace) -> Finding {
        match namespace.renew(&self.places) {
            Ok(()) => self.fly(place, namespace),
            Err(error) => Finding::Bad(format!("its link cannot be made anew: {error}")),
        }
    }

    /// Why nothing can be proved of a family.
    fn obstacle(&self, place: Place, namespace: &Namespace) -> Option<Obstacle> {
        let family = place.family();
        match (family, namespace.is_forwarding(family)) {
            (Family::V4, false) => {
                return Some(Obstacle::Now(
                    "this host forwards no IPv4 (net.ipv4.ip_forward is 0), so no container reaches the outside by it either",
                ));
            }
            (Family::V6, false) => {
                return Some(Obstacle::Off(
                    "this host forwards no IPv6 (net.ipv6.conf.all.forwarding is 0), so no container reaches the outside by it either",
                ));
            }
            (Family::V6, true) if namespace.is_without_ipv6() => {
                return Some(Obstacle::Off("this host has IPv6 switched off"));
            }
            (Family::V6, true) if !self.has_containers_of_6() => {
                return Some(Obstacle::Off("no container has IPv6"));
            }
            (Family::V4 | Family::V6, true) => {}
        }
        if let Some(why) = namespace.lacks().filter(|_| family == Family::V6) {
            return Some(Obstacle::Lacks(format!("its link cannot have IPv6: {why}")));
        }
        if self.shared.engine.is_learning() {
            return Some(Obstacle::Now("nothing is refused while the learning period lasts"));
        }
        let (src, dst) = (place.sender(), place.destination(self.turn));
        let lists = self.shared.engine.lists();
        lists.judge(&Party::alone(&src), dst, self.shared.engine.registry())?;
        Some(Obstacle::Now(match family {
            Family::V4 => {
                "the lists name 198.18.0.0/15, where it lives, so its packets are not judged"
            }
            Family::V6 => {
                "the lists name 2001:2::/48, where it lives, so its packets are not judged"
            }
        }))
    }

    fn has_containers_of_6(&self) -> bool {
        self.judged6 || self.shared.engine.owners().iter().any(|(address, _)| address.is_ipv6())
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(SeqCst)
    }
}

fn set(shared: &Shared, state: CanaryState, message: String) {
    let at = match state {
        CanaryState::Off => None,
        _ => Some(clock::wall()),
    };
    let mut canary = shared.canary();
    let passed = canary.passed || state == CanaryState::Passing;
    *canary = State { state, message, unable: false, passed, at, families: Vec::new() };
}

/// It is wanted, and there is none.
fn unable(shared: &Shared, why: String) {
    set(shared, CanaryState::Off, why);
    shared.canary().unable = true;
}
