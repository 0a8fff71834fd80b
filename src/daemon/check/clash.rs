//! Who else is at work here: another synhold, other programs on our queues, other firewalls, networks that overlap.

use std::net::IpAddr;

use super::processes::Process;
use super::{Finding, host, processes};
use crate::config::Config;
use crate::engine::Net;
use crate::host::InterfaceAddress;
use crate::nfq::counters::{self, Counters};
use crate::nftables;

/// Looks.
pub fn look(config: &Config) -> Vec<Finding> {
    let running = host::running();
    let mut found = vec![match &running {
        Some(process) => Finding::ok(
            "running",
            format!("{} runs here already; what follows is beside it", process.shown()),
        ),
        None => Finding::ok("running", "no other synhold runs here"),
    }];
    let counters = counters::read().unwrap_or_default();
    found.extend(queues(config, &counters, running.as_ref()));
    found.push(rules(running.is_some()));
    found.push(ufw(
        std::fs::read_to_string("/etc/ufw/ufw.conf").ok().as_deref(),
        std::fs::read_to_string("/etc/default/ufw").ok().as_deref(),
    ));
    found.extend(others(processes::all().filter(Process::is_here)));
    let rules = &config.rules;
    found.extend(overlaps(&rules.containers, rules.containers_named, &rules.host));
    found
}

/// Queues in use, by ours and by others.
fn queues(config: &Config, counters: &[Counters], running: Option<&Process>) -> Vec<Finding> {
    let first = config.rules.queue_num;
    let last = first.saturating_add(config.rules.queues.saturating_sub(1));
    let is_ours = |queue: &&Counters| (first..=last).contains(&queue.queue);
    let by = |queue: &Counters| {
        let process = Process::of(queue.port);
        process.map_or_else(|| format!("netlink port {}", queue.port), |process| process.shown())
    };
    let taken = counters
        .iter()
        .filter(is_ours)
        .find(|queue| running.map(|own| own.pid) != Some(queue.port) && running.is_none());
    let mut found = vec![match taken {
        Some(queue) => Finding::fail(
            "queue",
            format!("queue {} is taken by {}", queue.queue, by(queue)),
            format!("stop it, or say --queue-num {}", free_queue(counters, config.rules.queues)),
        ),
        None if first == last => Finding::ok("queue", format!("queue {first} is ours to have")),
        None => Finding::ok("queue", format!("queues {first} to {last} are ours to have")),
    }];
    let others: Vec<String> = counters.iter().filter(|queue| !is_ours(queue)).map(by).collect();
    if !others.is_empty() {
        found.push(Finding::ok(
            "queue-others",
            format!("{} has queues of its own, beside ours", others.join(", ")),
        ));
    }
    found
}

/// The first number with room for all of ours.
fn free_queue(counters: &[Counters], queues: u16) -> u16 {
    let highest = counters.iter().map(|queue| queue.queue).max();
    let above = highest.and_then(|highest| highest.checked_add(1));
    above.filter(|first| first.checked_add(queues).is_some()).unwrap_or(100)
}

/// A table of ours, or of our name.
fn rules(running: bool) -> Finding {
    let id = "rules";
    match nftables::read() {
        Err(error) => {
            Finding::warn(id, format!("the rules cannot be read: {error}"), "run it as root")
        }
        Ok(None) => Finding::ok(id, "there are no rules of ours yet; `synhold run` puts them in"),
        Ok(Some(_)) if running => Finding::ok(id, "our rules are in the kernel"),
        Ok(Some(rules)) if rules.is_owned() => Finding::warn(
            id,
            "a run that was killed has left its rules, and new container flows meet nobody",
            "start synhold, or take them away: synhold rules remove",
        ),
        Ok(Some(_)) => {
            Finding::ok(id, "rules of `synhold rules install` are in the kernel, and stay")
        }
    }
}

/// `ENABLED=yes` in the one file, `DEFAULT_FORWARD_POLICY="DROP"` in the other.
fn ufw(conf: Option<&str>, defaults: Option<&str>) -> Finding {
    let has = |text: Option<&str>, key: &str, value: &str| {
        let lines =
            text.into_iter().flat_map(str::lines).filter_map(|line| line.trim().split_once('='));
        let mut values =
            lines.filter(|(name, _)| *name == key).map(|(_, value)| value.trim_matches('"'));
        values.any(|found| found.eq_ignore_ascii_case(value))
    };
    if !has(conf, "ENABLED", "yes") {
        return Finding::ok("ufw", "ufw is not at work");
    }
    if has(defaults, "DEFAULT_FORWARD_POLICY", "DROP") {
        return Finding::warn(
            "ufw",
            "ufw drops what is forwarded unless a rule accepts it: what synhold accepts may be dropped after it",
            "ufw route allow in on docker0, or DEFAULT_FORWARD_POLICY=\"ACCEPT\" in /etc/default/ufw",
        );
    }
    Finding::ok("ufw", "ufw is at work, and lets forwarded packets pass")
}

