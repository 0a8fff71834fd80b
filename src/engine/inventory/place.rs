//! Where a container is, in words for people.

use std::net::IpAddr;

use super::Inventory;
use crate::engine::container::{Container, NetworkMode, is_covered};

/// Where a container is, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// Its addresses that are judged.
    pub addresses: Vec<IpAddr>,
    /// Names of its networks.
    pub networks: Vec<String>,
    /// What of its traffic is not judged under its name, and why; nothing if all is.
    pub gaps: Vec<String>,
}

impl Inventory {
    pub(super) fn place(&self, container: &Container) -> Place {
        let (mut addresses, mut networks, mut gaps) = (Vec::new(), Vec::new(), Vec::new());
        for endpoint in &container.endpoints {
            let network = self.networks.get(&endpoint.network);
            let name = network.map_or(&endpoint.network, |network| &network.name);
            networks.push(name.to_string());
            match network.filter(|network| !is_covered(&network.driver)) {
                // Its mode says it, below.
                Some(_) if matches!(container.network, NetworkMode::Host) => {}
                Some(network) => gaps.push(gap(name, &network.driver)),
                None => addresses.extend(&endpoint.addresses),
            }
        }
        match &container.network {
            NetworkMode::Own | NetworkMode::None => {}
            NetworkMode::Host => {
                gaps.push("it uses the host's network: its traffic is the host's".to_owned());
            }
            NetworkMode::Of(other) => {
                let name =
                    self.find(other).map_or_else(|| other.to_string(), |f| f.0.name.to_string());
                gaps.push(format!(
                    "it uses the network of {name}: its traffic is told as that container's"
                ));
            }
        }
        Place { addresses, networks, gaps }
    }
}

/// What of a network's traffic is not judged.
fn gap(name: &str, driver: &str) -> String {
    let what = match driver {
        "null" => return "it has no network but its own loopback".to_owned(),
        "overlay" => {
            "its traffic between hosts does not pass this host's rules; what leaves by docker_gwbridge is judged"
        }
        _ => "its traffic does not pass this host's rules",
    };
    format!("network {name} is of type {driver}: {what}")
}
