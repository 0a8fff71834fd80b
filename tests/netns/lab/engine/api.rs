//! The engine's API, as plain as it gets: one question, one answer, and the stream of events.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::Engine;
use crate::lab::feed::Feed;

/// How long an answer may take; the longest is to start or stop a container, on a busy machine.
const ANSWER: Duration = Duration::from_secs(60);

impl Engine {
    /// Asks and returns the answer, null when it has no body.
    ///
    /// # Panics
    /// When the engine does not answer, or refuses.
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let body = body.map(|value| ("application/json", value.to_string().into_bytes()));
        let body = body.as_ref().map(|(kind, bytes)| (*kind, bytes.as_slice()));
        match self.try_call(method, path, body) {
            Ok(answer) => answer,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    }

    /// Asks with any body (its type and its bytes).
    ///
    /// # Errors
    /// What the engine said, or why it said nothing.
    pub fn try_call(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &[u8])>,
    ) -> Result<Value, String> {
        let body = self.raw(method, path, body)?;
        // Some answers are several objects, one a line, or plain text.
        Ok(serde_json::from_slice(&body).unwrap_or(Value::Null))
    }

    /// Lines in the log of a container, each on its own as the engine keeps it.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn log_lines(&self, container: &str) -> usize {
        let path = format!("/containers/{container}/logs?stdout=1&stderr=1");
        let log = self.raw("GET", &path, None).expect("the log");
        // Each line is a frame: its kind, its length in the last four of eight bytes, itself.
        let (mut rest, mut lines) = (log.as_slice(), 0);
        while let Some((head, more)) = rest.split_first_chunk::<8>() {
            let [.., a, b, c, d] = *head;
            rest = &more[u32::from_be_bytes([a, b, c, d]) as usize..];
            lines += 1;
        }
        lines
    }

    /// The body of an answer as it is.
    fn raw(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &[u8])>,
    ) -> Result<Vec<u8>, String> {
        let mut stream = self.ask(method, path, body).map_err(|e| e.to_string())?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).map_err(|e| e.to_string())?;
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or("no answer")?;
        let body = answer.split_off(end + 4);
        let head = String::from_utf8_lossy(&answer);
        let status = head.split(' ').nth(1).unwrap_or_default();
        if !status.starts_with('2') && status != "304" {
            return Err(format!("{status} {}", String::from_utf8_lossy(&body).trim_end()));
        }
        Ok(body)
    }

    /// Its events from now on, as they come, until it ends.
    ///
    /// # Panics
    /// When it does not answer.
    pub fn events(&self) -> Arc<Feed<Value>> {
        let stream = self.ask("GET", "/events", None).expect("the engine answers");
        stream.set_read_timeout(None).expect("no timeout");
        let mut lines = BufReader::new(stream).lines().map_while(Result::ok);
        // The end of the head: from here on nothing is missed.
        lines.find(String::is_empty).expect("an answer");
        let events = Arc::new(Feed::new(100_000));
        let feed = Arc::clone(&events);
        std::thread::spawn(move || {
            lines.filter_map(|line| serde_json::from_str(&line).ok()).for_each(|e| feed.push(e));
            feed.close();
        });
        events
    }

    /// HTTP/1.0, whose answers come as they are and end with the connection.
    fn ask(
        &self,
        method: &str,
        path: &str,
        body: Option<(&str, &[u8])>,
    ) -> std::io::Result<UnixStream> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(ANSWER))?;
        let (kind, bytes) = body.unwrap_or(("text/plain", b""));
        let length = bytes.len();
        let head = format!(
            "{method} {path} HTTP/1.0\r\nHost: lab\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        );
        stream.write_all(&[head.as_bytes(), bytes].concat())?;
        Ok(stream)
    }
}
