//! What the event log says: plain data with the keys and words users rely on.

mod asked;
mod ready;
mod verdict;

use std::net::IpAddr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::flow::Proto;
use super::inventory::{News, What};
use super::judge::{Mode, Scope};
use super::mark::Alarm;
use super::name::Name;
use super::opinion::View;
use super::record::{Kind, Record};
use super::time::Wall;
use super::verdict::Reason;
use super::wish::Treatment;

pub use asked::{AskedBody, Outcome};
pub use ready::Ready;
pub use verdict::VerdictBody;

/// One line of the event log, with its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// When it happened.
    pub time: Wall,
    /// What happened.
    pub body: Body,
}

/// The kinds of event.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "lowercase")]
pub enum Body {
    /// Verdicts are being given.
    Ready(Ready),
    /// A packet was judged.
    Verdict(VerdictBody),
    /// The kernel's sets refused packets without asking us.
    Block(BlockBody),
    /// An address was resolved for the first time.
    Record(RecordBody),
    /// A container came, went, or changed its name, addresses or policy.
    Container(ContainerBody),
    /// Something a person should look at.
    Alert(AlertBody),
    /// The learning period began or is over.
    Learn(LearnBody),
    /// Something we depend on changed its state.
    Health(Health),
    /// Files were read or opened again, or somebody had the running daemon change lists or registry.
    Reload(Reload),
    /// Everything held is answered and the queues are closed.
    Stop(Stop),
}

impl Body {
    /// Every word that [`Body::kind`] may be.
    pub const KINDS: [&'static str; 10] = [
        "ready",
        "verdict",
        "block",
        "record",
        "container",
        "alert",
        "learn",
        "health",
        "reload",
        "stop",
    ];

    /// The word of the field `event`.
    pub fn kind(&self) -> &'static str {
        match self {
            Body::Ready(_) => "ready",
            Body::Verdict(_) => "verdict",
            Body::Block(_) => "block",
            Body::Record(_) => "record",
            Body::Container(_) => "container",
            Body::Alert(_) => "alert",
            Body::Learn(_) => "learn",
            Body::Health(_) => "health",
            Body::Reload(_) => "reload",
            Body::Stop(_) => "stop",
        }
    }
}

/// See [`Body::Block`]: one container and one destination, told at once and then from time to time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BlockBody {
    /// Enforce or dry-run.
    pub mode: Mode,
    /// False where the set only counts.
    pub enforced: bool,
    /// The kernel set that has it.
    pub set: String,
    /// Container name, where known.
    pub container: Option<Arc<str>>,
    /// Container id, where known.
    pub container_id: Option<Arc<str>>,
    /// Source address.
    pub src: IpAddr,
    /// Destination address.
    pub dst: IpAddr,
    /// Packets since this was told last.
    pub count: u64,
    /// The list or feed, where one has the entry.
    pub list: Option<String>,
    /// The entry as it is written there.
    pub entry: Option<String>,
    /// Its comment.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// Names known for the destination, latest first, a few at most.
    pub names: Vec<Name>,
}

/// See [`Body::Record`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordBody {
    /// The address.
    pub address: IpAddr,
    /// The name asked.
    pub name: Name,
    /// Who asked.
    pub client: Option<IpAddr>,
    /// How we know.
    pub kind: Kind,
    /// CNAME targets in between.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Name>,
}

/// See [`Body::Container`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerBody {
    /// What happened: `up`, `changed` or `gone`.
    pub what: What,
    /// Its name.
    pub container: Arc<str>,
    /// Its id.
    pub container_id: Arc<str>,
    /// Its image.
    pub image: Arc<str>,
    /// Its addresses that are judged.
    pub addresses: Vec<IpAddr>,
    /// Its networks, by name.
    pub networks: Vec<String>,
    /// How it is treated.
    pub mode: Treatment,
    /// Whose look-ups count for it.
    pub scope: Scope,
    /// How long its packets are held, in milliseconds.
    #[serde(default)]
    pub hold_ms: u64,
    /// What of its traffic is not judged under its name, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
    /// Labels that are not followed, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub faults: Vec<String>,
}

