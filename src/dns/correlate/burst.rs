//! The answer one dnsmasq process is writing right now: its lines follow each other without a gap.

use std::net::IpAddr;

use crate::engine::Kind;
use crate::engine::limits::{ADDRESSES_PER_ANSWER_MAX, CHAIN_MAX, NAME_BYTES_MAX, WRITERS_MAX};
use crate::engine::name::normalise;

/// One answer in progress.
#[derive(Default)]
pub struct Burst {
    writer: Option<u32>,
    used_at: u64,
    serial: Option<u64>,
    head: String,
    links: Vec<String>,
    /// Links in use; the others keep their memory for the next answer.
    depth: usize,
    state: State,
    overlong: bool,
    addresses: Vec<(Kind, IpAddr)>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    /// The last line was an alias: the next one goes on from there.
    Aliased,
    /// The records themselves are being listed.
    Listed,
}

impl Burst {
    /// A record of `owner` in the answer to query `serial` for `asked`.
    pub fn follow(&mut self, serial: u64, asked: &str, owner: &str) {
        if self.serial != Some(serial) || self.head != asked {
            self.begin(Some(serial), asked);
        }
        if owner.eq_ignore_ascii_case(asked) {
            // A chain found in the cache but not complete there is listed again when the reply comes.
            self.depth = 0;
        } else {
            self.link(owner);
        }
    }

    /// `owner is <CNAME>`, in a log without serial numbers.
    pub fn alias(&mut self, owner: &str) {
        if self.state == State::Aliased {
            self.link(owner)
        } else {
            self.begin(None, owner)
        }
        self.state = State::Aliased;
    }

    /// A record of `owner` that is no alias, in a log without serial numbers.
    pub fn record(&mut self, owner: &str) {
        let more = self.state == State::Listed && self.owner().eq_ignore_ascii_case(owner);
        if self.state == State::Aliased {
            self.link(owner);
        } else if !more {
            self.begin(None, owner);
        }
        self.state = State::Listed;
    }

    /// Keeps an address in case the same answer goes to another client.
    pub fn remember(&mut self, kind: Kind, address: IpAddr) {
        if self.addresses.len() < ADDRESSES_PER_ANSWER_MAX {
            self.addresses.push((kind, address));
        }
    }

    /// The name the answer starts from.
    pub fn head(&self) -> &str {
        &self.head
    }

    /// The names after it.
    pub fn links(&self) -> &[String] {
        self.links.get(..self.depth).unwrap_or_default()
    }

    /// The addresses so far.
    pub fn addresses(&self) -> &[(Kind, IpAddr)] {
        &self.addresses
    }

    /// More aliases than dnsmasq follows: two answers ran into each other.
    pub fn is_overlong(&self) -> bool {
        self.overlong
    }

    fn owner(&self) -> &str {
        self.links().last().map_or(&self.head, String::as_str)
    }

    fn begin(&mut self, serial: Option<u64>, head: &str) {
        self.serial = serial;
        self.depth = 0;
        self.overlong = false;
        self.addresses.clear();
        set(&mut self.head, head);
    }

    fn link(&mut self, owner: &str) {
        if self.depth > 0 && self.owner().eq_ignore_ascii_case(owner) {
            return;
        }
        if self.depth == CHAIN_MAX {
            self.overlong = true;
            self.depth -= 1;
        }
        match self.links.get_mut(self.depth) {
            Some(link) => set(link, owner),
            None => {
                let mut link = String::new();
                set(&mut link, owner);
                self.links.push(link);
            }
        }
        self.depth += 1;
    }
}

/// Stores the normal form; what cannot be a name is stored as nothing, and matches nothing.
fn set(to: &mut String, name: &str) {
    let mut buffer = [0; NAME_BYTES_MAX];
    to.clear();
    to.push_str(normalise(name, &mut buffer).unwrap_or_default());
}

/// The answers in progress of all processes that write to one log.
#[derive(Default)]
pub struct Bursts {
    current: Burst,
    others: Vec<Burst>,
    uses: u64,
}

impl Bursts {
    /// The answer `pid` is writing.
    pub fn writer(&mut self, pid: Option<u32>) -> &mut Burst {
        if self.current.writer != pid {
            self.switch(pid);
        }
        &mut self.current
    }

    /// Whatever `pid` writes next starts an answer of its own.
    pub fn close(&mut self, pid: Option<u32>) {
        let mut all = self.others.iter_mut().chain([&mut self.current]);
        if let Some(burst) = all.find(|burst| burst.writer == pid) {
            burst.state = State::Closed;
        }
    }

    /// Puts the burst of `pid` in front, if need be in place of the process silent for longest.
    fn switch(&mut self, pid: Option<u32>) {
        self.uses += 1;
        self.current.used_at = self.uses;
        if let Some(other) = self.others.iter_mut().find(|burst| burst.writer == pid) {
            std::mem::swap(&mut self.current, other);
            return;
        }
        let fresh = Burst { writer: pid, ..Burst::default() };
        let previous = std::mem::replace(&mut self.current, fresh);
        if self.others.len() + 1 < WRITERS_MAX {
            self.others.push(previous);
        } else if let Some(oldest) = self.others.iter_mut().min_by_key(|burst| burst.used_at) {
            *oldest = previous;
        }
    }
}
