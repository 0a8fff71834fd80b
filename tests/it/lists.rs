//! `block`, `allow`, `unblock` and `unallow` on a state directory that no daemon uses.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use tempfile::TempDir;

use super::support::{synhold, text};

/// A state directory, and an empty configuration so that the machine's own plays no part.
struct State {
    folder: TempDir,
    config: PathBuf,
}

struct Answered {
    code: i32,
    out: String,
    err: String,
}

impl State {
    fn new() -> State {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("synhold.toml");
        fs::write(&config, "").unwrap();
        State { folder, config }
    }

    fn run(&self, args: &[&str]) -> Answered {
        let state = self.folder.path().to_str().unwrap();
        let place = ["--state-dir", state, "--config", self.config.to_str().unwrap()];
        let output = synhold(&[args, &place].concat());
        let code = output.status.code().unwrap();
        Answered { code, out: text(&output.stdout), err: text(&output.stderr) }
    }

    /// Runs a command that is to succeed, and returns what it says.
    #[track_caller]
    fn says(&self, args: &[&str]) -> String {
        let answered = self.run(args);
        assert_eq!((answered.code, answered.err.as_str()), (0, ""), "{args:?}: {}", answered.out);
        answered.out
    }

    #[track_caller]
    fn fails(&self, args: &[&str], says: &str) {
        let answered = self.run(args);
        assert_eq!(answered.code, 2, "{args:?}: {}", answered.out);
        assert_eq!(answered.err.lines().count(), 1, "{args:?}: {}", answered.err);
        assert!(answered.err.contains(says), "{args:?}: {}", answered.err);
    }

    fn list(&self, name: &str) -> PathBuf {
        self.folder.path().join("lists").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.folder.path().join("lists")).unwrap();
        fs::write(self.list(name), text).unwrap();
    }

    /// The lines of a list that are not comments.
    fn entries(&self, name: &str) -> Vec<String> {
        entries(&self.list(name))
    }
}

fn entries(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
}

#[test]
fn what_is_blocked_is_in_the_file_once_with_its_note() {
    let state = State::new();
    let said = state.says(&["block", "203.0.113.9", "--note", "calls home"]);
    assert!(said.contains("203.0.113.9 is blocked, by a new line in block.txt"), "{said}");
    assert!(said.contains("no synhold runs on"), "{said}");
    assert_eq!(state.entries("block.txt"), ["203.0.113.9 # calls home"]);
    let said = state.says(&["block", "203.0.113.9"]);
    assert_eq!(said, "203.0.113.9 is blocked already, by its line in block.txt\n");
    assert_eq!(state.entries("block.txt"), ["203.0.113.9 # calls home"], "nothing changed");
    let said = state.says(&[
        "block",
        "198.51.100.0/24",
        "evil.example",
        "2001:db8:bad::1-2001:db8:bad::9",
    ]);
    assert_eq!(said.lines().count(), 4, "{said}");
    assert_eq!(
        state.entries("block.txt")[1..],
        ["198.51.100.0/24", "evil.example", "2001:db8:bad::1-2001:db8:bad::9"]
    );
}

#[test]
fn a_time_is_written_as_its_end() {
    let state = State::new();
    let said = state.says(&["block", "203.0.113.9", "--for", "1h"]);
    let [line] = &state.entries("block.txt")[..] else { panic!("{said}") };
    let until = line.strip_prefix("203.0.113.9 until=").expect("a time");
    assert!(said.contains(&format!("is blocked until {until}, by a new line")), "{said}");
    assert!(until.ends_with('Z') && !until.contains('.'), "whole seconds: {until}");
    let said = state.says(&["block", "203.0.113.9"]);
    assert!(said.contains("by its line in block.txt, which was changed"), "{said}");
    assert_eq!(state.entries("block.txt"), ["203.0.113.9"], "for good");
}

#[test]
fn a_dangerous_entry_needs_force() {
    let state = State::new();
    state.fails(&["block", "0.0.0.0/0"], "0.0.0.0/0 is not blocked: it covers");
    state.fails(&["block", "203.0.113.77", "127.0.0.1"], "with --force it is blocked all the same");
    assert!(!state.list("block.txt").exists(), "all or nothing");
    state.says(&["block", "--force", "127.0.0.1", "203.0.113.77"]);
    assert_eq!(state.entries("block.txt"), ["127.0.0.1 force", "203.0.113.77"]);
}

