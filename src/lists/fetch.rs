//! Fetches one feed: a file, or a body over HTTPS with caps on size, time and redirects.

use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use ureq::http::{HeaderMap, StatusCode, header};
use ureq::tls::{RootCerts, TlsConfig};

use super::atomic::open_file;
use super::feed::{Feed, Origin};
use super::text::excerpt;
use crate::tls::certificates;

/// Redirects followed; publishers have one or two, from a fixed name to a mirror.
const REDIRECTS_MAX: u32 = 5;
/// Characters of an ETag or a date that are kept; a server that sends more gets no conditional requests.
const VALIDATOR_CHARS_MAX: usize = 256;
/// Bytes moved at once.
const CHUNK_BYTES: usize = 64 << 10;

/// How long a fetch may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For the name, and again for the connection with its handshake.
    pub(super) connect: Duration,
    /// From the first byte of the question to the last of the answer. At 64 MiB that is 2 Mbit/s.
    pub(super) total: Duration,
}

impl Default for Patience {
    fn default() -> Patience {
        Patience { connect: Duration::from_secs(15), total: Duration::from_secs(300) }
    }
}

/// What tells whether a body is still the one we have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Validators {
    pub(super) etag: Option<String>,
    pub(super) last_modified: Option<String>,
}

/// What a fetch brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Fetched {
    /// The body is the one we have.
    Unchanged,
    /// A body was written out.
    Body(Validators),
}

/// Why a fetch brought nothing.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// The server answered with something else than a list.
    #[error("the server answered {0}")]
    Status(StatusCode),
    /// Too much to take.
    #[error("larger than {0} bytes (max-bytes)")]
    TooLarge(u64),
    /// Too slow.
    #[error("timed out ({0})")]
    Slow(String),
    /// A redirect away from HTTPS.
    #[error("redirected away from https; `insecure = true` follows")]
    Insecure,
    /// The file named `ca` cannot be used.
    #[error("{0}")]
    Ca(String),
    /// Reading the feed failed.
    #[error("{0}")]
    Io(io::Error),
    /// The copy cannot be written.
    #[error("cannot write the copy: {0}")]
    Write(io::Error),
    /// Anything else on the way: no such host, no connection, a bad certificate.
    #[error("{0}")]
    Transport(String),
}

/// Writes the feed to `out`, unless it is still what `known` says.
pub(super) fn fetch(
    feed: &Feed,
    known: &Validators,
    patience: Patience,
    out: &mut dyn Write,
) -> Result<Fetched, FetchError> {
    match &feed.origin {
        Origin::Path(path) => copy_file(path, known, feed.max_bytes, out),
        Origin::Url(url) => get(feed, url, known, patience, out),
    }
}

/// A file that changed has another time of change, whatever else was preserved.
fn copy_file(
    path: &Path,
    known: &Validators,
    max: u64,
    out: &mut dyn Write,
) -> Result<Fetched, FetchError> {
    let file = open_file(path).map_err(FetchError::Io)?;
    let found = file.metadata().map_err(FetchError::Io)?;
    let changed = (found.ctime(), found.ctime_nsec());
    let etag = format!("{}-{}-{}.{}", found.ino(), found.size(), changed.0, changed.1);
    if known.etag.as_ref() == Some(&etag) {
        return Ok(Fetched::Unchanged);
    }
    pour(file, max, out)?;
    Ok(Fetched::Body(Validators { etag: Some(etag), last_modified: None }))
}

fn get(
    feed: &Feed,
    url: &str,
    known: &Validators,
    patience: Patience,
    out: &mut dyn Write,
) -> Result<Fetched, FetchError> {
    let agent = agent(feed, patience)?;
    let mut request = agent.get(url);
    for (name, value) in
        [(header::IF_NONE_MATCH, &known.etag), (header::IF_MODIFIED_SINCE, &known.last_modified)]
    {
        if let Some(value) = value {
            request = request.header(name, value);
        }
    }
    let answer = request.call().map_err(transport)?;
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::NOT_MODIFIED if *known != Validators::default() => {
            return Ok(Fetched::Unchanged);
        }
        status => return Err(FetchError::Status(status)),
    }
    let validators = validators(answer.headers());
    if answer.body().content_length().is_some_and(|length| length > feed.max_bytes) {
        return Err(FetchError::TooLarge(feed.max_bytes));
    }
    pour(answer.into_body().into_reader(), feed.max_bytes, out)?;
    Ok(Fetched::Body(validators))
}

fn agent(feed: &Feed, patience: Patience) -> Result<ureq::Agent, FetchError> {
    let roots = match &feed.ca {
        Some(ca) => RootCerts::from(certificates(ca).map_err(FetchError::Ca)?),
        None => RootCerts::WebPki,
    };
    let config = ureq::Agent::config_builder()
        .user_agent(concat!("synhold/", env!("CARGO_PKG_VERSION")))
        .https_only(!feed.insecure)
        .http_status_as_error(false)
        .max_redirects(REDIRECTS_MAX)
        .timeout_resolve(Some(patience.connect))
        .timeout_connect(Some(patience.connect))
        .timeout_global(Some(patience.total))
        .tls_config(TlsConfig::builder().root_certs(roots).build());
    Ok(config.build().new_agent())
}

fn validators(headers: &HeaderMap) -> Validators {
    let text = |name| {
        let value = headers.get(name)?.to_str().ok()?;
        (value.len() <= VALIDATOR_CHARS_MAX).then(|| value.to_owned())
    };
    Validators { etag: text(header::ETAG), last_modified: text(header::LAST_MODIFIED) }
}

/// Moves a body, and no more than may be.
fn pour(mut from: impl Read, max: u64, out: &mut dyn Write) -> Result<(), FetchError> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let mut left = max;
    loop {
        let taken = match from.read(&mut chunk) {
            Ok(0) => return Ok(()),
            Ok(taken) => taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(transport(error.into())),
        };
        left = left.checked_sub(taken as u64).ok_or(FetchError::TooLarge(max))?;
        out.write_all(chunk.get(..taken).unwrap_or_default()).map_err(FetchError::Write)?;
    }
}

fn transport(error: ureq::Error) -> FetchError {
    match error {
        ureq::Error::Timeout(which) => FetchError::Slow(which.to_string()),
        ureq::Error::RequireHttpsOnly(_) => FetchError::Insecure,
        ureq::Error::Io(error) => FetchError::Transport(excerpt(&error.to_string())),
        error => FetchError::Transport(excerpt(&error.to_string())),
    }
}
