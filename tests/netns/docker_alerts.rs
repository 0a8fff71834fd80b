//! Alerts and metrics name containers, on a real engine.

use std::net::IpAddr;

use serde_json::Value;

use super::docker_stand::{HOLD, OWN_NET, Port, config};
use super::lab::engine::run::Run;
use super::lab::{DEAD4, at, eventually};
use super::metrics::{scrape, value};
use super::stand::{LATER, PORT};

#[test]
fn a_container_that_dials_is_named_with_its_image_and_counted_while_it_runs() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("alerts.jsonl");
    let sink = format!(
        "[[alert]]\nkind = \"command\"\non = [\"never-resolved\"]\ncommand = [\"/bin/sh\", \"-c\", \"cat >> {0}; echo >> {0}\"]\n",
        file.display()
    );
    let config = config(folder.path(), &sink);
    let args = ["--metrics", "127.0.0.1:9753", "--config", &config];
    let mut port = Port::new("dalert", &[&HOLD[..], &args].concat());
    port.engine.network("own", &OWN_NET);
    let from = IpAddr::from([10, 55, 0, 2]);
    port.run("bad", &Run::new("bad").network("own"));
    let server = at([203, 0, 113, 20], PORT);
    port.resolve(from, "web.example", server.ip());
    port.dial("bad", from, server).expect("it is resolved");
    port.dial("bad", from, at(DEAD4, PORT)).expect_err("nobody resolved it");
    let told = || -> Vec<Value> {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    };
    eventually("it is told", LATER, || !told().is_empty());
    let alert = told().remove(0);
    let inspected = port.engine.inspect("bad");
    assert_eq!((&alert["container"], &alert["container_id"]), (&"bad".into(), &inspected["Id"]));
    assert_eq!(alert["image"], inspected["Config"]["Image"], "{alert}");
    let advice = format!("synhold explain {DEAD4} --container bad");
    assert_eq!(alert["advice"], advice.as_str());

    let count = |page: &[Value], what: &str| {
        let name = format!("synhold_container_{what}_packets_total");
        value(page, &name, &[("container", "bad")])
    };
    let page = scrape(&port.lab.gw);
    assert_eq!((count(&page, "accepted"), count(&page, "refused")), (Some(1.0), Some(1.0)));
    assert_eq!(value(&page, "synhold_docker_up", &[]), Some(1.0));
    assert_eq!(value(&page, "synhold_containers", &[]), Some(1.0));
    port.engine.remove("bad");
    eventually("it is gone", LATER, || count(&scrape(&port.lab.gw), "accepted").is_none());
}
