//! The registry as a command of its own process gets at it: through the daemon, or in the files where none runs.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use super::control::{Asker, names_here};
use super::parts::import_into;
use super::persist::Files;
use super::records::{self, Subject};
use super::{clock, lock};
use crate::control::{
    Daemon, Fault, FaultKind, Forgotten, Imported, LookedUp, Question, RegistryAddress,
    RegistryDisk, RegistryStats,
};
use crate::engine::limits::REGISTRY_SIZE_MAX;
use crate::engine::registry::{Limits, Registry, Saved};
use crate::engine::sieve::Sieve;
use crate::store::{self, REGISTRY_FOLDER};

/// The registry of a state directory.
#[derive(Debug)]
pub struct Ledger {
    state_dir: PathBuf,
    asker: Option<Asker>,
}

impl Ledger {
    /// Finds who has it.
    ///
    /// # Errors
    /// If there may be a daemon, and it cannot be asked.
    pub fn open(state_dir: &Path) -> Result<Ledger> {
        let asker = Asker::find(state_dir)?;
        if asker.is_none() && lock::is_state_in_use(state_dir) {
            bail!("a synhold uses {}, and does not answer", state_dir.display());
        }
        Ok(Ledger { state_dir: state_dir.to_owned(), asker })
    }

    /// True if a daemon answers.
    pub fn is_live(&self) -> bool {
        self.asker.is_some()
    }

    /// How much there is.
    ///
    /// # Errors
    /// If neither daemon nor files tell.
    pub fn stats(&mut self) -> Result<RegistryStats> {
        if let Some(asker) = &mut self.asker {
            return asker.ask(&Question::RegistryStats {});
        }
        let stats = self.read()?.stats();
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        Ok(RegistryStats {
            addresses: count(stats.addresses),
            names: count(stats.names),
            askers: count(stats.askers),
            bytes: stats.bytes,
            disk_bytes: store::size(&self.folder()),
            limit: None,
            disk: RegistryDisk { ok: true, message: String::new(), since: clock::wall() },
        })
    }

    /// What is known about an address or a name.
    ///
    /// # Errors
    /// If neither daemon nor files tell, or the container is not known.
    pub fn look_up(&mut self, what: &str, container: Option<&str>) -> Result<LookedUp> {
        let subject = Subject::parse(what)?;
        if let Some(asker) = &mut self.asker {
            let question = Question::RegistryLookup {
                what: what.to_owned(),
                container: container.map(str::to_owned),
            };
            return asker.ask(&question);
        }
        if container.is_some() {
            bail!(
                "no synhold runs on {} that knows containers: leave --container out",
                self.state_dir.display()
            );
        }
        let names: BTreeMap<IpAddr, String> = names_here(&self.state_dir);
        let name_of = |asker: IpAddr| names.get(&asker).cloned();
        Ok(records::look_up(&self.read()?, &subject, None, &name_of))
    }

    /// What is known about many addresses; those of which nothing is are left out.
    ///
    /// # Errors
    /// If neither daemon nor files tell.
    pub fn many(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<Vec<RegistryAddress>> {
        let mut known = Vec::new();
        if let Some(asker) = &mut self.asker {
            for address in addresses {
                let what = address.to_string();
                let found: LookedUp =
                    asker.ask(&Question::RegistryLookup { what, container: None })?;
                known.extend(found.addresses);
            }
            return Ok(known);
        }
        let registry = self.read()?;
        for address in addresses {
            let subject = Subject::Address(*address);
            known.extend(records::look_up(&registry, &subject, None, &|_| None).addresses);
        }
        Ok(known)
    }

    /// Forgets an address, or every address of a name.
    ///
    /// # Errors
    /// If that cannot be done.
    pub fn forget(&mut self, what: &str) -> Result<Forgotten> {
        let subject = Subject::parse(what)?;
        if let Some(asker) = &mut self.asker {
            return asker.ask(&Question::RegistryForget { what: what.to_owned() });
        }
        Files::change(&self.state_dir, |registry| Ok(records::forget(registry, &subject)))
    }

    /// Everything, as the files have it; a daemon is asked to put all it knows there first.
    ///
    /// # Errors
    /// If the files cannot be read or lack what the daemon knows.
    pub fn export(&mut self) -> Result<Registry> {
        if let Some(asker) = &mut self.asker {
            let daemon: Daemon = asker.ask(&Question::Daemon {})?;
            if daemon.memory_only {
                bail!("this synhold keeps its registry in memory only: there is no file to read");
            }
            let is_flushed: bool = asker.ask(&Question::RegistryFlush {})?;
            if !is_flushed {
                let stats: RegistryStats = asker.ask(&Question::RegistryStats {})?;
                bail!("the files lack what the daemon knows: {}", stats.disk.message);
            }
        }
        self.read()
    }

    /// Takes an exported registry in, beside what is known.
    ///
    /// # Errors
    /// If it is none, or cannot be taken in. What stands before damage in it is.
    pub fn import(&mut self, path: &Path) -> Result<Imported> {
        let mut imported = Imported::default();
        let done = match &mut self.asker {
            None => Files::change(&self.state_dir, |registry| {
                let sieve = Sieve::new(None, clock::wall());
                let take = |address, saved: Saved| {
                    records::merge(registry, &sieve, address, saved, &mut imported);
                };
                Ok(store::read_json(path, clock::wall(), take)?)
            }),
            Some(asker) => import_into(path, &mut imported, |part| {
                asker.ask(&Question::RegistryImport { registry: part })
            }),
        };
        match done {
            Ok(skipped) => imported.skipped += skipped,
            Err(error) if imported == Imported::default() => return Err(error),
            Err(error) => {
                let Imported { new, known, .. } = imported;
                return Err(error.context(format!(
                    "{new} new addresses and {known} known ones were taken in before it failed"
                )));
            }
        }
        Ok(imported)
    }

    fn folder(&self) -> PathBuf {
        self.state_dir.join(REGISTRY_FOLDER)
    }

    /// The files. Whoever wrote them had limits; a reader has none.
    fn read(&self) -> Result<Registry> {
        if !self.state_dir.is_dir() {
            bail!("there is no state directory {}", self.state_dir.display());
        }
        let registry = unbounded();
        Files::read(&self.state_dir, &registry)
            .with_context(|| format!("the registry of {}", self.state_dir.display()))?;
        Ok(registry)
    }
}

/// A registry that takes whatever there is.
pub(super) fn unbounded() -> Registry {
    Registry::new(Limits { addresses: REGISTRY_SIZE_MAX, keep: None })
}

/// Whether the answer to a question is that there is no such thing.
pub fn is_not_found(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Fault>().is_some_and(|fault| fault.kind == FaultKind::NotFound)
}
