//! The command line: exit codes, one-line errors, help.

use std::fs;
use std::process::{Command, Stdio};

use super::support::{BIN, synhold, text};

#[track_caller]
fn fails(args: &[&str], says: &str) {
    let output = synhold(args);
    let stderr = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{args:?}: {stderr}");
    assert!(stderr.contains(says), "{args:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{args:?}: {}", text(&output.stdout));
}

#[test]
fn errors_say_what_to_do_and_exit_with_2() {
    fails(&[], "Usage");
    fails(&["walk"], "walk");
    fails(&["run", "--hold-ms", "1000"], "--hold-ms must be between 1 and 990");
    fails(&["run", "--container-net", "10.0.0.1/8"], "write 10.0.0.0/8 for the network");
    fails(&["run", "--dns-source", "journal:../dns"], "names no systemd unit");
    fails(&["run", "--dns-source", "docker:"], "names no container");
    fails(&["run", "--dns-listen", "nowhere"], "write ADDRESS or ADDRESS:PORT");
    fails(&["run", "--fail", "maybe"], "possible values: open, closed");
    fails(&["run", "--config", "/nonexistent.toml"], "cannot read /nonexistent.toml");
}

#[test]
fn an_error_of_ours_is_one_line() {
    for args in [&["run", "--queues", "0"][..], &["rules", "check", "--container-net", "x"]] {
        let stderr = text(&synhold(args).stderr);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.starts_with("synhold: "), "{stderr}");
    }
}

#[test]
fn a_broken_configuration_names_file_and_key() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("synhold.toml");
    for (content, says) in [
        ("hold_ms = 5", "unknown key \"hold_ms\""),
        ("hold-ms = \"long\"", "invalid type"),
        ("hold-ms = ", "synhold.toml"),
    ] {
        fs::write(&file, content).unwrap();
        fails(&["run", "--config", file.to_str().unwrap()], says);
        let stderr = text(&synhold(&["run", "--config", file.to_str().unwrap()]).stderr);
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
}

#[test]
fn help_and_version_are_there_for_every_command() {
    for args in [
        &["--help"][..],
        &["run", "--help"],
        &["rules", "--help"],
        &["rules", "check", "--help"],
        &["status", "--help"],
        &["events", "--help"],
        &["explain", "--help"],
        &["sets", "--help"],
        &["sets", "list", "--help"],
        &["sets", "show", "--help"],
        &["sets", "test", "--help"],
        &["block", "--help"],
        &["unblock", "--help"],
        &["allow", "--help"],
        &["unallow", "--help"],
        &["registry", "--help"],
        &["registry", "lookup", "--help"],
        &["registry", "import", "--help"],
    ] {
        let output = synhold(args);
        assert!(output.status.success(), "{args:?}");
        assert!(text(&output.stdout).contains("Usage: synhold"), "{args:?}");
    }
    assert_eq!(
        text(&synhold(&["--version"]).stdout).trim(),
        concat!("synhold ", env!("CARGO_PKG_VERSION"))
    );
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = Command::new(BIN)
        .args(["run", "--help"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!(text(&output.stderr), "");
}

#[test]
fn a_log_filter_that_is_not_understood_is_told_once_and_stops_nothing() {
    let output = Command::new(BIN)
        .args(["status", "--state-dir", "/nonexistent/state"])
        .env("RUST_LOG", "synhold=loudly")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let stderr = text(&output.stderr);
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    let (stamp, told) = stderr.split_once("] WARN: ⚠️ ").expect("the shape of the log");
    assert!(stamp.starts_with("[20") && stamp.ends_with('Z'), "{stderr}");
    assert!(told.contains("RUST_LOG") && told.contains("the defaults hold"), "{stderr}");
}

#[test]
fn a_file_that_is_no_event_log_is_not_taken_for_a_quiet_one() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name).display().to_string();
    std::fs::write(at("syslog"), "Jan  2 03:04:05 host app: hello\nand more\n").unwrap();
    std::fs::write(at("empty.toml"), "").unwrap();
    let place = ["--state-dir", &at("state"), "--config", &at("empty.toml")];
    let out = synhold(&[&["review", "--events", &at("syslog")], &place[..]].concat());
    let told = "2 lines of ";
    assert!(text(&out.stdout).contains(told), "{}", text(&out.stdout));
    let page = ["report", "--html", &at("page.html"), "--events", &at("syslog")];
    let out = synhold(&[&page, &place[..]].concat());
    assert!(text(&out.stderr).contains(told), "{}", text(&out.stderr));
    let page = std::fs::read_to_string(at("page.html")).unwrap();
    assert!(page.contains(told) && page.contains("no event of synhold"), "{page}");
}

#[test]
fn a_look_back_reads_files_alone_and_tells_what_it_cannot_see() {
    let folder = tempfile::tempdir().unwrap();
    let (config, pipe) = (folder.path().join("synhold.toml"), folder.path().join("events"));
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let look = |args: &[&str], events: &std::path::Path| {
        fs::write(&config, format!("events = {events:?}\n")).unwrap();
        // Whoever reads the pipe waits for ever.
        let mut looking = Command::new("timeout");
        looking.args(["10", BIN]).args(args).arg("--config").arg(&config);
        looking.arg("--state-dir").arg(folder.path()).output().unwrap()
    };
    for command in [&["review", "--json"][..], &["report", "--csv", "-"]] {
        let output = look(command, &pipe);
        let (out, stderr) = (text(&output.stdout), text(&output.stderr));
        assert_eq!(output.status.code(), Some(0), "{command:?}: {out}{stderr}");
        let note = format!("{} is no file: name one with --events", pipe.display());
        assert!(format!("{out}{stderr}").contains(&note), "{command:?}: {out}{stderr}");
        // As one in a folder that is closed: there may be something, and it is not seen.
        let unseen = config.join("events");
        let output = look(command, &unseen);
        let stderr = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command:?}: {stderr}");
        let says = format!("cannot read events from {}: ", unseen.display());
        assert!(stderr.contains(&says) && stderr.lines().count() == 1, "{command:?}: {stderr}");
    }
}
