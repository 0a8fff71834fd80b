//! Quarantine of a container by its name, on a real engine: it follows the container, not the address.

use std::net::IpAddr;

use serde_json::Value;

use super::docker_stand::{HOLD, OWN_NET, Port};
use super::lab::at;
use super::lab::engine::run::Run;
use super::sets_cli::{fine, json};
use super::stand::{LATER, PORT, members};

const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 20));
/// What the container dials by itself at each start.
const HOME: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 21));

/// The line of the set in `synhold sets`, which finds no difference between lists and kernel.
#[track_caller]
fn quarantine(port: &Port, members_wanted: &[IpAddr]) {
    let (code, all) = json(&port.lab, &["sets"]);
    assert_eq!(code, 0, "no drift: {all}");
    let line = all["sets"].as_array().unwrap().iter().find(|line| line["name"] == "quarantine4");
    let line = line.unwrap();
    let count = members_wanted.len();
    assert_eq!(
        (&line["wanted"], &line["kernel"], &line["drift"]),
        (&count.into(), &count.into(), &false.into()),
        "{line}"
    );
    let wanted = members_wanted.iter().map(ToString::to_string).collect();
    assert_eq!(members(&port.lab, "quarantine4"), wanted);
}

#[test]
fn a_container_in_quarantine_by_name_stays_there_wherever_it_is() {
    let mut port = Port::new("dquar", &HOLD);
    port.engine.network("own", &OWN_NET);
    let (old, new) = (IpAddr::from([10, 55, 0, 2]), IpAddr::from([10, 55, 0, 3]));
    port.resolve(new, "web.example", SERVER);
    port.resolve(new, "home.example", HOME);
    let eager = format!("nc -w 1 {HOME} {PORT} </dev/null; sleep 100000");
    port.run("bad", &Run::new("bad").network("own").shell(&eager));
    assert_eq!(port.engine.place("bad", "own").v4, old);
    let home = at(HOME, PORT);
    port.far.wait_for(|p| p.is_syn_to(home), LATER).expect("the control: not in quarantine");
    port.dial("bad", old, at(SERVER, PORT)).expect("not in quarantine");
    let passed = port.passed(home);

    let said = fine(&port.lab, &["block", "--container", "bad", "--note", "calls home"]);
    assert!(said.contains("bad"), "{said}");
    port.dial("bad", old, at(SERVER, PORT)).expect_err("in quarantine");
    quarantine(&port, &[old]);
    let (_, shown) = json(&port.lab, &["sets", "show", "quarantine4"]);
    let element = &shown["sets"][0]["elements"][0];
    let told = (&element["element"], &element["container"], &element["entries"][0]["note"]);
    let wanted = (&old.to_string().into(), &"bad".into(), &"calls home".into());
    assert_eq!(told, wanted, "{element}");

    // It starts again elsewhere, and its first packet is refused too.
    port.engine.stop_container("bad");
    port.run("heir", &Run::new("heir").network("own"));
    assert_eq!(port.engine.place("heir", "own").v4, old, "the address it had");
    let mark = port.daemon.feed().mark();
    port.engine.start_container("bad");
    assert_eq!(port.engine.place("bad", "own").v4, new, "another address");
    let is = |e: &Value| e["event"] == "block" && e["src"] == new.to_string().as_str();
    let event = port.daemon.feed().wait_after(mark, is, LATER).expect("its first packet met it");
    assert_eq!((&event["container"], &event["dst"]), (&"bad".into(), &HOME.to_string().into()));
    assert_eq!(port.passed(home), passed, "not one more");
    port.dial("bad", new, at(SERVER, PORT)).expect_err("in quarantine");
    port.dial("heir", old, at(SERVER, PORT)).expect("who has its old address is not");
    quarantine(&port, &[new]);

    // Made again under its name it is the same to us.
    port.engine.remove("bad");
    quarantine_is(&port, 0);
    port.run("bad", &Run::new("bad").network("own"));
    port.dial("bad", new, at(SERVER, PORT)).expect_err("in quarantine");
    quarantine(&port, &[new]);

    fine(&port.lab, &["unblock", "--container", "bad"]);
    quarantine(&port, &[]);
    port.dial("bad", new, at(SERVER, PORT)).expect("out of quarantine");
}

/// Waits until so many addresses are in quarantine.
fn quarantine_is(port: &Port, count: usize) {
    let found = || (members(&port.lab, "quarantine4").len() == count).then_some(());
    super::lab::retry_until(LATER, found).expect("the set follows");
}
