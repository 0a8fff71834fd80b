//! What the engine answers: a step for a packet that just came, a decision with its proof for one that is done.

use std::sync::Arc;
use std::time::Duration;

use super::flow::Flow;
use super::health::Evidence;
use super::name::Name;
use super::owner::Owner;
use super::registry::{Inserted, Known};
use super::settings::Mode;
use super::time::Now;
use super::verdict::{Grade, Reason, Verdict};

/// What to do with a queued packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::large_enum_variant,
    reason = "nearly every step is a decision, and a box would cost each packet an allocation"
)]
pub enum Step {
    /// It is decided.
    Decided(Decision),
    /// It waits; the decision comes out of [`super::Engine::record`], [`super::Engine::expire`] or [`super::Engine::drain`]. In a dry run it
    /// waits in the books alone.
    Hold(Mode),
    /// A packet of its flow waits or was just let through; this one goes away in silence, but for a dry run.
    Copy(Mode),
}

/// A verdict with its proof. In dry-run it is what enforcing would have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The flow it is about.
    pub flow: Flow,
    /// The queue its packet came from.
    pub lane: u16,
    /// Accept or drop.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// How good the evidence was.
    pub grade: Grade,
    /// What was known about the destination.
    pub known: Known,
    /// How long the packet waited.
    pub held: Duration,
    /// How long it might have waited at most; zero if it was decided at once.
    pub bound: Duration,
    /// Copies that joined it meanwhile.
    pub copies: u32,
    /// The domain of the user's lists that decided, where one did.
    pub domain: Option<Name>,
    /// Whether a refusal is carried out.
    pub mode: Mode,
    /// Whose packet it was, where that is known.
    pub owner: Option<Arc<Owner>>,
    /// A refused packet goes in silence, so that its sender tries again.
    pub again: bool,
    /// When it was decided.
    pub at: Now,
    /// The evidence as it was looked at, where it was.
    pub proof: Option<Box<Evidence>>,
}

impl Decision {
    /// A decision at once, about a destination of which nothing is known.
    pub(super) fn new(
        flow: Flow,
        lane: u16,
        owner: Option<Arc<Owner>>,
        (verdict, reason): (Verdict, Reason),
        mode: Mode,
        at: Now,
    ) -> Decision {
        Decision {
            flow,
            lane,
            verdict,
            reason,
            grade: Grade::Never,
            known: Known::default(),
            held: Duration::ZERO,
            bound: Duration::ZERO,
            copies: 0,
            domain: None,
            mode,
            owner,
            again: false,
            at,
            proof: None,
        }
    }

    /// The same about a packet that waited in this mode: in the books alone, it is gone whatever holds by now.
    pub(super) fn waited(self, mode: Mode) -> Decision {
        match mode {
            Mode::Enforce => self,
            Mode::DryRun | Mode::Learn => Decision { mode, ..self },
        }
    }
}

/// A decision about a packet that waited, with the caller's ticket for it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer<T> {
    /// The caller's ticket.
    pub ticket: T,
    /// What was decided.
    pub decision: Decision,
}

/// What a record led to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recorded<T> {
    /// What the registry made of it.
    pub inserted: Inserted,
    /// What waited for it and is now decided.
    pub released: Vec<Answer<T>>,
    /// The registry learned what may change a verdict: a name, or that this asker asked, or that it is fresh again.
    pub is_news: bool,
    /// How long the longest of them waited, or one that was refused a moment ago since it came: the source took about
    /// that long.
    pub waited: Option<Duration>,
}
