//! The real link: an nfq socket, set up so that no packet can slip by unseen while it is being set up.
//!
//! nfq's own configuration calls throw away packets that arrive while they wait for their acknowledgement.
//! With rules already in place that would leave packets in the kernel without an answer for ever. So the
//! socket is configured here, on nfq's descriptor, and copying, which starts the flow of packets, is turned on
//! last and without an acknowledgement to wait for.

use std::collections::HashSet;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::time::Duration;

use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    MsgFlags, NetlinkAddr, getsockname, recv, send, setsockopt, sockopt::RcvBufForce,
};

use super::{Disposition, Link, counters};
use crate::engine::limits::{COPY_RANGE, QUEUE_LEN_MAX, QUEUE_RCVBUF};

/// How a queue is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Queue number.
    pub number: u16,
    /// Accept instead of drop when the queue is full (`NFQA_CFG_F_FAIL_OPEN`).
    pub fail_open: bool,
    /// The packet mark that the rules refuse.
    pub refuse_mark: u32,
}

/// A bound and configured queue socket.
pub struct KernelLink {
    queue: nfq::Queue,
    socket: OwnedFd,
    refuse_mark: u32,
}

/// Time the kernel gets to acknowledge a configuration message; it does so before `send` returns.
const ACK_PATIENCE: Duration = Duration::from_secs(2);
/// Tries to tell nfq's new descriptor from those other threads open at the same moment.
const OPEN_TRIES: usize = 10;

impl KernelLink {
    /// Opens, binds and configures a queue.
    ///
    /// # Errors
    /// With a sentence that says what to do: not permitted, or the number is taken and by whom.
    pub fn open(options: Options) -> io::Result<KernelLink> {
        let (mut queue, socket) = open_socket()?;
        queue.set_nonblocking(true);
        // Without the capability the buffer stays as it is; the kernel's counters tell if that is too small.
        let _ = setsockopt(&socket, RcvBufForce, &QUEUE_RCVBUF);
        let number = options.number;
        configure(
            &socket,
            number,
            &attribute(libc::NFQA_CFG_CMD, &command(libc::NFQNL_CFG_CMD_BIND)),
            true,
        )
        .map_err(|error| explain_bind(number, &error))?;
        let length = attribute(libc::NFQA_CFG_QUEUE_MAXLEN, &QUEUE_LEN_MAX.to_be_bytes());
        configure(&socket, number, &length, true)?;
        configure(&socket, number, &flags(options.fail_open), true)?;
        configure(&socket, number, &attribute(libc::NFQA_CFG_PARAMS, &copy_packet()), false)?;
        Ok(KernelLink { queue, socket, refuse_mark: options.refuse_mark })
    }
}

impl AsFd for KernelLink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::fmt::Debug for KernelLink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KernelLink").field("socket", &self.socket).finish_non_exhaustive()
    }
}

impl Link for KernelLink {
    type Message = nfq::Message;

    fn receive(&mut self) -> io::Result<nfq::Message> {
        self.queue.recv()
    }

    fn answer(&mut self, mut message: nfq::Message, disposition: Disposition) -> io::Result<()> {
        let verdict = match disposition {
            Disposition::Accept => nfq::Verdict::Accept,
            Disposition::Drop => nfq::Verdict::Drop,
            Disposition::Refuse => {
                message.set_nfmark(self.refuse_mark);
                nfq::Verdict::Repeat
            }
        };
        message.set_verdict(verdict);
        self.queue.verdict(message)
    }

    fn id(message: &nfq::Message) -> u32 {
        message.get_packet_id()
    }

    fn payload(message: &nfq::Message) -> &[u8] {
        message.get_payload()
    }

    fn was_refused(&self, message: &nfq::Message) -> bool {
        message.get_nfmark() == self.refuse_mark
    }
}

/// Opens nfq's socket and finds its descriptor: the one netlink socket that was not there before.
fn open_socket() -> io::Result<(nfq::Queue, OwnedFd)> {
    for _ in 0..OPEN_TRIES {
        let before: HashSet<PathBuf> = sockets()?.into_iter().map(|(_, inode)| inode).collect();
        let queue = nfq::Queue::open()?;
        let fresh: Vec<RawFd> = sockets()?
            .into_iter()
            .filter(|(_, inode)| !before.contains(inode))
            .map(|(fd, _)| fd)
            .collect();
        let mut netlink = fresh.into_iter().filter(|fd| getsockname::<NetlinkAddr>(*fd).is_ok());
        if let (Some(fd), None) = (netlink.next(), netlink.next()) {
            #[expect(unsafe_code, reason = "nfq does not lend out its descriptor")]
            // SAFETY: `queue` owns the open descriptor `fd` and outlives this borrow, which is duplicated at once.
            let theirs = unsafe { BorrowedFd::borrow_raw(fd) };
            // nfq does not: a program that we start would keep the queue when we end, and nobody could bind it again.
            fcntl(theirs, FcntlArg::F_SETFD(FdFlag::FD_CLOEXEC))?;
            return Ok((queue, theirs.try_clone_to_owned()?));
        }
    }
    Err(io::Error::other(
        "cannot tell the queue's socket from others opened at the same time; try again",
    ))
}

