//! What the daemon answers.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::glance::{
    ListState, QueueState, Rates, Refused, RegistryState, Rejected, RulesNews, SinkState, Timing,
};
use super::when;
use crate::engine::event::Totals;
use crate::engine::flow::Proto;
use crate::engine::health::{Evidence, SourceState};
use crate::engine::judge::{Mode, Scope};
use crate::engine::mark::Mark;
use crate::engine::trace::Traced;
use crate::engine::wish::{Refusal as RefusedBy, Treatment};
use crate::engine::{Grade, Kind, Name, Reason, Verdict, Wall};

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Daemon {
    /// Its process.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// Its state directory.
    pub state_dir: PathBuf,
    /// The configuration file that its command line named; nothing is the default one, if it is there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<PathBuf>,
    /// The file it writes its events to, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events: Option<PathBuf>,
    /// It writes nothing there.
    pub memory_only: bool,
    /// The inode of its network namespace.
    pub netns: u64,
    /// When it began to answer.
    #[serde(with = "when::text")]
    pub since: Wall,
}

/// Everything on one screen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Who answers.
    pub daemon: Daemon,
    /// True if what is to be refused is refused, as far as can be told: by its mode, the rules that the kernel has, the
    /// queues that are served, and a packet of our own.
    #[serde(default)]
    pub enforcing: bool,
    /// Everything that is wrong, the worst first; one sentence each.
    #[serde(default)]
    pub faults: Vec<String>,
    /// Whether refusals are carried out.
    pub mode: Mode,
    /// The learning period, while it lasts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning: Option<LearningState>,
    /// What happens to new flows while nobody answers: `open` or `closed`.
    pub posture: String,
    /// Whether the rules are in the kernel: `enforcing`, `dry-run`, `dormant` or `absent`; nothing if it does not say.
    pub rules: Option<String>,
    /// What was last said about those rules: who changed them, and whether they were put back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drift: Option<RulesNews>,
    /// What a packet of our own found.
    #[serde(default)]
    pub canary: Canary,
    /// The kernel's queues that are ours.
    #[serde(default)]
    pub queues: Vec<QueueState>,
    /// How much happens.
    #[serde(default)]
    pub rates: Rates,
    /// How long verdicts took on packets that did not wait.
    #[serde(default)]
    pub latency: Timing,
    /// How long held packets waited.
    #[serde(default)]
    pub hold: Timing,
    /// Whether the absence of a record proves anything.
    pub evidence: Evidence,
    /// How long a packet is held at this moment, in microseconds.
    #[serde(default)]
    pub hold_us: u64,
    /// Each DNS source by itself.
    #[serde(default)]
    pub sources: Vec<SourceState>,
    /// Why what is learned does not reach the disk, if it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disk: Option<String>,
    /// Outputs of events that have taken nothing for some seconds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stalled: Vec<String>,
    /// Packets that wait for a record at this moment.
    pub held_now: u64,
    /// Counts since start.
    pub totals: Totals,
    /// Whether the container engine answers.
    pub docker: Docker,
    /// Containers that run, by name.
    pub containers: Vec<Container>,
    /// Containers that are not known because there are too many.
    pub left_out: u64,
    /// Refusals of late by container and destination, the latest first.
    #[serde(default)]
    pub refusals: Vec<Refused>,
    /// Refusals that came too fast to be among them.
    #[serde(default)]
    pub refusals_missed: u64,
    /// Lists and feeds.
    #[serde(default)]
    pub lists: Vec<ListState>,
    /// How much the registry has.
    #[serde(default)]
    pub registry: RegistryState,
    /// Where alerts go, and how that went.
    #[serde(default)]
    pub alerts: Vec<SinkState>,
}

/// The learning period.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LearningState {
    /// When it ends.
    #[serde(with = "when::text")]
    pub until: Wall,
    /// First packets that enforcing would have refused so far.
    pub refused: u64,
}

/// What is known about the container engine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Docker {
    /// Whether it answers.
    pub state: DockerState,
    /// Who and which version, or why not.
    pub what: String,
    /// Since when.
    #[serde(with = "when::text")]
    pub since: Wall,
}

/// Whether the container engine answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DockerState {
    /// It is not to be asked.
    Off,
    /// It has not been heard yet.
    #[default]
    Unheard,
    /// It answers.
    Up,
    /// It does not.
    Down,
}

/// Whether a packet of our own is refused and accepted as it should be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Canary {
    /// What it found last.
    pub state: CanaryState,
    /// One sentence for a person.
    pub message: String,
    /// When it looked last, if ever.
    #[serde(default, with = "when::maybe", skip_serializing_if = "Option::is_none")]
    pub at: Option<Wall>,
    /// It is wanted, and could not be made.
    #[serde(default)]
    pub unable: bool,
    /// It has passed once since the start.
    #[serde(default)]
    pub passed: bool,
    /// What each family's packets found, IPv4 first; empty where none are sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub families: Vec<CanaryFamily>,
}

/// What the packets of one family found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryFamily {
    /// `IPv4` or `IPv6`.
    pub family: String,
    /// What they found last. `off` if no container can be reached by this family, so that there is nothing to prove.
    pub state: CanaryState,
    /// One sentence for a person.
    pub message: String,
}

