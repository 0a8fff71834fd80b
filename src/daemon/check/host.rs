//! This process and this host: rights, forwarding, clock, resolvers, and what else has to be free.

use std::net::{IpAddr, TcpListener};

use nix::unistd::Uid;

use super::{Finding, processes};
use crate::config::Config;
use crate::daemon::lock;
use crate::engine::canary::{self, Place};
use crate::engine::net::{Family, Net};
use crate::engine::{Mode, Wall};
use crate::{daemon::clock, host};

// linux/capability.h.
const CAP_NET_ADMIN: u32 = 12;
const CAP_NET_RAW: u32 = 13;
const CAP_SYS_ADMIN: u32 = 21;
/// 2025: a clock from before the program is wrong.
const BUILT: Wall = Wall(1_735_689_600_000_000);
const DAY_US: u64 = 86_400_000_000;

/// Who we are and may.
pub fn rights(config: &Config) -> Vec<Finding> {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap_or_default();
    let flies = config.desk.canary && config.engine.mode == Mode::Enforce;
    judge_rights(Uid::effective().is_root(), capabilities(&status), flies)
}

/// The effective set; nothing where it is not told.
fn capabilities(status: &str) -> u64 {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    line.and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok()).unwrap_or(0)
}

fn judge_rights(root: bool, effective: u64, flies: bool) -> Vec<Finding> {
    let has = |capability: u32| effective & (1 << capability) != 0;
    let mut found = vec![match (has(CAP_NET_ADMIN), root) {
        (true, true) => Finding::ok("rights", "root, with CAP_NET_ADMIN"),
        (true, false) => Finding::warn(
            "rights",
            "CAP_NET_ADMIN, but not root: its lock, its state and its own dnsmasq need root",
            "run synhold as root, as the unit does",
        ),
        (false, _) => Finding::fail(
            "rights",
            "CAP_NET_ADMIN is missing: no rule and no queue can be had",
            "run it as root: sudo synhold check",
        ),
    }];
    if flies {
        found.push(match has(CAP_SYS_ADMIN) && has(CAP_NET_RAW) {
            true => Finding::ok("rights-canary", "the canary may make its network namespace"),
            false => Finding::warn(
                "rights-canary",
                "the canary needs CAP_SYS_ADMIN and CAP_NET_RAW to make its network namespace, and stays off",
                "give them to the service, or say --canary off",
            ),
        });
    }
    found
}

/// Forwarding, clock, resolvers, the canary's place and the port of the metrics.
pub fn look(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for family in Family::BOTH {
        let judged = config.rules.containers.iter().any(|net| net.family() == family);
        found.push(forwarding(family, host::forwards(family).ok(), judged));
    }
    let call = std::fs::read_to_string("/proc/sys/net/bridge/bridge-nf-call-iptables");
    found.push(bridges(call.ok().as_deref()));
    found.push(clock_is(clock::wall(), newest_state(config)));
    found.push(resolvers(&host::resolvers()));
    if config.desk.canary && config.engine.mode == Mode::Enforce {
        let taken: Vec<Net> = host::destinations().into_iter().map(|(_, net)| net).collect();
        for family in Family::BOTH {
            // Where IPv6 is switched off there is nothing to prove of it.
            if family == Family::V4 || host::has_ipv6() {
                found.push(place(family, Place::free(family, &taken)));
            }
        }
    }
    found.extend(config.desk.metrics.map(|at| {
        // While one runs it is that one's.
        if lock::is_running() {
            return Finding::ok("metrics-port", format!("metrics are served on {at}"));
        }
        match TcpListener::bind(at) {
            Ok(_) => Finding::ok("metrics-port", format!("{at} is free for metrics")),
            Err(error) => Finding::warn(
                "metrics-port",
                format!("metrics cannot be served on {at}: {error}"),
                "say --metrics ADDRESS:PORT with another port, or --metrics off",
            ),
        }
    }));
    found
}

fn forwarding(family: Family, on: Option<bool>, judged: bool) -> Finding {
    let (id, name, key) = match family {
        Family::V4 => ("forwarding-4", "IPv4", "net.ipv4.ip_forward"),
        Family::V6 => ("forwarding-6", "IPv6", "net.ipv6.conf.all.forwarding"),
    };
    match (on, judged) {
        (Some(true), _) => Finding::ok(id, format!("{name} is forwarded")),
        (Some(false), true) => Finding::warn(
            id,
            format!("{name} is not forwarded, so no container reaches the outside"),
            format!("sysctl -w {key}=1 (Docker does this when it starts)"),
        ),
        (Some(false), false) => {
            Finding::ok(id, format!("{name} is not forwarded, and no container has it"))
        }
        (None, _) => Finding::ok(id, format!("this kernel has no {name}")),
    }
}

