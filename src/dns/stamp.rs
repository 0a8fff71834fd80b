//! The times before the lines of a log: RFC 3339, or the syslog form that says neither year nor zone.

use std::path::Path;
use std::time::SystemTime;

use anyhow::{Context, Result};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{Timestamp, Zoned};

use crate::engine::Wall;

/// Characters of `Nov 22 07:52:36`.
const SYSLOG_CHARS: usize = 15;

/// Reads the times of one log.
pub struct Stamps {
    zone: TimeZone,
    /// The last the log was written to, which says which year is meant.
    written: Zoned,
    seen: u64,
    /// The last time read and how it was written: a busy log repeats it.
    last: Option<(String, Timestamp)>,
}

impl Stamps {
    /// For this file.
    ///
    /// # Errors
    /// If the file is not there.
    pub fn of(path: &Path) -> Result<Stamps> {
        let what = || format!("cannot read {}", path.display());
        let modified =
            std::fs::metadata(path).and_then(|file| file.modified()).with_context(what)?;
        Ok(Stamps::new(TimeZone::system(), modified))
    }

    fn new(zone: TimeZone, modified: SystemTime) -> Stamps {
        let written = Timestamp::try_from(modified).unwrap_or_default().to_zoned(zone.clone());
        Stamps { zone, written, seen: 0, last: None }
    }

    /// Lines that had a time.
    pub fn seen(&self) -> u64 {
        self.seen
    }

    /// The time before a line; of several the first, which was put there last.
    pub fn time(&mut self, line: &[u8]) -> Option<Wall> {
        let text = std::str::from_utf8(line).ok()?;
        let text = match text.strip_prefix('<').and_then(|rest| rest.split_once('>')) {
            Some((_, rest)) => rest,
            None => text,
        };
        let first = text.split(' ').next()?;
        let at = match &self.last {
            Some((written, at)) if text.starts_with(written.as_str()) => *at,
            _ => match first.parse::<Timestamp>() {
                Ok(at) => at,
                Err(_) => {
                    let at = self.syslog(text)?;
                    self.last = Some((text.get(..SYSLOG_CHARS)?.to_owned(), at));
                    at
                }
            },
        };
        self.seen += 1;
        Some(Wall(u64::try_from(at.as_microsecond()).ok()?))
    }

    fn syslog(&self, text: &str) -> Option<Timestamp> {
        let stamp = text.get(..SYSLOG_CHARS)?;
        let in_year = |year: i16| -> Option<Timestamp> {
            let at = DateTime::strptime("%Y %b %e %H:%M:%S", format!("{year} {stamp}")).ok()?;
            Some(at.to_zoned(self.zone.clone()).ok()?.timestamp())
        };
        let year = self.written.year();
        // A line cannot be younger than the file, but for a clock that was set.
        let latest = self.written.timestamp().as_second() + 24 * 60 * 60;
        in_year(year).filter(|at| at.as_second() <= latest).or_else(|| in_year(year - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, UNIX_EPOCH};

    /// 2026-01-02 00:00:00 UTC.
    const WRITTEN: u64 = 1_767_312_000;

    fn stamps() -> Stamps {
        Stamps::new(TimeZone::fixed(jiff::tz::offset(1)), UNIX_EPOCH + Duration::from_secs(WRITTEN))
    }

    #[test]
    fn a_time_without_year_and_zone_is_the_last_that_can_be_meant() {
        let mut stamps = stamps();
        let mut at = |line: &str| stamps.time(line.as_bytes()).map(|at| at.0 / 1_000_000);
        assert_eq!(at("Jan  2 00:59:59 dnsmasq[1]: x"), Some(WRITTEN - 1), "one hour east");
        assert_eq!(at("Dec 31 01:00:00 dnsmasq[1]: x"), Some(WRITTEN - 2 * 86_400), "last year");
        assert_eq!(at("<30>Jan  2 00:59:59 dnsmasq[1]: x"), Some(WRITTEN - 1));
        assert_eq!(at("2026-01-01T23:59:59Z dnsmasq[1]: x"), Some(WRITTEN - 1));
        assert_eq!(at("2026-01-02T00:59:59.5+01:00 host dnsmasq[1]: x"), Some(WRITTEN - 1));
        for line in ["", "dnsmasq[1]: x", "Feb 30 00:00:00 x", "Jän  2 00:00:00 x"] {
            assert_eq!(at(line), None, "{line}");
        }
    }
}
