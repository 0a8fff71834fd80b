//! Whether there are rules that ask the sets at all.

use serde::{Deserialize, Serialize};

use crate::nfq::counters;
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

/// Where packets go that no set decides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Queue {
    /// Somebody serves it, and judges them.
    Served,
    /// Nobody does, and they pass.
    Passing,
    /// Nobody does, and they are dropped.
    Dropping,
}

impl Queue {
    /// What becomes of them by these rules now; nothing if they queue nothing. Queues that cannot be read are not told to be unserved.
    pub fn of(rules: &Ruleset) -> Option<Queue> {
        let all = counters::read().ok();
        let served = all.map(|all| all.iter().map(|one| one.queue).collect::<Vec<u16>>());
        Queue::by(rules, served.as_deref())
    }

    fn by(rules: &Ruleset, served: Option<&[u16]>) -> Option<Queue> {
        let to = |expr: &Expr| match expr {
            Expr::Queue(to) | Expr::TargetNfqueue(to) => Some(*to),
            _ => None,
        };
        let mut all =
            rules.chains.iter().flat_map(|chain| &chain.rules).flat_map(|rule| &rule.exprs);
        let to = all.find_map(to).filter(|_| !rules.dormant)?;
        let mut numbers = (to.num..).take(usize::from(to.total.max(1)));
        Some(match (numbers.all(|n| served.is_none_or(|s| s.contains(&n))), to.bypass) {
            (true, _) => Queue::Served,
            (false, true) => Queue::Passing,
            (false, false) => Queue::Dropping,
        })
    }
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
    use crate::nftables::{Options, Posture};

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

    #[test]
    fn a_queue_that_nobody_serves_does_as_the_rules_say() {
        let by = |posture, served: Option<&[u16]>| {
            let options = Options { posture, queue_num: 4, queues: 2, ..Options::default() };
            Queue::by(&Ruleset::new(&options), served)
        };
        assert_eq!(by(Posture::Closed, Some(&[4, 5])), Some(Queue::Served));
        assert_eq!(by(Posture::Closed, Some(&[4, 6])), Some(Queue::Dropping), "half of it");
        assert_eq!(by(Posture::Open, Some(&[])), Some(Queue::Passing));
        assert_eq!(by(Posture::Closed, None), Some(Queue::Served), "nobody says so");
        let mut asleep = Ruleset::new(&Options::default());
        asleep.dormant = true;
        assert_eq!(Queue::by(&asleep, Some(&[])), None);
    }
}
