//! An alert with everything in it, and servers on loopback that take it, for tests.

use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use super::{Notice, Patience, Severity, VERSION};
use crate::engine::alert::Topic;
use crate::engine::health::Evidence;
use crate::engine::{Grade, Name, Proto, Reason};
pub(super) use crate::testing::Authority;

/// A client that hangs must not hang the test.
const STUCK: Duration = Duration::from_secs(20);

pub(super) fn notice() -> Notice {
    let why = vec!["file:x down".to_owned()];
    Notice {
        version: VERSION,
        id: "0123456789abcdef00000001".to_owned(),
        time: "2026-01-02T03:04:05.678901Z".to_owned(),
        host: "gw-1".into(),
        container: Some("web-1".into()),
        container_id: Some("c0ffee".into()),
        image: Some("shop/web:1".into()),
        source: Some([172, 25, 0, 2].into()),
        address: Some([203, 0, 113, 9].into()),
        port: Some(443),
        proto: Some(Proto::Tcp),
        names: vec![Name::new("a.example").unwrap()],
        reason: Some(Reason::NeverResolved),
        grade: Some(Grade::Never),
        held_us: Some(750_113),
        evidence: Some(Evidence { why, records: 12, ..Evidence::default() }),
        enforced: Some(true),
        advice: Some("synhold explain 203.0.113.9 --container web-1".to_owned()),
        ..Notice::new(Topic::NeverResolved, Severity::Warning, "web-1 dialled 203.0.113.9")
    }
}

pub(super) fn patience(total: Duration) -> Patience {
    Patience { total, abandoned: Arc::new(AtomicBool::new(false)) }
}

/// A secret as it has to be.
pub(super) fn secret(folder: &Path, text: &str) -> PathBuf {
    use std::os::unix::fs::OpenOptionsExt as _;
    let path = folder.join("secret");
    let mut options = std::fs::OpenOptions::new();
    let file = options.write(true).create(true).truncate(true).mode(0o600).open(&path);
    file.unwrap().write_all(text.as_bytes()).unwrap();
    path
}

/// Listens on loopback and gives each connection with its number to `talk`, until the test's process ends.
pub(super) fn serve(
    mut talk: impl FnMut(TcpStream, usize) -> std::io::Result<()> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for (number, connection) in listener.incoming().flatten().enumerate() {
            connection.set_read_timeout(Some(STUCK)).unwrap();
            // A client that goes away in the middle is part of some tests.
            let _ = talk(connection, number);
        }
    });
    at
}

pub(super) fn tls(
    tcp: TcpStream,
    config: &Arc<ServerConfig>,
) -> StreamOwned<ServerConnection, TcpStream> {
    StreamOwned::new(ServerConnection::new(Arc::clone(config)).unwrap(), tcp)
}

/// One HTTP request.
#[derive(Debug)]
pub(super) struct Request {
    pub head: String,
    pub body: Vec<u8>,
}

impl Request {
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

pub(super) fn read_request(stream: &mut impl Read) -> std::io::Result<Request> {
    let mut reader = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    let mut request = Request { head, body: Vec::new() };
    let length = request.header("content-length").and_then(|length| length.parse().ok());
    request.body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut request.body)?;
    Ok(request)
}

/// An HTTPS server that answers each request with the next of these statuses, the last one for ever.
pub(super) fn https(
    authority: &Authority,
    statuses: &'static [&'static str],
) -> (SocketAddr, Receiver<Request>) {
    let (tell, told) = channel();
    let config = Arc::clone(&authority.config);
    let at = serve(move |tcp, number| {
        let mut stream = tls(tcp, &config);
        let request = read_request(&mut stream)?;
        let status = statuses.get(number).or(statuses.last()).unwrap();
        let _ = tell.send(request);
        let tail = "Location: https://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close";
        write!(stream, "HTTP/1.1 {status}\r\n{tail}\r\n\r\n")?;
        stream.flush()
    });
    (at, told)
}