/// What our own packet found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CanaryState {
    /// It is not sent.
    #[default]
    Off,
    /// It has not been sent yet.
    Waiting,
    /// What was not resolved was refused, what was resolved passed.
    Passing,
    /// One of both was not so.
    Failing,
}

/// A container that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Full id.
    pub id: String,
    /// Its image.
    pub image: String,
    /// What holds for it.
    pub policy: Policy,
    /// It is refused everything.
    pub quarantined: bool,
    /// False if nothing of it is judged, whatever its policy says.
    #[serde(default = "yes")]
    pub judged: bool,
    /// Its addresses that are judged.
    pub addresses: Vec<IpAddr>,
    /// Names of its networks.
    pub networks: Vec<String>,
    /// What of its traffic is not judged under its name, and why.
    pub gaps: Vec<String>,
    /// Packets accepted since it was first seen.
    pub accepted: u64,
    /// Packets held.
    pub held: u64,
    /// Packets refused, or that enforcing would have refused.
    pub refused: u64,
    /// The last refusal.
    pub last_refusal: Option<Refusal>,
}

fn yes() -> bool {
    true
}

impl Container {
    /// How it is treated, in a word or two.
    pub fn treatment(&self) -> &'static str {
        match (self.judged, self.quarantined) {
            (false, _) => "not judged",
            (true, true) => "quarantine",
            (true, false) => self.policy.mode.as_str(),
        }
    }
}

/// What holds for a container.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// How it is treated.
    pub mode: Treatment,
    /// Whose look-ups count.
    pub scope: Scope,
    /// How long its packets are held, in milliseconds.
    pub hold_ms: u64,
    /// How refusals are put to it.
    pub refuse: RefusedBy,
    /// What it may reach beside what the lists allow.
    pub allow: Vec<String>,
    /// Where what is not the host's setting comes from, by key.
    pub origins: BTreeMap<String, String>,
    /// Labels that change nothing, and why.
    pub faults: Vec<String>,
}

/// A refusal, or what would have been one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refusal {
    /// When.
    #[serde(with = "when::text")]
    pub at: Wall,
    /// Where to.
    pub dst: IpAddr,
    /// Which port; nothing for what a set of the kernel refused.
    pub port: Option<u16>,
    /// Transport protocol, likewise.
    pub proto: Option<Proto>,
    /// Why.
    pub reason: Reason,
}

/// What would become of a first packet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// Who answers.
    pub daemon: Daemon,
    /// Where it would go.
    pub address: IpAddr,
    /// Where it would come from; nothing is nobody in particular.
    pub source: Option<IpAddr>,
    /// The container that has the source address.
    pub container: Option<Container>,
    /// What holds for it, or for whoever has no policy of their own.
    pub policy: Policy,
    /// The source is in quarantine.
    pub quarantined: bool,
    /// The engine's verdict, with what a held packet meets in the end if no record comes.
    pub verdict: Verdict,
    /// Why.
    pub reason: Reason,
    /// Milliseconds the packet would be held before that.
    pub held_ms: u64,
    /// Whether a refusal is carried out.
    pub mode: Mode,
    /// The domain of the lists that decides, where one does.
    pub domain: Option<Name>,
    /// The same was refused a moment ago, so that the kernel refuses it by itself.
    pub denied: bool,
    /// How good the DNS evidence is.
    pub grade: Grade,
    /// The names that the address answered to, latest first.
    pub names: Vec<Named>,
    /// Whether the absence of a record proves anything.
    pub evidence: Evidence,
    /// What the engine asked, in its order; the last step says the verdict.
    #[serde(default)]
    pub steps: Vec<Traced>,
    /// What is suspicious about the names.
    #[serde(default)]
    pub marks: Vec<Mark>,
    /// The DNS sources, each by itself.
    #[serde(default)]
    pub sources: Vec<SourceState>,
    /// The addresses whose look-ups are this container's own, and whether anything is known that they asked for.
    #[serde(default)]
    pub clients: Vec<Client>,
    /// Answers with this address that were no evidence.
    #[serde(default)]
    pub rejected: Vec<Rejected>,
}

/// An address that may ask for names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Client {
    /// The address.
    pub address: IpAddr,
    /// It asked for something that is still known.
    pub asks: bool,
}

/// A name of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The name.
    pub name: Name,
    /// How it is known.
    #[serde(default)]
    pub kind: Option<Kind>,
    /// CNAME targets between it and the address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub chain: Vec<Name>,
    /// Who asked for it last, where the log said so.
    pub asker: Option<IpAddr>,
    /// The container that has the asker's address now.
    pub container: Option<String>,
    /// When it last resolved to the address.
    #[serde(with = "when::text")]
    pub last: Wall,
}

/// Who has which address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Containers {
    /// Names of containers that run, or that were asked for, with their addresses.
    pub containers: BTreeMap<String, Vec<IpAddr>>,
    /// What is not judged of the one that was asked for, and why.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gaps: Vec<String>,
}

impl Containers {
    /// Names by address.
    pub fn by_address(&self) -> BTreeMap<IpAddr, &str> {
        let pairs = self.containers.iter().flat_map(|(name, addresses)| {
            addresses.iter().map(move |address| (*address, name.as_str()))
        });
        pairs.collect()
    }
}
