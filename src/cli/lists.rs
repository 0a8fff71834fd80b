//! `synhold block`, `allow`, `unblock` and `unallow`: the user's lists, edited by a word.

mod live;

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Result, anyhow};
use clap::Args;

use super::{Answer, containers, say, say_json};
use crate::config;
use crate::control::{self, Question};
use crate::daemon::books::Books;
use crate::daemon::clock;
use crate::daemon::control::Asker;
use crate::daemon::edit::{self, Action, AddedAs, Daemon, Edited, EditedEntry, Request};
use crate::lists::{Entry, Found, Kind, show_time};
use live::Live;

/// Entries of other lists shown; the rest is counted.
const OTHERS_SHOWN: usize = 3;

/// Where the lists are, and how the answer is written; the same for all commands about lists.
#[derive(Args, Clone, Debug)]
pub(super) struct Place {
    /// Answer as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// Configuration file [default: /etc/synhold/synhold.toml if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Where lists and registry are kept [default: /var/lib/synhold]
    #[arg(long, value_name = "DIR", global = true)]
    pub state_dir: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(super) struct AddArgs {
    /// Address, network (192.0.2.0/24), range (192.0.2.1-192.0.2.9), or domain with everything under it
    #[arg(required = true, value_name = "ENTRY")]
    entries: Vec<String>,
    #[command(flatten)]
    how: How,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
pub(super) struct BlockArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    how: How,
    /// Block it even if this host is cut off by it
    #[arg(long, conflicts_with = "container")]
    force: bool,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
pub(super) struct RemoveArgs {
    /// The entry, as it is in the list
    #[arg(required = true, value_name = "ENTRY")]
    entries: Vec<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Args, Debug)]
pub(super) struct UnblockArgs {
    #[command(flatten)]
    what: What,
    #[command(flatten)]
    place: Place,
}

/// What is blocked, or let go.
#[derive(Args, Debug)]
#[group(required = true, multiple = false)]
struct What {
    /// Address, network (192.0.2.0/24), range (192.0.2.1-192.0.2.9), or domain with everything under it
    #[arg(value_name = "ENTRY")]
    entries: Vec<String>,
    /// Quarantine of this container, in which all new flows are refused and open ones ended
    #[arg(long, value_name = "NAME|ID|ADDRESS")]
    container: Option<String>,
}

#[derive(Args, Debug)]
struct How {
    /// Only for this long, as 1h or 30d
    #[arg(long = "for", value_name = "TIME")]
    time: Option<String>,
    /// Why; kept as the comment of the line
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

pub(super) fn block(args: &BlockArgs) -> Result<Answer> {
    let BlockArgs { what, how, force, place } = args;
    match &what.container {
        Some(container) => {
            let named = containers::to_confine(place, container)?;
            edit(place, Action::Quarantine, &[named.entry], Some(how), false, &named.about)
        }
        None => edit(place, Action::Block, &parsed(&what.entries)?, Some(how), *force, &[]),
    }
}

pub(super) fn allow(args: &AddArgs) -> Result<Answer> {
    edit(&args.place, Action::Allow, &parsed(&args.entries)?, Some(&args.how), false, &[])
}

pub(super) fn unblock(args: &UnblockArgs) -> Result<Answer> {
    let UnblockArgs { what, place } = args;
    match &what.container {
        Some(container) => {
            let named = containers::to_release(place, container)?;
            edit(place, Action::Release, &[named.entry], None, false, &named.about)
        }
        None => edit(place, Action::Unblock, &parsed(&what.entries)?, None, false, &[]),
    }
}

pub(super) fn unallow(args: &RemoveArgs) -> Result<Answer> {
    edit(&args.place, Action::Unallow, &parsed(&args.entries)?, None, false, &[])
}

impl Place {
    /// The state directory.
    pub(super) fn state_dir(&self) -> Result<PathBuf> {
        config::load_state_dir(self.config.as_deref(), self.state_dir.clone())
    }

    /// Where things are.
    pub(super) fn known(&self) -> Result<Known> {
        let state_dir = self.state_dir()?;
        let daemon = daemon_of(&state_dir);
        Ok(self.beside(state_dir, daemon))
    }

    /// The same beside this daemon.
    fn beside(&self, state_dir: PathBuf, daemon: Option<control::Daemon>) -> Known {
        let theirs = daemon.as_ref().and_then(|daemon| daemon.config.clone());
        let file = self.config.clone().or(theirs.filter(|file| is_readable(file)));
        Known { file, state_dir, daemon }
    }

