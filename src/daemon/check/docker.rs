//! The container engine: whether it answers, and what its settings mean for us.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;
use crate::config::Config;
use crate::dns::Spec;
use crate::docker;
use crate::engine::Scope;

/// How long the engine may take for each answer; it takes milliseconds, and others look meanwhile.
const PATIENCE: Duration = Duration::from_secs(3);
/// Where Docker reads its settings.
const DAEMON_JSON: &str = "/etc/docker/daemon.json";

/// Looks.
pub fn look(config: &Config) -> Vec<Finding> {
    let Some(address) = &config.docker else {
        return vec![Finding::ok("docker", "no container engine is asked (--no-docker)")];
    };
    let heard = ask(address, config);
    let mut found = vec![match &heard {
        Ok(heard) => Finding::ok("docker", format!("{} answers at {address}", heard.version)),
        Err(error) => Finding::warn(
            "docker",
            format!("no container engine answers at {address}: {error:#}"),
            "systemctl start docker; or say --no-docker, and containers have no names",
        ),
    }];
    for (name, running) in heard.iter().flat_map(|heard| &heard.containers) {
        found.push(container(name, *running));
    }
    let text = std::fs::read_to_string(DAEMON_JSON).ok();
    if heard.is_ok() || text.is_some() {
        found.extend(settings(text.as_deref(), &listens(config), config));
    }
    found
}

struct Heard {
    version: String,
    /// Containers whose log is a source, and whether each runs; nothing where there is none of that name.
    containers: Vec<(String, Option<bool>)>,
}

fn ask(address: &docker::Address, config: &Config) -> Result<Heard> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let slow = || format!("no answer within {} s", PATIENCE.as_secs());
        let client = tokio::time::timeout(PATIENCE, docker::connect(address)).await;
        let client = client.with_context(slow)??;
        let version =
            tokio::time::timeout(PATIENCE, client.version()).await.with_context(slow)??;
        let name = version.platform.map(|platform| platform.name).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| "the container engine".to_owned());
        let version = format!("{name} {}", version.version.unwrap_or_default());
        let mut containers = Vec::new();
        for name in config.resolver_containers() {
            let asked = tokio::time::timeout(PATIENCE, client.inspect_container(name, None)).await;
            let known = asked.with_context(slow)?.ok();
            let running = known.map(|it| it.state.and_then(|state| state.running) == Some(true));
            containers.push((name.to_owned(), running));
        }
        Ok(Heard { version: version.trim_end().to_owned(), containers })
    })
}

fn container(name: &str, running: Option<bool>) -> Finding {
    match running {
        Some(true) => {
            Finding::ok("dns-source", format!("container {name}, whose log is read, runs"))
        }
        Some(false) => Finding::warn(
            "dns-source",
            format!("container {name}, whose log is to be read, does not run"),
            format!("docker start {name}"),
        ),
        None => Finding::fail(
            "dns-source",
            format!("there is no container {name}, whose log is to be read"),
            "docker ps -a shows names; say --dns-source docker:NAME",
        ),
    }
}

/// Where our own dnsmasq answers, if there is one.
fn listens(config: &Config) -> Vec<IpAddr> {
    let spawns = config.sources.iter().any(|spec| matches!(spec, Spec::Spawn));
    let all = config.dnsmasq.listen.iter().map(|(address, _)| *address);
    all.filter(|_| spawns).collect()
}

fn settings(text: Option<&str>, listens: &[IpAddr], config: &Config) -> Vec<Finding> {
    let json: Value = match text.map(serde_json::from_str) {
        None => Value::Null,
        Some(Ok(json)) => json,
        Some(Err(error)) => {
            return vec![Finding::warn(
                "docker-settings",
                format!("{DAEMON_JSON} is no JSON: {error}"),
                "mend that file, or Docker does not start again",
            )];
        }
    };
    let mut found: Vec<Finding> =
        listens.first().map(|first| resolver(&json, listens, *first)).into_iter().collect();
    let says = |key: &str| json.get(key).cloned().unwrap_or_default();
    if says("iptables") == false {
        found.push(Finding::warn(
            "docker-iptables",
            "Docker keeps no rules of its own (\"iptables\": false): containers are not masqueraded, and DNS redirects do not work",
            format!("take \"iptables\" out of {DAEMON_JSON}, and systemctl restart docker"),
        ));
    }
    if says("firewall-backend") == "nftables" {
        found.push(Finding::ok(
            "docker-backend",
            "Docker has nftables tables of its own, after ours; both have to accept",
        ));
    }
    if says("userland-proxy") != false {
        found.push(Finding::ok("docker-proxy", "published ports may be served by docker-proxy, which is the host's traffic and not judged"));
    }
    if config.engine.scope == Scope::Container {
        found.push(Finding::warn(
            "docker-dns",
            "with scope container, a container behind Docker's embedded resolver may ask under the host's address",
            "see that answers carry the container's address: synhold registry lookup NAME",
        ));
    }
    found
}

fn resolver(json: &Value, listens: &[IpAddr], first: IpAddr) -> Finding {
    let servers = json.get("dns").and_then(Value::as_array).into_iter().flatten();
    let servers: Vec<IpAddr> = servers.filter_map(|server| server.as_str()?.parse().ok()).collect();
    match servers.iter().find(|server| listens.contains(server)) {
        Some(server) => {
            Finding::ok("docker-resolver", format!("containers ask our own dnsmasq at {server}"))
        }
        None => Finding::warn(
            "docker-resolver",
            "containers are not told to ask our own dnsmasq: what they resolve elsewhere is no evidence",
            format!(
                "write {{\"dns\": [\"{first}\"]}} into {DAEMON_JSON}, or say --dns-redirect gateway"
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    fn of(text: Option<&str>) -> Vec<(&'static str, State)> {
        let config = crate::config::load(None, crate::config::Options::default()).unwrap();
        let listens = ["172.17.0.1".parse().unwrap()];
        settings(text, &listens, &config).into_iter().map(|found| (found.id, found.state)).collect()
    }

    #[test]
    fn dockers_settings_are_read() {
        let proxy = ("docker-proxy", State::Ok);
        assert_eq!(of(None), [("docker-resolver", State::Warn), proxy]);
        let good =
            r#"{"dns": ["172.17.0.1"], "userland-proxy": false, "firewall-backend": "nftables"}"#;
        assert_eq!(of(Some(good)), [("docker-resolver", State::Ok), ("docker-backend", State::Ok)]);
        let bad = r#"{"dns": ["9.9.9.9"], "iptables": false}"#;
        assert_eq!(
            of(Some(bad)),
            [("docker-resolver", State::Warn), ("docker-iptables", State::Warn), proxy]
        );
        assert_eq!(of(Some("{")), [("docker-settings", State::Warn)]);
    }

    #[test]
    fn a_container_whose_log_is_read_has_to_be_there() {
        let state = |running| container("dns", running).state;
        assert_eq!(
            [state(Some(true)), state(Some(false)), state(None)],
            [State::Ok, State::Warn, State::Fail]
        );
    }
}
