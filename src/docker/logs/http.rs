//! Requests whose answers are read as bytes. A client of typed answers takes each frame of a log into memory whole,
//! whatever its length, and panics at the engine's own words in it.

use std::path::PathBuf;
use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::lines::{Broken, Lines};
use super::stamp::Stamp;
use crate::docker::{Address, connect};
use crate::engine::limits::BACKLOG_BYTES_MAX;

/// How long the engine may take to answer. It does in milliseconds, but while it starts a container it answers nothing about it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer that is read whole. What is known of a container takes some 10 KiB.
const ANSWER_BYTES_MAX: usize = 4 << 20;
/// How much of an error's words is told.
const MESSAGE_CHARS_MAX: usize = 300;
/// Lines of history asked for, newest last, at the length that dnsmasq's have: [`BACKLOG_BYTES_MAX`].
pub const BACKLOG_LINES_MAX: u64 = BACKLOG_BYTES_MAX / 112;

/// Why a log cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Nobody listens.
    #[error("no engine at {0}: {1}")]
    NoEngine(String, std::io::Error),
    /// Whoever listens is no engine we can speak to.
    #[error("the engine does not answer as one: {0}")]
    Engine(#[from] bollard::errors::Error),
    /// The connection failed.
    #[error("the engine's answer: {0}")]
    Http(#[from] hyper::Error),
    /// The engine took too long.
    #[error("the engine has not answered within {} s", PATIENCE.as_secs())]
    Late,
    /// The engine says no.
    #[error("the engine says: {1}")]
    Refused(StatusCode, String),
    /// An answer that cannot be understood.
    #[error("the engine's answer is not understood: {0}")]
    Answer(String),
    /// A log that cannot be.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// There is no container of that name.
    #[error("there is no container {0}")]
    Missing(String),
    /// There is, and it does not run.
    #[error("container {0} does not run")]
    Stopped(String),
    /// The engine ended the log.
    #[error("the log of container {0} ended")]
    Ended(String),
    /// The name means another container now, or another run of it.
    #[error("container {0} was started anew")]
    Replaced(String),
}

/// What has to be known of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Which container, and which of its runs.
    pub run: Run,
    /// True if it runs now.
    pub running: bool,
    /// True if it has a terminal: then its log has no frames.
    pub terminal: bool,
}

/// A container's id and the time its run started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    /// The engine's id.
    pub id: String,
    started: String,
}

/// The way to one engine.
pub struct Http {
    path: PathBuf,
    version: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    id: String,
    state: State,
    config: Settings,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    #[serde(default)]
    running: bool,
    #[serde(default)]
    started_at: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Settings {
    #[serde(default)]
    tty: bool,
}

#[derive(Deserialize)]
struct Refusal {
    message: String,
}

impl Http {
    /// Finds out which version of the API both sides speak.
    ///
    /// # Errors
    /// If nobody listens there, or who listens is no engine.
    pub async fn open(address: &Address) -> Result<Http, Error> {
        let Address::Unix(path) = address;
        let http = Http { path: path.clone(), version: String::new() };
        // Its error says why, which the client's does not.
        drop(http.dial().await?);
        let docker = timeout(PATIENCE, connect(address)).await.map_err(|_| Error::Late)??;
        Ok(Http { version: docker.client_version().to_string(), ..http })
    }

    async fn dial(&self) -> Result<UnixStream, Error> {
        let failed = |error| Error::NoEngine(self.path.display().to_string(), error);
        UnixStream::connect(&self.path).await.map_err(failed)
    }

