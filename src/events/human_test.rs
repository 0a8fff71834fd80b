//! Lines for people, word by word.

use super::super::tests::verdict;
use super::*;

/// What whoever reads at this level is shown of it.
fn at(event: &Event, most: LevelFilter) -> Option<String> {
    let mut line = Vec::new();
    append_human(&mut line, event, most).then(|| String::from_utf8(line).unwrap())
}

fn line(event: &Event) -> String {
    let level = LevelFilter::from_level(kind(&event.body).0);
    at(event, level).expect("its own level shows it")
}

#[test]
fn an_accepted_flow_names_its_destination() {
    assert_eq!(
        line(&verdict(
            Verdict::Accept,
            Reason::Resolved,
            Mode::Enforce,
            &["a.example", "b.example"]
        )),
        "[2026-01-02T03:04:05.678901Z] DEBUG: 🔍 tcp 172.25.0.2:40112 → 203.0.113.9:443 accepted: a.example +1 more\n\
         [2026-01-02T03:04:05.678901Z] DEBUG: ↳ 203.0.113.9 is a.example, b.example"
    );
}

#[test]
fn a_refusal_carries_its_proof() {
    assert_eq!(
        line(&verdict(Verdict::Drop, Reason::NeverResolved, Mode::Enforce, &[])),
        "[2026-01-02T03:04:05.678901Z] WARN: 🚨 tcp 172.25.0.2:40112 → 203.0.113.9:443 refused (never-resolved): \
         nobody resolved this address; held 750 ms; evidence healthy, 1234 addresses known"
    );
}

#[test]
fn a_dry_run_speaks_of_what_would_be() {
    let line = line(&verdict(Verdict::Drop, Reason::NeverResolved, Mode::DryRun, &[]));
    assert!(line.contains("443 would be refused (never-resolved)"), "{line}");
}

#[test]
fn what_strangers_write_is_one_line_in_its_order() {
    let mut event = verdict(Verdict::Drop, Reason::NeverResolved, Mode::Enforce, &[]);
    let Body::Verdict(body) = &mut event.body else { unreachable!() };
    body.container = Some("web\n[2026] WARN: \u{1b}[2J\u{202e}".into());
    let line = line(&event);
    assert!(line.contains("tcp web [2026] WARN:  [2J  172.25.0.2:40112"), "{line}");
    assert!(!line.contains(['\n', '\u{1b}', '\u{202e}']), "{line}");
}

#[test]
fn a_set_hit_names_list_entry_and_comment() {
    let block = BlockBody {
        mode: Mode::Enforce,
        enforced: true,
        set: "block4".to_owned(),
        container: None,
        container_id: None,
        src: "172.25.0.2".parse().unwrap(),
        dst: "203.0.113.9".parse().unwrap(),
        count: 3,
        list: Some("drop".to_owned()),
        entry: Some("203.0.113.0/24".to_owned()),
        note: Some("SBL1".to_owned()),
        names: Vec::new(),
    };
    let text = |block: &BlockBody| {
        line(&Event { time: crate::engine::Wall(0), body: Body::Block(block.clone()) })
    };
    let told = text(&block);
    assert!(told.ends_with(
        "WARN: 🚫 172.25.0.2 → 203.0.113.9 refused by the kernel, 3 packets: list drop has 203.0.113.0/24 (SBL1)"
    ), "{told}");
    let forged = BlockBody { set: "spoofs4".to_owned(), list: None, note: None, ..block.clone() };
    let told = text(&forged);
    assert!(told.ends_with("3 packets: forged source, none that belongs on its bridge"), "{told}");
    let told = text(&BlockBody { list: None, note: None, enforced: false, count: 1, ..block });
    assert!(
        told.ends_with("would be refused by the kernel, 1 packet: set block4 has it"),
        "{told}"
    );
}

#[test]
fn a_change_tells_who_asked_for_it_and_is_one_line_whatever_they_call_themselves() {
    let asked = AskedBody {
        uid: 1000,
        pid: Some(77),
        command: Some("top\u{1b}[2J\nx".to_owned()),
        entries: vec!["203.0.113.7".to_owned(), "evil\u{202e}.example".to_owned()],
        more: 5,
        outcome: Outcome::InForce,
        detail: Some("open flows ended: 0".to_owned()),
    };
    let told = |asked: AskedBody| {
        let body = Body::Reload(Reload { what: "block".into(), lists: None, asked: Some(asked) });
        line(&Event { time: Wall(0), body })
    };
    let said = told(asked.clone());
    assert!(
        said.ends_with(
            "block 203.0.113.7, evil .example and 5 more, asked for by uid 1000 (process 77, top [2J x): in force, \
             open flows ended: 0"
        ),
        "{said}"
    );
    assert!(said.contains("] INFO: "), "{said}");
    let failed = AskedBody { outcome: Outcome::Failed, pid: None, detail: None, ..asked };
    let said = told(failed);
    assert!(said.contains("] WARN: ") && said.ends_with("asked for by uid 1000: FAILED"), "{said}");
}

#[test]
fn durations_read_well() {
    assert_eq!([80, 1_290, 750_113].map(duration), ["80 us", "1.2 ms", "750 ms"]);
}

#[test]
fn flows_in_order_are_told_by_name_to_those_who_ask_for_it() {
    let accepted = verdict(Verdict::Accept, Reason::Resolved, Mode::Enforce, &["a.example"]);
    assert_eq!(at(&accepted, LevelFilter::INFO), None);
    let names = ["a.example", "b.example"];
    let stale = verdict(Verdict::Drop, Reason::Stale, Mode::Enforce, &names);
    let told = at(&stale, LevelFilter::INFO).unwrap();
    assert!(told.contains("WARN: ⚠️ tcp") && !told.contains('\n'), "{told}");
    assert_eq!(at(&stale, LevelFilter::ERROR), None);
    let told = at(&stale, LevelFilter::DEBUG).unwrap();
    assert!(told.ends_with("DEBUG: ↳ 203.0.113.9 is a.example, b.example"), "{told}");
    let exempt = line(&verdict(Verdict::Accept, Reason::Exempt, Mode::Enforce, &[]));
    assert!(exempt.contains("DEBUG: 🔓 tcp"), "{exempt}");
}

#[test]
fn a_minute_is_summed_up() {
    let counts =
        |mode| Counts { time: Wall(0), mode, accepted: 12, refused: 1, held: 3, released: 2 };
    let told = |mode| {
        let mut line = Vec::new();
        append_counts(&mut line, &counts(mode));
        String::from_utf8(line).unwrap()
    };
    assert_eq!(
        told(Mode::Enforce),
        "[1970-01-01T00:00:00.000000Z] INFO: 📊 in the last minute 12 accepted, 1 refused, 3 held of which 2 released"
    );
    assert!(told(Mode::DryRun).contains("1 would have been refused, 3 would have been held"));
}
