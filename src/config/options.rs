//! What a user can set, on the command line or in the file: one definition for both.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use serde::Deserialize;

use super::desk::DeskOptions;
use super::evidence::EvidenceOptions;
use crate::engine::Scope;
use crate::events::LogFormat;

/// What happens to new container flows while nobody answers the queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fail {
    /// They pass.
    Open,
    /// They are dropped.
    Closed,
}

/// How a refusal is put to the container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RefuseBy {
    /// TCP reset or ICMP admin-prohibited: the application fails at once.
    Reset,
    /// Silence: the application waits until it gives up.
    Drop,
}

/// What private networks and the container networks are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LocalAs {
    /// No egress: never judged.
    Allow,
    /// Judged as any other destination.
    Judge,
}

/// Who is kept from a destination that was refused because nobody had resolved it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AutoBlock {
    /// Nobody: the next try is judged anew.
    #[default]
    Off,
    /// The container that tried.
    Container,
    /// Every container.
    Global,
}

/// Options that decide what the kernel's rules look like; shared by `run` and `rules`.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RuleOptions {
    /// Network whose containers are judged beside Docker's, as 172.17.0.0/16 [default: none; until Docker is heard,
    /// container bridges found at start and 172.16.0.0/12]
    #[arg(long, value_name = "CIDR")]
    #[serde(default)]
    pub container_net: Vec<String>,
    /// First NFQUEUE number [default: 0]
    #[arg(long, value_name = "N")]
    pub queue_num: Option<u16>,
    /// Number of queues, one verdict thread each [default: 1]
    #[arg(long, value_name = "N")]
    pub queues: Option<u16>,
    /// What happens to new container flows while no synhold runs [default: closed; always open in a dry run]
    #[arg(long, value_name = "POSTURE")]
    pub fail: Option<Fail>,
    /// Refuse and delay nothing; report what enforcing would have done
    #[arg(long)]
    #[serde(default)]
    pub dry_run: bool,
    /// How a refused container learns of it [default: reset]
    #[arg(long, value_name = "HOW")]
    pub refuse: Option<RefuseBy>,
    /// Where containers' port 53 goes, whatever server they ask: off, gateway (this host), or a resolver's address, one
    /// for each family [default: off]
    #[arg(long, value_name = "off|gateway|ADDR[,ADDR6]")]
    pub dns_redirect: Option<String>,
    /// Refuse DNS over TLS and over QUIC (port 853) unless the server is local or allowed
    #[arg(long)]
    #[serde(default)]
    pub refuse_dot: bool,
    /// Whether private and container networks are judged [default: allow]
    #[arg(long, value_name = "POLICY")]
    pub local_policy: Option<LocalAs>,
    /// Let containers send from addresses that do not belong on their network, as one that routes for others does
    #[arg(long)]
    #[serde(default)]
    pub allow_spoofing: bool,
}

/// Everything `run` takes. Keys of the file are the long flags without the dashes.
#[derive(Args, Clone, Debug, Default)]
pub struct Options {
    /// What the rules look like.
    #[command(flatten)]
    pub rules: RuleOptions,
    /// How the daemon behaves.
    #[command(flatten)]
    pub daemon: DaemonOptions,
    /// What counts as evidence.
    #[command(flatten)]
    pub evidence: EvidenceOptions,
    /// The operator's desk.
    #[command(flatten)]
    pub desk: DeskOptions,
    /// Feeds; only the file has them.
    #[arg(skip)]
    pub feeds: Vec<crate::lists::Feed>,
    /// Where alerts go; only the file says.
    #[arg(skip)]
    pub alerts: Vec<crate::alert::Sink>,
    /// What holds for some containers; only the file has it.
    #[arg(skip)]
    pub containers: Vec<crate::engine::policy::Section>,
}

