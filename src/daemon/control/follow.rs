//! Events for whoever asks: those of late, and those that come, as the event log has them.

use std::net::IpAddr;

use serde_json::json;

use super::answers::Answers;
use crate::control::{EventsAsked, Fault, FaultKind, LINES_BYTES, Lines, Said};
use crate::daemon::roster::books;
use crate::engine::event::Body;
use crate::events::{Pick, Tapped, Whose, append_json};

/// Events that a follower may have unread: at a kilobyte each, four megabytes of ours, and at 10,000 verdicts a second 400 ms
/// in which it does not read.
const FOLLOW_ROOM: usize = 4096;

impl Answers {
    /// Events of late, and a way to those that come.
    pub(super) fn events(&self, asked: &EventsAsked) -> Result<Said, Fault> {
        let pick = self.pick(asked)?;
        let events = &self.shared.events;
        let (recent, tapped) = match asked.follow {
            false => (events.recent(), None),
            true => {
                let wanted = pick.clone();
                let wants = Box::new(move |body: &Body| wanted.wants(body));
                let (recent, tapped) = events.follow(FOLLOW_ROOM, wants, self.bell.descriptor());
                (recent, Some(tapped))
            }
        };
        let picked: Vec<_> = recent.iter().filter(|event| pick.wants(&event.body)).collect();
        let most =
            asked.last.map_or(picked.len(), |last| usize::try_from(last).unwrap_or(usize::MAX));
        let last = picked.get(picked.len().saturating_sub(most)..).unwrap_or_default();
        let mut lines = Vec::new();
        for event in last {
            append_json(&mut lines, event);
            lines.push(b'\n');
        }
        let more = tapped.map(|tapped| Box::new(Followed(tapped)) as Box<dyn Lines>);
        Ok(Said::Lines { answer: json!({ "recent": last.len() }), lines, more })
    }

    pub(super) fn pick(&self, asked: &EventsAsked) -> Result<Pick, Fault> {
        let kind = |word: &String| {
            Body::KINDS.into_iter().find(|kind| kind == word).ok_or_else(|| {
                let text =
                    format!("there is no kind of event {word:?}: {}", Body::KINDS.join(", "));
                Fault::new(FaultKind::Malformed, text)
            })
        };
        let mut kinds = asked.only.iter().map(kind).collect::<Result<Vec<_>, _>>()?;
        // A question has room for thousands of words, and each is compared for every event.
        kinds.sort_unstable();
        kinds.dedup();
        let container = asked.container.as_deref().map(|text| self.whose(text));
        Ok(Pick { kinds, container, refused: asked.refused })
    }

    /// The container of that name, id or address. One that is gone goes by what was asked for.
    fn whose(&self, text: &str) -> Whose {
        let address = text.parse::<IpAddr>().ok();
        let owner = address.and_then(|address| self.shared.engine.owner(address));
        let found = books(&self.shared).find(owner.as_ref().map_or(text, |owner| &owner.id));
        match (found, address) {
            (Some((owner, place)), _) => Whose {
                name: owner.name.to_string(),
                id: Some(owner.id.to_string()),
                addresses: place.addresses,
            },
            (None, address) => {
                Whose { name: text.to_owned(), id: None, addresses: address.into_iter().collect() }
            }
        }
    }
}

/// What a follower has not read yet.
struct Followed(Tapped);

impl Lines for Followed {
    fn take(&mut self, into: &mut Vec<u8>) {
        self.0.listen();
        while into.len() < LINES_BYTES
            && let Ok(event) = self.0.events().try_recv()
        {
            append_json(into, &event);
            into.push(b'\n');
        }
    }

    fn missed(&mut self) -> u64 {
        self.0.missed()
    }
}
