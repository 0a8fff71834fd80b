//! A small HTTP server on loopback for tests, with TLS or without, that answers as it is told.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

pub(super) use crate::testing::Authority;

/// A client that hangs must not hang the test.
const STUCK: Duration = Duration::from_secs(20);

/// What a client asked, in small letters.
pub(super) struct Request {
    head: String,
}

/// What it is answered.
pub(super) enum Reply {
    /// Status line and headers without the length, and a body whose length is told.
    Full(&'static str, Vec<u8>),
    /// As it is, and the connection is closed.
    Raw(Vec<u8>),
    /// As it is, and then nothing more until the client gives up.
    Stall(Vec<u8>),
}

type Answer = Box<dyn Fn(&Request) -> Reply + Send>;

/// A server that ends when it is dropped.
pub(super) struct Server {
    at: SocketAddr,
    tls: bool,
    answer: Arc<Mutex<Answer>>,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(super) fn https(authority: &Authority) -> Server {
        Server::start(Some(Arc::clone(&authority.config)))
    }

    pub(super) fn http() -> Server {
        Server::start(None)
    }

    fn start(tls: Option<Arc<ServerConfig>>) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let at = listener.local_addr().unwrap();
        let nothing: Answer = Box::new(|_| Reply::Full("404 Not Found", Vec::new()));
        let answer = Arc::new(Mutex::new(nothing));
        let ended = Arc::new(AtomicBool::new(false));
        let with_tls = tls.is_some();
        let (theirs, end) = (Arc::clone(&answer), Arc::clone(&ended));
        let serve = move || {
            for connection in listener.incoming().flatten() {
                if end.load(SeqCst) {
                    return;
                }
                // A client that goes away in the middle is part of some tests.
                let _ = talk(connection, tls.clone(), &theirs);
            }
        };
        let thread = Some(std::thread::spawn(serve));
        Server { at, tls: with_tls, answer, ended, thread }
    }

    /// Answers like this from here on.
    pub(super) fn answer(&self, answer: impl Fn(&Request) -> Reply + Send + 'static) {
        *self.answer.lock().unwrap() = Box::new(answer);
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", if self.tls { "https" } else { "http" }, self.at)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.ended.store(true, SeqCst);
        let _ = TcpStream::connect(self.at);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Request {
    pub(super) fn path(&self) -> &str {
        self.head.split(' ').nth(1).unwrap_or_default()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(key, _)| *key == name).map(|(_, value)| value.trim()).next()
    }
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

fn talk(
    tcp: TcpStream,
    tls: Option<Arc<ServerConfig>>,
    answer: &Mutex<Answer>,
) -> std::io::Result<()> {
    tcp.set_read_timeout(Some(STUCK))?;
    tcp.set_write_timeout(Some(STUCK))?;
    let mut stream: Box<dyn Stream> = match tls {
        Some(config) => {
            let connection = ServerConnection::new(config).map_err(std::io::Error::other)?;
            Box::new(StreamOwned::new(connection, tcp))
        }
        None => Box::new(tcp),
    };
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.push(byte[0].to_ascii_lowercase());
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let reply = (answer.lock().unwrap())(&Request { head });
    match reply {
        Reply::Full(status, body) => {
            let length = body.len();
            write!(
                stream,
                "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"
            )?;
            stream.write_all(&body)?;
            stream.flush()
        }
        Reply::Raw(bytes) => {
            stream.write_all(&bytes)?;
            stream.flush()
        }
        Reply::Stall(bytes) => {
            stream.write_all(&bytes)?;
            stream.flush()?;
            stream.read_to_end(&mut Vec::new()).map(drop)
        }
    }
}
