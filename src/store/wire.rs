//! What is in a frame: one address with everything that is saved of it, or that it was forgotten.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::frame;
use crate::engine::registry::{Asker, Saved, Seen};
use crate::engine::{Kind, Name};

/// What a frame says. New variants go to the end: their place is what is written.
#[derive(Debug, Serialize, Deserialize)]
enum Said<'a> {
    /// Whatever was known of the address, this is known now.
    Known(
        IpAddr,
        #[serde(borrow)] Vec<Row<'a>>,
        /// Who asked, when last, and for which of the names; a number of none for one that is no longer kept.
        Vec<(IpAddr, u32, u16)>,
        /// When a flow there was let through last.
        Option<u32>,
    ),
    /// Nothing is known of the address any more.
    Gone(IpAddr),
    /// The snapshot ends here: its frames, and the checksum of their heads.
    End(u64, u32),
}

/// The place of [`Said::End`], which is the first byte of one.
const END: u8 = 2;

/// One name of an address.
#[derive(Debug, Serialize, Deserialize)]
struct Row<'a> {
    name: &'a str,
    first: u32,
    last: u32,
    /// Who asked last, unless the askers say it.
    asker: Option<IpAddr>,
    kind: How,
    #[serde(borrow)]
    chain: Vec<&'a str>,
}

/// [`Kind`] as it is written, whatever becomes of the order there.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
enum How {
    Reply,
    Cached,
    Hosts,
    Config,
}

/// A frame as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    /// Everything that is known of an address.
    Known(IpAddr, Saved),
    /// It was forgotten.
    Gone(IpAddr),
    /// The end of a snapshot.
    End,
}

/// Puts what is known of an address at the end of `out`; that it was forgotten, if nothing is. Returns the frame's head.
pub(super) fn put(
    out: &mut Vec<u8>,
    address: IpAddr,
    saved: Option<&Saved>,
) -> postcard::Result<[u8; 8]> {
    put_said(out, &saved.map_or(Said::Gone(address), |saved| said(address, saved)))
}

/// Puts the end of a snapshot there.
pub(super) fn put_end(out: &mut Vec<u8>, frames: u64, checksum: u32) -> postcard::Result<[u8; 8]> {
    put_said(out, &Said::End(frames, checksum))
}

fn put_said(out: &mut Vec<u8>, said: &Said<'_>) -> postcard::Result<[u8; 8]> {
    let start = out.len();
    let written = frame::put(out, |out| {
        *out = postcard::to_extend(said, std::mem::take(out))?;
        Ok(())
    });
    // More than a reader takes cannot be, and must not be written if it is.
    match written {
        Ok(_) if out.len() - start > frame::PAYLOAD_BYTES_MAX => {
            out.truncate(start);
            Err(postcard::Error::SerializeBufferFull)
        }
        other => other,
    }
}

fn said(address: IpAddr, saved: &Saved) -> Said<'_> {
    let is_told = |name: usize, asker: IpAddr| {
        let mut askers = saved.askers.iter();
        askers.any(|one| one.address == asker && usize::from(one.name) == name)
    };
    let mut rows = Vec::with_capacity(saved.names.len());
    for (place, seen) in saved.names.iter().enumerate() {
        rows.push(Row {
            name: seen.name.as_str(),
            first: seen.first,
            last: seen.last,
            asker: seen.asker.filter(|asker| !is_told(place, *asker)),
            kind: How::from(seen.kind),
            chain: seen.chain.iter().flat_map(|chain| chain.iter().map(Name::as_str)).collect(),
        });
    }
    let askers = saved.askers.iter().map(|asker| (asker.address, asker.last, asker.name)).collect();
    Said::Known(address, rows, askers, saved.used)
}

/// Reads a payload; none if it makes no sense although its checksum is right.
pub(super) fn read(payload: &[u8]) -> Option<Frame> {
    let (said, rest) = postcard::take_from_bytes::<Said<'_>>(payload).ok()?;
    if !rest.is_empty() {
        return None;
    }
    Some(match said {
        Said::Gone(address) => Frame::Gone(address),
        Said::End(..) => Frame::End,
        Said::Known(address, rows, askers, used) => {
            let names: Vec<Seen> = rows.into_iter().map(seen).collect::<Option<_>>()?;
            let asker = |(address, last, name)| Asker { address, last, name };
            let askers = askers.into_iter().map(asker).collect();
            Frame::Known(address, Saved { names, askers, used })
        }
    })
}

/// The address of a payload, without reading the rest.
pub(super) fn address(payload: &[u8]) -> Option<IpAddr> {
    /// As far as it has to be read.
    #[derive(Deserialize)]
    enum Short {
        Known(IpAddr),
        Gone(IpAddr),
    }
    match postcard::take_from_bytes::<Short>(payload).ok()?.0 {
        Short::Known(address) | Short::Gone(address) => Some(address),
    }
}