#[test]
fn what_cannot_be_is_an_error_and_changes_nothing() {
    let state = State::new();
    state.fails(&["block", "203.0.113.77", "10.0.0.1/8"], "write 10.0.0.0/8 for the network");
    state.fails(&["allow", "a..b"], "neither an address nor a domain");
    state.fails(
        &["block", "203.0.113.77", "--for", "soon"],
        "--for soon: write a time as 1h or 30d",
    );
    state.fails(&["block", "203.0.113.77", "--for", "0s"], "over at once");
    state.fails(&["block", "--container", "web-1"], "no synhold runs on");
    assert!(!state.folder.path().join("lists").exists());
    for args in [
        &["block"][..],
        &["unblock"],
        &["allow"],
        &["block", "203.0.113.77", "--container", "172.17.0.2"],
        &["unblock", "203.0.113.77", "--container", "172.17.0.2"],
        &["block", "--container", "172.17.0.2", "--force"],
    ] {
        assert_eq!(state.run(args).code, 2, "{args:?}");
    }
}

#[test]
fn allow_takes_back_what_synhold_blocked_itself_and_wins_over_block() {
    let state = State::new();
    state.write("auto.txt", "203.0.113.9 from=172.17.0.2 # tcp/443\n203.0.113.8\n");
    state.write("block.txt", "203.0.113.0/24 # the whole street\n");
    let said = state.says(&["allow", "203.0.113.9", "--note", "the till"]);
    assert_eq!(state.entries("allow.txt"), ["203.0.113.9 # the till"]);
    assert_eq!(state.entries("auto.txt"), ["203.0.113.8"]);
    assert!(
        said.contains("taken out of auto.txt: 203.0.113.9 from=172.17.0.2 # tcp/443"),
        "{said}"
    );
    let says = "although list block has 203.0.113.0/24 (the whole street); allow wins over block";
    assert!(said.contains(says), "{said}");
    let said = state.says(&["block", "203.0.113.9"]);
    assert!(said.contains("but list allow has 203.0.113.9 (the till); allow wins"), "{said}");
    let said = state.says(&["unallow", "203.0.113.9"]);
    assert!(said.contains("taken out of allow.txt: 203.0.113.9 # the till"), "{said}");
    assert!(said.contains("blocked now: list block has 203.0.113.0/24"), "{said}");
}

#[test]
fn unblock_removes_from_both_files_and_says_what_still_blocks() {
    let state = State::new();
    state.write("auto.txt", "203.0.113.9 from=172.17.0.2\n");
    state.write("block.txt", "# mine\n203.0.113.9 # one\n203.0.113.0/28 # all\n");
    let said = state.says(&["unblock", "203.0.113.9"]);
    assert_eq!(state.entries("block.txt"), ["203.0.113.0/28 # all"]);
    assert_eq!(fs::read_to_string(state.list("auto.txt")).unwrap(), "");
    assert!(said.contains("block.txt: 203.0.113.9 # one and auto.txt: 203.0.113.9 from"), "{said}");
    let says =
        "still blocked: list block has 203.0.113.0/28 (all); `synhold allow 203.0.113.9` lets";
    assert!(said.contains(says), "{said}");
    let again = state.run(&["unblock", "203.0.113.9"]);
    assert_eq!(again.code, 1, "{}", again.out);
    assert!(again.out.contains("neither in block.txt nor in auto.txt"), "{}", again.out);
    assert!(again.out.contains("still blocked"), "{}", again.out);
}

#[test]
fn a_container_goes_into_quarantine_and_comes_out() {
    let state = State::new();
    let said = state.says(&["block", "--container", "172.17.0.2", "--note", "odd"]);
    assert!(said.contains("172.17.0.2 is in quarantine"), "{said}");
    assert_eq!(state.entries("quarantine.txt"), ["172.17.0.2 # odd"]);
    assert!(!state.list("block.txt").exists());
    let said = state.says(&["unblock", "--container", "172.17.0.2"]);
    assert!(said.contains("taken out of quarantine.txt: 172.17.0.2 # odd"), "{said}");
    assert!(state.entries("quarantine.txt").is_empty());
    assert_eq!(state.run(&["unblock", "--container", "172.17.0.2"]).code, 1);
}

