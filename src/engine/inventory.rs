//! The books on containers: which one owns which address, since when, and what holds for it.
//!
//! An address belongs to whoever claimed it last, until that container gives it up: what another container gives up
//! later, because its news came later, changes nothing.

mod claims;
mod place;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;

use super::container::{Change, Container, Dated, Endpoint, Network, NetworkMode, is_covered};
use super::limits::CONTAINERS_MAX;
use super::owner::{Owner, Owners};
use super::policy::{Policies, Section};
use super::time::Wall;
use claims::Claims;

pub use claims::{Tenant, Tenants};
pub use place::Place;

/// Digits of an id that stand for a container whose name is not known yet, as engines show them.
const SHORT_ID: usize = 12;
/// Digits of an id that a person has to give at least.
const ID_DIGITS_MIN: usize = 4;
/// Beginning of an image that has no name.
const DIGEST: &str = "sha256:";

/// The books.
#[derive(Debug)]
pub struct Inventory {
    policies: Policies,
    containers: HashMap<Arc<str>, Entry>,
    networks: BTreeMap<Arc<str>, Network>,
    claims: Claims,
    left_out: u64,
    heard: bool,
}

#[derive(Debug)]
struct Entry {
    container: Container,
    owner: Arc<Owner>,
    /// It was told of.
    told: bool,
}

/// What a change led to.
#[derive(Debug, Default)]
pub struct Effects {
    /// The owners of addresses changed, or what holds for one of them.
    pub owners: bool,
    /// The networks changed.
    pub networks: bool,
    /// Addresses given up.
    pub left: Vec<IpAddr>,
    /// Addresses whose owner is another than the last one.
    pub new_tenants: Vec<IpAddr>,
    /// What is worth telling.
    pub news: Vec<News>,
}

/// What happened to a container, to be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct News {
    /// What.
    pub what: What,
    /// When, by the engine's clock.
    pub at: Wall,
    /// The container.
    pub owner: Arc<Owner>,
    /// Where it is now.
    pub place: Place,
}

/// What can happen to a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// It runs, with addresses or without.
    Up,
    /// Its name, addresses or policy are others now.
    Changed,
    /// It runs no more.
    Gone,
}

impl Inventory {
    /// Empty books.
    pub fn new(policies: Policies) -> Inventory {
        let (containers, networks, claims, left_out, heard) = Default::default();
        Inventory { policies, containers, networks, claims, left_out, heard }
    }

    /// Takes in what became known.
    pub fn apply(&mut self, dated: Dated) -> Effects {
        let mut effects = Effects::default();
        let at = dated.at;
        match dated.change {
            Change::All { containers, networks } => {
                self.all(containers, networks, at, &mut effects)
            }
            Change::Container(container) => self.update(container, at, &mut effects),
            Change::Renamed { id, name } => {
                if let Some(entry) = self.containers.get(&id) {
                    // Places come in addition; it has claimed those it has.
                    let endpoints = Vec::new();
                    let container = Container { name, endpoints, ..entry.container.clone() };
                    self.update(container, at, &mut effects);
                }
            }
            Change::Attached { id, endpoint } => self.attach(&id, endpoint, at, &mut effects),
            Change::Detached { id, network } => {
                let gone = |endpoint: &Endpoint| endpoint.network == network;
                if self.detach(&id, gone, at, &mut effects) {
                    self.tell(&id, What::Changed, at, &mut effects);
                }
            }
            Change::Died { id } => self.die(&id, at, &mut effects),
            Change::Removed { id } => {
                self.die(&id, at, &mut effects);
                self.containers.remove(&id);
            }
            Change::Network(network) => {
                effects.networks |= self.networks.get(&network.id) != Some(&network);
                self.networks.insert(Arc::clone(&network.id), network);
            }
            Change::NetworkRemoved { id } => {
                effects.networks |= self.networks.remove(&id).is_some();
            }
        }
        self.place_news(&mut effects);
        effects.owners |= !effects.left.is_empty() || !effects.new_tenants.is_empty();
        effects
    }

    /// Treats containers by these sections from now on.
    pub fn set_sections(&mut self, sections: Vec<Section>, at: Wall) -> Effects {
        self.policies.sections = sections;
        let mut effects = Effects::default();
        let ids: Vec<Arc<str>> = self.containers.keys().cloned().collect();
        for id in ids {
            let Some(entry) = self.containers.get(&id) else { continue };
            let described = Container { endpoints: Vec::new(), ..entry.container.clone() };
            self.update(described, at, &mut effects);
        }
        self.place_news(&mut effects);
        effects
    }

