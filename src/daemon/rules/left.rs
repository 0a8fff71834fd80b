//! What a run left in the user's own rules beyond what was theirs: the networks of an engine, which may be gone at the next.

use std::net::IpAddr;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::daemon::clock;
use crate::engine::intervals::Span;
use crate::engine::net::{Family, number};
use crate::nftables::element::Key;
use crate::nftables::{Ruleset, names};
use crate::store::{Small, Version};

const FILE: &str = "networks-left.json";
/// Bytes of the file at most: some thousand networks.
const BYTES_MAX: u64 = 1024 * 1024;
const LOSS: &str = "networks that the last run left in the rules are taken for yours";

/// First and last address.
type Range = (IpAddr, IpAddr);

/// The file.
#[derive(Debug, Default)]
pub struct Left {
    file: Small,
    saved: Option<Saved>,
}

/// What stands in it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: Version<1>,
    /// Judged when the run ended.
    left: Vec<Range>,
    /// Those of them that are the user's.
    users: Vec<Range>,
}

impl Left {
    /// What was left by the last run with this `state_dir`; with `memory_only` nothing is ever written there.
    pub fn load(state_dir: &Path, memory_only: bool) -> Left {
        let file = Small::new(state_dir.join(FILE), BYTES_MAX, !memory_only);
        let saved = file.load_or_warn(LOSS, clock::wall(), Saved::sound);
        Left { file, saved }
    }

    /// The user's own of these rules, unless somebody changed since which networks they judge.
    pub fn users_of(&self, mut rules: Ruleset) -> Ruleset {
        if let Some(saved) = &self.saved
            && saved.left == judged(&rules)
        {
            judge(&mut rules, &saved.users);
        }
        rules
    }

    /// Notes what of `left`, which now stands in place of `users`, is not theirs.
    pub fn note(&self, left: &Ruleset, users: &Ruleset) {
        let saved = Saved { version: Version, left: judged(left), users: judged(users) };
        let done = match saved.left == saved.users {
            true => self.file.remove(),
            false => self.file.save(&saved),
        };
        if let Err(error) = done {
            tracing::warn!("{error}");
        }
    }
}

impl Saved {
    fn sound(self) -> Option<Saved> {
        let is_range = |(first, last): &Range| {
            Family::of(*first) == Family::of(*last) && number(*first) <= number(*last)
        };
        let sound = self.left.iter().chain(&self.users).all(is_range);
        sound.then_some(self)
    }
}

/// The networks that rules judge.
fn judged(rules: &Ruleset) -> Vec<Range> {
    let sets = Family::BOTH.into_iter().filter_map(|f| rules.set(names::CONTAINERS.of(f)));
    let range = |(family, span): (Family, Span)| {
        (family.address(span.first()), family.address(span.last()))
    };
    sets.flat_map(|set| set.ranges()).map(range).collect()
}

fn judge(rules: &mut Ruleset, ranges: &[Range]) {
    for family in Family::BOTH {
        let here = ranges.iter().filter(|(first, _)| Family::of(*first) == family);
        let key =
            |(first, last): &Range| Key::Span(family, Span::new(number(*first), number(*last)));
        let name = names::CONTAINERS.of(family);
        if let Some(set) = rules.sets.iter_mut().find(|set| set.name == name) {
            set.elements = Some(here.map(key).collect());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::Options;

    fn rules(nets: &[&str]) -> Ruleset {
        let containers = nets.iter().map(|net| net.parse().unwrap()).collect();
        Ruleset::new(&Options { containers, ..Options::default() })
    }

    #[test]
    fn what_a_run_left_is_known_by_the_next_unless_somebody_changed_it() {
        let folder = tempfile::tempdir().unwrap();
        let users = rules(&["172.16.0.0/12"]);
        let left = users.judging_also(&rules(&["10.9.0.0/16", "172.17.0.0/16", "fd09::/64"]));
        assert_eq!(Left::load(folder.path(), false).users_of(left.clone()), left);
        Left::load(folder.path(), true).note(&left, &users);
        assert_eq!(Left::load(folder.path(), true).users_of(left.clone()), left, "not written");
        Left::load(folder.path(), false).note(&left, &users);
        let next = Left::load(folder.path(), false);
        assert_eq!(next.users_of(left.clone()), users);
        let other = rules(&["10.9.0.0/16"]);
        assert_eq!(next.users_of(other.clone()), other);
        // A run that left nothing has nothing taken out.
        next.note(&users, &users);
        assert_eq!(Left::load(folder.path(), false).users_of(left.clone()), left);
        for rubbish in ["", "{}", r#"{"version":1,"left":[["::1","1.1.1.1"]],"users":[]}"#] {
            std::fs::write(folder.path().join(FILE), rubbish).unwrap();
            assert!(Left::load(folder.path(), false).saved.is_none(), "{rubbish}");
        }
    }
}
