//! `synhold registry` on files, where no daemon runs.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use serde_json::Value;
use tempfile::TempDir;

use super::support::{synhold, text};

const EXPORT: &str = r#"{"version":2,"addresses":{
"203.0.113.9":[{"name":"shop.example","first":1764000000,"last":1764003600,"kind":"reply","chain":["cdn.example"]},
{"askers":[{"address":"172.17.0.2","last":1764003600,"name":"shop.example"}]},{"used":1764003600}],
"2001:db8::1":[{"name":"shop.example","first":1764000000,"last":1764000000,"kind":"cached"}]}}"#;
const VERSION_1: &str = r#"{"version":1,"addresses":{"203.0.113.9":[{"name":"old.example","first":1,"last":2,
"asker":"172.17.0.3","kind":"reply"}, 7]}}"#;
const ANCESTORS: &str = r#"{"198.51.100.7": ["Files.Example"], "nowhere": ["x.example"]}"#;

struct State(TempDir);

impl State {
    fn new() -> State {
        State(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn file(&self, name: &str, content: &str) -> String {
        let path = self.path().join(name);
        fs::write(&path, content).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Exit code, standard output and standard error of `synhold registry ARGS`.
    fn run(&self, args: &[&str]) -> (i32, String, String) {
        let place = ["--state-dir", self.path().to_str().unwrap(), "--config", "/dev/null"];
        let output = synhold(&[&["registry"][..], args, &place].concat());
        (output.status.code().unwrap(), text(&output.stdout), text(&output.stderr))
    }

    #[track_caller]
    fn json(&self, args: &[&str]) -> Value {
        let (_, out, err) = self.run(&[args, &["--json"]].concat());
        serde_json::from_str(&out).unwrap_or_else(|e| panic!("{args:?}: {e}: {out}{err}"))
    }
}

#[test]
fn an_import_is_merged_and_says_what_became_of_it() {
    let state = State::new();
    let export = state.file("in.json", EXPORT);
    let (code, out, err) = state.run(&["import", &export]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(out.starts_with("2 addresses are new, 0 were known"), "{out}");
    let old = state.file("old.json", VERSION_1);
    let counts = state.json(&["import", &old]);
    assert_eq!(
        (&counts["new"], &counts["known"], &counts["skipped"]),
        (&0.into(), &1.into(), &1.into())
    );
    let ancestors = state.file("ancestor.json", ANCESTORS);
    let counts = state.json(&["import", &ancestors]);
    assert_eq!((&counts["new"], &counts["skipped"]), (&1.into(), &1.into()));
    let found = state.json(&["lookup", "203.0.113.9"]);
    let names: Vec<&str> = found["addresses"][0]["names"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["shop.example", "old.example"], "merged, not replaced");
    let mode = fs::metadata(state.path().join("registry")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
}

#[test]
fn a_look_up_is_by_address_or_name_and_says_no_by_its_exit_code() {
    let state = State::new();
    let export = state.file("in.json", EXPORT);
    assert_eq!(state.run(&["import", &export]).0, 0);
    let (code, out, _) = state.run(&["lookup", "203.0.113.9"]);
    assert_eq!(code, 0);
    for part in
        ["203.0.113.9", "shop.example by cdn.example (reply)", "asked by 172.17.0.2", "let through"]
    {
        assert!(out.contains(part), "{part}: {out}");
    }
    let found = state.json(&["lookup", "Shop.Example."]);
    let addresses: Vec<&Value> =
        found["addresses"].as_array().unwrap().iter().map(|at| &at["address"]).collect();
    assert_eq!(addresses, ["203.0.113.9", "2001:db8::1"]);
    assert_eq!(state.run(&["lookup", "192.0.2.1"]).0, 1);
    assert_eq!(state.run(&["lookup", "none.example"]).0, 1);
    assert_eq!(state.run(&["lookup", "no name"]).0, 2);
    let (code, _, err) = state.run(&["lookup", "203.0.113.9", "--container", "web"]);
    assert_eq!(code, 2);
    assert!(err.contains("no synhold runs"), "{err}");
}

#[test]
fn what_is_forgotten_is_gone_and_what_is_exported_comes_back() {
    let state = State::new();
    let export = state.file("in.json", EXPORT);
    assert_eq!(state.run(&["import", &export]).0, 0);
    let out = state.path().join("out.json");
    let (code, said, err) = state.run(&["export", out.to_str().unwrap()]);
    assert_eq!((code, err.as_str()), (0, ""));
    assert!(said.contains("2 addresses are in"), "{said}");
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(state.run(&["export", out.to_str().unwrap()]).0, 2, "nothing is overwritten");
    assert_eq!(state.run(&["export"]).1, fs::read_to_string(&out).unwrap());

    let (code, said, _) = state.run(&["forget", "2001:db8::1"]);
    assert_eq!((code, said.trim()), (0, "forgotten: 2001:db8::1"));
    assert_eq!(state.run(&["forget", "2001:db8::1"]).0, 1);
    assert_eq!(state.json(&["stats"])["addresses"], 1);
    assert_eq!(state.run(&["forget", "shop.example"]).0, 0);
    assert_eq!(state.json(&["stats"])["addresses"], 0);

    assert_eq!(state.run(&["import", out.to_str().unwrap()]).0, 0);
    assert_eq!(state.json(&["stats"])["addresses"], 2);
    let again = state.path().join("again.json");
    assert_eq!(state.run(&["export", again.to_str().unwrap()]).0, 0);
    let read = |path: &Path| -> Value {
        serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
    };
    assert_eq!(read(&again), read(&out));
}

#[test]
fn the_files_of_earlier_versions_are_read_and_kept_under_another_name_when_written() {
    let state = State::new();
    state.file("registry.json", VERSION_1);
    assert_eq!(state.json(&["stats"])["addresses"], 1);
    assert!(state.path().join("registry.json").exists(), "reading changes nothing");
    assert_eq!(state.run(&["forget", "203.0.113.9"]).0, 0);
    assert!(!state.path().join("registry.json").exists());
    assert_eq!(state.json(&["stats"])["addresses"], 0);
}

#[test]
fn a_state_directory_that_is_not_there_is_no_empty_registry() {
    for args in [&["stats"][..], &["export"], &["lookup", "203.0.113.9"]] {
        let output =
            synhold(&[&["registry"], args, &["--state-dir", "/nonexistent/state"]].concat());
        let err = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {err}");
        assert!(err.contains("there is no state directory"), "{args:?}: {err}");
    }
}

#[test]
fn rubbish_is_told_in_one_line() {
    let state = State::new();
    let rubbish = state.file("in.json", "rubbish");
    for args in [&["import", &rubbish][..], &["import", "/nonexistent"]] {
        let (code, _, err) = state.run(args);
        assert_eq!((code, err.lines().count()), (2, 1), "{err}");
    }
    let (code, _, err) = State(tempfile::tempdir().unwrap()).run(&["import"]);
    assert_eq!(code, 2, "{err}");
}
