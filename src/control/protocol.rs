//! What a line asks, and how an answer or a fault is put on a line.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The only version of the protocol so far.
pub const VERSION: u64 = 1;
/// Bytes of one question with its line end.
pub const QUESTION_BYTES_MAX: usize = 64 << 10;
/// Bytes of one answer: as many containers as are ever known, at a kilobyte each.
pub const ANSWER_BYTES_MAX: usize = 16 << 20;
/// Characters of a foreign word that a fault repeats.
const SHOWN_MAX: usize = 40;

/// What can be asked. Those that take nothing have braces all the same: for variants without, serde lets any field pass.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Question {
    /// Who answers.
    Daemon {},
    /// Everything on one screen.
    Status {},
    /// What would become of a first packet, and why.
    Explain {
        /// Where it would go.
        address: IpAddr,
        /// The container it would come from: its name, its id or one of its addresses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
    },
    /// Who has which address.
    Containers {
        /// Only the one with this name, id or address.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
    },
    /// How much the registry knows.
    RegistryStats {},
    /// What the registry knows of an address or a name.
    RegistryLookup {
        /// The address or name.
        what: String,
        /// Say how good that is for this container.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
    },
    /// Put everything into the registry's files; the answer says whether they have it.
    RegistryFlush {},
    /// Forget an address, or every address of a name.
    RegistryForget {
        /// The address or name.
        what: String,
    },
    /// Take a part of an exported registry in, beside what is known.
    RegistryImport {
        /// An export with some of its addresses.
        registry: Value,
    },
}

/// Every word that a question may begin with.
const WORDS: [&str; 9] = [
    "daemon",
    "status",
    "explain",
    "containers",
    "registry-stats",
    "registry-lookup",
    "registry-flush",
    "registry-forget",
    "registry-import",
];

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{message}")]
pub struct Fault {
    /// For programs.
    pub kind: FaultKind,
    /// For people.
    pub message: String,
}

/// Kinds of faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FaultKind {
    /// No JSON object, or fields that do not belong to the question.
    Malformed,
    /// Longer than [`QUESTION_BYTES_MAX`].
    TooLong,
    /// A version other than [`VERSION`].
    UnknownVersion,
    /// A question that this version does not know.
    UnknownQuestion,
    /// The asking user may not.
    NotAllowed,
    /// Too many ask at once.
    Busy,
    /// What was asked about is not there.
    NotFound,
    /// The daemon cannot tell.
    Failed,
}

impl Fault {
    /// A fault with a message.
    pub fn new(kind: FaultKind, message: impl Into<String>) -> Fault {
        Fault { kind, message: message.into() }
    }
}

/// Reads one line without its end.
///
/// # Errors
/// [`Fault`], as the asking side gets it.
pub fn parse(line: &[u8]) -> Result<Question, Fault> {
    let mut fields: Map<String, Value> = serde_json::from_slice(line)
        .map_err(|error| malformed(&format!("no JSON object: {error}")))?;
    match fields.remove("v") {
        Some(version) if version.as_u64() == Some(VERSION) => {}
        Some(other) => {
            let text = format!("version {} is not spoken here; {VERSION} is", shown(&other));
            return Err(Fault::new(FaultKind::UnknownVersion, text));
        }
        None => return Err(malformed(&format!("no version: say \"v\":{VERSION}"))),
    }
    match fields.get("ask") {
        Some(Value::String(word)) if WORDS.contains(&word.as_str()) => {}
        Some(other) => {
            let text = format!("there is no question {}; ask {}", shown(other), WORDS.join(", "));
            return Err(Fault::new(FaultKind::UnknownQuestion, text));
        }
        None => return Err(malformed("no question: say \"ask\":\"status\"")),
    }
    serde_json::from_value(Value::Object(fields)).map_err(|error| malformed(&error.to_string()))
}

fn malformed(message: &str) -> Fault {
    Fault::new(FaultKind::Malformed, excerpt(message, 4 * SHOWN_MAX))
}

fn shown(value: &Value) -> String {
    excerpt(&value.to_string(), SHOWN_MAX)
}

fn excerpt(text: &str, most: usize) -> String {
    let mut short: String = text.chars().take(most).collect();
    if short.len() < text.len() {
        short.push_str("...");
    }
    short
}

/// One line of the asking side.
pub(super) fn question_line(question: &Question) -> Vec<u8> {
    #[derive(Serialize)]
    struct Asked<'a> {
        v: u64,
        #[serde(flatten)]
        question: &'a Question,
    }
    line(&Asked { v: VERSION, question })
}

/// One line of the answering side.
pub(super) fn answer_line(answer: Result<Value, Fault>) -> Vec<u8> {
    let line = line(&Reply::from(answer));
    if line.len() <= ANSWER_BYTES_MAX {
        return line;
    }
    let text = format!("the answer has more than {ANSWER_BYTES_MAX} bytes");
    self::line(&Reply::from(Err(Fault::new(FaultKind::Failed, text))))
}

/// An answer or a fault, as it stands on a line.
#[derive(Serialize, Deserialize)]
pub(super) struct Reply {
    v: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Fault>,
}

