//! What a review of the commands found: that they say what the wire does.

use std::net::IpAddr;

use super::docker_stand::{HOLD, Port, config};
use super::lab::at;
use super::lab::engine::run::Run;
use super::sets_cli::json;
use super::stand::{PORT, SOON, synhold};

fn ask(port: &Port, args: &[&str]) -> (i32, String) {
    let state = port.lab.dir().join("state").display().to_string();
    let all = [args, &["--state-dir", &state]].concat();
    let (code, out, err) = synhold(&port.lab, &all);
    (code, format!("{out}{err}"))
}

fn home(port: &Port, container: &str) -> IpAddr {
    port.engine.place(container, "bridge").v4.into()
}

/// A section by image holds for a container although its tag was moved to another image since.
#[test]
fn a_section_by_image_holds_after_the_tag_was_moved() {
    let sections =
        "[[container]]\nimage = \"busybox*\"\nscope = \"container\"\nrefuse = \"drop\"\n";
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path(), sections);
    let port = Port::new("r2tag", &[&HOLD[..], &["--config", &file]].concat());
    let up = port.run("web", &Run::new("web"));
    assert_eq!(up["scope"], "container", "{up}");
    // `docker pull` of a newer image of that name.
    port.engine.import("busybox", &["busybox", "env"]);
    let mark = port.daemon.feed().mark();
    port.engine.restart("web");
    let up = port.told(mark, "up", "web");
    assert_eq!(up["scope"], "container", "{up}");
}

/// `explain` says of a container in quarantine what the wire does, whatever its own mode is.
#[test]
fn explain_of_quarantine_is_what_the_wire_does() {
    let sections = "[[container]]\nname = \"vpn\"\nmode = \"off\"\n[[container]]\nname = \"dry\"\nmode = \"dry-run\"\n";
    let folder = tempfile::tempdir().unwrap();
    let file = config(folder.path(), sections);
    let port = Port::new("r2quar", &[&HOLD[..], &["--config", &file]].concat());
    let mut wrong = Vec::new();
    for name in ["vpn", "dry", "plain"] {
        port.run(name, &Run::new(name));
        ask(&port, &["block", "--container", name]);
        let passed = port.dial(name, home(&port, name), at([203, 0, 113, 9], PORT)).is_ok();
        let (code, text) = ask(&port, &["explain", "203.0.113.9", "--container", name]);
        if (code == 0) != passed || text.contains("no list has") {
            wrong.push(format!(
                "{name}: passed {passed}, explain {code}: {}",
                text.lines().next().unwrap()
            ));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// What the kernel's sets refuse a container is counted as its refusals, and is its last one.
#[test]
fn status_counts_what_the_sets_refuse() {
    let mut port = Port::new("r2count", &HOLD);
    port.run("web", &Run::new("web"));
    let dst = at([203, 0, 113, 77], PORT);
    port.resolve(home(&port, "web"), "good.example", dst.ip());
    ask(&port, &["block", "203.0.113.77"]);
    let mark = port.daemon.feed().mark();
    for _ in 0..3 {
        port.dial("web", home(&port, "web"), dst).expect_err("blocked");
    }
    let event = port.daemon.feed().wait_after(mark, |e| e["event"] == "block", SOON).expect("told");
    assert_eq!(event["container"], "web");
    let (_, status) = json(&port.lab, &["status"]);
    let web = &status["containers"][0];
    println!("{web}");
    assert!(web["refused"].as_u64() > Some(0), "{web}");
    assert_eq!(web["last_refusal"]["dst"], "203.0.113.77");
}

#[test]
fn sets_agree_with_a_quarantine_by_name() {
    let port = Port::new("r2sets", &HOLD);
    port.run("web", &Run::new("web"));
    ask(&port, &["block", "--container", "web"]);
    let (code, text) = ask(&port, &["sets"]);
    assert_eq!(
        code,
        0,
        "{}",
        text.lines().filter(|l| l.contains("quarantine")).collect::<Vec<_>>().join("\n")
    );
}
