//! Edits of a text, beside a naive model of it.

use super::*;
use proptest::prelude::*;

fn addition(entry: &str) -> Addition {
    Addition { entry: entry.parse().unwrap(), until: None, from: None, force: false, note: None }
}

fn text(bytes: Option<Vec<u8>>) -> String {
    String::from_utf8(bytes.expect("a change")).unwrap()
}

fn add_one(old: &str, addition: Addition) -> (Option<String>, Added) {
    let (new, added) = add(old.as_bytes(), &[addition]);
    assert_eq!(added.len(), 1);
    (new.map(|new| String::from_utf8(new).unwrap()), added[0])
}

#[test]
fn a_new_entry_goes_to_the_end_with_the_line_end_of_the_file() {
    let check = |old: &str, new: &str| {
        assert_eq!(add_one(old, addition("192.0.2.1")), (Some(new.to_owned()), Added::New));
    };
    check("", "192.0.2.1\n");
    check("# c\n", "# c\n192.0.2.1\n");
    check("# c", "# c\n192.0.2.1\n");
    check("a.example\r\nb.example", "a.example\r\nb.example\r\n192.0.2.1\r\n");
    check("\u{feff}", "\u{feff}192.0.2.1\n");
}

#[test]
fn an_entry_keeps_its_line_its_spelling_and_its_comment() {
    let old = "# head\n10.0.0.0-10.255.255.255   # the lab\n*.Evil.example # bad\n?? what\n";
    let mut net = addition("10.0.0.0/8");
    assert_eq!(add_one(old, net.clone()), (None, Added::Unchanged));
    net.until = crate::lists::text::time("2030-01-01T00:00:00Z");
    let (new, added) = add_one(old, net);
    assert_eq!(added, Added::Changed);
    let wanted = "# head\n10.0.0.0-10.255.255.255 until=2030-01-01T00:00:00Z # the lab\n\
                  *.Evil.example # bad\n?? what\n";
    assert_eq!(new.as_deref(), Some(wanted));
    let mut domain = addition("evil.example");
    domain.note = Some("worse\nthan thought".to_owned());
    let (new, _) = add_one(wanted, domain);
    assert!(new.unwrap().contains("*.Evil.example # worse than thought\n?? what\n"));
}

#[test]
fn a_second_line_of_the_same_entry_goes_when_it_is_added_again() {
    let old = "192.0.2.1 # one\n192.0.2.0/24\n192.0.2.1 force # two\n192.0.2.1 from=10.0.0.2\n";
    let (new, added) = add_one(old, addition("192.0.2.1"));
    assert_eq!(added, Added::Unchanged);
    assert_eq!(new.as_deref(), Some("192.0.2.1 # one\n192.0.2.0/24\n192.0.2.1 from=10.0.0.2\n"));
}

#[test]
fn a_line_that_holds_for_one_container_is_another_entry() {
    let old = b"192.0.2.1 from=10.0.0.2 # one\n192.0.2.1 # all\n192.0.2.1 from=10.0.0.3\n";
    let take = |from: Option<&str>| {
        let from = from.map(|from| from.parse().unwrap());
        remove(old, &[Removal { entry: "192.0.2.1".parse().unwrap(), from }])
    };
    let (new, removed) = take(Some("10.0.0.2"));
    assert_eq!(removed, ["192.0.2.1 from=10.0.0.2 # one"]);
    assert_eq!(text(new), "192.0.2.1 # all\n192.0.2.1 from=10.0.0.3\n");
    let (new, removed) = take(None);
    assert_eq!((text(new).as_str(), removed.len()), ("", 3));
}

#[test]
fn a_byte_order_mark_outlives_its_line() {
    let old = "\u{feff}192.0.2.1\n192.0.2.2\n";
    let removal = Removal { entry: "192.0.2.1".parse().unwrap(), from: None };
    assert_eq!(text(remove(old.as_bytes(), &[removal]).0), "\u{feff}192.0.2.2\n");
}

#[test]
fn a_note_is_one_bounded_line() {
    let mut one = addition("192.0.2.1");
    one.note = Some(format!("a\nb\u{1b}{}", "\u{e4}".repeat(5000)));
    let (new, _) = add_one("", one.clone());
    let new = new.unwrap();
    assert!(new.starts_with("192.0.2.1 # a b \u{e4}") && new.len() < LINE_BYTES_MAX, "{new}");
    assert_eq!(add_one(&new, one), (None, Added::Unchanged));
}

/// A small universe, so that random edits meet.
const ENTRIES: [&str; 6] =
    ["192.0.2.1", "192.0.2.0/24", "2001:db8::1", "evil.example", "192.0.2.1-192.0.2.3", "zip"];
/// Lines that no edit may touch.
const OTHERS: [&str; 5] = ["# a comment", "", "   ", "?? what is this", "192.0.2.1 perhaps # bad"];

#[derive(Clone, Debug)]
enum Edit {
    Add(usize, Option<u64>, Option<u8>, Option<&'static str>),
    Remove(usize, Option<u8>),
    Prune(u64),
}

fn edit() -> impl Strategy<Value = Edit> {
    let entry = 0..ENTRIES.len();
    let until = || prop::option::of(1_u64..5);
    let from = || prop::option::of(1_u8..3);
    let note = prop::option::of(prop_oneof![Just("why"), Just("# because"), Just("")]);
    prop_oneof![
        4 => (entry.clone(), until(), from(), note).prop_map(|(e, u, f, n)| Edit::Add(e, u, f, n)),
        2 => (entry, from()).prop_map(|(e, f)| Edit::Remove(e, f)),
        1 => (0_u64..6).prop_map(Edit::Prune),
    ]
}

fn source(from: Option<u8>, entry: &str) -> Option<IpAddr> {
    let single: Option<IpAddr> = entry.parse::<Entry>().unwrap().single();
    // from= goes with single addresses only.
    let from = from.zip(single)?;
    Some(match from.1 {
        IpAddr::V4(_) => IpAddr::from([10, 0, 0, from.0]),
        IpAddr::V6(_) => IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, u16::from(from.0)]),
    })
}

