//! What the daemon answers, from what its threads share. Nothing here keeps a verdict waiting.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::RawFd;
use std::os::unix::fs::MetadataExt as _;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;

use super::ask::absolute;
use super::changes::{Asked, Changes, lists_of};
use super::deeds::{By, Import};
use super::runs::{Runs, value as value_of};
use crate::config::{Config, ListConfig};
use crate::control::{
    Answerer, Bell, Client, Container, Containers, Daemon, DockerState, Explained, Fault,
    FaultKind, LearningState, Named, Peer, Policy, Question, Refusal, Said, Status,
};
use crate::daemon::edit::Action;
use crate::daemon::learn::Learning;
use crate::daemon::roster::books;
use crate::daemon::shared::Shared;
use crate::daemon::{clock, glance};
use crate::engine::flow::Proto;
use crate::engine::inventory::Place;
use crate::engine::lists::Lists;
use crate::engine::net::{Family, show_span};
use crate::engine::owner::Owner;
use crate::engine::policy::Policy as Treated;
use crate::engine::wish::Refusal as RefusedBy;
use crate::engine::{Flow, Wall};
use crate::nftables::{Posture, Refuse};

const SECOND: u64 = 1_000_000;

/// Who answers.
pub struct Answers {
    pub(super) shared: Arc<Shared>,
    pub(super) daemon: Daemon,
    pub(super) bell: Bell,
    pub(super) runs: Runs,
    pub(super) lists: Arc<ListConfig>,
    /// What clients that are still there have imported so far, by their connections.
    pub(super) imports: BTreeMap<RawFd, Import>,
    changes: Changes,
    posture: &'static str,
    refuse: RefusedBy,
}

/// Whose packet is asked about.
struct Source {
    address: Option<IpAddr>,
    owner: Option<(Arc<Owner>, Place)>,
}

impl Answers {
    /// For this daemon.
    ///
    /// # Errors
    /// If the system does not tell our network namespace, or gives no thread.
    pub fn new(config: &Config, shared: &Arc<Shared>, bell: &Bell) -> Result<Answers> {
        let netns = std::fs::metadata("/proc/thread-self/ns/net")
            .context("cannot tell the network namespace")?;
        let daemon = Daemon {
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state_dir: absolute(&config.state_dir),
            config: config.file.as_deref().map(absolute),
            events: config.events.as_deref().map(absolute),
            memory_only: config.memory_only,
            netns: netns.ino(),
            since: clock::wall(),
        };
        let posture = match config.rules.posture {
            Posture::Open => "open",
            Posture::Closed => "closed",
        };
        let refuse = match config.rules.refuse {
            Refuse::Reset => RefusedBy::Reset,
            Refuse::Drop => RefusedBy::Drop,
        };
        let lists = Arc::new(lists_of(config));
        let (changes, runs) = (Changes::start(&lists, shared, bell)?, Runs::start(bell)?);
        let (shared, bell, imports) = (Arc::clone(shared), bell.clone(), BTreeMap::new());
        Ok(Answers { shared, daemon, bell, runs, lists, imports, changes, posture, refuse })
    }

    fn change(&self, peer: &Peer, action: Action, asked: Asked) -> Result<Said, Fault> {
        self.changes.ask(By::of(peer), action, asked, &self.shared)
    }
}

impl Answerer for Answers {
    fn answer(&mut self, peer: &Peer, question: Question) -> Result<Said, Fault> {
        match question {
            Question::Daemon {} => value(&self.daemon),
            Question::Status {} => value(&self.status()),
            Question::Explain { address, container } => {
                value(&self.explain(address, container.as_deref())?)
            }
            Question::Containers { container } => value(&self.containers(container.as_deref())?),
            Question::RegistryStats {} => value(&self.registry_stats()),
            Question::RegistryLookup { what, container } => {
                self.registry_lookup(peer, &what, container.as_deref())
            }
            Question::Sets {} => self.sets(peer),
            Question::SetsShow { name, limit, within } => {
                self.sets_show(peer, &name, limit, within.as_deref())
            }
            Question::SetsTest { address, from } => self.sets_test(peer, address, from),
            Question::ListsLookup { name } => self.lists_lookup(peer, name),
            Question::RegistryFlush {} => self.registry_flush(peer),
            Question::RegistryForget { what } => self.registry_forget(peer, &what),
            Question::RegistryImport { registry } => value(&self.registry_import(peer, &registry)?),
            Question::Events(asked) => self.events(&asked),
            Question::Block { entries, container, time, note, force } => {
                let asked = Asked { entries, container, time, note, force };
                self.change(peer, Action::Block, asked)
            }
            Question::Unblock { entries, container } => {
                let asked = Asked { entries, container, ..Asked::default() };
                self.change(peer, Action::Unblock, asked)
            }
            Question::Allow { entries, time, note } => {
                let asked = Asked { entries, time, note, ..Asked::default() };
                self.change(peer, Action::Allow, asked)
            }
            Question::Unallow { entries } => {
                self.change(peer, Action::Unallow, Asked { entries, ..Asked::default() })
            }
        }
    }

