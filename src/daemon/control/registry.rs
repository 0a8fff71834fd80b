//! Questions about the registry, and changes to it.

use std::net::IpAddr;
use std::sync::Arc;

use super::answers::{Answers, value};
use super::deeds::{By, Import};
use crate::control::{
    Fault, FaultKind, Imported, LookedUp, Peer, RegistryDisk, RegistryStats, Said,
};
use crate::daemon::clock;
use crate::daemon::records::{self, Subject};
use crate::daemon::roster::books;
use crate::daemon::shared::Shared;
use crate::engine::event::Outcome;
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

    /// What is known of an address is there at once; a name's addresses are found by going through all.
    pub(super) fn registry_lookup(
        &self,
        peer: &Peer,
        what: &str,
        container: Option<&str>,
    ) -> Result<Said, Fault> {
        let subject = Subject::parse(what)?;
        let asking = container.map(|text| self.clients(text)).transpose()?;
        match subject {
            Subject::Address(_) => value(&look_up(&self.shared, &subject, asking)),
            Subject::Name(_) => {
                let shared = Arc::clone(&self.shared);
                self.runs.ask(peer, move || Ok(look_up(&shared, &subject, asking)))
            }
        }
    }

    /// The name of a container, and every address it has.
    fn clients(&self, text: &str) -> Result<Asking, Fault> {
        let by_address = text.parse::<IpAddr>().ok();
        let owner = by_address.and_then(|address| self.shared.engine.owner(address));
        let found = books(&self.shared).find(owner.as_ref().map_or(text, |owner| &owner.id));
        match (found, by_address) {
            (Some((owner, place)), _) => Ok((owner.name.to_string(), place.addresses)),
            (None, Some(address)) => Ok((text.to_owned(), vec![address])),
            (None, None) => {
                Err(Fault::new(FaultKind::NotFound, super::answers::unknown(text, &self.shared)))
            }
        }
    }

    pub(super) fn registry_forget(&self, peer: &Peer, what: &str) -> Result<Said, Fault> {
        let (subject, by) = (Subject::parse(what)?, By::of(peer));
        let shared = Arc::clone(&self.shared);
        self.runs.ask(peer, move || {
            let forgotten = records::forget(shared.engine.registry(), &subject);
            let outcome = match forgotten.addresses.len() {
                0 => (Outcome::Unchanged, None),
                count => (Outcome::Done, Some(format!("addresses forgotten: {count}"))),
            };
            by.tell(&shared, "registry-forget", std::iter::once(subject.to_string()), outcome);
            Ok(forgotten)
        })
    }

    /// One of many parts as a rule: all of them are told as one when the client leaves.
    pub(super) fn registry_import(
        &mut self,
        peer: &Peer,
        part: &serde_json::Value,
    ) -> Result<Imported, Fault> {
        let (engine, now) = (&self.shared.engine, clock::wall());
        let imported = records::import(engine.registry(), &engine.sieve(now), part, now);
        let import = self.imports.entry(peer.connection).or_insert_with(|| Import::of(peer));
        import.add(&imported);
        imported
    }

    /// The answer is true if the files have everything.
    pub(super) fn registry_flush(&self, peer: &Peer) -> Result<Said, Fault> {
        let (by, shared) = (By::of(peer), Arc::clone(&self.shared));
        self.runs.ask(peer, move || {
            let is_flushed = shared.saver.get().is_some_and(|saver| saver.flush());
            let outcome = match is_flushed {
                true => (Outcome::Done, None),
                false => (Outcome::Failed, Some(shared.disk().message.clone())),
            };
            by.tell(&shared, "registry-flush", std::iter::empty(), outcome);
            Ok(is_flushed)
        })
    }
}

/// A container that grades are for, by what it is called, and every address it has.
type Asking = (String, Vec<IpAddr>);

fn look_up(shared: &Shared, subject: &Subject, asking: Option<Asking>) -> LookedUp {
    let engine = &shared.engine;
    let (container, clients) = asking.unzip();
    let clients = clients.as_deref();
    let max_age = engine.settings().evidence.max_age;
    let inquiry = clients.map(|clients| Inquiry { clients, at: clock::wall(), max_age });
    let name_of = |asker: IpAddr| engine.owner(asker).map(|owner| owner.name.to_string());
    let found = records::look_up(engine.registry(), subject, inquiry.as_ref(), &name_of);
    LookedUp { container, ..found }
}
