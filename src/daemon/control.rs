//! The daemon's end of the control socket, and the way of commands to it.

mod answers;
mod ask;
mod registry;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use anyhow::Result;

use super::lock;
use super::shared::Shared;
use crate::config::Config;
use crate::control::{DockerState, ListenError, Listener, Server};
use answers::Answers;
pub use ask::{Asker, is_asked, names_here};

/// The socket's file in the state directory.
const FILE: &str = "control.sock";

/// Answers questions from now on. Judging does not depend on it: if it cannot be, that is told and nothing else.
pub fn start(config: &Config, shared: &Arc<Shared>) -> Option<Server> {
    if config.docker.is_none() {
        let mut docker = shared.docker.lock().unwrap_or_else(PoisonError::into_inner);
        docker.state = DockerState::Off;
    }
    listen(config, shared)
        .inspect_err(|error| {
            let message = format!("nobody can ask this daemon: {error:#}");
            shared.report_health("control", false, message);
        })
        .ok()
}

fn listen(config: &Config, shared: &Arc<Shared>) -> Result<Server> {
    let listener = match config.memory_only {
        true => Listener::bind(&runtime_path()?)?,
        // Where nothing can be written, it listens as one that may not.
        false => match Listener::bind(&state_path(&config.state_dir)) {
            Err(ListenError::Io { .. }) => Listener::bind(&runtime_path()?)?,
            other => other?,
        },
    };
    let mut answers = Answers::new(config, shared)?;
    Ok(Server::start(listener, move |question| answers.to(question))?)
}

fn state_path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// Where a daemon listens that may not write to its state directory.
fn runtime_path() -> Result<PathBuf> {
    Ok(lock::path()?.with_extension("sock"))
}
