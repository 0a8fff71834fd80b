//! Feeds as the configuration says them.

use super::*;

#[derive(Debug, Deserialize)]
struct File {
    feed: Vec<FeedConfig>,
}

fn all(text: &str) -> Result<Vec<Feed>, String> {
    let file: File = toml::from_str(text).map_err(|error| error.message().to_owned())?;
    Feed::all(file.feed).map_err(|error| format!("{error:#}"))
}

#[test]
fn sections_are_read_with_their_defaults() {
    let feeds = all(r#"
        [[feed]]
        name = "drop"
        url = "https://lists.example/drop.txt?key=secret"
        format = "spamhaus"
        kind = "block"

        [[feed]]
        name = "c2"
        path = "/var/lib/feeds/c2.csv"
        format = "csv"
        column = "dst_ip"
        kind = "allow"
        refresh = "90m"
        max-bytes = 1000
        force = true
        allow-shrink = true
    "#)
    .unwrap();
    let [drop, c2] = &feeds[..] else { panic!("{feeds:?}") };
    assert_eq!(
        (drop.kind, drop.refresh, drop.max_bytes),
        (Kind::Block, REFRESH_DEFAULT, FEED_BYTES_DEFAULT)
    );
    assert!(!drop.insecure && !drop.force && !drop.allow_shrink && drop.ca.is_none());
    assert_eq!(drop.format, Format::Spamhaus);
    assert_eq!(drop.origin.shown(), "https://lists.example/drop.txt", "a key is not shown");
    assert_eq!(c2.format, Format::Csv(Column::Name("dst_ip".to_owned())));
    assert_eq!(c2.origin, Origin::Path("/var/lib/feeds/c2.csv".into()));
    assert_eq!((c2.kind, c2.refresh, c2.max_bytes), (Kind::Allow, Duration::from_secs(5400), 1000));
    assert!(c2.force && c2.allow_shrink);
}

#[test]
fn mistakes_are_told_in_one_line() {
    let base = "[[feed]]\nname = \"a\"\nurl = \"https://l.example/\"\nkind = \"block\"\n";
    assert!(all(base).is_ok());
    let swap = |from: &str, to: &str| {
        let text = base.replace(from, to);
        assert_ne!(text, base);
        let error = all(&text).unwrap_err();
        assert!(!error.contains('\n'), "{error}");
        error
    };
    assert!(swap("https://l.example/", "http://l.example/").contains("`insecure = true` takes it"));
    assert!(swap("https://l.example/", "ftp://l.example/").contains("must start with https://"));
    assert!(swap("https://l.example/", "https://me:pw@l.example/").contains("user name"));
    assert!(swap("https://l.example/", "lists").contains("url"));
    assert!(swap("\"a\"", "\"A b\"").contains("small letters"));
    assert!(swap("\"a\"", "\"../a\"").contains("small letters"));
    assert!(swap("\"a\"", "\"block\"").contains("taken"));
    assert!(swap("\"a\"", "\"doh-servers\"").contains("taken"));
    assert!(swap("kind", "king").contains("unknown field `king`"));
    assert!(swap("\"block\"", "\"quarantine\"").contains("unknown variant"));
    assert!(swap("kind", "format = \"csv\"\nkind").contains("needs a column"));
    assert!(swap("kind", "format = \"csv\"\ncolumn = 0\nkind").contains("counted from 1"));
    assert!(swap("kind", "column = 1\nkind").contains("goes with `format"));
    assert!(swap("kind", "refresh = \"10s\"\nkind").contains("between 1m"));
    assert!(swap("kind", "refresh = \"soon\"\nkind").contains("write 30m"));
    assert!(swap("kind", "max-bytes = 0\nkind").contains("max-bytes"));
    assert!(swap("kind", "path = \"/a\"\nkind").contains("either path or url"));
    assert!(swap("url = \"https://l.example/\"", "path = \"a.txt\"").contains("absolute"));
    let plain = base.replace("https:", "http:").replace("kind", "insecure = true\nkind");
    assert!(all(&plain).unwrap()[0].insecure);
    let twice = format!("{base}{base}");
    assert_eq!(all(&twice).unwrap_err(), "feed \"a\": there are two of this name");
}
