//! The control socket: questions to a running daemon, one JSON object a line, and its answers likewise.
//!
//! ```text
//! > {"v":1,"ask":"status"}
//! < {"v":1,"answer":{...}}          or  {"v":1,"error":{"kind":"unknown-question","message":"..."}}
//! ```
//!
//! The socket is its owner's alone from the moment it is there. One thread serves everybody in turns and waits for
//! nobody: whoever sends half a question, or does not read the answer, is let go after [`PATIENCE`].

mod answer;
mod client;
mod connection;
mod listen;
mod protocol;
mod registry;
mod serve;
mod when;

pub use answer::{
    Canary, CanaryState, Container, Containers, Daemon, Docker, DockerState, Explained,
    LearningState, Named, Policy, Refusal, SinkState, Status,
};
pub use client::{ClientError, Line};
pub use listen::{ListenError, Listener};
pub use protocol::{
    ANSWER_BYTES_MAX, Fault, FaultKind, QUESTION_BYTES_MAX, Question, VERSION, parse,
};
pub use registry::{
    Forgotten, Imported, LookedUp, RegistryAddress, RegistryAsker, RegistryDisk, RegistryName,
    RegistryStats,
};
pub use serve::{CONNECTIONS_MAX, Server};
pub use when::show;

use std::time::Duration;

/// How long a client may take for a question, or to read an answer. On a socket both are there at once.
pub const PATIENCE: Duration = Duration::from_secs(5);
