//! The five-tuple a first packet opens.

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Transport protocols that are judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// Protocol number 6.
    Tcp,
    /// Protocol number 17.
    Udp,
}

impl Proto {
    /// The word used in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Proto::Tcp => "tcp",
            Proto::Udp => "udp",
        }
    }
}

/// A flow in its original direction, container first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// Transport protocol.
    pub proto: Proto,
    /// The container's address and port.
    pub src: SocketAddr,
    /// The destination's address and port.
    pub dst: SocketAddr,
}

impl Flow {
    /// Builds a flow from addresses and ports; scope ids and flow labels play no part.
    pub fn new(proto: Proto, src: (IpAddr, u16), dst: (IpAddr, u16)) -> Flow {
        Flow { proto, src: SocketAddr::from(src), dst: SocketAddr::from(dst) }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.proto.as_str(), self.src, self.dst)
    }
}
