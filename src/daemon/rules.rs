//! The rules while the daemon runs: brought to what is wanted at start, and at stop to what they were.

mod left;

use anyhow::Result;

use super::policies::Networks;
use crate::config::RuleConfig;
use crate::engine::Mode;
use crate::engine::ranges::RangeSet;
use crate::nftables::ruleset::Set;
use crate::nftables::{
    self, Channel, Family, HOSTS_SIZE_DEFAULT, Options, QueueVia, Ruleset, names, restorable,
};

pub use left::Left;

/// The rules in the kernel, and what to do about them at stop. Dropped without a word, they are restored.
pub struct Rules {
    /// The expression packets reach us by.
    pub queue_via: QueueVia,
    /// True if this process (or one that was killed before it) put them in.
    pub own: bool,
    applied: Ruleset,
    /// What a person made of it by command, kept as it is.
    theirs: Option<Ruleset>,
    /// What `applied` follows from.
    options: Options,
    /// What others' rules are put back to.
    previous: Option<Ruleset>,
    left: Left,
    /// By which they are changed while the daemon runs, so that it knows its own changes.
    channel: Channel,
    armed: bool,
}

/// What a command of a person did to the rules.
#[derive(Debug, PartialEq, Eq)]
pub enum Command {
    /// It took them away.
    Removed,
    /// They are what was put in at start.
    Restored,
    /// They differ from that, in some words, and are kept like this.
    Changed(String),
    /// None of ours leaves them like this.
    None,
}

/// Differences told at a time.
const DRIFT_SHOWN: usize = 3;

/// Times it is tried to change sets that somebody else changes too.
const FOLLOW_TRIES: u32 = 3;

impl Rules {
    /// Puts the rules in, marked as ours, if there are none or those there are a killed run's; else changes those
    /// that are there in place. `left` is what the last run left in them.
    ///
    /// # Errors
    /// If the kernel does not take them; nothing is changed then.
    pub fn install(config: &RuleConfig, mode: Mode, hosts: usize, left: Left) -> Result<Rules> {
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
        let before = before.filter(|_| !own).map(|before| left.users_of(before));
        let back = before.map(|before| restorable(&before, &wanted));
        for what in back.iter().flat_map(|back| &back.discarded) {
            tracing::warn!("table inet synhold is synhold's alone: {what} was taken out for good");
        }
        // Only a run knows bridges, so that networks beside them are what a killed one left behind.
        let previous = back.map(|back| match back.ruleset {
            left if left.knows_bridges() => left.with_networks_of(&Ruleset::new(&Options {
                canary: Vec::new(),
                ..options.clone()
            })),
            left => left,
        });
        let applied = match &previous {
            Some(previous) if *previous != wanted => wanted.remembering(previous),
            _ => wanted,
        };
        let mut channel = Channel::open()?;
        nftables::apply_by(&mut channel, &applied, current.as_ref())?;
        let (theirs, armed) = (None, true);
        Ok(Rules { queue_via, own, applied, theirs, options, previous, left, channel, armed })
    }

    /// How the kernel differs from what was put in, or was made of it by command, in some words; `None` if it does not.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn drift(&mut self) -> Result<Option<String>> {
        let actual = nftables::read()?;
        self.heed_marks(actual.as_ref());
        Ok(differences(self.kept(), actual.as_ref()))
    }

    /// Takes what is there now for what a command of a person has made of it, and keeps it from now on.
    ///
    /// # Errors
    /// If the kernel does not answer, or does not make room in it for the lists.
    pub fn adopt(&mut self) -> Result<Command> {
        let Some(actual) = nftables::read()? else { return Ok(Command::Removed) };
        if actual.chain(names::FORWARD).is_none_or(|chain| chain.rules.is_empty()) {
            return Ok(Command::None);
        }
        self.heed_marks(Some(&actual));
        // A command does not know how long our lists are.
        let size = self.applied.set(names::BLOCKHOSTS.v4).map_or(0, |set| set.size);
        // Nor of our own packets, unless it has seen them.
        let roomy = with_room(&actual, size).with_canary(&self.options.canary);
        nftables::apply_by(&mut self.channel, &roomy, Some(&actual))?;
        let changed = differences(&self.applied, Some(&roomy));
        self.theirs = changed.is_some().then_some(roomy);
        Ok(changed.map_or(Command::Restored, Command::Changed))
    }

    /// Puts back what was put in, or made of it by command.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn mend(&mut self) -> Result<()> {
        let current = nftables::read()?;
        self.heed_marks(current.as_ref());
        let kept = self.theirs.as_ref().unwrap_or(&self.applied);
        nftables::apply_by(&mut self.channel, kept, current.as_ref())?;
        Ok(())
    }

    fn kept(&self) -> &Ruleset {
        self.theirs.as_ref().unwrap_or(&self.applied)
    }

    /// Whoever took our notes out of rules that are still there has made them the user's: the notes do not come back, and
    /// what they say is not done at stop.
    fn heed_marks(&mut self, current: Option<&Ruleset>) {
        let Some(current) = current.filter(|now| now.chain(names::FORWARD).is_some()) else {
            return;
        };
        let disowned = self.applied.is_owned() && !current.is_owned();
        let forgotten = self.applied.remembered().is_some() && current.remembered().is_none();
        if disowned || forgotten {
            self.applied = self.applied.unmarked();
            self.previous = None;
        }
    }

    /// Makes the sets of single addresses large enough for `hosts`; true if they had to be made anew, and are empty.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn make_room(&mut self, hosts: usize) -> Result<bool> {
        let size = size_for(hosts);
        if !self.applied.sets.iter().any(|set| is_small(set, size)) {
            return Ok(false);
        }
        // Rules that a person took away, or changed, are not put in because a list grew.
        if let Some(current) = nftables::read()? {
            let roomy = with_room(&current, size);
            nftables::apply_by(&mut self.channel, &roomy, Some(&current))?;
        }
        self.applied = with_room(&self.applied, size);
        self.theirs = self.theirs.take().map(|theirs| with_room(&theirs, size));
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
        self.theirs = self.theirs.take().map(|theirs| theirs.with_networks_of(&wanted));
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
            let (containers, canary) = (nets.collect(), Vec::new());
            let followed = Options { containers, canary, ..self.options.clone() };
            let left = previous.judging_also(&Ruleset::new(&followed));
            nftables::apply(&left, Some(&current))?;
            self.left.note(&left, previous);
        }
        Ok(())
    }
}

/// How rules differ from those wanted, whoever put them in, in some words.
fn differences(wanted: &Ruleset, actual: Option<&Ruleset>) -> Option<String> {
    let actual = actual.map(Ruleset::unmarked);
    let drift = nftables::check(&wanted.unmarked(), actual.as_ref());
    let words: Vec<String> = drift.iter().take(DRIFT_SHOWN).map(ToString::to_string).collect();
    let more = drift.len().saturating_sub(words.len());
    let rest = if more == 0 { String::new() } else { format!(" and {more} more") };
    (!words.is_empty()).then(|| words.join("; ") + &rest)
}

fn is_small(set: &Set, size: u32) -> bool {
    names::BLOCKHOSTS.has(&set.name) && set.size < size
}

/// The same with room for that many single addresses.
fn with_room(rules: &Ruleset, size: u32) -> Ruleset {
    let mut roomy = rules.clone();
    roomy.sets.iter_mut().filter(|set| is_small(set, size)).for_each(|set| set.size = size);
    roomy
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

#[cfg(test)]
#[path = "rules_test.rs"]
mod tests;
