//! `synhold registry` through a running daemon.

use std::fs;

use serde_json::Value;

use super::lab::net::connect;
use super::lab::{CT2_4, CT4, SRV4, at};
use super::stand::{PORT, SOON, Stand, assert_refused, synhold};

fn registry(stand: &Stand, args: &[&str]) -> (i32, String, String) {
    let state = stand.lab.dir().join("state");
    let place = ["--state-dir", state.to_str().unwrap()];
    synhold(&stand.lab, &[&["registry"][..], args, &place].concat())
}

#[track_caller]
fn json(stand: &Stand, args: &[&str]) -> Value {
    let (_, out, err) = registry(stand, &[args, &["--json"]].concat());
    serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}{err}"))
}

#[test]
fn a_running_daemon_is_asked_and_changed() {
    let mut stand = Stand::new("regcli", &["--hold-ms", "200"]);
    stand.resolve(CT4.into(), "web.example", SRV4.into());
    let server = SRV4.to_string();
    let grade = |container: &str| {
        json(&stand, &["lookup", &server, "--container", container])["addresses"][0]["grade"]
            .clone()
    };
    assert_eq!(grade(&CT4.to_string()), "own");
    assert_eq!(grade(&CT2_4.to_string()), "other");
    let (code, out, err) = registry(&stand, &["lookup", "web.example"]);
    assert_eq!(code, 0, "{out}{err}");
    assert!(out.contains(&server) && out.contains(&CT4.to_string()), "{out}");
    let stats = json(&stand, &["stats"]);
    assert_eq!((&stats["addresses"], &stats["disk"]["ok"]), (&1.into(), &true.into()), "{stats}");

    // What it knows is in the export at once, not a second later.
    stand.resolve(CT4.into(), "late.example", "198.51.100.7".parse().unwrap());
    let file = stand.lab.dir().join("out.json");
    let (code, _, err) = registry(&stand, &["export", file.to_str().unwrap()]);
    assert_eq!(code, 0, "{err}");
    assert!(fs::read_to_string(&file).unwrap().contains("late.example"));

    connect(&stand.lab.ct, at(SRV4, PORT), SOON).expect("the control: known");
    let (code, out, _) = registry(&stand, &["forget", "web.example"]);
    assert_eq!((code, out.trim()), (0, format!("forgotten: {server}").as_str()));
    assert_refused(&stand.lab.ct2, at(SRV4, PORT));

    // More than fits one question.
    let many: Vec<String> =
        (0..3_000).map(|n| format!(r#""2001:db8::{n:x}": ["n{n}.example"]"#)).collect();
    let big = stand.lab.dir().join("big.json");
    fs::write(&big, format!("{{{}}}", many.join(","))).unwrap();
    let counts = json(&stand, &["import", big.to_str().unwrap()]);
    assert_eq!(counts["new"], 3_000, "{counts}");
    let counts = json(&stand, &["import", file.to_str().unwrap()]);
    assert_eq!((&counts["new"], &counts["known"]), (&1.into(), &1.into()), "{counts}");
    stand.resolve(CT4.into(), "web.example", SRV4.into());
    assert!(stand.daemon.stop().status.success());
}