fn bridges(call: Option<&str>) -> Finding {
    let id = "bridge-netfilter";
    match call.map(str::trim) {
        Some("1") => Finding::ok(
            id,
            "containers on one bridge meet the rules too, as local (bridge-nf-call-iptables is 1)",
        ),
        Some(_) | None => {
            Finding::ok(id, "containers on one bridge reach each other without meeting the rules")
        }
    }
}

/// When the registry was last written.
fn newest_state(config: &Config) -> Option<Wall> {
    let entries = std::fs::read_dir(&config.state_dir).ok()?.flatten().take(1000);
    let written = entries.filter_map(|entry| entry.metadata().ok()?.modified().ok());
    let newest = written.max()?.duration_since(std::time::UNIX_EPOCH).ok()?;
    u64::try_from(newest.as_micros()).ok().map(Wall)
}

fn clock_is(now: Wall, newest: Option<Wall>) -> Finding {
    let behind = newest.is_some_and(|newest| newest.0 > now.0 + DAY_US);
    if now < BUILT || behind {
        return Finding::fail(
            "clock",
            "the clock is behind: records and lists would seem to be of the future",
            "timedatectl set-ntp true, or set the time with date -s",
        );
    }
    Finding::ok("clock", "the clock is sane")
}

fn resolvers(servers: &[IpAddr]) -> Finding {
    let shown: Vec<String> = servers.iter().map(ToString::to_string).collect();
    match shown.is_empty() {
        false => Finding::ok("resolvers", format!("this host asks {}", shown.join(", "))),
        true => Finding::warn(
            "resolvers",
            "/etc/resolv.conf names no server: feeds and alerts find nobody, nor does a dnsmasq of ours",
            "write `nameserver ADDRESS` into /etc/resolv.conf, or give --dns-upstream ADDRESS",
        ),
    }
}

fn place(family: Family, place: Option<Place>) -> Finding {
    let id = match family {
        Family::V4 => "canary-place",
        Family::V6 => "canary-place-6",
    };
    match (place, canary::tests(family)) {
        (Some(place), _) => Finding::ok(id, format!("the canary has {} to itself", place.whole())),
        (None, tests) => Finding::warn(
            id,
            format!("this host routes all of {tests}, where the canary would live"),
            "say --canary off",
        ),
    }
}

/// Who runs already, for other areas.
pub fn running() -> Option<processes::Process> {
    let text = std::fs::read_to_string(lock::path().ok()?).ok()?;
    let process = processes::Process::of(text.trim().parse().ok()?)?;
    lock::is_running().then_some(process)
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn rights_are_read_and_judged() {
        assert_eq!(capabilities("Name:\tx\nCapEff:\t0000000000003000\n"), 0x3000);
        let states = |root, effective| {
            let found = judge_rights(root, effective, true);
            found.into_iter().map(|finding| finding.state).collect::<Vec<State>>()
        };
        assert_eq!(states(true, u64::MAX), [State::Ok, State::Ok]);
        assert_eq!(states(true, 1 << CAP_NET_ADMIN), [State::Ok, State::Warn]);
        assert_eq!(states(false, 0), [State::Fail, State::Warn]);
        assert_eq!(judge_rights(true, u64::MAX, false).len(), 1);
    }

    #[test]
    fn only_a_family_that_containers_have_has_to_be_forwarded() {
        let state = |on, judged| forwarding(Family::V6, on, judged).state;
        assert_eq!(state(Some(false), true), State::Warn);
        assert_eq!(state(Some(false), false), State::Ok);
        assert_eq!(state(None, true), State::Ok);
    }

    #[test]
    fn a_clock_behind_what_was_written_is_wrong() {
        let now = Wall(BUILT.0 + DAY_US);
        assert_eq!(clock_is(now, None).state, State::Ok);
        assert_eq!(clock_is(now, Some(Wall(now.0 + DAY_US / 2))).state, State::Ok);
        assert_eq!(clock_is(now, Some(Wall(now.0 + 2 * DAY_US))).state, State::Fail);
        assert_eq!(clock_is(Wall(0), None).state, State::Fail);
    }
}
