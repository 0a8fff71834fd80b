//! What the thread that keeps the kernel true is told, and what it tells.

use std::net::IpAddr;
use std::sync::Arc;

use crate::daemon::hits::Hit;
use crate::daemon::policies::{Networks, Policies};
use crate::engine::event::ListsReload;
use crate::engine::lists::Lists;

/// What the thread is told.
#[derive(Debug)]
pub enum Order {
    /// These lists hold from now on.
    Lists(Arc<Lists>),
    /// A blocked address that an allowed domain now admits.
    Named(IpAddr),
    /// Where containers are from now on.
    Networks(Networks),
    /// What single containers may from now on.
    Policies(Arc<Policies>),
    /// These addresses changed hands, or nobody has them any more.
    Left(Vec<IpAddr>),
    /// Put the rules back, or leave them, and end.
    Stop {
        /// Leave them.
        keep: bool,
    },
}

/// What the list sets hold.
#[derive(Clone, Debug, Default)]
pub struct Held {
    /// Elements by set.
    pub sets: Vec<(&'static str, u64)>,
    /// Blocked addresses that an allowed domain admits.
    pub named: Vec<IpAddr>,
}

/// What the thread tells of.
pub trait Listener: Send {
    /// The kernel has what the lists say.
    fn loaded(&mut self, lists: &Arc<Lists>, reload: ListsReload, held: Held);
    /// What the sets refused in the last second.
    fn hits(&mut self, hits: Vec<Hit>);
    /// Owners of addresses are gone: what was told of those so far was theirs.
    fn left(&mut self, addresses: Vec<IpAddr>);
}
