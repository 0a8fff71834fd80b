//! Questions about the kernel's sets and the lists: the code of the commands, run where the kernel may be asked.

use std::net::IpAddr;

use anyhow::Result;
use serde::Serialize;

use super::answers::Answers;
use super::changes::books_of;
use crate::control::{Fault, FaultKind, Peer, Said};
use crate::daemon::books::Books;
use crate::daemon::inspect::{self, Asked, SHOWN_MAX};
use crate::engine::Name;
use crate::lists::{Found, Query};

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
        self.look(peer, move |books| inspect::contents(books, &asked))
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
