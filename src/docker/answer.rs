//! The engine's answers, understood: containers, networks, and who is attached to one.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use serde_json::{Map, Value};

use crate::engine::container::{Container, Endpoint, LABEL_PREFIX, Network, NetworkMode};
use crate::engine::net::{Net, NetError};

/// Option of a bridge network that names its interface.
const BRIDGE_OPTION: &str = "com.docker.network.bridge.name";
/// Digits of a bridge network's id that its interface is named after, unless the option names it.
const BRIDGE_DIGITS: usize = 12;
/// States in which a container has no process, so that an address still written beside it is a left-over. A state
/// that is not known is taken for one with a process.
const AT_REST: [&str; 7] =
    ["created", "configured", "initialized", "exited", "stopped", "dead", "removing"];

/// Names of networks, to find the id of one that is told by name, and the interfaces an engine tells apart.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    ids: HashMap<String, Arc<str>>,
    /// Podman's interfaces by network id. `None` for Docker, whose rule for naming them is known.
    interfaces: Option<HashMap<String, String>>,
}

/// Which engine it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    /// Name and version, as people say it.
    pub(super) text: String,
    /// It is Podman, whose answers lack some of what Docker's tell.
    pub(super) podman: bool,
}

/// A container as a list tells of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) container: Container,
    /// The list did not tell whose network it uses (Podman's does not).
    pub(super) mode_untold: bool,
}

impl Names {
    /// Learns the networks of a list.
    pub(super) fn learn(&mut self, networks: &[Network]) {
        for network in networks {
            self.ids.insert(network.name.to_string(), network.id.clone());
            self.ids.insert(network.id.to_string(), network.id.clone());
        }
    }

    /// Learns Podman's own list of networks, which tells interfaces, and names where the other has an alias.
    pub(super) fn learn_podman(&mut self, list: &Value) {
        let interfaces = self.interfaces.get_or_insert_default();
        for network in list.as_array().into_iter().flatten() {
            let (Some(id), Some(name)) = (text(network, "/id"), text(network, "/name")) else {
                continue;
            };
            self.ids.insert(name.to_owned(), id.into());
            if let Some(interface) = text(network, "/network_interface") {
                interfaces.insert(id.to_owned(), interface.to_owned());
            }
        }
    }

    /// True if a network was told of, by id or name.
    pub(super) fn knows(&self, network: &str) -> bool {
        self.ids.contains_key(network)
    }

    fn resolve(&self, network: &str) -> Arc<str> {
        self.ids.get(network).cloned().unwrap_or_else(|| network.into())
    }
}

/// Reads `/version`.
pub(super) fn identity(answer: &Value) -> Identity {
    let version = text(answer, "/Version").unwrap_or("of unknown version");
    let component = text(answer, "/Components/0/Name").unwrap_or_default();
    let podman = component.to_ascii_lowercase().contains("podman");
    let name = if podman { "Podman" } else { "Docker Engine" };
    Identity { text: format!("{name} {version}"), podman }
}

/// Reads a list of containers. Second, how many entries of it could not be understood.
pub(super) fn containers(answer: &Value, names: &Names) -> (Vec<Listed>, u64) {
    list(answer, |entry| container(entry, names))
}

/// Reads a list of networks. Second, how many entries of it could not be understood.
pub(super) fn networks(answer: &Value, names: &Names) -> (Vec<Network>, u64) {
    list(answer, |entry| network(entry, names))
}

fn list<T>(answer: &Value, read: impl Fn(&Value) -> Option<T>) -> (Vec<T>, u64) {
    // Both engines write `null` for a list without entries in places.
    let Some(entries) = answer.as_array() else {
        return (Vec::new(), u64::from(!answer.is_null()));
    };
    let read: Vec<T> = entries.iter().filter_map(read).collect();
    let odd = entries.len() - read.len();
    (read, odd as u64)
}

fn container(entry: &Value, names: &Names) -> Option<Listed> {
    let id: Arc<str> = text(entry, "/Id")?.into();
    let mode = text(entry, "/HostConfig/NetworkMode");
    let rests = text(entry, "/State").is_some_and(|state| AT_REST.contains(&state));
    let endpoints = if rests { Vec::new() } else { endpoints(entry, names) };
    let mut container = Container {
        name: name(entry).unwrap_or(&id).into(),
        image: text(entry, "/Image").unwrap_or_default().into(),
        labels: labels(entry),
        network: NetworkMode::Own,
        running: !rests,
        endpoints,
        id,
    };
    if let Some(mode) = mode {
        set_mode(&mut container, mode);
    }
    Some(Listed { container, mode_untold: mode.is_none() })
}

/// A container that is linked to by another is listed under the link's name too, which is `/OTHER/ALIAS`.
fn name(entry: &Value) -> Option<&str> {
    let names = entry.get("Names")?.as_array()?;
    let mut names = names.iter().filter_map(Value::as_str).map(|name| name.trim_start_matches('/'));
    let first = names.clone().next();
    names.find(|name| !name.contains('/')).or(first).filter(|name| !name.is_empty())
}

