//! Writing the registry: a journal that only grows, and from time to time a snapshot that begins anew.
//!
//! # Generations
//!
//! A snapshot and the journal that goes on from it have one number. To begin generation N + 1:
//!
//! 1. `journal-N` is synced and closed, `journal-(N+1)` is made, with its header on disk. All that changes from here on
//!    goes there.
//! 2. `snapshot-(N+1)` is written under another name, bit by bit, while the journal goes on; synced, renamed, and the
//!    folder synced.
//! 3. What is older goes: the snapshot first, so that there is never one whose journals are not all there.
//!
//! A crash before the end of 2 leaves `snapshot-N` with both journals, a crash after it the new generation. What changed
//! while the snapshot was written is in both or in the journal alone, and the journal is read after it. A frame says
//! everything about its address, so that reading one twice, or one that is older than the snapshot, ends with the last.
//!
//! A file is never opened to be written again: a start begins a journal of its own, behind whatever tail a crash left.

use std::fs::File;
use std::io::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::folder::{self, Piece};
use super::frame::{Purpose, header};
use super::load::Loaded;
use super::wire;
use crate::engine::registry::{Registry, Saved};

/// A snapshot is made when the journals are this part of the last one: reading both takes half as long again as reading
/// the one, and three bytes are written for each that changes.
const JOURNALS_PART: u64 = 2;
/// Journals smaller than that are no reason for a snapshot: they are read in a tenth of a second.
const JOURNALS_BYTES_MIN: u64 = 8 << 20;
/// More of them are one, however small: each start adds one.
const JOURNALS_MAX: usize = 16;
/// Addresses put into a snapshot in one step: some milliseconds, and half a megabyte.
const ADDRESSES_PER_STEP: usize = 8192;
/// A snapshot is synced after so many bytes, so that no sync takes long, and the journal's not behind it.
const SYNC_BYTES: u64 = 8 << 20;

/// The registry's files, being written.
#[derive(Debug)]
pub struct Disk {
    folder: PathBuf,
    generation: u64,
    journal: File,
    journal_path: PathBuf,
    /// Frames on their way into the journal.
    buffer: Vec<u8>,
    /// Something is in the journal that a power failure would take.
    is_unsynced: bool,
    is_broken: bool,
    /// There are frames in the journal.
    has_frames: bool,
    snapshot_bytes: u64,
    journal_bytes: u64,
    journals: usize,
}

impl Disk {
    /// Begins a journal behind everything that was `loaded` from the folder, which is made where it is missing.
    ///
    /// # Errors
    /// If that cannot be written.
    pub fn open(folder: &Path, loaded: &Loaded) -> io::Result<Disk> {
        folder::make(folder)?;
        let generation = match loaded.newest {
            None => 1,
            // A crash came before its header was on disk. Under another start's journals it would look like a loss.
            Some(newest) if folder::take_unbegun(folder, newest)? => newest,
            Some(newest) => newest.saturating_add(1),
        };
        let (journal, journal_path) = begin_journal(folder, generation)?;
        Ok(Disk {
            folder: folder.to_owned(),
            generation,
            journal,
            journal_path,
            buffer: Vec::new(),
            is_unsynced: false,
            is_broken: false,
            has_frames: false,
            snapshot_bytes: loaded.snapshot_bytes,
            journal_bytes: loaded.journal_bytes,
            journals: loaded.journals + 1,
        })
    }

    /// Writes what is known of these addresses: those of a second in one write, more in several.
    ///
    /// # Errors
    /// If it cannot be written. The journal may end anywhere then: nothing more is written to it, see
    /// [`Disk::is_broken`].
    pub fn append(&mut self, registry: &Registry, addresses: &[IpAddr]) -> io::Result<()> {
        self.check()?;
        for some in addresses.chunks(ADDRESSES_PER_STEP) {
            self.buffer.clear();
            for &address in some {
                put(&mut self.buffer, address, registry.saved(address).as_ref());
            }
            (self.is_unsynced, self.has_frames) = (true, true);
            let written = self.journal.write_all(&self.buffer);
            self.is_broken |= written.is_err();
            written?;
            self.journal_bytes += self.buffer.len() as u64;
            step();
        }
        Ok(())
    }

