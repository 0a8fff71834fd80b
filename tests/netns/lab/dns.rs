//! dnsmasq as resolver or as the internet's name server, and a small DNS client.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use super::daemon::Daemon;
use super::net::{self, Udp};
use super::ns::Ns;
use super::{DNS4, DNS6, Lab, at, retry_until};

/// Starts a dnsmasq in a namespace, listening on port 53 of the given addresses only, with no
/// configuration but `args`; returns when it answers. (Its stderr is its log, with `--log-facility=-`.)
///
/// # Panics
/// When it does not come up, with what it said.
pub fn dnsmasq<A: AsRef<str>>(
    ns: &Ns,
    listen: &[IpAddr],
    args: impl IntoIterator<Item = A>,
) -> Daemon {
    let mut command = ns.command("dnsmasq");
    command.args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file"]);
    command.args(["--user=root", "--no-resolv", "--no-hosts", "--bind-interfaces"]);
    command.args(listen.iter().map(|a| format!("--listen-address={a}")));
    command.args(args.into_iter().map(|a| a.as_ref().to_owned()));
    let running = Daemon::start(ns, command);
    for &address in listen {
        // TCP opens last and leaves no line in the log; a query would.
        let up = ns.run(|| {
            retry_until(Duration::from_secs(5), || {
                let tried = net::connect_here(None, at(address, 53), Duration::from_secs(1));
                (tried.is_ok() || running.ended().is_some()).then_some(tried)
            })
        });
        assert!(matches!(up, Some(Ok(_))), "dnsmasq on {address}: {up:?}\n{}", running.story());
    }
    running
}

/// The internet's name server in `srv`: what it knows, written with the helpers of [`zone`].
pub fn upstream<A: AsRef<str>>(lab: &Lab, args: impl IntoIterator<Item = A>) -> Daemon {
    let fixed = ["--local-ttl=60", "--local=/#/", "--log-facility=-"];
    let args = args.into_iter().map(|a| a.as_ref().to_owned());
    dnsmasq(&lab.srv, &[DNS4.into(), DNS6.into()], fixed.map(str::to_owned).into_iter().chain(args))
}

/// Arguments that teach dnsmasq a name.
pub mod zone {
    use std::net::IpAddr;

    /// A name and one of its addresses (say it again for more).
    pub fn host(name: &str, address: impl Into<IpAddr>) -> String {
        format!("--host-record={name},{}", address.into())
    }

    /// A whole domain, every name below it included.
    pub fn domain(name: &str, address: impl Into<IpAddr>) -> String {
        format!("--address=/{name}/{}", address.into())
    }

    /// A TXT record.
    pub fn txt(name: &str, text: &str) -> String {
        format!("--txt-record={name},{text}")
    }

    /// An alias of a name given by [`host`] (dnsmasq knows no target given by [`domain`]).
    pub fn cname(alias: &str, target: &str) -> String {
        format!("--cname={alias},{target}")
    }

    /// A hosts file, read again on SIGHUP.
    pub fn hosts_file(path: &std::path::Path) -> String {
        format!("--addn-hosts={}", path.display())
    }
}

/// Record types the client knows how to read.
pub mod qtype {
    /// IPv4 address.
    pub const A: u16 = 1;
    /// Alias.
    pub const CNAME: u16 = 5;
    /// Name of an address.
    pub const PTR: u16 = 12;
    /// Text.
    pub const TXT: u16 = 16;
    /// IPv6 address.
    pub const AAAA: u16 = 28;
}

/// How to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Over {
    /// One datagram.
    Udp,
    /// A connection.
    Tcp,
}

/// One record of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rr {
    /// A or AAAA.
    Address(IpAddr),
    /// CNAME or PTR.
    Name(String),
    /// TXT, its strings joined.
    Text(String),
    /// Anything else: its type and raw data.
    Other(u16, Vec<u8>),
}

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// 0 no error, 2 server failure, 3 no such name, 5 refused.
    pub rcode: u8,
    /// The answer section, in order.
    pub answers: Vec<Rr>,
}

impl Reply {
    /// The addresses in it.
    pub fn addresses(&self) -> Vec<IpAddr> {
        let address = |r: &Rr| if let Rr::Address(a) = r { Some(*a) } else { None };
        self.answers.iter().filter_map(address).collect()
    }
}

/// Asks a server from a namespace over UDP, for two seconds, once.
///
/// # Errors
/// Refused, timed out, or not a DNS message.
pub fn dns_query(ns: &Ns, server: IpAddr, name: &str, qtype: u16) -> io::Result<Reply> {
    let any = if server.is_ipv4() { at([0; 4], 0) } else { at([0; 16], 0) };
    dns_ask(ns, any, at(server, 53), name, qtype, Over::Udp)
}

