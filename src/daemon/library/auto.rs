//! Destinations that nobody had resolved, on the block list by themselves: written to `auto.txt`, taken out again.

use std::collections::HashSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use super::Library;
use crate::config::AutoBlock;
use crate::daemon::clock;
use crate::engine::Flow;
use crate::lists::{self, Addition, Entry, Folder, Own, Removal, Source};

/// Entries of `auto.txt`; a container that dials random addresses must not fill the disk.
const AUTO_MAX: u64 = 10_000;
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
        let room = AUTO_MAX.saturating_sub(self.auto_entries);
        if !self.settings.writes || self.accused.len() as u64 >= room {
            return self.reporter.auto_full(self.settings.writes, &self.shared);
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

    pub(super) fn write_accused(&mut self) {
        self.write_at = None;
        let accused = std::mem::take(&mut self.accused);
        if accused.is_empty() {
            return;
        }
        if let Err(error) = lists::add(&self.folder, Own::Auto, &accused) {
            let message =
                format!("{} refused destinations are not blocked further: {error}", accused.len());
            self.shared.report_health("lists", false, message);
        }
        self.read_by(Instant::now());
    }

    pub(super) fn forgive(&mut self, address: IpAddr) {
        let entry = Entry::from(address);
        self.accused.retain(|accused| accused.entry != entry);
        let removal = Removal { entry, from: None };
        match lists::remove(&self.folder, Own::Auto, &[removal]) {
            Ok(_) => self.read_by(Instant::now()),
            Err(error) => {
                tracing::warn!("{address} stays blocked although it is resolved now: {error}")
            }
        }
    }
}

/// The destinations of `auto.txt`.
pub(super) fn addresses(folder: &Folder) -> HashSet<IpAddr> {
    let mut addresses = HashSet::new();
    let read = Source::own(folder, Own::Auto).read(&mut |line| {
        if let lists::Line::Item(item) = line {
            addresses.extend(item.entry.single());
        }
    });
    if let Err(error) = read {
        tracing::warn!("auto.txt: {error}");
    }
    addresses
}

fn flow_text(flow: &Flow) -> String {
    format!("{}/{}", flow.proto.as_str(), flow.dst.port())
}