    fn left(&mut self, peer: &Peer) {
        if let Some(import) = self.imports.remove(&peer.connection) {
            let none = std::iter::empty();
            import.by.tell(&self.shared, "registry-import", none, import.outcome());
        }
    }
}

impl Answers {
    fn status(&self) -> Status {
        let shared = &self.shared;
        let lists = shared.engine.lists();
        // The books are closed again before anything is written.
        let (running, left_out) = {
            let books = books(shared);
            (books.running().collect::<Vec<_>>(), books.left_out())
        };
        let mut containers: Vec<Container> =
            running.into_iter().map(|(owner, place)| container(&owner, place, &lists)).collect();
        containers.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        let (now, totals) = (clock::now(), shared.totals());
        let view = shared.desk.view(totals, now.mono);
        // After what was told of them, or the two could disagree.
        let rules = shared.rules.state().map(|rules| rules.as_str().to_owned());
        let mut status = Status {
            daemon: self.daemon.clone(),
            enforcing: false,
            faults: Vec::new(),
            mode: shared.present_mode(),
            learning: shared.learning.get().and_then(learning),
            posture: self.posture.to_owned(),
            rules,
            drift: view.rules,
            canary: shared.canary().clone(),
            queues: glance::queues(shared),
            rates: view.rates,
            latency: glance::timing(&shared.measures.latency),
            hold: glance::timing(&shared.measures.hold),
            evidence: shared.engine.evidence(now),
            hold_us: shared.engine.hold_now(now.mono),
            sources: shared.engine.source_states(now),
            disk: disk(shared),
            stalled: shared.events.stalled().into_iter().map(str::to_owned).collect(),
            held_now: u64::try_from(shared.held()).unwrap_or(u64::MAX),
            totals,
            docker: shared.docker.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            containers,
            left_out,
            refusals: view.refused,
            refusals_missed: view.missed,
            lists: view.lists,
            registry: glance::registry(shared),
            alerts: shared.pulse.sinks().clone(),
        };
        status.faults = glance::faults(&status, now.wall);
        status.enforcing = glance::Ground::of(&status).is_enforcing();
        status
    }

