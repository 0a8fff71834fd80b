//! How a file of the registry is made: a header, then frames, each behind its length and checksum.

use std::io::{self, BufReader, ErrorKind, Read};

use crate::engine::limits::{
    ASKERS_PER_ADDRESS_MAX, CHAIN_MAX, NAME_BYTES_MAX, NAMES_PER_ADDRESS_MAX,
};

/// The format written, and the newest that is read.
pub(super) const FORMAT: u32 = 1;
/// Bytes of a header: magic, format, purpose, generation, checksum. Every format there will be keeps to that, so that
/// one too new for us is told from a damaged one.
pub(super) const HEADER_BYTES: usize = 28;
const MAGIC: [u8; 8] = *b"synhold\n";
/// Bytes before a payload: its length and the checksum of both.
const HEAD_BYTES: usize = 8;
/// Longest payload: all the names an address may have with the longest of chains, all askers, and what stands between.
pub(super) const PAYLOAD_BYTES_MAX: usize = 1 << 17;
/// Read at once.
const CHUNK_BYTES: usize = 1 << 18;

const _: () = assert!(
    NAMES_PER_ADDRESS_MAX * (NAME_BYTES_MAX + 40) * (1 + CHAIN_MAX) + ASKERS_PER_ADDRESS_MAX * 40
        < PAYLOAD_BYTES_MAX
);

/// What a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Purpose {
    /// Every address there was, with a trailer.
    Snapshot = 1,
    /// What changed since, to be read after the snapshot of its generation.
    Journal = 2,
}

/// Why a header is none of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Strange {
    /// A later synhold wrote it.
    Newer(u32),
    /// Anything else.
    Damaged(&'static str),
}

/// The header of a file.
pub(super) fn header(purpose: Purpose, generation: u64) -> [u8; HEADER_BYTES] {
    let mut bytes = Vec::with_capacity(HEADER_BYTES);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&(purpose as u32).to_le_bytes());
    bytes.extend_from_slice(&generation.to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
    let mut header = [0; HEADER_BYTES];
    header.iter_mut().zip(bytes).for_each(|(to, from)| *to = from);
    header
}

/// Checks that a header is the one a file of that purpose and generation must have.
pub(super) fn check(
    bytes: &[u8; HEADER_BYTES],
    purpose: Purpose,
    generation: u64,
) -> Result<(), Strange> {
    if *bytes == header(purpose, generation) {
        return Ok(());
    }
    let (rest, checksum) = bytes.split_at(HEADER_BYTES - 4);
    if !rest.starts_with(&MAGIC) || crc32fast::hash(rest).to_le_bytes() != checksum {
        return Err(Strange::Damaged("its header is damaged"));
    }
    match rest.get(MAGIC.len()..MAGIC.len() + 4).map(<[u8; 4]>::try_from) {
        Some(Ok(format)) if u32::from_le_bytes(format) > FORMAT => {
            Err(Strange::Newer(u32::from_le_bytes(format)))
        }
        _ => Err(Strange::Damaged("it is another file than its name says")),
    }
}

/// Makes one frame at the end of `out`: `write` puts the payload there.
pub(super) fn put<E>(
    out: &mut Vec<u8>,
    write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>,
) -> Result<[u8; HEAD_BYTES], E> {
    let start = out.len();
    out.extend_from_slice(&[0; HEAD_BYTES]);
    write(out)?;
    let payload = out.get(start + HEAD_BYTES..).unwrap_or_default();
    let head = head(payload);
    if let Some(place) = out.get_mut(start..start + HEAD_BYTES) {
        place.copy_from_slice(&head);
    }
    Ok(head)
}

fn head(payload: &[u8]) -> [u8; HEAD_BYTES] {
    let length = u32::try_from(payload.len()).unwrap_or(u32::MAX).to_le_bytes();
    let mut checksum = crc32fast::Hasher::new();
    checksum.update(&length);
    checksum.update(payload);
    let mut head = [0; HEAD_BYTES];
    let parts = length.into_iter().chain(checksum.finalize().to_le_bytes());
    head.iter_mut().zip(parts).for_each(|(to, from)| *to = from);
    head
}

/// What is wrong with a file whose end was not written.
pub(super) const TORN: &str = "it ends within a frame";

/// Where a run of frames ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Next {
    /// There is one more; [`Frames::payload`] has it.
    Frame,
    /// The file ends here, between two frames.
    End,
    /// What follows is no frame.
    Cut(String),
}

/// The frames of a file, one after the other.
pub(super) struct Frames<R> {
    input: BufReader<R>,
    payload: Vec<u8>,
    head: [u8; HEAD_BYTES],
    /// Bytes up to here are header and whole frames.
    good: u64,
}

