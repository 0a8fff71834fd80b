//! Many TCP connects at once on one thread.

use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::net;
use super::ns::Ns;

/// One connection to try.
#[derive(Clone, Copy, Debug)]
pub struct Dial {
    /// From where; None: the kernel chooses.
    pub src: Option<SocketAddr>,
    /// To where.
    pub dst: SocketAddr,
}

impl From<SocketAddr> for Dial {
    fn from(dst: SocketAddr) -> Dial {
        Dial { src: None, dst }
    }
}

/// What became of one connection.
#[derive(Debug)]
pub struct Dialled {
    /// What was tried.
    pub dial: Dial,
    /// The connection, or why not ([`ErrorKind::TimedOut`] when the time was up).
    pub result: io::Result<TcpStream>,
    /// How long it took from its own connect().
    pub took: Duration,
}

/// Starts all connects at once and waits for every one; results in the order given.
pub fn connect_many(ns: &Ns, dials: &[Dial], timeout: Duration) -> Vec<Dialled> {
    ns.run(|| connect_many_here(dials, dials.len(), timeout))
}

/// The same on the calling thread, never more than `at_once` under way.
pub fn connect_many_here(dials: &[Dial], at_once: usize, timeout: Duration) -> Vec<Dialled> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll");
    let mut done: Vec<Option<Dialled>> = dials.iter().map(|_| None).collect();
    let mut under_way: Vec<Option<(OwnedFd, Instant)>> = dials.iter().map(|_| None).collect();
    let (mut next, mut oldest, mut busy) = (0, 0, 0);
    let mut events = vec![EpollEvent::empty(); 256];
    let finish = |n: usize, result: io::Result<TcpStream>, since: Instant| {
        Some(Dialled { dial: dials[n], result, took: since.elapsed() })
    };
    while next < dials.len() || busy > 0 {
        while next < dials.len() && busy < at_once {
            let since = Instant::now();
            match begin(dials[next]) {
                Ok((socket, true)) => done[next] = finish(next, finished(socket), since),
                Ok((socket, false)) => {
                    let event = EpollEvent::new(EpollFlags::EPOLLOUT, next as u64);
                    epoll.add(&socket, event).expect("epoll add");
                    under_way[next] = Some((socket, since));
                    busy += 1;
                }
                Err(e) => done[next] = finish(next, Err(e), since),
            }
            next += 1;
        }
        if busy == 0 {
            continue;
        }
        // Connects start in order, so the oldest one under way is the next to run out of time.
        while under_way[oldest].is_none() {
            oldest += 1;
        }
        let since = under_way[oldest].as_ref().map_or_else(Instant::now, |u| u.1);
        let left = timeout.saturating_sub(since.elapsed());
        let wait = EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX);
        let ready = match epoll.wait(&mut events, wait) {
            Err(Errno::EINTR) => 0,
            other => other.expect("epoll wait"),
        };
        for event in &events[..ready] {
            let n = event.data() as usize;
            if let Some((socket, since)) = under_way[n].take() {
                let _ = epoll.delete(&socket);
                done[n] = finish(n, finished(socket), since);
                busy -= 1;
            }
        }
        while oldest < next {
            match &under_way[oldest] {
                Some((_, since)) if since.elapsed() >= timeout => {
                    done[oldest] = finish(oldest, Err(ErrorKind::TimedOut.into()), *since);
                    under_way[oldest] = None; // closing takes it out of the epoll
                    busy -= 1;
                }
                Some(_) => break,
                None => {}
            }
            oldest += 1;
        }
    }
    done.into_iter().map(|d| d.expect("every dial ends")).collect()
}

fn begin(dial: Dial) -> io::Result<(OwnedFd, bool)> {
    let socket = net::tcp_socket(dial.src, dial.dst)?;
    let stands = net::start_connect(&socket, dial.dst)?;
    Ok((socket, stands))
}

fn finished(socket: OwnedFd) -> io::Result<TcpStream> {
    net::finish_connect(&socket)?;
    let stream = TcpStream::from(socket);
    stream.set_nonblocking(false)?;
    Ok(stream)
}
