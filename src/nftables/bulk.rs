//! A transaction of any number of elements, encoded straight into the bytes that are sent.

use rustables::sys;

use super::element::{self, ELEMENT_BYTES_MAX, Element};
use super::names;
use super::wire::{self, Attrs, HEADER_LEN};
use crate::netlink::stream::{Open, Stream};

/// Bytes of elements in one message. A nested attribute says its length in 16 bits.
const LIST_BYTES_MAX: usize = u16::MAX as usize - ELEMENT_BYTES_MAX;

/// Bytes of an attribute before its value.
const NLA_HEADER_LEN: usize = 4;

/// What one message does to its set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Empties it.
    Flush,
    /// Adds elements.
    Add,
    /// Removes elements.
    Remove,
}

/// One message: what it does, to which of the sets named, and where it begins.
#[derive(Clone, Copy, Debug)]
struct Sent {
    deed: Deed,
    set: usize,
    at: usize,
}

/// Changes to the elements of sets of our table, done whole or not at all by [`super::Channel::send_bulk`], in the order
/// they were asked for. Packets see the sets as they were or as they will be. Give ranges lowest first, or by
/// [`element::highest_first`]: beside ranges flushed in the same transaction the kernel takes time by the square otherwise.
#[derive(Clone, Debug)]
pub struct Bulk {
    stream: Stream,
    sets: Vec<String>,
    messages: Vec<Sent>,
}

impl Default for Bulk {
    fn default() -> Bulk {
        Bulk::new()
    }
}

impl Bulk {
    /// Nothing to do.
    pub fn new() -> Bulk {
        let mut stream = Stream::default();
        wire::begin_batch(&mut stream, 0);
        Bulk { stream, sets: Vec::new(), messages: Vec::new() }
    }

    /// Empties a set.
    pub fn flush(&mut self, set: &str) -> &mut Bulk {
        let message = self.begin(Deed::Flush, set);
        self.stream.end(message);
        self
    }

    /// Adds elements. One that is there already stays as it is, its timeout too: to change that, remove it before.
    pub fn add(&mut self, set: &str, elements: impl IntoIterator<Item = Element>) -> &mut Bulk {
        self.elements(Deed::Add, set, elements)
    }

    /// Removes elements. All have to be there; one that expired is not.
    pub fn remove(&mut self, set: &str, elements: impl IntoIterator<Item = Element>) -> &mut Bulk {
        self.elements(Deed::Remove, set, elements)
    }

    /// True if there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.messages.is_empty()
    }

    /// Bytes it takes, and will take once more in the kernel while it is sent.
    pub fn len_bytes(&self) -> usize {
        self.stream.len()
    }

    /// Messages, each of which is answered.
    pub fn messages(&self) -> usize {
        self.messages.len()
    }

    fn begin(&mut self, deed: Deed, set: &str) -> Open {
        let known = self.sets.iter().position(|known| known == set);
        let place = known.unwrap_or_else(|| {
            self.sets.push(set.to_owned());
            self.sets.len() - 1
        });
        let (kind, flags) = match deed {
            Deed::Add => (sys::NFT_MSG_NEWSETELEM, sys::NLM_F_CREATE),
            Deed::Flush | Deed::Remove => (sys::NFT_MSG_DELSETELEM, 0),
        };
        let seq = u32::try_from(self.messages.len() + 1).unwrap_or(u32::MAX);
        let message = wire::begin(&mut self.stream, kind, flags | sys::NLM_F_ACK, seq);
        self.stream.text(sys::NFTA_SET_ELEM_LIST_TABLE, names::TABLE);
        self.stream.text(sys::NFTA_SET_ELEM_LIST_SET, set);
        self.messages.push(Sent { deed, set: place, at: message.offset() });
        message
    }

    fn elements(
        &mut self,
        deed: Deed,
        set: &str,
        elements: impl IntoIterator<Item = Element>,
    ) -> &mut Bulk {
        let mut open: Option<(Open, Open)> = None;
        for element in elements {
            let (message, list) = match open {
                Some(open) => open,
                None => {
                    let message = self.begin(deed, set);
                    (message, self.stream.open(sys::NFTA_SET_ELEM_LIST_ELEMENTS))
                }
            };
            element::put(&mut self.stream, &element);
            open = Some((message, list));
            if self.stream.since(list) > LIST_BYTES_MAX {
                self.close(open.take());
            }
        }
        self.close(open);
        self
    }

    fn close(&mut self, open: Option<(Open, Open)>) {
        if let Some((message, list)) = open {
            self.stream.close(list);
            self.stream.end(message);
        }
    }

    /// All bytes, with the message that commits them.
    pub(super) fn finish(&mut self) -> &[u8] {
        let seq = u32::try_from(self.messages.len() + 1).unwrap_or(u32::MAX);
        wire::end_batch(&mut self.stream, seq);
        self.stream.bytes()
    }

    /// What the message of this number does, as words. `offset` is where in it the kernel found fault, if it said so.
    pub(super) fn what(&self, seq: u32, offset: Option<usize>) -> String {
        let sent = usize::try_from(seq)
            .ok()
            .and_then(|seq| seq.checked_sub(1))
            .and_then(|place| self.messages.get(place));
        let Some(Sent { deed, set, at }) = sent else { return "the transaction".to_owned() };
        let set = self.sets.get(*set).map_or("", String::as_str);
        let element = offset.and_then(|offset| self.element_at(*at, offset));
        let element = element.as_deref().unwrap_or("elements");
        match deed {
            Deed::Flush => format!("the flush of set {set}"),
            Deed::Add => format!("the addition of {element} to set {set}"),
            Deed::Remove => format!("the removal of {element} from set {set}"),
        }
    }

    /// The element, of a range the whole, whose attribute begins `offset` bytes into the message at `at`.
    fn element_at(&self, at: usize, offset: usize) -> Option<String> {
        let messages = wire::messages(self.stream.bytes().get(at..)?).ok()?;
        let message = messages.first()?;
        let list = message.attrs().ok()?.get(sys::NFTA_SET_ELEM_LIST_ELEMENTS)?;
        // The list is what ends the message, and what is in it needs no padding.
        let mut next = (HEADER_LEN + message.payload.len()).checked_sub(list.len())?;
        let elements = Attrs::parse(list).ok()?;
        let place = elements.iter().position(|(_, bytes)| {
            let here = next;
            next += NLA_HEADER_LEN + bytes.len();
            here == offset
        })?;
        let piece = |place: usize| element::read_any(elements.iter().nth(place)?.1);
        let found = piece(place)?;
        let (begun, behind) = match found.is_end {
            true => (piece(place.checked_sub(1)?)?, Some(found)),
            false => (found, piece(place + 1).filter(|next| next.is_end)),
        };
        // Without an end it is an address, or a range up to the highest one: the beginning says enough.
        let Some(end) = behind else { return Some(begun.found.element.key.to_string()) };
        element::join(vec![begun, end], false).first().map(|found| found.element.key.to_string())
    }
}
