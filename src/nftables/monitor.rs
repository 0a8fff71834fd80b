//! Notices what others change: by the number of transactions, which costs nobody anything, or by listening to each,
//! which tells who did what, and has a price.

use std::collections::BTreeSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use libc::{MSG_DONTWAIT, MSG_TRUNC, NETLINK_NETFILTER};
use netlink_sys::Socket;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};
use rustables::sys;

use super::error::Error;
use super::kernel::generation_by;
use super::names;
use super::socket::Channel;
use super::wire::{self, Attrs, Garbled, Message, nft_type};

/// Notices of a large change by others fill this before we read them; what does not fit is told as lost. Some ten
/// thousand elements fit, more than anybody adds by hand.
const RCVBUF: usize = 2 << 20;
/// One read. The kernel joins the notices of a transaction up to one page of its own; this leaves room.
const NOTICE_BYTES_MAX: usize = 64 << 10;
/// Reads in one go, so that somebody who never stops changing rules cannot hold us here.
const READS_MAX: usize = 4_096;
/// Port ids remembered as ours; one for each channel that is kept open, and a few that were.
const OWN_PORTS_MAX: usize = 64;
/// Names of others remembered from one read.
const OTHERS_MAX: usize = 16;

/// Who made a change.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Who {
    /// The thread's id, which for a program of one thread is the process id. Of another pid namespace's or
    /// already ended programs it says little.
    pub pid: u32,
    /// The thread's name, as `nft`.
    pub name: String,
}

/// What was heard since the last time. All but `ours` and `elsewhere` is about what others did to our table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// A transaction of ours was among it.
    pub ours: bool,
    /// Others changed tables that are not ours.
    pub elsewhere: bool,
    /// Those who changed our table, each once, the first 16.
    pub others: Vec<Who>,
    /// Rules, chains or the table itself were touched.
    pub rules_touched: bool,
    /// Sets that were touched, their elements included.
    pub sets_touched: BTreeSet<String>,
    /// Our table was deleted; it may be there again.
    pub table_deleted: bool,
    /// Something was missed: notices did not fit the buffer, or somebody made changes during a pause. Anything may
    /// have been touched.
    pub overflow: bool,
}

/// Counts transactions in a network namespace, of all tables. Asking takes a few microseconds and does nothing to others.
#[derive(Clone, Copy, Debug, Default)]
pub struct Watch {
    /// The generation up to which all is known; none before the first look, or where the kernel has none.
    seen: Option<u32>,
}

impl Watch {
    /// Whether others made transactions since the last look, in which we made `own_transactions`; the first look says no.
    /// Whose table they changed, only reading tells.
    ///
    /// # Errors
    /// If the kernel cannot be asked; then the next look sees what this one did not.
    pub fn look(&mut self, channel: &mut Channel, own_transactions: u32) -> Result<bool, Error> {
        let now = generation_by(channel)?;
        let before = std::mem::replace(&mut self.seen, now);
        let passed = before.zip(now).map(|(before, now)| now.wrapping_sub(before));
        Ok(passed.is_some_and(|passed| passed != own_transactions))
    }
}

impl Changes {
    /// Whether anything was, or may have been, done to our table by others.
    pub fn is_ours_touched(&self) -> bool {
        self.rules_touched || self.table_deleted || self.overflow || !self.sets_touched.is_empty()
    }
}

/// What has to be known to understand what is heard.
#[derive(Clone, Debug, Default)]
struct Ear {
    own_ports: Vec<u32>,
    /// Whether the transaction whose notices are being read touched our table.
    touched: bool,
}

/// Hears of changes in the network namespace it was opened in.
///
/// While anybody on the machine listens, in whatever namespace, the kernel makes a notice of some 5 KiB for every
/// element that anybody changes, and keeps all until the transaction is over: 200,000 ranges took six seconds instead
/// of one and 2.4 GB of kernel memory. So pause for every large load of our own, and where others load large sets watch
/// by [`Watch`] instead.
pub struct Monitor {
    socket: Socket,
    /// Asks for the generation.
    channel: Channel,
    ear: Ear,
    /// The generation a pause began at.
    paused_at: Option<Option<u32>>,
    /// What is told at the next read beyond what is read.
    missed: bool,
}