    fn place_news(&self, effects: &mut Effects) {
        for news in &mut effects.news {
            if let Some(entry) = self.containers.get(&news.owner.id) {
                news.place = self.place(&entry.container);
            }
        }
    }

    fn all(
        &mut self,
        containers: Vec<Container>,
        networks: Vec<Network>,
        at: Wall,
        effects: &mut Effects,
    ) {
        self.heard = true;
        let networks = networks.into_iter().map(|net| (Arc::clone(&net.id), net)).collect();
        effects.networks |= self.networks != networks;
        self.networks = networks;
        let there: HashSet<Arc<str>> = containers.iter().map(|c| Arc::clone(&c.id)).collect();
        let known: Vec<Arc<str>> = self.containers.keys().cloned().collect();
        for id in known {
            if !there.contains(&id) {
                self.die(&id, at, effects);
                self.containers.remove(&id);
            }
        }
        // First what is given up, then what is claimed: an address may have changed hands.
        for container in &containers {
            if !container.running {
                self.die(&container.id, at, effects);
            } else {
                let kept = |gone: &Endpoint| {
                    container.endpoints.iter().any(|kept| kept.network == gone.network)
                };
                self.detach(&container.id, |endpoint| !kept(endpoint), at, effects);
            }
        }
        for container in containers {
            self.update(container, at, effects);
        }
    }

    /// Names, labels and policy are as described; places in networks come in addition, since a description may be a
    /// little older than the last news.
    fn update(&mut self, mut container: Container, at: Wall, effects: &mut Effects) {
        let id = Arc::clone(&container.id);
        let endpoints = std::mem::take(&mut container.endpoints);
        let mut changed = false;
        let room = self.containers.len() < CONTAINERS_MAX;
        match self.containers.get_mut(&id) {
            Some(entry) => {
                // A container keeps its image. Once its tag has moved on, an engine knows it by its digest alone.
                if container.image.starts_with(DIGEST) && !entry.container.image.is_empty() {
                    container.image = Arc::clone(&entry.container.image);
                }
                container.endpoints = std::mem::take(&mut entry.container.endpoints);
                let owner = self.policies.owner(&container, &entry.owner.tally);
                if owner != *entry.owner {
                    entry.owner = Arc::new(owner);
                    changed = true;
                }
                entry.container = container;
            }
            None if !room => {
                self.left_out += 1;
                return;
            }
            None => {
                let owner = Arc::new(self.policies.owner(&container, &Arc::default()));
                self.containers.insert(Arc::clone(&id), Entry { container, owner, told: false });
            }
        }
        for endpoint in endpoints {
            self.attach(&id, endpoint, at, effects);
        }
        if let Some(Entry { container, owner, .. }) = self.containers.get(&id) {
            let addresses = container.endpoints.iter().flat_map(|place| &place.addresses);
            addresses.for_each(|address| self.claims.renew(*address, owner));
        }
        effects.owners |= changed;
        // A container with no network of its own has no other news.
        let unheard = self.containers.get(&id).is_some_and(|entry| !entry.told);
        if changed || unheard {
            self.tell(&id, What::Changed, at, effects);
        }
    }

    fn attach(&mut self, id: &Arc<str>, endpoint: Endpoint, at: Wall, effects: &mut Effects) {
        if !self.containers.contains_key(id) {
            // Its own news is still to come.
            self.update(stranger(id), at, effects);
        }
        let network = self.networks.get(&endpoint.network);
        let covered = network.is_none_or(|network| is_covered(&network.driver));
        let Some(Entry { container, owner, .. }) = self.containers.get_mut(id) else { return };
        let places = &mut container.endpoints;
        let before = places.iter().position(|place| place.network == endpoint.network);
        let before = before.map(|place| places.remove(place));
        let gone = before.iter().flat_map(|place| &place.addresses);
        for address in gone.filter(|address| !endpoint.addresses.contains(address)) {
            if self.claims.release(*address, id, at) {
                effects.left.push(*address);
            }
        }
        for address in endpoint.addresses.iter().filter(|_| covered) {
            if let Some(claimed) = self.claims.claim(*address, owner, at) {
                effects.owners = true;
                effects.left.extend(claimed.displaced.then_some(*address));
                effects.new_tenants.extend(claimed.new_tenant.then_some(*address));
            }
        }
        let changed = before.as_ref() != Some(&endpoint);
        places.push(endpoint);
        if changed {
            self.tell(id, What::Changed, at, effects);
        }
    }

