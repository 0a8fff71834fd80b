//! Conntrack adapter: reads flows, and ends those that stand, whatever rules would now say to their first packet.
//!
//! Rules see first packets only, so a flow let through before its destination was blocked would go on for as long as
//! both ends like. Without its entry in conntrack its next packet is a first one again.

mod entry;
mod error;
mod socket;

pub use entry::Flow;
pub use error::Error;

use entry::Entry;
use socket::{Deleted, Socket};

/// Deletions sent at a time. The kernel answers all before the first answer can be read, at about 1 KiB each.
const BATCH: usize = 64;
/// How often the table is walked anew when the kernel says that it was rebuilt under a walk, which is rare.
const WALKS_MAX: usize = 4;

/// What [`Channel::end_flows`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ended {
    /// Flows there were, in both families.
    pub seen: usize,
    /// Flows ended; one that was gone before its turn is none.
    pub ended: usize,
}

/// Two sockets of one network namespace: one walks the table, the other deletes meanwhile.
pub struct Channel {
    walker: Socket,
    orders: Socket,
}

impl Channel {
    /// Opens the sockets in the calling thread's network namespace, where they stay.
    ///
    /// # Errors
    /// Without rights, or on a kernel without conntrack's netlink.
    pub fn open() -> Result<Channel, Error> {
        Ok(Channel { walker: Socket::open()?, orders: Socket::open()? })
    }

    /// Walks all flows, asks about each, and ends those for which `keep_if` is false. What is in the way of one does
    /// not save the others. Memory does not grow with the table.
    ///
    /// # Errors
    /// If the table cannot be read, or a flow cannot be ended: the first of those.
    pub fn end_flows(&mut self, keep_if: impl Fn(&Flow) -> bool) -> Result<Ended, Error> {
        let mut done = Ended::default();
        for _ in 0..WALKS_MAX {
            let torn = self.walk(&keep_if, &mut done)?;
            if !torn {
                return Ok(done);
            }
        }
        Err(Error::Busy)
    }

    /// At most `most` of the open flows in which both sides have taken part, of those that `wanted` says.
    ///
    /// # Errors
    /// If the table cannot be read.
    pub fn flows(
        &mut self,
        most: usize,
        wanted: impl Fn(&Flow) -> bool,
    ) -> Result<Vec<Flow>, Error> {
        let mut flows = Vec::new();
        // Torn or not, what it gave was there; an entry that moved is not worth a second walk.
        self.walker.dump(|entry: Entry| {
            if flows.len() < most && entry.open && wanted(&entry.flow) {
                flows.push(entry.flow);
            }
            Ok(())
        })?;
        Ok(flows)
    }

    /// Once through the table; whether it was rebuilt meanwhile, so that some flows may not have been seen.
    fn walk(&mut self, keep_if: impl Fn(&Flow) -> bool, done: &mut Ended) -> Result<bool, Error> {
        let Channel { walker, orders } = self;
        let (mut chosen, mut failed) = (Vec::with_capacity(BATCH), None);
        done.seen = 0;
        let torn = walker.dump(|entry: Entry| {
            done.seen += 1;
            if !keep_if(&entry.flow) {
                chosen.push(entry);
            }
            if chosen.len() == BATCH {
                delete(orders, &mut chosen, done, &mut failed)?;
            }
            Ok(())
        })?;
        delete(orders, &mut chosen, done, &mut failed)?;
        failed.map_or(Ok(torn), Err)
    }
}

fn delete(
    orders: &mut Socket,
    chosen: &mut Vec<Entry>,
    done: &mut Ended,
    failed: &mut Option<Error>,
) -> Result<(), Error> {
    for answer in orders.delete(chosen)? {
        match answer {
            Deleted::Done => done.ended += 1,
            Deleted::Gone => {}
            Deleted::Failed(error) => *failed = failed.take().or(Some(error)),
        }
    }
    chosen.clear();
    Ok(())
}
