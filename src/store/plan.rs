//! Which files of the registry are to be read, in which order, and how far each is what was written.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::Path;

use super::folder::{Piece, is_unbegun, is_zero_from, pieces};
use super::frame::{Frames, HEADER_BYTES, Next, Purpose, Strange, TORN, check};
use super::load::{Cut, Error, Loaded};
use super::wire;

/// How often the folder is looked at anew if a file goes while it is read: another process makes a snapshot, which takes
/// longer than reading one.
const TRIES: usize = 5;

/// Journals in a row that are looked for; there are a few at most.
const JOURNALS_LOOKED_FOR: u64 = 64;

/// What is to be read, in order, and open: from here on none can go.
pub(super) struct Plan {
    pieces: Vec<(Piece, File)>,
    loaded: Loaded,
    /// In the snapshot that all begins with.
    pub(super) addresses: u64,
}

/// A file with its header read.
enum Opened {
    Good(File),
    /// A crash came before its header was written, so nothing was in it.
    Empty,
    Strange(&'static str),
}

impl Plan {
    /// Hands every frame over, and whether it is of a snapshot that all begins with.
    pub(super) fn walk(self, mut each: impl FnMut(&[u8], bool)) -> Loaded {
        let Plan { pieces, mut loaded, .. } = self;
        for (place, (piece, file)) in pieces.into_iter().enumerate() {
            let is_first = place == 0 && piece.purpose == Purpose::Snapshot;
            let mut frames = Frames::new(file);
            let end = loop {
                match frames.next() {
                    Next::Frame => each(frames.payload(), is_first),
                    end => break end,
                }
            };
            match (piece.purpose, end) {
                (Purpose::Snapshot, _) => loaded.snapshot_bytes += frames.good(),
                (Purpose::Journal, end) => {
                    loaded.journals += 1;
                    loaded.journal_bytes += frames.good();
                    if let Next::Cut(why) = end {
                        loaded.lost = true;
                        let is_zero = is_zero_from(frames.file(), frames.good()).unwrap_or(false);
                        let why = if is_zero { TORN.to_owned() } else { why };
                        loaded.cuts.push(cut(&piece, frames.good(), why));
                    }
                }
            }
        }
        loaded
    }

    /// Looks at what is there.
    ///
    /// # Errors
    /// See [`Error`].
    pub(super) fn make(folder: &Path) -> Result<Plan, Error> {
        let mut tries = 1;
        loop {
            match Plan::attempt(folder) {
                Err(Error::Read { source, .. })
                    if source.kind() == io::ErrorKind::NotFound && tries < TRIES =>
                {
                    tries += 1;
                }
                other => return other,
            }
        }
    }

