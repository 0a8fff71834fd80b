//! Netlink framing for the adapters that speak netfilter: attributes and messages, on netlink-packet-core.

pub mod stream;

use std::io;

use libc::{MSG_DONTWAIT, MSG_TRUNC};
use netlink_packet_core::{
    Emitable, NLA_F_NESTED, NetlinkBuffer, NetlinkHeader, Nla, NlasIterator,
};
use netlink_sys::{Socket, SocketAddr};
use nix::errno::Errno;

/// Bytes of a netlink header.
pub const HEADER_LEN: usize = 16;
/// Bytes of the netfilter header behind it.
pub const GENMSG_LEN: usize = 4;

/// Bytes from the kernel that are not what they should be; where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the kernel's answer makes no sense ({0}): please report it, with the kernel's version")]
pub struct Garbled(pub &'static str);

/// A netlink attribute to be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attr {
    /// A value.
    Value(u16, Vec<u8>),
    /// More attributes.
    Nest(u16, Vec<Attr>),
}

impl Attr {
    /// A number as netfilter wants them, in network byte order.
    pub fn be32(kind: u16, value: u32) -> Attr {
        Attr::Value(kind, value.to_be_bytes().to_vec())
    }

    /// See [`Attr::be32`].
    pub fn be64(kind: u16, value: u64) -> Attr {
        Attr::Value(kind, value.to_be_bytes().to_vec())
    }

    /// See [`Attr::be32`].
    pub fn be16(kind: u16, value: u16) -> Attr {
        Attr::Value(kind, value.to_be_bytes().to_vec())
    }

    /// A text and the NUL behind it.
    pub fn text(kind: u16, value: &str) -> Attr {
        let mut bytes = value.as_bytes().to_vec();
        bytes.push(0);
        Attr::Value(kind, bytes)
    }
}

impl Nla for Attr {
    fn value_len(&self) -> usize {
        match self {
            Attr::Value(_, bytes) => bytes.len(),
            Attr::Nest(_, attrs) => attrs.as_slice().buffer_len(),
        }
    }

    fn kind(&self) -> u16 {
        match self {
            Attr::Value(kind, _) => *kind,
            Attr::Nest(kind, _) => *kind | NLA_F_NESTED,
        }
    }

    fn emit_value(&self, buffer: &mut [u8]) {
        match self {
            Attr::Value(_, bytes) => buffer.copy_from_slice(bytes),
            Attr::Nest(_, attrs) => attrs.as_slice().emit(buffer),
        }
    }
}

/// The attributes of one level, as received.
pub struct Attrs<'a>(Vec<(u16, &'a [u8])>);

impl<'a> Attrs<'a> {
    /// Reads one level; every length is checked.
    pub fn parse(bytes: &'a [u8]) -> Result<Attrs<'a>, Garbled> {
        let mut found = Vec::new();
        // NlaBuffer lends its value only as long as itself, so the iterator finds ends and we cut.
        let mut rest = bytes;
        for attr in NlasIterator::new(bytes) {
            let attr = attr.map_err(|_| Garbled("attribute length"))?;
            let len = usize::from(attr.length());
            let value = rest
                .get(netlink_packet_core::NLA_HEADER_SIZE..len)
                .ok_or(Garbled("attribute length"))?;
            found.push((attr.kind(), value));
            rest = rest
                .get(len.next_multiple_of(netlink_packet_core::NLA_ALIGNTO)..)
                .unwrap_or_default();
        }
        Ok(Attrs(found))
    }

    /// All attributes in order.
    pub fn iter(&self) -> impl Iterator<Item = (u16, &'a [u8])> {
        self.0.iter().copied()
    }

    /// The value of an attribute.
    pub fn get(&self, kind: u16) -> Option<&'a [u8]> {
        self.0.iter().find(|(found, _)| *found == kind).map(|(_, value)| *value)
    }

    /// The value of an attribute that has to be there.
    pub fn need(&self, kind: u16, what: &'static str) -> Result<&'a [u8], Garbled> {
        self.get(kind).ok_or(Garbled(what))
    }

    /// A nested level; an absent one is empty.
    pub fn nest(&self, kind: u16) -> Result<Attrs<'a>, Garbled> {
        Attrs::parse(self.get(kind).unwrap_or_default())
    }

    /// A number; absent is `None`, another length is garbled.
    pub fn be32(&self, kind: u16, what: &'static str) -> Result<Option<u32>, Garbled> {
        self.fixed(kind, what).map(|bytes| bytes.map(u32::from_be_bytes))
    }

    /// See [`Attrs::be32`].
    pub fn be64(&self, kind: u16, what: &'static str) -> Result<Option<u64>, Garbled> {
        self.fixed(kind, what).map(|bytes| bytes.map(u64::from_be_bytes))
    }

    /// See [`Attrs::be32`].
    pub fn be16(&self, kind: u16, what: &'static str) -> Result<Option<u16>, Garbled> {
        self.fixed(kind, what).map(|bytes| bytes.map(u16::from_be_bytes))
    }

    /// A text, without the NUL behind it.
    pub fn text(&self, kind: u16, what: &'static str) -> Result<String, Garbled> {
        text(self.need(kind, what)?, what)
    }

