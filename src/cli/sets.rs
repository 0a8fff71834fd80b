//! `synhold sets`: what the kernel's sets hold, where it comes from, and what would become of an address.

mod overview;
mod question;

use std::net::IpAddr;

use anyhow::Result;
use clap::{Args, Subcommand};

use super::Answer;
use super::lists::Place;

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
        Some(Action::Test { address, from }) => question::run(place, *address, *from),
        Some(Action::List) | None => overview::run(place),
    }
}
