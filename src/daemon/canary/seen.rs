//! Verdicts on the canary's packets, taken out of the way of those on everybody else's.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::engine::canary::{Place, is_near};
use crate::engine::judge::Decision;
use crate::engine::{Flow, Reason, Verdict};

/// Verdicts that nobody fetched yet; one packet is out at a time.
const VERDICTS_MAX: usize = 8;

/// A verdict on a packet to one of the canary's destinations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Where it went.
    pub dst: IpAddr,
    /// What was decided, and why.
    pub verdict: (Verdict, Reason),
}

/// The way to the canary, once there is one.
#[derive(Debug, Default)]
pub struct Way(OnceLock<Open>);

#[derive(Debug)]
struct Open {
    places: Vec<Place>,
    waiting: AtomicUsize,
    verdicts: SyncSender<Seen>,
    calls: SyncSender<()>,
}

/// Where the canary listens.
pub struct Ear {
    /// Verdicts on its packets.
    pub verdicts: Receiver<Seen>,
    /// It is to fly again, or to come home.
    pub calls: Receiver<()>,
}

impl Way {
    /// Leads verdicts on packets of these places here from now on; nothing if they are led elsewhere already.
    pub fn open(&self, places: Vec<Place>) -> Option<Ear> {
        let (tell, verdicts) = sync_channel(VERDICTS_MAX);
        // One call says as much as many.
        let (call, calls) = sync_channel(1);
        let open = Open { places, waiting: AtomicUsize::new(0), verdicts: tell, calls: call };
        self.0.set(open).ok().map(|()| Ear { verdicts, calls })
    }

    /// Has it look again soon: something may be otherwise than it found it.
    pub fn call(&self) {
        if let Some(open) = self.0.get() {
            // If there is no room, it has been called.
            let _ = open.calls.try_send(());
        }
    }

    /// Where the canary is.
    pub fn places(&self) -> &[Place] {
        self.0.get().map_or(&[], |open| &open.places)
    }

    /// Whether a decision is about a packet of the canary's, which is neither counted nor told. All others pay one
    /// comparison of their source.
    #[inline]
    pub fn takes(&self, decision: &Decision) -> bool {
        is_near(decision.flow.src.ip()) && self.take(decision)
    }

    /// Whether a flow that begins to wait is the canary's: it is in no total, and [`Way::waiting`] counts it.
    #[inline]
    pub fn holds(&self, flow: &Flow) -> bool {
        let open = if is_near(flow.src.ip()) { self.of(flow) } else { None };
        open.inspect(|open| _ = open.waiting.fetch_add(1, Relaxed)).is_some()
    }

    /// Packets of the canary's that wait for their record.
    pub fn waiting(&self) -> usize {
        self.0.get().map_or(0, |open| open.waiting.load(Relaxed))
    }

    #[cold]
    fn take(&self, decision: &Decision) -> bool {
        let Some(open) = self.of(&decision.flow) else { return false };
        if !decision.bound.is_zero() {
            open.waiting.fetch_sub(1, Relaxed);
        }
        let (dst, verdict) = (decision.flow.dst.ip(), (decision.verdict, decision.reason));
        // What does not fit is of a round that is over.
        let _ = open.verdicts.try_send(Seen { dst, verdict });
        true
    }

    /// Nobody else can use this: what is sent between these addresses ends at the canary.
    fn of(&self, flow: &Flow) -> Option<&Open> {
        let (src, dst) = (flow.src.ip(), flow.dst.ip());
        let is_its = |place: &Place| src == place.sender() && place.destinations().contains(dst);
        self.0.get().filter(|open| open.places.iter().any(is_its))
    }
}
