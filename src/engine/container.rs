//! Containers as an inventory tells of them: who they are, where they are attached, and what their labels ask for.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::net::Net;
use super::time::Wall;

/// Beginning of the label keys that are ours.
pub const LABEL_PREFIX: &str = "synhold.";

/// A container as its engine describes it at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    /// Full id, 64 hexadecimal digits.
    pub id: Arc<str>,
    /// Name without the leading slash.
    pub name: Arc<str>,
    /// Image as the engine names it, or its digest once its tag is another's.
    pub image: Arc<str>,
    /// Labels that begin with [`LABEL_PREFIX`].
    pub labels: BTreeMap<String, String>,
    /// Whose network it uses.
    pub network: NetworkMode,
    /// It runs; a container that was created or has ended does not.
    pub running: bool,
    /// Where it is attached now; empty while it does not run.
    pub endpoints: Vec<Endpoint>,
}

/// Whose network a container uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NetworkMode {
    /// Its own.
    Own,
    /// The host's: its traffic is the host's.
    Host,
    /// None but loopback.
    None,
    /// That of another container, by its id or name.
    Of(Arc<str>),
}

/// A container's place in a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Id of the network.
    pub network: Arc<str>,
    /// Addresses there, at most one of each family in practice.
    pub addresses: Vec<IpAddr>,
}

/// A network of a container engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Network {
    /// Full id.
    pub id: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Driver: `bridge`, `macvlan`, `ipvlan`, `overlay`, `host`, `null` or a plugin's.
    pub driver: Arc<str>,
    /// The host's interface that all its traffic comes in on; bridges only.
    pub interface: Option<Arc<str>>,
    /// Its subnets.
    pub subnets: Vec<Net>,
}

/// What became known, in the order in which the engine told it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// All there is; what is not in it is gone.
    All {
        /// Every container, running or not.
        containers: Vec<Container>,
        /// Every network.
        networks: Vec<Network>,
    },
    /// A container was created, or is now as described.
    Container(Container),
    /// A container got another name.
    Renamed {
        /// Its id.
        id: Arc<str>,
        /// Its name from now on.
        name: Arc<str>,
    },
    /// A container was attached to a network, before its first packet there.
    Attached {
        /// Its id.
        id: Arc<str>,
        /// Where.
        endpoint: Endpoint,
    },
    /// A container was detached from a network.
    Detached {
        /// Its id.
        id: Arc<str>,
        /// Id of the network.
        network: Arc<str>,
    },
    /// A container runs no more; its addresses are free.
    Died {
        /// Its id.
        id: Arc<str>,
    },
    /// A container is no more.
    Removed {
        /// Its id.
        id: Arc<str>,
    },
    /// A network was created, or is now as described.
    Network(Network),
    /// A network is no more.
    NetworkRemoved {
        /// Its id.
        id: Arc<str>,
    },
}

/// A change with the moment the engine says it happened at (its own clock, which is this host's).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dated {
    /// When.
    pub at: Wall,
    /// What.
    pub change: Change,
}

/// Whether all of a network's traffic passes this host's forward hook, so that it is judged.
pub fn is_covered(driver: &str) -> bool {
    driver == "bridge"
}