/// Every socket of this process: descriptor and `socket:[inode]`.
fn sockets() -> io::Result<Vec<(RawFd, PathBuf)>> {
    let mut sockets = Vec::new();
    for entry in std::fs::read_dir("/proc/self/fd")? {
        let entry = entry?;
        let fd = entry.file_name().to_str().and_then(|name| name.parse().ok());
        // A descriptor may be closed between the listing and this look.
        let target = std::fs::read_link(entry.path()).ok();
        if let (Some(fd), Some(target)) = (fd, target)
            && target.to_string_lossy().starts_with("socket:")
        {
            sockets.push((fd, target));
        }
    }
    Ok(sockets)
}

/// Sends one `NFQNL_MSG_CONFIG` and, if asked for, reads its acknowledgement.
fn configure(
    socket: &OwnedFd,
    number: u16,
    attributes: &[u8],
    acknowledged: bool,
) -> io::Result<()> {
    let kind = (u16::try_from(libc::NFNL_SUBSYS_QUEUE).unwrap_or(3) << 8)
        | u16::try_from(libc::NFQNL_MSG_CONFIG).unwrap_or(2);
    let ack = if acknowledged { libc::NLM_F_ACK } else { 0 };
    let header_flags = u16::try_from(libc::NLM_F_REQUEST | ack).unwrap_or(1);
    let length = u32::try_from(20 + attributes.len()).map_err(io::Error::other)?;
    let mut message = Vec::with_capacity(20 + attributes.len());
    message.extend(length.to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend(header_flags.to_ne_bytes());
    message.extend([0; 8]); // sequence and port: one message at a time, and the kernel knows us
    message.extend([0, 0]); // AF_UNSPEC, NFNETLINK_V0
    message.extend(number.to_be_bytes());
    message.extend(attributes);
    send(socket.as_raw_fd(), &message, MsgFlags::empty())?;
    if acknowledged { acknowledgement(socket) } else { Ok(()) }
}

fn acknowledgement(socket: &OwnedFd) -> io::Result<()> {
    let patience = PollTimeout::try_from(ACK_PATIENCE).unwrap_or(PollTimeout::MAX);
    if poll(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], patience)? == 0 {
        return Err(io::Error::new(
            io::ErrorKind::TimedOut,
            "the kernel does not answer on the queue's socket",
        ));
    }
    let mut buffer = [0u8; 1024];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)?;
    // struct nlmsghdr (16 bytes), then struct nlmsgerr, whose first field is the negative errno
    let errno = buffer
        .get(..length)
        .and_then(|read| read.get(16..20))
        .and_then(|bytes| bytes.first_chunk::<4>());
    match errno.map(|bytes| i32::from_ne_bytes(*bytes)) {
        Some(0) => Ok(()),
        Some(errno) => Err(io::Error::from_raw_os_error(-errno)),
        None => Err(io::Error::new(io::ErrorKind::InvalidData, "acknowledgement cut off")),
    }
}

fn explain_bind(number: u16, error: &io::Error) -> io::Error {
    let holder =
        counters::read().ok().and_then(|all| all.into_iter().find(|queue| queue.queue == number));
    let text = match (holder, error.raw_os_error()) {
        (Some(holder), _) => format!(
            "queue {number} is served by another program (netlink port {}, most often its process id); \
             stop it or choose another --queue-num",
            holder.port
        ),
        (None, Some(libc::EPERM)) => {
            "not permitted to open a queue: run as root or with CAP_NET_ADMIN".to_owned()
        }
        _ => format!("cannot bind queue {number}: {error}"),
    };
    io::Error::new(error.kind(), text)
}

/// One netlink attribute: `struct nlattr`, the value, padding to four bytes.
fn attribute(kind: libc::c_int, value: &[u8]) -> Vec<u8> {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut out = Vec::with_capacity(8 + value.len());
    out.extend(length.to_ne_bytes());
    out.extend(u16::try_from(kind).unwrap_or(0).to_ne_bytes());
    out.extend(value);
    out.resize(out.len().next_multiple_of(4), 0);
    out
}

/// `struct nfqnl_msg_config_cmd`: command, padding, protocol family (unused since Linux 3.8).
fn command(command: libc::c_int) -> [u8; 4] {
    [u8::try_from(command).unwrap_or(0), 0, 0, 0]
}

/// `struct nfqnl_msg_config_params`, packed: copy range, then the mode.
fn copy_packet() -> [u8; 5] {
    let [a, b, c, d] = u32::from(COPY_RANGE).to_be_bytes();
    [a, b, c, d, u8::try_from(libc::NFQNL_COPY_PACKET).unwrap_or(2)]
}

/// GSO packets come whole, since only their headers are read; fail-open as configured.
fn flags(fail_open: bool) -> Vec<u8> {
    let both = libc::NFQA_CFG_F_GSO | libc::NFQA_CFG_F_FAIL_OPEN;
    let wanted = if fail_open { both } else { libc::NFQA_CFG_F_GSO };
    let word = |bits: libc::c_int| u32::try_from(bits).unwrap_or(0).to_be_bytes();
    [attribute(libc::NFQA_CFG_FLAGS, &word(wanted)), attribute(libc::NFQA_CFG_MASK, &word(both))]
        .concat()
}
