//! The registry across restarts: loaded at start, saved when changed and at stop, never over a damaged file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::clock;
use super::lock::lock_state;
use super::shared::Shared;
use crate::engine::limits::SAVE_INTERVAL;
use crate::store::{self, ANCESTOR_FILE, Error, REGISTRY_FILE};

/// A save may take this share of the time at most, so that a huge registry does not keep the disk busy.
const SAVE_SHARE: u32 = 20;

/// Saves the registry of one daemon.
pub struct Keeper {
    /// None if nothing may be written.
    path: Option<PathBuf>,
    /// Held for its lock.
    _state: Option<File>,
    saved: u64,
    failing: bool,
    pause: Duration,
}

impl Keeper {
    /// Loads the registry of `state_dir`; with `memory_only` nothing is ever written there.
    ///
    /// # Errors
    /// If the state directory cannot be made.
    pub fn load(state_dir: &Path, memory_only: bool, shared: &Shared) -> Result<Keeper> {
        let path = state_dir.join(REGISTRY_FILE);
        let mut keeper = Keeper {
            path: (!memory_only).then(|| path.clone()),
            _state: None,
            saved: 0,
            failing: false,
            pause: SAVE_INTERVAL,
        };
        if !memory_only {
            make_folder(state_dir)?;
            keeper._state = Some(lock_state(state_dir)?);
        }
        let file = if path.exists() { path } else { state_dir.join(ANCESTOR_FILE) };
        let clean = keeper.load_file(&file, shared);
        // What was not read as it stands is to be written as it was understood.
        if clean && !file.ends_with(ANCESTOR_FILE) {
            keeper.saved = shared.engine.registry().changes();
        }
        Ok(keeper)
    }

    /// Loads `file`; true if all of it was understood.
    fn load_file(&mut self, file: &Path, shared: &Shared) -> bool {
        match store::load(file, shared.engine.registry(), clock::wall()) {
            Ok(loaded) if loaded.skipped > 0 => self.keep_copy(file, loaded.skipped, shared),
            Ok(_) => return true,
            Err(error @ Error::Read { .. }) => {
                self.path = None;
                shared.report_health(
                    "registry",
                    false,
                    format!("{error}; nothing will be saved until this is mended"),
                );
            }
            Err(error @ Error::Damaged { .. }) => self.set_aside(file, &error, shared),
        }
        false
    }

    /// Some entries are neither ours nor the ancestor's: the next save would lose them.
    fn keep_copy(&mut self, file: &Path, skipped: u64, shared: &Shared) {
        let what = format!("{skipped} entries of {} are not understood", file.display());
        if self.path.as_deref() != Some(file) {
            return shared.report_health("registry", false, format!("{what} and are left out"));
        }
        let message = match store::copy_aside(file, clock::wall()) {
            Ok(copy) => format!("{what} and are left out; {} keeps them", copy.display()),
            Err(error) => {
                self.path = None;
                format!("{what} and the file cannot be copied ({error}); nothing will be saved")
            }
        };
        shared.report_health("registry", false, message);
    }

    fn set_aside(&mut self, file: &Path, error: &Error, shared: &Shared) {
        let kept = shared.engine.registry().len();
        if self.path.as_deref() != Some(file) {
            let message = format!(
                "{error}; {kept} addresses before the damage are used, the file is left as it is"
            );
            return shared.report_health("registry", false, message);
        }
        match store::set_aside(file, clock::wall()) {
            Ok(aside) => {
                let message = format!(
                    "{error}; it was set aside as {}, {kept} addresses before the damage are used",
                    aside.display()
                );
                shared.report_health("registry", false, message);
            }
            Err(rename) => {
                self.path = None;
                let message = format!(
                    "{error} and cannot be set aside ({rename}); nothing will be saved over it"
                );
                shared.report_health("registry", false, message);
            }
        }
    }

    /// Time until the next save is due.
    pub fn pause(&self) -> Duration {
        self.pause
    }

    /// Saves if something changed. True if everything that was known at the call is on disk.
    pub fn save(&mut self, shared: &Arc<Shared>) -> bool {
        let gone = shared.engine.registry().make_room(clock::wall()).total();
        if gone > 0 {
            let message = format!("{gone} addresses of the asker with the most made room");
            shared.report_health("registry", false, message);
        }
        let Some(path) = &self.path else { return false };
        let changes = shared.engine.registry().changes();
        if changes == self.saved {
            return true;
        }
        let start = Instant::now();
        let saved = store::save(path, shared.engine.registry());
        let done = saved.is_ok();
        match saved {
            Ok(()) => {
                self.saved = changes;
                if std::mem::take(&mut self.failing) {
                    shared.report_health(
                        "registry",
                        true,
                        "the registry is saved again".to_owned(),
                    );
                }
            }
            Err(error) => {
                if !std::mem::replace(&mut self.failing, true) {
                    let message = format!(
                        "cannot save {}: {error}; what is learned stays in memory",
                        path.display()
                    );
                    shared.report_health("registry", false, message);
                }
            }
        }
        self.pause = SAVE_INTERVAL.max(start.elapsed() * SAVE_SHARE);
        done
    }
}

fn make_folder(folder: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.with_context(|| {
        format!("cannot make the state directory {}: choose another --state-dir", folder.display())
    })
}
