//! The way to the engine: which socket, and which version of the API both sides speak.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use bollard::{API_DEFAULT_VERSION, Docker};

/// Where Docker listens unless told otherwise.
const DEFAULT_SOCKET: &str = "/var/run/docker.sock";
/// How long the engine may take for one answer, in seconds. It answers in milliseconds unless it is stuck.
const ANSWER_PATIENCE: u64 = 30;

/// Where an engine listens, as `DOCKER_HOST` writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Address {
    /// `unix://PATH`.
    Unix(PathBuf),
}

/// Why a text is no address of an engine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Something other than `unix://PATH`.
    #[error("`{0}` is no engine on this host; write unix:///PATH, or use --no-docker")]
    Unsupported(String),
}

impl Default for Address {
    fn default() -> Address {
        Address::Unix(DEFAULT_SOCKET.into())
    }
}

impl FromStr for Address {
    type Err = AddressError;
    fn from_str(text: &str) -> Result<Address, AddressError> {
        match text.strip_prefix("unix://") {
            Some(path) if path.starts_with('/') => Ok(Address::Unix(path.into())),
            _ => Err(AddressError::Unsupported(text.to_owned())),
        }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Address::Unix(path) = self;
        write!(f, "unix://{}", path.display())
    }
}

/// A client that speaks the newest version of the API both sides know.
///
/// # Errors
/// If nobody listens there, or who listens is no engine.
pub async fn connect(address: &Address) -> Result<Docker, bollard::errors::Error> {
    let Address::Unix(path) = address;
    let path = path.to_string_lossy();
    let docker = Docker::connect_with_unix(&path, ANSWER_PATIENCE, API_DEFAULT_VERSION)?;
    docker.negotiate_version().await
}
