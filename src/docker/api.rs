//! The questions we ask an engine, each bounded in time and number.

use std::sync::Arc;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use futures_util::stream::{self, BoxStream, StreamExt};
use serde_json::Value;

use crate::engine::container::{Container, Network, is_covered};
use crate::engine::time::Wall;

use super::answer::{self, Identity, Listed, Names};
use super::batch::{Answers, Questions};
use super::event::ACTIONS;
use super::gateway::{GATEWAY, Gateway};
use super::raw::{self, AskError, escape};

/// How long the engine may take for one small answer. It takes some milliseconds; one that takes this long is stuck.
const ASK_PATIENCE: Duration = Duration::from_secs(5);
/// How long it may take to list everything: some seconds with thousands of containers on a busy disk.
const LIST_PATIENCE: Duration = Duration::from_secs(20);
/// Questions of one kind that are out at a time. The engine answers them in parallel; more would only queue there.
const AT_ONCE: usize = 8;
/// Podman's own API, where the same path tells more.
const LIBPOD_NETWORKS: &str = "/v4.0.0/libpod/networks/json";

/// An engine that answers.
pub(super) struct Api {
    docker: Docker,
    identity: Identity,
    names: Names,
    /// Entries of its lists that could not be understood.
    odd: u64,
}

/// All there is.
pub(super) struct Lists {
    pub(super) containers: Vec<Container>,
    pub(super) networks: Vec<Network>,
}

impl Api {
    /// An engine by a client that has settled on a version.
    pub(super) fn new(docker: Docker) -> Api {
        let identity = Identity { text: String::new(), podman: false };
        Api { docker, identity, names: Names::default(), odd: 0 }
    }

    /// Asks who it is.
    pub(super) async fn identify(&mut self) -> Result<(), AskError> {
        self.identity = answer::identity(&self.get("/version", ASK_PATIENCE).await?);
        Ok(())
    }

    /// Name and version of the engine, and the version of the API we speak.
    pub(super) fn version(&self) -> String {
        format!("{}, API {}", self.identity.text, self.docker.client_version())
    }

    /// True if it is Podman.
    pub(super) fn is_podman(&self) -> bool {
        self.identity.podman
    }

    /// Entries that could not be understood since the last time.
    pub(super) fn take_odd(&mut self) -> u64 {
        std::mem::take(&mut self.odd)
    }

