//! Destinations that nobody had resolved, on the block list by themselves: written to `auto.txt`, taken out again.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::sync::atomic::{Ordering::SeqCst, fence};
use std::time::{Duration, Instant};

use super::Library;
use crate::config::AutoBlock;
use crate::daemon::clock;
use crate::engine::Flow;
use crate::events::Sign;
use crate::lists::{self, Addition, Entry, Folder, Own, Removal, Source};

/// Entries of `auto.txt`; a container that dials random addresses must not fill the disk.
const AUTO_MAX: u64 = 10_000;
/// Entries of one container, so that it leaves room for those of others.
const SOURCE_MAX: u64 = 1_000;
/// Refusals are written down together, at most this often: each writing is of the whole file.
const AUTO_EVERY: Duration = Duration::from_secs(1);

impl Library {
    /// Notes that nobody resolved a destination, if that is to have consequences.
    pub(super) fn accuse(&mut self, flow: Flow) {
        let from = match self.settings.auto_block {
            AutoBlock::Off => return,
            AutoBlock::Container => Some(flow.src.ip()),
            AutoBlock::Global => None,
        };
        if let Err(why) = self.has_room(flow.src.ip()) {
            return self.reporter.auto_full(&why, &self.shared);
        }
        let entry = Entry::from(flow.dst.ip());
        if self.accused.iter().any(|known| known.entry == entry && known.from == from) {
            return;
        }
        let note = format!("never-resolved: {} from {}", flow_text(&flow), flow.src.ip());
        let until = Some(clock::wall() + self.settings.auto_block_for);
        let note = Some(note);
        self.accused.push(Addition { entry, until, from, force: false, note });
        self.write_at.get_or_insert(Instant::now() + AUTO_EVERY);
    }

    /// Whether one more entry may be written because of this container.
    fn has_room(&self, source: IpAddr) -> Result<(), String> {
        if !self.settings.writes {
            return Err("nothing may be written".to_owned());
        }
        let waiting = &self.accused;
        if waiting.len() as u64 + self.auto_entries >= AUTO_MAX {
            return Err("auto.txt is full: unblock what it has".to_owned());
        }
        let is_its = |one: &&Addition| source_of(one.from, one.note.as_deref()) == Some(source);
        let written = self.auto_sources.get(&source).copied().unwrap_or(0);
        if waiting.iter().filter(is_its).count() as u64 + written >= SOURCE_MAX {
            return Err(format!(
                "auto.txt has {SOURCE_MAX} because of {source}, its share: unblock some"
            ));
        }
        Ok(())
    }

    pub(super) fn write_accused(&mut self) {
        self.write_at = None;
        let mut accused = std::mem::take(&mut self.accused);
        // Somebody resolved it meanwhile.
        accused.retain(|one| !one.entry.single().is_some_and(|address| self.knows(address)));
        if accused.is_empty() {
            return;
        }
        match lists::add(&self.folder, Own::Auto, &accused) {
            Ok(_) => {
                for accused in &accused {
                    tracing::debug!("{} {} is in auto.txt", Sign::Added, accused.entry);
                }
            }
            Err(error) => {
                let count = accused.len();
                let message =
                    format!("{count} refused destinations are not blocked further: {error}");
                self.shared.report_health("lists", false, message);
            }
        }
        self.read_by(Instant::now());
    }

    /// Looks at what is listed; whom a record forgives is forgiven, even if it came before anybody could tell.
    pub(super) fn look_at_auto(&mut self) {
        if self.settings.auto_block == AutoBlock::Off && !self.settings.forgive {
            return;
        }
        let listed = Listed::read(&self.folder);
        self.auto_sources = listed.sources;
        if !self.settings.forgive || !self.settings.writes {
            return;
        }
        self.shared.denied.set_accused(listed.addresses.clone());
        // A record that comes from here on finds it there; those before are in the registry.
        fence(SeqCst);
        let known = listed.addresses.into_iter().filter(|address| self.knows(*address));
        let known: Vec<IpAddr> = known.collect();
        self.forgive(&known);
    }

