//! The engine's answers as they are written: what a newer engine adds must not make us blind.
//!
//! bollard's typed models refuse a whole list for one state or mount type they do not know, and end the stream of
//! events for one line. So bollard makes the connection and the request, frames the answer and tells its errors;
//! what is asked for is put into the request by its request modifier, and the body comes as text or bytes: of the
//! requests that hand those out, `ping` is the one with an answer of one piece, `export_container` the one without
//! an end.

use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use futures_util::stream::{BoxStream, StreamExt};
use serde_json::Value;

/// Why something asked of the engine was not told.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// The engine could not be asked, or said no.
    #[error(transparent)]
    Engine(#[from] Error),
    /// It did not answer in time.
    #[error("the engine did not answer within {} s", .0.as_secs_f32())]
    Slow(Duration),
    /// What it said is no JSON.
    #[error("the engine's answer is no JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl AskError {
    /// The engine understood and said no: asking again will not help.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(self, AskError::Engine(Error::DockerResponseServerError { .. }))
    }
}

/// Asks for `target`, a path with its query; all of the answer must be there within `patience`.
pub(super) async fn get(
    docker: &Docker,
    target: &str,
    patience: Duration,
) -> Result<Value, AskError> {
    let docker = towards(docker, target);
    let answer = tokio::time::timeout(patience, docker.ping());
    let text = answer.await.map_err(|_| AskError::Slow(patience))??;
    Ok(serde_json::from_str(&text)?)
}

/// Asks for `target`, whose answer has no end. Nothing is sent before the stream is first polled.
pub(super) fn stream(docker: &Docker, target: &str) -> BoxStream<'static, Result<Vec<u8>, Error>> {
    let bytes = towards(docker, target).export_container("");
    bytes.map(|piece| piece.map(Into::into)).boxed()
}

/// A client all of whose requests go to `target`.
fn towards(docker: &Docker, target: &str) -> Docker {
    let target = target.to_owned();
    docker.clone().with_request_modifier(move |mut request| {
        let uri = request.uri();
        let (scheme, authority) = (uri.scheme_str(), uri.authority());
        if let (Some(scheme), Some(authority)) = (scheme, authority) {
            // Cannot fail: targets are made of our own words and of what `escape` wrote.
            if let Ok(uri) = format!("{scheme}://{authority}{target}").parse() {
                *request.uri_mut() = uri;
            }
        }
        request
    })
}

/// `text` as it may stand in a path or a query.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => {
                out.push(char::from(byte));
            }
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
