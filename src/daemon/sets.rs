//! The list sets of the kernel: brought to what the lists say, by difference where it is known what they hold.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::clock;
use super::denied::{self, Pair};
use super::wants::Want;
use crate::engine::Wall;
use crate::nftables::{Bulk, Channel, Element, Error, Key, Monitor, names, replace};

/// Changes from which the kernel's notices are switched off meanwhile: it would make one for each, for us alone.
const QUIET_FROM: usize = 4096;

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

impl Differences {
    fn len(&self) -> usize {
        count(&self.gone) + count(&self.come)
    }
}

fn count(elements: &[(&'static str, Vec<Element>)]) -> usize {
    elements.iter().map(|(_, elements)| elements.len()).sum()
}

/// What the list sets are known to hold.
pub struct Sets {
    channel: Channel,
    /// By set; what is not there is not known.
    held: HashMap<&'static str, Want>,
}

impl Sets {
    /// Knows nothing yet.
    ///
    /// # Errors
    /// If there is no netlink socket.
    pub fn open() -> Result<Sets> {
        Ok(Sets { channel: Channel::open()?, held: HashMap::new() })
    }

    /// The port by which its changes are known.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn port(&self) -> Result<u32> {
        Ok(self.channel.port()?)
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

    /// Brings the sets to what is wanted. Sets whose contents are known change together in one transaction; each of the
    /// others is brought to it by itself.
    ///
    /// # Errors
    /// In one line, for what the kernel does not take.
    pub fn load(&mut self, wants: &[Want], monitor: Option<&mut Monitor>) -> Result<Loaded> {
        let start = Instant::now();
        let now = clock::wall();
        let differences = self.differences(wants, now);
        let unknown = wants.iter().filter(|want| !self.held.contains_key(want.set));
        let many = differences.len() + unknown.map(Want::len).sum::<usize>();
        let mut quiet = monitor.filter(|_| many >= QUIET_FROM);
        if let Some(monitor) = &mut quiet {
            monitor.pause()?;
        }
        let mut transactions = 0;
        let loaded = self.load_all(wants, differences, now, &mut transactions);
        if let Some(monitor) = quiet {
            monitor.resume(transactions)?;
        }
        let loaded = loaded?;
        Ok(Loaded { took: start.elapsed(), ..loaded })
    }

    fn load_all(
        &mut self,
        wants: &[Want],
        differences: Differences,
        now: Wall,
        transactions: &mut u32,
    ) -> Result<Loaded> {
        let mut loaded = self.load_differences(wants, differences, transactions)?;
        for want in wants {
            if self.held.contains_key(want.set) {
                continue;
            }
            let replaced = replace(&mut self.channel, want.set, want.elements(now))
                .with_context(|| format!("cannot load set {}", want.set))?;
            *transactions += replaced.transactions;
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
            let (gone, come) = want.difference(held, now);
            differences.gone.push((want.set, gone.collect()));
            differences.come.push((want.set, come.collect()));
        }
        differences
    }

    fn load_differences(
        &mut self,
        wants: &[Want],
        differences: Differences,
        transactions: &mut u32,
    ) -> Result<Loaded> {
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
                *transactions += 1;
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

impl DeniedSets {
    /// Opens a socket of its own.
    ///
    /// # Errors
    /// If there is none.
    pub fn open() -> Result<DeniedSets> {
        Ok(DeniedSets(Channel::open()?))
    }

    /// The port by which its changes are known.
    ///
    /// # Errors
    /// If the socket is gone.
    pub fn port(&self) -> Result<u32> {
        Ok(self.0.port()?)
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
