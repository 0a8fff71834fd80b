//! Verdicts on the canary's packets, taken out of the way of those on everybody else's.

use std::net::IpAddr;
use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::daemon::shared::Tally;
use crate::engine::canary::{Place, is_near};
use crate::engine::judge::Decision;
use crate::engine::{Reason, Verdict};

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
        let open = Open { places, verdicts: tell, calls: call };
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
    pub fn takes(&self, decision: &Decision, tally: &Tally) -> bool {
        is_near(decision.flow.src.ip()) && self.take(decision, tally)
    }

    /// Nobody else can use this: what is sent between these addresses ends at the canary.
    #[cold]
    fn take(&self, decision: &Decision, tally: &Tally) -> bool {
        let Some(Open { places, verdicts, .. }) = self.0.get() else { return false };
        let (src, dst) = (decision.flow.src.ip(), decision.flow.dst.ip());
        let is_its = |place: &Place| src == place.sender() && place.destinations().contains(dst);
        if !places.iter().any(is_its) {
            return false;
        }
        if !decision.bound.is_zero() {
            // It was counted when it began to wait.
            tally.held.fetch_sub(1, Relaxed);
        }
        // What does not fit is of a round that is over.
        let _ = verdicts.try_send(Seen { dst, verdict: (decision.verdict, decision.reason) });
        true
    }
}
