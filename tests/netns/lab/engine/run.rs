//! Containers and networks of the engine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde_json::{Value, json};

use super::{Engine, IMAGE};

/// A container to be; see [`Engine::run`].
#[derive(Clone, Debug)]
pub struct Run {
    name: String,
    /// The body of the API's request, for what has no method here.
    pub body: Value,
}

/// Where a container is in a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its IPv4 address.
    pub v4: Ipv4Addr,
    /// Its IPv6 address, in a network that has them.
    pub v6: Option<Ipv6Addr>,
}

impl Place {
    /// Both addresses.
    pub fn both(self) -> impl Iterator<Item = IpAddr> {
        [Some(IpAddr::from(self.v4)), self.v6.map(IpAddr::from)].into_iter().flatten()
    }

    /// The address of the family of another one.
    ///
    /// # Panics
    /// When it has none.
    pub fn like(self, other: IpAddr) -> IpAddr {
        if other.is_ipv4() { self.v4.into() } else { self.v6.expect("an IPv6 address").into() }
    }
}

impl Run {
    /// A container that does nothing, for as long as it is let.
    pub fn new(name: &str) -> Run {
        let host = json!({ "SecurityOpt": ["apparmor=unconfined"] });
        let body = json!({ "Image": IMAGE, "Labels": {}, "HostConfig": host });
        let run = Run { name: name.to_owned(), body };
        run.command(&["busybox", "sleep", "100000"])
    }

    /// Runs this instead.
    pub fn command(mut self, command: &[&str]) -> Run {
        self.body["Cmd"] = json!(command);
        self
    }

    /// Runs a line of the shell instead.
    pub fn shell(self, line: &str) -> Run {
        self.command(&["sh", "-c", line])
    }

    /// From another image.
    pub fn image(mut self, image: &str) -> Run {
        self.body["Image"] = json!(image);
        self
    }

    /// With a label.
    pub fn label(mut self, key: &str, value: &str) -> Run {
        self.body["Labels"][key] = json!(value);
        self
    }

    /// On this network, or `host`, `none`, `container:NAME`.
    pub fn network(mut self, network: &str) -> Run {
        self.body["HostConfig"]["NetworkMode"] = json!(network);
        self
    }

    /// At this address of its (user-defined) network.
    ///
    /// # Panics
    /// Before [`Run::network`].
    pub fn at(mut self, address: impl Into<IpAddr>) -> Run {
        let network = self.body["HostConfig"]["NetworkMode"].as_str().expect("a network");
        let (network, address) = (network.to_owned(), address.into());
        let key = if address.is_ipv4() { "IPv4Address" } else { "IPv6Address" };
        self.body["NetworkingConfig"]["EndpointsConfig"][network]["IPAMConfig"][key] =
            json!(address);
        self
    }

    /// With a TCP port published on all the gateway's addresses.
    pub fn publish(mut self, outside: u16, inside: u16) -> Run {
        let key = format!("{inside}/tcp");
        self.body["ExposedPorts"][&key] = json!({});
        self.body["HostConfig"]["PortBindings"][&key] =
            json!([{ "HostPort": outside.to_string() }]);
        self
    }

    /// With a resolver of its own (`--dns`).
    pub fn dns(mut self, resolver: impl Into<IpAddr>) -> Run {
        self.body["HostConfig"]["Dns"] = json!([resolver.into()]);
        self
    }
}

impl Engine {
    /// Creates and starts a container; returns its id.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn run(&self, run: &Run) -> String {
        let id = self.create(run);
        self.start_container(&id);
        id
    }

    /// Creates a container; returns its id.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn create(&self, run: &Run) -> String {
        let path = format!("/containers/create?name={}", run.name);
        let made = self.call("POST", &path, Some(&run.body));
        made["Id"].as_str().expect("an id").to_owned()
    }

    /// Starts a container that was created or has ended.
    pub fn start_container(&self, container: &str) {
        self.call("POST", &format!("/containers/{container}/start"), None);
    }

    /// Ends a container at once; it stays known.
    pub fn stop_container(&self, container: &str) {
        self.call("POST", &format!("/containers/{container}/stop?t=0"), None);
    }

    /// Ends a container and starts it again.
    pub fn restart(&self, container: &str) {
        self.call("POST", &format!("/containers/{container}/restart?t=0"), None);
    }

    /// Gives a container another name.
    pub fn rename(&self, container: &str, name: &str) {
        self.call("POST", &format!("/containers/{container}/rename?name={name}"), None);
    }

    /// Ends and forgets a container.
    pub fn remove(&self, container: &str) {
        self.call("DELETE", &format!("/containers/{container}?force=1&v=1"), None);
    }

    /// Waits for a container's end; its exit code.
    pub fn wait(&self, container: &str) -> i64 {
        let ended = self.call("POST", &format!("/containers/{container}/wait"), None);
        ended["StatusCode"].as_i64().expect("a status")
    }

    /// Everything about a container.
    pub fn inspect(&self, container: &str) -> Value {
        self.call("GET", &format!("/containers/{container}/json"), None)
    }

    /// Makes a bridge network of these subnets, as `10.55.0.0/24` or `fd55::/64`; the gateway has the first address of each.
    /// Returns its id.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn network(&self, name: &str, subnets: &[&str]) -> String {
        self.network_of(name, "bridge", subnets, &json!({}))
    }

    /// The same of another driver, with its options.
    ///
    /// # Panics
    /// When the engine refuses.
    pub fn network_of(&self, name: &str, driver: &str, subnets: &[&str], opts: &Value) -> String {
        let pools: Vec<Value> = subnets.iter().map(|net| json!({ "Subnet": net })).collect();
        let body = json!({
            "Name": name,
            "CheckDuplicate": true,
            "Driver": driver,
            "EnableIPv6": subnets.iter().any(|net| net.contains(':')),
            "IPAM": { "Driver": "default", "Config": pools },
            "Options": opts,
        });
        let made = self.call("POST", "/networks/create", Some(&body));
        made["Id"].as_str().expect("an id").to_owned()
    }

    /// Removes a network nobody is attached to.
    pub fn remove_network(&self, network: &str) {
        self.call("DELETE", &format!("/networks/{network}"), None);
    }

    /// Attaches a container to one more network.
    pub fn connect(&self, network: &str, container: &str) {
        let body = json!({ "Container": container });
        self.call("POST", &format!("/networks/{network}/connect"), Some(&body));
    }

    /// Detaches a container from a network.
    pub fn disconnect(&self, network: &str, container: &str) {
        let body = json!({ "Container": container, "Force": true });
        self.call("POST", &format!("/networks/{network}/disconnect"), Some(&body));
    }

    /// Where a running container is in a network.
    ///
    /// # Panics
    /// When it is not.
    pub fn place(&self, container: &str, network: &str) -> Place {
        let seen = self.inspect(container)["NetworkSettings"]["Networks"][network].clone();
        let text = |key: &str| seen[key].as_str().unwrap_or_default().to_owned();
        let v4 = text("IPAddress").parse();
        let v4 = v4.unwrap_or_else(|_| panic!("{container} is not on {network}: {seen}"));
        Place { v4, v6: text("GlobalIPv6Address").parse().ok() }
    }

    /// The gateway's interface of a bridge network.
    pub fn interface(&self, network: &str) -> String {
        let seen = self.call("GET", &format!("/networks/{network}"), None);
        match seen["Options"]["com.docker.network.bridge.name"].as_str() {
            Some(name) => name.to_owned(),
            None => format!("br-{:.12}", seen["Id"].as_str().expect("an id")),
        }
    }
}
