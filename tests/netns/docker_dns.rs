//! A dnsmasq in a container, on a real engine: its log is the evidence, and nothing keeps it from its upstreams.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use serde_json::Value;

use super::docker_stand::{OWN_NET, knows_the_engine, start};
use super::lab::daemon::Daemon;
use super::lab::dns::{Over, Reply, dns_ask, qtype, upstream, zone};
use super::lab::engine::Engine;
use super::lab::engine::run::Run;
use super::lab::net::connect_from;
use super::lab::serve::{Server, everywhere};
use super::lab::wire::{Seen, Wire};
use super::lab::{DNS4, Lab, Side, at, eventually, retry_until};
use super::sets_cli::json;
use super::stand::{LATER, PORT, SOON, is_verdict_on, waiting};

const RESOLVER: Ipv4Addr = Ipv4Addr::new(10, 55, 0, 53);
const SOURCE: &str = "docker:names";
/// A port for DNS that no rule knows.
const ODD: u16 = 5353;
/// Who is asked for this says who answers.
const WHO: &str = "who.example";
const THE_RESOLVER: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 77));
const THE_UPSTREAM: IpAddr = IpAddr::V4(Ipv4Addr::new(203, 0, 113, 78));

/// The n-th server, which the upstream knows as `wN.example`.
fn server(n: u8) -> IpAddr {
    [203, 0, 113, 100 + n].into()
}

fn name(n: u8) -> String {
    format!("w{n}.example")
}

/// The dnsmasq in its container.
fn resolver() -> Run {
    let up = format!("--server={DNS4}");
    let odd = format!("--server=/odd.example/{DNS4}#{ODD}");
    let who = zone::host(WHO, THE_RESOLVER);
    Run::new("names").image("dnsmasq").network("own").at(RESOLVER).command(&[
        "dnsmasq",
        "--keep-in-foreground",
        "--log-facility=-",
        "--log-queries=extra",
        "--conf-file=/dev/null",
        "--pid-file",
        "--user=root",
        "--no-resolv",
        "--no-hosts",
        &up,
        &odd,
        &who,
    ])
}

/// The resolver and a container that asks it; the daemon comes later.
struct Names {
    engine: Engine,
    far: Wire,
    _servers: Vec<Server>,
    _upstreams: [Daemon; 2],
    lab: Lab,
}

impl Names {
    fn new(name_of_lab: &str, resolver: &Run) -> Names {
        let lab = Lab::new(name_of_lab);
        let hosts = (0..10).map(|n| zone::host(&name(n), server(n)));
        let first = upstream(&lab, hosts.chain([zone::host(WHO, THE_UPSTREAM)]));
        let second = odd_upstream(&lab);
        let tcp = |port| Server::tcp(&lab.srv, &everywhere(port));
        let servers = vec![tcp(PORT), tcp(853)];
        let far = Wire::watch(&lab.srv, "eth0");
        let engine = Engine::start(&lab, &[]);
        engine.import("dnsmasq", &["dnsmasq"]);
        engine.network("own", &OWN_NET);
        engine.run(resolver);
        engine.run(&Run::new("mine").network("own"));
        Names { engine, far, _servers: servers, _upstreams: [first, second], lab }
    }

    fn daemon(&self, args: &[&str]) -> Daemon {
        let daemon = start(&self.lab, SOURCE, &self.engine.host(), args);
        daemon.ready();
        knows_the_engine(&daemon, 0);
        reads(&daemon, 0);
        daemon
    }

    /// Asks until there is an answer: a resolver that starts has none.
    fn ask(&self, n: u8) {
        let ask = || self.question("mine", RESOLVER.into(), 53, &name(n)).ok();
        let reply = retry_until(LATER, ask).expect("the resolver answers");
        assert_eq!(reply.addresses(), [server(n)]);
    }

    fn question(&self, from: &str, to: IpAddr, port: u16, name: &str) -> io::Result<Reply> {
        let any = at(Ipv4Addr::UNSPECIFIED, 0);
        dns_ask(&self.engine.ns(from), any, at(to, port), name, qtype::A, Over::Udp)
    }

    fn dial(&self, container: &str, dst: IpAddr, port: u16) -> io::Result<Duration> {
        let from = self.engine.place(container, "own").v4;
        let tried = connect_from(&self.engine.ns(container), at(from, 0), at(dst, port), SOON);
        tried.map(|(_, took)| took)
    }

    /// The daemon has read each of these lines, and each once.
    fn has_read(&self, lines: usize, daemon: &Daemon) {
        let read = || json(&self.lab, &["status"]).1["evidence"]["lines"].as_u64().unwrap_or(0);
        eventually("all lines are read", LATER, || read() >= lines as u64);
        assert_eq!(read(), lines as u64, "each line once\n{}", daemon.story());
    }
}

