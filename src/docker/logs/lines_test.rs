//! Tests of what a log request's answer is cut into.

use proptest::prelude::*;

use super::*;

const AT: &str = "2026-11-22T04:37:57.221562074Z";

fn frame(stream: u8, text: impl AsRef<[u8]>) -> Vec<u8> {
    let text = text.as_ref();
    let mut frame = vec![stream, 0, 0, 0];
    frame.extend_from_slice(&u32::try_from(text.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(text);
    frame
}

type Read = Result<String, Skip>;

fn feed(lines: &mut Lines, bytes: &[u8]) -> (Vec<Read>, Result<(), Broken>) {
    let mut out = Vec::new();
    let ended = lines.feed(bytes, &mut |stamp, line| {
        assert_eq!(stamp.is_none(), line == Err(Skip::Malformed), "{line:?}");
        out.push(line.map(|line| String::from_utf8_lossy(line).into_owned()));
    });
    (out, ended)
}

fn all(terminal: bool, bytes: &[u8]) -> Vec<Read> {
    let (out, ended) = feed(&mut Lines::new(terminal), bytes);
    assert_eq!(ended, Ok(()));
    out
}

fn read(texts: &[&str]) -> Vec<Read> {
    texts.iter().map(|text| Ok((*text).to_owned())).collect()
}

#[test]
fn both_streams_give_their_lines_in_the_order_of_the_log() {
    let log = [
        frame(2, format!("{AT} dnsmasq[1]: one\n")),
        frame(1, format!("{AT} two\n")),
        frame(1, ""),
        frame(2, format!("{AT} \n")),
        frame(1, format!("{AT} last words")),
        frame(1, format!("{AT} next run\r\n")),
    ];
    let texts = ["dnsmasq[1]: one", "two", "", "last words", "next run"];
    assert_eq!(all(false, &log.concat()), read(&texts));
}

#[test]
fn a_line_that_docker_cut_is_too_long_once_and_hides_nothing_of_the_other_stream() {
    let piece = "x".repeat(16 << 10);
    let log = [
        frame(1, format!("{AT} {piece}")),
        frame(2, format!("{AT} other\n")),
        frame(1, format!("{AT} {piece}")),
        frame(1, format!("{AT} reply evil.example is 192.0.2.1\n")),
        frame(1, format!("{AT} next\n")),
        frame(1, format!("{AT} {}\n", "y".repeat(1 << 20))),
        frame(1, format!("{AT} end\n")),
    ];
    let out = all(false, &log.concat());
    let long = || Err(Skip::TooLong);
    let ok = |text: &str| Ok(text.to_owned());
    assert_eq!(out, [long(), ok("other"), ok("next"), long(), ok("end")]);
}

#[test]
fn a_terminal_has_no_frames() {
    let piece = format!("{AT} {}", "x".repeat(16 << 10));
    let log = format!("{AT} one\r\n{piece}{piece}{piece}\r\n{AT} two\r\nnot stamped\r\n{AT} unfin");
    let mut lines = Lines::new(true);
    let (out, _) = feed(&mut lines, log.as_bytes());
    let ok = |text: &str| Ok(text.to_owned());
    assert_eq!(out, [ok("one"), Err(Skip::TooLong), ok("two"), Err(Skip::Malformed)]);
    assert_eq!(feed(&mut lines, b"ished\r\n").0, read(&["unfinished"]));
}

#[test]
fn the_engines_own_words_and_what_is_no_frame_end_the_log() {
    let mut lines = Lines::new(false);
    let (_, ended) = feed(&mut lines, &frame(3, "Error grabbing logs: no such file\n"));
    assert_eq!(ended, Err(Broken::Engine("Error grabbing logs: no such file".to_owned())));
    for stream in [0, 4, b'2', 255] {
        let (_, ended) = feed(&mut Lines::new(false), &frame(stream, "x"));
        assert_eq!(ended, Err(Broken::Stream(stream)));
    }
}

#[test]
fn a_frame_of_any_length_takes_bounded_memory() {
    let mut frames = Frames::default();
    let mut none = |_: Option<Stamp>, _: Result<&[u8], Skip>| panic!("no line yet");
    frames.feed(&[1, 0, 0, 0, 255, 255, 255, 255], &mut none).unwrap();
    for _ in 0..100 {
        frames.feed(&[b'x'; 64 << 10], &mut none).unwrap();
    }
    assert!(frames.message.capacity() <= 2 * MESSAGE_BYTES_MAX);
    let mut terminal = Terminal::default();
    terminal.feed(&vec![b'x'; 10 << 20], &mut none);
    assert!(terminal.line.capacity() <= 4 * LINE_BYTES_MAX);
}

proptest! {
    #[test]
    fn cutting_the_answer_anywhere_gives_the_same_lines(
        messages in prop::collection::vec((1u8..3, "[a-z ]{0,9}\n?|\\PC{0,4}\n", 0usize..3), 0..12),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..8),
        terminal in any::<bool>(),
    ) {
        let mut log = Vec::new();
        for (stream, text, long) in messages {
            let text = format!("{AT} {}{text}", "x".repeat(long * 1_100));
            log.extend(if terminal { text.into_bytes() } else { frame(stream, text) });
        }
        let whole = all(terminal, &log);
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(log.len() + 1)).collect();
        cuts.sort_unstable();
        let (mut lines, mut parts, mut from) = (Lines::new(terminal), Vec::new(), 0);
        for cut in cuts.into_iter().chain([log.len()]) {
            parts.extend(feed(&mut lines, &log[from..cut]).0);
            from = cut;
        }
        prop_assert_eq!(parts, whole);
    }

    #[test]
    fn garbage_is_an_error_at_the_most(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        for terminal in [true, false] {
            let _ = Lines::new(terminal).feed(&bytes, &mut |_, _| {});
        }
    }
}