impl Monitor {
    /// Opens it in the calling thread's network namespace; everything from now on is heard.
    ///
    /// # Errors
    /// [`Error::NotPermitted`] without CAP_NET_ADMIN, [`Error::Io`] if there is no socket.
    pub fn open() -> Result<Monitor, Error> {
        let mut socket = Socket::new(NETLINK_NETFILTER as isize).map_err(Error::socket)?;
        socket.bind_auto().map_err(Error::socket)?;
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RCVBUF);
        socket.add_membership(sys::NFNLGRP_NFTABLES).map_err(Error::socket)?;
        let channel = Channel::open()?;
        Ok(Monitor { socket, channel, ear: Ear::default(), paused_at: None, missed: false })
    }

    /// From now on what comes by this channel's port counts as ours. Of many channels only the latest 64 are known.
    pub fn is_ours(&mut self, port: u32) {
        let own_ports = &mut self.ear.own_ports;
        own_ports.retain(|known| *known != port);
        if own_ports.len() >= OWN_PORTS_MAX {
            own_ports.remove(0);
        }
        own_ports.push(port);
    }

    /// Stops hearing, so that the kernel does not tell of every element of a large load.
    ///
    /// # Errors
    /// If a socket fails; then nothing is paused.
    pub fn pause(&mut self) -> Result<(), Error> {
        // First the number, then the silence: what comes between is told twice rather than not at all.
        let generation = generation_by(&mut self.channel)?;
        self.socket.drop_membership(sys::NFNLGRP_NFTABLES).map_err(Error::socket)?;
        self.paused_at = Some(generation);
        Ok(())
    }

    /// Hears again. If since the pause there were not just as many transactions as we made ourselves, the next
    /// [`Monitor::read`] says that something was missed; and so if the kernel cannot tell.
    ///
    /// # Errors
    /// If a socket fails.
    pub fn resume(&mut self, own_transactions: u32) -> Result<(), Error> {
        let Some(before) = self.paused_at else { return Ok(()) };
        self.socket.add_membership(sys::NFNLGRP_NFTABLES).map_err(Error::socket)?;
        self.paused_at = None;
        // Till the number is known, and known to be right.
        self.missed = true;
        let after = generation_by(&mut self.channel)?;
        let passed = before.zip(after).map(|(before, after)| after.wrapping_sub(before));
        self.missed = passed != Some(own_transactions);
        Ok(())
    }

    /// What was heard since the last time; does not wait.
    ///
    /// # Errors
    /// If the socket fails, or the kernel says what makes no sense.
    pub fn read(&mut self) -> Result<Changes, Error> {
        let mut changes =
            Changes { overflow: std::mem::take(&mut self.missed), ..Changes::default() };
        let mut bytes: Vec<u8> = Vec::with_capacity(NOTICE_BYTES_MAX);
        for _ in 0..READS_MAX {
            bytes.clear();
            match self.socket.recv_from(&mut bytes, MSG_DONTWAIT | MSG_TRUNC) {
                // Only the kernel is port 0; other processes can send to us too.
                Ok((_, from)) if from.port_number() != 0 => {}
                Ok((len, _)) if len > bytes.len() => changes.overflow = true,
                Ok(_) => self.ear.hear(&bytes, &mut changes)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => {
                    changes.overflow = true;
                }
                Err(error) => return Err(Error::socket(error)),
            }
        }
        Ok(changes)
    }
}

impl Ear {
    fn hear(&mut self, bytes: &[u8], changes: &mut Changes) -> Result<(), Garbled> {
        for message in wire::messages(bytes)? {
            let ours = self.own_ports.contains(&message.port);
            changes.ours |= ours;
            if ours {
                continue;
            }
            if message.kind == nft_type(sys::NFT_MSG_NEWGEN) {
                // The last of each transaction, and the only one that says who.
                if std::mem::take(&mut self.touched) {
                    note(read_who(&message.attrs()?)?, changes);
                }
            } else if touch(&message, changes)? {
                self.touched = true;
            } else {
                changes.elsewhere = true;
            }
        }
        Ok(())
    }
}

impl AsFd for Monitor {
    /// Readable when there is something to hear.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl AsRawFd for Monitor {
    fn as_raw_fd(&self) -> std::os::fd::RawFd {
        self.socket.as_raw_fd()
    }
}

fn note(who: Who, changes: &mut Changes) {
    if changes.others.len() < OTHERS_MAX && !changes.others.contains(&who) {
        changes.others.push(who);
    }
}

fn read_who(attrs: &Attrs<'_>) -> Result<Who, Garbled> {
    let pid = attrs.be32(sys::NFTA_GEN_PROC_PID, "process")?.unwrap_or(0);
    // A process may call itself anything.
    let name = attrs.get(sys::NFTA_GEN_PROC_NAME).unwrap_or_default();
    let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
    Ok(Who { pid, name: String::from_utf8_lossy(name).into_owned() })
}