/// A second name server, on the odd port.
fn odd_upstream(lab: &Lab) -> Daemon {
    let mut command = lab.srv.command("dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file", "--user=root"]);
    command.args(["--no-resolv", "--no-hosts", "--bind-interfaces", "--local-ttl=60"]);
    command.args([format!("--listen-address={DNS4}"), format!("--port={ODD}")]);
    command.arg(zone::host("www.odd.example", server(0)));
    let running = Daemon::start(&lab.srv, command);
    let any = at(Ipv4Addr::UNSPECIFIED, 0);
    let ask = || dns_ask(&lab.srv, any, at(DNS4, ODD), "www.odd.example", qtype::A, Over::Udp).ok();
    retry_until(LATER, ask).expect("it answers");
    running
}

/// Waits until the source is read, after a mark.
#[track_caller]
fn reads(daemon: &Daemon, mark: u64) {
    let is = |e: &Value| e["what"] == "source" && message(e).ends_with("is read");
    let found = daemon.feed().wait_after(mark, is, LATER);
    assert!(found.is_some(), "the source is not read\n{}", daemon.story());
}

fn message(event: &Value) -> &str {
    event["message"].as_str().unwrap_or_default()
}

fn record(daemon: &Daemon, n: u8) -> Value {
    let is = |e: &Value| e["event"] == "record" && e["name"] == name(n).as_str();
    daemon.expect_event(&format!("record of {}", name(n)), is, LATER)
}

#[test]
fn a_resolver_in_a_container_is_evidence_from_what_it_logged_before_us_on() {
    let names = Names::new("ddns", &resolver());
    names.ask(0);
    let daemon = names.daemon(&["--hold-ms", "900", "--scope", "container"]);
    // What was asked before the first start is known, and it is told that it was read.
    for part in ["reading 48 h of the log of container names", "read 48 h of the log"] {
        daemon.expect_event(part, |e| e["what"] == "source" && message(e).contains(part), SOON);
    }
    names.dial("mine", server(0), PORT).expect("asked for before we came");
    let event = daemon.expect_event("verdict", |e| is_verdict_on(e, at(server(0), PORT)), SOON);
    assert_eq!((&event["container"], &event["held_us"]), (&"mine".into(), &0.into()), "{event}");

    // What is asked for now releases the packet that waits for it.
    std::thread::scope(|scope| {
        let dialled = scope.spawn(|| names.dial("mine", server(1), PORT));
        eventually("the packet is held", SOON, || waiting(&names.lab) == 1);
        names.ask(1);
        dialled.join().unwrap().expect("released");
    });
    let event = daemon.expect_event("verdict", |e| is_verdict_on(e, at(server(1), PORT)), SOON);
    assert_eq!((&event["verdict"], &event["grade"]), (&"accept".into(), &"own".into()), "{event}");
    assert!(event["held_us"].as_u64() > Some(0), "{event}");
    let told = record(&daemon, 1);
    let mine = names.engine.place("mine", "own").v4.to_string();
    assert_eq!((&told["client"], &told["container"]), (&mine.into(), &Value::Null), "{told}");

    names.dial("mine", server(2), PORT).expect_err("nobody asked for it");
    assert_eq!(names.far.count_settled(&names.lab, Side::Srv, to(server(2), PORT)), 0);
}

fn to(dst: IpAddr, port: u16) -> impl Fn(&Seen) -> bool {
    move |packet| packet.dst == at(dst, port)
}

#[test]
fn a_resolver_that_goes_and_comes_back_is_read_on_without_a_gap_or_a_repetition() {
    let names = Names::new("ddnsback", &resolver());
    names.ask(0);
    let daemon = names.daemon(&["--hold-ms", "200"]);
    record(&daemon, 0);
    names.has_read(names.engine.log_lines("names"), &daemon);

    // Asked for as soon as it answers, whether it is read again already or not.
    let mark = daemon.feed().mark();
    names.engine.restart("names");
    names.ask(1);
    record(&daemon, 1);
    reads(&daemon, mark);
    let lines = names.engine.log_lines("names");
    names.has_read(lines, &daemon);

    let mark = daemon.feed().mark();
    names.engine.remove("names");
    names.engine.run(&resolver());
    names.ask(2);
    record(&daemon, 2);
    reads(&daemon, mark);
    names.ask(3);
    record(&daemon, 3);
    names.has_read(lines + names.engine.log_lines("names"), &daemon);
    for n in 0..4 {
        names.dial("mine", server(n), PORT).expect("known");
    }

    // A daemon that comes back goes on from its mark.
    assert!(daemon.stop().status.success());
    names.ask(4);
    let daemon = names.daemon(&["--hold-ms", "200"]);
    record(&daemon, 4);
    for n in 0..5 {
        names.dial("mine", server(n), PORT).expect("known");
    }
    let again = |e: &Value| message(e).contains("of the log of container");
    assert_eq!(daemon.feed().count(again), 0, "no history: {}", daemon.story());
    names.dial("mine", server(5), PORT).expect_err("nobody asked for it");
}

