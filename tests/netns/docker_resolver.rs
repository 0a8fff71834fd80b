//! Whose look-up it was, on a real engine: directly, through the engine's resolver, and where that hides the asker.

use std::net::{IpAddr, Ipv4Addr};

use serde_json::Value;

use super::docker_stand::{OWN_NET, knows_the_engine, start};
use super::lab::daemon::Daemon;
use super::lab::dns::{Over, dns_ask, qtype, upstream, zone};
use super::lab::engine::Engine;
use super::lab::engine::run::Run;
use super::lab::net::connect_from;
use super::lab::serve::{Server, everywhere};
use super::lab::{DNS4, Lab, SRV4, SRV6, at};
use super::stand::{PORT, SOON, is_verdict_on};

/// Where our own dnsmasq listens: the default bridge, which all containers reach.
const OURS: IpAddr = IpAddr::V4(Ipv4Addr::new(172, 17, 0, 1));
const EMBEDDED: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 11));

/// A daemon with its own dnsmasq on the default bridge, where only a container's own look-ups count.
struct Names {
    daemon: Daemon,
    engine: Engine,
    _servers: [Server; 2],
    _upstream: Daemon,
    lab: Lab,
}

impl Names {
    fn new(name: &str, resolver: &str, engine: &[&str], args: &[&str]) -> Names {
        let lab = Lab::new(name);
        let servers = [("web.example", IpAddr::from(SRV4)), ("web.example", SRV6.into())];
        let upstream = upstream(&lab, servers.map(|(name, at)| zone::host(name, at)));
        let servers =
            [Server::tcp(&lab.srv, &everywhere(PORT)), Server::udp(&lab.srv, &everywhere(PORT))];
        let engine = Engine::with_resolver(&lab, resolver, engine);
        engine.network("own", &OWN_NET);
        engine.run(&Run::new("other"));
        let (ours, up) = (OURS.to_string(), DNS4.to_string());
        let fixed = ["--hold-ms", "200", "--scope", "container", "--dns-listen", &ours];
        let all = [&fixed[..], &["--dns-upstream", &up], args].concat();
        let daemon = start(&lab, "spawn", &engine.host(), &all);
        daemon.ready();
        knows_the_engine(&daemon, 0);
        Names { daemon, engine, _servers: servers, _upstream: upstream, lab }
    }

    fn ask(&self, container: &str, resolver: IpAddr, kind: u16) {
        let any = at(Ipv4Addr::UNSPECIFIED, 0);
        let ns = self.engine.ns(container);
        dns_ask(&ns, any, at(resolver, 53), "web.example", kind, Over::Udp).expect("answered");
    }

    fn dial(&self, container: &str, from: IpAddr, to: IpAddr) -> Value {
        let mark = self.daemon.feed().mark();
        let dst = at(to, PORT);
        let tried = connect_from(&self.engine.ns(container), at(from, 0), dst, SOON);
        let from = from.to_string();
        let is = |e: &Value| is_verdict_on(e, dst) && e["src"] == from.as_str();
        let event = self.daemon.feed().wait_after(mark, is, SOON);
        let event = event.unwrap_or_else(|| panic!("no verdict\n{}", self.daemon.story()));
        assert_eq!(tried.is_ok(), event["verdict"] == "accept", "{event}");
        event
    }

    /// After a look-up by `container`, both its families pass, and nobody else's do.
    fn only_its_own(&self, container: &str, network: &str) {
        let (mine, other) =
            (self.engine.place(container, network), self.engine.place("other", "bridge"));
        for to in [IpAddr::from(SRV4), SRV6.into()] {
            let event = self.dial(container, mine.like(to), to);
            assert_eq!(
                (&event["verdict"], &event["grade"]),
                (&"accept".into(), &"own".into()),
                "{event}"
            );
            let event = self.dial("other", other.like(to), to);
            assert_eq!(event["reason"], "out-of-scope", "{event}");
        }
    }
}

#[test]
fn a_direct_look_up_counts_for_the_container_in_both_families() {
    let names = Names::new("ddirect", &DNS4.to_string(), &[], &[]);
    names.engine.run(&Run::new("mine"));
    for kind in [qtype::A, qtype::AAAA] {
        names.ask("mine", OURS, kind);
    }
    names.only_its_own("mine", "bridge");
}

#[test]
fn a_look_up_through_the_engines_resolver_counts_for_the_container() {
    // What the documentation tells to set: "dns" in daemon.json.
    let names = Names::new("dembedded", &DNS4.to_string(), &["--dns", &OURS.to_string()], &[]);
    names.engine.run(&Run::new("mine").network("own"));
    for kind in [qtype::A, qtype::AAAA] {
        names.ask("mine", EMBEDDED, kind);
    }
    names.only_its_own("mine", "own");
}

#[test]
fn in_two_networks_it_is_one_container() {
    let names = Names::new("dboth", &DNS4.to_string(), &["--dns", &OURS.to_string()], &[]);
    names.engine.network("second", &["10.56.0.0/24"]);
    names.engine.run(&Run::new("mine").network("own"));
    names.engine.connect("second", "mine");
    names.ask("mine", EMBEDDED, qtype::A);
    names.engine.ns("mine").ip(&format!("route add {SRV4}/32 via 10.56.0.1\n"));
    let from: IpAddr = names.engine.place("mine", "second").v4.into();
    let event = names.dial("mine", from, SRV4.into());
    assert_eq!((&event["verdict"], &event["grade"]), (&"accept".into(), &"own".into()), "{event}");
}

#[test]
fn where_the_host_asks_for_the_container_the_asker_is_unknown() {
    // The engine's resolver asks a resolver on the host's loopback, itself.
    let loopback = ["--dns-listen", "127.0.0.1"];
    let names = Names::new("dhostasks", "127.0.0.1", &[], &loopback);
    names.engine.run(&Run::new("mine").network("own"));
    names.ask("mine", EMBEDDED, qtype::A);
    let is = |e: &Value| e["event"] == "record" && e["name"] == "web.example";
    let record = names.daemon.expect_event("record", is, SOON);
    assert_eq!(record["client"], "127.0.0.1", "{record}");
    let from: IpAddr = names.engine.place("mine", "own").v4.into();
    let event = names.dial("mine", from, SRV4.into());
    assert_eq!((&event["reason"], &event["container"]), (&"out-of-scope".into(), &"mine".into()));
}

#[test]
fn redirected_look_ups_count_for_the_container_that_asked() {
    let names = Names::new("dredirect", &DNS4.to_string(), &[], &["--dns-redirect", "172.17.0.1"]);
    for (name, network, resolver) in
        [("plain", "bridge", IpAddr::from(DNS4)), ("mine", "own", EMBEDDED)]
    {
        names.engine.run(&Run::new(name).network(network));
        names.ask(name, resolver, qtype::A);
        let from: IpAddr = names.engine.place(name, network).v4.into();
        let event = names.dial(name, from, SRV4.into());
        assert_eq!(
            (&event["verdict"], &event["grade"]),
            (&"accept".into(), &"own".into()),
            "{event}"
        );
    }
    let other: IpAddr = names.engine.place("other", "bridge").v4.into();
    assert_eq!(names.dial("other", other, SRV4.into())["reason"], "out-of-scope");
    assert!(names.lab.gw.ruleset().contains("dns_redirect"));
}
