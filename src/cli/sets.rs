//! `synhold sets`: what the kernel's sets hold, where it comes from, and what would become of an address.

mod contents;
mod overview;
mod question;

use std::net::IpAddr;

use anyhow::Result;
use clap::{Args, Subcommand};
use serde::de::DeserializeOwned;

use super::Answer;
use super::containers;
use super::lists::Place;
use crate::control::{FaultKind, Question};
use crate::daemon::books::Books;
use crate::daemon::control::Asker;
pub(super) use question::yes;

/// More than a screenful has to be asked for.
const LIMIT_DEFAULT: usize = 100;

#[derive(Args, Debug)]
pub(super) struct SetsArgs {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Every set and every list, a line each (the default); exit 1 if a set does not hold what the lists say
    List,
    /// The elements of a set: how long they last, what they matched, and which entry of which list they come from
    Show {
        /// A set, as block4; without the number, both families
        name: String,
        /// Elements shown of each set
        #[arg(long, value_name = "N", default_value_t = LIMIT_DEFAULT)]
        limit: usize,
        /// Only elements that share an address with this address, network or range
        #[arg(long = "match", value_name = "CIDR")]
        within: Option<String>,
    },
    /// Ask the kernel, set by set, what would become of a new flow to an address; exit 1 if it would be refused
    Test {
        /// The destination
        address: IpAddr,
        /// The container it would come from
        #[arg(long, value_name = "NAME|ID|ADDRESS")]
        from: Option<String>,
    },
}

pub(super) fn run(args: &SetsArgs) -> Result<Answer> {
    let place = &args.place;
    match &args.action {
        Some(Action::Show { name, limit, within }) => {
            contents::run(place, name, *limit, within.as_deref())
        }
        Some(Action::Test { address, from }) => {
            let of = |from: &String| containers::address_of(place, from, address.is_ipv4());
            question::run(place, *address, from.as_ref().map(of).transpose()?)
        }
        Some(Action::List) | None => overview::run(place),
    }
}

/// Has the running daemon answer, which may ask the kernel for whoever may ask it. Where none runs, or one that does not know
/// the question, this process asks the kernel and reads the lists itself.
fn answer<A: DeserializeOwned>(
    place: &Place,
    question: &Question,
    own: impl FnOnce(&Books) -> Result<A>,
) -> Result<A> {
    if let Some(mut asker) = Asker::find(&place.state_dir()?)? {
        match asker.try_ask(question)? {
            Err(fault) if fault.kind == FaultKind::UnknownQuestion => {}
            answered => return Ok(answered?),
        }
    }
    let (books, _) = place.books()?;
    own(&books).map_err(needs_root)
}

/// The kernel says only that something is not permitted.
pub(super) fn needs_root(error: anyhow::Error) -> anyhow::Error {
    match nix::unistd::geteuid().is_root() {
        true => error,
        false => error.context(
            "the kernel's sets can be asked by root alone, and no synhold runs that would answer",
        ),
    }
}