/// See [`Body::Alert`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AlertBody {
    /// What it is about.
    pub alert: Alarm,
    /// The name that was asked, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<Name>,
    /// The address in the answer, where it is about one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// Who asked, where the log says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<IpAddr>,
    /// The container that asked, where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container: Option<Arc<str>>,
    /// Times since this was told last.
    pub count: u64,
    /// What OpenSnitch makes of the address, for `finding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opensnitch: Option<View>,
    /// One sentence for a person.
    pub message: String,
}

/// See [`Body::Learn`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LearnBody {
    /// True if nothing is learned any more: from now on refusals are carried out.
    pub over: bool,
    /// When it ends, or ended, in seconds since the Unix epoch.
    pub until: u64,
    /// First packets that enforcing would have refused.
    pub refused: u64,
    /// What they were, most first, as many as are remembered.
    pub would_refuse: Vec<WouldRefuse>,
}

/// One container and destination that enforcing would have refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WouldRefuse {
    /// Container name, where known; else its address.
    pub container: Arc<str>,
    /// Where to.
    pub dst: IpAddr,
    /// Port.
    pub dport: u16,
    /// Protocol.
    pub proto: Proto,
    /// Why.
    pub reason: Reason,
    /// How often.
    pub count: u64,
}

/// See [`Body::Health`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Health {
    /// What: `source`, `queue`, `registry`, `rules`, `worker`, `lists`, `docker`, `metrics`, or `alert` and a sink's name.
    pub what: String,
    /// True if it is as it should be again.
    pub healthy: bool,
    /// One sentence for a person.
    pub message: String,
}

/// See [`Body::Reload`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Reload {
    /// What: a path, `lists`, `alerts`, or the word of a change that was asked for.
    pub what: String,
    /// What came of it, for `lists`.
    #[serde(flatten)]
    pub lists: Option<ListsReload>,
    /// Who asked for a change, and what came of that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asked: Option<AskedBody>,
}

/// What loading changed lists did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListsReload {
    /// Elements put into the kernel's sets.
    pub added: u64,
    /// Elements taken out of them.
    pub removed: u64,
    /// Open flows that the lists now refuse and that were ended.
    pub ended_flows: u64,
    /// Milliseconds from the compiled lists to the kernel having them.
    pub took_ms: u64,
}

/// See [`Body::Stop`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stop {
    /// Enforce or dry-run: in a dry run the totals are of what enforcing would have done.
    pub mode: Mode,
    /// Counts since start.
    #[serde(flatten)]
    pub totals: Totals,
}

/// Counts since start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Packets accepted.
    pub accepted: u64,
    /// Packets refused.
    pub refused: u64,
    /// Packets that were held.
    pub held: u64,
    /// Held packets a record released.
    pub released: u64,
    /// Packets that could not be read.
    pub malformed: u64,
    /// Copies of held packets.
    pub copies: u64,
    /// Packets that were gone from the kernel when their verdict came.
    pub gone: u64,
    /// Times a receive buffer overflowed.
    pub overruns: u64,
    /// Times a queue had to be opened again.
    pub reopened: u64,
    /// Panics caught on the packet path.
    pub panics: u64,
    /// Refused packets that came back because the rule that refuses them was gone; dropped in silence.
    pub unrefused: u64,
    /// Packets the kernel dropped because a queue was full (`queue_dropped`).
    pub kernel_dropped: u64,
    /// Packets the kernel could not hand to us (`user_dropped`).
    pub user_dropped: u64,
    /// Events not written because the writer could not keep up.
    pub events_shed: u64,
}

impl From<News> for ContainerBody {
    fn from(News { what, owner, place, .. }: News) -> ContainerBody {
        ContainerBody {
            what,
            container: Arc::clone(&owner.name),
            container_id: Arc::clone(&owner.id),
            image: Arc::clone(&owner.image),
            addresses: place.addresses,
            networks: place.networks,
            mode: owner.policy.mode,
            scope: owner.policy.scope,
            hold_ms: u64::try_from(owner.policy.hold.as_millis()).unwrap_or(u64::MAX),
            gaps: place.gaps,
            faults: owner.policy.faults.clone(),
        }
    }
}

impl From<&Record> for RecordBody {
    fn from(record: &Record) -> RecordBody {
        RecordBody {
            address: record.address,
            name: record.name.clone(),
            client: record.client,
            kind: record.kind,
            chain: record.chain.clone(),
        }
    }
}