    /// True if it was where it is gone from.
    fn detach(
        &mut self,
        id: &Arc<str>,
        goes: impl Fn(&Endpoint) -> bool,
        at: Wall,
        effects: &mut Effects,
    ) -> bool {
        let Some(entry) = self.containers.get_mut(id) else { return false };
        let gone = entry.container.endpoints.extract_if(.., |endpoint| goes(endpoint));
        let gone: Vec<Endpoint> = gone.collect();
        let was_there = !gone.is_empty();
        for address in gone.into_iter().flat_map(|endpoint| endpoint.addresses) {
            if self.claims.release(address, id, at) {
                effects.left.push(address);
            }
        }
        was_there
    }

    fn die(&mut self, id: &Arc<str>, at: Wall, effects: &mut Effects) {
        self.detach(id, |_| true, at, effects);
        if let Some(entry) = self.containers.get_mut(id)
            && std::mem::take(&mut entry.told)
        {
            let owner = Arc::clone(&entry.owner);
            effects.news.retain(|news| news.owner.id != *id);
            effects.news.push(News { what: What::Gone, at, owner, place: Place::default() });
        }
        if let Some(entry) = self.containers.get_mut(id) {
            entry.container.running = false;
        }
    }

    fn tell(&mut self, id: &Arc<str>, what: What, at: Wall, effects: &mut Effects) {
        let Some(entry) = self.containers.get_mut(id) else { return };
        if !entry.container.running {
            return;
        }
        let known = std::mem::replace(&mut entry.told, true);
        let owner = Arc::clone(&entry.owner);
        let earlier = |news: &News| news.owner.id == *id && news.what != What::Gone;
        let first = effects.news.iter().any(|news| earlier(news) && news.what == What::Up);
        effects.news.retain(|news| !earlier(news));
        let what = if known && !first { what } else { What::Up };
        effects.news.push(News { what, at, owner, place: Place::default() });
    }

    /// Whose a packet from `address` was at a moment.
    pub fn owner_at(&self, address: IpAddr, at: Wall) -> Option<Arc<Owner>> {
        self.claims.owner_at(address, at)
    }

    /// Whether what came from `address` at a moment is not to be put down to whoever has it now.
    pub fn was_anothers(&self, address: IpAddr, at: Wall) -> bool {
        self.claims.was_anothers(address, at)
    }

    /// The container that had `address` between two moments, if it was one alone.
    pub fn owner_between(&self, address: IpAddr, from: Wall, to: Wall) -> Option<Arc<Owner>> {
        self.claims.owner_between(address, from, to)
    }

    /// Who owns which address now.
    pub fn owners(&self) -> Owners {
        let nets = self.bridges().flat_map(|net| net.subnets.iter().copied()).collect();
        Owners::new(self.claims.by_address(), nets)
    }

    /// Networks whose traffic passes this host's forward hook.
    pub fn bridges(&self) -> impl Iterator<Item = &Network> {
        self.networks.values().filter(|network| is_covered(&network.driver))
    }

    /// Containers that run, each with its place.
    pub fn running(&self) -> impl Iterator<Item = (Arc<Owner>, Place)> {
        let running = self.containers.values().filter(|entry| entry.container.running);
        running.map(|entry| (Arc::clone(&entry.owner), self.place(&entry.container)))
    }

    /// The container with this name or id, or the only one whose id begins so.
    pub fn find(&self, text: &str) -> Option<(Arc<Owner>, Place)> {
        let entries = || self.containers.values();
        let exact = |entry: &&Entry| *entry.container.name == *text || *entry.container.id == *text;
        let entry = entries().find(exact).or_else(|| {
            let mut fit = entries().filter(|entry| {
                text.len() >= ID_DIGITS_MIN && entry.container.id.starts_with(text)
            });
            fit.next().filter(|_| fit.next().is_none())
        })?;
        Some((Arc::clone(&entry.owner), self.place(&entry.container)))
    }

    /// Whether the engine ever told all there is.
    pub fn is_heard(&self) -> bool {
        self.heard
    }

    /// Who was last on which address.
    pub fn tenants(&self) -> &Tenants {
        self.claims.tenants()
    }

    /// Takes in who was last on which address, as an earlier run knew it.
    pub fn remember(&mut self, tenants: &Tenants) {
        self.claims.remember(tenants);
    }

    /// Containers that were not taken in because there were too many.
    pub fn left_out(&self) -> u64 {
        self.left_out
    }
}

fn stranger(id: &Arc<str>) -> Container {
    Container {
        id: Arc::clone(id),
        name: id.get(..SHORT_ID).unwrap_or(id).into(),
        image: Arc::default(),
        labels: BTreeMap::new(),
        network: NetworkMode::Own,
        running: false,
        endpoints: Vec::new(),
    }
}

#[cfg(test)]
#[path = "inventory_test.rs"]
mod tests;
