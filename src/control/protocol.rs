//! What a line asks, and how an answer or a fault is put on a line.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::engine::Name;

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
    /// Every set of the kernel and every list.
    Sets {},
    /// What sets of the kernel hold.
    SetsShow {
        /// A set, or a name without its 4 or 6 for both families.
        name: String,
        /// Elements of each set, at most.
        limit: u64,
        /// Only elements that share an address with this address, network or range.
        #[serde(default, rename = "match", skip_serializing_if = "Option::is_none")]
        within: Option<String>,
    },
    /// What the kernel's sets and the lists say to a first packet.
    SetsTest {
        /// Where it would go.
        address: IpAddr,
        /// Where it would come from.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        from: Option<IpAddr>,
    },
    /// What the lists say about a name.
    ListsLookup {
        /// The name.
        name: Name,
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
    /// What happened lately, and what happens from now on.
    Events(EventsAsked),
    /// Refuse entries, or everything from a container.
    Block {
        /// Addresses, networks, ranges and domains, as lists write them.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        entries: Vec<String>,
        /// In place of entries, the container to put into quarantine: its name, its id or one of its addresses.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
        /// Only for this long, as `1h` or `30d`.
        #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
        time: Option<String>,
        /// The comment of the line; none keeps the one that is there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
        /// Even if this host is cut off by it.
        #[serde(default, skip_serializing_if = "is_false")]
        force: bool,
    },
    /// Take entries out of what the user and synhold itself block, or a container out of quarantine.
    Unblock {
        /// Entries, as they stand in the list.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        entries: Vec<String>,
        /// In place of entries, the container to let out.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        container: Option<String>,
    },
    /// Accept entries, whatever else is said about them.
    Allow {
        /// Addresses, networks, ranges and domains, as lists write them.
        entries: Vec<String>,
        /// Only for this long, as `1h` or `30d`.
        #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
        time: Option<String>,
        /// The comment of the line; none keeps the one that is there.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
    /// Take entries out of what the user allows.
    Unallow {
        /// Entries, as they stand in the list.
        entries: Vec<String>,
    },
}

/// Which events somebody wants to read.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EventsAsked {
    /// At most so many of the recent ones; none means all that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<u64>,
    /// After those, every event as it happens, until the client leaves.
    #[serde(default, skip_serializing_if = "is_false")]
    pub follow: bool,
    /// Only these kinds, by the word of their field `event`; empty means all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// Only what is about this container: its name, its id or one of its addresses.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<String>,
    /// Of verdicts only refusals, and nothing else but what the kernel's sets refused.
    #[serde(default, skip_serializing_if = "is_false")]
    pub refused: bool,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn is_false(value: &bool) -> bool {
    !value
}

/// What a question asks of the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// A look at what is at hand.
    Quick,
    /// A look that takes its time.
    Slow,
    /// A change, which takes its time too.
    Change,
}

impl Question {
    /// Whether its answer goes on until the client leaves.
    pub fn follows(&self) -> bool {
        matches!(self, Question::Events(EventsAsked { follow: true, .. }))
    }

    /// Whether its answer may be some seconds in the making: it waits for the kernel or the disk, reads lists whole, or
    /// goes through the whole registry, and others of its kind may be before it.
    pub fn takes_time(&self) -> bool {
        self.class() != Class::Quick
    }

    /// Whether it changes anything, so that only root and the daemon's own user may ask it.
    pub fn changes(&self) -> bool {
        self.class() == Class::Change
    }

    fn class(&self) -> Class {
        match self {
            Question::Daemon {}
            | Question::Status {}
            | Question::Explain { .. }
            | Question::Containers { .. }
            | Question::RegistryStats {}
            | Question::Events(_) => Class::Quick,
            Question::RegistryLookup { .. }
            | Question::Sets {}
            | Question::SetsShow { .. }
            | Question::SetsTest { .. }
            | Question::ListsLookup { .. } => Class::Slow,
            Question::RegistryFlush {}
            | Question::RegistryForget { .. }
            | Question::RegistryImport { .. }
            | Question::Block { .. }
            | Question::Unblock { .. }
            | Question::Allow { .. }
            | Question::Unallow { .. } => Class::Change,
        }
    }
}

/// Every word that a question may begin with.
const WORDS: [&str; 18] = [
    "daemon",
    "status",
    "explain",
    "containers",
    "registry-stats",
    "registry-lookup",
    "sets",
    "sets-show",
    "sets-test",
    "lists-lookup",
    "registry-flush",
    "registry-forget",
    "registry-import",
    "events",
    "block",
    "unblock",
    "allow",
    "unallow",
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
    /// Whoever follows reads too slowly.
    Behind,
    /// The daemon stops.
    Stopping,
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
    let text = format!("the answer has more than {ANSWER_BYTES_MAX} bytes: ask for less");
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
#[path = "protocol_test.rs"]
mod tests;
