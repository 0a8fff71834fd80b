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

/// The way of verdicts to the canary, once there is one.
#[derive(Debug, Default)]
pub struct Way(OnceLock<(Place, SyncSender<Seen>)>);

impl Way {
    /// Leads verdicts on packets of this place here from now on; nothing if they are led elsewhere already.
    pub fn open(&self, place: Place) -> Option<Receiver<Seen>> {
        let (tell, told) = sync_channel(VERDICTS_MAX);
        self.0.set((place, tell)).ok().map(|()| told)
    }

    /// Where the canary is.
    pub fn place(&self) -> Option<Place> {
        self.0.get().map(|(place, _)| *place)
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
        let Some((place, tell)) = self.0.get() else { return false };
        let (src, dst) = (decision.flow.src.ip(), decision.flow.dst.ip());
        if src != IpAddr::V4(place.sender()) || !place.destinations().contains(dst) {
            return false;
        }
        if !decision.bound.is_zero() {
            // It was counted when it began to wait.
            tally.held.fetch_sub(1, Relaxed);
        }
        // What does not fit is of a round that is over.
        let _ = tell.try_send(Seen { dst, verdict: (decision.verdict, decision.reason) });
        true
    }
}