fn seconds(until: u64) -> Wall {
    Wall(until * 1_000_000)
}

/// What a line of the model is: an entry that edits see, or text that nobody may touch.
#[derive(Clone, Debug, PartialEq)]
enum Model {
    Entry { entry: Entry, from: Option<IpAddr>, until: Option<Wall>, note: String },
    Other(String),
}

fn apply(model: &mut Vec<Model>, edit: &Edit) {
    let is = |line: &Model, wanted: &str, wanted_from: Option<IpAddr>| {
        let wanted: Entry = wanted.parse().unwrap();
        matches!(line, Model::Entry { entry, from, .. } if *entry == wanted && *from == wanted_from)
    };
    match edit {
        Edit::Add(place, until, from, note) => {
            let from = source(*from, ENTRIES[*place]);
            let until = until.map(seconds);
            match model.iter_mut().find(|line| is(line, ENTRIES[*place], from)) {
                Some(Model::Entry { until: old_until, note: old_note, .. }) => {
                    *old_until = until;
                    note.iter().for_each(|note| *old_note = (*note).to_owned());
                }
                _ => model.push(Model::Entry {
                    entry: ENTRIES[*place].parse().unwrap(),
                    from,
                    until,
                    note: note.unwrap_or_default().to_owned(),
                }),
            }
        }
        Edit::Remove(place, from) => {
            let one = source(*from, ENTRIES[*place]);
            let entry: Entry = ENTRIES[*place].parse().unwrap();
            model.retain(|line| match line {
                Model::Entry { entry: e, from: f, .. } => *e != entry || (one.is_some() && *f != one),
                Model::Other(_) => true,
            });
        }
        Edit::Prune(now) => model.retain(|line| {
            !matches!(line, Model::Entry { until: Some(until), .. } if *until <= seconds(*now))
        }),
    }
}

fn run(text: Vec<u8>, edit: &Edit) -> Vec<u8> {
    let new = match edit {
        Edit::Add(place, until, from, note) => {
            let mut one = addition(ENTRIES[*place]);
            one.until = until.map(seconds);
            one.from = source(*from, ENTRIES[*place]);
            one.note = note.map(str::to_owned);
            add(&text, &[one]).0
        }
        Edit::Remove(place, from) => {
            let entry: Entry = ENTRIES[*place].parse().unwrap();
            remove(&text, &[Removal { entry, from: source(*from, ENTRIES[*place]) }]).0
        }
        Edit::Prune(now) => prune(&text, seconds(*now)).0,
    };
    new.unwrap_or(text)
}

fn read_back(text: &[u8]) -> Vec<Model> {
    let row = |row: Row<'_>| match row.item {
        Some(item) => Model::Entry {
            entry: item.entry.kept().unwrap(),
            from: item.from,
            until: item.until,
            note: item.note.unwrap_or_default().to_owned(),
        },
        None => Model::Other(String::from_utf8(row.body.to_vec()).unwrap()),
    };
    rows(text).map(row).collect()
}

proptest! {
    #[test]
    fn random_edits_equal_the_model_and_keep_every_other_line(
        start in prop::collection::vec(prop_oneof![
            prop::sample::select(&OTHERS[..]).prop_map(str::to_owned),
            prop::sample::select(&ENTRIES[..]).prop_map(|entry| format!("{entry}  # by hand")),
        ], 0..8),
        edits in prop::collection::vec(edit(), 0..20),
    ) {
        let mut seen = Vec::new();
        // The model has each entry once; what an edit does to doubles is tested above.
        let start: Vec<String> = start.into_iter().filter(|line| {
            let first = line.split(' ').next().unwrap().to_owned();
            let double = ENTRIES.contains(&first.as_str()) && seen.contains(&first) && line.contains("by hand");
            seen.push(first);
            !double
        }).collect();
        let mut text: Vec<u8> = start.iter().flat_map(|line| format!("{line}\n").into_bytes()).collect();
        let mut model = read_back(&text);
        prop_assert_eq!(model.len(), start.len());
        for edit in &edits {
            apply(&mut model, edit);
            text = run(text, edit);
            prop_assert_eq!(&read_back(&text), &model, "after {:?}", edit);
            // The same edit once more changes nothing.
            prop_assert_eq!(&run(text.clone(), edit), &text);
        }
    }

    #[test]
    fn any_bytes_outside_entries_are_kept(
        parts in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..20), 0..8),
    ) {
        let old = parts.join(&b'\n');
        let (new, added) = add(&old, &[addition("203.0.113.77")]);
        prop_assume!(added == [Added::New]);
        let new = new.unwrap();
        prop_assert!(new.starts_with(&old));
        let removal = Removal { entry: "203.0.113.77".parse().unwrap(), from: None };
        let back = remove(&new, &[removal]).0.unwrap();
        prop_assert!(back == old || back == [&old[..], b"\n"].concat() || back == [&old[..], b"\r\n"].concat());
    }
}
