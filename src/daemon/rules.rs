//! The rules while the daemon runs: brought to what is wanted at start, and at stop to what they were.

use anyhow::Result;

use crate::config::RuleConfig;
use crate::nftables::{self, QueueVia, Ruleset};

/// What to do about the rules at stop.
pub struct Rules {
    /// The expression packets reach us by.
    pub queue_via: QueueVia,
    /// True if this process (or one that was killed before it) put them in.
    pub own: bool,
    previous: Option<Ruleset>,
}

impl Rules {
    /// Puts the rules in, or changes those that are there in place. `inherited` says that what is there was put
    /// in by a run that was killed, so that it is ours to take away.
    ///
    /// # Errors
    /// If the kernel does not take them; nothing is changed then.
    pub fn install(config: &RuleConfig) -> Result<Rules> {
        let queue_via = nftables::probe()?;
        let current = nftables::read()?;
        nftables::apply(&config.ruleset(queue_via), current.as_ref())?;
        Ok(Rules { queue_via, own: current.is_none(), previous: current })
    }

    /// Leaves the rules as they are.
    ///
    /// # Errors
    /// Never yet.
    pub fn keep(self) -> Result<()> {
        Ok(())
    }

    /// Takes our own rules away; puts rules that were there before back to what they were.
    ///
    /// # Errors
    /// If the kernel does not do it.
    pub fn restore(self) -> Result<()> {
        if self.own {
            nftables::remove()?;
        } else if let Some(previous) = self.previous {
            let current = nftables::read()?;
            nftables::apply(&previous, current.as_ref())?;
        }
        Ok(())
    }
}
