//! Questions and orders to the kernel about links, addresses and routes (rtnetlink), as few as the canary needs.

use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, BorrowedFd};

use libc::{NETLINK_ROUTE, NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST};
use netlink_packet_core::{Emitable as _, NetlinkHeader};
use netlink_sys::Socket;
use nix::errno::Errno;

use crate::engine::net::{Family, Net};
use crate::netlink::{self, Attr, Attrs, HEADER_LEN};

// linux/rtnetlink.h.
const RTM_NEWLINK: u16 = 16;
const RTM_DELLINK: u16 = 17;
const RTM_GETLINK: u16 = 18;
const RTM_SETLINK: u16 = 19;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
const RTM_NEWNEIGH: u16 = 28;
const RTA_DST: u16 = 1;
const RTA_OIF: u16 = 4;
const RTA_GATEWAY: u16 = 5;
const RT_TABLE_MAIN: u8 = 254;
const RTPROT_BOOT: u8 = 3;
const RTN_UNICAST: u8 = 1;
// linux/neighbour.h.
const NDA_DST: u16 = 1;
const NDA_LLADDR: u16 = 2;
const NUD_PERMANENT: u16 = 0x80;
// linux/if_link.h, linux/veth.h, linux/if_addr.h and linux/if.h.
const IFLA_ADDRESS: u16 = 1;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINKINFO: u16 = 18;
const IFLA_IFALIAS: u16 = 20;
const IFLA_AF_SPEC: u16 = 26;
const IFLA_NET_NS_FD: u16 = 28;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_INFO_DATA: u16 = 2;
const VETH_INFO_PEER: u16 = 1;
const IFLA_INET6_ADDR_GEN_MODE: u16 = 8;
const IN6_ADDR_GEN_MODE_NONE: u8 = 1;
const IFLA_INET_CONF: u16 = 1;
// linux/ip.h.
const IPV4_DEVCONF_FORWARDING: u16 = 1;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const IFA_F_NODAD: u8 = 2;
const IFF_UP: u32 = 1;
// linux/netlink.h.
const NLMSG_ERROR: u16 = 2;

/// One answer; the description of a link takes some 2 kB.
const ANSWER_BYTES_MAX: usize = 32 << 10;
/// struct ifinfomsg.
const LINK_HEADER: usize = 16;

/// A socket to one network namespace.
pub struct Links {
    socket: Socket,
    seq: u32,
}

/// A link as the kernel knows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// What somebody wrote on it.
    pub alias: String,
    /// Its own address, as of Ethernet.
    pub mac: Vec<u8>,
}

impl Links {
    /// Opens a socket in the calling thread's network namespace, where it stays.
    ///
    /// # Errors
    /// What the system says.
    pub fn open() -> io::Result<Links> {
        let mut socket = Socket::new(NETLINK_ROUTE as isize)?;
        socket.bind_auto()?;
        Ok(Links { socket, seq: 0 })
    }

