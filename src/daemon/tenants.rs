//! Which container had which address last, kept across restarts: the next one inherits no look-up, not even if it came while
//! nobody was watching.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::engine::inventory::Tenants;
use crate::engine::limits::TENANTS_MAX;
use crate::store::write_atomically;

const FILE: &str = "tenants.json";
const VERSION: u64 = 1;
/// Bytes of an entry at most: an IPv6 address, an id of 64 digits, a time, and what JSON puts around them.
const ENTRY_BYTES_MAX: u64 = 192;

/// The tenants as the registry knows them: whoever is in here inherits nothing any more.
#[derive(Debug, Default)]
pub struct TenantBook {
    /// None if nothing may be written.
    path: Option<PathBuf>,
    now: Mutex<Arc<Tenants>>,
    saved: Mutex<Arc<Tenants>>,
}

/// What stands in the file.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u64,
    tenants: Tenants,
}

impl TenantBook {
    /// What was kept in `state_dir`; with `memory_only` nothing is ever written there.
    pub fn load(state_dir: &Path, memory_only: bool) -> TenantBook {
        let path = state_dir.join(FILE);
        let tenants = Arc::new(load(&path).unwrap_or_default());
        let path = (!memory_only).then_some(path);
        TenantBook { path, now: Mutex::new(Arc::clone(&tenants)), saved: Mutex::new(tenants) }
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
        let Some(path) = &self.path else { return };
        let mut saved = self.saved.lock().unwrap_or_else(PoisonError::into_inner);
        if *saved == tenants {
            return;
        }
        match save(path, &tenants) {
            Ok(()) => *saved = tenants,
            // The registry lies beside it, and whoever saves that has told.
            Err(error) => tracing::debug!("cannot save {}: {error}", path.display()),
        }
    }
}

fn load(path: &Path) -> Option<Tenants> {
    if std::fs::metadata(path).ok()?.len() > TENANTS_MAX as u64 * ENTRY_BYTES_MAX {
        return None;
    }
    let saved: Saved = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    Some(saved.tenants).filter(|tenants| saved.version == VERSION && tenants.len() <= TENANTS_MAX)
}

fn save(path: &Path, tenants: &Tenants) -> std::io::Result<()> {
    let text = serde_json::to_vec(&Saved { version: VERSION, tenants: tenants.clone() })?;
    write_atomically(path, |mut file| file.write_all(&text))
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
            assert!(TenantBook::load(folder.path(), false).tenants().is_empty(), "{text}");
        }
    }
}