    fn attempt(folder: &Path) -> Result<Plan, Error> {
        let found =
            pieces(folder).map_err(|source| Error::Read { path: folder.to_owned(), source })?;
        let newest = found.iter().map(|piece| piece.generation).max();
        let mut loaded = Loaded { newest, ..Loaded::default() };
        // All of them before anything is decided: one file of a later synhold is enough to leave all alone.
        let mut open = found
            .into_iter()
            .map(|piece| Ok((open(&piece).map_err(|error| error.at(&piece.path))?, piece)))
            .collect::<Result<Vec<(Opened, Piece)>, Error>>()?;
        let base = newest_whole(&open, &mut loaded.cuts)?;
        let addresses = base.map_or(0, |(_, addresses)| addresses);
        let base = base.map(|(place, _)| place);
        if let Some(base) = base {
            open.drain(..base);
        }
        // Without a whole snapshot all there is is read, of a damaged one what stands before the damage: in this order
        // each file is newer than those before it, and what it says of an address replaces what they say.
        loaded.lost = base.is_none() && !loaded.cuts.is_empty();
        note_missing(folder, &open, &mut loaded);
        let mut pieces = Vec::with_capacity(open.len());
        for (place, (opened, piece)) in open.into_iter().enumerate() {
            match (opened, piece.purpose) {
                // A damaged snapshot after a whole one says nothing that the journals do not say.
                (_, Purpose::Snapshot) if base.is_some() && place > 0 => {}
                (Opened::Good(mut file), _) => {
                    let rewound = file.seek(SeekFrom::Start(HEADER_BYTES as u64));
                    rewound.map_err(|error| Failed::Io(error).at(&piece.path))?;
                    pieces.push((piece, file));
                }
                (Opened::Strange(why), Purpose::Journal) => {
                    loaded.lost = true;
                    loaded.cuts.push(cut(&piece, 0, why.to_owned()));
                }
                // The header is on disk before anything else is, and all of a journal before the next begins.
                (Opened::Empty, Purpose::Journal) if Some(piece.generation) < newest => {
                    loaded.lost = true;
                    loaded.cuts.push(cut(&piece, 0, "it is empty".to_owned()));
                }
                (Opened::Strange(_) | Opened::Empty, _) => {}
            }
        }
        Ok(Plan { pieces, loaded, addresses })
    }
}

/// Why a file cannot be opened, without its name.
enum Failed {
    Io(io::Error),
    Newer(u32),
}

impl Failed {
    fn at(self, path: &Path) -> Error {
        let path = path.to_owned();
        match self {
            Failed::Io(source) => Error::Read { path, source },
            Failed::Newer(format) => Error::Newer { path, format },
        }
    }
}

fn open(piece: &Piece) -> Result<Opened, Failed> {
    let mut file = File::open(&piece.path).map_err(Failed::Io)?;
    let mut header = [0; HEADER_BYTES];
    match file.read_exact(&mut header) {
        Ok(()) if header != [0; HEADER_BYTES] => {}
        Ok(()) if is_unbegun(&file).map_err(Failed::Io)? => return Ok(Opened::Empty),
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(Opened::Empty),
        Err(error) => return Err(Failed::Io(error)),
    }
    match check(&header, piece.purpose, piece.generation) {
        Ok(()) => Ok(Opened::Good(file)),
        Err(Strange::Newer(format)) => Err(Failed::Newer(format)),
        Err(Strange::Damaged(why)) => Ok(Opened::Strange(why)),
    }
}

/// Where the newest snapshot is that is as it was written, and how many addresses it has. Those after it that are not go to `cuts`.
fn newest_whole(
    open: &[(Opened, Piece)],
    cuts: &mut Vec<Cut>,
) -> Result<Option<(usize, u64)>, Error> {
    let snapshots = open.iter().enumerate().rev();
    for (place, (opened, piece)) in
        snapshots.filter(|(_, (_, piece))| piece.purpose == Purpose::Snapshot)
    {
        let counted = match opened {
            Opened::Good(file) => count(file),
            Opened::Empty => Err((0, "it has no header".to_owned())),
            Opened::Strange(why) => Err((0, (*why).to_owned())),
        };
        match counted {
            Ok(addresses) => return Ok(Some((place, addresses))),
            Err((good, why)) => cuts.push(cut(piece, good, why)),
        }
    }
    Ok(None)
}

/// Addresses of a snapshot; how far it is good and why no further if it is not whole. It is read to its end for that: at gigabytes a
/// second, which is little beside taking it in.
fn count(file: &File) -> Result<u64, (u64, String)> {
    let mut frames = Frames::new(file);
    let (mut count, mut checksum) = (0, crc32fast::Hasher::new());
    loop {
        match frames.next() {
            Next::Frame => {}
            Next::End => return Err((frames.good(), "its end is missing".to_owned())),
            Next::Cut(why) => return Err((frames.good(), why)),
        }
        let Some((frames_before, sum)) = wire::end(frames.payload()) else {
            count += 1;
            checksum.update(&frames.head());
            continue;
        };
        let good = frames.good();
        let is_last = frames.next() == Next::End;
        let is_all = (frames_before, sum) == (count, checksum.finalize());
        return match is_last && is_all {
            true => Ok(count),
            false => Err((good, "it does not end where it says".to_owned())),
        };
    }
}

/// Every generation has a journal; one that is gone took with it what was in it.
fn note_missing(folder: &Path, open: &[(Opened, Piece)], loaded: &mut Loaded) {
    let first = match open.first() {
        // Nothing is older than the first journal but a snapshot that is gone.
        Some((_, piece)) if piece.purpose == Purpose::Journal => 1,
        Some((_, piece)) => piece.generation,
        None => return,
    };
    let is_there = |generation: u64| {
        let mut journals = open.iter().filter(|(_, piece)| piece.purpose == Purpose::Journal);
        journals.any(|(_, piece)| piece.generation == generation)
    };
    // A handful of files, unless somebody made one up.
    let last = loaded.newest.unwrap_or(first).min(first.saturating_add(JOURNALS_LOOKED_FOR));
    let missing = (first..=last).filter(|generation| !is_there(*generation));
    loaded.missing =
        missing.map(|generation| Piece::new(folder, Purpose::Journal, generation).path).collect();
    loaded.lost |= !loaded.missing.is_empty();
}

fn cut(piece: &Piece, good: u64, why: String) -> Cut {
    let size = std::fs::metadata(&piece.path).map_or(0, |file| file.len());
    Cut {
        path: piece.path.clone(),
        good,
        lost: size.saturating_sub(good),
        is_torn: piece.purpose == Purpose::Journal && why == TORN,
        why,
    }
}
