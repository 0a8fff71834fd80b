//! What came of a replay: counts by verdict, what differs from what was said then, and what other settings would change.

use std::cmp::Reverse;
use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use serde::Serialize;

use super::run::Got;
use super::timeline::Packet;
use crate::engine::{Grade, Name, Proto, Reason, Verdict, Wall};

/// Differences listed one by one; the rest is a count.
const LISTED_MAX: usize = 1000;

/// What came of a replay.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// First packets judged.
    pub packets: usize,
    /// The time of the first and last thing that happened, in microseconds since the Unix epoch.
    pub span_us: (u64, u64),
    /// Packets whose verdict was recorded, and how many of them the replay decides alike.
    pub recorded: usize,
    /// See [`Report::recorded`].
    pub alike: usize,
    /// Those it decides otherwise, as many as are listed.
    pub differences: Vec<Difference>,
    /// One for the replay, and one for each other setting.
    pub columns: Vec<Column>,
    /// What is in the logs and of no use here.
    pub skipped: BTreeMap<&'static str, u64>,
    /// What a person should know before believing the rest.
    pub warnings: Vec<String>,
    /// Verdicts that are taken over, since what decided is in no log: lists, containers that are not judged, flows that were
    /// open at a first start, stops.
    pub taken_over: usize,
    /// Packets that what was recorded put before or after a record of the same moment.
    pub reordered: u64,
}

/// A packet that was decided otherwise then.
#[derive(Clone, Debug, Serialize)]
pub struct Difference {
    /// The container, or the source address.
    pub container: String,
    /// The flow.
    pub flow: String,
    /// What was decided then.
    pub then: Word,
    /// What the replay decides; nothing if it takes it for a copy.
    pub now: Option<Word>,
}

/// A verdict in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Word {
    /// Accept or drop.
    #[serde(serialize_with = "lower")]
    pub verdict: Is,
    /// Why.
    pub reason: &'static str,
    /// How good the evidence was.
    pub grade: &'static str,
}

/// Accept before drop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Is {
    /// It passes.
    Accepted,
    /// It does not.
    Refused,
}

/// One way to decide.
#[derive(Clone, Debug, Serialize)]
pub struct Column {
    /// What is changed; empty for the replay itself.
    pub name: String,
    /// First packets by what became of them.
    pub counts: Vec<(Word, u64)>,
    /// First packets that were held, whatever became of them.
    pub held: u64,
    /// What it changes in comparison with the replay itself, most packets first.
    pub changes: Vec<Change>,
    /// Changes that are not listed.
    pub more: usize,
}

/// A destination that one container gets another verdict for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// The container, or the source address.
    pub container: String,
    /// Where to.
    pub dst: IpAddr,
    /// Port.
    pub dport: u16,
    /// Protocol.
    pub proto: Proto,
    /// A name of the destination.
    pub name: Option<Name>,
    /// The verdict of the replay.
    pub from: Word,
    /// The verdict with this setting.
    pub to: Word,
    /// First packets.
    pub count: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature serde asks for")]
fn lower<S: serde::Serializer>(is: &Is, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(match is {
        Is::Accepted => "accept",
        Is::Refused => "drop",
    })
}

impl Word {
    fn new(verdict: Verdict, reason: Reason, grade: Grade) -> Word {
        let verdict = match verdict {
            Verdict::Accept => Is::Accepted,
            Verdict::Drop => Is::Refused,
        };
        Word { verdict, reason: reason.as_str(), grade: grade.as_str() }
    }

    fn of(got: &Got) -> Word {
        Word::new(got.verdict, got.reason, got.grade)
    }
}

impl Report {
    pub(super) fn new(
        (first, last): (Wall, Wall),
        packets: &[&Packet],
        base: &[Option<Got>],
        others: &[(String, Vec<Option<Got>>)],
        skipped: HashMap<&'static str, u64>,
    ) -> Report {
        let (mut recorded, mut alike, mut taken_over, mut differences) = (0, 0, 0, Vec::new());
        for (packet, got) in packets.iter().zip(base) {
            let Some(said) = &packet.said else { continue };
            if is_taken_over(said.reason) {
                taken_over += 1;
                continue;
            }
            recorded += 1;
            let then = Word::new(said.verdict, said.reason, said.grade);
            let now = got.as_ref().map(Word::of);
            if now == Some(then) {
                alike += 1;
            } else if differences.len() < LISTED_MAX {
                let (container, flow) = (who(packet), packet.flow.to_string());
                differences.push(Difference { container, flow, then, now });
            }
        }
        let replayed = Column::new(String::new(), packets, base, base);
        let compared =
            others.iter().map(|(name, other)| Column::new(name.clone(), packets, base, other));
        Report {
            packets: packets.len(),
            span_us: (first.0, last.0),
            recorded,
            alike,
            differences,
            columns: std::iter::once(replayed).chain(compared).collect(),
            skipped: skipped.into_iter().collect(),
            warnings: Vec::new(),
            taken_over,
            reordered: 0,
        }
    }
}

fn is_taken_over(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::Allowlisted
            | Reason::Blocklisted
            | Reason::Exempt
            | Reason::Established
            | Reason::Shutdown
    )
}

/// The container, or the address a packet came from.
fn who(packet: &Packet) -> String {
    let by_address = || packet.flow.src.ip().to_string();
    packet.container.as_ref().map_or_else(by_address, ToString::to_string)
}

impl Column {
    fn new(name: String, packets: &[&Packet], base: &[Option<Got>], got: &[Option<Got>]) -> Column {
        let mut counts: BTreeMap<Word, u64> = BTreeMap::new();
        got.iter().flatten().for_each(|got| *counts.entry(Word::of(got)).or_default() += 1);
        let held = got.iter().flatten().filter(|got| !got.held.is_zero()).count();
        let mut changes: HashMap<_, Change> = HashMap::new();
        for (packet, (before, after)) in packets.iter().zip(base.iter().zip(got)) {
            let (Some(before), Some(after)) = (before, after) else { continue };
            let (from, to) = (Word::of(before), Word::of(after));
            // Another way to the same verdict breaks nothing.
            if from.verdict == to.verdict {
                continue;
            }
            let (container, dst, proto) = (who(packet), packet.flow.dst, packet.flow.proto);
            let name = after.names.first().or(before.names.first()).cloned();
            let change =
                changes.entry((container.clone(), dst, proto, from, to)).or_insert(Change {
                    container,
                    dst: dst.ip(),
                    dport: dst.port(),
                    proto,
                    name,
                    from,
                    to,
                    count: 0,
                });
            change.count += 1;
        }
        let mut changes: Vec<Change> = changes.into_values().collect();
        changes.sort_by_key(|change| {
            (Reverse(change.count), change.container.clone(), change.dst, change.dport)
        });
        let more = changes.len().saturating_sub(LISTED_MAX);
        changes.truncate(LISTED_MAX);
        let counts = counts.into_iter().collect();
        let held = u64::try_from(held).unwrap_or(u64::MAX);
        Column { name, counts, held, changes, more }
    }
}
