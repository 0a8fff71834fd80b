//! Whether there are rules that ask the sets at all.

use serde::{Deserialize, Serialize};

use crate::nftables::expr::{Expr, Verdict};
use crate::nftables::{Ruleset, names};

/// What the kernel's rules do with what the sets say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RulesState {
    /// They refuse.
    Enforcing,
    /// They count only.
    DryRun,
    /// They are there, and switched off.
    Dormant,
    /// There are none.
    Absent,
}

impl RulesState {
    /// The word in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            RulesState::Enforcing => "enforcing",
            RulesState::DryRun => "dry-run",
            RulesState::Dormant => "dormant",
            RulesState::Absent => "absent",
        }
    }

    /// What these rules do.
    pub fn of(rules: Option<&Ruleset>) -> RulesState {
        let Some(rules) = rules else { return RulesState::Absent };
        let refuses =
            |expr: &Expr| matches!(expr, Expr::Verdict(Verdict::Goto(to)) if to == names::REFUSE);
        let blocked = rules.chain(names::CUT);
        let enforcing = blocked
            .is_some_and(|chain| chain.rules.iter().any(|rule| rule.exprs.iter().any(refuses)));
        match (rules.dormant, enforcing) {
            (true, _) => RulesState::Dormant,
            (false, true) => RulesState::Enforcing,
            (false, false) => RulesState::DryRun,
        }
    }

    /// True if the sets are asked.
    pub fn is_active(self) -> bool {
        matches!(self, RulesState::Enforcing | RulesState::DryRun)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::Options;

    #[test]
    fn rules_tell_what_they_do() {
        let state = |dry_run, dormant| {
            let mut rules = Ruleset::new(&Options { dry_run, ..Options::default() });
            rules.dormant = dormant;
            RulesState::of(Some(&rules))
        };
        assert_eq!(state(false, false), RulesState::Enforcing);
        assert_eq!(state(true, false), RulesState::DryRun);
        assert_eq!(state(false, true), RulesState::Dormant);
        assert_eq!(RulesState::of(None), RulesState::Absent);
    }
}
