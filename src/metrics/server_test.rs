//! The server on loopback, with clients as they should not be.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::mpsc::{Sender, channel};

use super::*;

const SOON: Duration = Duration::from_secs(20);

struct Fake(Mutex<Sender<Result<SocketAddr, String>>>);

impl Source for Fake {
    fn families(&self) -> Vec<Family> {
        vec![Family::counter("things", "Things", 3)]
    }

    fn health(&self) -> State {
        State { ok: true, message: "moves".to_owned() }
    }

    fn readiness(&self) -> State {
        State { ok: false, message: "not\nyet".to_owned() }
    }

    fn listens(&self, at: SocketAddr, error: Option<&std::io::Error>) {
        let said = error.map_or(Ok(at), |error| Err(error.to_string()));
        let _ = self.0.lock().unwrap().send(said);
    }
}

fn start(at: &str) -> (Server, Result<SocketAddr, String>) {
    let (tell, told) = channel();
    let server = Server::start(at.parse().unwrap(), Arc::new(Fake(Mutex::new(tell)))).unwrap();
    (server, told.recv_timeout(SOON).unwrap())
}

fn ask(at: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

fn get(at: SocketAddr, path: &str, host: &str) -> String {
    ask(at, &format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n\r\n"))
}

#[test]
fn pages_are_served_and_what_is_no_question_is_refused() {
    let (_server, at) = start("127.0.0.1:0");
    let at = at.unwrap();
    let page = get(at, "/metrics", "localhost");
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    assert!(page.contains(&format!("content-type: {}\r\n", text::CONTENT_TYPE)), "{page}");
    assert!(page.ends_with("\nsynhold_things_total 3\n# EOF\n"), "{page}");
    assert!(get(at, "/healthz", "127.0.0.1:1").ends_with("\r\n\r\nmoves\n"));
    let unready = get(at, "/readyz", "[::1]");
    assert!(unready.starts_with("HTTP/1.1 503 ") && unready.ends_with("\r\n\r\nnot yet\n"));
    let code = |answer: &str| answer.split(' ').nth(1).unwrap_or_default().to_owned();
    assert_eq!(code(&get(at, "/", "localhost")), "404");
    assert_eq!(code(&get(at, "/metrics", "evil.example")), "403");
    assert_eq!(code(&ask(at, "GET /metrics HTTP/1.1\r\n\r\n")), "403", "no host at all");
    let two = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n";
    assert_ne!(code(&ask(at, two)), "200");
    let post = ask(at, "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx");
    assert_eq!(code(&post), "405");
    let head = ask(at, "HEAD /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"), "{head}");
    let long = format!("GET /{} HTTP/1.1\r\nHost: localhost\r\n\r\n", "x".repeat(9_000));
    let mut stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    // It may be closed before all is sent.
    let _ = stream.write_all(long.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP/1.1 200"));
    assert!(code(&get(at, "/metrics", "localhost")) == "200", "and goes on");
}

#[test]
fn whoever_says_nothing_is_let_go_and_keeps_nobody_out() {
    let (server, at) = start("127.0.0.1:0");
    let at = at.unwrap();
    let mut silent: Vec<TcpStream> =
        (0..CONNECTIONS_MAX).map(|_| TcpStream::connect(at).unwrap()).collect();
    silent[0].write_all(b"GET /metrics HT").unwrap();
    let began = Instant::now();
    assert!(get(at, "/metrics", "localhost").starts_with("HTTP/1.1 200"));
    assert!(began.elapsed() < SOON);
    drop(server);
    assert!(TcpStream::connect(at).is_err(), "nobody listens any more");
}

#[test]
fn half_a_question_from_many_delays_nobody() {
    let (_server, at) = start("127.0.0.1:0");
    let at = at.unwrap();
    let open = || {
        let mut stream = TcpStream::connect(at).unwrap();
        stream.write_all(b"GET /healthz HT").unwrap();
        stream
    };
    let mut half: Vec<TcpStream> = (0..60).map(|_| open()).collect();
    let began = Instant::now();
    assert!(get(at, "/healthz", "localhost").starts_with("HTTP/1.1 200"));
    assert!(began.elapsed() < HEAD_PATIENCE / 2, "{:?}", began.elapsed());
    // The oldest went; those that came last have their time, and no more.
    let mut rest = [0; 1];
    half[0].set_read_timeout(Some(SOON)).unwrap();
    assert!(matches!(half[0].read(&mut rest), Ok(0) | Err(_)));
    assert!(began.elapsed() < HEAD_PATIENCE / 2, "{:?}", began.elapsed());
    half[59].set_read_timeout(Some(SOON)).unwrap();
    let _ = half[59].read(&mut rest);
    assert!(began.elapsed() < HEAD_PATIENCE * 2, "{:?}", began.elapsed());
}

#[test]
fn an_address_that_is_taken_is_told() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let (_server, said) = start(&taken.local_addr().unwrap().to_string());
    assert!(said.unwrap_err().contains("in use"));
}