/// The frames before the end of a snapshot and the checksum of their heads, if a payload is that end.
pub(super) fn end(payload: &[u8]) -> Option<(u64, u32)> {
    if payload.first() != Some(&END) {
        return None;
    }
    match postcard::from_bytes(payload).ok()? {
        Said::End(frames, checksum) => Some((frames, checksum)),
        Said::Known(..) | Said::Gone(_) => None,
    }
}

fn seen(row: Row<'_>) -> Option<Seen> {
    let name = |text: &str| Name::new(text).ok();
    let chain: Vec<Name> = row.chain.into_iter().map(name).collect::<Option<_>>()?;
    Some(Seen {
        name: name(row.name)?,
        first: row.first,
        last: row.last,
        asker: row.asker,
        kind: row.kind.into(),
        chain: (!chain.is_empty()).then(|| Box::new(chain)),
    })
}

impl From<Kind> for How {
    fn from(kind: Kind) -> How {
        match kind {
            Kind::Reply => How::Reply,
            Kind::Cached => How::Cached,
            Kind::Hosts => How::Hosts,
            Kind::Config => How::Config,
        }
    }
}

impl From<How> for Kind {
    fn from(how: How) -> Kind {
        match how {
            How::Reply => Kind::Reply,
            How::Cached => Kind::Cached,
            How::Hosts => Kind::Hosts,
            How::Config => Kind::Config,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn saved() -> Saved {
        let name = |text| Name::new(text).unwrap();
        let seen = |text, asker: Option<&str>, kind, chain: Vec<Name>| Seen {
            name: name(text),
            first: 100,
            last: 1_764_000_000,
            asker: asker.map(|asker| asker.parse().unwrap()),
            kind,
            chain: (!chain.is_empty()).then(|| Box::new(chain)),
        };
        Saved {
            names: vec![
                seen("a.example", Some("172.17.0.2"), Kind::Cached, vec![name("cdn.example")]),
                seen("b.example", None, Kind::Config, vec![]),
            ],
            askers: vec![Asker {
                address: "fd00::2".parse().unwrap(),
                last: 7,
                name: Asker::UNNAMED,
            }],
            used: Some(9),
        }
    }

    /// The bytes of format 1: whoever changes them has to raise the number and read both.
    #[test]
    fn the_format_is_what_it_was() {
        let mut out = Vec::new();
        put(&mut out, "203.0.113.9".parse().unwrap(), Some(&saved())).unwrap();
        put(&mut out, "2001:db8::1".parse().unwrap(), None).unwrap();
        put_end(&mut out, 2, 0x0102_0304).unwrap();
        let hex: String = out.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "56000000fb5101c60000cb0071090209612e6578616d706c6564808292c9060100ac11000201010b63646e2e6578616d706c65\
             09622e6578616d706c6564808292c9060003000101fd00000000000000000000000000000207ffff03010912000000\
             8eb453d4010120010db80000000000000000000000010600000075369ea3020284868808"
        );
    }

    #[test]
    fn what_is_written_is_read() {
        let address: IpAddr = "203.0.113.9".parse().unwrap();
        let mut out = Vec::new();
        put(&mut out, address, Some(&saved())).unwrap();
        assert_eq!(read(&out[8..]), Some(Frame::Known(address, saved())));
        assert_eq!(self::address(&out[8..]), Some(address));
        out.push(0);
        assert_eq!(read(&out[8..]), None, "something follows");
        assert_eq!(read(&[]), None);
    }

    #[test]
    fn the_largest_address_fits_a_frame() {
        use crate::engine::limits::*;
        let name = Name::new(&"n".repeat(NAME_BYTES_MAX)).unwrap();
        let seen = Seen {
            name: name.clone(),
            first: u32::MAX,
            last: u32::MAX,
            asker: Some("fd00::2".parse().unwrap()),
            kind: Kind::Config,
            chain: Some(Box::new(vec![name; CHAIN_MAX])),
        };
        let asker =
            Asker { address: "fd00::2".parse().unwrap(), last: u32::MAX, name: Asker::UNNAMED };
        let saved = Saved {
            names: vec![seen; NAMES_PER_ADDRESS_MAX],
            askers: vec![asker; ASKERS_PER_ADDRESS_MAX],
            used: Some(u32::MAX),
        };
        put(&mut Vec::new(), "2001:db8::1".parse().unwrap(), Some(&saved)).unwrap();
    }

    proptest::proptest! {
        #[test]
        fn no_payload_panics(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..100)) {
            let _ = (read(&bytes), address(&bytes));
        }
    }
}
