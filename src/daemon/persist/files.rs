//! The registry's files in the hands of a command, where no daemon runs.

use std::path::Path;

use anyhow::{Result, anyhow, bail};

use super::load::{Found, Unread, read};
use crate::daemon::clock;
use crate::daemon::ledger::unbounded;
use crate::daemon::lock::lock_state;
use crate::engine::registry::Registry;
use crate::engine::sieve::Sieve;
use crate::store::{Disk, REGISTRY_FOLDER};

/// The registry's files.
pub struct Files;

impl Files {
    /// Reads everything there is.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn read(state_dir: &Path, registry: &Registry) -> Result<()> {
        let found = found(state_dir, registry, false)?;
        found.complaints.iter().for_each(|complaint| tracing::warn!("{complaint}"));
        Ok(())
    }

    /// Reads everything there is, changes it, and brings that to disk, under the lock of the state directory.
    ///
    /// # Errors
    /// If a daemon uses the directory, or it cannot be read or written. What `change` did before it failed is kept.
    pub fn change<T>(state_dir: &Path, change: impl FnOnce(&Registry) -> Result<T>) -> Result<T> {
        if !state_dir.is_dir() {
            bail!("there is no state directory {}", state_dir.display());
        }
        let _lock = lock_state(state_dir)?;
        let registry = unbounded();
        let found = found(state_dir, &registry, true)?;
        found.complaints.iter().for_each(|complaint| tracing::warn!("{complaint}"));
        registry.take_dirty();
        let changed = change(&registry);
        let dirty = registry.take_dirty();
        let is_anew = found.is_stale || found.lost || dirty.overflowed;
        if dirty.addresses.is_empty() && !is_anew {
            return changed;
        }
        let mut disk = Disk::open(&state_dir.join(REGISTRY_FOLDER), &found.loaded)?;
        if is_anew {
            let mut snapshot = disk.begin(&registry)?;
            while !snapshot.step(&registry)? {}
            disk.finish(snapshot)?;
            for (from, to) in found.migrated {
                std::fs::rename(from, to)?;
            }
        } else {
            disk.append(&registry, &dirty.addresses)?;
            disk.sync()?;
        }
        changed
    }
}

fn found(state_dir: &Path, registry: &Registry, writes: bool) -> Result<Found> {
    // What this host's own business is the daemon knows, which looks at it when it reads them.
    let sieve = Sieve::new(None, clock::wall());
    read(state_dir, registry, &sieve, writes).map_err(|unread| match unread {
        Unread::Now(why, _) | Unread::Never(why) => anyhow!(why),
    })
}
