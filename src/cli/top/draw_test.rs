//! What is on the screen, whatever its size.

use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::buffer::Buffer;

use super::super::keys::Key;
use super::super::model::tests::{model, status};
use super::super::work::Outcome;
use super::*;

fn buffer(model: &Model, width: u16, height: u16, colours: bool) -> Buffer {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, model, Wall(10_000_000), colours)).unwrap();
    terminal.backend().buffer().clone()
}

fn screen(model: &Model, width: u16, height: u16) -> String {
    let buffer = buffer(model, width, height, true);
    let line = |y: u16| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
    (0..height).map(|y| line(y).trim_end().to_owned() + "\n").collect()
}

#[test]
fn everything_is_there_in_the_smallest_screen_and_in_a_large_one() {
    for (width, height) in [(80, 24), (120, 40), (200, 60)] {
        let text = screen(&model(), width, height);
        for part in [
            "ENFORCING: rules in the kernel",
            "12 verdicts/s, 6 refused/min, 0.1 held/s; 0 held now",
            "verdicts/s",
            "Containers: 2, by refused",
            "Refusals of late: 3",
            "> 8 s ago     web",
            "203.0.113.2 tcp/443",
            "never-resolved",
            "q quit",
        ] {
            assert!(text.contains(part), "{width}x{height}: {part}\n{text}");
        }
    }
}

#[test]
fn the_first_line_is_whole_in_a_narrow_terminal() {
    let text = screen(&model(), 40, 24);
    let first: Vec<&str> = text.lines().take(2).flat_map(str::split_whitespace).collect();
    let whole = "ENFORCING: rules in the kernel, queue served, no canary, unchanged by others";
    assert_eq!(first.join(" "), whole, "{text}");
}

#[test]
fn a_dry_run_shows_nothing_as_refused() {
    let mut model = model();
    let mut dry = status(&[("db", 1)], &[("db", "203.0.113.1")]);
    dry.mode = crate::engine::Mode::DryRun;
    dry.containers[0].judged = false;
    model.hear(Outcome::Status(Ok(Box::new(dry))));
    let text = screen(&model, 80, 24);
    for part in ["would be refused 6/min", "Would be refused of late: 1", "not judged"] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn no_size_is_too_small_to_be_drawn() {
    let mut model = model();
    for popup in ["", "?", "a", "e"] {
        popup.chars().for_each(|key| drop(model.press(Key::Char(key))));
        for (width, height) in [(1, 1), (10, 3), (40, 8), (79, 23)] {
            buffer(&model, width, height, true);
        }
        model.popup = None;
    }
}

#[test]
fn faults_and_a_daemon_that_is_gone_come_first() {
    let mut model = model();
    let mut faulty = status(&[], &[]);
    faulty.faults = vec!["file:/log\u{1b}[2J is down".to_owned(); 5];
    model.hear(Outcome::Status(Ok(Box::new(faulty))));
    let text = screen(&model, 80, 24);
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].starts_with("ENFORCING, BUT 5 THINGS ARE WRONG"), "{text}");
    assert_eq!(lines[2], "! file:/log [2J is down");
    assert!(lines[5].starts_with("! and 2 more"), "{text}");
    assert!(text.contains("(none known)"), "{text}");
    model.hear(Outcome::Status(Err("nobody listens on /s".into())));
    let text = screen(&model, 80, 24);
    assert!(text.starts_with("DAEMON GONE, retrying: nobody listens on /s"), "{text}");
}

#[test]
fn a_question_says_what_will_be_written() {
    let mut model = model();
    model.press(Key::Char('b'));
    let text = screen(&model, 80, 24);
    assert!(text.contains("Refuse 203.0.113.1 to every container"), "{text}");
    assert!(text.contains("`203.0.113.1` into block.txt"), "{text}");
    assert!(text.contains("y/N") && text.contains("`synhold block 203.0.113.1`"), "{text}");
}

#[test]
fn without_colours_nothing_is_coloured_and_the_selection_still_shows() {
    let coloured = |colours: bool| {
        let buffer = buffer(&model(), 80, 24, colours);
        let plain =
            |cell: &&ratatui::buffer::Cell| cell.fg == Color::Reset && cell.bg == Color::Reset;
        buffer.content().iter().filter(|cell| !plain(cell)).count()
    };
    assert!(coloured(true) > 0);
    assert_eq!(coloured(false), 0);
    let buffer = buffer(&model(), 80, 24, false);
    assert!(buffer.content().iter().any(|cell| cell.modifier.contains(Modifier::REVERSED)));
}

#[test]
fn a_name_that_a_terminal_would_obey_does_not_reach_it() {
    let mut model = model();
    let odd = status(&[("\u{1b}[31mweb\u{7}", 1)], &[("\u{9b}2Jdb", "203.0.113.1")]);
    model.hear(Outcome::Status(Ok(Box::new(odd))));
    let buffer = buffer(&model, 120, 40, true);
    let raw = buffer.content().iter().any(|cell| cell.symbol().chars().any(char::is_control));
    assert!(!raw && screen(&model, 120, 40).contains("[31mweb"));
}
