//! Queries by name, for logs without serial numbers: the newest of each name and family, forgotten in order of age.
//! That a name was asked as text is remembered longer, so that a flood of other queries cannot bring its trust back.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Instant;

use crate::dns::line::Qtype;

use super::texts::Texts;

/// When a name was last asked for one family, and by whom.
#[derive(Clone, Copy)]
struct Last {
    turn: u64,
    client: IpAddr,
}

#[derive(Default)]
struct Asked {
    v4: Option<Last>,
    v6: Option<Last>,
    /// Asked for something that is logged as free text and may look like an address.
    text: Option<Last>,
}

/// The queries an answer may still come for.
pub struct Names {
    size: usize,
    turn: u64,
    asked: HashMap<Arc<str>, Asked>,
    order: VecDeque<(Arc<str>, Qtype, u64)>,
    texts: Texts,
}

impl Names {
    /// Room for `size` queries.
    pub fn new(size: usize) -> Names {
        let (asked, order) = (HashMap::new(), VecDeque::new());
        Names { size, turn: 0, asked, order, texts: Texts::default() }
    }

    /// Remembers a query, and forgets the oldest if there are too many.
    pub fn ask(&mut self, qtype: Qtype, name: &str, client: IpAddr) {
        if name.is_empty() || qtype == Qtype::Opaque {
            return;
        }
        if qtype == Qtype::Text {
            self.texts.ask(name, Instant::now());
        }
        self.turn += 1;
        let key = match self.asked.get_key_value(name) {
            Some((key, _)) => Arc::clone(key),
            None => Arc::from(name),
        };
        let asked = self.asked.entry(Arc::clone(&key)).or_default();
        if let Some(place) = asked.place(qtype) {
            *place = Some(Last { turn: self.turn, client });
        }
        self.order.push_back((key, qtype, self.turn));
        if self.order.len() > self.size {
            self.forget_oldest();
        }
    }

    /// The name and client an answer of `address` is for, if it starts from `head` and no name in it is ambiguous.
    pub fn get(&self, head: &str, links: &[String], address: IpAddr) -> Option<(&str, IpAddr)> {
        let (name, asked) = self.asked.get_key_value(head)?;
        let last = if address.is_ipv4() { asked.v4 } else { asked.v6 }?;
        let text = |name: &str| {
            self.asked.get(name).is_some_and(|asked| asked.text.is_some())
                || self.texts.holds(name, Instant::now)
        };
        let ambiguous = text(head) || links.iter().any(|link| text(link));
        (!ambiguous).then_some((name.as_ref(), last.client))
    }

    fn forget_oldest(&mut self) {
        let Some((name, qtype, turn)) = self.order.pop_front() else { return };
        let Some(asked) = self.asked.get_mut(&name) else { return };
        if let Some(place) = asked.place(qtype)
            && place.is_some_and(|last| last.turn == turn)
        {
            *place = None;
        }
        if asked.v4.is_none() && asked.v6.is_none() && asked.text.is_none() {
            self.asked.remove(&name);
        }
    }

    /// Queries remembered.
    #[cfg(test)]
    pub fn len(&self) -> (usize, usize) {
        (self.asked.len(), self.order.len())
    }
}

impl Asked {
    fn place(&mut self, qtype: Qtype) -> Option<&mut Option<Last>> {
        match qtype {
            Qtype::A => Some(&mut self.v4),
            Qtype::Aaaa => Some(&mut self.v6),
            Qtype::Text => Some(&mut self.text),
            Qtype::Opaque => None,
        }
    }
}
