//! What a person is told: one alert with its proof, as JSON, as the text of a mail, and as one line.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use serde::Serialize;

use super::text::plain;
use crate::engine::alert::Topic;
use crate::engine::health::Evidence;
use crate::engine::{Grade, Name, Proto, Reason};

/// The only version of the body so far.
pub const VERSION: u32 = 1;
/// Characters of a subject; mail programs show fewer.
const SUBJECT_CHARS_MAX: usize = 160;
/// Characters of a line; the oldest of syslog's receivers take 1024 bytes.
const LINE_CHARS_MAX: usize = 800;
/// Characters of a sentence.
const SENTENCE_CHARS_MAX: usize = 600;

/// One alert. What is not known, or makes no sense for its kind, is left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Notice {
    /// [`VERSION`].
    pub version: u32,
    /// Different for every alert, the same for every try to send it.
    pub id: String,
    /// What it is about.
    pub kind: Topic,
    /// How bad it is.
    pub severity: Severity,
    /// When it happened, RFC 3339.
    pub time: String,
    /// This host's name.
    pub host: Arc<str>,
    /// Container name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container: Option<Arc<str>>,
    /// Container id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub container_id: Option<Arc<str>>,
    /// Container image.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image: Option<Arc<str>>,
    /// The address it came from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The destination, or the address in an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Destination port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Protocol.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proto: Option<Proto>,
    /// Names known for the address, a few at most.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub names: Vec<Name>,
    /// How often it happened since it was told last.
    pub count: u64,
    /// Why it was refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// How good the evidence was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grade: Option<Grade>,
    /// How long the packet was held, in microseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_us: Option<u64>,
    /// The state of the evidence at that moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub evidence: Option<Evidence>,
    /// False where nothing was refused: in a dry run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub enforced: Option<bool>,
    /// One sentence for a person.
    pub message: String,
    /// What to do next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// How bad something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Somebody should look now.
    Critical,
    /// Somebody should look.
    Warning,
    /// It is well again, or only told.
    Info,
}

impl Severity {
    /// The stable word.
    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Critical => "critical",
            Severity::Warning => "warning",
            Severity::Info => "info",
        }
    }
}

impl Notice {
    /// An alert that says no more than its sentence.
    pub fn new(kind: Topic, severity: Severity, message: &str) -> Notice {
        Notice {
            version: VERSION,
            id: String::new(),
            kind,
            severity,
            time: String::new(),
            host: "".into(),
            container: None,
            container_id: None,
            image: None,
            source: None,
            address: None,
            port: None,
            proto: None,
            names: Vec::new(),
            count: 1,
            reason: None,
            grade: None,
            held_us: None,
            evidence: None,
            enforced: None,
            message: plain(message, SENTENCE_CHARS_MAX),
            advice: None,
        }
    }

    /// The body as JSON.
    pub fn json(&self) -> Vec<u8> {
        // Plain data with string keys always serialises.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Who and what, for the head of a mail.
    pub fn subject(&self) -> String {
        let (host, kind, severity) = (&self.host, self.kind.as_str(), self.severity.as_str());
        plain(&format!("[synhold {host}] {severity}: {kind}: {}", self.told()), SUBJECT_CHARS_MAX)
    }

    /// One line with what matters.
    pub fn line(&self) -> String {
        let mut line = format!(
            "kind={} severity={} id={}",
            self.kind.as_str(),
            self.severity.as_str(),
            self.id
        );
        for (key, value) in self.pairs() {
            if !matches!(key, "kind" | "severity" | "id" | "time" | "host" | "message" | "advice") {
                let _ = write!(line, " {key}={}", value.replace(' ', "_"));
            }
        }
        plain(&format!("{line}: {}", self.told()), LINE_CHARS_MAX)
    }

    /// The text of a mail: the sentence, then everything known, line by line.
    pub fn text(&self) -> String {
        let mut text = format!("{}\n\n", self.told());
        for (key, value) in self.pairs() {
            if key != "message" {
                let _ = writeln!(text, "{key:<13} {value}");
            }
        }
        text
    }

    /// The sentence, and how often.
    fn told(&self) -> String {
        let message = plain(&self.message, SENTENCE_CHARS_MAX);
        match self.count {
            1 => message,
            count => format!("{message} ({count} times)"),
        }
    }

    /// Everything that is known, as words.
    fn pairs(&self) -> Vec<(&'static str, String)> {
        let names: Vec<&str> = self.names.iter().map(Name::as_str).collect();
        let evidence = self.evidence.as_ref().map(|evidence| match evidence.healthy {
            true => format!("healthy, {} addresses known", evidence.records),
            false => format!("not healthy: {}", evidence.why.join("; ")),
        });
        let of = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        let pairs = [
            ("kind", Some(self.kind.as_str().to_owned())),
            ("severity", Some(self.severity.as_str().to_owned())),
            ("time", Some(self.time.clone())),
            ("host", Some(self.host.to_string())),
            ("container", of(&self.container)),
            ("container-id", of(&self.container_id)),
            ("image", of(&self.image)),
            ("source", self.source.map(|address| address.to_string())),
            ("address", self.address.map(|address| address.to_string())),
            ("port", self.port.map(|port| port.to_string())),
            ("proto", self.proto.map(|proto| format!("{proto:?}").to_lowercase())),
            ("names", (!names.is_empty()).then(|| names.join(", "))),
            ("count", Some(self.count.to_string())),
            ("reason", self.reason.map(|reason| reason.as_str().to_owned())),
            ("grade", self.grade.map(|grade| grade.as_str().to_owned())),
            ("held", self.held_us.map(|us| format!("{us} us"))),
            ("evidence", evidence),
            ("enforced", self.enforced.map(|enforced| enforced.to_string())),
            ("message", Some(self.message.clone())),
            ("advice", self.advice.clone()),
            ("id", Some(self.id.clone())),
        ];
        let known = |(key, value): (&'static str, Option<String>)| {
            Some((key, plain(&value?, SENTENCE_CHARS_MAX)))
        };
        pairs.into_iter().filter_map(known).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::testing::notice;

    #[test]
    fn what_strangers_wrote_stays_on_its_line() {
        let evil = Notice {
            container: Some("web\r\nBcc: all@evil.example".into()),
            message: "web\nSubject: you won".to_owned(),
            ..notice()
        };
        for line in [evil.subject(), evil.line()] {
            assert!(!line.chars().any(char::is_control), "{line:?}");
        }
        assert!(evil.text().lines().all(|line| !line.starts_with("Bcc:")), "{}", evil.text());
        let json = String::from_utf8(evil.json()).unwrap();
        assert!(!json.contains('\n') && json.contains(r"web\r\nBcc"), "{json}");
    }

    #[test]
    fn the_body_has_the_keys_of_the_documentation_and_no_others() {
        let body: serde_json::Value = serde_json::from_slice(&notice().json()).unwrap();
        assert_eq!(body["kind"], "never-resolved");
        assert_eq!((&body["version"], &body["address"]), (&1.into(), &"203.0.113.9".into()));
        let readme = std::fs::read_to_string("README.md").unwrap();
        for key in body.as_object().unwrap().keys() {
            assert!(readme.contains(&format!("`{key}`")), "{key} is not in README");
        }
        let text = notice().text();
        assert!(text.contains("advice        synhold explain 203.0.113.9 --container web-1\n"));
        assert!(text.contains("evidence      not healthy: file:x down\n"), "{text}");
    }
}
