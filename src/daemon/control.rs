//! The daemon's end of the control socket, and the way of commands to it.

mod answers;
mod ask;
mod changes;
mod deeds;
mod follow;
mod group;
mod looks;
mod registry;
mod runs;

use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};

use anyhow::Result;

use super::lock;
use super::shared::Shared;
use crate::config::Config;
use crate::control::{Bell, DockerState, ListenError, Listener, Server};
use answers::Answers;
pub use ask::{Asker, is_asked, is_closed, names_here};
pub use group::Members;

/// The socket's file in the state directory.
const FILE: &str = "control.sock";

/// Answers questions from now on. Judging does not depend on it: if it cannot be, that is told and nothing else.
pub fn start(config: &Config, members: &Members, shared: &Arc<Shared>) -> Option<Server> {
    if config.docker.is_none() {
        let mut docker = shared.docker.lock().unwrap_or_else(PoisonError::into_inner);
        docker.state = DockerState::Off;
    }
    listen(config, members, shared)
        .inspect_err(|error| {
            let message = format!("nobody can ask this daemon: {error:#}");
            shared.report_health("control", false, message);
        })
        .ok()
}

fn listen(config: &Config, members: &Members, shared: &Arc<Shared>) -> Result<Server> {
    let at = |path: &Path| bind(path, members, shared);
    let listener = match config.memory_only {
        true => at(&runtime_path()?)?,
        // Where nothing can be written, it listens as one that may not.
        false => match at(&state_path(&config.state_dir)) {
            Err(ListenError::Io { .. }) => at(&runtime_path()?)?,
            other => other?,
        },
    };
    let bell = Bell::new()?;
    let answers = Answers::new(config, shared, &bell)?;
    Ok(Server::start(listener, bell, answers)?)
}

/// Listens for the group's members too. If they cannot be let in, that is told, and root can ask all the same.
fn bind(path: &Path, members: &Members, shared: &Shared) -> Result<Listener, ListenError> {
    let Some(group) = members.gid() else { return Listener::bind(path, None) };
    let folder = path.parent().unwrap_or(path);
    let let_in = members.let_into(folder).and_then(|()| {
        Listener::bind(path, Some(group)).map(Ok).or_else(|error| match error {
            error @ ListenError::Group { .. } => Err(error.to_string()),
            other => Ok(Err(other)),
        })
    });
    let_in.unwrap_or_else(|why| {
        let listener = Listener::bind(path, None)?;
        shared.report_health("control", false, format!("only root can ask this daemon: {why}"));
        Ok(listener)
    })
}

fn state_path(state_dir: &Path) -> PathBuf {
    state_dir.join(FILE)
}

/// Where a daemon listens that may not write to its state directory.
fn runtime_path() -> Result<PathBuf> {
    Ok(lock::path()?.with_extension("sock"))
}
