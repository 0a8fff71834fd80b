//! What is to be said of both families' packets together.

use crate::control::{CanaryFamily, CanaryState};
use crate::engine::net::Family;

/// What was found last of one family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Whose packets.
    pub family: Family,
    /// What they found.
    pub state: CanaryState,
    /// The same in a sentence.
    pub message: String,
}

/// A family as people call it.
pub fn name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}

/// The state of all: the worst of those that fly, and a sentence about those it holds for. A family that is off is left out,
/// unless all of them are: then nothing is proved by any.
pub fn sum(found: &[Found]) -> (CanaryState, String) {
    let rank = |state: CanaryState| match state {
        CanaryState::Off => 0,
        CanaryState::Passing => 1,
        CanaryState::Waiting => 2,
        CanaryState::Failing => 3,
    };
    let worst = found.iter().map(|found| found.state).max_by_key(|state| rank(*state));
    let worst = worst.unwrap_or_default();
    let all: Vec<&Found> = found.iter().filter(|found| found.state == worst).collect();
    let state = if worst == CanaryState::Off { CanaryState::Waiting } else { worst };
    let flying = found.iter().filter(|found| found.state != CanaryState::Off).count().max(1);
    let same = all.windows(2).all(|pair| matches!(pair, [a, b] if a.message == b.message));
    match all.first() {
        Some(first) if same && (all.len() >= flying) => (state, first.message.clone()),
        _ => {
            let each = all.iter().map(|found| format!("{}: {}", name(found.family), found.message));
            (state, each.collect::<Vec<_>>().join("; "))
        }
    }
}

/// The same, each by itself.
pub fn each(found: Vec<Found>) -> Vec<CanaryFamily> {
    let family = |Found { family, state, message }| CanaryFamily {
        family: name(family).to_owned(),
        state,
        message,
    };
    found.into_iter().map(family).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_is_said_and_of_whom_where_they_differ() {
        use CanaryState::{Failing, Off, Passing, Waiting};
        for (v4, v6, wanted) in [
            ((Passing, "well"), (Passing, "well"), (Passing, "well")),
            ((Passing, "well"), (Off, "none forwarded"), (Passing, "well")),
            ((Off, "none forwarded"), (Passing, "well"), (Passing, "well")),
            ((Passing, "well"), (Passing, "noted"), (Passing, "IPv4: well; IPv6: noted")),
            ((Passing, "well"), (Failing, "bad"), (Failing, "IPv6: bad")),
            ((Failing, "bad"), (Passing, "well"), (Failing, "IPv4: bad")),
            ((Failing, "bad"), (Failing, "bad"), (Failing, "bad")),
            ((Failing, "bad"), (Off, "none forwarded"), (Failing, "bad")),
            ((Waiting, "learning"), (Waiting, "learning"), (Waiting, "learning")),
            ((Passing, "well"), (Waiting, "listed"), (Waiting, "IPv6: listed")),
            ((Off, "no 4"), (Off, "no 6"), (Waiting, "IPv4: no 4; IPv6: no 6")),
        ] {
            let found = |family, (state, message): (CanaryState, &str)| Found {
                family,
                state,
                message: message.to_owned(),
            };
            let both = [found(Family::V4, v4), found(Family::V6, v6)];
            assert_eq!(sum(&both), (wanted.0, wanted.1.to_owned()), "{v4:?} {v6:?}");
            let alone = sum(&both[..1]);
            let state = if v4.0 == Off { Waiting } else { v4.0 };
            assert_eq!(alone, (state, v4.1.to_owned()), "{v4:?} alone");
        }
    }
}
