//! Changes of the lists by question: the same code as the commands', on a thread of its own, one after the other.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};

use anyhow::{Context, Result};

use super::answers::unknown;
use super::deeds::{self, By};
use super::runs::value;
use crate::config::{Config, ListConfig};
use crate::control::{Bell, Fault, FaultKind, Pending, Promise, Said};
use crate::daemon::books::Books;
use crate::daemon::clock;
use crate::daemon::edit::{self, Action, Edited, Request, end_of};
use crate::daemon::roster::books;
use crate::daemon::shared::Shared;
use crate::host;
use crate::lists::Entry;

/// Changes that wait for one that is carried out: a person asks for one, and a program should put many into one.
const WAITING_MAX: usize = 4;

/// A change as it was asked for.
#[derive(Clone, Debug, Default)]
pub struct Asked {
    /// Entries as lists write them.
    pub entries: Vec<String>,
    /// In their place, a container.
    pub container: Option<String>,
    /// For how long.
    pub time: Option<String>,
    /// The comment.
    pub note: Option<String>,
    /// Even if this host is cut off by it.
    pub force: bool,
}

/// A change on its way.
struct Job {
    request: Request,
    by: By,
    promise: Promise,
}

/// The way to the thread. It ends when this is dropped, and nobody waits for it.
#[derive(Debug)]
pub struct Changes(SyncSender<Job>);

impl Changes {
    /// Starts the thread.
    ///
    /// # Errors
    /// If the system gives none.
    pub fn start(lists: &Arc<ListConfig>, shared: &Arc<Shared>, bell: &Bell) -> Result<Changes> {
        let (asked, work) = sync_channel(WAITING_MAX);
        let (lists, shared, bell) = (Arc::clone(lists), Arc::clone(shared), bell.clone());
        std::thread::Builder::new()
            .name("changes".to_owned())
            .spawn(move || serve(&work, &lists, &shared, &bell))
            .context("cannot start the thread that changes lists")?;
        Ok(Changes(asked))
    }

    /// Has it carried out; the answer is an [`edit::Edited`].
    ///
    /// # Errors
    /// What is wrong with what was asked, or that too many changes wait.
    pub fn ask(
        &self,
        by: By,
        action: Action,
        asked: Asked,
        shared: &Shared,
    ) -> Result<Said, Fault> {
        let request = request(action, asked, shared)?;
        let (pending, promise) = Pending::new();
        match self.0.try_send(Job { request, by, promise }) {
            Ok(()) => Ok(Said::Later(pending)),
            Err(TrySendError::Full(_)) => {
                let text = format!("{WAITING_MAX} changes wait already: try again");
                Err(Fault::new(FaultKind::Busy, text))
            }
            Err(TrySendError::Disconnected(_)) => {
                Err(Fault::new(FaultKind::Failed, "the thread that changes lists has ended"))
            }
        }
    }
}

/// What of the configuration the lists need.
pub fn lists_of(config: &Config) -> ListConfig {
    ListConfig {
        state_dir: config.state_dir.clone(),
        refuse_doh: config.refuse_doh,
        feeds: config.feeds.clone(),
        host: Vec::new(),
        upstreams: config.dnsmasq.upstreams.clone(),
    }
}

/// The books as the daemon has them at this moment.
pub fn books_of(lists: &ListConfig, shared: &Arc<Shared>) -> Result<Books, Fault> {
    // What this host has now is not to be blocked.
    let host = host::addresses().context("cannot list this host's addresses").map_err(failed)?;
    Ok(Books::of_daemon(&ListConfig { host, ..lists.clone() }, shared))
}

#[expect(clippy::needless_pass_by_value, reason = "as `map_err` gives it")]
fn failed(error: anyhow::Error) -> Fault {
    Fault::new(FaultKind::Failed, format!("{error:#}"))
}

fn serve(work: &Receiver<Job>, lists: &ListConfig, shared: &Arc<Shared>, bell: &Bell) {
    while let Ok(Job { request, by, promise }) = work.recv() {
        // It would come late, against what was done meanwhile.
        if !promise.is_wanted() {
            continue;
        }
        let done = carry_out(lists, shared, &request);
        let entries = request.entries.iter().map(ToString::to_string);
        by.tell(shared, deeds::word(request.action), entries, deeds::of_lists(&done, &by));
        promise.keep(done.and_then(|edited| value(&edited)));
        bell.ring();
    }
}

fn carry_out(lists: &ListConfig, shared: &Arc<Shared>, request: &Request) -> Result<Edited, Fault> {
    let books = books_of(lists, shared)?;
    edit::edit_live(&books, request, &shared.told).map_err(failed)
}

fn request(action: Action, asked: Asked, shared: &Shared) -> Result<Request, Fault> {
    let malformed = |why: String| Fault::new(FaultKind::Malformed, why);
    let (action, entries) = match (&asked.container, asked.entries.is_empty()) {
        (Some(_), false) => {
            return Err(malformed("name entries or a container, not both".to_owned()));
        }
        (None, true) => return Err(malformed("name at least one entry".to_owned())),
        (Some(text), true) => of_container(action, text, shared)?,
        (None, false) => {
            let parse = |text: &String| text.parse::<Entry>().map_err(|e| malformed(e.to_string()));
            (action, asked.entries.iter().map(parse).collect::<Result<_, _>>()?)
        }
    };
    let until = asked.time.as_deref().map(|text| end_of(clock::wall(), text)).transpose();
    let until = until.map_err(|error| malformed(format!("\"for\": {error:#}")))?;
    Ok(Request { action, entries, until, note: asked.note, force: asked.force })
}

/// Quarantine in place of blocking, and its end in place of unblocking. Whom nobody knows can only be let out.
fn of_container(
    action: Action,
    text: &str,
    shared: &Shared,
) -> Result<(Action, Vec<Entry>), Fault> {
    let action = match action {
        Action::Block => Action::Quarantine,
        _ => Action::Release,
    };
    if let Ok(address) = text.parse::<std::net::IpAddr>() {
        return Ok((action, vec![Entry::from(address)]));
    }
    let name = match (books(shared).find(text), action) {
        (Some((owner, _)), _) => owner.name.to_string(),
        (None, Action::Release) => text.to_owned(),
        (None, _) => return Err(Fault::new(FaultKind::NotFound, unknown(text, shared))),
    };
    let entry = format!("container:{name}").parse::<Entry>();
    let entry = entry.map_err(|error| Fault::new(FaultKind::Malformed, error.to_string()))?;
    Ok((action, vec![entry]))
}
