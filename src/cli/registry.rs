//! `synhold registry`: what is known about addresses and names, carried elsewhere, merged, and forgotten.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use clap::{Args, Subcommand};

use super::lists::Place;
use super::{Answer, say, say_json, words};
use crate::control::{LookedUp, RegistryAddress, RegistryAsker, RegistryName, RegistryStats};
use crate::daemon::clock;
use crate::daemon::ledger::{Ledger, is_not_found};
use crate::engine::{Grade, Wall};
use crate::store;

/// Askers of one name that are shown; the rest is a count.
const ASKERS_SHOWN: usize = 4;

#[derive(Args, Debug)]
pub(super) struct RegistryArgs {
    #[command(subcommand)]
    action: Action,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// How much is known, and whether it reaches the disk
    Stats,
    /// What is known about an address, or about every address of a name; exit 1 if nothing is
    Lookup {
        /// The address or name
        #[arg(value_name = "ADDRESS|NAME")]
        what: String,
        /// Say how good that is for this container
        #[arg(long, value_name = "NAME|ID|ADDRESS")]
        container: Option<String>,
    },
    /// Write everything as JSON to FILE, or to standard output
    Export {
        /// A file that is not there yet
        file: Option<PathBuf>,
    },
    /// Take an export in, ours or the ancestor's, beside what is known
    Import {
        /// The file
        file: PathBuf,
    },
    /// Forget an address, or every address of a name; exit 1 if it was not known. What a source still holds of its past
    /// comes back when it is read again
    Forget {
        /// The address or name
        #[arg(value_name = "ADDRESS|NAME")]
        what: String,
    },
}

pub(super) fn run(args: &RegistryArgs) -> Result<Answer> {
    let place = &args.place;
    let mut ledger = Ledger::open(&place.state_dir()?)?;
    match &args.action {
        Action::Stats => stats(place, &mut ledger),
        Action::Lookup { what, container } => {
            lookup(place, &mut ledger, what, container.as_deref())
        }
        Action::Export { file } => export(place, &mut ledger, file.as_deref()),
        Action::Import { file } => import(place, &mut ledger, file),
        Action::Forget { what } => forget(place, &mut ledger, what),
    }
}

fn stats(place: &Place, ledger: &mut Ledger) -> Result<Answer> {
    let stats = ledger.stats()?;
    if place.json {
        say_json(&stats)?;
    } else {
        say(&tell_stats(&stats, ledger.is_live(), clock::wall()))?;
    }
    Ok(Answer::Fine)
}

fn tell_stats(stats: &RegistryStats, is_live: bool, now: Wall) -> String {
    let limit = stats.limit.map_or_else(String::new, |limit| format!(" of at most {limit}"));
    let memory = match is_live {
        true => format!("{} in memory, ", words::bytes(stats.bytes)),
        false => String::new(),
    };
    let disk = match (is_live, stats.disk.ok) {
        (true, true) => String::new(),
        (true, false) => {
            let since = words::ago(stats.disk.since, now);
            format!("\nNOT SAVED ({since}): {}", stats.disk.message)
        }
        (false, _) => "\nno daemon runs: this is what the files have".to_owned(),
    };
    format!(
        "{} addresses{limit}, {} names, {} askers\n{memory}{} on disk{disk}",
        stats.addresses,
        stats.names,
        stats.askers,
        words::bytes(stats.disk_bytes)
    )
}

fn lookup(
    place: &Place,
    ledger: &mut Ledger,
    what: &str,
    container: Option<&str>,
) -> Result<Answer> {
    let found = match ledger.look_up(what, container) {
        Err(error) if is_not_found(&error) && !place.json => {
            say(&format!("{error:#}"))?;
            return Ok(Answer::No);
        }
        found => found?,
    };
    if place.json {
        say_json(&found)?;
    } else if found.addresses.is_empty() {
        say(&format!("nothing is known about {}", words::plain(what)))?;
    } else {
        say(&tell(&found, clock::wall()))?;
    }
    Ok(if found.addresses.is_empty() { Answer::No } else { Answer::Fine })
}

fn tell(found: &LookedUp, now: Wall) -> String {
    let container = found.container.as_deref();
    let mut lines: Vec<String> =
        found.addresses.iter().flat_map(|address| tell_address(address, container, now)).collect();
    if found.more > 0 {
        lines.push(format!("and {} more addresses: --json does not have them either", found.more));
    }
    lines.join("\n")
}

