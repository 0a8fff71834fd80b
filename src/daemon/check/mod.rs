//! `synhold check`: what stands in the way of a start, one line each, with what to do. Nothing on this host is changed.

mod clash;
mod dnsmasq;
mod docker;
mod files;
mod host;
mod kernel;
mod processes;
mod program;
mod source;

use std::sync::Arc;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::Serialize;

use crate::config::Config;

/// How long an area may take in all; a disk or an engine that hangs must not keep whoever asks.
const PATIENCE: Duration = Duration::from_secs(10);

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// As it should be.
    Ok,
    /// It works, and not as well as it could.
    Warn,
    /// `synhold run` does not start, or does not do its work.
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at: a stable word.
    pub id: &'static str,
    /// How it is.
    pub state: State,
    /// The same, in one line.
    pub what: String,
    /// What to do about it, in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// One area: its name, and who looks.
type Area = (&'static str, fn(&Config) -> Vec<Finding>);

/// In the order they are told. The names are those of findings that an area cannot make any more.
const AREAS: [Area; 7] = [
    ("rights", host::rights),
    ("kernel", kernel::look),
    ("host", host::look),
    ("dns", source::look),
    ("files", files::look),
    ("docker", docker::look),
    ("clashes", clash::look),
];

/// Looks at everything, each area on a thread of its own and not longer than its patience lasts.
pub fn run(config: &Config) -> Vec<Finding> {
    let config = Arc::new(config.clone());
    let end = Instant::now() + PATIENCE;
    let begin = |(name, look): Area| {
        let (tell, told) = channel();
        let config = Arc::clone(&config);
        // One that hangs ends with the process.
        let started = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
            let _ = tell.send(look(&config));
        });
        (name, told, started.is_ok())
    };
    let running: Vec<_> = AREAS.into_iter().map(begin).collect();
    let findings = running.into_iter().flat_map(|(name, told, _)| {
        let left = end.saturating_duration_since(Instant::now());
        told.recv_timeout(left).unwrap_or_else(|error| vec![lost(name, error)])
    });
    findings.collect()
}

fn lost(name: &'static str, error: RecvTimeoutError) -> Finding {
    let what = match error {
        RecvTimeoutError::Timeout => {
            format!("the look at this was not over after {} s", PATIENCE.as_secs())
        }
        RecvTimeoutError::Disconnected => "the look at this came to no end".to_owned(),
    };
    Finding::warn(name, what, "run `synhold check` again; if it stays so, please report it")
}

impl Finding {
    fn ok(id: &'static str, what: impl Into<String>) -> Finding {
        Finding { id, state: State::Ok, what: what.into(), advice: None }
    }

    fn warn(id: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { id, state: State::Warn, what: what.into(), advice: Some(advice.into()) }
    }

    fn fail(id: &'static str, what: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { id, state: State::Fail, what: what.into(), advice: Some(advice.into()) }
    }
}
