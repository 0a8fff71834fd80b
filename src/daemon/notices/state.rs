//! What no event tells: the evidence, the canary, and who is in quarantine, looked at every second.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use crate::alert::Severity;
use crate::control::{Canary, CanaryState};
use crate::daemon::shared::Shared;
use crate::engine::alert::Topic;
use crate::engine::health::{Evidence, SourceState};
use crate::engine::lists::Lists;
use crate::engine::{Mono, Now};

/// How long the evidence is doubted before anybody is told: a source that starts anew is doubted for ten seconds.
const EVIDENCE_PATIENCE: Duration = Duration::from_secs(15);

/// What is to be told: how bad it is, what it is about, who or what, and a sentence.
pub type Change = (Severity, Topic, String, String);

/// As it was at the last look.
pub struct States {
    evidence: Doubt,
    silent: BTreeSet<String>,
    /// Somebody was told that the canary fails.
    canary_fails: bool,
    lists: Arc<Lists>,
    quarantined: BTreeSet<String>,
}

/// Whether the evidence is doubted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doubt {
    None,
    Since(Mono),
    Told,
}

impl States {
    /// What is so at start is no news, but for what is wrong.
    pub fn new(shared: &Shared) -> States {
        let lists = shared.engine.lists();
        let quarantined = quarantined(&lists);
        let (evidence, silent) = (Doubt::None, BTreeSet::new());
        States { evidence, silent, canary_fails: false, lists, quarantined }
    }

    /// What changed since the last look.
    pub fn look(&mut self, shared: &Shared, now: Now) -> Vec<Change> {
        let mut changes = Vec::new();
        changes.extend(self.evidence(&shared.engine.evidence(now), now.mono));
        changes.extend(self.silence(&shared.engine.source_states(now)));
        changes.extend(self.canary(&shared.canary().clone()));
        changes.extend(self.quarantine(shared.engine.lists()));
        changes
    }

    fn evidence(&mut self, evidence: &Evidence, now: Mono) -> Option<Change> {
        let change = |severity, message| {
            Some((severity, Topic::Evidence, Topic::Evidence.as_str().to_owned(), message))
        };
        match (evidence.healthy, self.evidence) {
            (true, before) => {
                self.evidence = Doubt::None;
                let told = before == Doubt::Told;
                told.then(|| {
                    change(Severity::Info, "the DNS evidence is healthy again".to_owned())
                })?
            }
            (false, Doubt::None) => {
                self.evidence = Doubt::Since(now);
                None
            }
            (false, Doubt::Since(since)) if now.since(since) >= EVIDENCE_PATIENCE => {
                self.evidence = Doubt::Told;
                let why = evidence.why.join("; ");
                change(
                    Severity::Critical,
                    format!("the DNS evidence is not healthy, so nobody is accused: {why}"),
                )
            }
            (false, Doubt::Since(_) | Doubt::Told) => None,
        }
    }

    /// A dnsmasq that does not answer: no doubt about what it answered before, and yet containers are without DNS.
    fn silence(&mut self, sources: &[SourceState]) -> Vec<Change> {
        let silent = sources.iter().filter(|source| source.is_silent());
        let now: BTreeSet<String> = silent.map(|source| source.label.clone()).collect();
        let before = std::mem::replace(&mut self.silent, now);
        let change = |severity, label: &String, what: &str| {
            (severity, Topic::Evidence, label.clone(), format!("DNS source {label} {what}"))
        };
        let what = "does not answer: containers resolve nothing";
        let fell = self.silent.difference(&before);
        let fell = fell.map(|label| change(Severity::Critical, label, what));
        let back = before.difference(&self.silent);
        fell.chain(back.map(|label| change(Severity::Info, label, "answers again"))).collect()
    }

    fn canary(&mut self, canary: &Canary) -> Option<Change> {
        let change = |severity, message: String| {
            Some((severity, Topic::Canary, Topic::Canary.as_str().to_owned(), message))
        };
        // Between failing and passing it may wait for what it needs, which proves neither.
        match (self.canary_fails, canary.state) {
            (false, CanaryState::Failing) => {
                self.canary_fails = true;
                change(Severity::Critical, format!("the canary fails: {}", canary.message))
            }
            (true, CanaryState::Passing) => {
                self.canary_fails = false;
                change(Severity::Info, format!("the canary passes again: {}", canary.message))
            }
            _ => None,
        }
    }

