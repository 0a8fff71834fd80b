//! The canary: every minute a packet of our own shows that what nobody resolved is refused, and what was resolved passes.

pub mod seen;

use std::net::{IpAddr, SocketAddrV4};
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
use crate::engine::canary::probe::{Finding, Probe, Sighting, Sign};
use crate::engine::limits::HOLD_MAX;
use crate::engine::lists::Party;
use crate::engine::net::Net;
use crate::engine::{Kind, Mode, Name, Record};
use crate::host::{self, Namespace};
use crate::nftables::Refuse;
use seen::Ear;

/// Pause before the first packet: the rules are in, and whoever waits for us at start does not wait for this.
const FIRST_AFTER: Duration = Duration::from_secs(2);
/// Pause between two looks that found everything as it should be.
pub const EVERY: Duration = Duration::from_secs(60);
/// The same while something is wrong, or nothing can be proved: a person waits to see it right.
const AGAIN_AFTER: Duration = Duration::from_secs(5);
/// Failing looks between two tries with a new link: one a minute.
const RENEW_EVERY: u32 = 12;
/// The least time from a call to the look.
const BREATH: Duration = Duration::from_secs(1);
/// How long a packet may take beyond the longest hold, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long more is awaited once there is a verdict, or something on the wire: the rest takes some microseconds.
const WIRE_PATIENCE: Duration = Duration::from_millis(500);
/// How often a packet that is out is looked for on the way of verdicts.
const STEP: Duration = Duration::from_millis(5);
/// How long the thread may take to end; what it waits for is bounded, what the kernel does for it is not.
const END_PATIENCE: Duration = Duration::from_secs(3);
/// Where its packets go to; nobody listens there.
const PORT: u16 = 443;
/// First source port; each packet has another.
const FIRST_SOURCE_PORT: u16 = 20_000;
const SOURCE_PORTS: u16 = 10_000;
/// The name of what is resolved. RFC 2606: nobody else's.
const NAME: &str = "canary.synhold.invalid";

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
            match Place::free(&taken) {
                Some(place) => return RuleConfig { canary: Some(place.judged()), ..wanted },
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
    let place = wanted.canary.and_then(|net| Place::of_sender(net.address()))?;
    let ear = shared.canary_way.open(place)?;
    set(shared, CanaryState::Waiting, "it has not flown yet".to_owned());
    let stopped = Arc::new(AtomicBool::new(false));
    let (alive, ended) = channel();
    let bird = Bird {
        shared: Arc::clone(shared),
        place,
        ear,
        stopped: Arc::clone(&stopped),
        silent: wanted.refuse == Refuse::Drop,
        turn: 0,
        failed: 0,
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
    place: Place,
    ear: Ear,
    stopped: Arc<AtomicBool>,
    silent: bool,
    turn: u32,
    /// Looks in a row that found something wrong.
    failed: u32,
    /// It was told that something is wrong.
    alarmed: bool,
}

impl Bird {
    fn live(mut self) {
        let mut namespace = match Namespace::enter(self.place) {
            Ok(namespace) => namespace,
            Err(error) => return unable(&self.shared, error.to_string()),
        };
        let mut pause = FIRST_AFTER;
        while self.rest(pause) {
            // A fault of ours is no reason to end what it watches.
            let look = AssertUnwindSafe(|| self.look(&mut namespace));
            let (state, message) = catch_unwind(look).unwrap_or((
                CanaryState::Waiting,
                "its thread panicked: please report it".to_owned(),
            ));
            // What was out when we were told to stop has proved nothing.
            if self.is_stopped() {
                return;
            }
            pause = if state == CanaryState::Passing { EVERY } else { AGAIN_AFTER };
            self.tell(state, message);
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
    fn tell(&mut self, state: CanaryState, message: String) {
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
    }

    fn look(&mut self, namespace: &mut Namespace) -> (CanaryState, String) {
        if let Some(why) = self.obstacle(namespace) {
            return (CanaryState::Waiting, why.to_owned());
        }
        // Once may be a machine that was too busy for a moment.
        let finding = match self.fly(namespace) {
            Finding::Bad(_) => self.fly(namespace),
            other => other,
        };
        let finding = match finding {
            Finding::Bad(_) if self.failed.is_multiple_of(RENEW_EVERY) => self.fly_anew(namespace),
            other => other,
        };
        self.failed = if matches!(finding, Finding::Bad(_)) { self.failed + 1 } else { 0 };
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
    fn fly_anew(&mut self, namespace: &mut Namespace) -> Finding {
        match namespace.renew(self.place) {
            Ok(()) => self.fly(namespace),
            Err(error) => Finding::Bad(format!("its link cannot be made anew: {error}")),
        }
    }

    /// Why nothing can be proved now.
    fn obstacle(&self, namespace: &Namespace) -> Option<&'static str> {
        if !namespace.is_forwarding() {
            return Some(
                "this host forwards nothing (net.ipv4.ip_forward is 0), so no container reaches the outside either",
            );
        }
        if self.shared.engine.is_learning() {
            return Some("nothing is refused while the learning period lasts");
        }
        let (src, dst) = (IpAddr::V4(self.place.sender()), self.place.destination(self.turn));
        let lists = self.shared.engine.lists();
        let listed = lists.judge(&Party::alone(&src), dst.into(), self.shared.engine.registry());
        listed
            .map(|_| "the lists name 198.18.0.0/15, where it lives, so its packets are not judged")
    }

    /// Sends both packets.
    fn fly(&mut self, namespace: &Namespace) -> Finding {
        let probe = self.probe();
        // Nobody knows it, whatever an earlier run has saved.
        self.shared.engine.registry().forget(IpAddr::V4(*probe.dst.ip()));
        let refused = match self.send(namespace, probe) {
            Ok(sighting) => sighting.of_unresolved(self.silent),
            Err(error) => return Finding::Bad(format!("its packet cannot be sent: {error}")),
        };
        if refused != Finding::Good(None) {
            return refused;
        }
        let probe = self.probe();
        self.resolve(&probe);
        let accepted = self.send(namespace, probe);
        self.shared.engine.registry().forget(IpAddr::V4(*probe.dst.ip()));
        match accepted {
            Ok(sighting) => sighting.of_resolved(),
            Err(error) => Finding::Bad(format!("its packet cannot be sent: {error}")),
        }
    }

    /// The next packet.
    fn probe(&mut self) -> Probe {
        self.turn = self.turn.wrapping_add(1);
        let port = u16::try_from(self.turn % u32::from(SOURCE_PORTS)).unwrap_or_default();
        Probe {
            src: SocketAddrV4::new(self.place.sender(), FIRST_SOURCE_PORT + port),
            dst: SocketAddrV4::new(self.place.destination(self.turn), PORT),
            mark: self.turn,
        }
    }

    /// Puts a record in, from where the readers of logs put theirs; no DNS server is asked.
    fn resolve(&self, probe: &Probe) {
        let Ok(name) = Name::new(NAME) else { return };
        let now = clock::now();
        let record = Record {
            address: IpAddr::V4(*probe.dst.ip()),
            name,
            client: Some(IpAddr::V4(*probe.src.ip())),
            kind: Kind::Reply,
            chain: Vec::new(),
            time: now.wall,
        };
        let recorded = self.shared.engine.record(&record, now);
        self.shared.deliver(recorded.released);
    }

    /// Sends one packet and watches until all is known of it, or the time is up.
    fn send(&self, namespace: &Namespace, probe: Probe) -> std::io::Result<Sighting> {
        while self.ear.verdicts.try_recv().is_ok() {}
        namespace.send(&probe.bytes(), *probe.dst.ip())?;
        let (began, mut sighting) = (Instant::now(), Sighting::default());
        let mut end = began + HOLD_MAX + PATIENCE;
        while !sighting.is_whole(self.silent) && Instant::now() < end && !self.is_stopped() {
            let before = sighting;
            match namespace.receive(STEP)?.and_then(|packet| probe.sign(&packet)) {
                Some(Sign::Arrived) => sighting.arrived = true,
                Some(Sign::Refused) => sighting.refused = true,
                None => {}
            }
            let dst = IpAddr::V4(*probe.dst.ip());
            let seen = self.ear.verdicts.try_iter().find(|seen| seen.dst == dst);
            sighting.verdict = seen.map(|seen| seen.verdict).or(sighting.verdict);
            if sighting != before {
                // Something came of it: the rest is not far.
                end = end.min(Instant::now() + WIRE_PATIENCE);
            }
        }
        Ok(sighting)
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
    *canary = State { state, message, unable: false, passed, at };
}

/// It is wanted, and there is none.
fn unable(shared: &Shared, why: String) {
    set(shared, CanaryState::Off, why);
    shared.canary().unable = true;
}
