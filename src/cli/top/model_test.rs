//! What keys do to what is shown and selected.

use serde_json::json;

use super::super::keys::{Action, Job, Key};
use super::*;

/// A status with these containers (name, refused) and these refusals (container, destination).
pub fn status(containers: &[(&str, u64)], refusals: &[(&str, &str)]) -> Status {
    let policy = json!({"mode": "enforce", "scope": "global", "hold_ms": 750, "refuse": "reset",
        "allow": [], "origins": {}, "faults": []});
    let container = |(name, refused): &(&str, u64)| {
        json!({"name": name, "id": format!("id-{name}"), "image": "nginx", "policy": policy, "quarantined": false,
            "addresses": ["172.17.0.2"], "networks": [], "gaps": [], "accepted": 1, "held": 0,
            "refused": refused, "last_refusal": null})
    };
    let refusal = |(container, dst): &(&str, &str)| {
        json!({"first": "1970-01-01T00:00:01.000000Z", "last": "1970-01-01T00:00:02.000000Z", "count": 3,
            "container": container, "src": "172.17.0.2", "dst": dst, "port": 443, "proto": "tcp",
            "reason": "never-resolved", "names": ["a.example"], "enforced": true})
    };
    serde_json::from_value(json!({
        "daemon": {"pid": 7, "version": "0.1.0", "state_dir": "/s", "memory_only": false, "netns": 1,
            "since": "1970-01-01T00:00:00.000000Z"},
        "enforcing": true, "mode": "enforce", "posture": "closed", "rules": "enforcing",
        "queues": [{"number": 0, "served": true, "waiting": 0, "dropped_full": 0, "dropped_unread": 0}],
        "rates": {"short": {"over_ms": 10000, "verdicts": 120, "refused": 1, "held": 1},
            "long": {"over_ms": 60000, "verdicts": 120, "refused": 1, "held": 1}, "each_second": [1, 2, 3, 9]},
        "evidence": {"healthy": true, "records": 5, "lag_us": 0, "lines": 9, "skipped": 0, "lost": 0,
            "last_line_ms": 4000},
        "held_now": 0, "totals": crate::engine::event::Totals::default(),
        "docker": {"state": "off", "what": "", "since": "1970-01-01T00:00:01.000000Z"},
        "containers": containers.iter().map(container).collect::<Vec<_>>(), "left_out": 0,
        "refusals": refusals.iter().map(refusal).collect::<Vec<_>>()
    }))
    .unwrap()
}

const DEAD: [(&str, &str); 3] =
    [("web", "203.0.113.1"), ("db", "203.0.113.2"), ("web", "203.0.113.3")];

pub fn model() -> Model {
    let mut model = Model::new(true);
    hear(&mut model, &DEAD);
    model
}

fn hear(model: &mut Model, refusals: &[(&str, &str)]) {
    let status = status(&[("db", 1), ("web", 5)], refusals);
    model.hear(Outcome::Status(Ok(Box::new(status))));
}

fn press(model: &mut Model, keys: &str) -> Action {
    keys.chars().map(|c| model.press(Key::Char(c))).last().unwrap()
}

fn selected(model: &Model) -> (String, String) {
    let (address, container) = model.selected();
    (address.unwrap().to_string(), container.unwrap())
}

#[test]
fn what_is_selected_stays_selected_where_it_goes() {
    let mut model = model();
    press(&mut model, "j");
    assert_eq!(selected(&model), ("203.0.113.2".into(), "db".into()));
    hear(&mut model, &[("new", "203.0.113.9"), DEAD[0], DEAD[1]]);
    assert_eq!(selected(&model), ("203.0.113.2".into(), "db".into()));
    hear(&mut model, &DEAD[..1]);
    assert_eq!(selected(&model), ("203.0.113.1".into(), "web".into()), "it is gone");
    hear(&mut model, &[]);
    assert_eq!(model.selected(), (None, None));
    assert_eq!(press(&mut model, "e"), Action::None);
    assert!(model.note.is_some() && model.popup.is_none());
}

