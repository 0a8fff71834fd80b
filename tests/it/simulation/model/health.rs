//! Whether the absence of a record proves anything.

use crate::simulation::step::{Fault, Micros};

/// How long after lost lines nothing is proved.
const LOSS_MEMORY: Micros = 60_000_000;

/// What happened to the source, and what else there is to doubt.
pub struct Health {
    pub trouble: bool,
    pub grace_until: Micros,
    up: bool,
    up_since: Option<Micros>,
    lost: Option<Micros>,
    behind: Option<Micros>,
    /// How far behind it was, and until when.
    was_behind: Option<(Micros, Micros)>,
}

impl Default for Health {
    fn default() -> Health {
        let (trouble, grace_until, up_since, lost, behind, was_behind) = Default::default();
        Health { trouble, grace_until, up: true, up_since, lost, behind, was_behind }
    }
}

impl Health {
    /// As it is when we start again: the trouble beside us stays.
    pub fn anew(&self) -> Health {
        Health { trouble: self.trouble, ..Health::default() }
    }

    pub fn suffer(&mut self, fault: Fault, at: Micros) {
        match fault {
            Fault::Down => (self.up, self.behind) = (false, None),
            Fault::Up => (self.up, self.up_since) = (true, Some(at)),
            // Before a source is up it reads what is past.
            Fault::Lost if self.up => self.lost = Some(at),
            Fault::Lost => {}
            Fault::Behind => self.behind = Some(at),
            Fault::CaughtUp => {
                let behind = self.behind.take().map(|since| (at - since, at));
                self.was_behind = behind.or(self.was_behind);
            }
        }
    }

    /// Whether a record would have been here that was logged while a packet waited for `hold` until now.
    pub fn is_sound(&self, now: Micros, hold: Micros) -> bool {
        let moment_ago = |at: Micros| now - at < hold;
        let late = match (self.behind, self.was_behind) {
            (Some(since), _) => now - since > hold,
            (None, Some((lag, at))) => lag > hold && moment_ago(at),
            (None, None) => false,
        };
        let lossy = self.lost.is_some_and(|lost| now - lost <= LOSS_MEMORY);
        self.up
            && !self.up_since.is_some_and(moment_ago)
            && !late
            && !lossy
            && !self.trouble
            && now >= self.grace_until
    }
}
