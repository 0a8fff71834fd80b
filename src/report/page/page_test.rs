//! The page by its text: nothing of strangers becomes markup, nothing is fetched.

use super::*;

fn finding(container: &str, count: u64) -> Finding {
    Finding {
        container: container.to_owned(),
        destination: "tcp 203.0.113.9:443".to_owned(),
        network: "203.0.0.0/16".to_owned(),
        refused: count,
        would_refuse: 1,
        first: Some(Wall(1_795_000_000_000_000)),
        last: Some(Wall(1_795_000_100_000_000)),
        reason: "never-resolved",
        names: vec!["<img src=//evil.example/x>".to_owned()],
        proof: "held 750 ms".to_owned(),
        view: View::Confirmed,
        why: "\" onmouseover=alert(1)".to_owned(),
        proposed: "keep".to_owned(),
    }
}

#[test]
fn an_address_is_not_broken() {
    let findings = vec![finding("172.17.0.2", 3), finding("web", 2)];
    let html = render(&Page { findings, ..Page::default() });
    assert!(html.contains("<b class=\"address\">172.17.0.2") && html.contains("<b>web"), "{html}");
    assert!(html.contains("<code class=\"address\">tcp 203"), "{html}");
}

#[test]
fn what_strangers_write_is_text_and_nothing_is_fetched() {
    let page = Page {
        findings: vec![finding("<script>alert(1)</script>", 3), finding("web", 2)],
        hours: [((498_611, "never-resolved"), 5)].into(),
        notes: vec!["</style><b>".to_owned()],
        ..Page::default()
    };
    let html = render(&page);
    for word in ["<script", "<img", "<link", "<iframe", "url(", "@import", "</style><b>"] {
        assert!(!html.contains(word), "{word}");
    }
    // What would be fetched, opened or run.
    for attribute in [" src=", " href=", " style="] {
        let outside: String = html.replace("&lt;img src=//evil.example/x&gt;", "");
        assert!(!outside.contains(attribute), "{attribute}");
    }
    assert!(html.contains("title=\"&quot; onmouseover=alert(1)\""), "{html}");
    assert!(html.contains("default-src 'none'") && html.matches("<svg").count() == 3, "{html}");
    assert!(html.contains(": 5 never-resolved</title>"), "{html}");
}

#[test]
fn no_name_turns_its_own_text_or_that_of_others_around() {
    let findings = vec![finding("\u{202e}gpj.exe\u{0}", 3)];
    let html = render(&Page { findings, ..Page::default() });
    assert!(!html.contains(['\u{202e}', '\u{0}']) && html.contains("gpj.exe"), "{html}");
}

#[test]
fn a_ranking_ends_with_all_the_others() {
    let findings = (0..15).map(|n| finding(&format!("c{n:02}"), n)).collect();
    let page = Page { findings, ..Page::default() };
    let ranked = ranked(&page, |finding| finding.container.clone());
    assert_eq!(ranked.len(), RANKED_MAX + 1);
    assert_eq!(ranked[0], Bar { label: "c14".to_owned(), count: 15, is_rest: false });
    assert_eq!(ranked[10], Bar { label: "5 others".to_owned(), count: 15, is_rest: true });
}

#[test]
fn a_quiet_time_says_so() {
    let html = render(&Page::default());
    assert!(html.contains("Nothing was refused") && !html.contains("<svg"), "{html}");
}
