//! Once a second: what changed goes to the journal, now and then a snapshot is made, and a disk that fails is tried
//! again. None of it is waited for by whoever judges or reads a log.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use super::state::remedy;
use super::{APPEND_INTERVAL, DiskState, Keeper, Owed, ROOM_INTERVAL};
use crate::daemon::clock;
use crate::daemon::marks::Marks;
use crate::daemon::shared::Shared;
use crate::engine::limits::SAVE_INTERVAL;
use crate::events::Sign;

impl Keeper {
    /// Does what is due.
    pub fn tick(&mut self, marks: &Marks, shared: &Arc<Shared>) {
        self.end_doubt(shared);
        self.make_room(shared);
        if self.writes && self.disk.is_none() && self.retry.is_due() {
            self.begin(shared);
        }
        if self.appended.elapsed() >= APPEND_INTERVAL {
            self.append(marks, shared);
        }
        if self.synced.elapsed() >= SAVE_INTERVAL {
            self.sync(marks, shared);
        }
        self.go_on_with_snapshot(shared);
    }

    /// Appends what changed, without waiting for the disk itself: whoever reads the files then finds it. False if they do
    /// not get it.
    pub fn flush(&mut self, marks: &Marks, shared: &Arc<Shared>) -> bool {
        self.append(marks, shared);
        self.disk.is_some() && self.owed == Owed::Nothing
    }

    /// Brings everything to disk, at stop. A snapshot that holds what nothing else does is finished for that.
    pub fn close(&mut self, marks: &Marks, shared: &Arc<Shared>) {
        if self.writes && self.disk.is_none() {
            self.begin(shared);
        }
        if self.owed == Owed::Nothing {
            self.snapshot = None;
        }
        self.retry.succeeded();
        self.append(marks, shared);
        while self.disk.is_some() && self.owed != Owed::Nothing && self.retry.is_due() {
            self.go_on_with_snapshot(shared);
        }
        self.append(marks, shared);
        self.sync(marks, shared);
    }

    fn make_room(&mut self, shared: &Shared) {
        let registry = shared.engine.registry();
        if registry.wants_room() || self.room.looked.elapsed() >= ROOM_INTERVAL {
            self.room.looked = Instant::now();
            let gone = registry.make_room(clock::wall());
            self.room.over_quota += gone.over_quota;
            self.room.for_room += gone.for_room;
        }
        let (over, room) = (self.room.over_quota, self.room.for_room);
        if over + room > 0 && self.room.told.elapsed() >= ROOM_INTERVAL {
            self.room.told = Instant::now();
            (self.room.over_quota, self.room.for_room) = (0, 0);
            let message = format!(
                "{over} addresses of askers over their share made room, and {room} that were not needed lately"
            );
            shared.report_health("registry", false, message);
        }
    }

    /// Opens the disk.
    pub(super) fn begin(&mut self, shared: &Shared) {
        match self.open(shared) {
            Ok(()) if self.owed == Owed::Nothing => self.retry.succeeded(),
            // It is well again when it holds everything.
            Ok(()) => {}
            Err(error) => match error.downcast::<io::Error>() {
                Ok(error) => self.degrade(&error, shared),
                Err(error) => {
                    self.fail();
                    self.note(false, format!("the registry is not saved: {error:#}"), shared);
                }
            },
        }
    }

    fn append(&mut self, marks: &Marks, shared: &Arc<Shared>) {
        self.appended = Instant::now();
        // Both before the records are taken: a mark on disk without its records would hide them for good, and a tenant
        // with what another asked for would inherit it.
        let beside = (marks.reached(), shared.tenants.tenants());
        let registry = shared.engine.registry();
        let mut dirty = registry.take_dirty();
        let canary = shared.canary_way.places();
        let is_its = |address| canary.iter().any(|place| place.destinations().contains(address));
        dirty.addresses.retain(|address| !is_its(*address));
        if dirty.overflowed {
            self.owed = Owed::Snapshot;
        }
        let Some(disk) = &mut self.disk else { return };
        // What only a snapshot can save needs no journal before that, and one behind it would be older than it.
        if self.owed == Owed::Snapshot {
            return;
        }
        match disk.append(registry, &dirty.addresses) {
            Ok(()) => {
                if !dirty.addresses.is_empty() {
                    tracing::debug!(
                        "{} registry saved: {} addresses",
                        Sign::Saved,
                        dirty.addresses.len()
                    );
                }
                self.beside = Some(beside);
            }
            Err(error) => self.degrade(&error, shared),
        }
    }