#[test]
fn moving_stops_at_both_ends() {
    let mut model = model();
    for (key, row) in [
        (Key::Up, 0),
        (Key::End, 2),
        (Key::Down, 2),
        (Key::PageUp, 0),
        (Key::PageDown, 2),
        (Key::Home, 0),
    ] {
        model.press(key);
        assert_eq!(model.row(Pane::Refusals), Some(row), "{key:?}");
    }
}

#[test]
fn nothing_changes_without_a_yes() {
    for key in [Key::Char('n'), Key::Escape, Key::Enter, Key::Char('q'), Key::Char('x')] {
        let mut model = model();
        press(&mut model, "a");
        assert!(matches!(model.popup, Some(Popup::Question(Change::Allow(_)))), "{key:?}");
        assert_eq!(model.press(key), Action::None, "{key:?}");
        assert!(model.popup.is_none() && model.note.as_deref() == Some("nothing was changed"));
    }
    let mut model = model();
    let to = "203.0.113.1".parse().unwrap();
    let changes = [Change::Allow(to), Change::Block(to), Change::Quarantine("web".into())];
    for (key, change) in ["ay", "bY", "Qy"].into_iter().zip(changes) {
        assert!(!change.question()[0].contains("to web"), "it is from it");
        assert_eq!(press(&mut model, key), Action::Ask(Job::Change(change.clone())), "{key}");
        let (title, lines) = (change.command(), vec!["done\u{1b}[2J".to_owned()]);
        model.hear(Outcome::Text { title, lines });
        let Some(Popup::Text { lines, .. }) = &model.popup else { panic!("{:?}", model.popup) };
        assert_eq!(lines, &["done [2J"]);
        model.press(Key::Escape);
    }
}

#[test]
fn who_is_not_root_is_told_the_command_instead() {
    let mut model = Model { may_change: false, ..model() };
    assert_eq!(press(&mut model, "a"), Action::None);
    let note = model.note.as_deref().unwrap();
    assert!(note.contains("root") && note.contains("sudo synhold allow 203.0.113.1"), "{note}");
    assert!(model.popup.is_none());
    assert!(matches!(press(&mut model, "e"), Action::Ask(Job::Explain { .. })));
}

#[test]
fn a_filter_takes_letters_that_are_keys_elsewhere() {
    let mut model = model();
    press(&mut model, "/db");
    assert_eq!((model.refusals().len(), model.containers().len()), (1, 1));
    assert_eq!(press(&mut model, "q"), Action::None, "a letter");
    assert_eq!(model.refusals().len(), 0);
    model.press(Key::Backspace);
    model.press(Key::Enter);
    assert_eq!(selected(&model), ("203.0.113.2".into(), "db".into()));
    assert_eq!(model.press(Key::Escape), Action::None, "it takes the filter away");
    assert_eq!(model.refusals().len(), 3);
    assert_eq!(model.press(Key::Escape), Action::Quit);
    assert_eq!(model.press(Key::Interrupt), Action::Quit);
}

#[test]
fn containers_are_sorted_by_what_s_says() {
    let mut model = model();
    let names = |model: &Model| -> Vec<String> {
        model.containers().iter().map(|one| one.name.clone()).collect()
    };
    assert_eq!(names(&model), ["web", "db"], "most refused first");
    model.sort = Sort::Last;
    press(&mut model, "s");
    assert_eq!((model.sort, names(&model)), (Sort::Name, vec!["db".into(), "web".into()]));
    model.press(Key::Tab);
    press(&mut model, "Q");
    let still = Change::Quarantine("web".into());
    assert_eq!(model.popup, Some(Popup::Question(still)), "it was selected all the time");
}

#[test]
fn an_answer_nobody_waits_for_does_not_interrupt() {
    let mut model = model();
    press(&mut model, "e");
    model.press(Key::Escape);
    model.hear(Outcome::Text { title: "t".into(), lines: vec!["late".into()] });
    assert_eq!((model.popup.as_ref(), model.note.as_deref()), (None, Some("late")));
    model.hear(Outcome::Status(Err("nobody listens".into())));
    assert_eq!(model.gone.as_deref(), Some("nobody listens"));
    assert_eq!(model.refusals().len(), 3, "what was heard last is still shown");
}