fn labels(entry: &Value) -> BTreeMap<String, String> {
    let labels = entry.get("Labels").and_then(Value::as_object);
    let ours = labels.into_iter().flatten().filter(|(key, _)| key.starts_with(LABEL_PREFIX));
    ours.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

/// Sets whose network a container uses, as `HostConfig.NetworkMode` writes it.
pub(super) fn set_mode(container: &mut Container, mode: &str) {
    container.network = match mode {
        "host" => NetworkMode::Host,
        "none" => NetworkMode::None,
        _ => match mode.strip_prefix("container:") {
            Some(other) => NetworkMode::Of(other.into()),
            None => NetworkMode::Own,
        },
    };
    if matches!(container.network, NetworkMode::Of(_)) {
        // Podman lists the addresses of the container whose network it is.
        container.endpoints.clear();
    }
}

fn endpoints(entry: &Value, names: &Names) -> Vec<Endpoint> {
    let networks = entry.pointer("/NetworkSettings/Networks").and_then(Value::as_object);
    let read = |(name, endpoint): (&String, &Value)| {
        let network = match text(endpoint, "/NetworkID") {
            Some(id) if !id.is_empty() => names.resolve(id),
            _ => names.resolve(name),
        };
        let fields = ["/IPAddress", "/GlobalIPv6Address"];
        let addresses: Vec<IpAddr> =
            fields.iter().filter_map(|field| address(text(endpoint, field)?)).collect();
        let attached = text(endpoint, "/EndpointID").is_some_and(|id| !id.is_empty());
        (attached || !addresses.is_empty()).then_some(Endpoint { network, addresses })
    };
    networks.map(Map::iter).into_iter().flatten().filter_map(read).collect()
}

/// Networks of a container, by name or id, that `names` does not know.
pub(super) fn unknown_networks(answer: &Value, names: &Names) -> bool {
    let entries = answer.as_array().into_iter().flatten();
    let networks =
        entries.filter_map(|entry| entry.pointer("/NetworkSettings/Networks")?.as_object());
    networks.flat_map(Map::iter).any(|(name, endpoint)| {
        let id = text(endpoint, "/NetworkID").filter(|id| !id.is_empty());
        !names.knows(id.unwrap_or(name))
    })
}

/// Reads a network, of a list or by itself.
pub(super) fn network(entry: &Value, names: &Names) -> Option<Network> {
    let id: Arc<str> = text(entry, "/Id")?.into();
    let driver: Arc<str> = text(entry, "/Driver").unwrap_or_default().into();
    let interface = if &*driver == "bridge" { interface(entry, &id, names) } else { None };
    let config = entry.pointer("/IPAM/Config").and_then(Value::as_array);
    let subnets = config.into_iter().flatten();
    let subnets = subnets.filter_map(|config| subnet(text(config, "/Subnet")?));
    Some(Network {
        name: text(entry, "/Name").unwrap_or(&id).into(),
        subnets: subnets.collect(),
        driver,
        interface,
        id,
    })
}

/// Engines before 28 take a subnet with host bits set, and mean the network it lies in.
fn subnet(text: &str) -> Option<Net> {
    match text.parse() {
        Ok(net) => Some(net),
        Err(NetError::HostBits { meant, .. }) => Some(meant),
        Err(_) => None,
    }
}

fn interface(entry: &Value, id: &str, names: &Names) -> Option<Arc<str>> {
    let option = entry.get("Options").and_then(|options| options.get(BRIDGE_OPTION));
    if let Some(name) = option.and_then(Value::as_str).filter(|name| !name.is_empty()) {
        return Some(name.into());
    }
    match &names.interfaces {
        Some(interfaces) => interfaces.get(id).map(|name| name.as_str().into()),
        None => id.get(..BRIDGE_DIGITS).map(|digits| format!("br-{digits}").into()),
    }
}

/// Addresses of the containers that are attached to a network, as its own answer tells.
pub(super) fn attached(answer: &Value) -> HashMap<String, Vec<IpAddr>> {
    let containers = answer.get("Containers").and_then(Value::as_object);
    let read = |(id, endpoint): (&String, &Value)| {
        let fields = ["/IPv4Address", "/IPv6Address"];
        let addresses = fields.iter().filter_map(|field| address(text(endpoint, field)?));
        (id.clone(), addresses.collect())
    };
    containers.into_iter().flatten().map(read).collect()
}

/// Reads an address, with or without a prefix length. None of nobody's, which engines write for "not yet".
fn address(text: &str) -> Option<IpAddr> {
    let (address, _) = text.split_once('/').unwrap_or((text, ""));
    let address: IpAddr = address.parse().ok()?;
    (!address.is_unspecified()).then_some(address)
}

/// The text at a JSON pointer.
pub(super) fn text<'a>(value: &'a Value, pointer: &str) -> Option<&'a str> {
    value.pointer(pointer)?.as_str()
}

#[cfg(test)]
#[path = "answer_test.rs"]
mod tests;
