//! The time in front of each line of a container's log.

use crate::engine::Wall;

/// Nanoseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp(pub u64);

impl Stamp {
    /// In microseconds.
    pub fn wall(self) -> Wall {
        Wall(self.0 / 1_000)
    }
}

impl From<Wall> for Stamp {
    fn from(wall: Wall) -> Stamp {
        Stamp(wall.0.saturating_mul(1_000))
    }
}

/// Splits `2026-01-02T03:04:05.123456789Z text`. Docker writes UTC and nanoseconds, Podman its own zone and seconds.
pub fn split(line: &[u8]) -> Option<(Stamp, &[u8])> {
    let blank = line.iter().take(STAMP_BYTES_MAX).position(|c| *c == b' ')?;
    let (stamp, text) = line.split_at(blank);
    Some((read(std::str::from_utf8(stamp).ok()?)?, text.get(1..)?))
}

/// A date, a time with nine digits after the point, a zone, and the blank.
const STAMP_BYTES_MAX: usize = 36;

fn read(text: &str) -> Option<Stamp> {
    let (local, offset) = match text.strip_suffix('Z') {
        Some(local) => (local, 0),
        None => {
            let (local, zone) = text.split_at_checked(text.len().checked_sub(6)?)?;
            (local, minutes(zone)?)
        }
    };
    let time = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let since = time.duration_since(std::time::UNIX_EPOCH).ok()?;
    let local = u64::try_from(since.as_nanos()).ok()?;
    let nanos = local.checked_add_signed(-offset * 60_000_000_000)?;
    Some(Stamp(nanos))
}

/// `+01:00`, in minutes.
fn minutes(zone: &str) -> Option<i64> {
    let sign = match zone.as_bytes().first()? {
        b'+' => 1,
        b'-' => -1,
        _ => return None,
    };
    let (hours, minutes) = zone.get(1..)?.split_once(':')?;
    let number = |text: &str| text.parse::<u8>().ok().filter(|_| text.len() == 2);
    Some(sign * (i64::from(number(hours)?) * 60 + i64::from(number(minutes)?)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nanos(text: &str) -> Option<u64> {
        split(text.as_bytes()).map(|(stamp, _)| stamp.0)
    }

    #[test]
    fn stamps_of_docker_and_podman_are_read() {
        const AT: u64 = 1_795_322_277_000_000_000;
        assert_eq!(nanos("2026-11-22T04:37:57.221562074Z x"), Some(AT + 221_562_074));
        assert_eq!(nanos("2026-11-22T04:37:57Z x"), Some(AT));
        assert_eq!(nanos("2026-11-22T06:07:57+01:30 x"), Some(AT));
        assert_eq!(nanos("2026-11-21T23:37:57.5-05:00 x"), Some(AT + 500_000_000));
        let (_, text) = split(b"2026-11-22T04:37:57Z dnsmasq[1]: a b").unwrap();
        assert_eq!(text, b"dnsmasq[1]: a b");
    }

    #[test]
    fn what_is_none_is_none() {
        for text in [
            "",
            " ",
            "x",
            "dnsmasq[1]: started",
            "2026-11-22T04:37:57Z",
            "2026-11-22 04:37:57Z x",
            "1969-01-01T00:00:00Z x",
            "2026-11-22T04:37:57+1:000 x",
            "2026-11-22T04:37:57\u{e9}00:00 x",
            "1970-01-01T00:00:00+01:00 x",
        ] {
            assert_eq!(nanos(text), None, "{text}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..60), text in "[0-9TZ:. +-]{0,40}") {
            let _ = (split(&bytes), split(text.as_bytes()));
        }
    }
}
