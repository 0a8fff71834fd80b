//! What the rules follow from.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::expr::QueueTo;
use super::interface::Interface;
use crate::engine::net::Net;

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

/// Where containers' questions to port 53 go, whatever server they ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DnsRedirect {
    /// Where they are sent.
    #[default]
    Off,
    /// To port 53 of this host, on the address the container's network has for it.
    Gateway,
    /// To a resolver elsewhere; a family without an address is left alone.
    To {
        /// Its IPv4 address.
        v4: Option<Ipv4Addr>,
        /// Its IPv6 address.
        v6: Option<Ipv6Addr>,
    },
}

/// What private networks and the container networks are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LocalPolicy {
    /// No egress: never judged.
    #[default]
    Allow,
    /// Judged as any other destination.
    Judge,
}

/// A network of containers on a bridge of this host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bridge {
    /// The bridge's name.
    pub interface: String,
    /// Where the addresses of its containers lie, of both families.
    pub nets: Vec<Net>,
}

/// Room in each set of blocked single addresses unless a list needs more; takes 1 MB in the kernel.
pub const HOSTS_SIZE_DEFAULT: u32 = 65_536;

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
    /// Sources of ours that are judged as well, and are not local for that.
    pub canary: Vec<Net>,
    /// Bridges on which only sources that belong there get in. See [`Options::unnamed`].
    pub bridges: Vec<Bridge>,
    /// Whether forged sources are looked for at all.
    pub anti_spoof: bool,
    /// The host's own addresses, which are not egress.
    pub host_addresses: Vec<IpAddr>,
    /// Room in each set of blocked single addresses. A set in the kernel with more room is fine as it is.
    pub hosts_size: u32,
    /// Where containers' questions to port 53 go. Also in a dry run.
    pub dns_redirect: DnsRedirect,
    /// DNS over TLS and over QUIC (port 853) is refused, unless the destination is local or allowed.
    pub refuse_dot: bool,
    /// Whether private and container networks are judged.
    pub local_policy: LocalPolicy,
    /// Nothing is refused: what sets would refuse is counted and goes on to be judged, and an absent listener
    /// means accept whatever the posture.
    pub dry_run: bool,
    /// Marked in the kernel as put in by `synhold run`, which takes them away when it stops.
    pub owned: bool,
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
            canary: Vec::new(),
            bridges: Vec::new(),
            anti_spoof: true,
            host_addresses: Vec::new(),
            hosts_size: HOSTS_SIZE_DEFAULT,
            dns_redirect: DnsRedirect::Off,
            refuse_dot: false,
            local_policy: LocalPolicy::Allow,
            dry_run: false,
            owned: false,
        }
    }
}

impl Options {
    /// What cannot be asked about passes instead of being dropped.
    pub fn passes_unjudged(&self) -> bool {
        self.dry_run || self.posture == Posture::Open
    }

    /// Bridges whose name no set takes: what comes in from them is let in whatever its source.
    pub fn unnamed(&self) -> impl Iterator<Item = &str> {
        let names = self.bridges.iter().map(|bridge| bridge.interface.as_str());
        names.filter(|name| Interface::new(name).is_none())
    }

    /// Queue numbers and flags. `fanout` only with more than one queue: with one it means nothing, and nft(8)
    /// refuses to read back a rule that says it.
    pub fn queue_to(&self) -> QueueTo {
        let total = self.queues.max(1);
        QueueTo { num: self.queue_num, total, bypass: self.passes_unjudged(), fanout: total > 1 }
    }
}
