//! What happens in a simulated world, one thing at a time, in words that both the engine and the model are told.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use synhold::engine::wish::Treatment;
use synhold::engine::{Flow, Kind, Scope};

/// Microseconds since the world began.
pub type Micros = u64;

/// Something that happens at a moment.
#[derive(Clone)]
pub struct Dated {
    pub at: Micros,
    pub step: Step,
}

#[derive(Clone)]
pub enum Step {
    /// A line of the log is read.
    Line(Line),
    /// A first packet comes, or a copy of one.
    Packet(Flow, &'static str),
    /// Addresses have these owners from now on; `gone` have had another one before.
    Owners { tenants: Vec<Tenant>, gone: Vec<IpAddr> },
    /// The user's lists are these from now on.
    Lists(Listing),
    /// Something happens to the source of evidence.
    Source(Fault),
    /// There is trouble beside the source, or no more.
    Trouble(bool),
    /// The learning period begins or ends.
    Learning(bool),
    /// Flows stood when we started.
    Established(Vec<(IpAddr, IpAddr)>),
    /// We stop and start again, with the registry that was.
    Restart,
    /// Nothing but time.
    Pause,
}

#[derive(Clone, Copy, Debug)]
pub enum Fault {
    Down,
    Up,
    Lost,
    Behind,
    CaughtUp,
}

/// A line as dnsmasq writes it, and what it says.
#[derive(Clone)]
pub struct Line {
    pub text: String,
    pub says: Says,
}

/// Serial number and process.
pub type Key = (u64, u32);

#[derive(Clone)]
pub enum Says {
    Query { key: Key, client: (IpAddr, u16), qtype: &'static str, name: String },
    Answer { key: Key, client: (IpAddr, u16), owner: String, kind: Kind, value: Value },
    Started { pid: u32 },
    Nothing,
}

#[derive(Clone)]
pub enum Value {
    Alias,
    /// What looks like an address, whatever was asked.
    Address(IpAddr),
    Other,
}

/// A container with its addresses and what holds for it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tenant {
    pub id: u32,
    pub addresses: Vec<IpAddr>,
    pub mode: Treatment,
    pub scope: Scope,
    pub hold: Duration,
    pub allow_addresses: Vec<IpAddr>,
    pub allow_names: Vec<String>,
}

/// The user's lists.
#[derive(Clone, Debug, Default)]
pub struct Listing {
    pub allow_addresses: Vec<IpAddr>,
    pub allow_names: Vec<String>,
    pub block_addresses: Vec<IpAddr>,
    pub block_names: Vec<String>,
    pub quarantine: Vec<IpAddr>,
    pub pairs: Vec<(IpAddr, IpAddr)>,
}

impl fmt::Display for Dated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6}.{:06} ", self.at / 1_000_000, self.at % 1_000_000)?;
        match &self.step {
            Step::Line(line) => write!(f, "dns {}", line.text),
            Step::Packet(flow, why) => write!(f, "flow {flow} ({why})"),
            Step::Owners { tenants, gone } => {
                write!(f, "owners, of whom {gone:?} are new at their address:")?;
                tenants.iter().try_for_each(|tenant| write!(f, "\n              {tenant:?}"))
            }
            Step::Lists(listing) => write!(f, "lists {listing:?}"),
            Step::Source(fault) => write!(f, "source {fault:?}"),
            Step::Trouble(on) => write!(f, "trouble {on}"),
            Step::Learning(on) => write!(f, "learning {on}"),
            Step::Established(pairs) => write!(f, "established {pairs:?}"),
            Step::Restart => write!(f, "restart"),
            Step::Pause => write!(f, "pause"),
        }
    }
}
