//! Our own lists as they are on disk, with the last good version of each against accidents.

use std::io::{self, ErrorKind, Read as _};
use std::sync::Arc;

use super::atomic::open_file;
use super::edit::OWN_BYTES_MAX;
use super::folder::{Folder, Own};
use super::shrink::{SHRINK_SETTLE, accept_shrink};
use super::source::{Content, Source};
use crate::engine::Mono;

/// Reads our own lists again and again, and does not believe a sudden loss at once.
#[derive(Debug)]
pub struct OwnLists {
    folder: Folder,
    kept: [Kept; 4],
}

/// One list: the version in use, and one that is not believed yet.
#[derive(Debug)]
struct Kept {
    own: Own,
    bytes: Arc<[u8]>,
    entries: u64,
    doubted: Option<(Arc<[u8]>, Mono)>,
}

/// What a look at the files brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loaded {
    /// The lists to compile, each in the version that holds.
    pub sources: Vec<Source>,
    /// What to tell the user: lists that cannot be read, or that shrank and are kept as they were.
    pub notices: Vec<String>,
    /// When to look again although nothing changes: a loss is believed then.
    pub look_again: Option<Mono>,
}

impl OwnLists {
    /// Nothing is read yet.
    pub fn new(folder: &Folder) -> OwnLists {
        let kept = |own| Kept { own, bytes: Arc::from([]), entries: 0, doubted: None };
        OwnLists { folder: folder.clone(), kept: Own::ALL.map(kept) }
    }

    /// Reads the files. A list that cannot be read stays as it was; one of the user's two that lost nearly everything
    /// does so for [`SHRINK_SETTLE`], unless it changes again. No file is an empty list.
    pub fn load(&mut self, now: Mono) -> Loaded {
        let mut loaded = Loaded { sources: Vec::new(), notices: Vec::new(), look_again: None };
        for kept in &mut self.kept {
            match read(&self.folder, kept.own) {
                Ok(bytes) => kept.take(bytes, now, &mut loaded),
                Err(error) => loaded.notices.push(format!(
                    "cannot read {} ({error}): it holds as it was",
                    kept.own.file_name()
                )),
            }
            let content = Content::Memory(Arc::clone(&kept.bytes));
            loaded.sources.push(Source::own_from(kept.own, content));
        }
        loaded
    }
}

impl Kept {
    fn take(&mut self, bytes: Vec<u8>, now: Mono, loaded: &mut Loaded) {
        if *bytes == *self.bytes {
            self.doubted = None;
            return;
        }
        let bytes: Arc<[u8]> = Arc::from(bytes);
        let source = Source::own_from(self.own, Content::Memory(Arc::clone(&bytes)));
        // Reading from memory cannot fail, and a bad line is no entry.
        let after = source.read(&mut |_| {}).unwrap_or_default().items;
        let since = match self.doubted.take() {
            Some((doubted, since)) if doubted == bytes => since,
            _ => now,
        };
        let mine = matches!(self.own, Own::Auto | Own::Quarantine);
        if mine || accept_shrink(self.entries, after, now.since(since)) {
            (self.bytes, self.entries) = (bytes, after);
            return;
        }
        if since == now {
            loaded.notices.push(format!(
                "{} shrank from {} entries to {after}: it holds as it was, unless it stays so for {} s",
                self.own.file_name(),
                self.entries,
                SHRINK_SETTLE.as_secs(),
            ));
        }
        let again = since + SHRINK_SETTLE;
        loaded.look_again = Some(loaded.look_again.map_or(again, |other| other.min(again)));
        self.doubted = Some((bytes, since));
    }
}

