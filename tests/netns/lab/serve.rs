//! Servers: TCP and UDP echo on given ports or addresses, stopped when dropped.

use std::collections::HashMap;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::eventfd::EventFd;
use nix::sys::socket::{
    AddressFamily, Backlog, ControlMessage, ControlMessageOwned, MsgFlags, SockFlag, SockType,
    SockaddrStorage, bind, listen, recvmsg, sendmsg, setsockopt, sockopt,
};

use super::at;
use super::ns::Ns;

const STOP: u64 = u64::MAX;

/// A port on every address of a namespace, both families.
pub fn everywhere(port: u16) -> [SocketAddr; 2] {
    [at(Ipv4Addr::UNSPECIFIED, port), at(Ipv6Addr::UNSPECIFIED, port)]
}

/// A running server thread.
#[derive(Debug)]
pub struct Server {
    stop: Arc<EventFd>,
    served: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Accepts connections and echoes what comes in until the client closes.
    ///
    /// # Panics
    /// When an address cannot be listened on.
    pub fn tcp(ns: &Ns, addresses: &[SocketAddr]) -> Server {
        let sockets = ns.run(|| addresses.iter().map(|&a| open(a, SockType::Stream)).collect());
        Server::start(sockets, tcp_loop)
    }

    /// Sends every datagram back, from the address it was sent to.
    ///
    /// # Panics
    /// When an address cannot be bound.
    pub fn udp(ns: &Ns, addresses: &[SocketAddr]) -> Server {
        let sockets = ns.run(|| addresses.iter().map(|&a| open(a, SockType::Datagram)).collect());
        Server::start(sockets, udp_loop)
    }

    fn start(sockets: Vec<OwnedFd>, work: fn(Vec<OwnedFd>, &Epoll, &AtomicU64)) -> Server {
        let (stop, served) = (Arc::new(EventFd::new().expect("eventfd")), Arc::default());
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).expect("epoll");
        epoll.add(&*stop, EpollEvent::new(EpollFlags::EPOLLIN, STOP)).expect("epoll add");
        for (n, socket) in sockets.iter().enumerate() {
            watch(&epoll, socket, n as u64);
        }
        let thread = std::thread::spawn({
            let served = Arc::clone(&served);
            move || work(sockets, &epoll, &served)
        });
        Server { stop, served, thread: Some(thread) }
    }

    /// Connections accepted, or datagrams sent back, so far.
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.stop.write(1);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn open(address: SocketAddr, kind: SockType) -> OwnedFd {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = nix::sys::socket::socket(family, kind, flags, None).expect("socket");
    setsockopt(&socket, sockopt::ReuseAddr, &true).expect("reuse address");
    if address.is_ipv6() {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true).expect("IPv6 only");
    }
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))
        .unwrap_or_else(|e| panic!("listen on {address}: {e}"));
    if kind == SockType::Stream {
        listen(&socket, Backlog::MAXALLOWABLE).expect("listen");
    } else {
        setsockopt(&socket, sockopt::RcvBufForce, &(16 << 20)).expect("receive buffer");
        if address.is_ipv4() {
            setsockopt(&socket, sockopt::Ipv4PacketInfo, &true).expect("packet info");
        } else {
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true).expect("packet info");
        }
    }
    socket
}

fn watch(epoll: &Epoll, socket: impl AsFd, number: u64) {
    epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, number)).expect("epoll add");
}

/// Calls `ready` with the number of each socket that has something, until told to stop.
fn each_ready(epoll: &Epoll, mut ready: impl FnMut(u64)) {
    let mut events = vec![EpollEvent::empty(); 256];
    loop {
        let count = match epoll.wait(&mut events, EpollTimeout::NONE) {
            Err(Errno::EINTR) => 0,
            other => other.expect("epoll wait"),
        };
        for event in &events[..count] {
            if event.data() == STOP {
                return;
            }
            ready(event.data());
        }
    }
}

fn tcp_loop(sockets: Vec<OwnedFd>, epoll: &Epoll, served: &AtomicU64) {
    let listeners: Vec<TcpListener> = sockets.into_iter().map(TcpListener::from).collect();
    let mut clients: HashMap<u64, TcpStream> = HashMap::new();
    let mut next = listeners.len() as u64;
    let mut buffer = [0; 16_384];
    each_ready(epoll, |number| {
        if let Some(listener) = listeners.get(number as usize) {
            while let Ok((client, _)) = listener.accept() {
                served.fetch_add(1, Ordering::Relaxed);
                let _ = client.set_nonblocking(true);
                watch(epoll, &client, next);
                clients.insert(next, client);
                next += 1;
            }
            return;
        }
        let Some(client) = clients.get_mut(&number) else { return };
        let over = match client.read(&mut buffer) {
            Ok(0) | Err(_) => true,
            Ok(len) => client.write_all(&buffer[..len]).is_err(),
        };
        if over {
            clients.remove(&number);
        }
    });
}

fn udp_loop(sockets: Vec<OwnedFd>, epoll: &Epoll, served: &AtomicU64) {
    let sockets: Vec<UdpSocket> = sockets.into_iter().map(UdpSocket::from).collect();
    let mut buffer = vec![0; 65_536];
    each_ready(epoll, |number| {
        while echo(&sockets[number as usize], &mut buffer) {
            served.fetch_add(1, Ordering::Relaxed);
        }
    });
}

/// Sends one datagram back from the address it came to; false when there is none.
fn echo(socket: &UdpSocket, buffer: &mut [u8]) -> bool {
    let mut control = nix::cmsg_space!(libc::in6_pktinfo);
    let mut room = [IoSliceMut::new(buffer)];
    let fd = socket.as_raw_fd();
    let got = recvmsg::<SockaddrStorage>(fd, &mut room, Some(&mut control), MsgFlags::MSG_DONTWAIT);
    let got = match got {
        Ok(got) => got,
        Err(Errno::EAGAIN) => return false,
        Err(_) => return true, // an ICMP error for an earlier answer: not ours to care about
    };
    let (from, len) = (got.address, got.bytes);
    let to = got.cmsgs().expect("control messages").next();
    let data = [IoSlice::new(&buffer[..len])];
    let send = |how: &[ControlMessage<'_>]| {
        let _ = sendmsg(fd, &data, how, MsgFlags::empty(), from.as_ref());
    };
    match to {
        Some(ControlMessageOwned::Ipv4PacketInfo(mut info)) => {
            info.ipi_spec_dst = info.ipi_addr;
            info.ipi_ifindex = 0;
            send(&[ControlMessage::Ipv4PacketInfo(&info)]);
        }
        Some(ControlMessageOwned::Ipv6PacketInfo(mut info)) => {
            info.ipi6_ifindex = 0;
            send(&[ControlMessage::Ipv6PacketInfo(&info)]);
        }
        _ => send(&[]),
    }
    true
}
