//! What is proposed about a finding. Nothing here is a verdict: a person decides, or says that proposals will do.

use serde::Serialize;

use super::group::Group;
use super::known::{Known, Listed};
use crate::engine::opinion::{Opinion, View};
use crate::engine::{Kind, Mark, Reason};

/// What to do about a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proposal {
    /// Allow the address: the refusal was a mistake.
    Accept,
    /// Leave it refused.
    Keep,
}

/// A proposal with its reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proposed {
    /// What to do.
    pub proposal: Proposal,
    /// Why, in a few words that also fit the comment of a list.
    pub because: String,
}

fn keep(because: impl Into<String>) -> Proposed {
    Proposed { proposal: Proposal::Keep, because: because.into() }
}

/// What to do about a group, by what is known about its address now and what OpenSnitch makes of it.
pub fn propose(group: &Group, known: &Known, opinion: &Opinion) -> Proposed {
    if opinion.view == View::Confirmed {
        return keep("OpenSnitch denied it too");
    }
    if let Some(Listed { text, .. }) = &known.blocked {
        return keep(format!("blocked: {text}"));
    }
    // Once is enough, however often it was refused for something else.
    if group.reasons.contains_key(Reason::Blocklisted.as_str()) || group.confined {
        return keep(group.list.clone().unwrap_or_else(|| "a block list had it".to_owned()));
    }
    let suspicious = known.marks.iter().find(|mark| **mark != Mark::NewName);
    let Some(name) = known.names.iter().find(|name| is_answer(name.kind)) else {
        if known.unasked {
            return keep("whether it has a name is unknown: the registry could not be read");
        }
        let doubtful = group.unhealthy > 0 && group.unhealthy >= group.refused + group.would_refuse;
        return match doubtful {
            true => keep("no name since, but the evidence was unreliable then"),
            false => keep("no name to this day"),
        };
    };
    if let Some(mark) = suspicious {
        return keep(format!("its name {} is suspicious: {}", name.name, mark.as_str()));
    }
    if group.reason() == Reason::OutOfScope.as_str() {
        return keep(format!("resolved only by others, as {}", name.name));
    }
    if let Some(why) = known.unlisted {
        return keep(format!("whether it is blocked is unknown: {why}"));
    }
    let because = match group.first {
        Some(first) if name.first > first => format!("resolved later as {}", name.name),
        _ => format!("resolved as {}", name.name),
    };
    Proposed { proposal: Proposal::Accept, because }
}

/// A hosts file or the resolver's configuration is nobody's answer.
fn is_answer(kind: Kind) -> bool {
    matches!(kind, Kind::Reply | Kind::Cached)
}

#[cfg(test)]
mod tests {
    use super::super::known::KnownName;
    use super::*;
    use crate::daemon::findings::group::testing::refused;
    use crate::engine::{Name, Wall};

    fn opinion(view: View) -> Opinion {
        Opinion { view, why: String::new() }
    }

    fn known(first: u64, kind: Kind) -> Known {
        let name = Name::new("x.example").unwrap();
        let at = Wall(first);
        Known { names: vec![KnownName { name, kind, first: at, last: at }], ..Known::default() }
    }

    #[test]
    fn resolved_later_is_a_mistake_unless_something_speaks_against_it() {
        let group = refused("web", "203.0.113.9", "never-resolved", 5);
        let of = |known: &Known, view| {
            let Proposed { proposal, because } = propose(&group, known, &opinion(view));
            (proposal, because)
        };
        let later = known(6, Kind::Reply);
        assert_eq!(
            of(&later, View::NeedsReview),
            (Proposal::Accept, "resolved later as x.example".to_owned())
        );
        assert_eq!(of(&later, View::Unknown).0, Proposal::Accept);
        assert_eq!(of(&later, View::Confirmed).0, Proposal::Keep);
        assert_eq!(
            of(&Known::default(), View::NeedsReview),
            (Proposal::Keep, "no name to this day".to_owned())
        );
        let unasked = Known { unasked: true, ..Known::default() };
        let (proposal, because) = of(&unasked, View::NeedsReview);
        assert!(proposal == Proposal::Keep && because.contains("unknown"), "{because}");
        assert_eq!(of(&known(6, Kind::Hosts), View::Unknown).0, Proposal::Keep, "says who?");
        let flood = Known { marks: vec![Mark::NameFlood], ..later.clone() };
        assert_eq!(of(&flood, View::Unknown).0, Proposal::Keep);
        let text = "list drop has 203.0.113.0/24".to_owned();
        let blocked = Known { blocked: Some(Listed { text }), ..later };
        assert_eq!(of(&blocked, View::Unknown).0, Proposal::Keep);
        let others = refused("web", "203.0.113.9", "out-of-scope", 5);
        let proposed = propose(&others, &known(1, Kind::Reply), &opinion(View::Unknown));
        assert_eq!(proposed, keep("resolved only by others, as x.example"));
    }

    #[test]
    fn what_a_list_refused_once_is_kept_whatever_came_more_often() {
        let of = |group: &Group| propose(group, &known(6, Kind::Reply), &opinion(View::Unknown));
        let mut group = refused("web", "203.0.113.9", "never-resolved", 5);
        group.reasons.insert("never-resolved", 30);
        assert_eq!(of(&group).proposal, Proposal::Accept);
        let confined = Group { confined: true, ..group.clone() };
        assert_eq!(of(&confined).proposal, Proposal::Keep);
        group.reasons.insert("blocklisted", 1);
        group.list = Some("list drop has 203.0.113.0/24".to_owned());
        assert_eq!(of(&group), keep("list drop has 203.0.113.0/24"));
    }
}
