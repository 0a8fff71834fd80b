//! From what happened to what changed: which questions a handful of events raises, and what follows from the answers.
//!
//! Events are taken as many at a time as have come while the last questions were out. However fast they come, there
//! is one list of containers and one look at each network per handful, and what changed is told in the order in which
//! it happened.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use crate::engine::container::{Change, Container, Dated, Endpoint, Network};

use super::event::{Event, What};
use super::gateway::Gateway;

/// What has to be asked before a handful of events can be told on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Questions {
    /// Containers to list.
    pub(super) containers: BTreeSet<Arc<str>>,
    /// Networks to look at.
    pub(super) networks: BTreeSet<Arc<str>>,
    /// Containers may have another way out than before, or a network another than its own bridge.
    pub(super) ways_out: bool,
}

/// What the engine answered.
#[derive(Clone, Debug, Default)]
pub(super) struct Answers {
    /// Containers by id. Those that are gone are not there.
    pub(super) containers: HashMap<String, Container>,
    /// Networks by the id they were asked for. Those that are gone are not there.
    pub(super) networks: HashMap<String, (Network, HashMap<String, Vec<IpAddr>>)>,
    /// Networks that nothing told of, but that a container is in.
    pub(super) discovered: Vec<Network>,
    /// The way out of overlay networks as it is now, if it was looked at and is there.
    pub(super) gateway: Option<Gateway>,
}

/// What `events` make necessary to ask.
pub(super) fn questions(events: &[Event]) -> Questions {
    let mut out = Questions::default();
    for event in events {
        out.ways_out |= matches!(
            event.what,
            What::Stirred(_)
                | What::Attached { .. }
                | What::Detached { .. }
                | What::NetworkCreated(_)
        );
        match &event.what {
            What::Created(id) | What::Stirred(id) => out.containers.insert(id.clone()),
            What::Attached { network, .. } | What::NetworkCreated(network) => {
                out.networks.insert(network.clone())
            }
            _ => false,
        };
    }
    out
}

/// What changed. Of what is gone by now, the events that say so follow; nothing is told of it before them.
pub(super) fn changes(events: Vec<Event>, answers: &Answers) -> Vec<Dated> {
    let first = events.first().map(|event| event.at).unwrap_or_default();
    let discovered = answers.discovered.iter().cloned();
    let discovered =
        discovered.map(|network| Dated { at: first, change: Change::Network(network) });
    let told = events.into_iter().flat_map(|event| {
        let way_out = way_out(&event.what, answers);
        let changes = change(event.what, answers).into_iter().chain(way_out);
        changes.map(move |change| Dated { at: event.at, change })
    });
    discovered.chain(told).collect()
}

/// Where a container that came into a network or left one leaves the host now: that is in no event.
fn way_out(what: &What, answers: &Answers) -> Option<Change> {
    let (What::Attached { id, .. } | What::Detached { id, .. }) = what else { return None };
    let gateway = answers.gateway.as_ref()?;
    Some(match gateway.endpoint(id) {
        Some(endpoint) => Change::Attached { id: id.clone(), endpoint },
        None => Change::Detached { id: id.clone(), network: gateway.network.clone() },
    })
}

fn change(what: What, answers: &Answers) -> Option<Change> {
    let container = |id: &str| answers.containers.get(id).cloned();
    Some(match what {
        // The answer is younger than the event: addresses in it are told by a later one.
        What::Created(id) => Change::Container(Container {
            running: false,
            endpoints: Vec::new(),
            ..container(&id)?
        }),
        What::Stirred(id) => Change::Container(container(&id)?),
        What::Renamed { id, name } => Change::Renamed { id, name },
        What::Died(id) => Change::Died { id },
        What::Removed(id) => Change::Removed { id },
        What::Attached { id, network } => {
            let (_, attached) = answers.networks.get(&*network)?;
            let addresses = attached.get(&*id)?.clone();
            Change::Attached { id, endpoint: Endpoint { network, addresses } }
        }
        What::Detached { id, network } => Change::Detached { id, network },
        What::NetworkCreated(id) => Change::Network(answers.networks.get(&*id)?.0.clone()),
        What::NetworkRemoved(id) => Change::NetworkRemoved { id },
    })
}
