//! The stand of tests with a real engine: its containers behind the gateway, servers, and the daemon that knows them.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use serde_json::Value;

use super::lab::daemon::Daemon;
use super::lab::engine::Engine;
use super::lab::engine::run::Run;
use super::lab::net::connect_from;
use super::lab::serve::{Server, everywhere};
use super::lab::wire::{Seen, Wire};
use super::lab::{Lab, SRV4, SRV6, Side, at};
use super::stand::{BIN, DnsLog, LATER, PORT, SOON, STARTED, is_verdict_on};

/// A dual-stack network whose addresses are not from Docker's own pools.
pub const OWN_NET: [&str; 2] = ["10.55.0.0/24", "fd55::/64"];
/// Short, where a refusal is waited for.
pub const HOLD: [&str; 2] = ["--hold-ms", "200"];
/// The server, in both families.
pub const SERVERS: [IpAddr; 2] = [IpAddr::V4(SRV4), IpAddr::V6(SRV6)];

/// Everything up; dropped in this order.
pub struct Port {
    pub daemon: Daemon,
    pub engine: Engine,
    pub far: Wire,
    pub log: DnsLog,
    pub servers: [Server; 2],
    pub lab: Lab,
}

impl Port {
    /// The engine first, then the daemon, enforcing unless `args` say otherwise.
    pub fn new(name: &str, args: &[&str]) -> Port {
        Port::with(name, &[], args, |_| {})
    }

    /// The same with arguments for the engine, and something done before the daemon comes.
    pub fn with(name: &str, engine: &[&str], args: &[&str], first: impl FnOnce(&Engine)) -> Port {
        let host = |engine: &Engine| {
            first(engine);
            engine.host()
        };
        Port::heard_at(name, engine, args, host)
    }

    /// The same where the daemon is told another way to the engine.
    pub fn heard_at(
        name: &str,
        engine: &[&str],
        args: &[&str],
        host: impl FnOnce(&Engine) -> String,
    ) -> Port {
        let lab = Lab::new(name);
        let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
        log.write(STARTED);
        let at = everywhere(PORT);
        let servers = [Server::tcp(&lab.srv, &at), Server::udp(&lab.srv, &at)];
        let far = Wire::watch(&lab.srv, "eth0");
        let engine = Engine::start(&lab, engine);
        let source = format!("file:{}", log.path.display());
        let daemon = start(&lab, &source, &host(&engine), args);
        daemon.ready();
        let port = Port { daemon, engine, far, log, servers, lab };
        port.knows_the_engine();
        port
    }

    /// Waits until the daemon has heard of the engine and of all it has.
    pub fn knows_the_engine(&self) {
        knows_the_engine(&self.daemon, 0);
    }

    /// Makes `name` resolve to `address` for whoever asks, and waits until the daemon has read it.
    pub fn resolve(&mut self, client: IpAddr, name: &str, address: IpAddr) {
        self.log.answer(client, name, address);
        let address = address.to_string();
        let is = |e: &Value| {
            e["event"] == "record" && e["name"] == name && e["address"] == address.as_str()
        };
        self.daemon.expect_event("record", is, SOON);
    }

    /// Connects from a container's address, in its own network namespace.
    pub fn dial(&self, container: &str, from: IpAddr, dst: SocketAddr) -> io::Result<Duration> {
        connect_from(&self.engine.ns(container), at(from, 0), dst, SOON).map(|(_, took)| took)
    }

    /// The verdict on a flow from a container's address, come already or still to come.
    #[track_caller]
    pub fn verdict(&self, from: IpAddr, dst: SocketAddr) -> Value {
        let from = from.to_string();
        let is = |e: &Value| is_verdict_on(e, dst) && e["src"] == from.as_str();
        self.daemon.expect_event(&format!("verdict on {from} to {dst}"), is, SOON)
    }

    /// Dials, whatever comes of it, and holds the verdict to the name and id of the container.
    #[track_caller]
    pub fn dial_named(&self, container: &str, from: IpAddr, dst: SocketAddr) -> Value {
        let _ = self.dial(container, from, dst);
        let event = self.verdict(from, dst);
        self.assert_named(&event, container);
        event
    }

    /// The event names the container that has this name, and its id.
    #[track_caller]
    pub fn assert_named(&self, event: &Value, container: &str) {
        let id = &self.engine.inspect(container)["Id"];
        assert_eq!(
            (&event["container"], &event["container_id"]),
            (&container.into(), id),
            "{event}"
        );
    }

    /// The event that tells of a container after a mark; `what` is up, changed or gone.
    #[track_caller]
    pub fn told(&self, mark: u64, what: &str, container: &str) -> Value {
        let is = |e: &Value| {
            e["event"] == "container" && e["what"] == what && e["container"] == container
        };
        let found = self.daemon.feed().wait_after(mark, is, LATER);
        found.unwrap_or_else(|| panic!("{container} {what}: not told\n{}", self.daemon.story()))
    }

    /// Runs a container and waits until the daemon tells that it is up; its id and that event.
    #[track_caller]
    pub fn run(&self, name: &str, run: &Run) -> Value {
        let mark = self.daemon.feed().mark();
        self.engine.run(run);
        self.told(mark, "up", name)
    }

    /// Packets to `dst` that the far side has seen, now that everything sent has arrived.
    pub fn passed(&self, dst: SocketAddr) -> usize {
        let is = |p: &Seen| p.is_syn_to(dst) || p.is_udp_to(dst);
        self.far.count_settled(&self.lab, Side::Srv, is)
    }
}

/// Starts the daemon with an engine to ask, without waiting for it.
pub fn start(lab: &Lab, source: &str, host: &str, args: &[&str]) -> Daemon {
    let mut command = lab.gw.command(BIN);
    command.args(["run", "--log-format", "json", "--evidence-grace", "0s", "--dns-source", source]);
    command.arg("--state-dir").arg(lab.dir().join("state")).args(args);
    command.env("DOCKER_HOST", host);
    Daemon::start(&lab.gw, command)
}

/// Waits until the daemon has heard of the engine, after a mark.
#[track_caller]
pub fn knows_the_engine(daemon: &Daemon, mark: u64) -> Value {
    let is = |e: &Value| e["event"] == "health" && e["what"] == "docker" && e["healthy"] == true;
    let found = daemon.feed().wait_after(mark, is, LATER);
    found.unwrap_or_else(|| panic!("the engine is not known\n{}", daemon.story()))
}

/// Waits until the daemon misses the engine, after a mark.
#[track_caller]
pub fn misses_the_engine(daemon: &Daemon, mark: u64) -> Value {
    let is = |e: &Value| e["event"] == "health" && e["what"] == "docker" && e["healthy"] == false;
    let found = daemon.feed().wait_after(mark, is, LATER);
    found.unwrap_or_else(|| panic!("the engine is not missed\n{}", daemon.story()))
}

/// Writes a configuration file, for `--config`.
pub fn config(dir: &Path, text: &str) -> String {
    let path = dir.join("synhold.toml");
    std::fs::write(&path, text).expect("write");
    path.display().to_string()
}