    /// Takes out what holds for these addresses alone: whoever gets them next is another container, and the one that
    /// had them is listed again when it tries again.
    pub(super) fn forget(&mut self, left: &[IpAddr]) {
        if self.settings.auto_block != AutoBlock::Container || !self.settings.writes {
            return;
        }
        let is_theirs = |from: Option<IpAddr>| from.is_some_and(|from| left.contains(&from));
        self.accused.retain(|accused| !is_theirs(accused.from));
        let mut removals = Vec::new();
        let read = Source::own(&self.folder, Own::Auto).read(&mut |line| {
            if let lists::Line::Item(item) = line
                && is_theirs(item.from)
            {
                let removal = |entry| Removal { entry, from: item.from };
                removals.extend(item.entry.kept().map(removal));
            }
        });
        if let Err(error) = read {
            tracing::warn!("auto.txt: {error}");
        }
        if removals.is_empty() {
            return;
        }
        match lists::remove(&self.folder, Own::Auto, &removals) {
            Ok(_) => self.read_by(Instant::now()),
            Err(error) => tracing::warn!("auto.txt holds for addresses that others get: {error}"),
        }
    }

    pub(super) fn forgive(&mut self, addresses: &[IpAddr]) {
        if addresses.is_empty() || !self.settings.writes {
            return;
        }
        let entries: HashSet<Entry> =
            addresses.iter().map(|address| Entry::from(*address)).collect();
        self.accused.retain(|accused| !entries.contains(&accused.entry));
        let removals: Vec<Removal> =
            entries.into_iter().map(|entry| Removal { entry, from: None }).collect();
        match lists::remove(&self.folder, Own::Auto, &removals) {
            // Without a change another reading would find the same again.
            Ok(removed) if removed.is_empty() => {}
            Ok(_) => self.read_by(Instant::now()),
            Err(error) => {
                let count = addresses.len();
                tracing::warn!("{count} addresses stay blocked although they are resolved: {error}")
            }
        }
    }

    fn knows(&self, address: IpAddr) -> bool {
        self.shared.engine.registry().with_names(address, |_| ()).is_some()
    }
}

/// What `auto.txt` has.
#[derive(Debug, Default)]
struct Listed {
    addresses: HashSet<IpAddr>,
    /// Entries because of each container.
    sources: HashMap<IpAddr, u64>,
}

impl Listed {
    fn read(folder: &Folder) -> Listed {
        let mut listed = Listed::default();
        let read = Source::own(folder, Own::Auto).read(&mut |line| {
            if let lists::Line::Item(item) = line {
                listed.addresses.extend(item.entry.single());
                if let Some(source) = source_of(item.from, item.note) {
                    *listed.sources.entry(source).or_default() += 1;
                }
            }
        });
        if let Err(error) = read {
            tracing::warn!("auto.txt: {error}");
        }
        listed
    }
}

/// The container behind an entry: the one it holds for, or the one our comment ends with.
fn source_of(from: Option<IpAddr>, note: Option<&str>) -> Option<IpAddr> {
    from.or_else(|| note?.rsplit(' ').next()?.parse().ok())
}

fn flow_text(flow: &Flow) -> String {
    format!("{}/{}", flow.proto.as_str(), flow.dst.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_container_is_charged_with_its_entries() {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        std::fs::create_dir(folder.lists()).unwrap();
        let text = "192.0.2.1 # never-resolved: tcp/443 from 10.0.0.2\n\
                    192.0.2.2 from=10.0.0.2 # mine\n\
                    192.0.2.3 # never-resolved: udp/443 from 10.0.0.3\n\
                    192.0.2.4 # nobody's\n192.0.2.5\n";
        std::fs::write(folder.own(Own::Auto), text).unwrap();
        let listed = Listed::read(&folder);
        let (one, other) = ("10.0.0.2".parse().unwrap(), "10.0.0.3".parse().unwrap());
        assert_eq!(listed.sources, HashMap::from([(one, 2), (other, 1)]));
        assert_eq!(listed.addresses.len(), 5);
    }
}
