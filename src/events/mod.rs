//! The event log: product output, written off the packet path, apart from diagnostics.

mod human;
mod output;
mod pick;
mod recent;
mod sign;
mod tap;
mod writer;

pub use human::append_human;
pub use pick::{Pick, Whose};
pub use recent::{RECENT_BYTES_MAX, RECENT_MAX};
pub use sign::Sign;
pub use tap::{Tapped, Wants};
pub use writer::{Error, EventSender, EventWriter, LogFormat, Outputs};

use std::time::{Duration, UNIX_EPOCH};

use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use tracing::Level;
use tracing::level_filters::LevelFilter;

use crate::engine::event::{Body, Event};
use crate::engine::{Mode, Wall};

/// A time as events show it: RFC 3339, UTC, microseconds.
pub fn timestamp(time: Wall) -> impl std::fmt::Display {
    humantime::format_rfc3339_micros(UNIX_EPOCH + Duration::from_micros(time.0))
}

/// What people are shown, as the diagnostics' filter says of this module (`RUST_LOG`, target `synhold::events`).
pub fn level() -> LevelFilter {
    let all = [
        (LevelFilter::TRACE, tracing::enabled!(Level::TRACE)),
        (LevelFilter::DEBUG, tracing::enabled!(Level::DEBUG)),
        (LevelFilter::INFO, tracing::enabled!(Level::INFO)),
        (LevelFilter::WARN, tracing::enabled!(Level::WARN)),
        (LevelFilter::ERROR, tracing::enabled!(Level::ERROR)),
    ];
    all.into_iter().find(|(_, enabled)| *enabled).map_or(LevelFilter::OFF, |(level, _)| level)
}

/// What became of the packets of a minute, for people who are not told of each accepted one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counts {
    /// When it was over.
    pub time: Wall,
    /// Whether refusals were carried out.
    pub mode: Mode,
    /// Packets accepted.
    pub accepted: u64,
    /// Packets refused.
    pub refused: u64,
    /// Packets that were held.
    pub held: u64,
    /// Held packets that a record released.
    pub released: u64,
}

/// A time as [`timestamp`] writes it, or as RFC 3339 has it otherwise.
pub fn read_timestamp(text: &str) -> Option<Wall> {
    let since = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    Some(Wall(u64::try_from(since.as_micros()).ok()?))
}

/// Reads a line of the event log; nothing if it is none.
pub fn read_json(line: &[u8]) -> Option<Event> {
    let mut value: Map<_, _> = serde_json::from_slice(line).ok()?;
    let time = read_timestamp(value.remove("ts")?.as_str()?)?;
    let body = serde_json::from_value(Value::Object(value)).ok()?;
    Some(Event { time, body })
}

/// Appends an event as one line of JSON, without the newline.
pub fn append_json(out: &mut Vec<u8>, event: &Event) {
    #[derive(Serialize)]
    struct Line<'e> {
        #[serde(serialize_with = "shown")]
        ts: Wall,
        #[serde(flatten)]
        body: &'e Body,
    }
    let line = Line { ts: event.time, body: &event.body };
    // Plain data with string keys always serialises, and a vector takes everything.
    let _ = serde_json::to_writer(out, &line);
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn shown<S: Serializer>(time: &Wall, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&timestamp(*time))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::event::{Stop, Totals, VerdictBody};
    use crate::engine::health::Evidence;
    use crate::engine::judge::{Decision, Mode};
    use crate::engine::registry::Known;
    use crate::engine::{Flow, Grade, Name, Proto, Reason, Verdict};

    fn json(event: &Event) -> String {
        let mut line = Vec::new();
        append_json(&mut line, event);
        String::from_utf8(line).unwrap()
    }

    pub(super) fn verdict(verdict: Verdict, reason: Reason, mode: Mode, names: &[&str]) -> Event {
        let decision = Decision {
            flow: Flow {
                proto: Proto::Tcp,
                src: "172.25.0.2:40112".parse().unwrap(),
                dst: "203.0.113.9:443".parse().unwrap(),
            },
            lane: 0,
            verdict,
            reason,
            grade: if names.is_empty() { Grade::Never } else { Grade::Own },
            known: Known {
                marks: Vec::new(),
                names: names.iter().map(|name| Name::new(name).unwrap()).collect(),
                more: 0,
            },
            held: Duration::from_micros(750_113),
            copies: 0,
            domain: None,
            mode,
            owner: None,
            again: false,
            at: Default::default(),
            proof: None,
            bound: Default::default(),
        };
        let evidence = Evidence { healthy: true, records: 1234, lag_us: 80, ..Evidence::default() };
        let body = Body::Verdict(VerdictBody::decided(decision, evidence, 0));
        Event { time: Wall(1_767_323_045_678_901), body }
    }

    #[test]
    fn the_verdict_line_is_the_one_of_the_contract() {
        let line = json(&verdict(Verdict::Drop, Reason::NeverResolved, Mode::Enforce, &[]));
        assert_eq!(
            line,
            concat!(
                r#"{"ts":"2026-01-02T03:04:05.678901Z","event":"verdict","mode":"enforce","verdict":"drop","enforced":true,"#,
                r#""reason":"never-resolved","grade":"never","held_us":750113,"container":null,"container_id":null,"#,
                r#""proto":"tcp","src":"172.25.0.2","sport":40112,"dst":"203.0.113.9","dport":443,"names":[],"#,
                r#""evidence":{"healthy":true,"records":1234,"lag_us":80,"lines":0,"skipped":0,"lost":0,"last_line_ms":null},"#,
                r#""queue":0}"#
            )
        );
    }

    #[test]
    fn a_dry_run_says_that_nothing_was_enforced() {
        let line = json(&verdict(Verdict::Drop, Reason::NeverResolved, Mode::DryRun, &[]));
        assert!(line.contains(r#""mode":"dry-run","verdict":"drop","enforced":false"#), "{line}");
    }

    #[test]
    fn every_reason_is_the_same_word_everywhere() {
        for reason in Reason::ALL {
            let line = json(&verdict(Verdict::Drop, reason, Mode::Enforce, &[]));
            assert!(line.contains(&format!(r#""reason":"{}""#, reason.as_str())), "{line}");
        }
    }

    #[test]
    fn events_read_back_as_they_were_written() {
        let event = verdict(Verdict::Accept, Reason::Resolved, Mode::Enforce, &["a.example"]);
        assert_eq!(serde_json::from_str::<Body>(&json(&event)).unwrap(), event.body);
        assert_eq!(read_json(json(&event).as_bytes()).unwrap(), event);
        let totals = Totals { accepted: 3, ..Totals::default() };
        let stop = Event { time: Wall(0), body: Body::Stop(Stop { totals, ..Stop::default() }) };
        assert!(json(&stop).starts_with(
            r#"{"ts":"1970-01-01T00:00:00.000000Z","event":"stop","mode":"enforce","accepted":3,"#
        ));
    }
}
