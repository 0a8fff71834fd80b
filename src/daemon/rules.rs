//! The rules while the daemon runs: brought to what is wanted at start, and at stop to what they were.

use anyhow::Result;

use super::policies::Networks;
use crate::config::RuleConfig;
use crate::engine::Mode;
use crate::engine::ranges::RangeSet;
use crate::nftables::ruleset::Set;
use crate::nftables::{
    self, Channel, Family, HOSTS_SIZE_DEFAULT, Options, QueueVia, Ruleset, names, restorable,
};

/// The rules in the kernel, and what to do about them at stop. Dropped without a word, they are restored.
pub struct Rules {
    /// The expression packets reach us by.
    pub queue_via: QueueVia,
    /// True if this process (or one that was killed before it) put them in.
    pub own: bool,
    applied: Ruleset,
    /// What that follows from.
    options: Options,
    /// What others' rules are put back to.
    previous: Option<Ruleset>,
    /// By which they are changed while the daemon runs, so that it knows its own changes.
    channel: Channel,
    armed: bool,
}

/// Differences told at a time.
const DRIFT_SHOWN: usize = 3;

/// Times it is tried to change sets that somebody else changes too.
const FOLLOW_TRIES: u32 = 3;

impl Rules {
    /// Puts the rules in, marked as ours, if there are none or those there are a killed run's; else changes those
    /// that are there in place.
    ///
    /// # Errors
    /// If the kernel does not take them; nothing is changed then.
    pub fn install(config: &RuleConfig, mode: Mode, hosts: usize) -> Result<Rules> {
        let queue_via = nftables::probe()?;
        let current = nftables::read()?;
        let own = current.as_ref().is_none_or(Ruleset::is_owned);
        let dry_run = config.dry_run || mode == Mode::DryRun;
        let options = Options {
            owned: own,
            dry_run,
            hosts_size: size_for(hosts),
            ..config.options(queue_via)
        };
        let wanted = Ruleset::new(&options);
        // A killed run may have left the user's rules changed; what they were stands beside them.
        let before = current.as_ref().map(|now| now.remembered().unwrap_or_else(|| now.clone()));
        let back = before.filter(|_| !own).map(|before| restorable(&before, &wanted));
        for what in back.iter().flat_map(|back| &back.discarded) {
            tracing::warn!("table inet synhold is synhold's alone: {what} was taken out for good");
        }
        // Only a run knows bridges, so that networks beside them are what a killed one left behind.
        let previous = back.map(|back| match back.ruleset {
            left if left.knows_bridges() => left.with_networks_of(&wanted),
            left => left,
        });
        let applied = match &previous {
            Some(previous) if *previous != wanted => wanted.remembering(previous),
            _ => wanted,
        };
        let mut channel = Channel::open()?;
        nftables::apply_by(&mut channel, &applied, current.as_ref())?;
        Ok(Rules { queue_via, own, applied, options, previous, channel, armed: true })
    }

    /// How the kernel differs from what was put in, in some words; `None` if it does not.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn drift(&self) -> Result<Option<String>> {
        let actual = nftables::read()?.map(|actual| actual.unmarked());
        let drift = nftables::check(&self.applied.unmarked(), actual.as_ref());
        let words: Vec<String> = drift.iter().take(DRIFT_SHOWN).map(ToString::to_string).collect();
        let more = drift.len().saturating_sub(words.len());
        let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
        Ok((!words.is_empty()).then(|| words.join("; ") + &rest))
    }

    /// Puts back what was put in.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn mend(&mut self) -> Result<()> {
        nftables::apply_by(&mut self.channel, &self.applied, nftables::read()?.as_ref())?;
        Ok(())
    }

    /// Makes the sets of single addresses large enough for `hosts`; true if they had to be made anew, and are empty.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn make_room(&mut self, hosts: usize) -> Result<bool> {
        let size = size_for(hosts);
        let small = |set: &Set| names::BLOCKHOSTS.has(&set.name) && set.size < size;
        if !self.applied.sets.iter().any(small) {
            return Ok(false);
        }
        let mut wanted = self.applied.clone();
        wanted.sets.iter_mut().filter(|set| small(set)).for_each(|set| set.size = size);
        // Rules that a person took away are not put in because a list grew.
        if let Some(current) = nftables::read()? {
            nftables::apply_by(&mut self.channel, &wanted, Some(&current))?;
        }
        self.applied = wanted;
        Ok(true)
    }

    /// Brings the sets that follow the networks to these, in one transaction; nothing else in the kernel is touched, not
    /// even what somebody else changed. Returns the bridges that no set can name.
    ///
    /// # Errors
    /// If the kernel does not take it; then those before still hold.
    pub fn follow(&mut self, networks: &Networks) -> Result<Vec<String>> {
        let Networks { containers, bridges } = networks.clone();
        let options = Options { containers, bridges, ..self.options.clone() };
        let wanted = self.applied.with_networks_of(&Ruleset::new(&options));
        let mut tries = FOLLOW_TRIES;
        // Rules that a person took away are not put in because a network came.
        while let Some(current) = nftables::read()? {
            let target = current.with_networks_of(&wanted);
            tries -= 1;
            match nftables::apply_by(&mut self.channel, &target, Some(&current)) {
                Ok(_) => break,
                // Somebody was there in between.
                Err(_) if tries > 0 => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.applied = wanted;
        self.options = options;
        Ok(self.options.unnamed().map(str::to_owned).collect())
    }

    /// The ranges of a set that follows from the options.
    pub fn elements(&self, pair: names::Pair) -> RangeSet {
        let sets = Family::BOTH.into_iter().filter_map(|family| self.applied.set(pair.of(family)));
        RangeSet::new(sets.flat_map(Set::ranges))
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
        if let Some(current) = current {
            nftables::apply(&current.unmarked(), Some(&current))?;
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
        } else if !nftables::check(&self.applied, Some(&current)).is_empty() {
            tracing::warn!("the rules stay as they are: somebody changed them while synhold ran");
        } else if let Some(previous) = &self.previous {
            // While nobody runs, a container on a network of the engine's is judged by the posture like any other.
            let nets = self.options.bridges.iter().flat_map(|bridge| &bridge.nets).copied();
            let followed = Options { containers: nets.collect(), ..self.options.clone() };
            let left = previous.judging_also(&Ruleset::new(&followed));
            nftables::apply(&left, Some(&current))?;
        }
        Ok(())
    }
}

/// Room for this many single addresses, and for the list to grow.
fn size_for(hosts: usize) -> u32 {
    let needed = u32::try_from(hosts).unwrap_or(u32::MAX).checked_next_power_of_two();
    needed.unwrap_or(u32::MAX).max(HOSTS_SIZE_DEFAULT)
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
