//! `review.json`: what a person looked at and left refused. It decides nothing but what is asked again.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::daemon::findings::Key;
use crate::engine::{Proto, Wall};
use crate::lists::serde_time;
use crate::store::write_atomically;

const FILE: &str = "review.json";
const VERSION: u64 = 1;
/// Decisions kept; the oldest go first.
const KEPT_MAX: usize = 10_000;
/// Bytes of a file that is read: as many decisions, with long names.
const BYTES_MAX: usize = 4 << 20;
/// One part of so many goes where they are too large together.
const PART: usize = 8;

/// Decisions to leave something refused.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    version: u64,
    kept: Vec<Decided>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Decided {
    container: Arc<str>,
    dst: IpAddr,
    dport: Option<u16>,
    proto: Option<Proto>,
    #[serde(with = "serde_time")]
    at: Option<Wall>,
}

impl Decided {
    fn is(&self, key: &Key) -> bool {
        let Key { container, dst, dport, proto } = key;
        self.container == *container
            && self.dst == *dst
            && self.dport == *dport
            && self.proto == *proto
    }
}

/// Where they are, and how long that may be.
struct Place {
    path: PathBuf,
    most: usize,
}

impl Place {
    fn of(state_dir: &Path) -> Place {
        Place { path: state_dir.join(FILE), most: BYTES_MAX }
    }

    fn load(&self) -> Result<Kept> {
        let Place { path, most } = self;
        let what = || format!("cannot use {}", path.display());
        let size = match std::fs::metadata(path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Ok(Kept::default());
            }
            found => usize::try_from(found.with_context(what)?.len()).unwrap_or(usize::MAX),
        };
        let again = "remove it, and be asked about everything again";
        ensure!(size <= *most, "{}: it has {size} bytes; {again}", what());
        let kept: Kept = serde_json::from_slice(&std::fs::read(path).with_context(what)?)
            .with_context(|| format!("{}; {again}", what()))?;
        ensure!(kept.version == VERSION, "{}: version {}", what(), kept.version);
        Ok(kept)
    }

    fn save(&self, mut kept: Kept) -> Result<()> {
        kept.version = VERSION;
        let mut bytes = serde_json::to_vec_pretty(&kept)?;
        // Long names: what would not be read again goes, the oldest first.
        while bytes.len() > self.most && !kept.kept.is_empty() {
            kept.kept.drain(..kept.kept.len().div_ceil(PART));
            bytes = serde_json::to_vec_pretty(&kept)?;
        }
        write_atomically(&self.path, |mut file| file.write_all(&bytes))
            .with_context(|| format!("cannot write {}", self.path.display()))
    }
}

impl Kept {
    /// What earlier reviews decided.
    pub(super) fn load(state_dir: &Path) -> Result<Kept> {
        Place::of(state_dir).load()
    }

    pub(super) fn has(&self, key: &Key) -> bool {
        self.kept.iter().any(|kept| kept.is(key))
    }

    pub(super) fn add(&mut self, key: &Key, now: Wall) {
        let Key { container, dst, dport, proto } = key.clone();
        self.kept.retain(|kept| !kept.is(key));
        self.kept.push(Decided { container, dst, dport, proto, at: Some(now) });
        let over = self.kept.len().saturating_sub(KEPT_MAX);
        self.kept.drain(..over);
    }

    pub(super) fn save(self, state_dir: &Path) -> Result<()> {
        Place::of(state_dir).save(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_decided_is_known_next_time_and_only_that() {
        let folder = tempfile::tempdir().unwrap();
        let key = |dport| Key {
            container: "web".into(),
            dst: "203.0.113.9".parse().unwrap(),
            dport: Some(dport),
            proto: Some(Proto::Tcp),
        };
        let mut kept = Kept::load(folder.path()).unwrap();
        kept.add(&key(443), Wall(1));
        kept.add(&key(443), Wall(2));
        kept.save(folder.path()).unwrap();
        let kept = Kept::load(folder.path()).unwrap();
        assert_eq!((kept.has(&key(443)), kept.has(&key(80)), kept.kept.len()), (true, false, 1));
        std::fs::write(folder.path().join(FILE), "{}").unwrap();
        let error = format!("{:#}", Kept::load(folder.path()).unwrap_err());
        assert!(error.contains("remove it"), "{error}");
    }
    #[test]
    fn what_is_written_is_never_too_long_to_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let long = |n: u64| Key {
            container: format!("{n}{}", "x".repeat(1 << 10)).into(),
            dst: "203.0.113.9".parse().unwrap(),
            dport: None,
            proto: None,
        };
        let mut kept = Kept::default();
        (0..6).for_each(|n| kept.add(&long(n), Wall(3 + n)));
        let place = Place { most: 4 << 10, ..Place::of(folder.path()) };
        place.save(kept).unwrap();
        let kept = place.load().unwrap();
        assert!(kept.has(&long(5)) && !kept.has(&long(0)), "the latest are kept");

        assert_eq!(Place::of(folder.path()).most, BYTES_MAX, "for reader and writer");
        let file = std::fs::File::create(place.path).unwrap();
        file.set_len(BYTES_MAX as u64 + 1).unwrap();
        let error = Kept::load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("bytes; remove it"), "{error}");
    }
}
