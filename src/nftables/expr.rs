//! Rules as plain data: the few nftables expressions ours are made of.

use crate::engine::net::Family;

/// A register expressions pass values through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reg(pub u32);

impl Reg {
    /// First 16-byte register; nearly every value goes here.
    pub const ONE: Reg = Reg(rustables::sys::NFT_REG_1);
    /// What comes behind the first 16 bytes of a concatenation.
    pub const BEHIND_NAME: Reg = Reg(rustables::sys::NFT_REG_2);

    /// Where the second address of a concatenation goes: right behind the first. Registers are 4 bytes wide
    /// under one numbering and 16 under the other, and the kernel reports the shortest name.
    pub fn second(family: Family) -> Reg {
        match family {
            Family::V4 => Reg(rustables::sys::NFT_REG32_01),
            Family::V6 => Reg(rustables::sys::NFT_REG_2),
        }
    }
}

/// What `meta` loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaKey {
    /// Packet mark.
    Mark,
    /// IPv4 or IPv6.
    NfProto,
    /// Transport protocol, behind extension headers.
    L4Proto,
    /// Number of the interface it came in by.
    InputInterface,
    /// Name of that interface, filled up with zeros.
    InputName,
}

/// What `ct` loads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CtKey {
    /// New, established, related, ...: a bit mask.
    State,
    /// Original or reply.
    Direction,
    /// Confirmed, assured, ...: a bit mask.
    Status,
    /// Transport protocol of the flow, as conntrack keys it: what an accepted packet opens the way for.
    Protocol,
    /// The port its first packet asked for, likewise.
    ProtoDst,
}

/// Where `payload` counts from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Base {
    /// IP header.
    Network,
    /// TCP or UDP header.
    Transport,
}

/// How `cmp` compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CmpOp {
    /// Equal.
    Eq,
    /// Not equal.
    Neq,
}

/// What happens to the packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Leave this base chain for good.
    Accept,
    /// Silently away with it.
    Drop,
    /// Back to the calling chain, or to the policy.
    Return,
    /// To another chain, and back.
    Jump(String),
    /// To another chain.
    Goto(String),
}

/// How a refusal is told to the sender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// TCP RST.
    TcpReset,
    /// ICMP or ICMPv6 "administratively prohibited".
    AdminProhibited,
}

/// Where packets queue, however the rule says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct QueueTo {
    /// First queue number.
    pub num: u16,
    /// How many queues.
    pub total: u16,
    /// Nobody listens: accept instead of drop.
    pub bypass: bool,
    /// Spread by CPU instead of by flow hash.
    pub fanout: bool,
}

/// One expression of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Expr {
    /// Load packet metadata.
    Meta(MetaKey, Reg),
    /// Load conntrack data.
    Ct(CtKey, Reg),
    /// Load packet bytes.
    Payload {
        /// Which header.
        base: Base,
        /// Bytes into it.
        offset: u32,
        /// How many.
        len: u32,
        /// Where to.
        into: Reg,
    },
    /// `reg = (reg & mask) ^ xor`.
    Bitwise {
        /// Where from.
        from: Reg,
        /// Where to.
        into: Reg,
        /// Bits kept.
        mask: Vec<u8>,
        /// Bits flipped.
        xor: Vec<u8>,
    },
    /// Go on only if the register compares.
    Cmp {
        /// How.
        op: CmpOp,
        /// Which register.
        from: Reg,
        /// With what, in the byte order of what was loaded.
        data: Vec<u8>,
    },
    /// Go on only if the register is in the set, or is not.
    Lookup {
        /// Set name.
        set: String,
        /// Which register.
        from: Reg,
        /// Go on if it is not.
        inverted: bool,
    },
    /// Put the register into the set with a counter, or count it there once more; a full set ends the rule.
    Update {
        /// Set name.
        set: String,
        /// Which register.
        from: Reg,
    },
    /// Count packets and bytes. The counts are no part of a rule's identity.
    Counter,
    /// Put a value into a register.
    Load {
        /// Which register.
        into: Reg,
        /// The bytes.
        data: Vec<u8>,
    },
    /// Lead the flow to this host, to the port in the register.
    Redirect {
        /// Which register.
        port: Reg,
    },
    /// Lead the flow to the address in the register.
    Dnat {
        /// Of the address.
        family: Family,
        /// Which register.
        to: Reg,
    },
    /// End here.
    Verdict(Verdict),
    /// Refuse and say so.
    Reject(Reject),
    /// Native queue expression.
    Queue(QueueTo),
    /// The same through nft_compat: iptables' NFQUEUE target, revision 3.
    TargetNfqueue(QueueTo),
    /// Something we never write; its name.
    Unknown(String),
}

/// A rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Names the rule in nft listings and to [`super::check`]; empty only on rules that are not ours.
    pub comment: String,
    /// What it does.
    pub exprs: Vec<Expr>,
}
