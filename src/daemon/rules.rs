//! The rules while the daemon runs: brought to what is wanted at start, and at stop to what they were.

use anyhow::Result;

use crate::config::RuleConfig;
use crate::engine::Mode;
use crate::nftables::{self, Options, QueueVia, Ruleset, restorable};

/// The rules in the kernel, and what to do about them at stop. Dropped without a word, they are restored.
pub struct Rules {
    /// The expression packets reach us by.
    pub queue_via: QueueVia,
    /// True if this process (or one that was killed before it) put them in.
    pub own: bool,
    applied: Ruleset,
    /// What others' rules are put back to.
    previous: Option<Ruleset>,
    armed: bool,
}

impl Rules {
    /// Puts the rules in, marked as ours, if there are none or those there are a killed run's; else changes those
    /// that are there in place.
    ///
    /// # Errors
    /// If the kernel does not take them; nothing is changed then.
    pub fn install(config: &RuleConfig, mode: Mode) -> Result<Rules> {
        let queue_via = nftables::probe()?;
        let current = nftables::read()?;
        let own = current.as_ref().is_none_or(Ruleset::is_owned);
        let dry_run = config.dry_run || mode == Mode::DryRun;
        let applied = Ruleset::new(&Options { owned: own, dry_run, ..config.options(queue_via) });
        nftables::apply(&applied, current.as_ref())?;
        let back = current.map(|current| restorable(&current, &applied));
        for what in back.iter().flat_map(|back| &back.discarded) {
            tracing::warn!("table inet synhold is synhold's alone: {what} was taken out for good");
        }
        let previous = back.filter(|_| !own).map(|back| back.ruleset);
        Ok(Rules { queue_via, own, applied, previous, armed: true })
    }

    /// Takes our own rules away, unless somebody made them theirs meanwhile; puts rules that were there before
    /// back to what they were, unless somebody changed them meanwhile.
    ///
    /// # Errors
    /// If the kernel does not do it.
    pub fn restore(mut self) -> Result<()> {
        self.undo()
    }

    /// Leaves the rules as they are, for good: no later run takes them for what a killed one left behind.
    ///
    /// # Errors
    /// If the mark cannot be taken off them.
    pub fn keep(mut self) -> Result<()> {
        self.armed = false;
        let current = nftables::read()?;
        if let Some(current) = current.filter(|current| self.own && current.is_owned()) {
            nftables::apply(&current.disowned(), Some(&current))?;
        }
        Ok(())
    }

    fn undo(&mut self) -> Result<()> {
        self.armed = false;
        let Some(current) = nftables::read()? else { return Ok(()) };
        if self.own && current.is_owned() {
            nftables::remove()?;
        } else if self.own {
            tracing::info!("the rules stay: `synhold rules install` has made them the user's");
        } else if current != self.applied {
            tracing::warn!("the rules stay as they are: somebody changed them while synhold ran");
        } else if let Some(previous) = &self.previous {
            nftables::apply(previous, Some(&current))?;
        }
        Ok(())
    }
}

impl Drop for Rules {
    fn drop(&mut self) {
        if self.armed
            && let Err(error) = self.undo()
        {
            tracing::error!(
                "the rules could not be taken away; run `synhold rules remove`: {error:#}"
            );
        }
    }
}