impl From<Result<Value, Fault>> for Reply {
    fn from(answer: Result<Value, Fault>) -> Reply {
        let (answer, error) = match answer {
            Ok(answer) => (Some(answer), None),
            Err(fault) => (None, Some(fault)),
        };
        Reply { v: VERSION, answer, error }
    }
}

fn line(value: &impl Serialize) -> Vec<u8> {
    // Nothing of ours has keys that are no text, which alone could fail.
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kind(line: &str) -> FaultKind {
        parse(line.as_bytes()).unwrap_err().kind
    }

    #[test]
    fn every_question_is_read_as_it_is_written() {
        let container = Some("web".to_owned());
        for question in [
            Question::Daemon {},
            Question::Status {},
            Question::Explain { address: "192.0.2.1".parse().unwrap(), container: None },
            Question::Explain {
                address: "2001:db8::1".parse().unwrap(),
                container: container.clone(),
            },
            Question::Containers { container: container.clone() },
            Question::RegistryStats {},
            Question::RegistryLookup { what: "a.example".to_owned(), container },
            Question::RegistryFlush {},
            Question::RegistryForget { what: "192.0.2.1".to_owned() },
            Question::RegistryImport { registry: serde_json::json!({ "192.0.2.1": ["a"] }) },
        ] {
            let line = question_line(&question);
            assert!(line.ends_with(b"}\n"));
            assert_eq!(parse(&line), Ok(question));
        }
        assert_eq!(parse(br#"{"v":1,"ask":"status"}"#), Ok(Question::Status {}));
    }

    #[test]
    fn what_is_no_question_is_told_apart() {
        assert_eq!(kind(""), FaultKind::Malformed);
        assert_eq!(kind("[]"), FaultKind::Malformed);
        assert_eq!(kind("{}"), FaultKind::Malformed);
        assert_eq!(kind(r#"{"v":1}"#), FaultKind::Malformed);
        assert_eq!(kind(r#"{"v":2,"ask":"status"}"#), FaultKind::UnknownVersion);
        assert_eq!(kind(r#"{"v":"1","ask":"status"}"#), FaultKind::UnknownVersion);
        assert_eq!(kind(r#"{"v":1,"ask":"block"}"#), FaultKind::UnknownQuestion);
        assert_eq!(kind(r#"{"v":1,"ask":7}"#), FaultKind::UnknownQuestion);
        assert_eq!(kind(r#"{"v":1,"ask":"explain"}"#), FaultKind::Malformed);
        assert_eq!(kind(r#"{"v":1,"ask":"explain","address":"x"}"#), FaultKind::Malformed);
        let fault = parse(br#"{"v":1,"ask":"block"}"#).unwrap_err();
        assert!(fault.message.contains("daemon, status, explain, containers"), "{fault}");
    }

    #[test]
    fn a_field_that_does_not_belong_to_the_question_is_named() {
        for question in
            [r#""daemon""#, r#""status""#, r#""containers""#, r#""explain","address":"192.0.2.1""#]
        {
            let line = format!(r#"{{"v":1,"ask":{question},"contaner":"web"}}"#);
            let fault = parse(line.as_bytes()).unwrap_err();
            assert_eq!(fault.kind, FaultKind::Malformed, "{question}");
            assert!(fault.message.starts_with("unknown field `contaner`, "), "{fault}");
        }
    }

    #[test]
    fn a_fault_repeats_little_and_nesting_overflows_nothing() {
        let long = format!(r#"{{"v":1,"ask":"{}"}}"#, "x".repeat(60_000));
        assert!(parse(long.as_bytes()).unwrap_err().message.len() < 200);
        assert_eq!(kind(&"[".repeat(QUESTION_BYTES_MAX)), FaultKind::Malformed);
        let deep = format!(r#"{{"v":1,"ask":{}"#, "{\"a\":".repeat(10_000));
        assert_eq!(kind(&deep), FaultKind::Malformed);
    }

    #[test]
    fn an_answer_that_is_too_long_is_a_fault() {
        let reply = answer_line(Ok(Value::String("x".repeat(ANSWER_BYTES_MAX))));
        let reply: Reply = serde_json::from_slice(&reply).unwrap();
        assert_eq!(reply.error.unwrap().kind, FaultKind::Failed);
    }

    proptest! {
        #[test]
        fn any_bytes_are_a_question_or_a_fault_of_a_few_bytes(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
            if let Err(fault) = parse(&bytes) {
                prop_assert!(fault.message.len() < 1000);
                prop_assert!(!answer_line(Err(fault)).strip_suffix(b"\n").unwrap().contains(&b'\n'));
            }
        }

        #[test]
        fn a_question_with_bytes_changed_is_a_question_or_a_fault(
            place in 0_usize..70, byte in any::<u8>(), cut in 0_usize..70,
        ) {
            let container = Some("web-1".to_owned());
            let address = "203.0.113.9".parse().unwrap();
            let mut line = question_line(&Question::Explain { address, container });
            if let Some(old) = line.get_mut(place) {
                *old = byte;
            }
            line.truncate(line.len().saturating_sub(cut));
            if let Ok(question) = parse(&line) {
                // Whatever was understood is understood again.
                prop_assert_eq!(parse(&question_line(&question)), Ok(question));
            }
        }
    }
}