    /// The link of that name.
    ///
    /// # Errors
    /// What the kernel says, other than that there is none.
    pub fn find(&mut self, name: &str) -> io::Result<Option<Link>> {
        let request = self.message(RTM_GETLINK, 0, &header(0, 0, 0), &[named(name)]);
        let mut found = None;
        match self.ask(&request, |payload| found = link(payload)) {
            Ok(()) => Ok(found),
            Err(error) if error.raw_os_error() == Some(Errno::ENODEV as i32) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Makes a pair of links: `name` here, `peer` in the other network namespace.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add_pair(&mut self, name: &str, peer: &str, other: BorrowedFd<'_>) -> io::Result<()> {
        let there = Attr::Value(IFLA_NET_NS_FD, other.as_raw_fd().to_ne_bytes().to_vec());
        // The peer is a message within the message, with a header of its own.
        let mut inner = header(0, 0, 0).to_vec();
        inner.extend(emitted(&[named(peer), there]));
        let data = Attr::Nest(IFLA_INFO_DATA, vec![Attr::Value(VETH_INFO_PEER, inner)]);
        let kind = Attr::Value(IFLA_INFO_KIND, b"veth".to_vec());
        let attrs = [named(name), Attr::Nest(IFLA_LINKINFO, vec![kind, data])];
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        let request = self.message(RTM_NEWLINK, flags, &header(0, 0, 0), &attrs);
        self.order(&request)
    }

    /// Writes on a link whose it is, and keeps IPv6 off it: nobody is to be announced there.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sign(&mut self, index: u32, alias: &str) -> io::Result<()> {
        let mode = Attr::Value(IFLA_INET6_ADDR_GEN_MODE, vec![IN6_ADDR_GEN_MODE_NONE]);
        let inet6 = Attr::Nest(libc::AF_INET6.unsigned_abs().try_into().unwrap_or(10), vec![mode]);
        let quiet = Attr::Nest(IFLA_AF_SPEC, vec![inet6]);
        let alias = Attr::Value(IFLA_IFALIAS, alias.as_bytes().to_vec());
        let request = self.message(RTM_SETLINK, 0, &header(index, 0, 0), &[alias]);
        self.order(&request)?;
        let request = self.message(RTM_SETLINK, 0, &header(index, 0, 0), &[quiet]);
        // A kernel without IPv6 has nothing to keep off.
        let _ = self.order(&request);
        Ok(())
    }

    /// Has a link forward nothing of IPv4 that arrives on it. Of IPv6 a new network namespace forwards nothing anyway.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn forward_nothing(&mut self, index: u32) -> io::Result<()> {
        let forwarding = Attr::Value(IPV4_DEVCONF_FORWARDING, 0_u32.to_ne_bytes().to_vec());
        let inet = Attr::Nest(
            u16::from(number_of(Family::V4)),
            vec![Attr::Nest(IFLA_INET_CONF, vec![forwarding])],
        );
        let spec = Attr::Nest(IFLA_AF_SPEC, vec![inet]);
        let request = self.message(RTM_SETLINK, 0, &header(index, 0, 0), &[spec]);
        self.order(&request)
    }

    /// Takes a link up.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn up(&mut self, index: u32) -> io::Result<()> {
        let request = self.message(RTM_SETLINK, 0, &header(index, IFF_UP, IFF_UP), &[]);
        self.order(&request)
    }

    /// Takes a link away, and its peer with it.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn remove(&mut self, index: u32) -> io::Result<()> {
        let request = self.message(RTM_DELLINK, 0, &header(index, 0, 0), &[]);
        self.order(&request)
    }

    /// Gives a link an address.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add_address(&mut self, index: u32, address: IpAddr, bits: u8) -> io::Result<()> {
        // Nobody else can have it, and one that is looked for first cannot be used for a second.
        let flags = if address.is_ipv6() { IFA_F_NODAD } else { 0 };
        let mut head = [0; 8];
        let [family, prefix, said, _, a, b, c, d] = &mut head;
        (*family, *prefix, *said) = (number_of(Family::of(address)), bits, flags);
        [*a, *b, *c, *d] = index.to_ne_bytes();
        let octets = octets(address);
        let attrs = [Attr::Value(IFA_LOCAL, octets.clone()), Attr::Value(IFA_ADDRESS, octets)];
        let request = self.message(RTM_NEWADDR, NLM_F_CREATE | NLM_F_REPLACE, &head, &attrs);
        self.order(&request)
    }

    /// Leads a network, or everything, to a neighbour on a link.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add_route(&mut self, to: Option<Net>, by: IpAddr, index: u32) -> io::Result<()> {
        let bits = to.map_or(0, Net::prefix);
        let (table, protocol, kind) = (RT_TABLE_MAIN, RTPROT_BOOT, RTN_UNICAST);
        let family = number_of(Family::of(by));
        let head = [family, bits, 0, 0, table, protocol, 0, kind, 0, 0, 0, 0];
        let mut attrs = vec![
            Attr::Value(RTA_GATEWAY, octets(by)),
            Attr::Value(RTA_OIF, index.to_ne_bytes().to_vec()),
        ];
        attrs.extend(to.map(|net| Attr::Value(RTA_DST, octets(net.address()))));
        let request = self.message(RTM_NEWROUTE, NLM_F_CREATE, &head, &attrs);
        self.order(&request)
    }

    /// Says once and for all who has an address on a link, so that nobody is asked.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn add_neighbour(&mut self, index: u32, address: IpAddr, mac: &[u8]) -> io::Result<()> {
        // struct ndmsg: family, padding, index, state, flags, type.
        let mut head = vec![number_of(Family::of(address)), 0, 0, 0];
        head.extend(index.to_ne_bytes());
        head.extend(NUD_PERMANENT.to_ne_bytes());
        head.extend([0, 0]);
        let attrs = [Attr::Value(NDA_DST, octets(address)), Attr::Value(NDA_LLADDR, mac.to_vec())];
        let request = self.message(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, &head, &attrs);
        self.order(&request)
    }

    fn message(&mut self, kind: u16, flags: i32, head: &[u8], attrs: &[Attr]) -> Vec<u8> {
        self.seq = self.seq.wrapping_add(1);
        let flags = netlink::flag((flags | NLM_F_REQUEST | NLM_F_ACK).cast_unsigned());
        let mut body = head.to_vec();
        body.extend(emitted(attrs));
        let mut header = NetlinkHeader::default();
        header.length = u32::try_from(HEADER_LEN + body.len()).unwrap_or(u32::MAX);
        (header.message_type, header.flags, header.sequence_number) = (kind, flags, self.seq);
        let mut message = vec![0; HEADER_LEN];
        header.emit(&mut message);
        message.extend(body);
        message
    }

    fn order(&mut self, request: &[u8]) -> io::Result<()> {
        self.ask(request, |_| ())
    }

    /// Sends one request and reads to its end. The kernel has answered when sending returns: there is nothing to wait for.
    fn ask(&mut self, request: &[u8], mut each: impl FnMut(&[u8])) -> io::Result<()> {
        netlink::send(&self.socket, request)?;
        while let Some(bytes) = netlink::receive(&self.socket, ANSWER_BYTES_MAX)? {
            for message in netlink::messages(&bytes).map_err(io::Error::other)? {
                if message.seq != self.seq {
                    continue;
                }
                if message.kind != NLMSG_ERROR {
                    each(message.payload);
                    continue;
                }
                let code = message.errno().map_err(io::Error::other)?;
                return code.map_or(Ok(()), |errno| Err(errno.into()));
            }
        }
        Err(io::ErrorKind::UnexpectedEof.into())
    }
}

