//! Feeds against real servers on loopback: what is taken, what is refused, and that the last good copy stays.

use super::*;
use crate::lists::Kind;
use crate::lists::format::Format;
use crate::lists::testing::{Authority, Reply, Server};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

#[path = "feeds_copy_test.rs"]
mod copies;

const HOUR: Duration = Duration::from_secs(3600);

struct Stand {
    dir: tempfile::TempDir,
    server: Server,
    ca: PathBuf,
}

impl Stand {
    fn new() -> Stand {
        let dir = tempfile::tempdir().unwrap();
        let authority = Authority::new();
        let (server, ca) = (Server::https(&authority), authority.save(dir.path()));
        Stand { dir, server, ca }
    }

    fn feed(&self, path: &str) -> Feed {
        Feed {
            name: "bad-nets".to_owned(),
            origin: Origin::Url(self.server.url(path)),
            format: Format::Plain,
            refresh: HOUR,
            kind: Kind::Block,
            max_bytes: 10_000,
            insecure: false,
            ca: Some(self.ca.clone()),
            force: false,
            allow_shrink: false,
        }
    }

    fn folder(&self) -> Folder {
        Folder::new(self.dir.path())
    }

    fn open(&self, feed: Feed) -> Subscription {
        Subscription::open(feed, &self.folder(), true, 1, now(0))
    }
}

fn now(second: u64) -> Now {
    let start = Now { mono: Mono(0), wall: Wall(1_767_323_045_000_000) };
    start + Duration::from_secs(second)
}

fn list(entries: u8) -> Vec<u8> {
    (0..entries).flat_map(|low| format!("192.0.2.{low} # {low}\n").into_bytes()).collect()
}

fn patience() -> Patience {
    Patience { connect: Duration::from_secs(10), total: Duration::from_secs(20) }
}

/// What refreshing says.
fn refresh(one: &mut Subscription) -> Result<News, String> {
    one.refresh(patience(), now(1).wall).map_err(|error| error.to_string())
}

/// Entries of the copy in use.
fn entries(one: &Subscription) -> Option<u64> {
    one.source().map(|source| source.read(&mut |_| {}).unwrap().items)
}

#[test]
fn a_list_is_fetched_kept_and_used_at_the_next_start_without_its_server() {
    let stand = Stand::new();
    stand.server.answer(|_| Reply::Full("200 OK", list(30)));
    let mut one = stand.open(stand.feed("/list"));
    assert_eq!(entries(&one), None);
    assert_eq!(refresh(&mut one), Ok(News::New { entries: 30, bad: 0 }));
    assert_eq!(entries(&one), Some(30));
    let Stand { dir, server, ca: _ } = stand;
    let feed = one.feed.clone();
    drop(server);
    let mut next = Subscription::open(feed, &Folder::new(dir.path()), true, 1, now(60));
    assert_eq!(entries(&next), Some(30));
    assert!(refresh(&mut next).is_err(), "nobody answers");
    assert_eq!(entries(&next), Some(30));
    let report = next.report();
    assert_eq!(report.fetched, Some(now(1).wall));
    assert!(report.last_error.is_some());
    use std::os::unix::fs::MetadataExt as _;
    for file in std::fs::read_dir(Folder::new(dir.path()).feeds()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().mode() & 0o777, 0o600, "{file:?}");
        assert!(!file.file_name().to_string_lossy().contains(".new"), "{file:?}");
    }
}

#[test]
fn only_what_changed_is_sent_again() {
    let stand = Stand::new();
    let asked = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&asked);
    stand.server.answer(move |request| {
        count.fetch_add(1, SeqCst);
        let same = request.header("if-none-match") == Some("\"v1\"")
            && request.header("if-modified-since") == Some("fri, 02 jan 2026 03:04:05 gmt");
        match same {
            true => Reply::Full("304 Not Modified", Vec::new()),
            false => Reply::Full(
                "200 OK\r\nETag: \"v1\"\r\nLast-Modified: Fri, 02 Jan 2026 03:04:05 GMT",
                list(3),
            ),
        }
    });
    let mut one = stand.open(stand.feed("/list"));
    assert_eq!(refresh(&mut one), Ok(News::New { entries: 3, bad: 0 }));
    assert_eq!(refresh(&mut one), Ok(News::Unchanged));
    // The same after a start, and everything again once the copy is gone.
    let mut one = stand.open(one.feed);
    assert_eq!(refresh(&mut one), Ok(News::Unchanged));
    std::fs::remove_file(stand.folder().feed_data("bad-nets")).unwrap();
    assert_eq!(refresh(&mut one), Ok(News::New { entries: 3, bad: 0 }));
    assert_eq!(asked.load(SeqCst), 4);
}

