//! The place in a log up to which it was handed over, so that a cut is followed by neither a gap nor a repetition.

use super::stamp::Stamp;

/// The line handed over last: its time, and how many lines of that very time were handed over. The engine of Podman
/// tells seconds only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    at: Stamp,
    count: u64,
}

impl Place {
    /// The place after a line of this time, which follows `before`.
    pub fn after(before: Option<Place>, at: Stamp) -> Place {
        match before {
            Some(place) if place.at == at => Place { at, count: place.count + 1 },
            _ => Place { at, count: 1 },
        }
    }

    /// The time of the line handed over last.
    pub fn at(self) -> Stamp {
        self.at
    }
}

/// Drops the beginning of a log that is read again, up to the place where it was left. Lines are not quite in the
/// order of their times (standard output and error are stamped before they are joined), so it is the place that
/// counts. A log without that place, as another container's, starts with its first line after that time.
#[derive(Debug)]
pub struct Resume {
    left: Option<Place>,
    seen: u64,
}

impl Resume {
    /// A log that was left at `place`, if it was read before.
    pub fn at(place: Option<Place>) -> Resume {
        Resume { left: place, seen: 0 }
    }

    /// True if the next line, of this time, was not handed over before.
    pub fn is_new(&mut self, stamp: Stamp) -> bool {
        let Some(left) = self.left else { return true };
        if stamp == left.at {
            self.seen += 1;
        }
        if stamp > left.at || self.seen >= left.count {
            self.left = None;
        }
        stamp > left.at
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(log: &[Stamp], mut place: Option<Place>, count: usize) -> (Vec<Stamp>, Option<Place>) {
        let (mut resume, mut out) = (Resume::at(place), Vec::new());
        for stamp in log.iter().copied().filter(|stamp| resume.is_new(*stamp)).take(count) {
            place = Some(Place::after(place, stamp));
            out.push(stamp);
        }
        (out, place)
    }

    #[test]
    fn a_line_stamped_before_its_neighbour_is_not_lost() {
        let log = [Stamp(1), Stamp(3), Stamp(2), Stamp(4)];
        let (_, place) = read(&log, None, 2);
        assert_eq!(read(&log, place, 9).0, [Stamp(2), Stamp(4)]);
    }

    #[test]
    fn another_log_starts_after_the_time_of_the_place() {
        let place = Some(Place { at: Stamp(5), count: 3 });
        assert_eq!(read(&[4, 5, 6, 7].map(Stamp), place, 9).0, [6, 7].map(Stamp));
    }

    proptest! {
        #[test]
        fn cutting_a_log_anywhere_gives_each_line_once(
            steps in prop::collection::vec(0u64..2, 0..40),
            parts in prop::collection::vec(0usize..10, 0..8),
        ) {
            let log: Vec<Stamp> = steps.iter().scan(5, |at, step| { *at += step; Some(Stamp(*at)) }).collect();
            let (mut place, mut all) = (None, Vec::new());
            for part in parts.into_iter().chain([100]) {
                let (out, next) = read(&log, place, part);
                all.extend(out);
                place = next;
            }
            prop_assert_eq!(all, log);
        }
    }
}
