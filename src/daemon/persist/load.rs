//! What is on disk at start, and what becomes of files that are not as they were written.

use std::fs::{DirBuilder, File};
use std::io;
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};

use super::state::{may_mend, remedy};
use super::{Keeper, Owed, Retry, Room};
use crate::config::{Config, EvidenceConfig};
use crate::daemon::clock;
use crate::daemon::lock::lock_state;
use crate::daemon::shared::Shared;
use crate::engine::limits::REGISTRY_SIZE_MAX;
use crate::engine::registry::{Limits, Registry, Saved};
use crate::engine::sieve::Sieve;
use crate::store::{self, Cut, Disk, Error, JsonError, Loaded, REGISTRY_FOLDER};

/// What was found on disk.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) loaded: Loaded,
    /// What a person should know.
    pub(super) complaints: Vec<String>,
    /// Something that was known once is not any more.
    pub(super) lost: bool,
    /// It has to be written anew.
    pub(super) is_stale: bool,
    pub(super) migrated: Vec<(PathBuf, PathBuf)>,
}

/// Why nothing was found.
pub(super) enum Unread {
    /// It may be readable later.
    Now(String, Option<io::Error>),
    /// A later synhold wrote it: it is not to be touched.
    Never(String),
}

impl Keeper {
    /// Loads the registry of the state directory; in memory-only mode nothing is ever written there.
    ///
    /// A disk that cannot be written is told and tried again; the daemon does its work without.
    ///
    /// # Errors
    /// If the state directory is another instance's or can never be one.
    pub fn load(config: &Config, shared: &Arc<Shared>) -> Result<Keeper> {
        let registry = shared.engine.registry();
        // All of it first: what is too much goes by its age and use then, not by its place in the file.
        registry.set_limits(Limits { addresses: REGISTRY_SIZE_MAX, keep: None });
        let now = Instant::now();
        let mut keeper = Keeper {
            state_dir: config.state_dir.clone(),
            writes: !config.memory_only,
            lock: None,
            disk: None,
            is_loaded: false,
            snapshot: None,
            owed: Owed::Nothing,
            migrated: Vec::new(),
            first_start: false,
            found: Loaded::default(),
            doubted_until: None,
            retry: Retry::new(),
            beside: None,
            appended: now,
            synced: now,
            room: Room { looked: now, told: now, over_quota: 0, for_room: 0 },
            is_snapshot_late: false,
        };
        let unwritable = if keeper.writes { keeper.take_folder()? } else { None };
        let sieve = shared.engine.sieve(clock::wall());
        match read(&keeper.state_dir, registry, &sieve, keeper.writes) {
            Ok(found) => keeper.adopt(found, shared),
            Err(unread) => keeper.do_without(unread, shared),
        }
        let EvidenceConfig { size, keep, .. } = config.evidence;
        registry.set_limits(Limits { addresses: size, keep });
        // What has just been read is on disk.
        registry.take_dirty();
        if let Some(error) = unwritable {
            keeper.degrade(&error, shared);
        } else if keeper.writes && keeper.is_loaded {
            keeper.begin(shared);
        }
        Ok(keeper)
    }

    /// Makes and locks the state directory. Returns the error of a disk that may be writable later.
    fn take_folder(&mut self) -> Result<Option<io::Error>> {
        match make_folder(&self.state_dir) {
            Ok(()) => warn_of_others(&self.state_dir),
            Err(error) if may_mend(&error) => return Ok(Some(error)),
            Err(error) => {
                return Err(error).with_context(|| {
                    let at = self.state_dir.display();
                    format!("cannot make the state directory {at}: choose another --state-dir")
                });
            }
        }
        self.lock = Some(lock_state(&self.state_dir)?);
        Ok(None)
    }

    fn adopt(&mut self, found: Found, shared: &Shared) {
        self.is_loaded = true;
        self.first_start = shared.engine.registry().is_empty() && !found.lost;
        self.migrated = found.migrated;
        if found.is_stale || found.lost {
            self.owed = Owed::Snapshot;
        }
        for complaint in found.complaints {
            shared.report_health("registry", false, complaint);
        }
        if found.lost {
            self.doubt("part of the registry was lost", shared);
        }
        self.found = found.loaded;
    }