#[test]
fn what_is_no_list_leaves_the_last_good_copy() {
    let stand = Stand::new();
    stand.server.answer(|_| Reply::Full("200 OK", list(30)));
    let mut one = stand.open(stand.feed("/list"));
    refresh(&mut one).unwrap();
    let mut check = |reply: fn() -> Reply, why: &str| {
        stand.server.answer(move |_| reply());
        let error = refresh(&mut one).unwrap_err();
        assert!(error.contains(why), "{error}");
        assert_eq!(entries(&one), Some(30), "{why}");
        assert_eq!(one.report().last_error.as_deref(), Some(error.as_str()));
    };
    check(|| Reply::Full("404 Not Found", list(30)), "the server answered 404 Not Found");
    check(|| Reply::Full("503 Service Unavailable", Vec::new()), "the server answered 503");
    check(|| Reply::Full("304 Not Modified", Vec::new()), "the server answered 304");
    check(|| Reply::Full("200 OK", b"\n<!doctype html><p>192.0.2.1".to_vec()), "a web page");
    check(|| Reply::Full("200 OK", Vec::new()), "no entry in it");
    check(
        || Reply::Full("200 OK", b"{\"error\": \"quota\"}\n".to_vec()),
        "(1 lines that are none)",
    );
    check(|| Reply::Full("200 OK", list(3)), "it shrank from 30 entries to 3");
    check(|| Reply::Full("200 OK", vec![b'#'; 10_001]), "larger than 10000 bytes");
    check(
        || {
            let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
            let chunk = [b"4000\r\n".to_vec(), vec![b'#'; 0x4000], b"\r\n".to_vec()].concat();
            Reply::Raw([head, chunk, b"0\r\n\r\n".to_vec()].concat())
        },
        "larger than 10000 bytes",
    );
    check(
        || {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n".to_vec();
            Reply::Raw([head, list(30)].concat())
        },
        "",
    );
    check(|| Reply::Raw(b"SSH-2.0-nobody\r\n".to_vec()), "");
    stand.server.answer(|_| Reply::Full("200 OK", list(4)));
    assert_eq!(std::fs::read_dir(stand.folder().feeds()).unwrap().count(), 2, "no leftovers");
    // Whoever removes the copy, or says so, takes it.
    one.feed.allow_shrink = true;
    assert_eq!(refresh(&mut one), Ok(News::New { entries: 4, bad: 0 }));
    assert_eq!(one.report().last_error, None);
}

#[test]
fn a_slow_server_is_given_up() {
    let stand = Stand::new();
    let mut one = stand.open(stand.feed("/list"));
    let replies: [fn() -> Reply; 2] = [
        || Reply::Stall(Vec::new()),
        || Reply::Stall(b"HTTP/1.1 200 OK\r\nContent-Length: 9000\r\n\r\n192.0.2.1\n".to_vec()),
    ];
    for reply in replies {
        stand.server.answer(move |_| reply());
        let short = Patience { total: Duration::from_millis(700), ..patience() };
        let error = one.refresh(short, now(1).wall).unwrap_err();
        assert!(matches!(error, RefreshError::Fetch(FetchError::Slow(_))), "{error:?}");
    }
    // And one that never says hello.
    let mute = Server::http();
    let origin = Origin::Url(mute.url("/list").replace("http:", "https:"));
    let mut one = stand.open(Feed { origin, ..stand.feed("") });
    let short = Patience { connect: Duration::from_millis(700), ..patience() };
    let error = one.refresh(short, now(1).wall).unwrap_err();
    assert!(matches!(error, RefreshError::Fetch(FetchError::Slow(_))), "{error:?}");
    assert_eq!(entries(&one), None);
}