/// Programs that are known to meddle with packets of containers.
fn others(processes: impl Iterator<Item = Process>) -> Vec<Finding> {
    let tell = |process: Process| match process.name.as_str() {
        "firewalld" => Some(Finding::warn(
            "firewalld",
            format!("{} may drop what synhold accepts, and reloads rules at will", process.shown()),
            "firewall-cmd --permanent --zone=docker --set-target=ACCEPT, then firewall-cmd --reload",
        )),
        "opensnitchd" => Some(Finding::warn(
            "opensnitch",
            format!("{} judges this host's connections by queues, too", process.shown()),
            "see that its queue is another: say --queue-num 100",
        )),
        _ => None,
    };
    let mut found: Vec<Finding> = processes
        .filter_map(|process| {
            // firewalld is a script.
            let script = process.arguments.iter().any(|word| word.ends_with("/firewalld"));
            tell(if script { Process { name: "firewalld".to_owned(), ..process } } else { process })
        })
        .collect();
    found.dedup_by_key(|finding| finding.id);
    found
}

/// Networks of this host that are taken for containers'.
fn overlaps(containers: &[Net], named: bool, own: &[InterfaceAddress]) -> Vec<Finding> {
    let is_container = |address: IpAddr| containers.iter().find(|net| net.contains(address));
    // Who names a network has its gateway on an interface of any name.
    let uplinks = own.iter().filter(|on| !named && !on.is_on_bridge() && !on.address.is_loopback());
    let clash = |on: &InterfaceAddress| {
        let net = is_container(on.address)?;
        Some(Finding::warn(
            "overlap",
            format!(
                "{} has {} within {net}, which is taken for containers'",
                on.interface, on.address
            ),
            "name the networks of containers: --container-net CIDR",
        ))
    };
    let found: Vec<Finding> = uplinks.filter_map(clash).collect();
    if found.is_empty() {
        let nets: Vec<String> = containers.iter().map(ToString::to_string).collect();
        let are = if nets.len() == 1 { "is" } else { "are" };
        let what = format!("{} {are} containers' alone", nets.join(", "));
        return vec![Finding::ok("overlap", what)];
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::State;
    use super::*;

    #[test]
    fn a_queue_of_another_is_told_with_a_free_one() {
        let config = crate::config::load(None, crate::config::Options::default()).unwrap();
        let me = Process::of(std::process::id()).unwrap();
        let counters = |queue| Counters { queue, port: std::process::id(), ..Counters::default() };
        let found = queues(&config, &[counters(0), counters(7)], None);
        assert_eq!(
            (found[0].state, found[0].advice.as_deref()),
            (State::Fail, Some("stop it, or say --queue-num 8"))
        );
        assert!(found[0].what.contains(&me.shown()), "{}", found[0].what);
        assert_eq!(queues(&config, &[counters(0)], Some(&me))[0].state, State::Ok, "our own");
        let other = queues(&config, &[counters(3)], None);
        assert_eq!((other[0].state, other[1].id), (State::Ok, "queue-others"));
    }

    #[test]
    fn other_firewalls_are_told() {
        let drops = Some("DEFAULT_FORWARD_POLICY=\"DROP\"\n");
        assert_eq!(ufw(Some("ENABLED=yes\n"), drops).state, State::Warn);
        assert_eq!(ufw(Some("ENABLED=no\n"), drops).state, State::Ok);
        assert_eq!(ufw(Some("# ENABLED=yes\n"), drops).state, State::Ok);
        assert_eq!(ufw(None, None).state, State::Ok);
        let process = |name: &str, argument: &str| Process {
            pid: 1,
            name: name.to_owned(),
            arguments: vec![argument.to_owned()],
        };
        let found = others(
            [
                process("python3", "/usr/sbin/firewalld"),
                process("opensnitchd", ""),
                process("sh", ""),
            ]
            .into_iter(),
        );
        assert_eq!(
            found.iter().map(|finding| finding.id).collect::<Vec<_>>(),
            ["firewalld", "opensnitch"]
        );
    }

    #[test]
    fn an_uplink_among_guessed_networks_is_told() {
        let on = |interface: &str, address: &str| InterfaceAddress {
            interface: interface.to_owned(),
            address: address.parse().unwrap(),
            prefix: 16,
        };
        let pool: Vec<Net> = vec!["172.16.0.0/12".parse().unwrap()];
        let host = [on("lo", "127.0.0.1"), on("docker0", "172.17.0.1"), on("eth0", "172.20.1.5")];
        assert_eq!(overlaps(&pool, false, &host)[0].state, State::Warn);
        assert_eq!(overlaps(&pool, false, &host[..2])[0].state, State::Ok);
        assert_eq!(overlaps(&pool, true, &host)[0].state, State::Ok, "the user knows");
    }
}