    fn do_without(&mut self, unread: Unread, shared: &Shared) {
        let message = match unread {
            Unread::Now(why, error) => {
                let remedy = error.map_or_else(String::new, |error| {
                    format!(": {}", remedy(&error, &self.state_dir))
                });
                format!("{why}; nothing will be saved until this is mended{remedy}")
            }
            Unread::Never(why) => {
                self.writes = false;
                format!("{why}; it is left as it is, and nothing will be saved")
            }
        };
        self.owed = Owed::Snapshot;
        self.retry.failed();
        self.doubt("the registry could not be read", shared);
        self.note(false, message, shared);
    }

    /// The absence of a record proves nothing for as long as after a first start.
    fn doubt(&mut self, why: &str, shared: &Shared) {
        let grace = shared.engine.settings().evidence.grace;
        shared.engine.set_trouble("registry-load", Some(why.to_owned()));
        self.doubted_until = Some(Instant::now() + grace);
    }

    /// Trusts the evidence again when it is time.
    pub(super) fn end_doubt(&mut self, shared: &Shared) {
        if self.doubted_until.take_if(|until| Instant::now() >= *until).is_some() {
            shared.engine.set_trouble("registry-load", None);
        }
    }

    /// Opens the disk for writing, behind everything that is there.
    pub(super) fn open(&mut self, shared: &Shared) -> Result<()> {
        make_folder(&self.state_dir)?;
        if !self.lock.as_ref().is_some_and(|lock| is_same(lock, &self.state_dir)) {
            // The folder is not the one that was loaded from.
            self.is_loaded = false;
            self.lock = None;
            self.lock = Some(lock_state(&self.state_dir)?);
        }
        let folder = self.state_dir.join(REGISTRY_FOLDER);
        if !self.is_loaded {
            self.merge(shared)?;
        }
        let newest = store::newest(&folder)?.max(self.found.newest);
        self.disk = Some(Disk::open(&folder, &Loaded { newest, ..self.found.clone() })?);
        Ok(())
    }

    /// Takes in what could not be read at start. Who asked then may have another address by now, and nobody has kept
    /// the books: it counts as somebody's.
    fn merge(&mut self, shared: &Shared) -> Result<()> {
        let there = Registry::default();
        let found = match read(&self.state_dir, &there, &shared.engine.sieve(clock::wall()), true) {
            Ok(found) => found,
            Err(Unread::Never(why)) => {
                self.writes = false;
                anyhow::bail!("{why}; it is left as it is");
            }
            Err(Unread::Now(why, error)) => {
                return Err(error.map_or_else(|| anyhow::anyhow!("{why}"), anyhow::Error::from))
                    .context(why);
            }
        };
        let registry = shared.engine.registry();
        for address in there.addresses() {
            if let Some(saved) = there.saved(address) {
                registry.restore(address, &nobodys(saved));
            }
        }
        for complaint in found.complaints {
            shared.report_health("registry", false, complaint);
        }
        self.migrated.extend(found.migrated);
        self.found = found.loaded;
        self.is_loaded = true;
        self.owed = Owed::Snapshot;
        Ok(())
    }
}

fn nobodys(mut saved: Saved) -> Saved {
    saved.askers.clear();
    saved.names.iter_mut().for_each(|seen| seen.asker = None);
    saved
}

/// Reads everything there is in a state directory and goes through the `sieve`. What is damaged is kept under another
/// name if it `writes`.
pub(super) fn read(
    state_dir: &Path,
    registry: &Registry,
    sieve: &Sieve,
    writes: bool,
) -> Result<Found, Unread> {
    let folder = state_dir.join(REGISTRY_FOLDER);
    let mut found = Found::default();
    let cannot = |path: &Path, error: io::Error| {
        Unread::Now(format!("cannot read {}: {error}", path.display()), Some(error))
    };
    // Until the first snapshot is safe, what it is made of is where it was.
    if !store::has_snapshot(&folder).map_err(|error| cannot(&folder, error))? {
        read_former(state_dir, registry, sieve, writes, &mut found)?;
    }
    found.loaded = match store::load(&folder, registry, sieve) {
        Ok(loaded) => loaded,
        Err(error @ Error::Newer { .. }) => return Err(Unread::Never(error.to_string())),
        Err(Error::Read { path, source }) => return Err(cannot(&path, source)),
    };
    found.lost |= found.loaded.lost;
    found.is_stale |= found.loaded.skipped > 0 || !found.loaded.cuts.is_empty();
    found.complaints.extend(complaints(&found.loaded, writes));
    let left_out = sieve.left_out();
    if left_out > 0 {
        // Written anew, it is told once.
        found.is_stale = true;
        found.complaints.push(format!(
            "{left_out} names in the registry had addresses that no public name has; they are left out"
        ));
    }
    Ok(found)
}