    fn explain(&self, address: IpAddr, container: Option<&str>) -> Result<Explained, Fault> {
        let shared = &self.shared;
        let source = self.source(address, container)?;
        let nobody = match Family::of(address) {
            Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let from = source.address.unwrap_or(nobody);
        let now = clock::now();
        let flow = Flow::new(Proto::Tcp, (from, 0), (address, 0));
        let (decision, steps) = shared.engine.explain(flow, now);
        let clients = source.address.map(|address| self.clients_of(address)).unwrap_or_default();
        let lists = shared.engine.lists();
        let base = || policy(&Treated::new(shared.engine.settings(), self.refuse));
        let name = source.owner.as_ref().map(|(owner, _)| Arc::clone(&owner.name));
        let treated = source.owner.as_ref().map(|(owner, _)| policy(&owner.policy));
        Ok(Explained {
            daemon: self.daemon.clone(),
            address,
            source: source.address,
            container: source.owner.map(|(owner, place)| self::container(&owner, place, &lists)),
            policy: treated.unwrap_or_else(base),
            quarantined: lists.confines(from, name.as_deref()),
            verdict: decision.verdict,
            reason: decision.reason,
            held_ms: millis(decision.held),
            mode: decision.mode,
            domain: decision.domain,
            denied: source.address.is_some_and(|from| shared.denied.has((from, address))),
            grade: decision.grade,
            names: self.names(address),
            evidence: decision.proof.map_or_else(|| shared.engine.evidence(now), |proof| *proof),
            steps,
            marks: decision.known.marks,
            sources: shared.engine.source_states(now),
            clients,
            rejected: shared.desk.rejected(address),
        })
    }

    /// Everybody whose look-ups are those of who has an address.
    fn clients_of(&self, address: IpAddr) -> Vec<Client> {
        let registry = self.shared.engine.registry();
        let owners = self.shared.engine.owners();
        let client =
            |address: &IpAddr| Client { address: *address, asks: registry.has_asked(*address) };
        owners.clients(&address).iter().map(client).collect()
    }

    fn source(&self, to: IpAddr, container: Option<&str>) -> Result<Source, Fault> {
        let Some(text) = container else { return Ok(Source { address: None, owner: None }) };
        let missing = |why: String| Err(Fault::new(FaultKind::NotFound, why));
        if let Ok(address) = text.parse::<IpAddr>() {
            if Family::of(address) != Family::of(to) {
                return missing(format!("{address} and {to} are not of one family"));
            }
            let owner = self.shared.engine.owner(address);
            let owner = owner.and_then(|owner| books(&self.shared).find(&owner.id));
            return Ok(Source { address: Some(address), owner });
        }
        let Some((owner, place)) = books(&self.shared).find(text) else {
            return missing(unknown(text, &self.shared));
        };
        let fits = |address: &&IpAddr| Family::of(**address) == Family::of(to);
        match place.addresses.iter().find(fits).copied() {
            Some(address) => Ok(Source { address: Some(address), owner: Some((owner, place)) }),
            None => missing(match (place.gaps.first(), place.addresses.is_empty()) {
                (Some(gap), true) => format!("{} is not judged: {gap}", owner.name),
                (None, true) => format!("{} has no address now: it does not run", owner.name),
                (_, false) => format!("{} has no address of the family of {to}", owner.name),
            }),
        }
    }

    fn names(&self, address: IpAddr) -> Vec<Named> {
        let engine = &self.shared.engine;
        let name_of = |asker: IpAddr| engine.owner(asker).map(|owner| owner.name.to_string());
        let named = |seen: crate::engine::registry::Seen| Named {
            name: seen.name,
            kind: Some(seen.kind),
            chain: seen.chain.as_deref().map(|chain| chain.to_vec()).unwrap_or_default(),
            asker: seen.asker,
            container: seen.asker.and_then(name_of),
            last: Wall(u64::from(seen.last) * SECOND),
        };
        engine.registry().names(address).into_iter().map(named).collect()
    }

    fn containers(&self, asked: Option<&str>) -> Result<Containers, Fault> {
        let books = books(&self.shared);
        let found: Vec<(Arc<Owner>, Place)> = match asked {
            None => books.running().collect(),
            Some(text) => {
                let by_address = text.parse().ok().and_then(|ip| self.shared.engine.owner(ip));
                let found = books.find(by_address.as_ref().map_or(text, |owner| &owner.id));
                found.into_iter().collect()
            }
        };
        if let (Some(text), true) = (asked, found.is_empty()) {
            return Err(Fault::new(FaultKind::NotFound, unknown(text, &self.shared)));
        }
        let mut containers: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
        let mut gaps = Vec::new();
        for (owner, place) in found {
            containers.entry(owner.name.to_string()).or_default().extend(place.addresses);
            if asked.is_some() {
                gaps = place.gaps;
            }
        }
        Ok(Containers { containers, gaps })
    }
}

/// What is wrong with the registry's disk.
fn disk(shared: &Shared) -> Option<String> {
    let disk = shared.disk();
    (!disk.ok).then(|| disk.message.clone())
}

fn learning(learning: &Learning) -> Option<LearningState> {
    learning.state(clock::now()).map(|(until, refused)| LearningState { until, refused })
}

pub(super) fn unknown(text: &str, shared: &Shared) -> String {
    let text: String = text.chars().take(80).collect();
    let docker = shared.docker.lock().unwrap_or_else(PoisonError::into_inner);
    let why = match docker.state {
        DockerState::Up => "`synhold status` lists those that run".to_owned(),
        DockerState::Off => "this daemon does not ask Docker, so give an address".to_owned(),
        DockerState::Unheard => "Docker has not answered yet, so give an address".to_owned(),
        DockerState::Down => {
            format!("Docker is DOWN ({}), so new ones are not known: give an address", docker.what)
        }
    };
    format!("no container is known as {text:?}: {why}")
}

pub(super) fn value(answer: &impl Serialize) -> Result<Said, Fault> {
    value_of(answer).map(Said::Value)
}

fn container(owner: &Owner, place: Place, lists: &Lists) -> Container {
    let counts = owner.tally.counts();
    Container {
        name: owner.name.to_string(),
        id: owner.id.to_string(),
        image: owner.image.to_string(),
        policy: policy(&owner.policy),
        quarantined: lists.confined.has(&owner.name)
            || place.addresses.iter().any(|ip| lists.confines(*ip, Some(&owner.name))),
        judged: !place.addresses.is_empty(),
        addresses: place.addresses,
        networks: place.networks,
        gaps: place.gaps,
        accepted: counts.accepted,
        held: counts.held,
        refused: counts.refused,
        last_refusal: counts.last_refusal.map(|refused| Refusal {
            at: refused.at,
            dst: refused.dst,
            port: refused.port.map(|(_, port)| port),
            proto: refused.port.map(|(proto, _)| proto),
            reason: refused.reason,
        }),
    }
}

fn policy(policy: &Treated) -> Policy {
    let nets = |side: &crate::engine::lists::Side| {
        let spans = side.lasting.all().map(|(family, span)| show_span(span, family));
        let mut names: Vec<String> = side.names.iter().map(ToString::to_string).collect();
        names.sort_unstable();
        spans.chain(names).collect::<Vec<String>>()
    };
    Policy {
        mode: policy.mode,
        scope: policy.scope,
        hold_ms: millis(policy.hold),
        refuse: policy.refuse,
        allow: policy.allow.as_deref().map(nets).unwrap_or_default(),
        origins: policy
            .origins
            .iter()
            .map(|(key, from)| ((*key).to_owned(), from.clone()))
            .collect(),
        faults: policy.faults.clone(),
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
#[path = "answers_test.rs"]
mod tests;
