//! What a run left in the user's own rules beyond what was theirs: the networks of an engine, which may be gone at the next.

use std::io::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::engine::intervals::Span;
use crate::engine::net::{Family, number};
use crate::nftables::element::Key;
use crate::nftables::{Ruleset, names};
use crate::store::write_atomically;

const FILE: &str = "networks-left.json";
const VERSION: u64 = 1;
/// Bytes of the file at most: some thousand networks.
const BYTES_MAX: u64 = 1024 * 1024;

/// First and last address.
type Range = (IpAddr, IpAddr);

/// The file.
#[derive(Debug, Default)]
pub struct Left {
    /// None if nothing may be written.
    path: Option<PathBuf>,
    saved: Option<Saved>,
}

/// What stands in it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Saved {
    version: u64,
    /// Judged when the run ended.
    left: Vec<Range>,
    /// Those of them that are the user's.
    users: Vec<Range>,
}

impl Left {
    /// What was left by the last run with this `state_dir`; with `memory_only` nothing is ever written there.
    pub fn load(state_dir: &Path, memory_only: bool) -> Left {
        let path = state_dir.join(FILE);
        let saved = load(&path);
        Left { path: (!memory_only).then_some(path), saved }
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
        let Some(path) = &self.path else { return };
        let saved = Saved { version: VERSION, left: judged(left), users: judged(users) };
        let done = match saved.left == saved.users {
            true => std::fs::remove_file(path).or_else(|error| match error.kind() {
                std::io::ErrorKind::NotFound => Ok(()),
                _ => Err(error),
            }),
            false => serde_json::to_vec(&saved)
                .map_err(Into::into)
                .and_then(|text| write_atomically(path, |mut file| file.write_all(&text))),
        };
        if let Err(error) = done {
            tracing::warn!("cannot save {}: {error}", path.display());
        }
    }
}

fn load(path: &Path) -> Option<Saved> {
    if std::fs::metadata(path).ok()?.len() > BYTES_MAX {
        return None;
    }
    let saved: Saved = serde_json::from_str(&std::fs::read_to_string(path).ok()?).ok()?;
    let is_range = |(first, last): &Range| {
        Family::of(*first) == Family::of(*last) && number(*first) <= number(*last)
    };
    let sound = saved.left.iter().chain(&saved.users).all(is_range);
    Some(saved).filter(|saved| saved.version == VERSION && sound)
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
