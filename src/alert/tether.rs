//! A way to a server that ends in time and carries only so much, for a client that opens its socket itself.
//!
//! lettre has a time for each read, of which a slow server can make any number, and reads a line without an end for ever.
//! So it is given an end of ours on loopback, and everything passes through here.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{
    IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _,
};
use std::os::fd::AsFd as _;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::sink::Patience;

/// How often it is looked whether to give up.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// Bytes that a server may say: its certificates, and a line to each of ours.
const SAID_MAX: usize = 256 << 10;
/// Bytes carried at a time.
const ROOM: usize = 16 << 10;

/// Why there is no way any more.
#[derive(Debug, thiserror::Error)]
pub(super) enum Cut {
    /// Its time is over, or nobody waits for it.
    #[error("the server has not taken the mail in time")]
    Late,
    /// A server that only wants to take a mail says less.
    #[error("the server says too much")]
    Flood,
    /// There is no such server, or it is gone.
    #[error("{0}")]
    Broken(String),
}

impl From<std::io::Error> for Cut {
    fn from(error: std::io::Error) -> Cut {
        Cut::Broken(error.to_string())
    }
}

impl From<nix::Error> for Cut {
    fn from(error: nix::Error) -> Cut {
        std::io::Error::from(error).into()
    }
}

/// The way, before anybody took it.
#[derive(Debug)]
pub(super) struct Tether {
    near: TcpListener,
    far: TcpStream,
    from: Ipv4Addr,
    limit: Limit,
}

/// Where the client is to connect, and from where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hook {
    /// Our end.
    pub at: SocketAddr,
    /// Nobody else guesses it, so nobody else is let in.
    pub from: IpAddr,
}

/// How long it lasts.
#[derive(Debug)]
struct Limit {
    end: Instant,
    patience: Patience,
}

impl Limit {
    fn left(&self) -> Result<Duration, Cut> {
        let left = self.end.saturating_duration_since(Instant::now());
        if left.is_zero() || self.patience.is_over() { Err(Cut::Late) } else { Ok(left) }
    }
}

impl Tether {
    /// Connects to the server. The time counts from here.
    ///
    /// # Errors
    /// [`Cut`].
    pub(super) fn open(server: &str, port: u16, patience: &Patience) -> Result<Tether, Cut> {
        let limit = Limit { end: Instant::now() + patience.total, patience: patience.clone() };
        let far = connect(&resolve(server, port, &limit)?, &limit)?;
        far.set_write_timeout(Some(LOOK_EVERY))?;
        let near = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        near.set_nonblocking(true)?;
        let [_, b, c, d, ..] = RandomState::new().hash_one(port).to_be_bytes();
        // Neither the network's own address nor its last.
        let from = Ipv4Addr::new(127, b, c, d.clamp(1, 254));
        Ok(Tether { near, far, from, limit })
    }

    /// For the client.
    ///
    /// # Errors
    /// [`Cut`].
    pub(super) fn hook(&self) -> Result<Hook, Cut> {
        Ok(Hook { at: self.near.local_addr()?, from: self.from.into() })
    }

    /// Carries until the client is done or gone. Afterwards both ends are closed, and whoever reads from one is told.
    ///
    /// # Errors
    /// [`Cut`].
    pub(super) fn carry(self, is_done: impl Fn() -> bool) -> Result<(), Cut> {
        let Some(near) = self.accept(&is_done)? else { return Ok(()) };
        near.set_write_timeout(Some(LOOK_EVERY))?;
        let (mut said, mut far_is_open) = (0_usize, true);
        let mut room = vec![0; ROOM];
        while !is_done() {
            let left = self.limit.left()?;
            let mut ends = vec![PollFd::new(near.as_fd(), PollFlags::POLLIN)];
            if far_is_open {
                ends.push(PollFd::new(self.far.as_fd(), PollFlags::POLLIN));
            }
            wait(&mut ends, left)?;
            let speaks: Vec<bool> = ends.iter().map(|end| end.any().unwrap_or(false)).collect();
            if speaks.get(1) == Some(&true) {
                let length = (&self.far).read(&mut room)?;
                said += length;
                if said > SAID_MAX {
                    return Err(Cut::Flood);
                }
                match length {
                    0 => {
                        far_is_open = false;
                        near.shutdown(Shutdown::Write)?;
                    }
                    _ => self.put(&near, room.get(..length).unwrap_or_default())?,
                }
            }
            if speaks.first() == Some(&true) {
                match (&near).read(&mut room)? {
                    0 => return Ok(()),
                    length => self.put(&self.far, room.get(..length).unwrap_or_default())?,
                }
            }
        }
        Ok(())
    }

