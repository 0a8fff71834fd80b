//! The whole table as plain data, and the options it follows from.

use std::net::{IpAddr, Ipv4Addr};

use rustables::sys;

use super::expr::{QueueTo, Rule};
use super::intervals::Span;
use super::names;
use super::net::{Family, Net};
use super::{rules, sets};

/// What happens to new container flows when nobody listens on the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Posture {
    /// They are dropped.
    Closed,
    /// They are accepted: the rule's `bypass`.
    Open,
}

/// How a refused flow learns of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refuse {
    /// TCP RST or ICMP, so that an application fails at once.
    Reset,
    /// Silence.
    Drop,
}

/// Which expression the kernel queues with; see [`super::probe`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueueVia {
    /// nft_queue.
    Native,
    /// iptables' NFQUEUE target, through nft_compat.
    Compat,
}

/// Everything the rules follow from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// First queue number.
    pub queue_num: u16,
    /// How many queues, at least one.
    pub queues: u16,
    /// What an absent listener means.
    pub posture: Posture,
    /// How to refuse.
    pub refuse: Refuse,
    /// How to queue.
    pub queue_via: QueueVia,
    /// Source networks that are judged.
    pub containers: Vec<Net>,
    /// The host's own addresses, which are not egress.
    pub host_addresses: Vec<IpAddr>,
}

impl Default for Options {
    /// What `nft/synhold.nft` shows. 172.16.0.0/12 is where Docker puts its networks unless told otherwise.
    fn default() -> Options {
        let docker = Net::new(IpAddr::V4(Ipv4Addr::new(172, 16, 0, 0)), 12);
        Options {
            queue_num: 0,
            queues: 1,
            posture: Posture::Closed,
            refuse: Refuse::Reset,
            queue_via: QueueVia::Native,
            containers: docker.into_iter().collect(),
            host_addresses: Vec::new(),
        }
    }
}

impl Options {
    /// Queue numbers and flags. `fanout` only with more than one queue: with one it means nothing, and nft(8)
    /// refuses to read back a rule that says it.
    pub fn queue_to(&self) -> QueueTo {
        let total = self.queues.max(1);
        QueueTo {
            num: self.queue_num,
            total,
            bypass: self.posture == Posture::Open,
            fanout: total > 1,
        }
    }
}

/// What the elements of a set are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// One address.
    Address(Family),
    /// Source and destination.
    Pair(Family),
    /// Not one of ours: nft's type number and the length in bytes.
    Other {
        /// nft data type.
        kind: u32,
        /// Bytes.
        len: u32,
    },
}

/// The set takes ranges.
pub const INTERVAL: u32 = sys::NFT_SET_INTERVAL;
/// Elements may expire.
pub const TIMEOUT: u32 = sys::NFT_SET_TIMEOUT;

/// A set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// Its name.
    pub name: String,
    /// Type of its elements.
    pub key: Key,
    /// Kernel flags: [`INTERVAL`], [`TIMEOUT`], or others that are not ours.
    pub flags: u32,
    /// How long elements live that do not say; 0 is for ever.
    pub timeout_ms: u64,
    /// The elements, where they follow from the options ([`names::is_managed`]); `None` where they do not.
    pub elements: Option<Vec<Span>>,
}

/// How a base chain hangs in the packet path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// `filter`, `nat` or `route`.
    pub kind: String,
    /// Netfilter hook number.
    pub num: u32,
    /// Place among the chains of that hook.
    pub priority: i32,
    /// Drop what reaches the end.
    pub policy_drop: bool,
}

/// A chain and its rules.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// Its name.
    pub name: String,
    /// Set for a base chain only.
    pub hook: Option<Hook>,
    /// Its rules, first one first.
    pub rules: Vec<Rule>,
}

/// The table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// The table is there but asleep: somebody set its `dormant` flag.
    pub dormant: bool,
    /// Its sets.
    pub sets: Vec<Set>,
    /// Its chains.
    pub chains: Vec<Chain>,
}

impl Ruleset {
    /// The rules these options ask for.
    pub fn new(options: &Options) -> Ruleset {
        let hook = Hook {
            kind: "filter".to_owned(),
            num: rustables::HookClass::Forward as u32,
            priority: names::PRIORITY,
            policy_drop: false,
        };
        let chain = |name: &str, hook, rules| Chain { name: name.to_owned(), hook, rules };
        Ruleset {
            dormant: false,
            sets: sets::wanted(options),
            chains: vec![
                chain(names::FORWARD, Some(hook), rules::forward()),
                chain(names::VERDICT, None, rules::verdict(options)),
                chain(names::REFUSE, None, rules::refuse(options.refuse)),
            ],
        }
    }

    /// The set of that name.
    pub fn set(&self, name: &str) -> Option<&Set> {
        self.sets.iter().find(|set| set.name == name)
    }

    /// The chain of that name.
    pub fn chain(&self, name: &str) -> Option<&Chain> {
        self.chains.iter().find(|chain| chain.name == name)
    }
}
