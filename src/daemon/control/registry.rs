//! Questions about the registry, and changes to it.

use std::net::IpAddr;

use super::answers::Answers;
use crate::control::{
    Fault, FaultKind, Forgotten, Imported, LookedUp, RegistryDisk, RegistryStats,
};
use crate::daemon::clock;
use crate::daemon::records::{self, Subject};
use crate::daemon::roster::books;
use crate::engine::inquiry::Inquiry;
use crate::store::{self, REGISTRY_FOLDER};

fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}

impl Answers {
    pub(super) fn registry_stats(&self) -> RegistryStats {
        let stats = self.shared.engine.registry().stats();
        let disk = self.shared.disk().clone();
        RegistryStats {
            addresses: count(stats.addresses),
            names: count(stats.names),
            askers: count(stats.askers),
            bytes: stats.bytes,
            disk_bytes: store::size(&self.daemon.state_dir.join(REGISTRY_FOLDER)),
            limit: Some(count(stats.limits.addresses)),
            disk: RegistryDisk { ok: disk.ok, message: disk.message, since: disk.since },
        }
    }

    pub(super) fn registry_lookup(
        &self,
        what: &str,
        container: Option<&str>,
    ) -> Result<LookedUp, Fault> {
        let subject = Subject::parse(what)?;
        let engine = &self.shared.engine;
        let (name, clients) = match container {
            None => (None, Vec::new()),
            Some(text) => self.clients(text)?,
        };
        let max_age = engine.settings().evidence.max_age;
        let inquiry = Inquiry { clients: &clients, at: clock::wall(), max_age };
        let name_of = |asker: IpAddr| engine.owner(asker).map(|owner| owner.name.to_string());
        let asked = container.map(|_| &inquiry);
        let mut found = records::look_up(engine.registry(), &subject, asked, &name_of);
        found.container = name;
        Ok(found)
    }

    /// The name of a container, and every address it has.
    fn clients(&self, text: &str) -> Result<(Option<String>, Vec<IpAddr>), Fault> {
        let by_address = text.parse::<IpAddr>().ok();
        let owner = by_address.and_then(|address| self.shared.engine.owner(address));
        let found = books(&self.shared).find(owner.as_ref().map_or(text, |owner| &owner.id));
        match (found, by_address) {
            (Some((owner, place)), _) => Ok((Some(owner.name.to_string()), place.addresses)),
            (None, Some(address)) => Ok((Some(text.to_owned()), vec![address])),
            (None, None) => {
                Err(Fault::new(FaultKind::NotFound, super::answers::unknown(text, &self.shared)))
            }
        }
    }

    pub(super) fn registry_forget(&self, what: &str) -> Result<Forgotten, Fault> {
        Ok(records::forget(self.shared.engine.registry(), &Subject::parse(what)?))
    }

    pub(super) fn registry_import(&self, part: &serde_json::Value) -> Result<Imported, Fault> {
        let (engine, now) = (&self.shared.engine, clock::wall());
        records::import(engine.registry(), &engine.sieve(now), part, now)
    }

    /// True if the files have everything.
    pub(super) fn registry_flush(&self) -> bool {
        self.shared.saver.get().is_some_and(|saver| saver.flush())
    }
}
