//! The bridge by which containers leave the host whose own networks have no way out.
//!
//! Docker makes it with a swarm or with the first container of an overlay network, and tells of it in no event. A
//! container is on it, in no list of its own, for as long as none of its networks has a gateway: a bridge network that
//! comes takes it off, one that goes puts it back, maybe at another address. Only the bridge's own answer tells.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use crate::engine::container::{Container, Endpoint};

/// Its name, fixed in Docker. Podman has none.
pub(super) const GATEWAY: &str = "docker_gwbridge";

/// Who is on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Gateway {
    /// Its id.
    pub(super) network: Arc<str>,
    /// Addresses by container; the swarm's own entry, which is no container, is there too.
    pub(super) attached: HashMap<String, Vec<IpAddr>>,
}

impl Gateway {
    /// The place of a container there.
    pub(super) fn endpoint(&self, id: &str) -> Option<Endpoint> {
        let addresses = self.attached.get(id)?.clone();
        Some(Endpoint { network: self.network.clone(), addresses })
    }

    /// Adds to a container's places the one it has there.
    pub(super) fn complete(&self, container: &mut Container) {
        let told = |place: &Endpoint| place.network == self.network;
        // A person can attach a container to it by name; then its own list tells.
        if container.running && !container.endpoints.iter().any(told) {
            container.endpoints.extend(self.endpoint(&container.id));
        }
    }
}