/// Notes what a message tells of; `false` if that is not about our table.
fn touch(message: &Message<'_>, changes: &mut Changes) -> Result<bool, Garbled> {
    // The table's name is the first attribute of every kind of message.
    const TABLE: u16 = 1;
    let inet = message.payload.first().copied() == u8::try_from(libc::NFPROTO_INET).ok();
    let attrs = message.attrs()?;
    if !inet || attrs.text(TABLE, "table name")? != names::TABLE {
        return Ok(false);
    }
    let is = |kinds: &[u32]| kinds.iter().any(|kind| message.kind == nft_type(*kind));
    if is(&[sys::NFT_MSG_NEWSETELEM, sys::NFT_MSG_DELSETELEM]) {
        let set = attrs.text(sys::NFTA_SET_ELEM_LIST_SET, "set name")?;
        changes.sets_touched.insert(set);
    } else if is(&[sys::NFT_MSG_NEWSET, sys::NFT_MSG_DELSET]) {
        changes.sets_touched.insert(attrs.text(sys::NFTA_SET_NAME, "set name")?);
    } else {
        changes.rules_touched = true;
        changes.table_deleted |= is(&[sys::NFT_MSG_DELTABLE]);
    }
    Ok(true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::stream::Stream;
    use proptest::prelude::*;

    const OURS: u32 = 77;

    /// A notice as the kernel sends it; a text for each attribute that is one.
    fn notice(kind: u32, port: u32, family: i32, texts: &[(u16, &str)]) -> Vec<u8> {
        let mut stream = Stream::default();
        let open = stream.begin(nft_type(kind), 0, 1, crate::netlink::genmsg(family, 0));
        for (kind, text) in texts {
            stream.text(*kind, text);
        }
        stream.end(open);
        let mut bytes = stream.bytes().to_vec();
        bytes[12..16].copy_from_slice(&port.to_ne_bytes());
        bytes
    }

    fn generation(port: u32, name: &str) -> Vec<u8> {
        notice(sys::NFT_MSG_NEWGEN, port, 0, &[(sys::NFTA_GEN_PROC_NAME, name)])
    }

    fn hear(notices: &[Vec<u8>]) -> Changes {
        let mut changes = Changes::default();
        let mut ear = Ear { own_ports: vec![OURS], touched: false };
        for notice in notices {
            ear.hear(notice, &mut changes).unwrap();
        }
        changes
    }

    #[test]
    fn only_who_touched_our_table_is_named() {
        let set = |port, family, table| {
            let texts =
                [(sys::NFTA_SET_ELEM_LIST_TABLE, table), (sys::NFTA_SET_ELEM_LIST_SET, "s")];
            notice(sys::NFT_MSG_NEWSETELEM, port, family, &texts)
        };
        let heard = hear(&[
            set(1, libc::NFPROTO_INET, "other"),
            generation(1, "one"),
            set(2, libc::NFPROTO_IPV4, "synhold"),
            generation(2, "two"),
            set(OURS, libc::NFPROTO_INET, "synhold"),
            generation(OURS, "synhold"),
        ]);
        assert_eq!(heard, Changes { ours: true, elsewhere: true, ..Changes::default() });
        let once = [set(3, libc::NFPROTO_INET, "synhold"), generation(3, "three")];
        let twice = [once.clone(), once].concat();
        let heard = hear(&twice);
        assert_eq!(heard.others, [Who { pid: 0, name: "three".to_owned() }]);
        assert_eq!(heard.sets_touched.len(), 1);
    }

    #[test]
    fn names_of_a_crowd_are_cut_short() {
        let table = [(sys::NFTA_CHAIN_TABLE, "synhold")];
        let chain = notice(sys::NFT_MSG_NEWCHAIN, 5, libc::NFPROTO_INET, &table);
        let crowd = (0..99).flat_map(|n| [chain.clone(), generation(5, &format!("nft{n}"))]);
        let heard = hear(&crowd.collect::<Vec<_>>());
        assert_eq!(heard.others.len(), OTHERS_MAX);
        assert!(heard.rules_touched && !heard.table_deleted);
    }

    proptest! {
        #[test]
        fn nothing_heard_panics(kind in 0_u32..40, cut in 0_usize..80, bytes: Vec<u8>) {
            let texts = [(1, "synhold"), (2, "name")];
            let mut notice = notice(kind, 1, libc::NFPROTO_INET, &texts);
            notice.truncate(cut);
            notice.extend(bytes);
            let _ = Ear::default().hear(&notice, &mut Changes::default());
        }
    }
}
