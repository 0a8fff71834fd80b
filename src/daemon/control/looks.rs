//! Questions about the kernel's sets and the lists: the code of the commands, run where the kernel may be asked.

use std::net::IpAddr;

use anyhow::Result;
use serde::Serialize;

use super::answers::Answers;
use super::changes::books_of;
use crate::control::{ANSWER_BYTES_MAX, Fault, FaultKind, Peer, Said};
use crate::daemon::books::Books;
use crate::daemon::inspect::{self, Asked, Contents, SHOWN_MAX};
use crate::engine::Name;
use crate::lists::{Found, Query};

/// Bytes of elements in one answer. An element may come from many entries, with long notes; what else is in an answer is little.
const ELEMENTS_BYTES_MAX: usize = ANSWER_BYTES_MAX / 2;

impl Answers {
    pub(super) fn sets(&self, peer: &Peer) -> Result<Said, Fault> {
        self.look(peer, inspect::overview)
    }

    pub(super) fn sets_show(
        &self,
        peer: &Peer,
        name: &str,
        limit: u64,
        within: Option<&str>,
    ) -> Result<Said, Fault> {
        let malformed = |why: String| Fault::new(FaultKind::Malformed, why);
        let limit = usize::try_from(limit).ok().filter(|limit| *limit <= SHOWN_MAX);
        let limit = limit.ok_or_else(|| {
            malformed(format!(
                "at most {SHOWN_MAX} elements of a set are shown at once: say --limit {SHOWN_MAX}, and --match for \
                 those you look for"
            ))
        })?;
        let asked = Asked::new(name, limit, within).map_err(|e| malformed(format!("{e:#}")))?;
        self.look(peer, move |books| Ok(fit(inspect::contents(books, &asked)?, ELEMENTS_BYTES_MAX)))
    }

    pub(super) fn sets_test(
        &self,
        peer: &Peer,
        address: IpAddr,
        from: Option<IpAddr>,
    ) -> Result<Said, Fault> {
        self.look(peer, move |books| inspect::test(books, address, from))
    }

    pub(super) fn lists_lookup(&self, peer: &Peer, name: Name) -> Result<Said, Fault> {
        let find = move |books: &Books| -> Result<Vec<Found>> {
            Ok(books.find(&[Query::Name(name)]).found)
        };
        self.look(peer, find)
    }

    /// Has the books opened and asked on a thread that nobody waits for who asks for less.
    fn look<A: Serialize>(
        &self,
        peer: &Peer,
        ask: impl FnOnce(&Books) -> Result<A> + Send + 'static,
    ) -> Result<Said, Fault> {
        let (lists, shared) = (self.lists.clone(), self.shared.clone());
        self.runs.ask(peer, move || {
            let books = books_of(&lists, &shared)?;
            ask(&books).map_err(|error| Fault::new(FaultKind::Failed, format!("{error:#}")))
        })
    }
}

/// As many elements of each set as there is room for, and a word that there are more.
fn fit(mut contents: Contents, room: usize) -> Contents {
    let each = room / contents.sets.len().max(1);
    for set in &mut contents.sets {
        let mut left = each;
        let fits = set.elements.iter().take_while(|line| {
            let bytes = serde_json::to_vec(line).map_or(usize::MAX, |text| text.len());
            let after = left.checked_sub(bytes);
            left = after.unwrap_or(0);
            after.is_some()
        });
        let fits = fits.count();
        set.more |= fits < set.elements.len();
        set.elements.truncate(fits);
    }
    contents
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::daemon::inspect::{ElementLine, SetContents};

    #[test]
    fn what_does_not_fit_is_left_out_of_each_set_and_said() {
        let line = |length: usize| ElementLine {
            element: "x".repeat(length),
            expires_ms: None,
            hits: None,
            entries: Vec::new(),
            names: Vec::new(),
            container: None,
        };
        let set = |elements: Vec<ElementLine>| SetContents {
            name: "block4".to_owned(),
            present: true,
            count: Some(elements.len() as u64),
            elements,
            more: false,
            missing: 0,
        };
        let sets = vec![set((0..10).map(|_| line(1_000)).collect()), set(vec![line(1); 3])];
        let whole = Contents { sets, notes: Vec::new() };
        let shown = |contents: Contents| {
            let shown = |set: &SetContents| (set.elements.len(), set.more);
            contents.sets.iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(shown(fit(whole.clone(), ELEMENTS_BYTES_MAX)), [(10, false), (3, false)]);
        assert_eq!(shown(fit(whole.clone(), 8_000)), [(3, true), (3, false)]);
        let few = fit(whole, 8_000);
        assert!(serde_json::to_vec(&few).unwrap().len() < 8_000);
    }
}
