//! How a dnsmasq that is not ours is configured to log, by its command line and the files it names.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use nix::unistd::User;

use super::{Finding, processes};

/// The file dnsmasq reads unless told otherwise.
const CONF_FILE: &str = "/etc/dnsmasq.conf";
/// The folder that Debian's service reads as well.
const CONF_DIR: &str = "/etc/dnsmasq.d";
/// Files of a folder, and bytes of a file, that are read at most.
const FILES_MAX: usize = 100;
const FILE_BYTES_MAX: u64 = 1 << 20;
/// Files and folders, and bytes, read in all: whoever runs something of that name says what is read.
const ALL_FILES_MAX: usize = 1000;
const ALL_BYTES_MAX: u64 = 8 << 20;
/// Whom Debian's service runs as.
const USER: &str = "dnsmasq";
/// How deep files name files.
const DEPTH_MAX: usize = 4;

/// What it is told about its log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// `log-queries`, and what stands behind it.
    pub queries: Option<String>,
    /// `log-async`.
    pub is_async: bool,
    /// `log-facility`.
    pub facility: Option<String>,
    /// `cache-size`.
    pub cache: Option<u32>,
}

/// What may still be read.
#[derive(Clone, Copy, Debug)]
struct Budget {
    files: usize,
    bytes: u64,
}

impl Budget {
    fn new() -> Budget {
        Budget { files: ALL_FILES_MAX, bytes: ALL_BYTES_MAX }
    }

    /// Whether so much may be read; then it is gone.
    fn take(&mut self, bytes: u64) -> bool {
        let left = self.files.checked_sub(1).zip(self.bytes.checked_sub(bytes));
        left.map(|(files, bytes)| *self = Budget { files, bytes }).is_some()
    }
}

/// A dnsmasq, running or to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dnsmasq {
    /// Who it is, within a sentence.
    pub who: String,
    /// How it logs.
    pub settings: Settings,
}

/// Where its log is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogAt<'a> {
    /// In this file or FIFO.
    Path(&'a Path),
    /// In the journal.
    Journal,
}

/// The one that writes such a log: the one that says so, else one of our network namespace, else what the files of the
/// system's service say.
pub fn find(log: LogAt<'_>) -> Option<Dnsmasq> {
    let mut budget = Budget::new();
    let named = processes::all().filter(|process| process.name == "dnsmasq");
    let others = named.filter(|process| !is_ours(&process.arguments));
    let mut others: Vec<_> = others.map(|process| (process.is_here(), process)).collect();
    // Anybody may call a program so; those of the system are read first, and have the budget first.
    let service = User::from_name(USER).ok().flatten().map(|user| user.uid.as_raw());
    let is_system = |uid: Option<u32>| uid == Some(0) || (uid.is_some() && uid == service);
    others.sort_by_key(|(is_here, process)| !(*is_here && is_system(process.uid())));
    let known: Vec<(bool, Dnsmasq)> = others
        .into_iter()
        .map(|(is_here, process)| {
            let words = process.arguments.get(1..).unwrap_or_default();
            let settings = of_arguments(words, &mut budget);
            (is_here, Dnsmasq { who: process.shown(), settings })
        })
        .collect();
    let writes = |settings: &Settings| match log {
        LogAt::Path(path) => settings.facility.as_deref().map(Path::new) == Some(path),
        LogAt::Journal => false,
    };
    let by_log = known.iter().find(|(_, dnsmasq)| writes(&dnsmasq.settings));
    let chosen = by_log.or_else(|| known.iter().find(|(is_here, _)| *is_here));
    chosen.map(|(_, dnsmasq)| dnsmasq.clone()).or_else(of_system)
}

/// One that a synhold runs logs to a pipe, as it should.
fn is_ours(arguments: &[String]) -> bool {
    arguments.iter().any(|word| word == "--log-facility=-")
}

fn of_system() -> Option<Dnsmasq> {
    let file = Path::new(CONF_FILE).is_file().then_some(CONF_FILE)?;
    let mut settings = Settings::default();
    let mut budget = Budget::new();
    settings.read(Path::new(file), 0, &mut budget);
    settings.read_folder(Path::new(CONF_DIR), 0, &mut budget);
    Some(Dnsmasq { who: format!("the dnsmasq of {CONF_FILE} (none runs here)"), settings })
}

fn of_arguments(arguments: &[String], budget: &mut Budget) -> Settings {
    let mut settings = Settings::default();
    let mut named_file = false;
    let mut words = arguments.iter().peekable();
    while let Some(word) = words.next() {
        let Some(text) = long(word, words.peek().map(|next| next.as_str())) else { continue };
        named_file |= text.starts_with("conf-file");
        settings.line(&text, 0, budget);
    }
    if !named_file {
        settings.read(Path::new(CONF_FILE), 0, budget);
    }
    settings
}

