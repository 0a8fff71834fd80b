//! A netlink socket to conntrack: walks of the table, and deletions.

use libc::{NETLINK_NETFILTER, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST};
use netlink_sys::Socket as Netlink;
use nix::errno::Errno;
use nix::sys::socket::{setsockopt, sockopt};

use super::entry::Entry;
use super::error::Error;
use crate::netlink::{self, Attr, GENMSG_LEN, Garbled};

// linux/netfilter/nfnetlink.h and nfnetlink_conntrack.h.
const CTNETLINK: u32 = 1;
const CT_NEW: u32 = 0;
const CT_GET: u32 = 1;
const CT_DELETE: u32 = 2;
// linux/netlink.h.
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_DUMP_INTR: u16 = 0x10;

/// One answer. The kernel fills dumps up to 32 KiB at a time, whatever room there is.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Receive buffer: the answers to a batch of deletions with room to spare.
const RCVBUF: usize = 1 << 20;

/// What became of one deletion.
#[derive(Debug)]
pub enum Deleted {
    /// The entry is deleted.
    Done,
    /// It was gone already.
    Gone,
    /// The kernel said no.
    Failed(Error),
}

/// A socket of this thread's network namespace.
pub struct Socket {
    socket: Netlink,
    seq: u32,
}

impl Socket {
    /// Opens a socket in the calling thread's network namespace, where it stays.
    pub fn open() -> Result<Socket, Error> {
        let mut socket = Netlink::new(NETLINK_NETFILTER as isize).map_err(Error::socket)?;
        socket.bind_auto().map_err(Error::socket)?;
        // Only makes answers shorter.
        let _ = socket.set_cap_ack(true);
        // Needs CAP_NET_ADMIN, as everything that follows does; that will say so better.
        let _ = setsockopt(&socket, sockopt::RcvBufForce, &RCVBUF);
        Ok(Socket { socket, seq: 0 })
    }

    /// Hands over every entry of both families; whether the table was rebuilt meanwhile, so that some may be missing.
    pub fn dump(
        &mut self,
        mut each: impl FnMut(Entry) -> Result<(), Error>,
    ) -> Result<bool, Error> {
        // What a walk that failed has left behind; the kernel begins no other before its end is read.
        while self.receive()?.is_some() {}
        let mut request = Vec::new();
        let both = netlink::genmsg(libc::AF_UNSPEC, 0);
        self.put(&mut request, CT_GET, NLM_F_DUMP, both, &[]);
        self.send(&request)?;
        let (entry, mut torn) = (netlink::message_type(CTNETLINK, CT_NEW), false);
        // A dump goes on inside each receive; there is never anything to wait for, and it ends with its last entry.
        while let Some(bytes) = self.receive()? {
            for message in netlink::messages(&bytes)?.into_iter().filter(|m| m.seq == self.seq) {
                torn |= message.flags & NLM_F_DUMP_INTR != 0;
                match message.kind {
                    NLMSG_DONE | NLMSG_ERROR => {
                        return message.errno()?.map_or(Ok(torn), |errno| Err(Error::code(errno)));
                    }
                    kind if kind == entry => each(Entry::read(&message)?)?,
                    _ => {}
                }
            }
        }
        Err(Garbled("table ends early").into())
    }

    /// Deletes entries, each named by tuple, zone and id; an answer for every one.
    pub fn delete(&mut self, entries: &[Entry]) -> Result<Vec<Deleted>, Error> {
        if entries.is_empty() {
            return Ok(Vec::new());
        }
        let (mut request, first) = (Vec::new(), self.seq.wrapping_add(1));
        for entry in entries {
            let (genmsg, attrs) = entry.name();
            self.put(&mut request, CT_DELETE, NLM_F_ACK, genmsg, &attrs);
        }
        self.send(&request)?;
        let mut answers: Vec<Option<Deleted>> = entries.iter().map(|_| None).collect();
        // The kernel has done everything, answers included, when send returns: nothing left means all read.
        while let Some(bytes) = self.receive()? {
            for message in netlink::messages(&bytes)?.iter().filter(|m| m.kind == NLMSG_ERROR) {
                let place = usize::try_from(message.seq.wrapping_sub(first)).unwrap_or(usize::MAX);
                if let (Some(answer), Some(entry)) = (answers.get_mut(place), entries.get(place)) {
                    *answer = Some(meaning(message.errno()?, entry));
                }
            }
        }
        let all: Option<Vec<Deleted>> = answers.into_iter().collect();
        all.ok_or_else(|| Error::socket(Errno::ENOBUFS.into()))
    }

    fn put(
        &mut self,
        out: &mut Vec<u8>,
        kind: u32,
        flags: i32,
        genmsg: [u8; GENMSG_LEN],
        attrs: &[Attr],
    ) {
        self.seq = self.seq.wrapping_add(1);
        let flags = netlink::flag((flags | NLM_F_REQUEST).cast_unsigned());
        let kind = netlink::message_type(CTNETLINK, kind);
        netlink::put(out, kind, flags, self.seq, genmsg, attrs);
    }

    fn send(&self, bytes: &[u8]) -> Result<(), Error> {
        netlink::send(&self.socket, bytes).map_err(Error::socket)
    }

    /// The next answer, if there is one.
    fn receive(&self) -> Result<Option<Vec<u8>>, Error> {
        netlink::receive(&self.socket, ANSWER_BYTES_MAX).map_err(Error::socket)
    }
}

fn meaning(errno: Option<Errno>, entry: &Entry) -> Deleted {
    match errno {
        None => Deleted::Done,
        // Also when the tuple is another flow's by now, which the id tells.
        Some(Errno::ENOENT) => Deleted::Gone,
        Some(Errno::EPERM | Errno::EACCES) => Deleted::Failed(Error::NotPermitted),
        Some(errno) => {
            let flow = entry.flow.to_string();
            Deleted::Failed(Error::Refused { flow, errno: errno.desc() })
        }
    }
}