    /// The client, and nobody else on this host; none if it is done before it came.
    fn accept(&self, is_done: &impl Fn() -> bool) -> Result<Option<TcpStream>, Cut> {
        while !is_done() {
            let left = self.limit.left()?;
            wait(&mut [PollFd::new(self.near.as_fd(), PollFlags::POLLIN)], left)?;
            match self.near.accept() {
                Ok((near, peer)) if peer.ip() == self.from => {
                    near.set_nonblocking(false)?;
                    return Ok(Some(near));
                }
                Ok(_) => {}
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    fn put(&self, mut to: &TcpStream, mut bytes: &[u8]) -> Result<(), Cut> {
        while !bytes.is_empty() {
            self.limit.left()?;
            match to.write(bytes) {
                Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
                Err(error) if is_passing(&error) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// The system's resolver has its own idea of time, so it is asked by a thread that nobody waits for.
fn resolve(server: &str, port: u16, limit: &Limit) -> Result<Vec<SocketAddr>, Cut> {
    if let Ok(address) = server.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(address, port)]);
    }
    let (tell, told) = channel();
    let at = (server.to_owned(), port);
    let ask = move || {
        let found = at.to_socket_addrs().map(Iterator::collect);
        // Nobody listens any more if it took too long.
        let _ = tell.send(found);
    };
    std::thread::Builder::new().name("alert-resolve".to_owned()).spawn(ask)?;
    loop {
        match told.recv_timeout(limit.left()?.min(LOOK_EVERY)) {
            Ok(found) => return Ok(found?),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                return Err(Cut::Broken("the look-up of the server panicked".to_owned()));
            }
        }
    }
}

/// To the first that answers; each has its part of the time.
fn connect(addresses: &[SocketAddr], limit: &Limit) -> Result<TcpStream, Cut> {
    let mut failed = Cut::Broken("the server has no address".to_owned());
    for (place, address) in addresses.iter().enumerate() {
        let rest = u32::try_from(addresses.len() - place).unwrap_or(u32::MAX);
        match TcpStream::connect_timeout(address, limit.left()? / rest) {
            Ok(stream) => return Ok(stream),
            Err(error) => failed = error.into(),
        }
    }
    Err(failed)
}

fn wait(ends: &mut [PollFd<'_>], left: Duration) -> Result<(), Cut> {
    let timeout = PollTimeout::try_from(left.min(LOOK_EVERY)).unwrap_or(PollTimeout::ZERO);
    waited(poll(ends, timeout))
}

/// A signal that woke it is for somebody else.
fn waited(polled: nix::Result<i32>) -> Result<(), Cut> {
    match polled {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn is_passing(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use nix::sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket,
    };

    use super::*;
    use crate::alert::testing::{patience, serve};

    const LONG: Duration = Duration::from_secs(20);

    fn dial(hook: Hook) -> TcpStream {
        use std::os::fd::AsRawFd as _;
        let flags = SockFlag::SOCK_CLOEXEC;
        let fd = socket(AddressFamily::Inet, SockType::Stream, flags, None).unwrap();
        bind(fd.as_raw_fd(), &SockaddrStorage::from(SocketAddr::new(hook.from, 0))).unwrap();
        connect(fd.as_raw_fd(), &SockaddrStorage::from(hook.at)).unwrap();
        let stream = TcpStream::from(fd);
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    #[test]
    fn nobody_else_takes_the_way() {
        let at = serve(|mut stream, _| stream.write_all(b"hello"));
        let tether = Tether::open("127.0.0.1", at.port(), &patience(LONG)).unwrap();
        let hook = tether.hook().unwrap();
        let carried = std::thread::spawn(move || tether.carry(|| false));
        let mut stranger = TcpStream::connect(hook.at).unwrap();
        stranger.set_read_timeout(Some(LONG)).unwrap();
        let mut said = String::new();
        // Let go at once, with or without ceremony.
        let _ = stranger.read_to_string(&mut said);
        assert_eq!(said, "");
        dial(hook).read_to_string(&mut said).unwrap();
        assert_eq!(said, "hello");
        carried.join().unwrap().unwrap();
    }

    #[test]
    fn a_signal_is_no_failure() {
        assert!(waited(Err(Errno::EINTR)).is_ok() && waited(Ok(0)).is_ok());
        assert!(matches!(waited(Err(Errno::ENOMEM)), Err(Cut::Broken(_))));
    }

    #[test]
    fn a_server_that_takes_nothing_is_given_up() {
        let (hold, held) = channel();
        let at = serve(move |stream, _| hold.send(stream).map_err(std::io::Error::other));
        let patience = patience(Duration::from_secs(1));
        let tether = Tether::open("localhost", at.port(), &patience).unwrap();
        let hook = tether.hook().unwrap();
        let began = Instant::now();
        let writer = std::thread::spawn(move || {
            let (mut stream, bytes) = (dial(hook), vec![0; 1 << 20]);
            while stream.write_all(&bytes).is_ok() {}
        });
        let cut = tether.carry(|| false).unwrap_err();
        assert!(matches!(cut, Cut::Late), "{cut:?}");
        writer.join().unwrap();
        assert!(began.elapsed() < LONG / 2);
        drop(held);
    }
}
