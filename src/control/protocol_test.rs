//! Questions and faults on their lines.

use super::*;
use proptest::prelude::*;

fn kind(line: &str) -> FaultKind {
    parse(line.as_bytes()).unwrap_err().kind
}

#[test]
fn every_question_is_read_as_it_is_written() {
    let container = Some("web".to_owned());
    for question in [
        Question::Daemon {},
        Question::Status {},
        Question::Explain { address: "192.0.2.1".parse().unwrap(), container: None },
        Question::Explain { address: "2001:db8::1".parse().unwrap(), container: container.clone() },
        Question::Containers { container: container.clone() },
        Question::RegistryStats {},
        Question::RegistryLookup { what: "a.example".to_owned(), container },
        Question::Sets {},
        Question::SetsShow { name: "block".to_owned(), limit: 7, within: None },
        Question::SetsShow { name: "".to_owned(), limit: 0, within: Some("::/0".to_owned()) },
        Question::SetsTest {
            address: "192.0.2.1".parse().unwrap(),
            from: "172.17.0.2".parse().ok(),
        },
        Question::SetsTest { address: "2001:db8::1".parse().unwrap(), from: None },
        Question::ListsLookup { name: Name::new("a.example").unwrap() },
        Question::RegistryFlush {},
        Question::RegistryForget { what: "192.0.2.1".to_owned() },
        Question::RegistryImport { registry: serde_json::json!({ "192.0.2.1": ["a"] }) },
        Question::Events(EventsAsked::default()),
        Question::Events(EventsAsked {
            last: Some(7),
            follow: true,
            only: vec!["verdict".to_owned()],
            container: Some("web".to_owned()),
            refused: true,
        }),
        Question::Block {
            entries: vec!["203.0.113.0/24".to_owned()],
            container: None,
            time: Some("1h".to_owned()),
            note: Some("why".to_owned()),
            force: true,
        },
        Question::Unblock { entries: Vec::new(), container: Some("web".to_owned()) },
        Question::Allow {
            entries: vec!["a.example".to_owned()],
            time: Some("30d".to_owned()),
            note: None,
        },
        Question::Unallow { entries: vec!["a.example".to_owned()] },
    ] {
        let line = question_line(&question);
        assert!(line.ends_with(b"}\n"));
        assert_eq!(parse(&line), Ok(question));
    }
    assert_eq!(parse(br#"{"v":1,"ask":"status"}"#), Ok(Question::Status {}));
}

#[test]
fn what_is_no_question_is_told_apart() {
    assert_eq!(kind(""), FaultKind::Malformed);
    assert_eq!(kind("[]"), FaultKind::Malformed);
    assert_eq!(kind("{}"), FaultKind::Malformed);
    assert_eq!(kind(r#"{"v":1}"#), FaultKind::Malformed);
    assert_eq!(kind(r#"{"v":2,"ask":"status"}"#), FaultKind::UnknownVersion);
    assert_eq!(kind(r#"{"v":"1","ask":"status"}"#), FaultKind::UnknownVersion);
    assert_eq!(kind(r#"{"v":1,"ask":"reboot"}"#), FaultKind::UnknownQuestion);
    assert_eq!(kind(r#"{"v":1,"ask":7}"#), FaultKind::UnknownQuestion);
    assert_eq!(kind(r#"{"v":1,"ask":"explain"}"#), FaultKind::Malformed);
    assert_eq!(kind(r#"{"v":1,"ask":"explain","address":"x"}"#), FaultKind::Malformed);
    let fault = parse(br#"{"v":1,"ask":"reboot"}"#).unwrap_err();
    assert!(fault.message.contains("daemon, status, explain, containers"), "{fault}");
}

#[test]
fn a_field_that_does_not_belong_to_the_question_is_named() {
    for question in [
        r#""daemon""#,
        r#""status""#,
        r#""containers""#,
        r#""explain","address":"192.0.2.1""#,
        r#""events""#,
        r#""sets""#,
        r#""sets-show","name":"block","limit":1"#,
        r#""sets-test","address":"192.0.2.1""#,
        r#""lists-lookup","name":"a.example""#,
        r#""unblock""#,
    ] {
        let line = format!(r#"{{"v":1,"ask":{question},"contaner":"web"}}"#);
        let fault = parse(line.as_bytes()).unwrap_err();
        assert_eq!(fault.kind, FaultKind::Malformed, "{question}");
        assert!(fault.message.starts_with("unknown field `contaner`, "), "{fault}");
    }
}

#[test]
fn a_name_that_is_none_is_no_question() {
    for name in ["", "a b", &"a".repeat(254)] {
        let line = serde_json::json!({ "v": 1, "ask": "lists-lookup", "name": name });
        assert_eq!(kind(&line.to_string()), FaultKind::Malformed, "{name}");
    }
}

#[test]
fn members_may_ask_for_sets_and_lists_and_wait_for_the_answers() {
    for line in [
        r#"{"v":1,"ask":"sets"}"#,
        r#"{"v":1,"ask":"sets-show","name":"block4","limit":1}"#,
        r#"{"v":1,"ask":"sets-test","address":"192.0.2.1"}"#,
        r#"{"v":1,"ask":"lists-lookup","name":"a.example"}"#,
        r#"{"v":1,"ask":"registry-lookup","what":"a.example"}"#,
    ] {
        let question = parse(line.as_bytes()).unwrap();
        assert!(!question.changes() && question.takes_time() && !question.follows(), "{line}");
    }
}

#[test]
fn a_fault_repeats_little_and_nesting_overflows_nothing() {
    let long = format!(r#"{{"v":1,"ask":"{}"}}"#, "x".repeat(60_000));
    assert!(parse(long.as_bytes()).unwrap_err().message.len() < 300);
    assert_eq!(kind(&"[".repeat(QUESTION_BYTES_MAX)), FaultKind::Malformed);
    let deep = format!(r#"{{"v":1,"ask":{}"#, "{\"a\":".repeat(10_000));
    assert_eq!(kind(&deep), FaultKind::Malformed);
}

#[test]
fn an_answer_that_is_too_long_is_a_fault() {
    let reply = answer_line(Ok(Value::String("x".repeat(ANSWER_BYTES_MAX))));
    let reply: Reply = serde_json::from_slice(&reply).unwrap();
    assert_eq!(reply.error.unwrap().kind, FaultKind::Failed);
}

proptest! {
    #[test]
    fn any_bytes_are_a_question_or_a_fault_of_a_few_bytes(bytes in prop::collection::vec(any::<u8>(), 0..512)) {
        if let Err(fault) = parse(&bytes) {
            prop_assert!(fault.message.len() < 1000);
            prop_assert!(!answer_line(Err(fault)).strip_suffix(b"\n").unwrap().contains(&b'\n'));
        }
    }

    #[test]
    fn a_question_with_bytes_changed_is_a_question_or_a_fault(
        place in 0_usize..70, byte in any::<u8>(), cut in 0_usize..70,
    ) {
        let container = Some("web-1".to_owned());
        let address = "203.0.113.9".parse().unwrap();
        let mut line = question_line(&Question::Explain { address, container });
        if let Some(old) = line.get_mut(place) {
            *old = byte;
        }
        line.truncate(line.len().saturating_sub(cut));
        if let Ok(question) = parse(&line) {
            // Whatever was understood is understood again.
            prop_assert_eq!(parse(&question_line(&question)), Ok(question));
        }
    }
}