    fn fixed<const N: usize>(
        &self,
        kind: u16,
        what: &'static str,
    ) -> Result<Option<[u8; N]>, Garbled> {
        self.get(kind).map(|value| value.try_into().map_err(|_| Garbled(what))).transpose()
    }
}

/// Bytes up to the first NUL, as text.
pub fn text(bytes: &[u8], what: &'static str) -> Result<String, Garbled> {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    let bytes = bytes.get(..end).unwrap_or_default();
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| Garbled(what))
}

/// A netlink message as received.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Message type.
    pub kind: u16,
    /// `NLM_F_*`.
    pub flags: u16,
    /// Sequence number of the request it answers.
    pub seq: u32,
    /// Socket whose request it answers or tells of; netlink's port id.
    pub port: u32,
    /// Everything behind the netlink header.
    pub payload: &'a [u8],
}

impl<'a> Message<'a> {
    /// Attributes behind the netfilter header.
    pub fn attrs(&self) -> Result<Attrs<'a>, Garbled> {
        Attrs::parse(self.payload.get(GENMSG_LEN..).ok_or(Garbled("netfilter header"))?)
    }

    /// The code of an answer or of a dump's end; `None` is yes.
    pub fn errno(&self) -> Result<Option<Errno>, Garbled> {
        let code = self.payload.first_chunk::<4>().ok_or(Garbled("error code"))?;
        let code = i32::from_ne_bytes(*code);
        Ok((code < 0).then(|| Errno::from_raw(code.saturating_neg())))
    }
}

/// Splits received bytes into messages.
pub fn messages(mut bytes: &[u8]) -> Result<Vec<Message<'_>>, Garbled> {
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let header = NetlinkBuffer::new_checked(bytes).map_err(|_| Garbled("message length"))?;
        let len = usize::try_from(header.length()).map_err(|_| Garbled("message length"))?;
        let payload = bytes.get(HEADER_LEN..len).ok_or(Garbled("message length"))?;
        let (kind, flags, seq) = (header.message_type(), header.flags(), header.sequence_number());
        found.push(Message { kind, flags, seq, port: header.port_number(), payload });
        bytes = bytes.get(len.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

/// Sends to the kernel, all or nothing.
///
/// # Errors
/// What the system says.
pub fn send(socket: &Socket, bytes: &[u8]) -> io::Result<()> {
    match socket.send_to(bytes, &SocketAddr::new(0, 0), 0)? {
        sent if sent == bytes.len() => Ok(()),
        _ => Err(io::ErrorKind::WriteZero.into()),
    }
}

/// The kernel's next answer of at most `room` bytes, if there is one. Never waits.
///
/// # Errors
/// What the system says; an answer that is too long is invalid data.
pub fn receive(socket: &Socket, room: usize) -> io::Result<Option<Vec<u8>>> {
    let mut bytes: Vec<u8> = Vec::with_capacity(room);
    loop {
        return match socket.recv_from(&mut bytes, MSG_DONTWAIT | MSG_TRUNC) {
            // Only the kernel is port 0; other processes can send to us too.
            Ok((_, from)) if from.port_number() != 0 => {
                bytes.clear();
                continue;
            }
            Ok((len, _)) if len > bytes.len() => {
                Err(io::Error::new(io::ErrorKind::InvalidData, Garbled("answer too long")))
            }
            Ok(_) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
    }
}

/// A netlink message type of netfilter: its subsystem and the kind of message there.
pub fn message_type(subsystem: u32, kind: u32) -> u16 {
    let [_, _, _, kind] = kind.to_be_bytes();
    let [_, _, _, subsystem] = subsystem.to_be_bytes();
    u16::from_be_bytes([subsystem, kind])
}

/// A flag as it stands in a header; the kernel's headers give them more bits than they have.
pub fn flag(bits: u32) -> u16 {
    let [_, _, high, low] = bits.to_be_bytes();
    u16::from_be_bytes([high, low])
}

/// The header of netfilter's messages (struct nfgenmsg): family, version 0, resource.
pub fn genmsg(family: i32, resource: u16) -> [u8; GENMSG_LEN] {
    let [family, ..] = family.to_le_bytes();
    let [high, low] = resource.to_be_bytes();
    [family, 0, high, low]
}

/// Appends one message.
pub fn put(
    out: &mut Vec<u8>,
    kind: u16,
    flags: u16,
    seq: u32,
    genmsg: [u8; GENMSG_LEN],
    attrs: &[Attr],
) {
    let len = HEADER_LEN + GENMSG_LEN + attrs.buffer_len();
    let mut header = NetlinkHeader::default();
    header.length = u32::try_from(len).unwrap_or(u32::MAX);
    (header.message_type, header.flags, header.sequence_number) = (kind, flags, seq);
    let mut message = vec![0; len];
    let (head, body) = message.split_at_mut(HEADER_LEN);
    header.emit(head);
    let (gen_header, rest) = body.split_at_mut(GENMSG_LEN);
    gen_header.copy_from_slice(&genmsg);
    attrs.emit(rest);
    out.append(&mut message);
}
