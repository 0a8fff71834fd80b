//! The marks, as they are left and found again.

use std::path::{Path, PathBuf};

use super::*;

fn marks(folder: &Path, name: &str) -> Marks {
    let of = |of: Of| Mark::load(of, name, small(folder.join(of.file(name))), true);
    Marks(vec![of(Of::Container), of(Of::Unit)])
}

fn small(path: PathBuf) -> Small {
    Small::new(path, FILE_BYTES_MAX, true)
}

const HOUR: u64 = 3_600_000_000;
const NOW: Wall = Wall(495_000 * HOUR);

#[test]
fn the_first_start_reads_history_and_later_ones_go_on() {
    let folder = tempfile::tempdir().unwrap();
    let first = marks(folder.path(), "dns");
    assert_eq!(first.since(Of::Container, "dns", NOW), Wall(NOW.0 - 48 * HOUR));
    let read = NOW.0 - HOUR + 17;
    first.0[0].read.store(read, Ordering::Release);
    first.save(&first.reached());
    let again = marks(folder.path(), "dns");
    assert_eq!(again.since(Of::Container, "dns", NOW), Wall(read - 10_000_000));
    assert_eq!(
        marks(folder.path(), "other").since(Of::Container, "other", NOW),
        Wall(NOW.0 - 48 * HOUR)
    );
    assert_eq!(
        again.since(Of::Container, "dns", Wall(read - 1)),
        Wall(read - 1 - 48 * HOUR),
        "set back"
    );
}

#[test]
fn only_what_the_saved_registry_holds_is_marked() {
    let folder = tempfile::tempdir().unwrap();
    let marks = marks(folder.path(), "dns");
    marks.0[0].read.store(NOW.0, Ordering::Release);
    let reached = marks.reached();
    marks.0[0].read.store(NOW.0 + HOUR, Ordering::Release);
    marks.save(&reached);
    let left = small(folder.path().join("dns-docker-dns.json")).read(Saved::place).unwrap();
    assert_eq!(left, Some(journal::Place { cursor: String::new(), at: NOW }));
}

#[test]
fn a_damaged_mark_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let file = small(folder.path().join("mark"));
    let long =
        format!("{{\"version\":1,{}\"read_until\":\"2026-01-01T00:00:00Z\"}}", " ".repeat(5_000));
    for text in [
        "",
        "{",
        "7",
        "{\"version\":2,\"read_until\":\"2026-01-01T00:00:00Z\"}",
        "{\"version\":1,\"read_until\":\"yesterday\"}",
        "{\"version\":1,\"read_until\":\"1960-01-01T00:00:00Z\"}",
        &long,
    ] {
        std::fs::write(file.path(), text).unwrap();
        assert!(file.read(Saved::place).is_err(), "{text}");
    }
}

#[test]
fn a_journal_goes_on_at_its_time_and_at_its_cursor_where_the_clock_was_set_back() {
    let folder = tempfile::tempdir().unwrap();
    let first = marks(folder.path(), "dnsmasq.service");
    let history = journal::Left::Since(Wall(NOW.0 - 48 * HOUR));
    assert_eq!(first.left("dnsmasq.service", NOW), history);
    let place = journal::Place { cursor: "s=1;i=2f".to_owned(), at: NOW };
    first.0[1].set(&place);
    first.save(&first.reached());
    let again = marks(folder.path(), "dnsmasq.service");
    assert_eq!(
        again.left("dnsmasq.service", Wall(NOW.0 + 1)),
        journal::Left::Since(Wall(NOW.0 - 10_000_000))
    );
    assert_eq!(again.left("dnsmasq.service", Wall(NOW.0 - 1)), journal::Left::At(place.cursor));
    assert_eq!(again.since(Of::Container, "dnsmasq.service", NOW), Wall(NOW.0 - 48 * HOUR));

    // What is no cursor never becomes an argument.
    let odd = journal::Place { cursor: "s=1 --file=/x".to_owned(), at: NOW };
    first.0[1].set(&odd);
    let early = Wall(NOW.0 - HOUR);
    let history = journal::Left::Since(Wall(early.0 - 48 * HOUR));
    assert_eq!(first.left("dnsmasq.service", early), history);
}
