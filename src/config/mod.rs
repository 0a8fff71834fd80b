//! Configuration: the file under the command line, checked, with every default filled in.

mod containers;
mod desk;
mod evidence;
mod file;
mod lists;
mod options;
pub mod settings;
mod values;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub use containers::ContainerSection;
pub use desk::{
    DeskConfig, DeskOptions, GROUP_DEFAULT, Group, METRICS_DEFAULT, OPENSNITCH_DEFAULT, Switch,
};
pub use evidence::{EvidenceConfig, EvidenceOptions};
use file::{read, read_or};
pub use lists::{FindingConfig, ListConfig, load_findings, load_lists, load_state_dir};
pub use options::{AutoBlock, DaemonOptions, Fail, LocalAs, Options, RefuseBy, RuleOptions};

use crate::alert::Sink;
use crate::dns::{self, SpawnConfig};
use crate::docker;
use crate::engine::limits::QUEUES_MAX;
use crate::engine::policy::{Policies, Section};
use crate::engine::wish::Refusal;
use crate::engine::{Mode, Settings};
use crate::events::LogFormat;
use crate::host::{self, InterfaceAddress};
use crate::lists::Feed;
use crate::nftables::{self, Bridge, DnsRedirect, LocalPolicy, Net, Posture, QueueVia, Refuse};

/// Read if it is there and no other file is named.
pub const DEFAULT_FILE: &str = "/etc/synhold/synhold.toml";
/// Where state is kept unless configured.
pub const DEFAULT_STATE_DIR: &str = "/var/lib/synhold";
const DNS_PORT: u16 = 53;
/// The pool Docker takes its first networks from; judged where no container network is named.
const DOCKER_POOL: &str = "172.16.0.0/12";

/// What the kernel's rules are to look like.
#[derive(Clone, Debug)]
pub struct RuleConfig {
    /// Networks whose containers are judged.
    pub containers: Vec<Net>,
    /// True if the user named them.
    pub containers_named: bool,
    /// Bridges of container networks, as far as they are known.
    pub bridges: Vec<Bridge>,
    /// True if containers may send from addresses that do not belong on their network.
    pub allow_spoofing: bool,
    /// First queue.
    pub queue_num: u16,
    /// How many.
    pub queues: u16,
    /// What happens while nobody answers.
    pub posture: Posture,
    /// How a refusal is put.
    pub refuse: Refuse,
    /// Nothing is refused, only counted.
    pub dry_run: bool,
    /// Where containers' port 53 goes.
    pub dns_redirect: DnsRedirect,
    /// True if DNS over TLS and over QUIC is refused.
    pub refuse_dot: bool,
    /// Whether private and container networks are judged.
    pub local_policy: LocalPolicy,
    /// This host's own addresses.
    pub host: Vec<InterfaceAddress>,
    /// Where the packets of our own come from that prove that judging works, if they are sent.
    pub canary: Vec<Net>,
}

/// Everything the daemon is told.
#[derive(Clone, Debug)]
pub struct Config {
    /// What the kernel's rules are to look like.
    pub rules: RuleConfig,
    /// What the engine is told.
    pub engine: Settings,
    /// What is known about evidence beyond what the engine is told.
    pub evidence: EvidenceConfig,
    /// The operator's desk.
    pub desk: DeskConfig,
    /// Where the registry is kept.
    pub state_dir: PathBuf,
    /// True if well-known servers of DNS over HTTPS are refused.
    pub refuse_doh: bool,
    /// Who is kept from a destination that nobody had resolved.
    pub auto_block: AutoBlock,
    /// For how long.
    pub auto_block_for: Duration,
    /// True if a later DNS answer undoes it.
    pub auto_block_forgive: bool,
    /// True if nothing but the event file may be written.
    pub memory_only: bool,
    /// True if rules this process put in stay at stop.
    pub keep_rules: bool,
    /// Where records come from.
    pub sources: Vec<dns::Spec>,
    /// How our own dnsmasq is run, if it is.
    pub dnsmasq: SpawnConfig,
    /// The event file.
    pub events: Option<PathBuf>,
    /// What standard output gets.
    pub log_format: LogFormat,
    /// Lists that somebody else keeps.
    pub feeds: Vec<Feed>,
    /// Where alerts go.
    pub alerts: Vec<Sink>,
    /// The container engine; none if it is not to be asked.
    pub docker: Option<docker::Address>,
    /// What holds for which container.
    pub policies: Policies,
    /// The file that was named.
    pub file: Option<PathBuf>,
    /// The file that was read, named or not, if there was one.
    pub read: Option<PathBuf>,
}

