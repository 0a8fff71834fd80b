//! A boot: the daemon is up before the engine, which starts its containers before it answers anybody.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::docker_stand::{HOLD, OWN_NET, knows_the_engine, misses_the_engine, start};
use super::lab::engine::Engine;
use super::lab::engine::run::Run;
use super::lab::serve::{Server, everywhere};
use super::lab::wire::Wire;
use super::lab::{Lab, Side, at};
use super::stand::{DnsLog, PORT, STARTED, is_verdict_on};

#[test]
fn containers_that_start_with_their_engine_are_judged_from_their_first_packet() {
    let lab = Lab::new("dboot");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let _server = Server::tcp(&lab.srv, &everywhere(PORT));
    let mut engine = Engine::start(&lab, &[]);
    engine.network("own", &OWN_NET);
    let mut dead: Vec<IpAddr> = Vec::new();
    for (n, network) in [(150, "bridge"), (151, "own")] {
        let dst: IpAddr = [203, 0, 113, n].into();
        let line = format!("while :; do nc -w 1 {dst} {PORT} </dev/null; done");
        let mut run = Run::new(&format!("always{n}")).network(network).shell(&line);
        run.body["HostConfig"]["RestartPolicy"] = json!({ "Name": "always" });
        engine.run(&run);
        dead.push(dst);
    }
    // The host goes down, as far as containers and their bridges are concerned, and comes up again: first the daemon.
    engine.stop();
    let own = lab.gw.ip("link show\n");
    for line in own.lines().filter(|l| l.contains(": br-") || l.contains(": docker0")) {
        let name = line.split(": ").nth(1).unwrap().split('@').next().unwrap().to_owned();
        lab.gw.ip(&format!("link del {name}\n"));
    }
    let far = Wire::watch(&lab.srv, "eth0");
    let daemon = start(&lab, &format!("file:{}", log.path.display()), &engine.host(), &HOLD);
    daemon.ready();
    misses_the_engine(&daemon, 0);
    let mark = daemon.feed().mark();
    engine.start_again();
    knows_the_engine(&daemon, mark);
    for dst in &dead {
        let is = |e: &Value| is_verdict_on(e, at(*dst, PORT));
        daemon.expect_event("verdict", is, super::stand::LATER);
    }
    let passed: Vec<usize> = dead
        .iter()
        .map(|dst| far.count_settled(&lab, Side::Srv, |p| p.is_syn_to(at(*dst, PORT))))
        .collect();
    assert_eq!(passed, [0, 0], "{}", daemon.story());
}

#[test]
fn who_misses_the_engine_says_that_what_was_remembered_and_found_is_judged() {
    let lab = Lab::new("dmissed");
    let mut log = DnsLog::create(&lab.dir().join("dnsmasq.log"));
    log.write(STARTED);
    let state = lab.dir().join("state");
    std::fs::create_dir_all(&state).expect("state directory");
    let kept = json!({ "version": 1, "networks": ["10.77.0.0/16"] });
    std::fs::write(state.join("networks.json"), kept.to_string()).expect("write");
    lab.gw.ip("link add docker0 type bridge\naddr add 10.78.0.1/16 dev docker0\n");
    let nobody = format!("unix://{}", lab.dir().join("nobody.sock").display());
    let source = format!("file:{}", log.path.display());
    let daemon = start(&lab, &source, &nobody, &["--container-net", "10.79.0.0/16"]);
    daemon.ready();
    let told = misses_the_engine(&daemon, 0)["message"].to_string();
    for net in ["10.77.0.0/16", "10.78.0.0/16", "10.79.0.0/16"] {
        assert!(told.contains(net), "{told}");
    }
}
