//! A change of the lists by the running daemon, which tells who had it made.

use anyhow::Result;

use super::{How, Place};
use crate::control::{FaultKind, Question};
use crate::daemon::control::Asker;
use crate::daemon::edit::{Action, Edited};
use crate::lists::Entry;

/// How a container is written as an entry.
const CONTAINER: &str = "container:";

/// Has the daemon do it. Nothing where none runs, or it cannot: it is of an older version, too busy, may not write, or the
/// entries are more than a question holds. What was done in spite of that is found done.
///
/// # Errors
/// In one line: whoever asks may not, or what was asked for makes no sense.
pub(super) fn edit(
    place: &Place,
    action: Action,
    entries: &[Entry],
    how: Option<&How>,
    force: bool,
) -> Result<Option<Edited>> {
    let Some(mut asker) = Asker::find(&place.state_dir()?)? else { return Ok(None) };
    match asker.try_ask::<Edited>(&question(action, entries, how, force)) {
        Ok(Ok(edited)) => Ok(Some(edited)),
        Ok(Err(fault)) => match fault.kind {
            FaultKind::NotAllowed | FaultKind::NotFound | FaultKind::Malformed => Err(fault.into()),
            _ => Ok(None),
        },
        Err(error) => {
            tracing::debug!("the running synhold does not answer: {error:#}");
            Ok(None)
        }
    }
}

fn question(action: Action, entries: &[Entry], how: Option<&How>, force: bool) -> Question {
    let (time, note) = how.map(|how| (how.time.clone(), how.note.clone())).unwrap_or_default();
    let texts = || entries.iter().map(ToString::to_string).collect::<Vec<String>>();
    let container = || {
        let text = texts().into_iter().next().unwrap_or_default();
        Some(text.strip_prefix(CONTAINER).map(str::to_owned).unwrap_or(text))
    };
    let none = Vec::new;
    match action {
        Action::Block => Question::Block { entries: texts(), container: None, time, note, force },
        Action::Quarantine => {
            Question::Block { entries: none(), container: container(), time, note, force }
        }
        Action::Unblock => Question::Unblock { entries: texts(), container: None },
        Action::Release => Question::Unblock { entries: none(), container: container() },
        Action::Allow => Question::Allow { entries: texts(), time, note },
        Action::Unallow => Question::Unallow { entries: texts() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_asked_for_by_its_name_and_an_address_as_it_is() {
        for (entry, asked) in [("container:web", "web"), ("172.17.0.2", "172.17.0.2")] {
            let entries = [entry.parse().unwrap()];
            let question = |action| question(action, &entries, None, false);
            let container = Some(asked.to_owned());
            let quarantine = Question::Block {
                entries: Vec::new(),
                container: container.clone(),
                time: None,
                note: None,
                force: false,
            };
            assert_eq!(question(Action::Quarantine), quarantine);
            let release = Question::Unblock { entries: Vec::new(), container };
            assert_eq!(question(Action::Release), release);
        }
    }
}
