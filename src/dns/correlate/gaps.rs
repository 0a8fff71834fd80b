//! Questions whose lines are missing: an answer with a serial number that no line before it had.

use crate::engine::limits::WRITERS_MAX;

/// Serial numbers remembered as seen.
const SEEN: usize = 4096;
/// How far behind the latest question an answer may be. Within half of what is remembered nothing has been overwritten:
/// dnsmasq's processes never use the same number, since one that forks skips a hundred for its child.
const REACH: u64 = SEEN as u64 / 2;

/// Questions of a process after which its numbers are known. Where lines carry no process, those of a TCP child may
/// come first, and they are lower than the next of its parent.
const SETTLED: u8 = 16;

/// What has been seen of one log. A missing number alone is no gap: each TCP connection skips a hundred of them, and any
/// container can make dnsmasq skip one, with a question of an unusual kind that is not logged.
pub struct Gaps {
    seen: Vec<u64>,
    latest: u64,
    /// The busiest process last.
    writers: Vec<Writer>,
}

struct Writer {
    pid: Option<u32>,
    asked: u8,
    /// What it answers with a number up to this one may have been asked before this log was opened.
    before: u64,
}

impl Default for Gaps {
    fn default() -> Gaps {
        Gaps { seen: vec![u64::MAX; SEEN], latest: 0, writers: Vec::new() }
    }
}

impl Gaps {
    /// A line of this number came.
    pub fn see(&mut self, serial: u64) {
        if let Some(place) = self.seen.get_mut(index(serial)) {
            *place = serial;
        }
    }

    /// A question of this number came.
    pub fn ask(&mut self, serial: u64, pid: Option<u32>) {
        self.see(serial);
        self.latest = serial;
        let place = self.writers.iter().position(|writer| writer.pid == pid);
        let mut writer = match place {
            Some(place) => self.writers.remove(place),
            None => Writer { pid, asked: 0, before: 0 },
        };
        if writer.asked < SETTLED {
            writer.asked += 1;
            writer.before = writer.before.max(serial);
        }
        if self.writers.len() >= WRITERS_MAX {
            self.writers.remove(0);
        }
        self.writers.push(writer);
    }

    /// True if an answer of this number is to a question that must have been logged since we came, and was not read.
    pub fn is_missing(&self, serial: u64, pid: Option<u32>) -> bool {
        let writer = self.writers.iter().find(|writer| writer.pid == pid);
        let expected = writer.is_some_and(|w| w.asked >= SETTLED && serial > w.before);
        let near = serial < self.latest && self.latest - serial < REACH;
        expected && near && self.seen.get(index(serial)) != Some(&serial)
    }

    /// The process has started anew, and so do its numbers.
    pub fn forget(&mut self) {
        *self = Gaps::default();
    }
}

fn index(serial: u64) -> usize {
    usize::try_from(serial % SEEN as u64).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::correlate::Correlator;
    use crate::dns::line::{numbered, parse};

    /// Lines shown to be missing by a log.
    fn missing<'l>(log: impl IntoIterator<Item = &'l str>) -> u64 {
        let (mut correlator, mut missing) = (Correlator::default(), 0);
        for line in log {
            match parse(line.as_bytes()) {
                Ok(line) => {
                    let _ = correlator.feed(&line, &mut |_| {});
                }
                Err(_) => correlator.garbled(numbered(line.as_bytes()).unwrap()),
            }
            missing += correlator.take_missing();
        }
        missing
    }

    fn ask(pid: u32, serial: u64) -> String {
        format!("dnsmasq[{pid}]: {serial} 10.0.0.2/99 query[A] n{serial}.example from 10.0.0.2")
    }

    fn answer(pid: u32, serial: u64) -> String {
        format!("dnsmasq[{pid}]: {serial} 10.0.0.2/99 reply n{serial}.example is 192.0.2.1")
    }

    fn begun(pid: u32) -> Vec<String> {
        (1..=SETTLED.into()).flat_map(|serial| [ask(pid, serial), answer(pid, serial)]).collect()
    }

    fn after(lines: &[String]) -> u64 {
        let all = [begun(7), lines.to_vec()].concat();
        missing(all.iter().map(String::as_str))
    }

    #[test]
    fn an_answer_to_a_question_that_was_never_read_is_a_line_lost() {
        assert_eq!(after(&[ask(7, 20), answer(7, 19), answer(7, 20)]), 1);
        assert_eq!(after(&[ask(7, 19), ask(7, 20), answer(7, 19), answer(7, 20)]), 0);
    }

    #[test]
    fn what_was_asked_before_the_log_was_opened_is_not_lost() {
        let log = [ask(7, 100), answer(7, 98), ask(7, 101), answer(7, 99), answer(9, 50)];
        assert_eq!(missing(log.iter().map(String::as_str)), 0);
        assert_eq!(after(&[ask(9, 117), answer(7, 16), ask(7, 120), answer(9, 50)]), 0);
    }

    #[test]
    fn numbers_that_are_skipped_are_no_loss() {
        // A TCP connection, and a question of an unusual kind.
        let log = [ask(8, 17), answer(8, 17), ask(7, 117), answer(7, 117), ask(7, 119)];
        assert_eq!(after(&log), 0);
    }

    #[test]
    fn no_name_and_no_kind_of_question_makes_a_loss() {
        let by = |text: &str| format!("dnsmasq[7]: 30 10.0.0.2/99 {text}");
        for first in [
            "query[A] <name unprintable> from 10.0.0.2",
            "query[A] a b.example from 10.0.0.2",
            "forwarded query to 192.0.2.53",
        ] {
            assert_eq!(after(&[by(first), ask(7, 40), answer(7, 30)]), 0, "{first}");
        }
        // Questions without end, the first of which is answered last.
        let flood = (30..30 + 3 * SEEN as u64).map(|serial| ask(7, serial));
        assert_eq!(after(&flood.chain([answer(7, 30)]).collect::<Vec<_>>()), 0);
    }

    #[test]
    fn a_start_begins_anew() {
        let started = "dnsmasq[7]: started, version 2.90 cachesize 150".to_owned();
        assert_eq!(after(&[ask(7, 20), started, answer(7, 19), ask(7, 1), answer(7, 18)]), 0);
    }
}