impl<R: Read> Frames<R> {
    /// Of a file whose header has been read.
    pub(super) fn new(input: R) -> Frames<R> {
        let input = BufReader::with_capacity(CHUNK_BYTES, input);
        Frames { input, payload: Vec::new(), head: [0; HEAD_BYTES], good: HEADER_BYTES as u64 }
    }

    /// Reads one more. What cannot be read is no frame either.
    pub(super) fn next(&mut self) -> Next {
        match self.read() {
            Ok(next) => next,
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Next::Cut(TORN.to_owned()),
            Err(error) => Next::Cut(format!("it cannot be read on: {error}")),
        }
    }

    fn read(&mut self) -> io::Result<Next> {
        if std::io::BufRead::fill_buf(&mut self.input)?.is_empty() {
            return Ok(Next::End);
        }
        self.input.read_exact(&mut self.head)?;
        let [a, b, c, d, ..] = self.head;
        let length = usize::try_from(u32::from_le_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        if length == 0 || length > PAYLOAD_BYTES_MAX {
            return Ok(Next::Cut("a frame has an impossible length".to_owned()));
        }
        self.payload.resize(length, 0);
        self.input.read_exact(&mut self.payload)?;
        if head(&self.payload) != self.head {
            return Ok(Next::Cut("the checksum of a frame is wrong".to_owned()));
        }
        self.good += (HEAD_BYTES + length) as u64;
        Ok(Next::Frame)
    }

    /// What they are read from.
    pub(super) fn file(&self) -> &R {
        self.input.get_ref()
    }

    /// What is in the frame that was read last.
    pub(super) fn payload(&self) -> &[u8] {
        &self.payload
    }

    /// Length and checksum of the frame that was read last.
    pub(super) fn head(&self) -> [u8; HEAD_BYTES] {
        self.head
    }

    /// Bytes of the file that are known to be good.
    pub(super) fn good(&self) -> u64 {
        self.good
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(payloads: &[&[u8]]) -> Vec<u8> {
        let mut out = Vec::new();
        for payload in payloads {
            put(&mut out, |out| {
                out.extend_from_slice(payload);
                Ok::<(), ()>(())
            })
            .unwrap();
        }
        out
    }

    fn read(bytes: &[u8]) -> (Vec<Vec<u8>>, Next) {
        let mut frames = Frames::new(bytes);
        let mut all = Vec::new();
        loop {
            match frames.next() {
                Next::Frame => all.push(frames.payload().to_vec()),
                end => return (all, end),
            }
        }
    }

    #[test]
    fn a_cut_file_has_the_frames_before_the_cut() {
        let payloads: [&[u8]; 3] = [b"one", b"two", b"three"];
        let (whole, ends) = (file(&payloads), [0, 11, 22, 35]);
        for cut in 0..=whole.len() {
            let (got, end) = read(&whole[..cut]);
            let complete = ends.iter().filter(|end| **end <= cut).count() - 1;
            assert_eq!(got, payloads[..complete], "cut at {cut}");
            assert_eq!(end == Next::End, ends.contains(&cut), "cut at {cut}");
        }
    }

    #[test]
    fn a_flipped_bit_ends_it_and_so_do_zeros() {
        let payloads: [&[u8]; 2] = [b"one", b"two"];
        let whole = file(&payloads);
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let (got, end) = read(&bytes);
            assert_eq!(got, payloads[..bit / 8 / 11], "bit {bit}");
            assert!(matches!(end, Next::Cut(_)), "bit {bit}");
        }
        assert!(matches!(read(&[0; 4096]).1, Next::Cut(_)), "a disk that lost its content");
    }

    #[test]
    fn a_header_is_of_one_file_and_a_newer_one_is_told_apart() {
        let good = header(Purpose::Journal, 7);
        assert_eq!(check(&good, Purpose::Journal, 7), Ok(()));
        for (purpose, generation) in [(Purpose::Snapshot, 7), (Purpose::Journal, 8)] {
            let error = check(&good, purpose, generation).unwrap_err();
            assert!(matches!(error, Strange::Damaged(_)));
        }
        for bit in 0..HEADER_BYTES * 8 {
            let mut bytes = good;
            bytes[bit / 8] ^= 1 << (bit % 8);
            let error = check(&bytes, Purpose::Journal, 7).unwrap_err();
            assert!(matches!(error, Strange::Damaged(_)), "bit {bit}");
        }
        let mut newer = good;
        newer[8..12].copy_from_slice(&9u32.to_le_bytes());
        let checksum = crc32fast::hash(&newer[..24]).to_le_bytes();
        newer[24..].copy_from_slice(&checksum);
        assert_eq!(check(&newer, Purpose::Journal, 7), Err(Strange::Newer(9)));
    }
}
