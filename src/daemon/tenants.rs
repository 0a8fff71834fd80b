//! Which container had which address last, kept across restarts: the next one inherits no look-up, not even if it came while
//! nobody was watching.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::engine::inventory::Tenants;
use crate::engine::limits::TENANTS_MAX;
use crate::store::{Small, Version};

use super::clock;

const FILE: &str = "tenants.json";
/// Of an entry 192 at most: an IPv6 address, an id of 64 digits, a time, and what JSON puts around them.
const BYTES_MAX: u64 = TENANTS_MAX as u64 * 192;

const LOSS: &str = "a container that took an address over while synhold was away may inherit what was looked up before it";

/// The tenants as the registry knows them: whoever is in here inherits nothing any more.
#[derive(Debug, Default)]
pub struct TenantBook {
    file: Small,
    now: Mutex<Arc<Tenants>>,
    saved: Mutex<Arc<Tenants>>,
}

/// What stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: Version<1>,
    tenants: Tenants,
}

impl TenantBook {
    /// What was kept in `state_dir`; with `memory_only` nothing is ever written there.
    pub fn load(state_dir: &Path, memory_only: bool) -> TenantBook {
        let file = Small::new(state_dir.join(FILE), BYTES_MAX, !memory_only);
        let kept = |saved: Saved| Some(saved.tenants).filter(|kept| kept.len() <= TENANTS_MAX);
        let tenants = Arc::new(file.load_or_warn(LOSS, clock::wall(), kept).unwrap_or_default());
        let (now, saved) = (Mutex::new(Arc::clone(&tenants)), Mutex::new(tenants));
        TenantBook { file, now, saved }
    }

    /// The tenants now.
    pub fn tenants(&self) -> Arc<Tenants> {
        Arc::clone(&self.now.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The registry has forgotten what earlier ones asked for.
    pub fn set(&self, tenants: Tenants) {
        *self.now.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(tenants);
    }

    /// Keeps `tenants`, once the registry that follows them is on disk.
    pub fn save(&self, tenants: Arc<Tenants>) {
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if *saved == tenants {
            return;
        }
        match self.file.save(&Saved { version: Version, tenants: Tenants::clone(&tenants) }) {
            Ok(()) => *saved = tenants,
            // The registry lies beside it, and whoever saves that has told.
            Err(error) => tracing::debug!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Wall;
    use crate::engine::inventory::Tenant;

    fn tenants() -> Tenants {
        [("172.17.0.2", "aa"), ("fd00::2", "bb")]
            .map(|(ip, id)| (ip.parse().unwrap(), Tenant { id: id.into(), since: Wall(7) }))
            .into_iter()
            .collect()
    }

    #[test]
    fn what_is_saved_is_loaded_and_a_dry_disk_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let book = TenantBook::load(folder.path(), false);
        assert!(book.tenants().is_empty());
        book.set(tenants());
        book.save(book.tenants());
        assert_eq!(*TenantBook::load(folder.path(), false).tenants(), tenants());
        let other = tempfile::tempdir().unwrap();
        let memory = TenantBook::load(other.path(), true);
        memory.set(tenants());
        memory.save(memory.tenants());
        assert_eq!(other.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn rubbish_is_no_tenant() {
        let folder = tempfile::tempdir().unwrap();
        for text in
            ["", "{", "[]", r#"{"version":2,"tenants":{}}"#, r#"{"version":1,"tenants":{"x":"y"}}"#]
        {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let book = TenantBook::load(folder.path(), false);
            assert!(book.tenants().is_empty(), "{text}");
            book.save(Arc::new(tenants()));
            let all = folder.path().read_dir().unwrap().flatten();
            let kept = all.filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
            assert!(kept.into_iter().any(|kept| kept == text), "not written over: {text}");
        }
    }
}
