//! What becomes of a feed whose copy is removed, or cannot be described.

use super::*;

#[test]
fn removing_the_copy_takes_a_list_that_shrank() {
    let stand = Stand::new();
    stand.server.answer(|_| Reply::Full("200 OK", list(30)));
    let mut one = stand.open(stand.feed("/list"));
    refresh(&mut one).unwrap();
    stand.server.answer(|_| Reply::Full("200 OK", list(2)));
    assert!(refresh(&mut one).unwrap_err().contains("/feeds/bad-nets.data takes it"));
    // A start alone does not: a truncated list would only have to wait for one.
    one = stand.open(one.feed);
    assert!(refresh(&mut one).is_err());
    let data = stand.folder().feed_data("bad-nets");
    std::fs::remove_file(&data).unwrap();
    assert_eq!(entries(&one), Some(30), "until there is another one");
    stand.server.answer(|_| Reply::Full("503 Service Unavailable", Vec::new()));
    assert!(refresh(&mut one).is_err());
    assert_eq!((entries(&one), entries(&one)), (Some(30), Some(30)), "the server is away");
    stand.server.answer(|_| Reply::Full("200 OK", list(2)));
    assert_eq!(refresh(&mut one), Ok(News::New { entries: 2, bad: 0 }));
    assert_eq!((entries(&one), data.exists()), (Some(2), true));
}

#[test]
fn a_removed_copy_makes_its_feed_due_at_once() {
    let stand = Stand::new();
    stand.server.answer(|_| Reply::Full("200 OK", list(30)));
    let mut feeds = Feeds::open(vec![stand.feed("/list")], &stand.folder(), true, 7, now(0));
    let data = stand.folder().feed_data("bad-nets");
    assert_eq!(feeds.paths(), std::slice::from_ref(&data));
    assert!(feeds.refresh_next(now(1)).unwrap().is_new());
    assert!(!feeds.path_changed(&data, now(2)), "our own writing");
    std::fs::remove_file(&data).unwrap();
    assert!(feeds.path_changed(&data, now(3)));
    assert_eq!(feeds.next_due(), Some(now(3).mono));
}

#[test]
fn a_copy_is_used_even_if_it_cannot_be_described() {
    let stand = Stand::new();
    stand.server.answer(|_| Reply::Full("200 OK", list(30)));
    let mut feeds = Feeds::open(vec![stand.feed("/list")], &stand.folder(), true, 7, now(0));
    std::fs::create_dir_all(stand.folder().feed_about("bad-nets").join("in-the-way")).unwrap();
    let refreshed = feeds.refresh_next(now(1)).unwrap();
    assert!(refreshed.is_new());
    let error = refreshed.result.unwrap_err().to_string();
    assert!(error.starts_with("the new copy is in use"), "{error}");
    assert_eq!(feeds.reports()[0].last_error.as_deref(), Some(error.as_str()));
    assert_eq!(entries(&feeds.all[0]), Some(30));
}
