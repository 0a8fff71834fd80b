//! The rules that options ask for.

use super::options::Options;
use super::ruleset::{Chain, Hook, Ruleset};
use super::{names, rules, sets};

impl Ruleset {
    /// The rules these options ask for.
    pub fn new(options: &Options) -> Ruleset {
        let hook = Hook {
            kind: "filter".to_owned(),
            num: rustables::HookClass::Forward as u32,
            priority: names::PRIORITY,
            policy_drop: false,
        };
        let chain = |name: &str, hook, rules| Chain { name: name.to_owned(), hook, rules };
        let mut chains = vec![
            chain(names::FORWARD, Some(hook), rules::forward(options)),
            chain(names::VERDICT, None, rules::verdict(options)),
            chain(names::REFUSE, None, rules::refuse(options.refuse)),
            chain(names::BLOCKED, None, rules::blocked(options.dry_run)),
            chain(names::INBOUND, None, rules::inbound(options.dry_run)),
        ];
        chains.extend(options.owned.then(|| chain(names::OWNED, None, Vec::new())));
        Ruleset { dormant: false, sets: sets::wanted(options), chains }
    }
}
