//! Reading the registry: the newest whole snapshot, then every journal since, each as far as it is good.

use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::mpsc::sync_channel;

use super::plan::Plan;
use super::wire::{self, Frame};
use crate::engine::registry::Saved;

/// Bytes handed to the other thread at once, and how many such batches may wait for it.
const BATCH_BYTES: usize = 1 << 18;
const BATCHES_MAX: usize = 8;

/// Why nothing may be read or written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The files are there but cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A later synhold wrote it.
    #[error("{path} has format {format}, which is too new for this synhold")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its format.
        format: u32,
    },
}

/// A file that is not what was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The file.
    pub path: PathBuf,
    /// Bytes of it that count.
    pub good: u64,
    /// Bytes that do not.
    pub lost: u64,
    /// What is wrong behind them.
    pub why: String,
    /// It just ends too early, as after a crash.
    pub is_torn: bool,
}

/// What reading brought.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Frames taken in.
    pub frames: u64,
    /// Frames that make no sense although they are what was written.
    pub skipped: u64,
    /// Files that are not what was written.
    pub cuts: Vec<Cut>,
    /// Files that should be there and are not.
    pub missing: Vec<PathBuf>,
    /// Something is gone that was known once: a damaged snapshot is no loss while the one before it is there.
    pub lost: bool,
    /// The highest generation there is; none if there is no file.
    pub newest: Option<u64>,
    /// Bytes of the snapshot that was read.
    pub snapshot_bytes: u64,
    /// Bytes of the journals that were read.
    pub journal_bytes: u64,
    /// How many those are.
    pub journals: usize,
}

/// What is learned of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// This is known, and nothing has been said about the address before.
    First(Saved),
    /// Whatever was known of it, this is known now.
    Known(Saved),
    /// It was forgotten.
    Gone,
}

/// Hands everything in a folder that is about an address that is `wanted` to `take`, in the order in which it was
/// written. No folder is an empty registry.
///
/// # Errors
/// See [`Error`]; nothing has been taken then.
pub fn load_if(
    folder: &Path,
    wanted: impl Fn(IpAddr) -> bool,
    mut take: impl FnMut(IpAddr, Change),
) -> Result<Loaded, Error> {
    let plan = Plan::make(folder)?;
    let mut count = Count::default();
    let mut loaded = plan.walk(|payload, is_first| {
        if wire::address(payload).is_none_or(&wanted) {
            count.take(payload, is_first, &mut take);
        }
    });
    count.add_to(&mut loaded);
    Ok(loaded)
}

/// Hands everything in a folder to `take`, in the order in which it was written for each address; on two threads, since
/// putting a million addresses into a registry is what takes the time. How many a snapshot has goes to `begin` before.
///
/// # Errors
/// See [`load_if`].
pub fn load_all(
    folder: &Path,
    begin: impl FnOnce(usize),
    take: impl Fn(IpAddr, Change) + Sync,
) -> Result<Loaded, Error> {
    let plan = Plan::make(folder)?;
    begin(usize::try_from(plan.addresses).unwrap_or(0));
    Ok(std::thread::scope(|scope| {
        let (send, batches) = sync_channel::<Batch>(BATCHES_MAX);
        let help = || {
            let mut count = Count::default();
            for batch in batches {
                batch.each(|payload, is_first| count.take(payload, is_first, &mut &take));
            }
            count
        };
        let helper = std::thread::Builder::new().name("load".to_owned()).spawn_scoped(scope, help);
        let (mut count, mut batch) = (Count::default(), Batch::default());
        let mut loaded = plan.walk(|payload, is_first| {
            let is_own = wire::address(payload).is_none_or(is_even);
            if is_own || helper.is_err() {
                return count.take(payload, is_first, &mut &take);
            }
            batch.add(payload, is_first);
            if batch.bytes.len() >= BATCH_BYTES {
                // It listens until we let go.
                let _ = send.send(std::mem::take(&mut batch));
            }
        });
        let _ = send.send(batch);
        drop(send);
        if let Some(helped) = helper.ok().and_then(|helper| helper.join().ok()) {
            helped.add_to(&mut loaded);
        }
        count.add_to(&mut loaded);
        loaded
    }))
}

/// One half of all addresses, whatever they have in common.
fn is_even(address: IpAddr) -> bool {
    let sum = |octets: &[u8]| octets.iter().fold(0, |sum, octet| sum ^ octet).count_ones();
    let ones = match address {
        IpAddr::V4(v4) => sum(&v4.octets()),
        IpAddr::V6(v6) => sum(&v6.octets()),
    };
    ones.is_multiple_of(2)
}

/// Frames on their way to the other thread.
#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    /// Where each ends, and whether it is of a snapshot that all begins with.
    ends: Vec<(usize, bool)>,
}

impl Batch {
    fn add(&mut self, payload: &[u8], is_first: bool) {
        self.bytes.extend_from_slice(payload);
        self.ends.push((self.bytes.len(), is_first));
    }

    fn each(&self, mut each: impl FnMut(&[u8], bool)) {
        let mut start = 0;
        for &(end, is_first) in &self.ends {
            each(self.bytes.get(start..end).unwrap_or_default(), is_first);
            start = end;
        }
    }
}

/// What became of frames.
#[derive(Default)]
struct Count {
    frames: u64,
    skipped: u64,
}

impl Count {
    fn take(&mut self, payload: &[u8], is_first: bool, take: &mut impl FnMut(IpAddr, Change)) {
        match wire::read(payload) {
            Some(Frame::Known(address, saved)) if is_first => take(address, Change::First(saved)),
            Some(Frame::Known(address, saved)) => take(address, Change::Known(saved)),
            Some(Frame::Gone(address)) => take(address, Change::Gone),
            Some(Frame::End) => return,
            None => {
                self.skipped += 1;
                return;
            }
        }
        self.frames += 1;
    }

    fn add_to(&self, loaded: &mut Loaded) {
        loaded.frames += self.frames;
        loaded.skipped += self.skipped;
    }
}