    /// Asks; a connection each, so that a log that is followed keeps nobody waiting.
    async fn get(&self, target: &str) -> Result<Response<Incoming>, Error> {
        let (mut sender, connection) = http1::handshake(TokioIo::new(self.dial().await?)).await?;
        // It ends with the answer's body, or with the runtime; what ends it wrongly is found in the body too.
        tokio::spawn(async move { drop(connection.await) });
        let request = Request::get(format!("/v{}{target}", self.version))
            .header("host", "docker")
            .body(Empty::<Bytes>::new())
            .map_err(|error| Error::Answer(error.to_string()))?;
        let answer = sender.send_request(request).await?;
        if answer.status() == StatusCode::OK {
            return Ok(answer);
        }
        let status = answer.status();
        let body = whole(answer).await.unwrap_or_default();
        let said = serde_json::from_slice(&body).map(|refusal: Refusal| refusal.message);
        let said = said.unwrap_or_else(|_| status.to_string());
        Err(Error::Refused(status, said.chars().take(MESSAGE_CHARS_MAX).collect()))
    }

    /// What there is under this name.
    ///
    /// # Errors
    /// [`Error::Missing`] if there is nothing.
    pub async fn inspect(&self, name: &str) -> Result<Container, Error> {
        let target = format!("/containers/{name}/json");
        let asked = async { whole(self.get(&target).await?).await };
        let body = match timeout(PATIENCE, asked).await.map_err(|_| Error::Late)? {
            Err(Error::Refused(StatusCode::NOT_FOUND, _)) => {
                return Err(Error::Missing(name.to_owned()));
            }
            answer => answer?,
        };
        let found: Inspected =
            serde_json::from_slice(&body).map_err(|error| Error::Answer(error.to_string()))?;
        // It is to be part of a request.
        if found.id.is_empty() || !found.id.bytes().all(|c| c.is_ascii_alphanumeric()) {
            return Err(Error::Answer("a container without an id".to_owned()));
        }
        Ok(Container {
            run: Run { id: found.id, started: found.state.started_at },
            running: found.state.running,
            terminal: found.config.tty,
        })
    }

    /// The time of the last line there is; none if there is none yet.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn last(&self, container: &Container) -> Result<Option<Stamp>, Error> {
        let asked = async { whole(self.log(container, "tail=1").await?).await };
        let body = timeout(PATIENCE, asked).await.map_err(|_| Error::Late)??;
        let mut last = None;
        let mut lines = Lines::new(container.terminal);
        lines.feed(&body, &mut |stamp, _| last = stamp.or(last))?;
        Ok(last)
    }

    /// The last `lines` of the log, and what comes; of all that is read of a log, from about `since` on only.
    ///
    /// # Errors
    /// If the log cannot be read.
    pub async fn follow(
        &self,
        container: &Container,
        lines: u64,
        since: Stamp,
    ) -> Result<Incoming, Error> {
        // Whole seconds, and one more: engines differ in how they read parts, and in whether they mean that moment too.
        let second = (since.0 / 1_000_000_000).saturating_sub(1);
        let since = match lines {
            BACKLOG_LINES_MAX => format!("&since={second}"),
            _ => String::new(),
        };
        let what = format!("follow=1&tail={lines}{since}");
        let asked = self.log(container, &what);
        let answer = timeout(PATIENCE, asked).await.map_err(|_| Error::Late)??;
        Ok(answer.into_body())
    }

    async fn log(&self, container: &Container, what: &str) -> Result<Response<Incoming>, Error> {
        let id = &container.run.id;
        self.get(&format!("/containers/{id}/logs?stdout=1&stderr=1&timestamps=1&{what}")).await
    }

    /// Returns once `run` is not, or no longer, what `name` means; looks every `pause`.
    pub async fn replaced(&self, name: &str, run: &Run, pause: Duration) {
        loop {
            tokio::time::sleep(pause).await;
            match self.inspect(name).await {
                Ok(found) if found.run != *run => return,
                Err(Error::Missing(_)) => return,
                // Whatever else is wrong ends the log as well.
                Ok(_) | Err(_) => {}
            }
        }
    }
}

async fn whole(answer: Response<Incoming>) -> Result<Bytes, Error> {
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
    Ok(body.map_err(|error| Error::Answer(error.to_string()))?.to_bytes())
}