/// Reads `file`, or the default file if it is there, under what the command line gave.
///
/// # Errors
/// In one line: a file that cannot be read, an unknown key, a value that cannot be.
pub fn load(file: Option<&Path>, given: Options) -> Result<Config> {
    load_or(file, Path::new(DEFAULT_FILE), given)
}

fn load_or(file: Option<&Path>, default: &Path, given: Options) -> Result<Config> {
    let (from_file, read) = read_or(file, default)?;
    let daemon = given.daemon.or(from_file.daemon);
    let rules = resolve_rules(&given.rules.or(from_file.rules))?;
    let evidence = given.evidence.or(from_file.evidence).resolve()?;
    let desk = given.desk.or(from_file.desk).resolve()?;
    let mut config = resolve(daemon, rules, evidence, desk)?;
    config.feeds = from_file.feeds;
    config.alerts = from_file.alerts;
    config.policies.sections = config.sections(from_file.containers);
    config.file = file.map(Path::to_owned);
    config.read = read;
    Ok(config)
}

/// What of the file holds without a restart.
#[derive(Debug)]
pub struct Sections {
    /// What holds for which container.
    pub containers: Vec<Section>,
    /// Where alerts go.
    pub alerts: Vec<Sink>,
    /// The file that was read, if there was one.
    pub read: Option<PathBuf>,
}

/// Reads those sections anew, all of them or none: of the file that was `read` before, which is to be there still, or of one
/// that is there by now.
///
/// # Errors
/// As [`load`].
pub fn load_sections(config: &Config, read: Option<&Path>) -> Result<Sections> {
    let (options, read) = read_or(read, Path::new(DEFAULT_FILE))?;
    let Options { containers, alerts, .. } = options;
    Ok(Sections { containers: config.sections(containers), alerts, read })
}

/// Where alerts go, as `file` or the default file says, whatever else is in it.
///
/// # Errors
/// As [`load`].
pub fn load_alerts(file: Option<&Path>) -> Result<Vec<Sink>> {
    Ok(read(file)?.alerts)
}

/// The same for the options that decide what the rules look like.
///
/// # Errors
/// As [`load`].
pub fn load_rules(file: Option<&Path>, given: RuleOptions) -> Result<RuleConfig> {
    let from_file = read(file)?;
    resolve_rules(&given.or(from_file.rules))
}

