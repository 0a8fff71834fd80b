//! Where containers were when the engine was last heard, kept across restarts: an engine that starts after us starts containers
//! before it answers, and they are judged all the same.

use std::io::Write as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::engine::Net;
use crate::store::write_atomically;

const FILE: &str = "networks.json";
const VERSION: u64 = 1;
/// Networks kept; an engine's own address pools give some hundred.
const NETS_MAX: usize = 4096;
/// Bytes of an entry at most.
const NET_BYTES_MAX: u64 = 64;

/// The file.
#[derive(Debug)]
pub struct Memory {
    /// None if nothing may be written.
    path: Option<PathBuf>,
    nets: Vec<Net>,
}

/// What stands in it.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u64,
    networks: Vec<String>,
}

impl Memory {
    /// What was kept in `state_dir`; with `memory_only` nothing is ever written there.
    pub fn load(state_dir: &Path, memory_only: bool) -> Memory {
        let path = state_dir.join(FILE);
        let nets = load(&path).unwrap_or_default();
        Memory { path: (!memory_only).then_some(path), nets }
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
        let Some(path) = &self.path else { return };
        if let Err(error) = save(path, &self.nets) {
            tracing::warn!("cannot save {}: {error}", path.display());
        }
    }
}

fn load(path: &Path) -> Option<Vec<Net>> {
    if std::fs::metadata(path).ok()?.len() > NETS_MAX as u64 * NET_BYTES_MAX {
        return None;
    }
    let saved: Saved = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    let nets = saved.networks.iter().map(|net| net.parse().ok()).collect::<Option<Vec<Net>>>()?;
    Some(nets).filter(|_| saved.version == VERSION)
}

fn save(path: &Path, nets: &[Net]) -> std::io::Result<()> {
    let networks = nets.iter().map(ToString::to_string).collect();
    let text = serde_json::to_vec(&Saved { version: VERSION, networks })?;
    write_atomically(path, |mut file| file.write_all(&text))
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