    /// The journal takes no more: a [`Disk`] has to be opened anew, and to begin with a snapshot.
    pub fn is_broken(&self) -> bool {
        self.is_broken
    }

    fn check(&self) -> io::Result<()> {
        match self.is_broken {
            true => Err(io::Error::other("an earlier write to the journal failed")),
            false => Ok(()),
        }
    }

    /// Makes what was appended last, whatever happens.
    ///
    /// # Errors
    /// If the disk does not take it, or the journal is no longer where it was: somebody removed it.
    pub fn sync(&mut self) -> io::Result<()> {
        self.check()?;
        if !folder::is_at(&self.journal, &self.journal_path) {
            self.is_broken = true;
            let text = format!("{} is gone", self.journal_path.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, text));
        }
        if std::mem::take(&mut self.is_unsynced) {
            // Once it has failed, a later one says nothing about what was to be synced then.
            let synced = self.journal.sync_data();
            self.is_broken |= synced.is_err();
            synced?;
            step();
        }
        Ok(())
    }

    /// Whether the journals have grown enough for a snapshot.
    pub fn wants_snapshot(&self) -> bool {
        let most = (self.snapshot_bytes / JOURNALS_PART).max(JOURNALS_BYTES_MIN);
        self.journal_bytes > most || self.journals > JOURNALS_MAX
    }

    /// Begins a generation: from here on changes go to its journal. Then [`Snapshot::step`] is to be called until it says
    /// that it is whole, and [`Disk::finish`].
    ///
    /// # Errors
    /// If that cannot be written. The journal goes on, this one or the next.
    pub fn begin(&mut self, registry: &Registry) -> io::Result<Snapshot> {
        self.sync()?;
        // An empty one does for this snapshot, too: so a disk that is tried again and again does not fill with them.
        if self.has_frames {
            let next = self.generation + 1;
            let (journal, path) = begin_journal(&self.folder, next)?;
            (self.journal, self.journal_path, self.generation) = (journal, path, next);
            self.has_frames = false;
            self.journals += 1;
        }
        let generation = self.generation;
        let (unfinished, mut file) = folder::create_unfinished(&self.folder)?;
        // Before the addresses are listed the journal has been changed, so that none is missed.
        let addresses = registry.addresses().into_iter();
        file.write_all(&header(Purpose::Snapshot, generation))?;
        Ok(Snapshot {
            piece: Piece::new(&self.folder, Purpose::Snapshot, generation),
            unfinished,
            file,
            addresses,
            frames: 0,
            checksum: crc32fast::Hasher::new(),
            buffer: Vec::new(),
            bytes: 0,
            unsynced: 0,
            is_done: false,
            journal_bytes: self.journal_bytes,
        })
    }

    /// Puts a whole snapshot in its place, and takes away what it makes needless.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn finish(&mut self, mut snapshot: Snapshot) -> io::Result<()> {
        snapshot.file.sync_all()?;
        step();
        std::fs::rename(&snapshot.unfinished, &snapshot.piece.path)?;
        snapshot.is_done = true;
        step();
        folder::sync(&self.folder)?;
        self.snapshot_bytes = snapshot.bytes;
        self.journal_bytes -= snapshot.journal_bytes;
        self.journals = 1;
        // What stays does no harm; the next one takes it along.
        if let Err(error) = remove_older(&self.folder, &snapshot.piece) {
            tracing::debug!(
                "cannot remove what is before {}: {error}",
                snapshot.piece.path.display()
            );
        }
        Ok(())
    }

    /// Bytes of the snapshot and of the journals since.
    pub fn sizes(&self) -> (u64, u64) {
        (self.snapshot_bytes, self.journal_bytes)
    }

    /// The newest generation.
    pub fn generation(&self) -> u64 {
        self.generation
    }
}

