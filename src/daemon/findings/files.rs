//! Event files with those that were rotated away, and the times people give.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::engine::Wall;

/// Rotated files that are looked for; logrotate keeps four unless told otherwise.
const ROTATED_MAX: u32 = 99;
const DAY_CHARS: usize = 10;

/// A file and those that were rotated away from beside it, the oldest first: `FILE.2`, `FILE.1`, `FILE`. True if there are
/// compressed ones, which are not read.
pub fn rotated(path: &Path) -> (Vec<PathBuf>, bool) {
    let beside = |end: String| {
        let mut name = OsString::from(path);
        name.push(end);
        PathBuf::from(name)
    };
    let numbers = || (1..=ROTATED_MAX).rev();
    let mut files: Vec<PathBuf> =
        numbers().map(|n| beside(format!(".{n}"))).filter(|path| path.is_file()).collect();
    let compressed = numbers().any(|n| beside(format!(".{n}.gz")).exists());
    if path.exists() || files.is_empty() {
        files.push(path.to_owned());
    }
    (files, compressed)
}

/// A moment as people write it: `24h` or `7d` ago, a day, or a time as events have it.
///
/// # Errors
/// If it is none.
pub fn parse_since(text: &str, now: Wall) -> Result<Wall> {
    if let Ok(ago) = humantime::parse_duration(text) {
        let micros = u64::try_from(ago.as_micros()).unwrap_or(u64::MAX);
        return Ok(Wall(now.0.saturating_sub(micros)));
    }
    let full = match text.len() {
        DAY_CHARS => format!("{text}T00:00:00Z"),
        _ => text.to_owned(),
    };
    let at = full.parse::<jiff::Timestamp>();
    let at = at.ok().and_then(|at| u64::try_from(at.as_microsecond()).ok()).map(Wall);
    let at = at.with_context(|| {
        format!("--since {text}: write a time ago as 24h or 7d, a day as 2026-01-31, or a time as 2026-01-31T12:00:00Z")
    })?;
    ensure!(at <= now, "--since {text}: that is still to come");
    Ok(at)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotated_files_come_first_and_what_is_compressed_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        assert_eq!(rotated(&at("e")), (vec![at("e")], false), "so that an error names it");
        for name in ["e", "e.1", "e.10", "e.2", "e.bak", "e.3.gz"] {
            std::fs::write(at(name), "").unwrap();
        }
        assert_eq!(rotated(&at("e")), (vec![at("e.10"), at("e.2"), at("e.1"), at("e")], true));
    }

    #[test]
    fn a_moment_is_ago_a_day_or_a_time() {
        // 2026-01-02 00:00:00 UTC.
        let now = Wall(1_767_312_000_000_000);
        let since = |text: &str| parse_since(text, now).map(|at| at.0 / 1_000_000).ok();
        assert_eq!(since("24h"), Some(1_767_225_600));
        assert_eq!(since("2026-01-01"), Some(1_767_225_600));
        assert_eq!(since("2026-01-01T02:00:00+02:00"), Some(1_767_225_600));
        for text in ["", "yesterday", "2026-02-30", "2027-01-01", "12:00"] {
            assert_eq!(since(text), None, "{text}");
        }
    }
}
