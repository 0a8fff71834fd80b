//! The asking side: a line to a daemon, bounded in time and in what it reads.

use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, connect, setsockopt, socket, sockopt::SendTimeout,
};
use nix::sys::time::TimeVal;
use serde::de::DeserializeOwned;

use super::listen::{ListenError, address};
use super::protocol::{ANSWER_BYTES_MAX, Fault, Question, Reply, question_line};
use super::{CHANGE_PATIENCE, LATER_PATIENCE, PATIENCE};

/// Bytes read at once.
const CHUNK_BYTES: usize = 64 << 10;

/// A line to a daemon.
#[derive(Debug)]
pub struct Line {
    stream: UnixStream,
    path: PathBuf,
    rest: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens.
    #[error("nobody listens on {0}")]
    Nobody(PathBuf),
    /// It is there, and not for us.
    #[error(
        "{0} is not for you: ask as root, or as a member of the group that synhold was started with (--control-group)"
    )]
    Closed(PathBuf),
    /// There can be no socket of that path.
    #[error(transparent)]
    Path(#[from] ListenError),
    /// The system, or the other side, broke off.
    #[error("cannot ask on {path}: {source}")]
    Io {
        /// The socket.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The other side gave a fault instead.
    #[error(transparent)]
    Fault(#[from] Fault),
    /// The other side speaks something else.
    #[error("what answers on {path} is no synhold of this version: {why}")]
    Strange {
        /// The socket.
        path: PathBuf,
        /// What is strange.
        why: String,
    },
}

impl Line {
    /// Connects.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn open(path: &Path) -> Result<Line, ClientError> {
        let failed = |error: Errno| match error {
            Errno::ENOENT | Errno::ECONNREFUSED | Errno::ENOTDIR => {
                ClientError::Nobody(path.to_owned())
            }
            Errno::EACCES | Errno::EPERM => ClientError::Closed(path.to_owned()),
            error => ClientError::Io { path: path.to_owned(), source: error.into() },
        };
        let address = address(path)?;
        let flags = SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None).map_err(failed)?;
        // It holds for connecting, too.
        let patience = TimeVal::new(i64::try_from(PATIENCE.as_secs()).unwrap_or(1), 0);
        setsockopt(&socket, SendTimeout, &patience).map_err(failed)?;
        connect(socket.as_raw_fd(), &address).map_err(failed)?;
        Ok(Line { stream: UnixStream::from(socket), path: path.to_owned(), rest: Vec::new() })
    }

    /// Asks one question.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ask<A: DeserializeOwned>(&mut self, question: &Question) -> Result<A, ClientError> {
        let patience = match (question.changes(), question.takes_time()) {
            (true, _) => CHANGE_PATIENCE,
            (false, true) => LATER_PATIENCE,
            (false, false) => PATIENCE,
        };
        let line = self
            .exchange(&question_line(question), patience)
            .map_err(|source| ClientError::Io { path: self.path.clone(), source })?;
        let reply: Reply = serde_json::from_slice(&line).map_err(|error| self.strange(&error))?;
        if let Some(fault) = reply.error {
            return Err(fault.into());
        }
        serde_json::from_value(reply.answer.unwrap_or_default())
            .map_err(|error| self.strange(&error))
    }

    /// The next line behind an answer, however long that takes; nothing if the other side has closed.
    ///
    /// # Errors
    /// [`ClientError`]; a fault ends the lines.
    pub fn next_line(&mut self) -> Result<Option<Vec<u8>>, ClientError> {
        let line = match self.read_line(None) {
            Ok(line) => line,
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(source) => return Err(ClientError::Io { path: self.path.clone(), source }),
        };
        match serde_json::from_slice::<Reply>(&line) {
            Ok(Reply { error: Some(fault), .. }) => Err(fault.into()),
            _ => Ok(Some(line)),
        }
    }

    fn strange(&self, error: &serde_json::Error) -> ClientError {
        ClientError::Strange { path: self.path.clone(), why: error.to_string() }
    }

    fn exchange(&mut self, question: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
        // A daemon that refuses us may have closed its end: its answer is there all the same.
        let sent = self.stream.write_all(question);
        match self.read_line(Some(Instant::now() + patience)) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
                Err(sent.err().unwrap_or(error))
            }
            other => other,
        }
    }

    fn read_line(&mut self, deadline: Option<Instant>) -> io::Result<Vec<u8>> {
        let mut chunk = vec![0; CHUNK_BYTES];
        let mut looked = 0;
        loop {
            let fresh = self.rest.get(looked..).unwrap_or_default();
            if let Some(end) = fresh.iter().position(|byte| *byte == b'\n') {
                return Ok(self.rest.drain(..=looked + end).collect());
            }
            looked = self.rest.len();
            if looked > ANSWER_BYTES_MAX {
                return Err(io::Error::other("the answer has no end"));
            }
            let left = deadline.map(|at| at.saturating_duration_since(Instant::now()));
            if left.is_some_and(|left| left.is_zero()) {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(left)?;
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.rest.extend_from_slice(chunk.get(..count).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Err(error) => return Err(error),
            }
        }
    }
}