/// An option as a file would have it: `--name=value`, or one of the short ones that matter here.
fn long(word: &str, next: Option<&str>) -> Option<String> {
    if let Some(text) = word.strip_prefix("--") {
        return Some(text.to_owned());
    }
    let mut letters = word.strip_prefix('-')?.chars();
    let (name, rest) = (letters.next()?, letters.as_str());
    let value = if rest.is_empty() { next.unwrap_or_default() } else { rest };
    match name {
        'q' => Some("log-queries".to_owned()),
        'C' => Some(format!("conf-file={value}")),
        '7' => Some(format!("conf-dir={value}")),
        '8' => Some(format!("log-facility={value}")),
        'c' => Some(format!("cache-size={value}")),
        _ => None,
    }
}

impl Settings {
    /// Takes a file in; one that cannot be read says nothing.
    fn read(&mut self, path: &Path, depth: usize, budget: &mut Budget) {
        let fits = |meta: std::fs::Metadata| {
            meta.is_file() && meta.len() <= FILE_BYTES_MAX && budget.take(meta.len())
        };
        if depth > DEPTH_MAX || !std::fs::metadata(path).is_ok_and(fits) {
            return;
        }
        let mut text = Vec::new();
        let _ = File::open(path).and_then(|file| file.take(FILE_BYTES_MAX).read_to_end(&mut text));
        for line in String::from_utf8_lossy(&text).lines() {
            self.line(line, depth, budget);
        }
    }

    fn read_folder(&mut self, folder: &Path, depth: usize, budget: &mut Budget) {
        if !budget.take(0) {
            return;
        }
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().take(FILES_MAX);
        let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
        files.sort_unstable();
        for file in files {
            // As Debian's service leaves them out.
            let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let is_left =
                [".dpkg-dist", ".dpkg-old", ".dpkg-new", "~"].iter().any(|end| name.ends_with(end));
            if !is_left && !name.starts_with('.') && name != "README" {
                self.read(&file, depth, budget);
            }
        }
    }

    /// One line of a file.
    fn line(&mut self, line: &str, depth: usize, budget: &mut Budget) {
        let text = line.split('#').next().unwrap_or_default().trim();
        let (name, value) = text
            .split_once('=')
            .map_or((text, None), |(name, value)| (name.trim(), Some(value.trim().to_owned())));
        match (name, value) {
            // Said twice, the one that says more counts, as dnsmasq has it.
            ("log-queries", value) => {
                let before = self.queries.take().filter(|before| !before.is_empty());
                self.queries = Some(before.or(value).unwrap_or_default());
            }
            ("log-async", _) => self.is_async = true,
            ("log-facility", Some(value)) => self.facility = Some(value),
            ("cache-size", Some(value)) => self.cache = value.parse().ok(),
            ("conf-file", Some(value)) => self.read(Path::new(&value), depth + 1, budget),
            ("conf-dir", Some(value)) => {
                let folder = value.split(',').next().unwrap_or_default();
                self.read_folder(Path::new(folder), depth + 1, budget);
            }
            _ => {}
        }
    }
}

/// What has to be otherwise for its log to be evidence.
pub fn judge(dnsmasq: &Dnsmasq, log: LogAt<'_>) -> Vec<Finding> {
    let Dnsmasq { who, settings } = dnsmasq;
    let mut found = vec![match settings.queries.as_deref() {
        Some("extra" | "proto") => {
            Finding::ok("dnsmasq-log-queries", format!("{who} logs queries with their clients"))
        }
        Some(_) => Finding::warn(
            "dnsmasq-log-queries",
            format!(
                "{who} logs queries without their clients: answers are tied to questions by guesswork"
            ),
            "write log-queries=extra into its configuration, and restart it",
        ),
        None => Finding::fail(
            "dnsmasq-log-queries",
            format!("{who} does not log queries, so there is no evidence"),
            "write log-queries=extra into its configuration, and restart it",
        ),
    }];
    if settings.is_async {
        found.push(Finding::warn(
            "dnsmasq-log-async",
            format!("{who} logs asynchronously: a line may come after its answer, or never"),
            "take log-async out of its configuration, and restart it",
        ));
    }
    found.push(facility(who, settings.facility.as_deref(), log));
    if settings.cache == Some(0) {
        found.push(Finding::warn(
            "dnsmasq-cache",
            format!("{who} caches nothing, so every look-up waits for its upstream"),
            "write cache-size=10000 into its configuration, and restart it",
        ));
    }
    found
}

fn facility(who: &str, facility: Option<&str>, log: LogAt<'_>) -> Finding {
    let id = "dnsmasq-log-facility";
    match (log, facility) {
        (LogAt::Path(path), Some(to)) if Path::new(to) == path => {
            Finding::ok(id, format!("{who} logs to {to}, which is read"))
        }
        (LogAt::Path(path), to) => Finding::fail(
            id,
            format!("{who} logs to {}, and {} is read", to.unwrap_or("syslog"), path.display()),
            format!("write log-facility={} into its configuration, and restart it", path.display()),
        ),
        (LogAt::Journal, Some(to)) if to.starts_with('/') => Finding::fail(
            id,
            format!("{who} logs to {to}, and the journal is read"),
            format!("say --dns-source file:{to}"),
        ),
        (LogAt::Journal, _) => Finding::ok(id, format!("{who} logs to the journal, which is read")),
    }
}

#[cfg(test)]
#[path = "dnsmasq_test.rs"]
mod tests;
