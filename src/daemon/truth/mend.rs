//! What others change in our table: told, and put back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Keeper;
use crate::engine::lists::Lists;
use crate::nftables::{Changes, Who};

/// Mends in a minute after which somebody else is at work: then only reports, until a minute is over.
const MENDS_A_MINUTE: usize = 10;

impl Keeper {
    /// What others did to our table.
    pub(super) fn heard(&mut self, changes: &Changes) {
        if !changes.is_ours_touched() {
            return;
        }
        if changes.overflow || changes.table_deleted {
            self.sets.forget_all();
        }
        changes.sets_touched.iter().for_each(|set| self.sets.forget(set));
        if changes.rules_touched || changes.table_deleted {
            self.users = changes.others.iter().any(is_synhold);
        }
        let mended = self.check(&changes.others);
        if !self.differs {
            self.users = false;
            // Empty sets belong to rules that were put back, and are no second mend.
            if mended || self.may_mend_sets(&changes.others) {
                self.mend_sets(&changes.others);
            }
        }
    }

    /// Compares the rules with what is wanted, and puts back what differs; true if it did.
    pub(super) fn check(&mut self, who: &[Who]) -> bool {
        let drift = match self.rules.drift() {
            Ok(drift) => drift,
            Err(error) => {
                tracing::warn!("cannot read the rules: {error:#}");
                return false;
            }
        };
        let Some(drift) = drift else {
            if std::mem::take(&mut self.differs) {
                self.report(true, "the rules are as they should be again".to_owned());
            }
            return false;
        };
        let already = std::mem::replace(&mut self.differs, true);
        let by = named(who);
        if self.users {
            let advice = "`synhold rules install` with the same options puts them back";
            self.report(false, format!("`synhold rules` changed the rules: {drift}; {advice}"));
            return false;
        }
        if !self.may_mend() {
            if !already {
                let message = format!(
                    "{by} keeps changing the rules: {drift}; they are not put back for a minute"
                );
                self.report(false, message);
            }
            return false;
        }
        self.report(false, format!("{by} changed the rules: {drift}; they are put back"));
        match self.rules.mend() {
            Ok(()) => {
                self.sets.forget_all();
                self.check_again();
                true
            }
            Err(error) => {
                self.report(false, format!("the rules cannot be put back: {error:#}"));
                false
            }
        }
    }

    fn check_again(&mut self) {
        if matches!(self.rules.drift(), Ok(None)) {
            self.differs = false;
            self.report(true, "the rules are as they should be again".to_owned());
        }
    }

    fn may_mend(&mut self) -> bool {
        let now = Instant::now();
        self.mends.retain(|at| now.duration_since(*at) < Duration::from_secs(60));
        let may = self.mends.len() < MENDS_A_MINUTE;
        if may {
            self.mends.push_back(now);
        }
        may
    }

    /// Whether there is something to be done about the sets, and it may be done. If not, the daemon judges by the lists
    /// what the kernel's sets let through, until the next look at everything.
    fn may_mend_sets(&mut self, who: &[Who]) -> bool {
        let unsure = |lists: &Arc<Lists>| self.sets.is_unsure(&self.wants(lists));
        if !self.lists.as_ref().is_some_and(unsure) {
            return false;
        }
        let may = self.may_mend();
        if !may && !std::mem::replace(&mut self.sets_left, true) {
            let by = named(who);
            let message = format!(
                "{by} keeps changing the list sets; they are not put back for a minute, and the daemon judges by the lists"
            );
            self.report(false, message);
        }
        may
    }

    /// Brings sets that others touched back to what the lists say.
    fn mend_sets(&mut self, who: &[Who]) {
        let Some(lists) = self.lists.clone() else { return };
        if !self.sets.is_unsure(&self.wants(&lists)) {
            return;
        }
        match self.bring(&lists) {
            Ok(loaded) if loaded.added + loaded.removed > 0 || self.sets_left => {
                self.sets_left = false;
                let message = format!(
                    "{} changed the list sets: {} elements put back, {} taken out in {} ms",
                    named(who),
                    loaded.added,
                    loaded.removed,
                    loaded.took.as_millis()
                );
                self.report(false, message);
                self.report(true, "the list sets are what the lists say again".to_owned());
            }
            Ok(_) => {}
            Err(error) => {
                self.report(false, format!("the list sets cannot be put back: {error:#}"))
            }
        }
    }

    /// What could not be loaded is tried again.
    pub(super) fn retry(&mut self) {
        if !self.differs {
            self.mend_sets(&[]);
        }
    }
}

/// A `synhold` of another process: a person at the command line.
fn is_synhold(who: &Who) -> bool {
    who.name == env!("CARGO_PKG_NAME") && !is_own_thread(who.pid)
}

fn is_own_thread(id: u32) -> bool {
    std::path::Path::new("/proc/self/task").join(id.to_string()).exists()
}

fn named(who: &[Who]) -> String {
    let names: Vec<String> = who
        .iter()
        .filter(|who| !is_own_thread(who.pid))
        .map(|who| format!("{} (process {})", who.name, who.pid))
        .collect();
    if names.is_empty() { "somebody".to_owned() } else { names.join(" and ") }
}