fn number_of(family: Family) -> u8 {
    let number = match family {
        Family::V4 => libc::AF_INET,
        Family::V6 => libc::AF_INET6,
    };
    u8::try_from(number).unwrap_or_default()
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

fn named(name: &str) -> Attr {
    Attr::text(IFLA_IFNAME, name)
}

fn emitted(attrs: &[Attr]) -> Vec<u8> {
    let mut bytes = vec![0; attrs.buffer_len()];
    attrs.emit(&mut bytes);
    bytes
}

/// struct ifinfomsg: family, type, index, flags, which flags.
fn header(index: u32, flags: u32, change: u32) -> [u8; LINK_HEADER] {
    let mut bytes = [0; LINK_HEADER];
    let words = [0, index, flags, change].into_iter().flat_map(u32::to_ne_bytes);
    bytes.iter_mut().zip(words).for_each(|(byte, value)| *byte = value);
    bytes
}

fn link(payload: &[u8]) -> Option<Link> {
    let index = u32::from_ne_bytes(payload.get(4..8)?.try_into().ok()?);
    let attrs = Attrs::parse(payload.get(LINK_HEADER..)?).ok()?;
    let alias = attrs.get(IFLA_IFALIAS).and_then(|text| netlink::text(text, "alias").ok());
    let mac = attrs.get(IFLA_ADDRESS).unwrap_or_default().to_vec();
    Some(Link { index, alias: alias.unwrap_or_default(), mac })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::fd::AsFd as _;

    use nix::sched::{CloneFlags, unshare};

    use super::*;

    #[test]
    #[ignore = "needs root: `make test-netns` runs it"]
    fn a_link_that_is_to_forward_nothing_does_not_and_others_do() {
        let look = || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            fs::write("/proc/sys/net/ipv4/ip_forward", "1").unwrap();
            let here = fs::File::open("/proc/thread-self/ns/net").unwrap();
            let mut links = Links::open().unwrap();
            links.add_pair("one", "other", here.as_fd()).unwrap();
            let other = links.find("other").unwrap().unwrap();
            links.forward_nothing(other.index).unwrap();
            ["one", "other"].map(|name| {
                fs::read_to_string(format!("/proc/sys/net/ipv4/conf/{name}/forwarding")).unwrap()
            })
        };
        assert_eq!(std::thread::spawn(look).join().unwrap(), ["1\n", "0\n"]);
    }
}
