//! How a command finds the daemon of a state directory, and asks it.

use std::path::Path;

use anyhow::{Result, anyhow};
use serde::de::DeserializeOwned;

use super::{runtime_path, state_path};
use crate::control::{ClientError, Daemon, Fault, Line, Question};

/// A daemon that listens.
#[derive(Debug)]
pub struct Asker(Line);

impl Asker {
    /// The daemon of this state directory; none if none runs.
    ///
    /// # Errors
    /// In one line: there may be one, and it cannot be asked.
    pub fn find(state_dir: &Path) -> Result<Option<Asker>> {
        if let Some(line) = open(&state_path(state_dir))? {
            return Ok(Some(Asker(line)));
        }
        // One that writes nothing listens elsewhere, one in each network namespace.
        let Ok(path) = runtime_path() else { return Ok(None) };
        let Some(line) = open(&path)? else { return Ok(None) };
        let mut asker = Asker(line);
        let daemon: Daemon = asker.ask(&Question::Daemon)?;
        Ok((daemon.state_dir == absolute(state_dir)).then_some(asker))
    }

    /// Asks; a fault of the daemon's is an error.
    ///
    /// # Errors
    /// In one line.
    pub fn ask<A: DeserializeOwned>(&mut self, question: &Question) -> Result<A> {
        self.try_ask(question)?.map_err(|fault| anyhow!("{fault}"))
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
}

fn open(path: &Path) -> Result<Option<Line>> {
    match Line::open(path) {
        Ok(line) => Ok(Some(line)),
        Err(ClientError::Nobody(_)) => Ok(None),
        Err(error) => Err(anyhow!("{error}")),
    }
}

/// A directory as any process would name it.
pub(super) fn absolute(folder: &Path) -> std::path::PathBuf {
    folder.canonicalize().or_else(|_| std::path::absolute(folder)).unwrap_or(folder.to_owned())
}
