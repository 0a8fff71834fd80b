//! One packet to an address that nobody resolved, and one to an address that was, and what is seen of both.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::Bird;
use crate::daemon::clock;
use crate::engine::canary::Place;
use crate::engine::canary::probe::{Finding, Probe, Sighting, Sign};
use crate::engine::limits::HOLD_MAX;
use crate::engine::net::Family;
use crate::engine::{Kind, Name, Record};
use crate::host::Namespace;

/// How long a packet may take beyond the longest hold, on a machine that is busy.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long more is awaited once there is a verdict, or something on the wire: the rest takes some microseconds.
const WIRE_PATIENCE: Duration = Duration::from_millis(500);
/// How often a packet that is out is looked for on the way of verdicts.
const STEP: Duration = Duration::from_millis(5);
/// Where its packets go to; nobody listens there.
const PORT: u16 = 443;
/// First source port; each packet has another.
const FIRST_SOURCE_PORT: u16 = 20_000;
const SOURCE_PORTS: u16 = 10_000;
/// The name of what is resolved. RFC 2606: nobody else's.
const NAME: &str = "canary.synhold.invalid";

impl Bird {
    /// Sends both packets of a family.
    pub(super) fn fly(&mut self, place: Place, namespace: &Namespace) -> Finding {
        let probe = self.probe(place);
        // Nobody knows it, whatever an earlier run has saved.
        self.shared.engine.registry().forget(probe.dst.ip());
        let refused = match self.send(namespace, probe) {
            Ok(sighting) => sighting.of_unresolved(self.silent),
            Err(error) => return Finding::Bad(format!("its packet cannot be sent: {error}")),
        };
        if refused != Finding::Good(None) {
            return refused;
        }
        let probe = self.probe(place);
        self.resolve(&probe);
        let accepted = self.send(namespace, probe);
        self.shared.engine.registry().forget(probe.dst.ip());
        match accepted {
            Ok(sighting) => sighting.of_resolved(),
            Err(error) => Finding::Bad(format!("its packet cannot be sent: {error}")),
        }
    }

    /// The next packet.
    fn probe(&mut self, place: Place) -> Probe {
        self.turn = self.turn.wrapping_add(1);
        let port = u16::try_from(self.turn % u32::from(SOURCE_PORTS)).unwrap_or_default();
        Probe {
            src: SocketAddr::new(place.sender(), FIRST_SOURCE_PORT + port),
            dst: SocketAddr::new(place.destination(self.turn), PORT),
            mark: self.turn,
        }
    }

    /// Puts a record in, from where the readers of logs put theirs; no DNS server is asked.
    fn resolve(&self, probe: &Probe) {
        let Ok(name) = Name::new(NAME) else { return };
        let now = clock::now();
        let record = Record {
            address: probe.dst.ip(),
            name,
            client: Some(probe.src.ip()),
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
        let (dst, family) = (probe.dst.ip(), Family::of(probe.dst.ip()));
        namespace.send(&probe.bytes(), dst)?;
        let (began, mut sighting) = (Instant::now(), Sighting::default());
        let mut end = began + HOLD_MAX + PATIENCE;
        while !sighting.is_whole(self.silent) && Instant::now() < end && !self.is_stopped() {
            let before = sighting;
            match namespace.receive(family, STEP)?.and_then(|packet| probe.sign(&packet)) {
                Some(Sign::Arrived) => sighting.arrived = true,
                Some(Sign::Refused) => sighting.refused = true,
                None => {}
            }
            let seen = self.ear.verdicts.try_iter().find(|seen| seen.dst == dst);
            sighting.verdict = seen.map(|seen| seen.verdict).or(sighting.verdict);
            if sighting != before {
                // Something came of it: the rest is not far.
                end = end.min(Instant::now() + WIRE_PATIENCE);
            }
        }
        Ok(sighting)
    }
}
