//! How a command finds the daemon of a state directory, and asks it.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use anyhow::{Result, anyhow};
use serde::de::DeserializeOwned;

use super::{runtime_path, state_path};
use crate::control::{ClientError, Containers, Daemon, Fault, Line, Question};

/// A daemon that listens.
#[derive(Debug)]
pub struct Asker(Line);

impl Asker {
    /// The daemon of this state directory; none if none runs.
    ///
    /// # Errors
    /// In one line: there may be one, and it cannot be asked; a [`ClientError::Closed`] where it is not for us.
    pub fn find(state_dir: &Path) -> Result<Option<Asker>> {
        let closed = match Line::open(&state_path(state_dir)) {
            Ok(line) => return Ok(Some(Asker(line))),
            Err(ClientError::Nobody(_)) => None,
            // One that writes nothing may be asked although its state directory may not be entered.
            Err(error @ ClientError::Closed(_)) => Some(error),
            Err(error) => return Err(anyhow!("{error}")),
        };
        match elsewhere(state_dir)? {
            Some(asker) => Ok(Some(asker)),
            None => closed.map_or(Ok(None), |error| Err(error.into())),
        }
    }

    /// Asks; a fault of the daemon's is an error.
    ///
    /// # Errors
    /// In one line.
    pub fn ask<A: DeserializeOwned>(&mut self, question: &Question) -> Result<A> {
        Ok(self.try_ask(question)??)
    }

    /// Asks, and keeps what the daemon says it cannot answer apart.
    ///
    /// # Errors
    /// In one line, if it does not answer at all.
    pub fn try_ask<A: DeserializeOwned>(
        &mut self,
        question: &Question,
    ) -> Result<Result<A, Fault>> {
        match self.0.ask(question) {
            Ok(answer) => Ok(Ok(answer)),
            Err(ClientError::Fault(fault)) => Ok(Err(fault)),
            // Its text names its cause already.
            Err(error) => Err(anyhow!("{error}")),
        }
    }

    /// The next line behind an answer, however long that takes; nothing if the daemon has closed. What the daemon has to say
    /// instead, as that it stops, is kept apart.
    ///
    /// # Errors
    /// In one line.
    pub fn next_line(&mut self) -> Result<Result<Option<Vec<u8>>, Fault>> {
        match self.0.next_line() {
            Ok(line) => Ok(Ok(line)),
            Err(ClientError::Fault(fault)) => Ok(Err(fault)),
            Err(error) => Err(anyhow!("{error}")),
        }
    }
}

/// Whether an error of [`Asker::find`] means that the daemon is there, and not for us.
pub fn is_closed(error: &anyhow::Error) -> bool {
    matches!(error.downcast_ref(), Some(ClientError::Closed(_)))
}

/// Whether a daemon of a state directory answers.
pub fn is_asked(state_dir: &Path) -> bool {
    Asker::find(state_dir).is_ok_and(|asker| asker.is_some())
}

/// Names of containers by their addresses, as the daemon of a state directory knows them; none if none runs or it is of
/// another network namespace, where the same addresses are others'. Names explain, they do not decide.
pub fn names_here(state_dir: &Path) -> BTreeMap<IpAddr, String> {
    let ask = || -> Result<Option<Containers>> {
        let Some(mut asker) = Asker::find(state_dir)? else { return Ok(None) };
        let daemon: Daemon = asker.ask(&Question::Daemon {})?;
        if std::fs::metadata("/proc/thread-self/ns/net")?.ino() != daemon.netns {
            return Ok(None);
        }
        asker.ask(&Question::Containers { container: None }).map(Some)
    };
    let known = ask().unwrap_or_else(|error| {
        tracing::debug!("containers have no names: {error:#}");
        None
    });
    let known = known.unwrap_or_default();
    known.by_address().into_iter().map(|(ip, name)| (ip, name.to_owned())).collect()
}

/// One that writes nothing listens elsewhere, one in each network namespace.
fn elsewhere(state_dir: &Path) -> Result<Option<Asker>> {
    let Ok(path) = runtime_path() else { return Ok(None) };
    let Some(line) = open(&path)? else { return Ok(None) };
    let mut asker = Asker(line);
    let daemon: Daemon = asker.ask(&Question::Daemon {})?;
    Ok((daemon.state_dir == absolute(state_dir)).then_some(asker))
}

fn open(path: &Path) -> Result<Option<Line>> {
    match Line::open(path) {
        Ok(line) => Ok(Some(line)),
        Err(ClientError::Nobody(_)) => Ok(None),
        Err(error @ ClientError::Closed(_)) => Err(error.into()),
        Err(error) => Err(anyhow!("{error}")),
    }
}

/// A directory as any process would name it.
pub(super) fn absolute(folder: &Path) -> std::path::PathBuf {
    folder.canonicalize().or_else(|_| std::path::absolute(folder)).unwrap_or(folder.to_owned())
}