#[test]
fn json_says_the_same() {
    let state = State::new();
    state.write("allow.txt", "good.example # partner\n");
    let said = state.says(&["block", "a.good.example", "--json"]);
    let answer: Value = serde_json::from_str(&said).unwrap();
    assert_eq!(answer["action"], "block");
    assert_eq!(answer["daemon"]["state"], "not-running");
    let entry = &answer["entries"][0];
    assert_eq!((&entry["entry"], &entry["added"]), (&"a.good.example".into(), &"new".into()));
    let other = &entry["others"][0];
    assert_eq!((&other["list"], &other["kind"]), (&"allow".into(), &"allow".into()));
    assert_eq!((&other["note"], &other["line"]), (&"partner".into(), &1.into()));
    let gone = state.says(&["unblock", "a.good.example", "--json"]);
    let answer: Value = serde_json::from_str(&gone).unwrap();
    let removed = serde_json::json!([{"list": "block", "line": "a.good.example"}]);
    assert_eq!(answer["entries"][0]["removed"], removed);
    let again = state.run(&["unblock", "a.good.example", "--json"]);
    let answer: Value = serde_json::from_str(&again.out).unwrap();
    assert_eq!((again.code, &answer["daemon"]), (1, &Value::Null), "nothing changed");
}

#[test]
fn the_configuration_names_the_place_too() {
    let state = State::new();
    let elsewhere = state.folder.path().join("elsewhere");
    fs::write(&state.config, format!("state-dir = {:?}", elsewhere.to_str().unwrap())).unwrap();
    let output = synhold(&["allow", "203.0.113.77", "--config", state.config.to_str().unwrap()]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert_eq!(entries(&elsewhere.join("lists/allow.txt")), ["203.0.113.77"]);
}

#[test]
fn a_container_by_name_needs_a_daemon_to_go_in_and_none_to_come_out() {
    let state = State::new();
    state.fails(&["block", "--container", "web"], "no synhold runs on");
    state.fails(&["sets", "test", "203.0.113.9", "--from", "web"], "no synhold runs on");
    state.fails(&["explain", "203.0.113.9"], "`synhold sets test 203.0.113.9` asks");
    state.write("quarantine.txt", "container:web # odd\ncontainer:web2\n");
    let said = state.says(&["unblock", "--container", "web"]);
    assert!(said.contains("taken out of quarantine.txt: container:web # odd"), "{said}");
    assert_eq!(state.entries("quarantine.txt"), ["container:web2"]);
    let status = state.run(&["status"]);
    assert_eq!(status.code, 1);
    assert!(
        status.out.contains("no synhold runs on") && status.out.contains("synhold run"),
        "{}",
        status.out
    );
}

#[test]
fn a_review_that_takes_proposals_says_which_list_it_does_not_know() {
    let state = State::new();
    let events = state.folder.path().join("events");
    let evidence = serde_json::json!({ "healthy": true, "records": 1, "lag_us": 80, "lines": 9, "skipped": 0, "lost": 0,
        "last_line_ms": 3 });
    let verdict = serde_json::json!({ "ts": "2026-11-01T03:04:05Z", "event": "verdict", "mode": "enforce",
        "verdict": "drop", "enforced": true, "reason": "never-resolved", "grade": "never", "held_us": 750,
        "container": "web", "container_id": "x", "proto": "tcp", "src": "172.17.0.2", "sport": 40112,
        "dst": "203.0.113.9", "dport": 443, "names": [], "evidence": evidence, "queue": 0 });
    let record = serde_json::json!({ "ts": "2026-11-01T03:05:05Z", "event": "record", "address": "203.0.113.9",
        "name": "late.example", "client": null, "kind": "reply", "chain": [] });
    fs::write(&events, format!("{verdict}\n{record}\n")).unwrap();
    fs::create_dir_all(state.list("block.txt")).unwrap();
    let review = |args: &[&str]| {
        let given = ["--events", events.to_str().unwrap(), "--opensnitch-db", "/nonexistent/db"];
        state.run(&[&["review"], args, &given].concat())
    };
    let answered = review(&["--yes"]);
    assert_eq!(answered.code, 1, "{}", answered.out);
    assert!(answered.out.starts_with("Note: a list is not known: "), "{}", answered.out);
    assert!(answered.out.contains("nothing is proposed to be allowed"), "{}", answered.out);
    assert!(!state.list("allow.txt").exists());
    let told: Value = serde_json::from_str(&review(&["--yes", "--json"]).out).unwrap();
    let (notes, left) = (told["notes"].as_array().unwrap(), told["left"].as_array().unwrap());
    assert_eq!((notes.len(), left.len()), (1, 1), "{told}");
    assert_eq!(left[0]["proposal"], "keep", "{told}");

    // Whoever names the address is told, and heard.
    let answered = review(&["--accept", "203.0.113.9"]);
    assert_eq!(answered.code, 0, "{}{}", answered.out, answered.err);
    assert!(answered.out.starts_with("Note: a list is not known: "), "{}", answered.out);
    assert!(fs::read_to_string(state.list("allow.txt")).unwrap().contains("203.0.113.9 # review"));
}