fn resolve_rules(options: &RuleOptions) -> Result<RuleConfig> {
    let dry_run = options.dry_run;
    let host = host::addresses().context("cannot list this host's addresses")?;
    let queues = options.queues.unwrap_or(1);
    let queue_num = options.queue_num.unwrap_or(0);
    ensure!((1..=QUEUES_MAX).contains(&queues), "--queues must be between 1 and {QUEUES_MAX}");
    ensure!(
        queue_num.checked_add(queues - 1).is_some(),
        "--queue-num and --queues go beyond queue 65535"
    );
    let posture = match (dry_run, options.fail) {
        (true, _) | (false, Some(Fail::Open)) => Posture::Open,
        (false, Some(Fail::Closed) | None) => Posture::Closed,
    };
    let refuse = match options.refuse.unwrap_or(RefuseBy::Reset) {
        RefuseBy::Reset => Refuse::Reset,
        RefuseBy::Drop => Refuse::Drop,
    };
    let local_policy = match options.local_policy.unwrap_or(LocalAs::Allow) {
        LocalAs::Allow => LocalPolicy::Allow,
        LocalAs::Judge => LocalPolicy::Judge,
    };
    let redirect = options.dns_redirect.as_deref().unwrap_or("off");
    let dns_redirect =
        values::dns_redirect(redirect).with_context(|| format!("--dns-redirect {redirect}"))?;
    let containers_named = !options.container_net.is_empty();
    let containers = if containers_named { named(&options.container_net)? } else { found(&host)? };
    Ok(RuleConfig {
        containers,
        containers_named,
        bridges: Vec::new(),
        allow_spoofing: options.allow_spoofing,
        queue_num,
        queues,
        posture,
        refuse,
        dry_run,
        dns_redirect,
        refuse_dot: options.refuse_dot,
        local_policy,
        host,
        canary: Vec::new(),
    })
}

fn named(nets: &[String]) -> Result<Vec<Net>> {
    nets.iter().map(|net| net.parse().with_context(|| format!("--container-net {net}"))).collect()
}

/// The networks of the container bridges there are now, and Docker's first pool for those to come.
fn found(host: &[InterfaceAddress]) -> Result<Vec<Net>> {
    let mut nets = vec![DOCKER_POOL.parse()?];
    for on in host.iter().filter(|on| on.is_on_bridge()) {
        let link_local = matches!(on.address, IpAddr::V6(v6) if v6.is_unicast_link_local());
        let net = Net::around(on.address, on.prefix);
        if !link_local && !nets.iter().any(|known: &Net| known.contains(on.address)) {
            nets.push(net);
        }
    }
    Ok(nets)
}

fn resolve(
    options: DaemonOptions,
    rules: RuleConfig,
    evidence: EvidenceConfig,
    desk: DeskConfig,
) -> Result<Config> {
    let bounds = settings::bounds(&options)?;
    let specs =
        if options.dns_source.is_empty() { vec!["spawn".to_owned()] } else { options.dns_source };
    let sources: Vec<dns::Spec> = specs
        .iter()
        .map(|spec| spec.parse().with_context(|| format!("--dns-source {spec}")))
        .collect::<Result<_>>()?;
    let dnsmasq = dnsmasq(&options.dns_listen, options.dns_upstream, &rules)?;
    if sources.contains(&dns::Spec::Spawn) {
        dnsmasq.arguments()?;
    }
    let auto_block_for =
        values::auto_block_for(options.auto_block_for.as_deref()).context("--auto-block-for")?;
    let mode = if rules.dry_run { Mode::DryRun } else { Mode::Enforce };
    let scope = options.scope.unwrap_or_default();
    let engine = Settings { mode, scope, bounds, evidence: evidence.rules };
    let refuse = match rules.refuse {
        Refuse::Reset => Refusal::Reset,
        Refuse::Drop => Refusal::Drop,
    };
    let policies =
        Policies { trust_labels: options.trust_labels, ..Policies::new(&engine, refuse) };
    let docker = if options.no_docker { None } else { Some(engine_address()?) };
    if let (None, Some(name)) = (&docker, sources.iter().find_map(dns::Spec::container)) {
        bail!("--dns-source docker:{name} asks the container engine, and --no-docker forbids it");
    }
    Ok(Config {
        rules,
        engine,
        evidence,
        desk,
        state_dir: options.state_dir.unwrap_or_else(|| DEFAULT_STATE_DIR.into()),
        refuse_doh: options.refuse_doh,
        auto_block: options.auto_block.unwrap_or_default(),
        auto_block_for,
        auto_block_forgive: options.auto_block_forgive,
        memory_only: options.memory_only,
        keep_rules: options.keep_rules,
        sources,
        dnsmasq,
        events: options.events,
        log_format: options.log_format.unwrap_or_default(),
        feeds: Vec::new(),
        alerts: Vec::new(),
        docker,
        policies,
        file: None,
        read: None,
    })
}

