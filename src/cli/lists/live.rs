//! A change of the lists by the running daemon, which tells who had it made.

use std::path::Path;

use anyhow::Result;

use super::{How, Place};
use crate::control::{Daemon, FaultKind, Question};
use crate::daemon::control::{Asker, is_closed};
use crate::daemon::edit::{Action, Edited};
use crate::lists::Entry;

/// How a container is written as an entry.
const CONTAINER: &str = "container:";

/// What came of asking for a change.
pub(super) enum Live {
    /// The daemon made it.
    Made(Edited),
    /// This process is to make it. Who runs, as far as it said so.
    Left(Option<Daemon>),
}

/// Has the daemon do it, unless none runs, or it cannot: it does not answer, is of an older version, too busy, may not write,
/// or the entries are more than a question holds. What was done in spite of that is found done.
///
/// # Errors
/// In one line: whoever asks may not, or what was asked for makes no sense.
pub(super) fn edit(
    place: &Place,
    action: Action,
    entries: &[Entry],
    how: Option<&How>,
    force: bool,
) -> Result<Live> {
    let Some((mut asker, daemon)) = find(&place.state_dir()?)? else { return Ok(Live::Left(None)) };
    match asker.try_ask::<Edited>(&question(action, entries, how, force)) {
        Ok(Ok(edited)) => Ok(Live::Made(edited)),
        Ok(Err(fault)) => match fault.kind {
            FaultKind::NotAllowed | FaultKind::NotFound | FaultKind::Malformed => Err(fault.into()),
            _ => Ok(Live::Left(Some(daemon))),
        },
        Err(error) => {
            tracing::debug!("the running synhold does not answer: {error:#}");
            Ok(Live::Left(Some(daemon)))
        }
    }
}

/// A daemon that answers. One that hangs is known by what is answered at once: a change is waited for much longer.
fn find(state_dir: &Path) -> Result<Option<(Asker, Daemon)>> {
    let found = Asker::find(state_dir).and_then(|asker| {
        let Some(mut asker) = asker else { return Ok(None) };
        let daemon = asker.ask(&Question::Daemon {})?;
        Ok(Some((asker, daemon)))
    });
    match found {
        Err(error) if !is_closed(&error) => {
            tracing::debug!("the running synhold does not answer: {error:#}");
            Ok(None)
        }
        found => found,
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
