//! The language of the scenarios: one thing a line, with its time; `#` begins a comment.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use synhold::engine::{Proto, Settings};

/// A scenario as it is written.
pub struct Script {
    pub settings: Settings,
    pub events: Vec<Event>,
}

pub struct Event {
    pub at: Duration,
    pub what: What,
    /// The line as it is written, for whoever has to mend it.
    pub text: String,
}

pub enum What {
    /// A container has these addresses from now on; who had them has them no more.
    Container(String, Vec<IpAddr>),
    Dns(String),
    Flow(FlowLine),
    /// A copy of the last flow.
    Again(Option<Expected>),
    /// One word that needs no more, and what it is about.
    Word(String, String),
}

pub struct FlowLine {
    pub label: Label,
    pub container: String,
    pub dst: SocketAddr,
    pub proto: Proto,
    pub expected: Expected,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Label {
    Benign,
    Malicious,
}

/// What is to become of a flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    pub verdict: String,
    pub reason: String,
    pub grade: String,
    /// How long it waits.
    pub held: Duration,
    pub marks: Vec<String>,
    /// Why the verdict is not what its label deserves.
    pub limit: Option<String>,
}

/// Words that take what follows them as it stands.
const WORDS: [&str; 17] = [
    "allow",
    "alarm",
    "block",
    "block-domain",
    "down",
    "established",
    "grace",
    "healthy",
    "host",
    "learn",
    "local-domain",
    "lost",
    "none",
    "pause",
    "restart",
    "unhealthy",
    "up",
];

impl Script {
    /// Reads a scenario; what cannot be read is a mistake in it.
    pub fn read(text: &str) -> Script {
        let (mut settings, mut events) = (Settings::default(), Vec::new());
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            if let Some(pairs) = line.strip_prefix("settings ") {
                let pairs = synhold::config::settings::pairs(pairs).unwrap();
                settings = synhold::config::settings::from_pairs(&pairs).unwrap();
                continue;
            }
            events.extend(dated(line));
        }
        events.sort_by_key(|event| event.at);
        Script { settings, events }
    }
}

/// `TIME WHAT`, `TIME times COUNT every SECONDS WHAT`, or `WHAT` at the beginning.
fn dated(line: &str) -> Vec<Event> {
    let (first, rest) = line.split_once(' ').unwrap_or((line, ""));
    let Ok(at) = first.parse::<f64>() else {
        return vec![Event { at: Duration::ZERO, what: what(line), text: line.to_owned() }];
    };
    let at = Duration::from_secs_f64(at);
    let rest = rest.trim();
    let Some(times) = rest.strip_prefix("times ") else {
        return vec![Event { at, what: what(rest), text: line.to_owned() }];
    };
    let mut words = times.splitn(4, ' ');
    let count: u32 = words.next().unwrap().parse().unwrap();
    assert_eq!(words.next(), Some("every"), "{line}");
    let every = Duration::from_secs_f64(words.next().unwrap().parse().unwrap());
    let rest = words.next().unwrap();
    let nth = |n: u32| {
        // An address of a network of two octets, and a number from one on.
        let text = rest.replace("{hi.lo}", &format!("{}.{}", n / 250, n % 250 + 1));
        let text = text.replace("{n}", &(n + 1).to_string());
        Event { at: at + every * n, what: what(&text), text }
    };
    (0..count).map(nth).collect()
}

fn what(text: &str) -> What {
    let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.trim();
    match word {
        "container" => {
            let mut words = rest.split_whitespace();
            let name = words.next().unwrap().to_owned();
            What::Container(name, words.map(|word| word.parse().unwrap()).collect())
        }
        "dns" => What::Dns(rest.to_owned()),
        "benign" => What::Flow(flow(Label::Benign, rest)),
        "malicious" => What::Flow(flow(Label::Malicious, rest)),
        "again" => {
            let outcome = rest.strip_prefix("=> ").unwrap_or_else(|| panic!("{text}"));
            What::Again((outcome != "copy").then(|| expected(outcome)))
        }
        word => {
            assert!(WORDS.contains(&word), "no such word: {text}");
            What::Word(word.to_owned(), rest.to_owned())
        }
    }
}

/// `CONTAINER -> ADDRESS:PORT PROTO => VERDICT REASON GRADE [after N ms] [marked MARK...] [(known limit: WHY)]`
fn flow(label: Label, text: &str) -> FlowLine {
    let (ends, outcome) = text.split_once(" => ").unwrap_or_else(|| panic!("{text}"));
    let mut words = ends.split_whitespace();
    let container = words.next().unwrap().to_owned();
    assert_eq!(words.next(), Some("->"), "{text}");
    let dst = words.next().unwrap().parse().unwrap_or_else(|error| panic!("{text}: {error}"));
    let proto = match words.next() {
        Some("tcp") => Proto::Tcp,
        Some("udp") => Proto::Udp,
        other => panic!("{text}: {other:?}"),
    };
    FlowLine { label, container, dst, proto, expected: expected(outcome) }
}

fn expected(text: &str) -> Expected {
    let (text, limit) = match text.split_once(" (known limit: ") {
        Some((text, why)) => (text, Some(why.trim_end_matches(')').to_owned())),
        None => (text, None),
    };
    let (text, marks) = text.split_once(" marked ").unwrap_or((text, ""));
    let (text, held) = text.split_once(" after ").unwrap_or((text, "0 ms"));
    let held: f64 = held.trim_end_matches("ms").trim().parse().unwrap();
    let words: Vec<String> = text.split_whitespace().map(str::to_owned).collect();
    let [verdict, reason, grade] = <[String; 3]>::try_from(words).unwrap();
    let held = Duration::from_secs_f64(held / 1000.0);
    let marks = marks.split_whitespace().map(str::to_owned).collect();
    Expected { verdict, reason, grade, held, marks, limit }
}
