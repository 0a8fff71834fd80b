//! Why the absence of a record proves nothing, in words, and when it does again.

use super::*;
use crate::engine::limits::DELAYS_MIN;

const HOLD: Duration = Duration::from_millis(750);
const SHORT: Duration = Duration::from_millis(60);

fn at(seconds: u64) -> Now {
    Now { mono: Mono(seconds * 1_000_000_000), wall: Wall(1_000_000_000_000 + seconds * 1_000_000) }
}

/// A source that has been up for long and gave a line.
fn source() -> SourceHealth {
    let source = SourceHealth::new("file:/log");
    source.mark_up(at(10).mono);
    source.count(Batch { lines: 1, ..Batch::default() }, at(10));
    source
}

#[track_caller]
fn assert_why(source: &SourceHealth, now: Now, why: &[&str]) {
    assert_eq!(Evidence::gather([source], 0, now, HOLD).why, why);
}

#[test]
fn a_dnsmasq_that_started_anew_is_doubted_for_ten_seconds() {
    let source = source();
    source.count(Batch { lines: 1, starts: 1, ..Batch::default() }, at(20));
    assert_why(&source, at(29), &["file:/log is of a dnsmasq that started anew a moment ago"]);
    assert_why(&source, at(31), &[]);
}

#[test]
fn one_that_says_so_before_it_is_up_again_is_doubted_as_long() {
    let source = source();
    source.mark_down();
    source.count(Batch { lines: 1, starts: 1, ..Batch::default() }, at(20));
    source.mark_up(at(20).mono);
    assert_why(&source, at(29), &["file:/log is of a dnsmasq that started anew a moment ago"]);
    assert_why(&source, at(31), &[]);
}

#[test]
fn a_start_that_is_history_is_no_news() {
    let source = SourceHealth::new("file:/log");
    source.count(Batch { lines: 9, starts: 1, lost: 7, ..Batch::default() }, at(9));
    source.mark_up(at(9).mono);
    assert_why(&source, at(11), &[]);
}

#[test]
fn a_disk_that_takes_no_lines_is_doubted_and_so_is_the_minute_after() {
    let source = source();
    assert!(source.set_disk(Disk::Full, at(20).mono), "news");
    assert!(!source.set_disk(Disk::Full, at(500).mono));
    assert_why(&source, at(500), &["file:/log cannot be written: its disk is full"]);
    assert!(source.set_disk(Disk::ReadOnly, at(501).mono));
    assert_why(&source, at(502), &["file:/log cannot be written: its disk is read-only"]);
    assert!(source.set_disk(Disk::Fine, at(503).mono));
    assert_why(&source, at(504), &["file:/log lost lines within the last minute"]);
    assert!(!source.set_disk(Disk::Fine, at(504).mono));
    assert_why(&source, at(564), &[]);
}

#[test]
fn a_reader_that_must_look_often_and_does_not_is_doubted() {
    let source = source();
    let now = at(60);
    source.looked(at(30).mono);
    assert_why(&source, now, &[]);
    (0..DELAYS_MIN).for_each(|_| source.delays.observe(Duration::from_millis(1), now.mono));
    assert_why(&source, now, &["file:/log was not looked at while the packet waited"]);
    source.looked(now.mono);
    let doubt = |after: u64, hold| source.doubt(now + Duration::from_millis(after), hold);
    assert_eq!(doubt(59, SHORT), None);
    assert!(doubt(61, SHORT).is_some());
    // Of a hold shorter than that it cannot be asked.
    assert_eq!(doubt(40, Duration::from_millis(5)), None);
    assert!(doubt(41, Duration::from_millis(5)).is_some());
}

#[test]
fn each_source_is_told_of_by_itself() {
    let (good, bad) = (source(), SourceHealth::new("journal:dnsmasq.service"));
    (0..5).for_each(|_| good.delays.observe(Duration::from_millis(3), at(20).mono));
    let state = good.state(HOLD, HOLD, at(20));
    assert!(state.up && state.doubt.is_none(), "{state:?}");
    assert_eq!((state.lines, state.last_line_ms, state.bound_us), (1, Some(10_000), 750_000));
    assert_eq!(state.delay.map(|delay| (delay.samples, delay.longest_us)), Some((5, 3_000)));
    let state = bad.state(HOLD, HOLD, at(20));
    assert_eq!((state.up, state.doubt.as_deref()), (false, Some("down")));
    assert_eq!((state.delay, state.last_line_ms), (None, None));
}

#[test]
fn a_clock_that_is_set_back_makes_no_moment_last() {
    let source = SourceHealth::new("test");
    source.mark_up(Mono(1));
    source.count(Batch { lines: 1, starts: 1, lost: 1, ..Batch::default() }, at(20));
    let wall = Wall(at(20).wall.0.saturating_sub(1_000));
    let later = Now { mono: at(200_000).mono, wall };
    assert_eq!(source.doubt(later, Duration::from_millis(50)), None);
}

#[test]
fn one_question_without_an_answer_is_no_silence_and_silence_is_no_doubt() {
    let source = source();
    assert_eq!(source.state(HOLD, HOLD, at(20)).unanswered, None, "nobody asks it");
    let told = [0, 1, 2, 3, 0, 0].map(|questions| {
        let told = source.set_unanswered(questions);
        let state = source.state(HOLD, HOLD, at(20));
        assert_eq!((state.unanswered, state.is_silent()), (Some(questions), questions >= 2));
        told
    });
    assert_eq!(told, [None, None, Some(false), None, Some(true), None]);
    source.set_unanswered(9);
    assert_why(&source, at(20), &[]);
}
