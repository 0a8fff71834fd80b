//! `review.json`: what a person looked at and left refused. It decides nothing but what is asked again.

use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::daemon::findings::Key;
use crate::engine::{Proto, Wall};
use crate::lists::serde_time;
use crate::store::{Small, Version};

const FILE: &str = "review.json";
/// Decisions kept; the oldest go first.
const KEPT_MAX: usize = 10_000;
/// Bytes of a file that is read: as many decisions, with long names.
const BYTES_MAX: usize = 4 << 20;
const LOSS: &str = "you are asked about everything again";
/// One part of so many goes where they are too large together.
const PART: usize = 8;

/// Decisions to leave something refused.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    version: Version<1>,
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

impl Kept {
    /// What earlier reviews decided; and why that is not known, if it is not.
    pub(super) fn load(state_dir: &Path, now: Wall) -> (Kept, Option<String>) {
        match file(state_dir).load(LOSS, now, Some) {
            Ok(kept) => (kept.unwrap_or_default(), None),
            Err(complaint) => (Kept::default(), Some(complaint)),
        }
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

    pub(super) fn save(mut self, state_dir: &Path) -> Result<()> {
        self.fit(BYTES_MAX)?;
        Ok(file(state_dir).save(&self)?)
    }

    /// Long names: what would not be read again goes, the oldest first.
    fn fit(&mut self, most: usize) -> Result<()> {
        while serde_json::to_vec(self)?.len() > most && !self.kept.is_empty() {
            self.kept.drain(..self.kept.len().div_ceil(PART));
        }
        Ok(())
    }
}

fn file(state_dir: &Path) -> Small {
    Small::new(state_dir.join(FILE), BYTES_MAX as u64, true)
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
        let mut kept = Kept::load(folder.path(), Wall(9)).0;
        kept.add(&key(443), Wall(1));
        kept.add(&key(443), Wall(2));
        kept.save(folder.path()).unwrap();
        let kept = Kept::load(folder.path(), Wall(9)).0;
        assert_eq!((kept.has(&key(443)), kept.has(&key(80)), kept.kept.len()), (true, false, 1));
        std::fs::write(folder.path().join(FILE), "{}").unwrap();
        let complaint = Kept::load(folder.path(), Wall(9)).1.unwrap();
        assert!(
            complaint.contains("asked about everything again; it was set aside"),
            "{complaint}"
        );
    }

    #[test]
    fn what_is_written_is_never_too_long_to_be_read() {
        let long = |n: u64| Key {
            container: format!("{n}{}", "x".repeat(1 << 10)).into(),
            dst: "203.0.113.9".parse().unwrap(),
            dport: None,
            proto: None,
        };
        let mut kept = Kept::default();
        (0..6).for_each(|n| kept.add(&long(n), Wall(3 + n)));
        kept.fit(4 << 10).unwrap();
        assert!(kept.has(&long(5)) && !kept.has(&long(0)), "the latest are kept");
        assert!(serde_json::to_vec(&kept).unwrap().len() <= 4 << 10);

        let folder = tempfile::tempdir().unwrap();
        kept.kept.extend((0..6_u64).map(|n| Decided {
            container: format!("{n}{}", "x".repeat(1 << 20)).into(),
            dst: "203.0.113.9".parse().unwrap(),
            dport: None,
            proto: None,
            at: Some(Wall(9)),
        }));
        kept.save(folder.path()).unwrap();
        assert_eq!(Kept::load(folder.path(), Wall(9)).1, None, "by the bound of the reader");
    }
}