fn read(folder: &Folder, own: Own) -> io::Result<Vec<u8>> {
    let file = match open_file(&folder.own(own)) {
        Ok(file) => file,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    if let Ok(size) = usize::try_from(file.metadata()?.len().min(OWN_BYTES_MAX)) {
        bytes.reserve_exact(size.saturating_add(1));
    }
    file.take(OWN_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    match bytes.len() as u64 > OWN_BYTES_MAX {
        true => Err(io::Error::other(format!("larger than {OWN_BYTES_MAX} bytes"))),
        false => Ok(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    struct Bench {
        _dir: tempfile::TempDir,
        folder: Folder,
        lists: OwnLists,
    }

    fn bench() -> Bench {
        let dir = tempfile::tempdir().unwrap();
        let folder = Folder::new(dir.path());
        std::fs::create_dir(folder.lists()).unwrap();
        let lists = OwnLists::new(&folder);
        Bench { _dir: dir, folder, lists }
    }

    impl Bench {
        fn write(&self, own: Own, entries: u8) {
            let text: String = (0..entries).map(|low| format!("192.0.2.{low}\n")).collect();
            std::fs::write(self.folder.own(own), text).unwrap();
        }

        /// Entries of each list, and what was said, at a second.
        fn load(&mut self, second: u64) -> (Vec<u64>, Loaded) {
            let loaded = self.lists.load(at(second));
            let count = |source: &Source| source.read(&mut |_| {}).unwrap().items;
            (loaded.sources.iter().map(count).collect(), loaded)
        }
    }

    fn at(second: u64) -> Mono {
        Mono(0) + Duration::from_secs(second)
    }

    #[test]
    fn lists_that_are_not_there_are_empty() {
        let mut bench = bench();
        let (counts, loaded) = bench.load(0);
        assert_eq!((counts, loaded.look_again), (vec![0; 4], None));
        assert!(loaded.notices.is_empty());
    }

    #[test]
    fn a_sudden_loss_holds_as_it_was_until_it_has_settled() {
        let mut bench = bench();
        for own in Own::ALL {
            bench.write(own, 100);
        }
        assert_eq!(bench.load(0).0, [100; 4]);
        bench.write(Own::Allow, 0);
        std::fs::remove_file(bench.folder.own(Own::Block)).unwrap();
        bench.write(Own::Auto, 0);
        bench.write(Own::Quarantine, 0);
        let (counts, loaded) = bench.load(100);
        assert_eq!(counts, [100, 100, 0, 0], "what we write ourselves is believed");
        assert_eq!(loaded.look_again, Some(at(110)));
        assert_eq!(
            loaded.notices[0],
            "allow.txt shrank from 100 entries to 0: it holds as it was, unless it stays so for 10 s"
        );
        let (counts, loaded) = bench.load(109);
        assert_eq!((counts, loaded.notices.len()), (vec![100, 100, 0, 0], 0), "said once");
        // One more accident starts the time again for that list alone.
        bench.write(Own::Allow, 1);
        let (counts, loaded) = bench.load(110);
        assert_eq!((counts, loaded.look_again), (vec![100, 0, 0, 0], Some(at(120))));
        assert_eq!(bench.load(120).0, [1, 0, 0, 0]);
    }

    #[test]
    fn an_editor_that_truncates_and_writes_is_never_seen_half_way() {
        let mut bench = bench();
        bench.write(Own::Block, 100);
        bench.load(0);
        bench.write(Own::Block, 0);
        assert_eq!(bench.load(1).0[1], 100);
        bench.write(Own::Block, 101);
        let (counts, loaded) = bench.load(2);
        assert_eq!((counts[1], loaded.look_again), (101, None));
        bench.write(Own::Block, 0);
        assert_eq!(bench.load(20).0[1], 100 + 1, "the earlier doubt is forgotten");
    }

    #[test]
    fn a_pipe_is_not_waited_for() {
        let mut bench = bench();
        let mode = nix::sys::stat::Mode::S_IRWXU;
        nix::unistd::mkfifo(&bench.folder.own(Own::Block), mode).unwrap();
        let (_, loaded) = bench.load(0);
        assert!(loaded.notices[0].contains("not a regular file"), "{:?}", loaded.notices);
    }

    #[test]
    fn an_unreadable_list_stays_as_it_was() {
        let mut bench = bench();
        bench.write(Own::Block, 3);
        bench.load(0);
        std::fs::remove_file(bench.folder.own(Own::Block)).unwrap();
        std::fs::create_dir(bench.folder.own(Own::Block)).unwrap();
        let (counts, loaded) = bench.load(1);
        assert_eq!(counts[1], 3);
        assert!(loaded.notices[0].starts_with("cannot read block.txt ("), "{:?}", loaded.notices);
    }
}
