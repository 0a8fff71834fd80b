//! What is installed: man pages, completions, the unit, and that installing can be undone.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::process::{Command, Output};

use super::docs::flags;
use super::support::{BIN, read, root, synhold, text};

/// Highest exposure that `systemd-analyze security` may find in the unit, in tenths.
const EXPOSURE_MAX: &str = "40";

/// Every command with subcommands or without, by its words.
fn commands() -> Vec<Vec<String>> {
    let (mut all, mut next) = (Vec::new(), vec![Vec::new()]);
    while let Some(words) = next.pop() {
        let mut args: Vec<&str> = words.iter().map(String::as_str).collect();
        args.push("--help");
        let help = text(&synhold(&args).stdout);
        let listed = help.split("Commands:\n").nth(1).unwrap_or_default();
        let names = listed.lines().take_while(|line| line.starts_with("  "));
        let names = names.filter(|line| line.chars().nth(2).is_some_and(|c| c != ' '));
        for name in names.filter_map(|line| line.split_whitespace().next()) {
            if name != "help" {
                next.push([&words[..], &[name.to_owned()]].concat());
            }
        }
        all.push(words);
    }
    assert!(all.len() > 20, "{all:?}");
    all
}

fn succeeds(command: &mut Command) -> Output {
    let out = command.output().unwrap();
    let said = format!("{}{}", text(&out.stdout), text(&out.stderr));
    assert!(out.status.success(), "{command:?}: {said}");
    out
}

#[test]
fn every_command_and_every_key_has_its_man_page() {
    let folder = tempfile::tempdir().unwrap();
    let out = synhold(&["generate", "man", folder.path().to_str().unwrap()]);
    assert!(out.status.success(), "{}", text(&out.stderr));
    let name = |words: Vec<String>| [&["synhold".to_owned()][..], &words].concat().join("-");
    let mut expected: BTreeSet<String> =
        commands().into_iter().map(|words| format!("{}.8", name(words))).collect();
    expected.insert("synhold.toml.5".to_owned());
    let files = fs::read_dir(folder.path()).unwrap();
    let made: BTreeSet<String> =
        files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    assert_eq!(made, expected);
    for page in &made {
        let mut mandoc = Command::new("mandoc");
        mandoc.args(["-T", "lint", "-W", "warning"]).arg(folder.path().join(page));
        let faults = text(&mandoc.output().expect("mandoc: scripts/setup.sh tests").stdout);
        // How clap_mangen sets apart the values an option takes.
        let faults: Vec<&str> =
            faults.lines().filter(|line| !line.contains("skipping paragraph macro")).collect();
        assert!(faults.is_empty(), "{faults:?}");
    }
    let mut mandoc = Command::new("mandoc");
    mandoc.args(["-T", "ascii", "-O", "width=200"]).arg(folder.path().join("synhold.toml.5"));
    let page = text(&succeeds(&mut mandoc).stdout);
    // What is bold is struck twice.
    let page: String = page
        .split_inclusive('\u{8}')
        .map(|part| match part.strip_suffix('\u{8}') {
            Some(part) => &part[..part.len() - 1],
            None => part,
        })
        .collect();
    for flag in flags() {
        assert!(page.contains(&format!("{} =", flag.trim_start_matches("--"))), "{flag}\n{page}");
    }
}

#[test]
fn bash_completes_commands_flags_and_values() {
    let out = synhold(&["generate", "completions", "bash"]);
    assert!(out.status.success());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("synhold");
    fs::write(&file, out.stdout).unwrap();
    fs::write(folder.path().join("my events"), "").unwrap();
    let complete = |words: &str, at: usize| {
        let script = format!(
            "source '{}'; COMP_WORDS=(synhold {words}); COMP_CWORD={at}; \
             _synhold synhold \"${{COMP_WORDS[{at}]}}\" \"${{COMP_WORDS[{}]}}\"; IFS='|'; \
             echo \"${{COMPREPLY[*]}}\"",
            file.display(),
            at - 1
        );
        let mut bash = Command::new("bash");
        let out = succeeds(bash.args(["--norc", "-c", &script]).current_dir(folder.path()));
        text(&out.stdout).trim().to_owned()
    };
    assert_eq!(complete("regi", 1), "registry");
    assert_eq!(complete("registry lo", 2), "lookup");
    assert_eq!(complete("run --dry", 2), "--dry-run");
    assert_eq!(complete("run --fail ''", 3), "open|closed");
    assert_eq!(complete("run --events my", 3), "my events", "one file, not two words");
    assert_eq!(complete("run --hold-ms ''", 3), "", "a number is no file");
    for shell in ["zsh", "fish"] {
        let out = text(&synhold(&["generate", "completions", shell]).stdout);
        assert!(out.contains("dry-run"), "{out}");
    }
}

#[test]
fn what_is_installed_is_uninstalled_but_for_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let files = |under: &Path| {
        let out = succeeds(Command::new("find").arg(under).args(["-type", "f", "-printf", "%P\n"]));
        text(&out.stdout).lines().map(str::to_owned).collect::<BTreeSet<_>>()
    };
    let place = |action: &str| {
        let mut command = Command::new("scripts/place.sh");
        command.current_dir(root()).arg(action).arg(BIN).arg(folder.path()).arg("/usr/local");
        succeeds(&mut command);
    };
    place("install");
    let installed = files(folder.path());
    for file in [
        "usr/local/sbin/synhold",
        "usr/local/lib/systemd/system/synhold.service",
        "usr/local/share/man/man5/synhold.toml.5",
        "usr/local/share/man/man8/synhold-run.8",
        "usr/local/share/bash-completion/completions/synhold",
        "etc/synhold/synhold.toml",
    ] {
        assert!(installed.contains(file), "{file} in {installed:?}");
    }
    // URLs of webhooks are secrets.
    let mode = fs::metadata(folder.path().join("etc/synhold/synhold.toml")).unwrap().mode();
    assert_eq!(mode & 0o777, 0o640);
    let packed = read("Cargo.toml");
    assert!(packed.contains(r#"["data/synhold.toml", "etc/synhold/", "640"]"#));
    // What an administrator wrote stays, whatever is done.
    let configuration = folder.path().join("etc/synhold/synhold.toml");
    fs::write(&configuration, "hold-ms = 500\n").unwrap();
    place("install");
    place("uninstall");
    assert_eq!(files(folder.path()), BTreeSet::from(["etc/synhold/synhold.toml".to_owned()]));
    assert_eq!(fs::read_to_string(configuration).unwrap(), "hold-ms = 500\n");
}

#[test]
fn the_unit_has_no_more_than_it_needs_and_says_why() {
    let unit = root().join("data/synhold.service");
    let mut analyze = Command::new("systemd-analyze");
    analyze.args(["security", "--offline=true", "--threshold", EXPOSURE_MAX]).arg(unit);
    succeeds(&mut analyze);
    let text = read("data/synhold.service");
    let service = text.split("[Service]").nth(1).unwrap().split("[Install]").next().unwrap();
    let mut before = "";
    for line in service.lines() {
        // Said above it, or above the option it goes with.
        let explained = before.starts_with('#')
            || line.get(..5).is_some_and(|start| before.starts_with(start))
            || before.starts_with("SystemCall") && line.starts_with("SystemCall");
        assert!(line.is_empty() || line.starts_with('#') || explained, "{line}");
        before = line;
    }
}
