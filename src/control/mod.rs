//! The control socket: questions to a running daemon, one JSON object a line, and its answers likewise.
//!
//! ```text
//! > {"v":1,"ask":"status"}
//! < {"v":1,"answer":{...}}          or  {"v":1,"error":{"kind":"unknown-question","message":"..."}}
//! ```
//!
//! The socket is its owner's, or its owner's and one group's, and never anybody else's, from the moment it is there. Whoever
//! the kernel lets in may ask; what changes something is for root and the daemon's own user, as the kernel knows them.
//! One thread serves everybody in turns and waits for nobody: whoever sends half a question, or does not read the answer,
//! is let go after [`PATIENCE`].
//!
//! `events` has lines behind its answer, as the event log has them: as many as the answer's `recent` says, and with
//! `"follow":true` all that come, until the client leaves. The daemon ends them with a line that has an `error`.

mod answer;
mod client;
mod connection;
mod glance;
mod listen;
mod peer;
mod protocol;
mod registry;
mod said;
mod serve;
mod when;

pub use answer::{
    Canary, CanaryFamily, CanaryState, Client, Container, Containers, Daemon, Docker, DockerState,
    Explained, LearningState, Named, Policy, Refusal, Status,
};
pub use client::{ClientError, Line};
pub use connection::Answerer;
pub use glance::{
    ListState, QueueState, Rate, Rates, Refused, RegistryState, Rejected, RulesNews, SinkState,
    Timing,
};
pub use listen::{ListenError, Listener};
pub use peer::Peer;
pub use protocol::{
    ANSWER_BYTES_MAX, EventsAsked, Fault, FaultKind, QUESTION_BYTES_MAX, Question, VERSION, parse,
};
pub use registry::{
    Forgotten, Imported, LookedUp, RegistryAddress, RegistryAsker, RegistryDisk, RegistryName,
    RegistryStats,
};
pub use said::{Bell, Lines, Pending, Promise, Said};
pub use serve::{CONNECTIONS_MAX, FOLLOWERS_MAX, Server};
pub use when::show;

use std::time::Duration;

/// How long a client may take for a question, or to read an answer. On a socket both are there at once.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long a client waits for a change: some that wait for each other, of three seconds each.
pub const CHANGE_PATIENCE: Duration = Duration::from_secs(20);
/// How long an answer may be in the making: with a million lines of lists each takes some seconds, on a busy machine many,
/// and some wait for each other.
pub const LATER_PATIENCE: Duration = Duration::from_secs(60);
/// About how many bytes of lines a follower gets at once.
pub const LINES_BYTES: usize = 64 << 10;