#[test]
fn a_log_that_is_read_again_credits_nobody_with_what_another_asked_for() {
    let names = Names::new("ddnsheir", &resolver());
    names.engine.run(&Run::new("stays").network("own"));
    let args = ["--hold-ms", "200", "--scope", "container"];
    let daemon = names.daemon(&args);
    names.ask(6);
    names.question("stays", RESOLVER.into(), 53, &name(7)).expect("answered");
    for n in [6, 7] {
        record(&daemon, n);
    }
    names.dial("mine", server(6), PORT).expect("its own look-up");
    let address = names.engine.place("mine", "own").v4;
    assert!(daemon.stop().status.success());
    names.engine.remove("mine");
    names.engine.run(&Run::new("heir").network("own").at(address));
    // The last seconds before its mark are read again.
    let daemon = names.daemon(&args);
    assert!(json(&names.lab, &["status"]).1["evidence"]["lines"].as_u64() > Some(0));
    names.dial("stays", server(7), PORT).expect("still its own");
    names.dial("heir", server(6), PORT).expect_err("another's look-up");
    let event = daemon.expect_event("verdict", |e| is_verdict_on(e, at(server(6), PORT)), SOON);
    let told = (&event["reason"], &event["container"]);
    assert_eq!(told, (&"out-of-scope".into(), &"heir".into()), "{event}");
    names.question("heir", RESOLVER.into(), 53, &name(8)).expect("answered");
    record(&daemon, 8);
    names.dial("heir", server(8), PORT).expect("its own look-up");
}

/// The resolver reaches what it likes, and a container beside it does not.
fn is_never_cut_off(name_of_lab: &str, args: &[&str]) {
    let resolver = resolver()
        .label("synhold.mode", "enforce")
        .label("synhold.refuse", "drop")
        .label("synhold.allow", "198.51.100.1");
    let names = Names::new(name_of_lab, &resolver);
    let fixed = ["--hold-ms", "200", "--trust-labels", "--refuse-dot"];
    let daemon = names.daemon(&[&fixed[..], args].concat());
    let upstream = IpAddr::from(DNS4);

    let who = names.question("mine", upstream, 53, WHO).expect("answered").addresses();
    assert_eq!(who, [if args.is_empty() { THE_UPSTREAM } else { THE_RESOLVER }]);
    // The control: nobody ever resolved the upstream, so others do not get there.
    let odd = names.question("mine", upstream, ODD, "www.odd.example");
    odd.expect_err("another container");
    names.dial("mine", upstream, 853).expect_err("another container");
    for port in [ODD, 853] {
        assert_eq!(names.far.count_settled(&names.lab, Side::Srv, to(upstream, port)), 0);
    }

    let reply = names.question("mine", RESOLVER.into(), 53, "www.odd.example").expect("forwarded");
    assert_eq!(reply.addresses(), [server(0)]);
    let odd = names.question("names", upstream, ODD, "www.odd.example").expect("not cut off");
    assert_eq!(odd.addresses(), [server(0)]);
    names.dial("names", upstream, 853).expect("not cut off");
    let reply = names.question("names", upstream, 53, WHO).expect("not cut off");
    assert_eq!(reply.addresses(), [THE_UPSTREAM], "not led to itself");
    let refused = |e: &Value| e["verdict"] == "drop" && e["container"] == "names";
    assert_eq!(daemon.feed().count(refused), 0, "{}", daemon.story());

    // It is so again wherever it comes back.
    names.engine.remove("names");
    names.engine.run(&resolver);
    names.ask(0);
    let odd = names.question("names", upstream, ODD, "www.odd.example").expect("not cut off");
    assert_eq!(odd.addresses(), [server(0)]);
}

#[test]
fn the_resolver_reaches_its_upstreams_whatever_its_labels_say() {
    is_never_cut_off("ddnsup", &[]);
}

#[test]
fn a_redirect_to_the_resolver_leaves_the_resolver_alone() {
    is_never_cut_off("ddnsredir", &["--dns-redirect", &RESOLVER.to_string()]);
}
