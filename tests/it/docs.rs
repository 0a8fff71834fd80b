//! What the documents say is what the program does.

use synhold::engine::Reason;
use synhold::events::Sign;

use super::support::{read, rust_files, synhold, text};

/// The long flags in the help of `run`.
pub fn flags() -> Vec<String> {
    let help = text(&synhold(&["run", "--help"]).stdout);
    let words = help.split_ascii_whitespace().filter(|word| word.starts_with("--"));
    let mut flags: Vec<String> =
        words.map(|word| word.trim_end_matches([',', ':', ']', ')', ';']).to_owned()).collect();
    flags.sort();
    flags.dedup();
    flags.retain(|flag| !["--help", "--config"].contains(&flag.as_str()));
    assert!(flags.len() > 10, "{flags:?}");
    flags
}

#[test]
fn the_default_configuration_names_every_key_and_loads() {
    let text = read("data/synhold.toml");
    for flag in flags() {
        let key = format!("#{} =", flag.trim_start_matches("--"));
        assert!(text.lines().any(|line| line.starts_with(&key)), "{key} is missing");
    }
    // With every key switched on it is still a configuration, up to the point where root is needed or an
    // address is not there.
    let folder = tempfile::tempdir().unwrap();
    let all: String = text.lines().map(|line| format!("{}\n", uncomment(line))).collect();
    let table: toml::Table = all.parse().expect("valid TOML");
    assert!(table.len() >= flags().len(), "{table:?}");
    let file = folder.path().join("synhold.toml");
    std::fs::write(&file, all).unwrap();
    let stderr = super::support::text(
        &synhold(&["rules", "check", "--config", file.to_str().unwrap()]).stderr,
    );
    assert!(!stderr.contains("synhold.toml"), "{stderr}");
}

fn uncomment(line: &str) -> &str {
    match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with(' ') => setting,
        _ => line,
    }
}

#[test]
fn the_readme_explains_every_reason_flag_and_make_target() {
    let readme = read("README.md");
    for reason in Reason::ALL {
        assert!(readme.contains(&format!("`{}`", reason.as_str())), "{}", reason.as_str());
    }
    for flag in flags() {
        assert!(readme.contains(&flag), "{flag}");
    }
    let makefile = read("Makefile");
    for target in [
        "run",
        "test",
        "demo",
        "bench",
        "install-rules",
        "remove-rules",
        "install",
        "uninstall",
        "deb",
    ] {
        assert!(makefile.contains(&format!("\n{target}:")), "{target}");
        assert!(readme.contains(&format!("make {target}")), "{target}");
    }
}

#[test]
fn the_readme_explains_every_sign_of_the_log_and_the_code_uses_no_other() {
    let readme = read("README.md");
    for sign in Sign::ALL {
        assert!(readme.contains(&format!("\n| {sign} | ")), "{sign} is not in the table");
    }
    let known: String = Sign::ALL.map(Sign::as_str).concat();
    // Arrows and boxes are punctuation.
    let is_sign = |c: &char| matches!(u32::from(*c), 0x2600..=0x27bf | 0x1_f000..=0x1_faff);
    for file in rust_files("src") {
        let strange =
            read(file.to_str().unwrap()).chars().filter(is_sign).find(|c| !known.contains(*c));
        assert_eq!(strange, None, "{}", file.display());
    }
}

#[test]
fn the_changelog_knows_this_version() {
    assert!(read("CHANGELOG.md").contains(concat!("## ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_service_is_up_before_any_container_engine() {
    let unit = read("data/synhold.service");
    let of = |key: &str| {
        let mut lines = unit.lines().filter_map(|line| line.strip_prefix(key)?.strip_prefix('='));
        lines.next().unwrap_or_default().to_owned()
    };
    let before = of("Before");
    for engine in ["docker.service", "containerd.service", "podman.service"] {
        assert!(before.split(' ').any(|unit| unit == engine), "{engine}");
    }
    // A socket belongs to an earlier stage: to be before it would be a cycle.
    assert!(!before.contains(".socket"));
    // Without this systemd would let the engines start as soon as our process is there.
    assert_eq!(of("Type"), "notify");
    let start = of("ExecStart");
    let (program, args) = start.split_once(' ').unwrap();
    assert_eq!(program, "/usr/local/sbin/synhold");
    assert_eq!(args, "run", "with the defaults: state in /var/lib/synhold");
    assert_eq!(of("StateDirectory"), "synhold");
    let makefile = read("Makefile");
    assert!(
        read("scripts/place.sh").contains("data/synhold.service")
            && makefile.contains("PREFIX := /usr/local")
    );
}

#[test]
fn every_command_that_does_what_the_ancestor_did_is_there() {
    let readme = read("README.md");
    let table = readme.split("## What its ancestor did").nth(1).unwrap();
    let table = table.split("\n## ").next().unwrap();
    let commands: Vec<&str> =
        table.split('`').skip(1).step_by(2).filter(|code| code.starts_with("synhold ")).collect();
    assert!(commands.len() > 30, "{commands:?}");
    for command in commands {
        let words: Vec<&str> = command.split(' ').skip(1).collect();
        // What stands for something of the reader's own is no part of the command's name.
        let is_name = |word: &&&str| word.chars().all(|c| c.is_ascii_lowercase());
        let name: Vec<&str> = words.iter().take_while(is_name).copied().collect();
        let help = synhold(&[&name[..], &["--help"]].concat());
        assert!(help.status.success(), "{command}: {}", text(&help.stderr));
        let help = text(&help.stdout);
        for flag in words.iter().filter(|word| word.starts_with("--")) {
            assert!(
                help.contains(&format!("{flag} ")) || help.contains(&format!("{flag}\n")),
                "{command}"
            );
        }
        assert!(help.contains(&format!("Usage: synhold {}", name.join(" "))), "{command}: {help}");
    }
}
