//! Messages written straight into one buffer: for transactions of millions of attributes, where a tree of them
//! would cost more memory than the kernel takes for what they say.

use netlink_packet_core::{Emitable, NLA_ALIGNTO, NLA_F_NESTED, NLA_HEADER_SIZE, NetlinkHeader};

use super::{GENMSG_LEN, HEADER_LEN};

/// Bytes of messages in the making.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    bytes: Vec<u8>,
}

/// Where something that is open began; what [`Stream::end`] and [`Stream::close`] want back.
#[derive(Clone, Copy, Debug)]
pub struct Open(usize);

impl Open {
    /// Bytes from the start of the stream.
    pub fn offset(self) -> usize {
        self.0
    }
}

impl Stream {
    /// All bytes so far.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Begins a message; [`Stream::end`] writes its length.
    pub fn begin(&mut self, kind: u16, flags: u16, seq: u32, genmsg: [u8; GENMSG_LEN]) -> Open {
        let open = Open(self.bytes.len());
        let mut header = NetlinkHeader::default();
        (header.message_type, header.flags, header.sequence_number) = (kind, flags, seq);
        let mut head = [0; HEADER_LEN];
        header.emit(&mut head);
        self.bytes.extend_from_slice(&head);
        self.bytes.extend_from_slice(&genmsg);
        open
    }

    /// Ends a message.
    pub fn end(&mut self, open: Open) {
        let len = u32::try_from(self.since(open)).unwrap_or(u32::MAX);
        self.patch(open, &len.to_ne_bytes());
    }

    /// Opens an attribute of attributes; [`Stream::close`] writes its length.
    pub fn open(&mut self, kind: u16) -> Open {
        let open = Open(self.bytes.len());
        self.head(kind | NLA_F_NESTED, 0);
        open
    }

    /// Closes an attribute. It may hold no more than its length can say: see [`Stream::since`].
    pub fn close(&mut self, open: Open) {
        let len = u16::try_from(self.since(open)).unwrap_or(u16::MAX);
        self.patch(open, &len.to_ne_bytes());
    }

    /// Bytes written since something was opened.
    pub fn since(&self, open: Open) -> usize {
        self.bytes.len().saturating_sub(open.0)
    }

    /// Appends an attribute with a value of at most 65,531 bytes.
    pub fn attr(&mut self, kind: u16, value: &[u8]) {
        let len = u16::try_from(NLA_HEADER_SIZE + value.len()).unwrap_or(u16::MAX);
        self.head(kind, len);
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(NLA_ALIGNTO), 0);
    }

    /// Appends a text and the NUL behind it.
    pub fn text(&mut self, kind: u16, value: &str) {
        let mut bytes = Vec::with_capacity(value.len() + 1);
        bytes.extend_from_slice(value.as_bytes());
        bytes.push(0);
        self.attr(kind, &bytes);
    }

    fn head(&mut self, kind: u16, len: u16) {
        self.bytes.extend_from_slice(&len.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
    }

    fn patch(&mut self, open: Open, value: &[u8]) {
        if let Some(place) = self.bytes.get_mut(open.0..open.0 + value.len()) {
            place.copy_from_slice(value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Attr, genmsg, messages, put};
    use super::*;

    #[test]
    fn says_what_the_tree_says() {
        let tree = [
            Attr::text(1, "table"),
            Attr::Nest(
                3,
                vec![
                    Attr::Nest(1, vec![Attr::Value(7, vec![1, 2, 3])]),
                    Attr::be32(2, 0x0102_0304),
                ],
            ),
        ];
        let mut expected = Vec::new();
        put(&mut expected, 0x0a0c, 5, 9, genmsg(1, 10), &tree);
        put(&mut expected, 0x0a0d, 1, 10, genmsg(0, 0), &[]);

        let mut stream = Stream::default();
        let message = stream.begin(0x0a0c, 5, 9, genmsg(1, 10));
        stream.text(1, "table");
        let outer = stream.open(3);
        let inner = stream.open(1);
        stream.attr(7, &[1, 2, 3]);
        stream.close(inner);
        stream.attr(2, &[1, 2, 3, 4]);
        stream.close(outer);
        stream.end(message);
        let second = stream.begin(0x0a0d, 1, 10, genmsg(0, 0));
        stream.end(second);
        assert_eq!(stream.bytes(), expected);
        assert_eq!((second.offset(), stream.since(second)), (expected.len() - 20, 20));
        assert_eq!(messages(stream.bytes()).unwrap().len(), 2);
    }
}
