//! The names some addresses answered to, as the daemon itself knows them, or as the registry was saved last.

use std::collections::HashSet;
use std::net::IpAddr;

use crate::daemon::books::Books;
use crate::engine::registry::Registry;
use crate::store::{self, REGISTRY_FOLDER};

/// Largest registry that a command reads for names; that takes about half a second.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// What the registry says about some addresses.
#[derive(Debug, Default)]
pub struct Known {
    /// Nothing but those addresses.
    pub registry: Registry,
    /// Why it may say too little.
    pub note: Option<String>,
}

impl Known {
    /// Asks the daemon's registry, or reads the files, for these addresses. Not being able to is no error: names explain,
    /// they do not decide.
    pub fn read(books: &Books, addresses: &HashSet<IpAddr>) -> Known {
        let mut known = Known::default();
        if addresses.is_empty() {
            return known;
        }
        if let Some(shared) = &books.live {
            let saved =
                |address: &IpAddr| Some((*address, shared.engine.registry().saved(*address)?));
            for (address, saved) in addresses.iter().filter_map(saved) {
                known.registry.restore(address, &saved);
            }
            return known;
        }
        let folder = books.state_dir.join(REGISTRY_FOLDER);
        let size = store::size(&folder);
        if size > FILE_BYTES_MAX {
            let (size, most) = (size >> 20, FILE_BYTES_MAX >> 20);
            known.note = Some(format!(
                "names are left out: {} has {size} MB, and a command reads {most}",
                folder.display()
            ));
        } else if let Err(error) = store::load_only(&folder, addresses, &known.registry) {
            known.note = Some(format!("names are left out: {error}"));
        }
        known
    }

    /// The names of an address, latest first.
    pub fn names(&self, address: IpAddr) -> Vec<String> {
        self.registry.names(address).iter().map(|seen| seen.name.to_string()).collect()
    }
}