    /// The lists, and the state directory they are in.
    pub(super) fn books(&self) -> Result<(Books, PathBuf)> {
        self.known()?.books()
    }
}

/// Where things are.
pub(super) struct Known {
    /// The configuration file to read: without `--config` the running daemon's, which may be any file.
    pub file: Option<PathBuf>,
    pub state_dir: PathBuf,
    /// Who runs there.
    pub daemon: Option<control::Daemon>,
}

impl Known {
    /// The lists, and the state directory they are in.
    fn books(self) -> Result<(Books, PathBuf)> {
        let misread = self.misread();
        let config = config::load_lists(self.file.as_deref(), Some(self.state_dir))?;
        let mut books = Books::open(&config);
        books.misread = misread;
        Ok((books, config.state_dir))
    }

    /// What is read instead of the daemon's configuration, if it is.
    pub(super) fn misread(&self) -> Option<String> {
        self.daemon.as_ref().and_then(|daemon| misread(self.file.as_deref(), daemon))
    }
}

/// Who runs on a state directory. That it cannot be asked is told where its answer is needed.
fn daemon_of(state_dir: &Path) -> Option<control::Daemon> {
    Asker::find(state_dir).ok()??.ask(&Question::Daemon {}).ok()
}

/// A file with text in it; a pipe would be waited for.
fn is_readable(file: &Path) -> bool {
    file.is_file() && File::open(file).is_ok()
}

fn misread(read: Option<&Path>, daemon: &control::Daemon) -> Option<String> {
    let default = Path::new(config::DEFAULT_FILE);
    let place = |file: Option<&Path>| {
        let file = file.unwrap_or(default);
        file.canonicalize().unwrap_or_else(|_| file.to_owned())
    };
    let theirs = daemon.config.as_deref();
    // The default file may not be there, for nobody.
    let (ours, theirs) = (place(read), place(theirs));
    (ours != theirs).then(|| {
        format!(
            "the configuration that was read is {}, but the running synhold (process {}) has {}: feeds and settings \
             that only that one has are not known here",
            ours.display(),
            daemon.pid,
            theirs.display()
        )
    })
}

fn parsed(entries: &[String]) -> Result<Vec<Entry>> {
    entries.iter().map(|entry| Ok(entry.parse()?)).collect()
}

fn edit(
    place: &Place,
    action: Action,
    entries: &[Entry],
    how: Option<&How>,
    force: bool,
    about: &[String],
) -> Result<Answer> {
    let time = how.and_then(|how| how.time.as_deref());
    let until = time.map(|time| edit::end_of(clock::wall(), time)).transpose();
    let until = until.map_err(|error| anyhow!("--for {error:#}"))?;
    let note = how.and_then(|how| how.note.clone());
    let edited = match live::edit(place, action, entries, how, force)? {
        Live::Made(edited) => edited,
        Live::Left(daemon) => {
            let request = Request { action, entries: entries.to_vec(), until, note, force };
            let known = place.beside(place.state_dir()?, daemon);
            edit::edit(&known.books()?.0, &request)?
        }
    };
    if place.json {
        say_json(&edited)?;
    } else {
        say(&told(&edited, about, &place.state_dir()?.display()).join("\n"))?;
    }
    Ok(if is_no(&edited) { Answer::No } else { Answer::Fine })
}

/// What there is to tell of a change, line by line.
pub(super) fn told(
    edited: &Edited,
    about: &[String],
    state_dir: &impl std::fmt::Display,
) -> Vec<String> {
    let entries = edited.entries.iter().flat_map(|entry| tell(edited.action, entry));
    let mut lines: Vec<String> = entries.chain(about.iter().cloned()).collect();
    lines.extend(edited.daemon.map(|daemon| tell_daemon(daemon, state_dir)));
    lines
}

/// Something was to be removed that was not there.
fn is_no(edited: &Edited) -> bool {
    edited.entries.iter().any(|entry| entry.added.is_none() && entry.removed.is_empty())
}

fn tell(action: Action, entry: &EditedEntry) -> Vec<String> {
    let first = match entry.added {
        Some(added) => tell_added(action, entry, added),
        None => tell_removed(action, entry),
    };
    let mut lines = vec![first];
    if action == Action::Allow {
        let gone = entry
            .removed
            .iter()
            .map(|gone| format!("  taken out of {}.txt: {}", gone.list, gone.line));
        lines.extend(gone);
    }
    lines.extend(entry.local.as_ref().map(|set| {
        format!(
            "  but it passes: it is local (set {set}), and nothing local is judged; \
             with `--local-policy judge` private addresses are"
        )
    }));
    lines.extend(tell_others(action, entry));
    lines
}

fn tell_added(action: Action, entry: &EditedEntry, added: AddedAs) -> String {
    let name = &entry.entry;
    let until = entry.until.map_or(String::new(), |until| format!(" until {}", show_time(until)));
    let (state, file) = match action {
        Action::Allow => ("allowed", "allow.txt"),
        Action::Quarantine => ("in quarantine", "quarantine.txt"),
        Action::Block | Action::Unblock | Action::Unallow | Action::Release => {
            ("blocked", "block.txt")
        }
    };
    match added {
        AddedAs::New => format!("{name} is {state}{until}, by a new line in {file}"),
        AddedAs::Changed => {
            format!("{name} is {state}{until}, by its line in {file}, which was changed")
        }
        AddedAs::Unchanged => format!("{name} is {state}{until} already, by its line in {file}"),
    }
}

fn tell_removed(action: Action, entry: &EditedEntry) -> String {
    let name = &entry.entry;
    if entry.removed.is_empty() {
        let files = match action {
            Action::Unallow => "not in allow.txt",
            Action::Release => "not in quarantine.txt",
            _ => "neither in block.txt nor in auto.txt",
        };
        return format!("{name} is {files}");
    }
    let lines: Vec<String> =
        entry.removed.iter().map(|gone| format!("{}.txt: {}", gone.list, gone.line)).collect();
    format!("{name} is taken out of {}", lines.join(" and "))
}

/// What other lists make of the same, in the order that decides.
pub(super) fn tell_others(action: Action, entry: &EditedEntry) -> Vec<String> {
    let of = |kind| entry.others.iter().filter(|found| found.kind == kind).collect::<Vec<_>>();
    let (allow, block) = (of(Kind::Allow), of(Kind::Block));
    let name = &entry.entry;
    match action {
        Action::Block => listed(&allow, "but", "allow wins over block"),
        Action::Allow => listed(&block, "although", "allow wins over block"),
        Action::Unblock => {
            listed(&block, "still blocked:", &format!("`synhold allow {name}` lets it through"))
        }
        Action::Unallow if !allow.is_empty() => {
            listed(&allow, "still allowed:", "allow wins over block")
        }
        Action::Unallow => listed(&block, "blocked now:", "nothing allows it any more"),
        Action::Quarantine | Action::Release => Vec::new(),
    }
}

fn listed(found: &[&Found], word: &str, meaning: &str) -> Vec<String> {
    let Some(more) = found.len().checked_sub(1) else { return Vec::new() };
    let shown: Vec<String> = found.iter().take(OTHERS_SHOWN).map(|found| one(found)).collect();
    let rest = (more + 1).saturating_sub(shown.len());
    let rest = if rest > 0 { format!(", and {rest} more") } else { String::new() };
    vec![format!("  {word} {}{rest}; {meaning}", shown.join(", "))]
}

/// `list drop has 203.0.113.0/24 (SBL123)`
pub(super) fn one(found: &Found) -> String {
    let note = found.note.as_ref().map_or(String::new(), |note| format!(" ({note})"));
    let from = found.from.map_or(String::new(), |from| format!(" for {from} alone"));
    format!("list {} has {}{from}{note}", found.list, found.entry)
}

pub(super) fn tell_daemon(daemon: Daemon, state_dir: &impl std::fmt::Display) -> String {
    match daemon {
        Daemon::InForce { ended_flows: 0 } => {
            "in force now; no open flow had to be ended".to_owned()
        }
        Daemon::InForce { ended_flows: 1 } => "in force now; 1 open flow was ended".to_owned(),
        Daemon::InForce { ended_flows } => {
            format!("in force now; {ended_flows} open flows were ended")
        }
        Daemon::Unconfirmed => {
            "written, but the running synhold has not loaded it in time: its events say why"
                .to_owned()
        }
        Daemon::NotRunning => {
            format!("no synhold runs on {state_dir}: it takes effect when one starts")
        }
    }
}