/// Where the engine listens: as every Docker client finds it.
fn engine_address() -> Result<docker::Address> {
    match std::env::var("DOCKER_HOST") {
        Ok(text) if !text.is_empty() => text.parse().context("DOCKER_HOST"),
        _ => Ok(docker::Address::default()),
    }
}

/// Our own dnsmasq listens where it is told, or on this host's address in each container network.
fn dnsmasq(listen: &[String], upstreams: Vec<String>, rules: &RuleConfig) -> Result<SpawnConfig> {
    if !listen.is_empty() {
        let listen = listen.iter().map(|text| listen_at(text)).collect::<Result<_>>()?;
        return Ok(SpawnConfig { listen, interfaces: Vec::new(), upstreams });
    }
    // An uplink may have an address in a network that was guessed, not named; nobody wants a resolver there.
    let gateways = rules
        .host
        .iter()
        .filter(|on| rules.containers.iter().any(|net| net.contains(on.address)))
        .filter(|on| rules.containers_named || on.is_on_bridge());
    let interfaces = if rules.containers_named { Vec::new() } else { bridges(&rules.host) };
    let listen = gateways.map(|on| (on.address, DNS_PORT)).collect();
    Ok(SpawnConfig { listen, interfaces, upstreams })
}

/// `ADDR` or `ADDR:PORT`, IPv6 with a port in brackets.
fn listen_at(text: &str) -> Result<(IpAddr, u16)> {
    let bare = text.parse::<IpAddr>().map(|address| (address, DNS_PORT));
    bare.or_else(|_| text.parse::<SocketAddr>().map(|at| (at.ip(), at.port())))
        .with_context(|| format!("--dns-listen {text}: write ADDRESS or ADDRESS:PORT"))
}

/// Interfaces our dnsmasq also takes up when they appear, but for a pattern that fits an interface of somebody else's.
fn bridges(host: &[InterfaceAddress]) -> Vec<String> {
    let foreign = |pattern: &str| host.iter().any(|on| on.fits(pattern) && !on.is_on_bridge());
    host::BRIDGE_PATTERNS.iter().filter(|p| !foreign(p)).map(|&p| p.to_owned()).collect()
}

impl Config {
    /// Containers whose log is evidence: they resolve for the others, and are to reach their own servers.
    pub fn resolver_containers(&self) -> Vec<&str> {
        self.sources.iter().filter_map(dns::Spec::container).collect()
    }

    /// The operator's sections behind what holds for those.
    fn sections(&self, written: Vec<Section>) -> Vec<Section> {
        let resolvers = self.resolver_containers().into_iter().map(containers::resolver);
        resolvers.chain(written).collect()
    }
}

impl RuleConfig {
    /// The rules as the nftables adapter takes them.
    pub fn ruleset(&self, queue_via: QueueVia) -> nftables::Ruleset {
        nftables::Ruleset::new(&self.options(queue_via))
    }

    /// What they follow from: rules of the user's own.
    pub fn options(&self, queue_via: QueueVia) -> nftables::Options {
        nftables::Options {
            queue_num: self.queue_num,
            queues: self.queues,
            posture: self.posture,
            refuse: self.refuse,
            queue_via,
            containers: self.containers.clone(),
            canary: self.canary.clone(),
            bridges: self.bridges.clone(),
            anti_spoof: !self.allow_spoofing,
            host_addresses: self.host.iter().map(|on| on.address).collect(),
            hosts_size: nftables::HOSTS_SIZE_DEFAULT,
            dns_redirect: self.dns_redirect,
            refuse_dot: self.refuse_dot,
            local_policy: self.local_policy,
            dry_run: self.dry_run,
            owned: false,
        }
    }
}

#[cfg(test)]
#[path = "config_test.rs"]
mod tests;
