//! The rules of the house, checked: first lines, sizes, layers, and what may be at the top.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::support::{read, root, rust_files};

const LINES_MAX: usize = 400;

fn all_rust_files() -> impl Iterator<Item = (String, String)> {
    ["src", "tests"].into_iter().flat_map(rust_files).map(|path| {
        let name = path.display().to_string();
        let text = read(&name);
        (name, text)
    })
}

/// The part of a source file before its tests.
fn without_tests(text: &str) -> &str {
    text.split("#[cfg(test)]").next().unwrap_or(text)
}

#[test]
fn every_file_says_what_it_is_and_stays_short() {
    for (name, text) in all_rust_files() {
        assert!(text.starts_with("//! "), "{name} does not open with a //! line");
        let lines = text.lines().count();
        assert!(lines <= LINES_MAX, "{name} has {lines} lines");
    }
}

#[test]
fn the_engine_is_pure() {
    let banned = [
        "std::fs",
        "std::process",
        "std::thread",
        "std::io",
        "std::env",
        "TcpStream",
        "UdpSocket",
        "Instant::now",
        "SystemTime",
        "tokio",
        "async ",
        "static mut",
        "OnceLock",
        "tracing",
        "libc",
        "nix::",
    ];
    for path in rust_files("src/engine") {
        let name = path.display().to_string();
        if name.ends_with("_test.rs") {
            continue;
        }
        let text = read(&name);
        for word in banned {
            assert!(!without_tests(&text).contains(word), "{name} uses {word}");
        }
    }
}

/// Modules of this crate that a file names.
fn imports(text: &str) -> BTreeSet<String> {
    let after = without_tests(text).split("crate::").skip(1);
    let word = |rest: &str| {
        rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>()
    };
    after.map(word).filter(|word| !word.is_empty()).collect()
}

#[test]
fn layers_import_only_what_is_below_them() {
    let adapters = [
        "alert",
        "conntrack",
        "control",
        "dns",
        "docker",
        "events",
        "host",
        "lists",
        "metrics",
        "nfq",
        "nftables",
        "opensnitch",
        "report",
        "store",
    ];
    let allowed = |module: &str| -> Vec<&str> {
        match module {
            "engine" => vec!["engine"],
            "netlink" => vec!["netlink"],
            "tls" => vec!["tls"],
            "testing" => vec![],
            "config" => [&["config", "engine"][..], &adapters].concat(),
            "daemon" => [&["config", "daemon", "engine"][..], &adapters].concat(),
            "cli" => [&["cli", "config", "daemon", "engine"][..], &adapters].concat(),
            "lib" | "main" => vec!["cli"],
            adapter => {
                assert!(adapters.contains(&adapter), "{adapter} has no place in the layers");
                let known = adapters.iter().find(|known| **known == adapter).copied();
                vec![known.unwrap(), "engine", "netlink", "tls", "testing"]
            }
        }
    };
    for path in rust_files("src") {
        let name = path.display().to_string();
        let module = path.iter().nth(1).unwrap().to_str().unwrap().trim_end_matches(".rs");
        let allowed = allowed(module);
        for import in imports(&read(&name)) {
            assert!(allowed.contains(&import.as_str()), "{name} imports {import}");
        }
    }
}

#[test]
fn nothing_panics_on_purpose_outside_tests() {
    for (name, text) in all_rust_files().filter(|(name, _)| name.starts_with("src/")) {
        // Files of tests alone are compiled under #[cfg(test)] by their parent.
        if ["_test.rs", "/tests.rs", "/testing.rs", "_testing.rs", "/roundtrip.rs", "/script.rs"]
            .iter()
            .any(|end| name.ends_with(end))
        {
            continue;
        }
        for word in
            [".unwrap()", ".expect(", "panic!(", "unreachable!(", "todo!(", "unimplemented!("]
        {
            assert!(!without_tests(&text).contains(word), "{name} has {word}");
        }
    }
}

#[test]
fn the_top_level_holds_what_the_design_allows() {
    let allowed = [
        "Cargo.toml",
        "Cargo.lock",
        "Makefile",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "src",
        "nft",
        "data",
        "tests",
        "scripts",
    ];
    let listed = Command::new("git").args(["ls-files"]).current_dir(root()).output();
    // Outside a checkout (a source archive) there is nothing to compare.
    let Ok(listed) = listed else { return };
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    assert!(!root().join(".git").exists() || listed.contains("Cargo.toml"), "{listed}");
    for path in listed.lines() {
        let first = Path::new(path).iter().next().unwrap().to_str().unwrap();
        assert!(first.starts_with('.') || allowed.contains(&first), "{path}");
    }
}
