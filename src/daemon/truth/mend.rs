//! What others change in our table: told, and put back.

use std::time::{Duration, Instant, SystemTime};

use super::Keeper;
use crate::daemon::lock;
use crate::daemon::rules::Command;
use crate::daemon::sets::Loaded;

/// Mends in a minute after which somebody else is at work: then only reports, until a minute is over.
const MENDS_A_MINUTE: usize = 10;

/// From a command's word that it comes to its change in the kernel at most.
const COMMAND_SLACK: Duration = Duration::from_secs(10);

impl Keeper {
    /// Compares rules and sets with what is wanted, and puts back what differs; `deep` looks into larger sets too.
    pub(super) fn compare(&mut self, deep: bool) {
        let differed = self.differs;
        let mended = self.check();
        self.shared.pulse.compared(self.differs);
        if self.differs {
            return;
        }
        if std::mem::take(&mut self.users) {
            // What a person did is what is wanted now.
            self.applied_at = SystemTime::now();
        }
        if self.pending.is_some() {
            // What was missing may have been the sets themselves.
            if differed {
                self.load(true, 0);
            }
            return;
        }
        match self.sets.doubt(deep, |pair| self.shared.denied.has(pair)) {
            Ok(Loaded { added: 0, removed: 0, .. }) => {}
            Ok(loaded) => {
                self.shared.pulse.mended();
                self.report(false, put_back(loaded, 0, true));
                self.report(true, "the list sets are what the lists say again".to_owned());
            }
            Err(error) => return tracing::warn!("cannot read the list sets: {error:#}"),
        }
        self.changed |= self.sets.is_wary();
        if self.sets.is_unsure(&self.wants) {
            self.mend_sets(mended);
        }
    }

    /// Compares the rules with what is wanted, and puts back what differs; true if it did.
    fn check(&mut self) -> bool {
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
        let commanded = self.users || lock::rules_commanded_since(self.applied_at);
        if commanded && self.is_by_command(&drift, already) {
            return false;
        }
        if !self.may_mend() {
            if !already {
                let message = format!(
                    "somebody keeps changing the rules: {drift}; they are not put back for a minute"
                );
                self.report(false, message);
            }
            return false;
        }
        self.report(false, format!("somebody changed the rules: {drift}; they are put back"));
        match self.rules.mend() {
            Ok(()) => {
                self.shared.pulse.mended();
                self.applied_at = SystemTime::now();
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

    /// Whether a person made the rules what they are, by `synhold rules`; what there is of them is then kept as it is.
    fn is_by_command(&mut self, drift: &str, already: bool) -> bool {
        let advice = "`synhold rules install` with the same options puts them back";
        let changed = |how: &str| format!("`synhold rules` changed the rules: {how}; {advice}");
        match self.rules.adopt() {
            Ok(Command::Removed) => {
                self.users = true;
                if !already {
                    self.report(false, changed(drift));
                }
            }
            Ok(Command::Changed(how)) => {
                self.settle();
                self.report(false, changed(&how));
            }
            Ok(Command::Restored) => {
                self.settle();
                self.report(true, "the rules are as they should be again".to_owned());
            }
            Ok(Command::None) => return self.users,
            Err(error) => tracing::warn!("cannot read the rules: {error:#}"),
        }
        true
    }

    /// What a person did is what is wanted now; what comes next is another's doing.
    fn settle(&mut self) {
        (self.users, self.differs) = (false, false);
        self.applied_at = SystemTime::now();
    }

    /// The rules are as they should be up to now: a command of before has done what it does.
    pub(super) fn note_calm(&mut self) {
        if let Some(past) = SystemTime::now().checked_sub(COMMAND_SLACK)
            && !self.changed
            && !self.differs
        {
            self.applied_at = self.applied_at.max(past);
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

    /// Brings sets that others may have changed to what the lists say, and ends what was opened meanwhile. Sets that are
    /// left as they are for a while are made up for by the daemon, which judges by the lists.
    fn mend_sets(&mut self, mended: bool) {
        let Some(lists) = self.lists.clone() else { return };
        if self.sets_left && !self.may_mend() {
            return;
        }
        match self.bring() {
            Ok(loaded) if loaded.added + loaded.removed > 0 => {
                // Empty sets belong to rules that were put back, and are no second mend.
                let may = mended || self.sets_left || self.may_mend();
                self.sets_left = !may;
                let ended = self.revoke(&lists);
                self.report(false, put_back(loaded, ended, may));
                if may {
                    self.shared.pulse.mended();
                    self.report(true, "the list sets are what the lists say again".to_owned());
                }
            }
            Ok(_) if std::mem::take(&mut self.sets_left) => {
                self.report(true, "the list sets are what the lists say".to_owned());
            }
            // Rules that were put back may have let flows through although no set was touched.
            Ok(_) if mended => {
                self.revoke(&lists);
            }
            Ok(_) => {}
            Err(error) => {
                self.report(false, format!("the list sets cannot be put back: {error:#}"));
            }
        }
    }
}

fn put_back(loaded: Loaded, ended: u64, may: bool) -> String {
    let rest = if may { "" } else { "; next time they are not put back for a minute" };
    let flows = match ended {
        0 => String::new(),
        ended => format!(", {ended} open flows ended"),
    };
    format!(
        "somebody changed the list sets: {} elements put back, {} taken out in {} ms{flows}{rest}",
        loaded.added,
        loaded.removed,
        loaded.took.as_millis()
    )
}
