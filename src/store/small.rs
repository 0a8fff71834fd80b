//! A small file of the state directory: JSON with a version, written in one step, and set aside where it is not understood.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::Relaxed;

use serde::de::{DeserializeOwned, Error as _};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::atomic::write_atomically;
use super::folder::set_aside;
use crate::engine::Wall;

/// The version of a format, as the first field of what stands in a file: that of another version is known by it, whatever
/// follows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Version<const N: u64>;

impl<const N: u64> Serialize for Version<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(N)
    }
}

impl<'de, const N: u64> Deserialize<'de> for Version<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            version if version == N => Ok(Version),
            version => Err(D::Error::custom(format!("version {version}, and {N} is known here"))),
        }
    }
}

/// One such file. The default one is nowhere.
#[derive(Debug, Default)]
pub struct Small {
    path: PathBuf,
    bytes_max: u64,
    writes: bool,
    /// There is one, and it could not be read: it may be as good as ever.
    unread: AtomicBool,
}

impl Small {
    /// That of `path`, read if it has no more than `bytes_max`; unless it `writes`, nothing on the disk is ever changed.
    pub fn new(path: PathBuf, bytes_max: u64, writes: bool) -> Small {
        Small { path, bytes_max, writes, unread: AtomicBool::new(false) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What stands in it, as `sense` reads it; nothing if there is no file.
    ///
    /// # Errors
    /// If it cannot be read, is too large, damaged or of another version, or if `sense` makes nothing of it.
    pub fn read<T: DeserializeOwned, U>(
        &self,
        sense: impl FnOnce(T) -> Option<U>,
    ) -> io::Result<Option<U>> {
        let file = match File::open(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            file => file?,
        };
        let mut bytes = Vec::new();
        file.take(self.bytes_max.saturating_add(1)).read_to_end(&mut bytes)?;
        if u64::try_from(bytes.len()).is_ok_and(|size| size > self.bytes_max) {
            let why = format!("it has more than {} bytes", self.bytes_max);
            return Err(io::Error::new(ErrorKind::InvalidData, why));
        }
        match sense(serde_json::from_slice(&bytes)?) {
            None => Err(io::Error::new(ErrorKind::InvalidData, "it makes no sense")),
            found => Ok(found),
        }
    }

    /// The same; a file that is not understood is renamed, so that the next save does not write over it. One that the system
    /// does not give now is left where it is, and nothing is saved until it has been read.
    ///
    /// # Errors
    /// In one line: why it is not understood, what is lost by that (`loss`, as "nobody knows any more who was there"), and
    /// where the file is.
    pub fn load<T: DeserializeOwned, U>(
        &self,
        loss: &str,
        now: Wall,
        sense: impl FnOnce(T) -> Option<U>,
    ) -> Result<Option<U>, String> {
        let found = self.read(sense);
        let unread = found.as_ref().is_err_and(|error| !is_foreign(error.kind()));
        self.unread.store(unread, Relaxed);
        found.map_err(|error| {
            let path = self.path.display();
            let told = format!("{path} is not used: {error}; {loss}; ");
            if !self.writes || unread {
                return told + "it is left as it is";
            }
            match set_aside(&self.path, now) {
                Ok(aside) => told + &format!("it was set aside as {}", aside.display()),
                Err(error) => told + &format!("it cannot be set aside: {error}"),
            }
        })
    }

    /// The same, with a warning in place of an error.
    pub fn load_or_warn<T: DeserializeOwned, U>(
        &self,
        loss: &str,
        now: Wall,
        sense: impl FnOnce(T) -> Option<U>,
    ) -> Option<U> {
        self.load(loss, now, sense).unwrap_or_else(|complaint| {
            tracing::warn!("{complaint}");
            None
        })
    }

    /// True if it is there and could not be read when it was loaded.
    pub fn is_unread(&self) -> bool {
        self.unread.load(Relaxed)
    }

    /// Replaces what stands in it.
    ///
    /// # Errors
    /// What the file system says, with the name of the file, or that it could not be read before; the old content is then
    /// still there.
    pub fn save(&self, content: &impl Serialize) -> io::Result<()> {
        if !self.writes {
            return Ok(());
        }
        if self.is_unread() {
            let why = "it could not be read, so nothing is written over it before the next start";
            return Err(self.cannot(&io::Error::other(why)));
        }
        let bytes = serde_json::to_vec(content)?;
        write_atomically(&self.path, |mut file| file.write_all(&bytes))
            .map_err(|error| self.cannot(&error))
    }

    /// Removes it, if it is there.
    ///
    /// # Errors
    /// What the file system says, with the name of the file.
    pub fn remove(&self) -> io::Result<()> {
        match if self.writes { std::fs::remove_file(&self.path) } else { Ok(()) } {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(self.cannot(&error)),
            _ => Ok(()),
        }
    }

    fn cannot(&self, error: &io::Error) -> io::Error {
        io::Error::new(error.kind(), format!("cannot save {}: {error}", self.path.display()))
    }
}

/// Kinds of errors of content that is not understood, or ends too soon; of all others the content knows nothing.
fn is_foreign(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::InvalidData | ErrorKind::UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Saved {
        version: Version<2>,
        word: String,
    }

    fn word(saved: Saved) -> Option<String> {
        Some(saved.word).filter(|word| !word.is_empty())
    }

    fn saved(word: &str) -> Saved {
        Saved { version: Version, word: word.to_owned() }
    }

    #[test]
    fn what_is_not_understood_is_never_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("word.json");
        let small = Small::new(path.clone(), 40, true);
        assert_eq!(small.load("", Wall(1), word), Ok(None));
        small.save(&saved("yes")).unwrap();
        assert_eq!(small.load("", Wall(1), word), Ok(Some("yes".to_owned())));
        let long = format!(r#"{{"version":2,"word":"x"}}{}"#, " ".repeat(17));
        let newer = r#"{"version":3,"words":["yes"]}"#;
        let all = ["", "{", r#"{"version":2}"#, r#"{"version":2,"word":""}"#, newer, &long];
        for (n, text) in (1..).zip(all) {
            std::fs::write(&path, text).unwrap();
            let complaint = small.load("words are lost", Wall(n), word).unwrap_err();
            assert!(complaint.contains("words are lost; it was set aside as "), "{complaint}");
            assert_eq!(complaint.contains("version 3"), text == newer, "{complaint}");
            small.save(&saved("new")).unwrap();
            let aside = folder.path().join(format!("word.json.damaged-{n}"));
            assert_eq!(std::fs::read_to_string(aside).unwrap(), text);
            assert_eq!(small.load("", Wall(n), word), Ok(Some("new".to_owned())));
        }
        // A disk does not fill with them.
        assert_eq!(folder.path().read_dir().unwrap().count(), 1 + 4);
    }

    #[test]
    fn what_the_system_does_not_give_now_is_neither_set_aside_nor_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("word.json");
        let small = Small::new(path.clone(), 40, true);
        // A folder is opened and not read.
        std::fs::create_dir(&path).unwrap();
        let complaint = small.load("words are lost", Wall(1), word).unwrap_err();
        assert!(complaint.ends_with("words are lost; it is left as it is"), "{complaint}");
        assert!(path.is_dir() && small.is_unread());
        std::fs::remove_dir(&path).unwrap();
        std::fs::write(&path, r#"{"version":2,"word":"old"}"#).unwrap();
        let error = small.save(&saved("new")).unwrap_err();
        assert!(error.to_string().contains("it could not be read"), "{error}");
        assert_eq!(small.load("", Wall(1), word), Ok(Some("old".to_owned())));
        small.save(&saved("new")).unwrap();
        assert_eq!(small.load("", Wall(1), word), Ok(Some("new".to_owned())));
    }

    #[test]
    fn a_dry_disk_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("word.json");
        let small = Small::new(path.clone(), 40, false);
        small.save(&saved("yes")).unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "{").unwrap();
        let complaint = small.load("words are lost", Wall(1), word).unwrap_err();
        assert!(complaint.contains("left as it is"), "{complaint}");
        small.remove().unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }
}
