//! The list sets of the kernel: brought to what the lists say, by difference where it is known what they hold.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::clock;
use super::denied::{self, Pair};
use super::wants::Want;
use crate::engine::Family;
use crate::engine::Wall;
use crate::nftables::{Bulk, Channel, DUMP_MAX, Element, Error, Key, dump, names, replace};

/// Elements up to which a set is read whenever rules changed somewhere: less than a millisecond.
const READ_MAX: usize = 1000;

/// What a load did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Elements put in.
    pub added: u64,
    /// Elements taken out.
    pub removed: u64,
    /// How long it took.
    pub took: Duration,
}

/// Elements that go and come, by set.
#[derive(Default)]
struct Differences {
    gone: Vec<(&'static str, Vec<Element>)>,
    come: Vec<(&'static str, Vec<Element>)>,
}

fn count(elements: &[(&'static str, Vec<Element>)]) -> usize {
    elements.iter().map(|(_, elements)| elements.len()).sum()
}

/// What the list sets are known to hold.
pub struct Sets {
    channel: Channel,
    /// By set; what is not there is not known.
    held: HashMap<&'static str, Want>,
    /// Pairs that nobody here put in, as far as the last look could tell.
    strange: HashSet<(&'static str, Key)>,
}

impl Sets {
    /// Knows nothing yet.
    ///
    /// # Errors
    /// If there is no netlink socket.
    pub fn open() -> Result<Sets> {
        let (held, strange) = Default::default();
        Ok(Sets { channel: Channel::open()?, held, strange })
    }

    /// Forgets what a set holds: somebody else changed it.
    pub fn forget(&mut self, set: &str) {
        self.held.remove(set);
    }

    /// Forgets everything.
    pub fn forget_all(&mut self) {
        self.held.clear();
    }

    /// True if it is not known what some set holds.
    pub fn is_unsure(&self, wants: &[Want]) -> bool {
        wants.iter().any(|want| !self.held.contains_key(want.set))
    }

    /// Puts one address into an allow set at once, whatever else is to be done; what the set holds is then not known. False
    /// if it was in there.
    ///
    /// # Errors
    /// If the kernel does not take it.
    pub fn admit(&mut self, address: IpAddr) -> Result<bool> {
        let set = names::ALLOW.of(Family::of(address));
        let mut bulk = Bulk::new();
        bulk.add(set, [Element::new(Key::point(address))]);
        self.forget(set);
        match self.channel.send_bulk(bulk) {
            // It is in there already, as part of a range.
            Err(Error::Stale { .. }) => Ok(false),
            done => Ok(done.map(|()| true)?),
        }
    }

    /// Forgets what somebody may have changed: sets with another number of elements than they were given, those small
    /// enough to be read each time, and with `deep` those that can be read now and then. Returns which pairs were put
    /// back or taken out at once: `refused` knows those that are there for a moment.
    ///
    /// # Errors
    /// If the kernel does not answer.
    pub fn doubt(&mut self, deep: bool, refused: impl Fn(Pair) -> bool) -> Result<Loaded> {
        let now = clock::wall();
        let (added, removed) = (self.put_back_pairs(now)?, self.take_out_pairs(refused)?);
        let mut doubted = Vec::new();
        // The refusals of a moment ago come and go by another thread.
        let ours = self.held.values().filter(|held| !names::DENIED.has(held.set));
        for held in ours {
            let readable = held.len() <= READ_MAX || (deep && held.len() <= DUMP_MAX);
            let count = self.channel.set_count(held.set)?;
            let fits = count.is_none_or(|count| held.counts(now).contains(&count));
            if readable || !fits {
                doubted.push(held.set);
            }
        }
        doubted.into_iter().for_each(|set| self.forget(set));
        Ok(Loaded { added, removed, ..Loaded::default() })
    }

    /// True if the next look tells whether some pair is to be taken out.
    pub fn is_wary(&self) -> bool {
        !self.strange.is_empty()
    }

    /// Pairs that neither the lists nor the thread of refusals put in. That thread forgets one a moment before the kernel
    /// does, so that only what is found twice is a stranger's.
    fn take_out_pairs(&mut self, refused: impl Fn(Pair) -> bool) -> Result<u64> {
        let mut strange = HashSet::new();
        for held in self.held.values().filter(|held| names::DENIED.has(held.set)) {
            for found in dump(held.set, READ_MAX)?.0 {
                let key = found.element.key;
                if let Key::Pair(src, dst) = key
                    && !held.has(key)
                    && !refused((src, dst))
                {
                    strange.insert((held.set, key));
                }
            }
        }
        let again = strange.extract_if(|one| self.strange.contains(one));
        let again: Vec<(&'static str, Key)> = again.collect();
        self.strange = strange;
        let mut taken = 0;
        for (set, key) in again {
            let mut bulk = Bulk::new();
            bulk.remove(set, [Element::new(key)]);
            match self.channel.send_bulk(bulk) {
                Ok(()) => taken += 1,
                // The other thread was taking it out.
                Err(Error::Stale { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(taken)
    }

    /// The sets of refusals are also filled by another thread, so they are asked for each pair of the lists.
    fn put_back_pairs(&mut self, now: Wall) -> Result<u64> {
        let mut missing = Vec::new();
        for held in self.held.values().filter(|held| names::DENIED.has(held.set)) {
            for element in held.elements(now).take(READ_MAX) {
                if self.channel.get(held.set, element.key)?.is_none() {
                    missing.push((held.set, element));
                }
            }
        }
        let mut bulk = Bulk::new();
        for (set, element) in &missing {
            bulk.add(set, [*element]);
        }
        self.channel.send_bulk(bulk)?;
        Ok(missing.len() as u64)
    }

    /// Brings the sets to what is wanted. Sets whose contents are known change together in one transaction; each of the
    /// others is brought to it by itself.
    ///
    /// # Errors
    /// In one line, for what the kernel does not take.
    pub fn load(&mut self, wants: &[Want]) -> Result<Loaded> {
        let start = Instant::now();
        let now = clock::wall();
        let differences = self.differences(wants, now);
        let loaded = self.load_all(wants, differences, now)?;
        Ok(Loaded { took: start.elapsed(), ..loaded })
    }

    fn load_all(&mut self, wants: &[Want], differences: Differences, now: Wall) -> Result<Loaded> {
        let mut loaded = self.load_differences(wants, differences)?;
        for want in wants {
            if self.held.contains_key(want.set) {
                continue;
            }
            let replaced = replace(&mut self.channel, want.set, want.elements(now))
                .with_context(|| format!("cannot load set {}", want.set))?;
            loaded.added += replaced.added;
            loaded.removed += replaced.removed;
            self.held.insert(want.set, want.clone());
        }
        Ok(loaded)
    }

    /// What has to change in the sets whose contents are known.
    fn differences(&self, wants: &[Want], now: Wall) -> Differences {
        let mut differences = Differences::default();
        for want in wants {
            let Some(held) = self.held.get(want.set) else { continue };
            // What expired went by itself, and a million ranges take a while to walk.
            if want.is_plainly(held) {
                continue;
            }
            let (gone, come) = want.difference(held, now);
            differences.gone.push((want.set, gone.collect()));
            differences.come.push((want.set, come.collect()));
        }
        differences
    }

    fn load_differences(&mut self, wants: &[Want], differences: Differences) -> Result<Loaded> {
        let loaded = Loaded {
            added: count(&differences.come) as u64,
            removed: count(&differences.gone) as u64,
            took: Duration::ZERO,
        };
        let mut bulk = Bulk::new();
        // Removals first: a range that grew would overlap itself.
        for (set, elements) in differences.gone {
            bulk.remove(set, elements);
        }
        for (set, elements) in differences.come {
            bulk.add(set, elements);
        }
        let known: Vec<&Want> =
            wants.iter().filter(|want| self.held.contains_key(want.set)).collect();
        if bulk.is_empty() {
            return Ok(loaded);
        }
        match self.channel.send_bulk(bulk) {
            Ok(()) => {
                for want in known {
                    self.held.insert(want.set, want.clone());
                }
                Ok(loaded)
            }
            // Something expired, or somebody else was there: what they hold is not known any more.
            Err(Error::Stale { .. }) => {
                known
                    .iter()
                    .map(|want| want.set)
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|set| self.forget(set));
                Ok(Loaded::default())
            }
            Err(error) => Err(error).context("cannot change the list sets"),
        }
    }
}

/// The kernel's `denied` sets, for their thread.
pub struct DeniedSets(Channel);

impl std::fmt::Debug for DeniedSets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("DeniedSets")
    }
}

impl DeniedSets {
    /// Opens a socket of its own.
    ///
    /// # Errors
    /// If there is none.
    pub fn open() -> Result<DeniedSets> {
        Ok(DeniedSets(Channel::open()?))
    }

    fn send(&mut self, out: &[Pair], into: &[Pair], timeout: Duration) -> Result<(), Error> {
        let mut bulk = Bulk::new();
        let timeout_ms = u64::try_from(timeout.as_millis()).ok();
        for pair in [names::DENIED.v4, names::DENIED.v6] {
            let here = |src: &IpAddr| src.is_ipv4() == (pair == names::DENIED.v4);
            let keys = |pairs: &[Pair]| -> Vec<Key> {
                let of = pairs.iter().filter(|(src, _)| here(src));
                of.map(|(src, dst)| Key::Pair(*src, *dst)).collect()
            };
            bulk.remove(pair, keys(out).into_iter().map(Element::new));
            bulk.add(pair, keys(into).into_iter().map(|key| Element { key, timeout_ms }));
        }
        self.0.send_bulk(bulk)
    }
}

impl denied::Sets for DeniedSets {
    fn change(&mut self, out: &[Pair], into: &[Pair], timeout: Duration) -> Result<()> {
        match self.send(out, into, timeout) {
            // Something to be taken out has expired: each by itself, then.
            Err(Error::Stale { .. }) => {
                let mut failed = None;
                for pair in out {
                    if let Err(error) = self.send(std::slice::from_ref(pair), &[], timeout)
                        && !matches!(error, Error::Stale { .. })
                    {
                        failed = Some(error);
                    }
                }
                self.send(&[], into, timeout)?;
                failed.map_or(Ok(()), |error| Err(error.into()))
            }
            Err(error) if !out.is_empty() => {
                // What is taken out matters more than what is put in, which may not fit.
                self.send(out, &[], timeout)?;
                Err(error.into())
            }
            done => Ok(done?),
        }
    }
}

#[cfg(test)]
#[path = "sets_test.rs"]
mod tests;
