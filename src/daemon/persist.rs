//! The registry across restarts: loaded at start, kept on disk as it changes, never over what is not understood.

mod files;
mod load;
mod state;
mod write;

use std::fs::File;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::engine::inventory::Tenants;
use crate::store::{Disk, Loaded, Snapshot};

use super::marks::Reached;
use super::shared::Shared;
pub use files::Files;
pub use state::DiskState;

/// What changed is written this often: what a killed process loses.
pub const APPEND_INTERVAL: Duration = Duration::from_secs(1);
/// Pause between two steps of a snapshot, which leaves half a processor to others.
const STEP_PAUSE: Duration = Duration::from_millis(5);
/// First and longest pause before a disk that failed is tried again.
const RETRY_PAUSE_MIN: Duration = Duration::from_secs(1);
const RETRY_PAUSE_MAX: Duration = Duration::from_secs(60);
/// How often what is too old is looked for, and that room was made is told.
const ROOM_INTERVAL: Duration = Duration::from_secs(60);

/// Keeps the registry of one daemon on disk.
pub struct Keeper {
    state_dir: PathBuf,
    /// False if nothing may ever be written there.
    writes: bool,
    /// Held for its lock.
    lock: Option<File>,
    /// None while it cannot be written.
    disk: Option<Disk>,
    /// What is on disk is in memory.
    is_loaded: bool,
    /// Being written.
    snapshot: Option<Snapshot>,
    owed: Owed,
    /// Files that go under another name once a snapshot holds what is in them.
    migrated: Vec<(PathBuf, PathBuf)>,
    first_start: bool,
    /// What was read.
    found: Loaded,
    /// Until when the evidence is not trusted for what was lost.
    doubted_until: Option<Instant>,
    retry: Retry,
    /// What others keep of the moment of the last append.
    beside: Option<(Reached, std::sync::Arc<Tenants>)>,
    appended: Instant,
    synced: Instant,
    room: Room,
    /// A snapshot alone failed, and that has been told.
    is_snapshot_late: bool,
}

/// Whether there is something in memory that no journal has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owed {
    /// No.
    Nothing,
    /// Only a snapshot that begins from now on has it.
    Snapshot,
    /// The snapshot being written has it.
    Begun,
}

/// When a disk that failed is tried again.
#[derive(Debug)]
struct Retry {
    at: Instant,
    pause: Duration,
}

impl Retry {
    fn new() -> Retry {
        Retry { at: Instant::now(), pause: RETRY_PAUSE_MIN }
    }

    fn is_due(&self) -> bool {
        Instant::now() >= self.at
    }

    fn failed(&mut self) {
        self.at = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(RETRY_PAUSE_MAX);
    }

    fn succeeded(&mut self) {
        *self = Retry::new();
    }
}

/// What was thrown out since that was told last.
#[derive(Debug)]
struct Room {
    looked: Instant,
    told: Instant,
    over_quota: usize,
    for_room: usize,
}

impl Keeper {
    /// True if nothing is known and nothing was: there is no registry yet, or an empty one. One that is lost is no such
    /// thing: the evidence is not trusted for a while then, but nobody learns anew.
    pub fn is_first_start(&self) -> bool {
        self.first_start
    }

    /// True if what sources have told is not all known: they are to be read anew as far as they go back.
    pub fn lacks_something(&self, shared: &Shared) -> bool {
        self.doubted_until.is_some() || shared.engine.registry().is_empty()
    }

    /// How long until [`Keeper::tick`] has something to do.
    pub fn pause(&self) -> Duration {
        if self.snapshot.is_some() { STEP_PAUSE } else { APPEND_INTERVAL }
    }
}