fn tell_address(at: &RegistryAddress, container: Option<&str>, now: Wall) -> Vec<String> {
    let mut first = at.address.to_string();
    if let (Some(grade), Some(container)) = (at.grade, container) {
        first += &format!(": {} for {}", word(grade), words::plain(container));
    }
    if !at.marks.is_empty() {
        let marks: Vec<&str> = at.marks.iter().map(|mark| mark.as_str()).collect();
        first += &format!("; marked {}", marks.join(", "));
    }
    let mut lines = vec![first];
    lines.extend(at.names.iter().flat_map(|name| tell_name(name, now)));
    if !at.askers.is_empty() {
        lines.push(format!("  other names: asked by {}", askers(&at.askers, now)));
    }
    lines.extend(at.used.as_ref().map(|used| format!("  let through last about {used}")));
    lines
}

fn tell_name(name: &RegistryName, now: Wall) -> Vec<String> {
    let chain: Vec<&str> = name.chain.iter().map(|link| link.as_str()).collect();
    let chain = match chain.is_empty() {
        true => String::new(),
        false => format!(" by {}", chain.join(", ")),
    };
    let mut lines = vec![format!(
        "  {}{chain} ({}), first {}, last {}",
        name.name,
        name.kind.as_str(),
        words::ago(name.first, now),
        words::ago(name.last, now)
    )];
    if !name.askers.is_empty() {
        lines.push(format!("    asked by {}", askers(&name.askers, now)));
    }
    lines
}

fn askers(askers: &[RegistryAsker], now: Wall) -> String {
    let one = |asker: &RegistryAsker| {
        let name = asker.container.as_ref().map(|name| format!("{} ", words::plain(name)));
        format!("{}{} {}", name.unwrap_or_default(), asker.address, words::ago(asker.last, now))
    };
    let shown: Vec<String> = askers.iter().take(ASKERS_SHOWN).map(one).collect();
    match askers.len().saturating_sub(ASKERS_SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}

fn word(grade: Grade) -> String {
    format!("{grade:?}").to_lowercase()
}

fn export(place: &Place, ledger: &mut Ledger, file: Option<&Path>) -> Result<Answer> {
    let registry = ledger.export()?;
    let Some(path) = file else {
        match store::write_json(std::io::stdout().lock(), &registry) {
            Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                return Err(error.into());
            }
            _ => return Ok(Answer::Fine),
        }
    };
    let cannot = || format!("cannot write {}", path.display());
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    let mut file = file.with_context(cannot)?;
    let written = store::write_json(&mut file, &registry).and_then(|()| file.sync_all());
    if written.is_err() {
        // Part of a registry looks like one.
        let _ = std::fs::remove_file(path);
    }
    written.with_context(cannot)?;
    let count = registry.len();
    if place.json {
        say_json(&serde_json::json!({ "file": path, "addresses": count }))?;
    } else {
        say(&format!("{count} addresses are in {}", path.display()))?;
    }
    Ok(Answer::Fine)
}

fn import(place: &Place, ledger: &mut Ledger, file: &Path) -> Result<Answer> {
    let imported = ledger.import(file)?;
    warn_unsaved(ledger);
    if place.json {
        say_json(&imported)?;
    } else {
        say(&format!(
            "{} addresses are new, {} were known and have what is in the file beside it, {} were skipped",
            imported.new, imported.known, imported.skipped
        ))?;
    }
    Ok(Answer::Fine)
}

/// Says so on standard error where a daemon has changed its memory alone: its next start knows nothing of it.
fn warn_unsaved(ledger: &mut Ledger) {
    if !ledger.is_live() {
        return;
    }
    match ledger.stats() {
        Ok(stats) if !stats.disk.ok => tracing::warn!("NOT SAVED: {}", stats.disk.message),
        Ok(_) => {}
        Err(error) => tracing::warn!("whether it is saved is not known: {error:#}"),
    }
}

fn forget(place: &Place, ledger: &mut Ledger, what: &str) -> Result<Answer> {
    let forgotten = ledger.forget(what)?;
    warn_unsaved(ledger);
    if place.json {
        say_json(&forgotten)?;
    } else if forgotten.addresses.is_empty() {
        say(&format!("nothing is known about {}", words::plain(what)))?;
    } else {
        let addresses: Vec<String> = forgotten.addresses.iter().map(ToString::to_string).collect();
        say(&format!("forgotten: {}", addresses.join(", ")))?;
    }
    Ok(if forgotten.addresses.is_empty() { Answer::No } else { Answer::Fine })
}
