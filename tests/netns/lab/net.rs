//! Clients: one TCP connect with its timing, one UDP question with its answer.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, getsockopt, setsockopt, sockopt,
};

use super::ns::Ns;

/// Connects from a namespace and says how long connect() took; the connection is closed at once.
///
/// # Errors
/// What connect() reports: refused, unreachable, or [`ErrorKind::TimedOut`] when the time is up.
pub fn connect(ns: &Ns, dst: SocketAddr, timeout: Duration) -> io::Result<Duration> {
    ns.run(|| connect_here(None, dst, timeout)).map(|(_, took)| took)
}

/// Connects from a given source (port 0: any) and keeps the connection.
///
/// # Errors
/// As [`connect`].
pub fn connect_from(
    ns: &Ns,
    src: SocketAddr,
    dst: SocketAddr,
    timeout: Duration,
) -> io::Result<(TcpStream, Duration)> {
    ns.run(|| connect_here(Some(src), dst, timeout))
}

/// The same on the calling thread, which is inside already ([`Ns::run`]): for loops that measure.
///
/// # Errors
/// As [`connect`].
pub fn connect_here(
    src: Option<SocketAddr>,
    dst: SocketAddr,
    timeout: Duration,
) -> io::Result<(TcpStream, Duration)> {
    let socket = tcp_socket(src, dst)?;
    let start = Instant::now();
    if start_connect(&socket, dst)? {
        let took = start.elapsed();
        return Ok((stream(socket)?, took));
    }
    loop {
        let left = timeout.saturating_sub(start.elapsed());
        let wait = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut ready = [PollFd::new(socket.as_fd(), PollFlags::POLLOUT)];
        match poll(&mut ready, wait) {
            Ok(0) if start.elapsed() >= timeout => return Err(ErrorKind::TimedOut.into()),
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => break,
            Err(e) => return Err(e.into()),
        }
    }
    let took = start.elapsed();
    finish_connect(&socket)?;
    Ok((stream(socket)?, took))
}

/// Closes with a reset, so that neither side keeps the port (for loops of thousands).
pub fn abort(stream: TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    let _ = setsockopt(&stream, sockopt::Linger, &linger);
    drop(stream);
}

fn stream(socket: OwnedFd) -> io::Result<TcpStream> {
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}

/// A non-blocking socket of the right family, bound when a source is wanted.
pub(super) fn tcp_socket(src: Option<SocketAddr>, dst: SocketAddr) -> io::Result<OwnedFd> {
    let socket = nix::sys::socket::socket(
        if dst.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 },
        SockType::Stream,
        SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK,
        None,
    )?;
    if let Some(src) = src {
        if src.port() != 0 {
            setsockopt(&socket, sockopt::ReuseAddr, &true)?;
        }
        nix::sys::socket::bind(socket.as_raw_fd(), &SockaddrStorage::from(src))?;
    }
    Ok(socket)
}

/// True when the connection stands already, false when it is under way.
pub(super) fn start_connect(socket: &OwnedFd, dst: SocketAddr) -> io::Result<bool> {
    match nix::sys::socket::connect(socket.as_raw_fd(), &SockaddrStorage::from(dst)) {
        Ok(()) => Ok(true),
        Err(Errno::EINPROGRESS) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

pub(super) fn finish_connect(socket: &OwnedFd) -> io::Result<()> {
    match getsockopt(socket, sockopt::SocketError)? {
        0 => Ok(()),
        error => Err(io::Error::from_raw_os_error(error)),
    }
}

/// What became of a UDP question.
#[derive(Debug)]
pub enum Udp {
    /// An answer came.
    Answer(Vec<u8>, Duration),
    /// An ICMP error came: `ECONNREFUSED` (port), `EHOSTUNREACH` or `EACCES` (prohibited).
    Refused(io::Error, Duration),
    /// Nothing came.
    Silence,
}

impl Udp {
    /// An answer came.
    pub fn answered(&self) -> bool {
        matches!(self, Udp::Answer(..))
    }

    /// An ICMP error came.
    pub fn refused(&self) -> bool {
        matches!(self, Udp::Refused(..))
    }

    /// Nothing came.
    pub fn silent(&self) -> bool {
        matches!(self, Udp::Silence)
    }
}

/// Sends one datagram from a namespace and waits for an answer, an ICMP error or the time.
pub fn udp_ask(
    ns: &Ns,
    src: Option<SocketAddr>,
    dst: SocketAddr,
    payload: &[u8],
    timeout: Duration,
) -> Udp {
    ns.run(|| udp_ask_here(&udp_socket(src, dst), payload, timeout))
}

/// A UDP socket on the calling thread's side, connected (so that ICMP errors are heard).
///
/// # Panics
/// When it cannot be bound or connected.
pub fn udp_socket(src: Option<SocketAddr>, dst: SocketAddr) -> UdpSocket {
    let any: SocketAddr = if dst.is_ipv4() { super::at([0; 4], 0) } else { super::at([0; 16], 0) };
    let socket = UdpSocket::bind(src.unwrap_or(any)).expect("bind");
    socket.connect(dst).expect("connect");
    socket
}

/// Asks on a socket that is there; asking again on the same one is a repeated packet of the same flow.
pub fn udp_ask_here(socket: &UdpSocket, payload: &[u8], timeout: Duration) -> Udp {
    let start = Instant::now();
    if let Err(e) = socket.send(payload) {
        return Udp::Refused(e, start.elapsed());
    }
    let mut answer = vec![0; 65_536];
    socket.set_read_timeout(Some(timeout.max(Duration::from_millis(1)))).expect("timeout");
    match socket.recv(&mut answer) {
        Ok(len) => {
            answer.truncate(len);
            Udp::Answer(answer, start.elapsed())
        }
        Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Udp::Silence,
        Err(e) => Udp::Refused(e, start.elapsed()),
    }
}
