//! Files of the repository and runs of the real binary.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub const BIN: &str = env!("CARGO_BIN_EXE_synhold");

pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Every Rust file under a folder, as paths relative to the repository.
pub fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![root().join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path.strip_prefix(root()).unwrap().to_owned());
            }
        }
    }
    found.sort();
    found
}

/// Runs `synhold ARGS` to its end. A `run` that should fail and does not must neither touch this machine's network nor
/// stay: as root it is in a network namespace of its own, and not for long.
pub fn synhold(args: &[&str]) -> Output {
    let mut command = Command::new("timeout");
    command.arg("60");
    if args.first() == Some(&"run") && nix::unistd::geteuid().is_root() {
        command.args(["unshare", "--net", "--"]);
    }
    command.arg(BIN).args(args).output().expect("synhold runs")
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
