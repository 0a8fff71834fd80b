//! nf_tables messages: [`crate::netlink`] with our family, our table and the ends of a transaction.

use libc::{AF_UNSPEC, NFPROTO_INET};
use rustables::sys;

use super::names;
use crate::netlink::stream::{Open, Stream};
pub use crate::netlink::{
    Attr, Attrs, GENMSG_LEN, Garbled, HEADER_LEN, Message, flag, messages, text,
};
use crate::netlink::{genmsg, message_type, put};

/// The netlink message type of an nf_tables message.
pub fn nft_type(kind: u32) -> u16 {
    message_type(sys::NFNL_SUBSYS_NFTABLES, kind)
}

/// Appends an nf_tables message about our family.
pub fn put_message(out: &mut Vec<u8>, kind: u32, flags: u32, seq: u32, attrs: &[Attr]) {
    put(out, nft_type(kind), flag(flags | sys::NLM_F_REQUEST), seq, genmsg(NFPROTO_INET, 0), attrs);
}

/// Appends the message that commits a transaction.
pub fn put_batch_end(out: &mut Vec<u8>, seq: u32) {
    let genmsg = genmsg(AF_UNSPEC, flag(sys::NFNL_SUBSYS_NFTABLES));
    put(out, flag(sys::NFNL_MSG_BATCH_END), flag(sys::NLM_F_REQUEST), seq, genmsg, &[]);
}

/// The attribute that names our table, of whatever number it has in this kind of message.
pub fn our_table(kind: u16) -> Attr {
    Attr::text(kind, names::TABLE)
}

/// Begins an nf_tables message about our family in a stream.
pub fn begin(stream: &mut Stream, kind: u32, flags: u32, seq: u32) -> Open {
    stream.begin(nft_type(kind), flag(flags | sys::NLM_F_REQUEST), seq, genmsg(NFPROTO_INET, 0))
}

/// Appends the message that opens a transaction.
pub fn begin_batch(stream: &mut Stream, seq: u32) {
    batch_edge(stream, sys::NFNL_MSG_BATCH_BEGIN, seq);
}

/// Appends the message that commits a transaction.
pub fn end_batch(stream: &mut Stream, seq: u32) {
    batch_edge(stream, sys::NFNL_MSG_BATCH_END, seq);
}

fn batch_edge(stream: &mut Stream, kind: u32, seq: u32) {
    let genmsg = genmsg(AF_UNSPEC, flag(sys::NFNL_SUBSYS_NFTABLES));
    let message = stream.begin(flag(kind), flag(sys::NLM_F_REQUEST), seq, genmsg);
    stream.end(message);
}