    fn sync(&mut self, marks: &Marks, shared: &Shared) {
        self.synced = Instant::now();
        let Some(disk) = &mut self.disk else { return };
        if let Err(error) = disk.sync() {
            return self.degrade(&error, shared);
        }
        if self.owed != Owed::Nothing {
            return;
        }
        if let Some((reached, tenants)) = self.beside.take() {
            marks.save(&reached);
            shared.tenants.save(tenants);
        }
    }

    fn go_on_with_snapshot(&mut self, shared: &Shared) {
        let registry = shared.engine.registry();
        let Some(disk) = &mut self.disk else { return };
        let done = match self.snapshot.take() {
            None if self.owed == Owed::Nothing && !disk.wants_snapshot() => return,
            None if !self.retry.is_due() => return,
            None => disk.begin(registry).map(|mut snapshot| {
                for canary in shared.canary_way.places() {
                    snapshot.retain(|address| !canary.destinations().contains(*address));
                }
                self.snapshot = Some(snapshot);
                if self.owed == Owed::Snapshot {
                    self.owed = Owed::Begun;
                }
            }),
            Some(mut snapshot) => match snapshot.step(registry) {
                Ok(true) => disk.finish(snapshot).map(|()| self.has_snapshot(shared)),
                Ok(false) => {
                    self.snapshot = Some(snapshot);
                    Ok(())
                }
                Err(error) => Err(error),
            },
        };
        if let Err(error) = done {
            self.snapshot_failed(&error, shared);
        }
    }

    fn has_snapshot(&mut self, shared: &Shared) {
        if self.owed == Owed::Begun {
            self.owed = Owed::Nothing;
        }
        self.retry.succeeded();
        for (from, to) in self.migrated.drain(..) {
            if let Err(error) = std::fs::rename(&from, &to) {
                let message = format!("{} keeps its name: {error}", from.display());
                shared.report_health("registry", false, message);
            }
        }
        self.is_snapshot_late = false;
        self.note(true, "the registry is saved again".to_owned(), shared);
    }

    fn snapshot_failed(&mut self, error: &io::Error, shared: &Shared) {
        if self.owed == Owed::Begun {
            self.owed = Owed::Snapshot;
        }
        let is_broken = self.disk.as_ref().is_none_or(|disk| disk.is_broken());
        if is_broken || self.owed == Owed::Snapshot {
            return self.degrade(error, shared);
        }
        // Everything is in the journals, which grow meanwhile.
        self.retry.failed();
        if !std::mem::replace(&mut self.is_snapshot_late, true) {
            let message = format!(
                "the registry cannot be put together anew: {error}; its journal grows: {}",
                remedy(error, &self.state_dir)
            );
            self.note(false, message, shared);
        }
    }

    /// Goes on in memory.
    pub(super) fn degrade(&mut self, error: &io::Error, shared: &Shared) {
        let message = format!(
            "the registry cannot be saved: {error}; what is learned stays in memory: {}",
            remedy(error, &self.state_dir)
        );
        self.fail();
        self.note(false, message, shared);
    }

    fn fail(&mut self) {
        self.snapshot = None;
        self.beside = None;
        self.owed = Owed::Snapshot;
        self.retry.failed();
        // A disk that is not broken has an empty journal, which the next try goes on with.
        self.disk.take_if(|disk| disk.is_broken());
    }

    /// Notes how the disk is, and tells it if that is news.
    pub(super) fn note(&self, ok: bool, message: String, shared: &Shared) {
        let mut state = shared.disk();
        if state.ok == ok && (ok || state.message == message) {
            return;
        }
        *state = DiskState { ok, message: message.clone(), since: clock::wall() };
        drop(state);
        shared.report_health("registry", ok, message);
    }
}
