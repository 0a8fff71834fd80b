//! The engine of the lab itself: containers with real traffic through the gateway, and nothing left behind.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use super::lab::dns::{Over, Rr, dns_ask, qtype, upstream, zone};
use super::lab::engine::Engine;
use super::lab::engine::run::Run;
use super::lab::net::connect;
use super::lab::serve::{Server, everywhere};
use super::lab::wire::Wire;
use super::lab::{Lab, SRV4, SRV6, Side, at};
use super::stand::{PORT, SOON};

#[test]
fn containers_reach_the_server_through_the_gateway_and_are_reached_by_published_ports() {
    let lab = Lab::new("engine");
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let far = Wire::watch(&lab.srv, "eth0");
    let engine = Engine::start(&lab, &[]);
    engine.network("own", &["10.55.0.0/24", "fd55::/64"]);

    for (name, network) in [("plain", "bridge"), ("other", "own")] {
        engine.run(
            &Run::new(name).network(network).publish(if name == "plain" { 81 } else { 82 }, PORT),
        );
        let near = Wire::watch(&lab.gw, &engine.interface(network));
        let (ns, place) = (engine.ns(name), engine.place(name, network));
        for server in [IpAddr::from(SRV4), SRV6.into()] {
            connect(&ns, at(server, PORT), SOON).expect("through");
            let source = place.like(server);
            let syn =
                near.wait_for(|p| p.is_syn_to(at(server, PORT)), SOON).expect("a first packet");
            assert_eq!(syn.src.ip(), source, "{name}: from the container's own address");
        }
        assert_eq!(far.count_settled(&lab, Side::Srv, |p| p.is_syn_to(at(SRV4, PORT))), 1);
        far.clear();
        // In from outside, to the gateway's own address.
        let _inside = Server::tcp(&ns, &everywhere(PORT));
        let port = if name == "plain" { 81 } else { 82 };
        connect(&lab.srv, at([192, 0, 2, 1], port), SOON).expect("published");
    }
}

#[test]
fn the_command_of_a_container_sends_its_first_packet_at_once() {
    let lab = Lab::new("firstrun");
    let server = Server::tcp(&lab.srv, &everywhere(PORT));
    let engine = Engine::start(&lab, &[]);
    engine.run(&Run::new("quick").shell(&format!("echo hi | nc -w 5 {SRV4} {PORT}")));
    assert_eq!(engine.wait("quick"), 0, "{}", engine.log());
    assert_eq!(server.served(), 1);
}

#[test]
fn names_resolve_by_the_engines_resolver_and_directly() {
    let lab = Lab::new("engdns");
    let _upstream = upstream(&lab, [zone::host("web.example", SRV4)]);
    let engine = Engine::start(&lab, &[]);
    engine.network("own", &["10.55.0.0/24"]);
    engine.run(&Run::new("near").network("own"));
    let (ns, any) = (engine.ns("near"), at(Ipv4Addr::UNSPECIFIED, 0));
    for resolver in [IpAddr::from([127, 0, 0, 11]), super::lab::DNS4.into()] {
        for over in [Over::Udp, Over::Tcp] {
            let reply = dns_ask(&ns, any, at(resolver, 53), "web.example", qtype::A, over);
            let reply = reply.unwrap_or_else(|e| panic!("{resolver} {over:?}: {e}"));
            assert_eq!(reply.answers, [Rr::Address(SRV4.into())], "{resolver} {over:?}");
        }
    }
}

#[test]
fn an_engine_is_killed_stopped_and_started_again() {
    let lab = Lab::new("enggone");
    let mut engine = Engine::start(&lab, &["--live-restore"]);
    engine.run(&Run::new("lives"));
    let (before, events) = (engine.inspect("lives")["State"]["StartedAt"].clone(), engine.events());
    engine.kill();
    assert!(
        events.wait_for(|_| false, SOON).is_none()
            && engine.try_call("GET", "/_ping", None).is_err()
    );
    engine.start_again();
    assert_eq!(engine.inspect("lives")["State"]["StartedAt"], before);
    engine.ns("lives");
    engine.stop();
    assert!(!engine.socket().exists());
    engine.start_again();
    engine.restart("lives");
    assert_ne!(engine.inspect("lives")["State"]["StartedAt"], before);
}

/// Processes, mounts and control groups that name this lab.
fn traces(lab: &Lab) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for process in fs::read_dir("/proc").expect("processes").flatten() {
        let line = fs::read(process.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).into_owned();
        if line.contains(&format!("{}/engine", lab.dir().display())) {
            found.insert(line);
        }
    }
    let mounts = fs::read_to_string("/proc/mounts").expect("mounts");
    let of_engine = |line: &&str| line.contains(&format!("{}/engine", lab.dir().display()));
    found.extend(mounts.lines().filter(of_engine).map(str::to_owned));
    let top = Path::new("/sys/fs/cgroup");
    let below = fs::read_dir(top).into_iter().flatten().flatten().map(|entry| entry.path());
    let groups = below.chain([top.to_owned()]).map(|folder| folder.join(lab.prefix()));
    found.extend(groups.filter(|group| group.exists()).map(|group| group.display().to_string()));
    found
}

#[test]
fn nothing_is_left_of_an_engine_however_it_ends() {
    let lab = Lab::new("engtrace");
    let there = |path: &str| Path::new(path).exists();
    let places =
        ["/etc/docker", "/run/docker", "/run/containerd", "/var/lib/docker", "/opt/containerd"];
    let before = places.map(there);
    let mut engine = Engine::start(&lab, &[]);
    engine.run(&Run::new("one"));
    assert!(traces(&lab).len() > 3, "{:?}", traces(&lab));
    drop(engine);
    assert_eq!(traces(&lab), BTreeSet::new());
    assert!(!lab.dir().join("engine").exists());

    // With the engine itself killed, its containers' keepers are nobody's children.
    engine = Engine::start(&lab, &["--live-restore"]);
    engine.run(&Run::new("two"));
    engine.kill();
    drop(engine);
    assert_eq!(traces(&lab), BTreeSet::new());
    assert_eq!(places.map(there), before);
}
