//! The lists that are loaded, as a list file and as nft scripts. The same in every run.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;

/// What is in a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Half single addresses, half networks.
    Mixed,
    /// Networks from /24 to /30.
    Networks,
}

impl Kind {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Kind::Mixed => "mixed",
            Kind::Networks => "networks",
        }
    }
}

/// The list file, one entry a line.
pub const LIST: &str = "list.txt";
/// The empty sets.
pub const SETS: &str = "sets.nft";
/// All entries into one interval set.
pub const NFT: &str = "nft.nft";
/// Addresses and networks into a set each.
pub const SPLIT: &str = "split.nft";

/// Entry `n` of a list. Each lies in a block of 1,024 addresses of its own and never at its edge, so that none
/// overlap or touch; blocks come in no order.
pub fn entry(kind: Kind, n: usize) -> (Ipv4Addr, u8) {
    let n = n as u32;
    // An odd factor: every block once. 2^22 blocks of 2^10 addresses.
    let block = n.wrapping_mul(2_654_435_761) & 0x3f_ffff;
    let mix = n.wrapping_mul(0x9e37_79b9) >> 16;
    let prefix = match kind {
        Kind::Mixed if n.is_multiple_of(2) => 32,
        _ => 24 + (mix % 7) as u8,
    };
    let host = (mix >> 3) & 0xff & (u32::MAX << (32 - prefix));
    (Ipv4Addr::from((block << 10) + 0x100 + host), prefix)
}

/// Writes all files of a list. Sorted, and in the definitions of sets that are not there yet: nft takes twice as
/// long to sort a list, or to look at a set that is there.
pub fn write(folder: &Path, kind: Kind, entries: usize) {
    let mut sorted: Vec<(Ipv4Addr, u8)> = (0..entries).map(|n| entry(kind, n)).collect();
    sorted.sort_unstable();
    let mut list = String::new();
    let (mut all, mut hosts, mut ranges) = (String::new(), String::new(), String::new());
    for (address, prefix) in sorted {
        let text = match prefix {
            32 => address.to_string(),
            _ => format!("{address}/{prefix}"),
        };
        let _ = writeln!(list, "{text}");
        let _ = writeln!(all, "{text},");
        let _ = writeln!(if prefix == 32 { &mut hosts } else { &mut ranges }, "{text},");
    }
    let save = |name: &str, text: &str| std::fs::write(folder.join(name), text).expect("a file");
    save(LIST, &list);
    save(SETS, &table(&[(RANGES, ""), (HOSTS, "")]));
    save(NFT, &table(&[(PLAIN, &all)]));
    save(SPLIT, &table(&[(PLAIN, &ranges), (HOSTS, &hosts)]));
}

/// As the rules have them.
const RANGES: &str = "ranges4 { type ipv4_addr; flags interval, timeout; gc-interval 1d;";
const HOSTS: &str = "hosts4 { type ipv4_addr; size 1048576;";
/// As people write it.
const PLAIN: &str = "ranges4 { type ipv4_addr; flags interval;";

fn table(sets: &[(&str, &str)]) -> String {
    let set = |(head, elements): &(&str, &str)| match *elements {
        "" => format!("set {head} }}\n"),
        elements => format!("set {head} elements = {{\n{elements}}}\n}}\n"),
    };
    format!("table inet synhold {{\n{}}}\n", sets.iter().map(set).collect::<String>())
}