    fn quarantine(&mut self, lists: Arc<Lists>) -> Vec<Change> {
        if Arc::ptr_eq(&lists, &self.lists) {
            return Vec::new();
        }
        let now = quarantined(&lists);
        let before = std::mem::replace(&mut self.quarantined, now);
        self.lists = lists;
        let change = |severity, who: &String, what: &str| {
            (severity, Topic::Quarantined, who.clone(), format!("{who} {what}"))
        };
        let put = self.quarantined.difference(&before);
        let put = put
            .map(|who| change(Severity::Warning, who, "was put into quarantine: nothing passes"));
        let left = before.difference(&self.quarantined);
        let left = left.map(|who| change(Severity::Info, who, "is out of quarantine"));
        put.chain(left).collect()
    }
}

/// Containers by name, and addresses.
fn quarantined(lists: &Lists) -> BTreeSet<String> {
    let addresses = lists.quarantine.iter().map(|(address, _)| address.to_string());
    addresses.chain(lists.confined.names().map(ToString::to_string)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn states() -> States {
        let (silent, lists, quarantined) = Default::default();
        States { evidence: Doubt::None, silent, canary_fails: false, lists, quarantined }
    }

    #[test]
    fn evidence_is_told_once_it_is_doubted_for_a_while_and_when_that_ends() {
        let mut states = states();
        let mut look = |healthy, second| {
            let why = vec!["file:x down".to_owned()];
            let evidence = Evidence { healthy, why, ..Evidence::default() };
            let told = states.evidence(&evidence, Mono(0) + Duration::from_secs(second));
            told.map(|(severity, _, _, message)| (severity, message))
        };
        assert_eq!((look(false, 0), look(false, 14), look(true, 15)), (None, None, None));
        assert_eq!((look(false, 20), look(false, 34)), (None, None));
        let (severity, message) = look(false, 35).unwrap();
        assert!(severity == Severity::Critical && message.ends_with("file:x down"), "{message}");
        assert_eq!(look(false, 99), None);
        assert_eq!(look(true, 100).unwrap().0, Severity::Info);
        assert_eq!(look(true, 101), None);
    }

    #[test]
    fn a_dnsmasq_that_does_not_answer_is_told_once_and_so_is_its_return() {
        let mut states = states();
        let mut look = |unanswered| -> Vec<(Severity, String)> {
            let source =
                SourceState { label: "spawn".to_owned(), unanswered, ..Default::default() };
            let told = states.silence(&[source]);
            told.into_iter().map(|(severity, _, who, _)| (severity, who)).collect()
        };
        let told = |severity| vec![(severity, "spawn".to_owned())];
        assert_eq!((look(None), look(Some(0)), look(Some(1))), (vec![], vec![], vec![]));
        assert_eq!((look(Some(2)), look(Some(3))), (told(Severity::Critical), vec![]));
        assert_eq!((look(Some(0)), look(Some(0))), (told(Severity::Info), vec![]));
    }

    #[test]
    fn a_canary_is_told_when_it_fails_and_when_it_passes_again() {
        let mut states = states();
        let mut look = |state| {
            let canary = Canary { state, message: "x".to_owned(), ..Canary::default() };
            states.canary(&canary).map(|(severity, ..)| severity)
        };
        use CanaryState::{Failing, Passing, Waiting};
        let (bad, well) = (Some(Severity::Critical), Some(Severity::Info));
        let told = [Waiting, Passing, Failing, Failing, Passing, Passing].map(&mut look);
        assert_eq!(told, [None, None, bad, None, well, None]);
        let told = [Failing, Waiting, Failing, Waiting, Passing, Waiting, Passing].map(&mut look);
        assert_eq!(told, [bad, None, None, None, well, None, None], "it waits in between");
    }

    #[test]
    fn whoever_is_put_into_quarantine_is_told_of() {
        let mut states = states();
        let lists = |addresses: &[u8]| {
            let quarantine = addresses.iter().map(|n| ([172, 17, 0, *n].into(), None)).collect();
            Arc::new(Lists { quarantine, ..Lists::default() })
        };
        let mut look = |addresses: &[u8]| -> Vec<String> {
            let told = states.quarantine(lists(addresses));
            told.into_iter().map(|(.., message)| message).collect()
        };
        assert_eq!(look(&[2]), ["172.17.0.2 was put into quarantine: nothing passes"]);
        assert!(look(&[2]).is_empty());
        assert_eq!(look(&[]), ["172.17.0.2 is out of quarantine"]);
    }
}
