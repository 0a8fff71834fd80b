//! `synhold sets`: what the kernel's sets hold, where it comes from, and what would become of an address.

mod contents;
mod overview;
mod question;

use std::net::IpAddr;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};

use super::Answer;
use super::lists::Place;
use crate::daemon::inspect::Asked;
use crate::engine::intervals::Span;
use crate::engine::net::Family;
use crate::lists::Entry;
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
        #[arg(long, value_name = "ADDRESS")]
        from: Option<IpAddr>,
    },
}

pub(super) fn run(args: &SetsArgs) -> Result<Answer> {
    let place = &args.place;
    match &args.action {
        Some(Action::Show { name, limit, within }) => {
            let within = within.as_deref().map(range).transpose()?;
            contents::run(place, &Asked { name: name.clone(), limit: *limit, within })
        }
        Some(Action::Test { address, from }) => question::run(place, *address, *from),
        Some(Action::List) | None => overview::run(place),
    }
}

fn range(text: &str) -> Result<(Family, Span)> {
    match text.parse().with_context(|| format!("--match {text}"))? {
        Entry::Addresses(family, span) => Ok((family, span)),
        Entry::Domain(_) => {
            bail!("--match {text}: sets hold addresses, so give an address, network or range")
        }
    }
}
