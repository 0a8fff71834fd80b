//! The verdict event: a packet's five-tuple, what became of it, and the proof.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::engine::flow::Proto;
use crate::engine::health::Evidence;
use crate::engine::judge::{Decision, Mode};
use crate::engine::mark::Mark;
use crate::engine::name::Name;
use crate::engine::owner::Owner;
use crate::engine::packet::Malformed;
use crate::engine::verdict::{Grade, Reason, Verdict};

/// See [`super::Body::Verdict`]. For a packet that cannot be read, what is not known is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VerdictBody {
    /// Enforce or dry-run.
    pub mode: Mode,
    /// Accept or drop.
    pub verdict: Verdict,
    /// False where the verdict is only what enforcing would have done.
    pub enforced: bool,
    /// Why.
    pub reason: Reason,
    /// How good the evidence was.
    pub grade: Grade,
    /// How long the packet waited, or would have, in microseconds.
    pub held_us: u64,
    /// How long it might have waited at most, or would have, in microseconds, if it waited.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub bound_us: u64,
    /// Container name, where known.
    pub container: Option<Arc<str>>,
    /// Container id, where known.
    pub container_id: Option<Arc<str>>,
    /// Protocol.
    pub proto: Option<Proto>,
    /// Source address.
    pub src: Option<IpAddr>,
    /// Source port.
    pub sport: Option<u16>,
    /// Destination address.
    pub dst: Option<IpAddr>,
    /// Destination port.
    pub dport: Option<u16>,
    /// Names known for the destination, latest first, a few at most.
    pub names: Vec<Name>,
    /// Names beyond those.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub more_names: u64,
    /// Copies (retransmissions) that joined the hold.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub copies: u64,
    /// What is suspicious about the names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub marks: Vec<Mark>,
    /// The domain of the user's lists that decided, where one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<Name>,
    /// What exactly cannot be read, for `malformed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The state of the evidence at that moment.
    pub evidence: Evidence,
    /// Queue number.
    pub queue: u16,
}

impl VerdictBody {
    /// The event of a decision.
    pub fn decided(decision: Decision, evidence: Evidence, queue: u16) -> VerdictBody {
        let flow = decision.flow;
        let blank = VerdictBody::blank(decision.reason, decision.mode, evidence, queue);
        VerdictBody {
            container: decision.owner.as_ref().map(|owner| Arc::clone(&owner.name)),
            container_id: decision.owner.as_ref().map(|owner| Arc::clone(&owner.id)),
            proto: Some(flow.proto),
            src: Some(flow.src.ip()),
            sport: Some(flow.src.port()),
            dst: Some(flow.dst.ip()),
            dport: Some(flow.dst.port()),
            verdict: decision.verdict,
            grade: decision.grade,
            held_us: micros(decision.held),
            bound_us: micros(decision.bound),
            names: decision.known.names,
            marks: decision.known.marks,
            more_names: u64::try_from(decision.known.more).unwrap_or(u64::MAX),
            copies: decision.copies.into(),
            domain: decision.domain,
            ..blank
        }
    }

    /// Puts the name in that became known later.
    pub fn name(&mut self, owner: &Owner) {
        self.container = Some(Arc::clone(&owner.name));
        self.container_id = Some(Arc::clone(&owner.id));
    }

    /// The event of a packet that cannot be read.
    pub fn malformed(
        malformed: &Malformed,
        mode: Mode,
        evidence: Evidence,
        queue: u16,
    ) -> VerdictBody {
        VerdictBody {
            src: malformed.addresses.map(|(src, _)| src),
            dst: malformed.addresses.map(|(_, dst)| dst),
            detail: Some(malformed.why.to_string()),
            ..VerdictBody::blank(Reason::Malformed, mode, evidence, queue)
        }
    }

    fn blank(reason: Reason, mode: Mode, evidence: Evidence, queue: u16) -> VerdictBody {
        VerdictBody {
            mode,
            verdict: Verdict::Drop,
            enforced: mode == Mode::Enforce,
            reason,
            grade: Grade::Never,
            held_us: 0,
            bound_us: 0,
            container: None,
            container_id: None,
            proto: None,
            src: None,
            sport: None,
            dst: None,
            dport: None,
            names: Vec::new(),
            more_names: 0,
            copies: 0,
            marks: Vec::new(),
            domain: None,
            detail: None,
            evidence,
            queue,
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}
