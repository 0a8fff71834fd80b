//! A hundred running containers: how soon one more is known, measured and printed, not judged.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Instant;

use serde_json::Value;

use super::docker_stand::{HOLD, Port};
use super::lab::at;
use super::lab::engine::run::Run;
use super::stand::{LATER, PORT, is_verdict_on};

const RUNNING: u32 = 100;
const MORE: u8 = 10;

/// Seconds since the epoch, of an event of ours.
fn time(event: &Value) -> f64 {
    let text = event["ts"].as_str().expect("a time");
    let stamp = humantime::parse_rfc3339(text).expect("a time");
    stamp.duration_since(std::time::UNIX_EPOCH).expect("later").as_secs_f64()
}

#[test]
fn a_container_among_a_hundred_is_known_by_its_first_packet() {
    let port = Port::new("dhundred", &HOLD);
    port.engine.network("own", &["10.55.0.0/16"]);
    let start = Instant::now();
    let run = |numbers: std::ops::Range<u32>| {
        for n in numbers {
            port.engine.run(&Run::new(&format!("idle{n}")).network("own"));
        }
    };
    std::thread::scope(|scope| {
        scope.spawn(|| run(0..RUNNING / 2));
        scope.spawn(|| run(RUNNING / 2..RUNNING));
    });
    println!("{RUNNING} containers started in {:.1?}", start.elapsed());
    let ups = |e: &Value| e["event"] == "container" && e["what"] == "up";
    assert_eq!(port.daemon.feed().wait_count(RUNNING as usize, ups, LATER), RUNNING as usize);

    let events = port.engine.events();
    let mut known: BTreeMap<String, f64> = BTreeMap::new();
    for n in 0..MORE {
        let (name, dst) = (format!("more{n}"), at(IpAddr::from([203, 0, 113, n]), PORT));
        let line = format!("nc -w 1 {} {PORT} </dev/null; sleep 100000", dst.ip());
        let mark = port.daemon.feed().mark();
        port.engine.run(&Run::new(&name).network("own").shell(&line));
        let up = port.told(mark, "up", &name);
        let verdict = port.daemon.expect_event("verdict", |e| is_verdict_on(e, dst), LATER);
        port.assert_named(&verdict, &name);
        let id = port.engine.inspect(&name)["Id"].clone();
        let is = |e: &Value| e["Action"] == "start" && e["Actor"]["ID"] == id;
        let event = events.wait_for(is, LATER).expect("its start");
        let started = event["timeNano"].as_f64().expect("a time") / 1e9;
        known.insert(name, (time(&up) - started) * 1e3);
    }
    let mut late: Vec<f64> = known.into_values().collect();
    late.sort_by(f64::total_cmp);
    println!(
        "known after its start event, in ms (less than nothing: before): median {:.1}, most {:.1}",
        late[late.len() / 2],
        late[late.len() - 1]
    );
}
