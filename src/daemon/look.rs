//! What the rules in the kernel do, as of a moment ago, for everybody who asks.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::inspect::RulesState;
use crate::nftables;

/// How long a look holds: whoever asks in a loop is not to keep the kernel busy.
const FRESH: Duration = Duration::from_millis(500);

/// The last look.
#[derive(Debug, Default)]
pub struct RulesLook(Mutex<Option<(Instant, Option<RulesState>)>>);

impl RulesLook {
    /// What the rules do; nothing if the kernel does not tell.
    pub fn state(&self) -> Option<RulesState> {
        self.state_by(|| {
            let read = nftables::read()
                .inspect_err(|error| tracing::debug!("cannot look at the rules: {error}"));
            read.ok().map(|rules| RulesState::of(rules.as_ref()))
        })
    }

    /// They changed: nobody is told any more what they were before.
    pub fn forget(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn state_by(&self, read: impl FnOnce() -> Option<RulesState>) -> Option<RulesState> {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match *kept {
            Some((at, rules)) if at.elapsed() < FRESH => rules,
            _ => {
                // As of before it was read: what changes meanwhile is newer.
                let at = Instant::now();
                let rules = read();
                *kept = Some((at, rules));
                rules
            }
        }
    }

    /// Has it say this without asking the kernel, for an hour.
    #[cfg(test)]
    pub fn say(&self, rules: RulesState) {
        *self.0.lock().unwrap() = Some((Instant::now() + Duration::from_secs(3600), Some(rules)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_look_holds_until_it_is_known_to_be_old() {
        let look = RulesLook::default();
        let ask = |rules| look.state_by(|| Some(rules));
        assert_eq!(ask(RulesState::Enforcing), Some(RulesState::Enforcing));
        assert_eq!(ask(RulesState::Absent), Some(RulesState::Enforcing), "it is fresh");
        look.forget();
        assert_eq!(ask(RulesState::Absent), Some(RulesState::Absent));
    }
}