/// What is told about files that are not as they were written.
fn complaints(loaded: &Loaded, writes: bool) -> Vec<String> {
    let mut complaints: Vec<String> =
        loaded.cuts.iter().map(|cut| complaint(cut, writes)).collect();
    complaints.extend(loaded.missing.iter().map(|path| format!("{} is missing", path.display())));
    if loaded.skipped > 0 {
        complaints.push(format!("{} records of the registry make no sense", loaded.skipped));
    }
    complaints
}

fn complaint(cut: &Cut, writes: bool) -> String {
    let Cut { path, good, lost, why, .. } = cut;
    let what = format!("{}: {why}; {good} bytes before that count, {lost} do not", path.display());
    if cut.is_torn || !writes {
        return what;
    }
    match store::keep_aside(path, clock::wall()) {
        Ok(aside) => format!("{what}; it was set aside as {}", aside.display()),
        Err(error) => format!("{what}; it cannot be set aside: {error}"),
    }
}

/// Reads the file of an earlier version, or the ancestor's.
fn read_former(
    state_dir: &Path,
    registry: &Registry,
    sieve: &Sieve,
    writes: bool,
    found: &mut Found,
) -> Result<(), Unread> {
    let files = [store::FORMER_FILE, store::ANCESTOR_FILE].map(|name| state_dir.join(name));
    let Some(path) = files.into_iter().find(|file| file.exists()) else { return Ok(()) };
    found.is_stale = true;
    let take = |address: IpAddr, mut saved: Saved| {
        sieve.sift(address, &mut saved);
        registry.restore(address, &saved);
    };
    let at = path.display();
    let aside = |end: &str| PathBuf::from(format!("{at}.{end}"));
    let damaged = || aside(&format!("damaged-{}", clock::wall().0));
    let stays = |becomes: &Path| match writes {
        true => format!("it is set aside as {}", becomes.display()),
        false => "the file is left as it is".to_owned(),
    };
    let becomes = match store::read_json(&path, clock::wall(), take) {
        Ok(0) => aside("migrated"),
        Ok(skipped) => {
            let becomes = damaged();
            found.complaints.push(format!(
                "{skipped} entries of {at} are not understood and are left out; {}",
                stays(&becomes)
            ));
            becomes
        }
        Err(JsonError::Read { path, source }) => {
            let why = format!("cannot read {}: {source}", path.display());
            return Err(Unread::Now(why, Some(source)));
        }
        Err(error @ JsonError::Damaged { .. }) => {
            found.lost = true;
            let becomes = damaged();
            found.complaints.push(format!(
                "{error}; {} addresses before the damage are used, {}",
                registry.len(),
                stays(&becomes)
            ));
            becomes
        }
    };
    found.migrated.push((path.clone(), becomes));
    Ok(())
}

fn is_same(lock: &File, folder: &Path) -> bool {
    let number = |about: io::Result<std::fs::Metadata>| about.map(|a| (a.dev(), a.ino())).ok();
    let ours = number(lock.metadata());
    ours.is_some() && ours == number(std::fs::metadata(folder))
}

/// Whoever can write there decides what is evidence.
fn warn_of_others(folder: &Path) {
    let Ok(about) = std::fs::metadata(folder) else { return };
    if about.mode() & 0o022 != 0 || about.uid() != nix::unistd::geteuid().as_raw() {
        tracing::warn!("others than we can write to {}: make it ours alone", folder.display());
    }
}

fn make_folder(folder: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder)
}