#[test]
fn nothing_comes_without_tls_unless_told_so() {
    let stand = Stand::new();
    let plain = Server::http();
    plain.answer(|_| Reply::Full("200 OK", list(5)));
    let mut feed = stand.feed("/list");
    feed.origin = Origin::Url(plain.url("/list"));
    let mut one = stand.open(feed.clone());
    assert!(refresh(&mut one).unwrap_err().contains("away from https"));
    // Nor by a redirect from a good server.
    let away = plain.url("/list");
    stand.server.answer(move |_| {
        let head = format!("HTTP/1.1 302 Found\r\nLocation: {away}\r\nContent-Length: 0\r\n\r\n");
        Reply::Raw(head.into_bytes())
    });
    let mut redirected = stand.open(stand.feed("/list"));
    assert!(refresh(&mut redirected).unwrap_err().contains("away from https"));
    assert_eq!(entries(&redirected), None);
    for feed in [feed, stand.feed("/list")] {
        let mut told = stand.open(Feed { insecure: true, ..feed });
        assert_eq!(refresh(&mut told), Ok(News::New { entries: 5, bad: 0 }));
    }
}

#[test]
fn redirects_are_followed_as_far_as_they_lead_somewhere() {
    let stand = Stand::new();
    let (first, turn) = (stand.server.url("/mirror"), stand.server.url("/turn"));
    stand.server.answer(move |request| match request.path() {
        "/mirror" => Reply::Full("200 OK", list(5)),
        path => {
            let to = if path == "/list" { &first } else { &turn };
            Reply::Raw(
                format!("HTTP/1.1 301 Moved\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
                    .into_bytes(),
            )
        }
    });
    let mut one = stand.open(stand.feed("/list"));
    assert_eq!(refresh(&mut one), Ok(News::New { entries: 5, bad: 0 }));
    let mut lost = stand.open(stand.feed("/turn"));
    assert!(refresh(&mut lost).unwrap_err().contains("too many redirects"));
}

#[test]
fn a_certificate_of_somebody_else_is_refused() {
    let stand = Stand::new();
    stand.server.answer(|_| Reply::Full("200 OK", list(5)));
    let other = tempfile::tempdir().unwrap();
    let another = Authority::new().save(other.path());
    for ca in [None, Some(another)] {
        let mut one = stand.open(Feed { ca, ..stand.feed("/list") });
        assert!(refresh(&mut one).unwrap_err().contains("certificate"));
    }
    std::fs::write(other.path().join("empty"), "nothing").unwrap();
    let mut one = stand.open(Feed { ca: Some(other.path().join("empty")), ..stand.feed("/list") });
    assert!(refresh(&mut one).unwrap_err().contains("no certificate in it"));
    // The name must be right too: this one is for 127.0.0.1.
    let Origin::Url(url) = stand.feed("/list").origin else { panic!() };
    let origin = Origin::Url(url.replace("127.0.0.1", "localhost"));
    let mut one = stand.open(Feed { origin, ..stand.feed("/list") });
    assert!(refresh(&mut one).is_err());
}

#[test]
fn a_copy_of_another_place_or_format_is_not_used() {
    let stand = Stand::new();
    stand.server.answer(|_| Reply::Full("200 OK\r\nETag: \"same\"", list(30)));
    let mut one = stand.open(stand.feed("/one"));
    refresh(&mut one).unwrap();
    assert_eq!(entries(&stand.open(stand.feed("/one"))), Some(30));
    assert_eq!(entries(&stand.open(stand.feed("/two"))), None);
    let netset = Feed { format: Format::Netset, ..stand.feed("/one") };
    assert_eq!(entries(&stand.open(netset)), None);
    // A list of another place may be as short as it is.
    stand.server.answer(|request| match request.header("if-none-match") {
        Some(_) => Reply::Full("304 Not Modified", Vec::new()),
        None => Reply::Full("200 OK", list(1)),
    });
    let mut two = stand.open(stand.feed("/two"));
    assert_eq!(refresh(&mut two), Ok(News::New { entries: 1, bad: 0 }));
    std::fs::write(stand.folder().feed_about("bad-nets"), "damaged").unwrap();
    assert_eq!(entries(&stand.open(stand.feed("/two"))), None);
}

#[test]
fn a_file_is_a_feed_with_the_same_protection() {
    let stand = Stand::new();
    let path = stand.dir.path().join("feed.txt");
    let feed = Feed { origin: Origin::Path(path.clone()), ca: None, ..stand.feed("") };
    let mut one = stand.open(feed.clone());
    assert!(refresh(&mut one).unwrap_err().contains("No such file"));
    std::fs::write(&path, list(30)).unwrap();
    assert_eq!(refresh(&mut one), Ok(News::New { entries: 30, bad: 0 }));
    assert_eq!(refresh(&mut one), Ok(News::Unchanged));
    std::fs::write(&path, list(2)).unwrap();
    assert!(refresh(&mut one).unwrap_err().contains("shrank"));
    std::fs::write(&path, vec![b'#'; 10_001]).unwrap();
    assert!(refresh(&mut one).unwrap_err().contains("larger than"));
    std::fs::remove_file(&path).unwrap();
    assert!(refresh(&mut one).is_err());
    nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
    assert!(refresh(&mut one).unwrap_err().contains("not a regular file"));
    assert_eq!(entries(&stand.open(feed)), Some(30));
}

#[test]
fn feeds_come_in_their_turn_and_in_memory_if_nothing_may_be_written() {
    let stand = Stand::new();
    stand.server.answer(|request| match request.path() {
        "/a" => Reply::Full("200 OK", list(5)),
        _ => Reply::Full("404 Not Found", Vec::new()),
    });
    let path = stand.dir.path().join("c.txt");
    let named = |name: &str, origin| Feed { name: name.to_owned(), origin, ..stand.feed("") };
    let all = vec![
        named("a", stand.feed("/a").origin),
        named("b", stand.feed("/b").origin),
        named("c", Origin::Path(path.clone())),
    ];
    let mut feeds = Feeds::open(all, &stand.folder(), false, 7, now(0));
    assert_eq!(feeds.paths(), std::slice::from_ref(&path));
    assert_eq!((feeds.next_due(), feeds.sources().len()), (Some(Mono(0)), 0));
    let turn = |feeds: &mut Feeds, second| {
        feeds.refresh_next(now(second)).map(|done| (done.name, done.result.ok()))
    };
    let new = Some(News::New { entries: 5, bad: 0 });
    assert_eq!(turn(&mut feeds, 1), Some(("a".to_owned(), new)));
    assert_eq!(turn(&mut feeds, 1), Some(("b".to_owned(), None)));
    assert_eq!(turn(&mut feeds, 1), Some(("c".to_owned(), None)));
    assert_eq!(turn(&mut feeds, 2), None);
    std::fs::write(&path, list(3)).unwrap();
    assert!(feeds.path_changed(&path, now(3)) && !feeds.path_changed(stand.dir.path(), now(3)));
    let new = Some(News::New { entries: 3, bad: 0 });
    assert_eq!(turn(&mut feeds, 3), Some(("c".to_owned(), new)));
    assert_eq!(turn(&mut feeds, 4), None);
    let due = feeds.next_due().unwrap();
    assert!(due <= now(61).mono && due >= now(40).mono, "a failure is tried again: {due:?}");
    assert_eq!(turn(&mut feeds, 61).map(|done| done.0).as_deref(), Some("b"));
    let mut all: Vec<String> = std::iter::from_fn(|| Some(turn(&mut feeds, 3700)?.0)).collect();
    all.sort();
    assert_eq!(all, ["a", "b", "c"], "each once an interval");
    let names: Vec<String> = feeds.sources().into_iter().map(|source| source.name).collect();
    assert_eq!(names, ["a", "c"]);
    assert_eq!(feeds.reports().len(), 3);
    assert!(!stand.folder().feeds().exists(), "nothing is written");
}

#[test]
fn a_fresh_copy_is_not_fetched_again_at_a_start() {
    let stand = Stand::new();
    stand.server.answer(|_| Reply::Full("200 OK", list(5)));
    let mut one = stand.open(stand.feed("/list"));
    refresh(&mut one).unwrap();
    let due =
        |second| Subscription::open(stand.feed("/list"), &stand.folder(), true, 1, now(second)).due;
    assert!(due(60).mono > now(2000).mono);
    assert_eq!(due(4000).mono, now(4000).mono, "an old one is");
}