/// Puts one frame there. One address that fits none is no reason to keep the others off the disk.
fn put(buffer: &mut Vec<u8>, address: IpAddr, saved: Option<&Saved>) -> Option<[u8; 8]> {
    wire::put(buffer, address, saved)
        .inspect_err(|error| {
            tracing::error!("an address cannot be saved: {error}");
            tracing::debug!("not saved: {address}");
        })
        .ok()
}

fn begin_journal(folder: &Path, generation: u64) -> io::Result<(File, PathBuf)> {
    let path = Piece::new(folder, Purpose::Journal, generation).path;
    let mut file = folder::create(&path)?;
    step();
    let begun = file
        .write_all(&header(Purpose::Journal, generation))
        .and_then(|()| file.sync_all())
        .and_then(|()| folder::sync(folder));
    if let Err(error) = begun {
        // Else the next try would find it in its way.
        let _ = std::fs::remove_file(&path);
        return Err(error);
    }
    step();
    Ok((file, path))
}

/// Takes away what is older than a snapshot.
fn remove_older(folder: &Path, than: &Piece) -> io::Result<()> {
    let mut older = folder::pieces(folder)?;
    older.retain(|piece| piece < than);
    older.sort_by_key(|piece| piece.purpose);
    for piece in older {
        std::fs::remove_file(&piece.path)?;
        step();
    }
    Ok(())
}

/// A snapshot that is being written. Dropped before it is in its place, it leaves nothing.
#[derive(Debug)]
pub struct Snapshot {
    piece: Piece,
    unfinished: PathBuf,
    file: File,
    addresses: std::vec::IntoIter<IpAddr>,
    frames: u64,
    checksum: crc32fast::Hasher,
    buffer: Vec<u8>,
    bytes: u64,
    unsynced: u64,
    is_done: bool,
    /// What was in the journals when it was begun, which it makes needless.
    journal_bytes: u64,
}

impl Snapshot {
    /// Leaves out addresses that are not to be kept.
    pub fn retain(&mut self, keep: impl Fn(&IpAddr) -> bool) {
        let addresses: Vec<IpAddr> = std::mem::take(&mut self.addresses).filter(keep).collect();
        self.addresses = addresses.into_iter();
    }

    /// Writes some more; true if it is whole then.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn step(&mut self, registry: &Registry) -> io::Result<bool> {
        self.buffer.clear();
        let mut left = ADDRESSES_PER_STEP;
        for address in self.addresses.by_ref().take(ADDRESSES_PER_STEP) {
            left -= 1;
            // What was forgotten meanwhile is in the journal as such.
            let Some(saved) = registry.saved(address) else { continue };
            let Some(head) = put(&mut self.buffer, address, Some(&saved)) else { continue };
            self.checksum.update(&head);
            self.frames += 1;
        }
        let is_whole = left > 0;
        if is_whole {
            let checksum = self.checksum.clone().finalize();
            wire::put_end(&mut self.buffer, self.frames, checksum).map_err(io::Error::other)?;
        }
        self.file.write_all(&self.buffer)?;
        step();
        let written = self.buffer.len() as u64;
        self.bytes += written;
        self.unsynced += written;
        if self.unsynced > SYNC_BYTES {
            self.unsynced = 0;
            self.file.sync_data()?;
        }
        Ok(is_whole)
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        if !self.is_done {
            let _ = std::fs::remove_file(&self.unfinished);
        }
    }
}

/// Between two changes of the disk: where a crash could come, which is where tests look.
#[cfg(not(test))]
fn step() {}

#[cfg(test)]
fn step() {
    tests::step();
}

#[cfg(test)]
#[path = "disk_test.rs"]
mod tests;
