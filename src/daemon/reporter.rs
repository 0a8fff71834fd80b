//! What is told about the lists: what is wrong with them once, what was loaded in a file for the command line.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::clock;
use super::feeds::FeedNews;
use super::glance;
use super::pulse::Lists;
use super::shared::Shared;
use super::told::Told;
use super::truth::Held;
use crate::engine::Wall;
use crate::engine::event::ListsReload;
use crate::lists::{
    Compiled, FeedReport, Folder, ListReport, ListStatus, Protected, SetStatus, Status,
};

/// Tells what is new, and keeps the status file.
pub struct Reporter {
    folder: Folder,
    writes: bool,
    /// What was said about each list last.
    said: HashMap<String, Vec<String>>,
    /// Feeds whose last fetching failed.
    failed: HashSet<String>,
    status: Status,
    told: Arc<Told>,
    auto_full: bool,
}

impl Reporter {
    /// Nothing told yet.
    pub fn new(
        folder: &Folder,
        writes: bool,
        protected: &[Protected],
        told: &Arc<Told>,
    ) -> Reporter {
        let (pid, protected) = (std::process::id(), protected.to_vec());
        let status = Status { pid, protected, ..Status::default() };
        let (said, failed, auto_full) = Default::default();
        let (folder, told) = (folder.clone(), Arc::clone(told));
        Reporter { folder, writes, said, failed, status, told, auto_full }
    }

    /// The lists were read, from `began` on; `news` is true if they say something the kernel was not told before.
    pub fn compiled(
        &mut self,
        compiled: &Compiled,
        (began, news): (Wall, bool),
        feeds: &[FeedReport],
        shared: &Shared,
    ) {
        for report in &compiled.per_list {
            self.tell(report, shared);
        }
        self.auto_full = false;
        self.status.next_expiry = compiled.next_expiry;
        let plain = |report: &ListReport| ListStatus {
            report: report.clone(),
            source: None,
            fetched: None,
            next_fetch: None,
            last_error: report.error.clone(),
        };
        self.status.read = Some(began);
        self.status.in_force &= !news;
        self.status.lists = compiled.per_list.iter().map(plain).collect();
        self.describe(feeds, shared);
    }

    /// What is known about the feeds beyond their content.
    pub fn describe(&mut self, feeds: &[FeedReport], shared: &Shared) {
        for feed in feeds {
            let Some(list) =
                self.status.lists.iter_mut().find(|list| list.report.name == feed.name)
            else {
                continue;
            };
            list.source = Some(feed.source.clone());
            (list.fetched, list.next_fetch) = (feed.fetched, Some(feed.next_fetch));
            list.last_error = feed.last_error.clone().or(list.report.error.clone());
        }
        shared.desk.set_lists(glance::lists(&self.status.lists, feeds));
        self.write(shared);
    }

    /// A feed was looked at.
    pub fn fetched(&mut self, news: &FeedNews, shared: &Shared) {
        let name = &news.name;
        match (&news.error, self.failed.contains(name)) {
            (Some(error), _) if self.failed.insert(name.clone()) => {
                let holds = if news.is_new { "" } else { "; what was fetched before holds" };
                let message = format!("feed {name}: {error}{holds}");
                shared.report_health("lists", false, message);
            }
            (None, true) => {
                self.failed.remove(name);
                shared.report_health("lists", true, format!("feed {name} is fetched again"));
            }
            _ => {}
        }
    }

    /// What reading our own files brought beyond their content.
    pub fn notices(&self, notices: &[String], shared: &Shared) {
        for notice in notices {
            shared.report_health("lists", false, notice.clone());
        }
    }

    /// The kernel has some reading of them; `newest` if it is the last one. True the first time.
    pub fn loaded(
        &mut self,
        reload: ListsReload,
        held: Held,
        newest: bool,
        shared: &Shared,
    ) -> bool {
        let loaded = Some(clock::wall());
        let set = |(name, wanted): &(&'static str, u64)| SetStatus {
            name: (*name).to_owned(),
            wanted: *wanted,
            loaded_at: loaded,
            took_ms: reload.took_ms,
            added: reload.added,
            removed: reload.removed,
        };
        self.status.sets = held.sets.iter().map(set).collect();
        self.status.named = held.named;
        self.status.loads += 1;
        self.status.ended_flows = reload.ended_flows;
        self.status.ended_in_all += reload.ended_flows;
        self.status.in_force = newest;
        self.write(shared);
        self.status.loads == 1
    }

    /// A refused destination cannot be listed; told once until the lists are read again.
    pub fn auto_full(&mut self, why: &str, shared: &Shared) {
        if std::mem::replace(&mut self.auto_full, true) {
            return;
        }
        let message = format!("refused destinations are not blocked further: {why}");
        shared.report_health("lists", false, message);
    }

    fn tell(&mut self, report: &ListReport, shared: &Shared) {
        let mut messages: Vec<String> = Vec::new();
        messages.extend(report.error.iter().map(|error| format!("list {}: {error}", report.name)));
        messages.extend(report.bad_lines.iter().chain(&report.refused_entries).cloned());
        let more = (report.bad + report.refused)
            .saturating_sub((report.bad_lines.len() + report.refused_entries.len()) as u64);
        if more > 0 {
            messages.push(format!("list {}: {more} more lines are left out", report.name));
        }
        let before = self.said.insert(report.name.clone(), messages.clone()).unwrap_or_default();
        for message in messages.iter().filter(|message| !before.contains(message)) {
            shared.report_health("lists", false, message.clone());
        }
        if messages.is_empty() && !before.is_empty() {
            let message = format!("list {} is understood whole again", report.name);
            shared.report_health("lists", true, message);
        }
    }

    fn write(&mut self, shared: &Shared) {
        let (lists, sets) = (self.status.lists.clone(), self.status.sets.clone());
        *shared.pulse.lists() = Lists { lists, sets };
        self.status.written = Some(clock::wall());
        self.told.put(&self.status);
        if self.writes
            && let Err(error) = self.status.save(&self.folder)
        {
            tracing::debug!("cannot write the status of the lists: {error}");
        }
    }
}