/// Options of the daemon alone.
#[derive(Args, Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DaemonOptions {
    /// Where the registry is kept [default: /var/lib/synhold]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// Where DNS records come from: spawn, file:PATH, fifo:PATH, docker:NAME (a container's log),
    /// journal:UNIT (a systemd unit's) or stdin; repeatable [default: spawn]
    #[arg(long, value_name = "SPEC")]
    #[serde(default)]
    pub dns_source: Vec<String>,
    /// Longest time a packet is held for its record, in milliseconds, below 1000 [default: 750]
    #[arg(long, value_name = "N")]
    pub hold_ms: Option<u64>,
    /// Held packets of one source address; more are refused at once [default: 256]
    #[arg(long, value_name = "N")]
    pub hold_budget: Option<usize>,
    /// Whose look-ups count as evidence: everybody's or the container's own [default: global]
    #[arg(long, value_name = "SCOPE", value_parser = parse_scope)]
    pub scope: Option<Scope>,
    /// Address (and port) our own dnsmasq listens on; repeatable [default: port 53 of each container network's gateway]
    #[arg(long, value_name = "ADDR[:PORT]")]
    #[serde(default)]
    pub dns_listen: Vec<String>,
    /// Server our own dnsmasq asks; repeatable [default: the host's resolvers]
    #[arg(long, value_name = "ADDR[#PORT]")]
    #[serde(default)]
    pub dns_upstream: Vec<String>,
    /// Refuse the addresses of well-known servers of DNS over HTTPS
    #[arg(long)]
    #[serde(default)]
    pub refuse_doh: bool,
    /// Whom to keep from a destination that nobody had resolved, beyond the next minute [default: off]
    #[arg(long, value_name = "WHOM")]
    pub auto_block: Option<AutoBlock>,
    /// How long such a destination stays blocked, as 12h or 30d [default: 30d]
    #[arg(long, value_name = "TIME")]
    pub auto_block_for: Option<String>,
    /// Unblock such a destination when a DNS answer names it later
    #[arg(long)]
    #[serde(default)]
    pub auto_block_forgive: bool,
    /// Write nothing to disk but the event file
    #[arg(long)]
    #[serde(default)]
    pub memory_only: bool,
    /// Do not ask Docker for container names, networks and labels
    #[arg(long)]
    #[serde(default)]
    pub no_docker: bool,
    /// Let the labels of a container loosen what holds for it: whoever starts it writes them
    #[arg(long)]
    #[serde(default)]
    pub trust_labels: bool,
    /// Leave the rules in place at stop even if this process put them in
    #[arg(long)]
    #[serde(default)]
    pub keep_rules: bool,
    /// Append events to this file as JSON Lines
    #[arg(long, value_name = "FILE")]
    pub events: Option<PathBuf>,
    /// What standard output gets [default: human]
    #[arg(long, value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

fn parse_scope(text: &str) -> Result<Scope, String> {
    match text {
        "global" => Ok(Scope::Global),
        "container" => Ok(Scope::Container),
        _ => Err("must be global or container".to_owned()),
    }
}

impl RuleOptions {
    /// The command line before the file.
    pub fn or(self, file: RuleOptions) -> RuleOptions {
        RuleOptions {
            container_net: or(self.container_net, file.container_net),
            queue_num: self.queue_num.or(file.queue_num),
            queues: self.queues.or(file.queues),
            fail: self.fail.or(file.fail),
            dry_run: self.dry_run || file.dry_run,
            refuse: self.refuse.or(file.refuse),
            dns_redirect: self.dns_redirect.or(file.dns_redirect),
            refuse_dot: self.refuse_dot || file.refuse_dot,
            local_policy: self.local_policy.or(file.local_policy),
            allow_spoofing: self.allow_spoofing || file.allow_spoofing,
        }
    }
}

impl DaemonOptions {
    /// The command line before the file; a switch is on if either turns it on.
    pub fn or(self, file: DaemonOptions) -> DaemonOptions {
        DaemonOptions {
            state_dir: self.state_dir.or(file.state_dir),
            dns_source: or(self.dns_source, file.dns_source),
            hold_ms: self.hold_ms.or(file.hold_ms),
            hold_budget: self.hold_budget.or(file.hold_budget),
            scope: self.scope.or(file.scope),
            dns_listen: or(self.dns_listen, file.dns_listen),
            dns_upstream: or(self.dns_upstream, file.dns_upstream),
            refuse_doh: self.refuse_doh || file.refuse_doh,
            auto_block: self.auto_block.or(file.auto_block),
            auto_block_for: self.auto_block_for.or(file.auto_block_for),
            auto_block_forgive: self.auto_block_forgive || file.auto_block_forgive,
            memory_only: self.memory_only || file.memory_only,
            no_docker: self.no_docker || file.no_docker,
            trust_labels: self.trust_labels || file.trust_labels,
            keep_rules: self.keep_rules || file.keep_rules,
            events: self.events.or(file.events),
            log_format: self.log_format.or(file.log_format),
        }
    }
}

fn or<T>(given: Vec<T>, otherwise: Vec<T>) -> Vec<T> {
    if given.is_empty() { otherwise } else { given }
}
