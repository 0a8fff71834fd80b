//! Where containers were when the engine was last heard, kept across restarts: an engine that starts after us starts containers
//! before it answers, and they are judged all the same.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::daemon::clock;
use crate::engine::Net;
use crate::store::{Small, Version};

const FILE: &str = "networks.json";
/// Networks kept; an engine's own address pools give some hundred.
const NETS_MAX: usize = 4096;
/// Of a network 64 at most.
const BYTES_MAX: u64 = NETS_MAX as u64 * 64;
const LOSS: &str = "networks of the container engine are not judged until it answers";

/// The file.
#[derive(Debug)]
pub struct Memory {
    file: Small,
    nets: Vec<Net>,
}

/// What stands in it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: Version<1>,
    networks: Vec<String>,
}

impl Memory {
    /// What was kept in `state_dir`; with `memory_only` nothing is ever written there.
    pub fn load(state_dir: &Path, memory_only: bool) -> Memory {
        let file = Small::new(state_dir.join(FILE), BYTES_MAX, !memory_only);
        let nets = file.load_or_warn(LOSS, clock::wall(), |saved: Saved| {
            saved.networks.iter().map(|net| net.parse().ok()).collect()
        });
        Memory { file, nets: nets.unwrap_or_default() }
    }

    /// The networks.
    pub fn nets(&self) -> &[Net] {
        &self.nets
    }

    /// Keeps these instead.
    pub fn set(&mut self, nets: &[Net]) {
        let nets: Vec<Net> = nets.iter().copied().take(NETS_MAX).collect();
        if nets == self.nets {
            return;
        }
        self.nets = nets;
        let networks = self.nets.iter().map(ToString::to_string).collect();
        if let Err(error) = self.file.save(&Saved { version: Version, networks }) {
            tracing::warn!("{error}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_found_again_and_rubbish_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let nets: Vec<Net> = ["10.55.0.0/24", "fd55::/64"].map(|net| net.parse().unwrap()).into();
        let mut memory = Memory::load(folder.path(), false);
        assert!(memory.nets().is_empty());
        memory.set(&nets);
        assert_eq!(Memory::load(folder.path(), false).nets(), nets);
        let mut dry = Memory::load(folder.path(), true);
        dry.set(&[]);
        assert_eq!(Memory::load(folder.path(), true).nets(), nets, "nothing was written");
        for text in
            ["", "{}", r#"{"version":1,"networks":["x"]}"#, r#"{"version":9,"networks":[]}"#]
        {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            assert!(Memory::load(folder.path(), false).nets().is_empty(), "{text}");
        }
    }
}