    /// The stream of events from `since` on: those that happened before this is asked come first.
    pub(super) fn events(&self, since: Wall) -> BoxStream<'static, Result<Vec<u8>, Error>> {
        let filters = serde_json::json!({ "type": ["container", "network"], "event": ACTIONS });
        let (seconds, micros) = (since.0 / 1_000_000, since.0 % 1_000_000);
        let filters = escape(&filters.to_string());
        let target = format!("/events?since={seconds}.{micros:06}000&filters={filters}");
        raw::stream(&self.docker, &self.versioned(&target))
    }

    /// Whether it still answers.
    pub(super) async fn ping(&self) -> Result<(), AskError> {
        let answer = tokio::time::timeout(ASK_PATIENCE, self.docker.ping()).await;
        answer.map_err(|_| AskError::Slow(ASK_PATIENCE))??;
        Ok(())
    }

    /// Everything.
    pub(super) async fn lists(&mut self) -> Result<Lists, AskError> {
        let networks = self.networks().await?;
        let answer = self.get("/containers/json?all=1", LIST_PATIENCE).await?;
        let mut containers = self.containers(&answer).await;
        if self.names.knows(GATEWAY)
            && let Some((_, gateway)) = self.gateway().await?
        {
            containers.iter_mut().for_each(|container| gateway.complete(container));
        }
        Ok(Lists { containers, networks })
    }

    /// Answers to what a handful of events raised.
    pub(super) async fn ask(&mut self, questions: &Questions) -> Result<Answers, AskError> {
        let mut answers = Answers::default();
        if !questions.networks.is_empty() {
            self.look_at_networks(questions, &mut answers).await?;
        }
        if questions.ways_out && self.has_other_ways_out(&answers) {
            self.look_at_gateway(&mut answers).await?;
        }
        if !questions.containers.is_empty() {
            let filters = serde_json::json!({ "id": questions.containers });
            let filters = escape(&filters.to_string());
            let target = format!("/containers/json?all=1&filters={filters}");
            let answer = self.get(&target, ASK_PATIENCE).await?;
            if self.identity.podman && answer::unknown_networks(&answer, &self.names) {
                // Podman before 5 tells nothing of a network that is created.
                answers.discovered.extend(self.networks().await?);
            }
            let mut containers = self.containers(&answer).await;
            if let Some(gateway) = &answers.gateway {
                containers.iter_mut().for_each(|container| gateway.complete(container));
            }
            let by_id =
                containers.into_iter().map(|container| (container.id.to_string(), container));
            answers.containers = by_id.collect();
        }
        Ok(answers)
    }

    async fn look_at_networks(
        &mut self,
        questions: &Questions,
        answers: &mut Answers,
    ) -> Result<(), AskError> {
        let api = &*self;
        let look = |id: &Arc<str>| {
            let id = id.clone();
            async move {
                let target = format!("/networks/{}", escape(&id));
                (id, api.get(&target, ASK_PATIENCE).await)
            }
        };
        let mut looks = stream::iter(&questions.networks).map(look).buffer_unordered(AT_ONCE);
        let mut odd = 0;
        while let Some((id, answer)) = looks.next().await {
            match answer {
                Ok(answer) => match answer::network(&answer, &api.names) {
                    Some(network) => {
                        let attached = answer::attached(&answer);
                        answers.networks.insert(id.to_string(), (network, attached));
                    }
                    None => odd += 1,
                },
                // It is gone already, which an event will say.
                Err(error) if error.is_refusal() => {}
                Err(error) => return Err(error),
            }
        }
        drop(looks);
        self.odd += odd;
        let networks: Vec<Network> =
            answers.networks.values().map(|(network, _)| network.clone()).collect();
        // Of a swarm's network that another host made, no event tells here before a container is in it.
        let unknown = networks.iter().filter(|network| !self.names.knows(&network.id));
        answers.discovered.extend(unknown.cloned());
        self.names.learn(&networks);
        Ok(())
    }

    /// Whether containers may leave by another bridge than those of their networks.
    fn has_other_ways_out(&self, answers: &Answers) -> bool {
        let mut looked_at = answers.networks.values();
        !self.identity.podman
            && (self.names.knows(GATEWAY)
                || looked_at.any(|(network, _)| !is_covered(&network.driver)))
    }

    async fn look_at_gateway(&mut self, answers: &mut Answers) -> Result<(), AskError> {
        let Some((network, gateway)) = self.gateway().await? else { return Ok(()) };
        if !self.names.knows(&network.id) {
            self.names.learn(std::slice::from_ref(&network));
            answers.discovered.push(network);
        }
        answers.gateway = Some(gateway);
        Ok(())
    }

    /// The way out of overlay networks, if there is one.
    async fn gateway(&mut self) -> Result<Option<(Network, Gateway)>, AskError> {
        let answer = match self.get(&format!("/networks/{GATEWAY}"), ASK_PATIENCE).await {
            Ok(answer) => answer,
            Err(error) if error.is_refusal() => return Ok(None),
            Err(error) => return Err(error),
        };
        let Some(network) = answer::network(&answer, &self.names) else {
            self.odd += 1;
            return Ok(None);
        };
        let gateway = Gateway { network: network.id.clone(), attached: answer::attached(&answer) };
        Ok(Some((network, gateway)))
    }

    async fn networks(&mut self) -> Result<Vec<Network>, AskError> {
        if self.identity.podman {
            // What it does not tell stays unknown: no interface is guessed.
            let own = raw::get(&self.docker, LIBPOD_NETWORKS, ASK_PATIENCE).await;
            self.names.learn_podman(&own.unwrap_or_default());
        }
        let answer = self.get("/networks", LIST_PATIENCE).await?;
        let (networks, odd) = answer::networks(&answer, &self.names);
        self.odd += odd;
        self.names.learn(&networks);
        Ok(networks)
    }

    async fn containers(&mut self, answer: &Value) -> Vec<Container> {
        let (listed, odd) = answer::containers(answer, &self.names);
        self.odd += odd;
        let api = &*self;
        stream::iter(listed).map(|listed| api.complete(listed)).buffered(AT_ONCE).collect().await
    }

    /// Podman's lists do not tell whose network a container uses; its answer for the container alone does.
    async fn complete(&self, listed: Listed) -> Container {
        let mut container = listed.container;
        if listed.mode_untold {
            let target = format!("/containers/{}/json", escape(&container.id));
            let answer = self.get(&target, ASK_PATIENCE).await.unwrap_or_default();
            if let Some(mode) = answer::text(&answer, "/HostConfig/NetworkMode") {
                answer::set_mode(&mut container, mode);
            }
        }
        container
    }

    async fn get(&self, target: &str, patience: Duration) -> Result<Value, AskError> {
        raw::get(&self.docker, &self.versioned(target), patience).await
    }

    fn versioned(&self, target: &str) -> String {
        format!("/v{}{target}", self.docker.client_version())
    }
}
