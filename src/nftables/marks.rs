//! What a run notes down in the table itself, so that it survives a crash and comes and goes with the rules. Pure.
//!
//! Chains nothing leads to hold it: an empty one says that a run put the rules in; copies of the user's own rules
//! say what a run has changed in place and has to put back.

use super::names;
use super::ruleset::{Chain, Ruleset};

impl Ruleset {
    /// True if `synhold run` put these rules in.
    pub fn is_owned(&self) -> bool {
        self.chain(names::OWNED).is_some_and(|chain| chain.hook.is_none())
    }

    /// The same rules without any note.
    pub fn unmarked(&self) -> Ruleset {
        let mut same = self.clone();
        same.chains.retain(|chain| !is_note(&chain.name));
        same
    }

    /// These rules with a copy of those of `previous` that they replace.
    pub fn remembering(mut self, previous: &Ruleset) -> Ruleset {
        let copies = previous.chains.iter().filter_map(|chain| {
            let (_, copy) = names::COPIES.iter().find(|(name, _)| *name == chain.name)?;
            Some(Chain { name: (*copy).to_owned(), hook: None, rules: chain.rules.clone() })
        });
        self.chains.extend(copies);
        self
    }

    /// The rules a run replaced and has not put back yet. Of the sets, those there are now.
    pub fn remembered(&self) -> Option<Ruleset> {
        let original = |chain: &Chain| {
            let (_, copy) = names::COPIES.iter().find(|(name, _)| *name == chain.name)?;
            let rules = self.chain(copy)?.rules.clone();
            Some(Chain { rules, ..chain.clone() })
        };
        let chains: Vec<Chain> = self.chains.iter().filter_map(original).collect();
        let known = chains.iter().any(|chain| chain.name == names::FORWARD);
        known.then(|| Ruleset { chains, ..self.clone() })
    }
}

fn is_note(chain: &str) -> bool {
    chain == names::OWNED || names::COPIES.iter().any(|(_, copy)| *copy == chain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::{Options, Posture};

    #[test]
    fn replaced_rules_are_remembered_and_notes_go_without_a_trace() {
        let users = Ruleset::new(&Options::default());
        let ours = Ruleset::new(&Options { posture: Posture::Open, ..Options::default() });
        assert_eq!(ours.remembered(), None);
        let both = ours.clone().remembering(&users);
        assert_eq!(both.remembered(), Some(users));
        assert_eq!(both.unmarked(), ours);
        let owned = Ruleset::new(&Options { owned: true, ..Options::default() });
        assert!(owned.is_owned() && !owned.unmarked().is_owned());
    }
}