/// The name to ask PTR for.
pub fn reverse_name(address: IpAddr) -> String {
    match address {
        IpAddr::V4(a) => {
            let [a, b, c, d] = a.octets();
            format!("{d}.{c}.{b}.{a}.in-addr.arpa")
        }
        IpAddr::V6(a) => {
            let nibbles = a.octets().into_iter().rev().flat_map(|b| [b & 15, b >> 4]);
            nibbles.map(|n| format!("{n:x}.")).collect::<String>() + "ip6.arpa"
        }
    }
}

/// Asks from a given source, over UDP or TCP.
///
/// # Errors
/// Refused, timed out, or not a DNS message.
pub fn dns_ask(
    ns: &Ns,
    src: SocketAddr,
    server: SocketAddr,
    name: &str,
    qtype: u16,
    over: Over,
) -> io::Result<Reply> {
    static NEXT: AtomicU16 = AtomicU16::new(1);
    let id = NEXT.fetch_add(1, Ordering::Relaxed);
    let query = question(id, name, qtype);
    let limit = Duration::from_secs(2);
    let answer = match over {
        Over::Udp => match net::udp_ask(ns, Some(src), server, &query, limit) {
            Udp::Answer(bytes, _) => bytes,
            Udp::Refused(e, _) => return Err(e),
            Udp::Silence => return Err(io::ErrorKind::TimedOut.into()),
        },
        Over::Tcp => {
            let (mut stream, _) = net::connect_from(ns, src, server, limit)?;
            stream.set_read_timeout(Some(limit))?;
            over_tcp(&mut stream, &query)?
        }
    };
    if answer.get(..2) != Some(&id.to_be_bytes()) {
        return Err(io::Error::other("an answer to another question"));
    }
    read_reply(&answer).ok_or_else(|| io::Error::other("not a DNS message"))
}

/// Asks over a connection that is open.
///
/// # Errors
/// What the connection reports.
pub fn over_tcp(stream: &mut TcpStream, query: &[u8]) -> io::Result<Vec<u8>> {
    let len = u16::try_from(query.len()).expect("a query");
    stream.write_all(&[&len.to_be_bytes(), query].concat())?;
    let mut len = [0; 2];
    stream.read_exact(&mut len)?;
    let mut answer = vec![0; u16::from_be_bytes(len).into()];
    stream.read_exact(&mut answer)?;
    Ok(answer)
}

/// The bytes of a question.
pub fn question(id: u16, name: &str, qtype: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]); // recursion desired, one question
    for label in name.trim_end_matches('.').split('.') {
        bytes.push(u8::try_from(label.len()).expect("a label"));
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes.extend(qtype.to_be_bytes());
    bytes.extend([0, 1]);
    bytes
}

fn read_reply(bytes: &[u8]) -> Option<Reply> {
    let (questions, answers) = (word(bytes, 4)?, word(bytes, 6)?);
    let mut here = 12;
    for _ in 0..questions {
        here = read_name(bytes, here)?.1 + 4;
    }
    let mut found = Vec::new();
    for _ in 0..answers {
        here = read_name(bytes, here)?.1;
        let (kind, len) = (word(bytes, here)?, usize::from(word(bytes, here + 8)?));
        here += 10;
        let data = bytes.get(here..here + len)?;
        found.push(match kind {
            qtype::A => Rr::Address(Ipv4Addr::from(<[u8; 4]>::try_from(data).ok()?).into()),
            qtype::AAAA => Rr::Address(Ipv6Addr::from(<[u8; 16]>::try_from(data).ok()?).into()),
            qtype::CNAME | qtype::PTR => Rr::Name(read_name(bytes, here)?.0),
            qtype::TXT => Rr::Text(text(data)),
            other => Rr::Other(other, data.to_vec()),
        });
        here += len;
    }
    Some(Reply { rcode: bytes.get(3)? & 15, answers: found })
}

fn text(mut data: &[u8]) -> String {
    let mut joined = String::new();
    while let Some((&len, rest)) = data.split_first() {
        let (one, rest) = rest.split_at(usize::from(len).min(rest.len()));
        joined += &String::from_utf8_lossy(one);
        data = rest;
    }
    joined
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

/// A name, and where the message goes on after it.
fn read_name(bytes: &[u8], mut here: usize) -> Option<(String, usize)> {
    let (mut labels, mut after) = (Vec::new(), None);
    for _ in 0..128 {
        let len = usize::from(*bytes.get(here)?);
        if len >= 0xc0 {
            after.get_or_insert(here + 2);
            here = usize::from(word(bytes, here)? & 0x3fff);
        } else if len == 0 {
            return Some((labels.join("."), after.unwrap_or(here + 1)));
        } else {
            labels.push(String::from_utf8_lossy(bytes.get(here + 1..here + 1 + len)?).into_owned());
            here += 1 + len;
        }
    }
    None
}
