//! A server among well-behaved and hostile clients.

use std::io::{Read as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::*;
use crate::control::{ClientError, Line, PATIENCE, QUESTION_BYTES_MAX};

struct Bench {
    _dir: tempfile::TempDir,
    path: PathBuf,
    server: Option<Server>,
    asked: Arc<AtomicUsize>,
}

/// Answers with how often it was asked; `status` with a text that fits no socket buffer.
fn bench() -> Bench {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let answerer = move |question| {
        let asked = count.fetch_add(1, Ordering::SeqCst) + 1;
        Ok(match question {
            Question::Status {} => Said::Value(Value::String("x".repeat(4 << 20))),
            _ => Said::Value(Value::from(asked)),
        })
    };
    let listener = Listener::bind(&path, None).unwrap();
    let server = Server::start(listener, Bell::new().unwrap(), answerer).unwrap();
    Bench { _dir: dir, path, server: Some(server), asked }
}

impl Bench {
    fn line(&self) -> Line {
        Line::open(&self.path).unwrap()
    }

    fn raw(&self) -> UnixStream {
        let stream = UnixStream::connect(&self.path).unwrap();
        stream.set_read_timeout(Some(4 * PATIENCE)).unwrap();
        stream
    }
}

/// Everything until the other side ends it.
fn rest(mut stream: &UnixStream) -> String {
    let mut text = String::new();
    // A server that lets a client go with its bytes unread resets the connection.
    let _ = stream.read_to_string(&mut text);
    text
}

#[test]
fn several_questions_have_their_answers_in_order() {
    let bench = bench();
    let mut line = bench.line();
    for n in 1..=40_u64 {
        assert_eq!(line.ask::<u64>(&Question::Daemon {}).unwrap(), n);
    }
    let stream = bench.raw();
    (&stream).write_all(&b"{\"v\":1,\"ask\":\"daemon\"}\n".repeat(100)).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let text = rest(&stream);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 100, "all that was asked before the end");
    assert_eq!(lines[99], r#"{"v":1,"answer":140}"#);
}

#[test]
fn a_large_answer_arrives_whole() {
    let bench = bench();
    let text: String = bench.line().ask(&Question::Status {}).unwrap();
    assert_eq!(text.len(), 4 << 20);
}

#[test]
fn faults_leave_the_connection_open_but_for_an_endless_line() {
    let bench = bench();
    let stream = bench.raw();
    let long = vec![b'x'; QUESTION_BYTES_MAX + 1];
    (&stream).write_all(b"rubbish\n{\"v\":9,\"ask\":\"status\"}\n").unwrap();
    // It may be let go before all of this is out.
    let _ = (&stream).write_all(&long);
    let text = rest(&stream);
    let kinds: Vec<bool> = ["malformed", "unknown-version", "too-long"]
        .iter()
        .zip(text.lines())
        .map(|(kind, line)| line.contains(&format!(r#""kind":"{kind}""#)))
        .collect();
    assert_eq!(kinds, [true; 3], "{text}");
    assert_eq!(bench.asked.load(Ordering::SeqCst), 0, "nobody was bothered");
}

#[test]
fn clients_that_hang_hurt_nobody_and_are_let_go() {
    let bench = bench();
    let begun = Instant::now();
    let mute: Vec<UnixStream> = (0..6).map(|_| bench.raw()).collect();
    let half: Vec<UnixStream> = (0..4).map(|_| bench.raw()).collect();
    for stream in &half {
        (&*stream).write_all(b"{\"v\":1,").unwrap();
    }
    // These ask for much and read none of it.
    let deaf: Vec<UnixStream> = (0..4).map(|_| bench.raw()).collect();
    for stream in &deaf {
        (&*stream).write_all(&b"{\"v\":1,\"ask\":\"status\"}\n".repeat(50)).unwrap();
    }
    assert!(bench.line().ask::<u64>(&Question::Daemon {}).is_ok());
    assert!(begun.elapsed() < PATIENCE, "answered while all the others hang");
    for stream in mute.iter().chain(&half) {
        assert_eq!(rest(stream), "");
    }
    assert!(begun.elapsed() >= PATIENCE);
    assert!(bench.line().ask::<u64>(&Question::Daemon {}).is_ok());
}

#[test]
fn more_clients_than_are_served_are_told_so() {
    let bench = bench();
    let waiting: Vec<UnixStream> = (0..CONNECTIONS_MAX).map(|_| bench.raw()).collect();
    let refused = bench.line().ask::<u64>(&Question::Daemon {});
    assert!(matches!(&refused, Err(ClientError::Fault(fault)) if fault.kind == FaultKind::Busy));
    drop(waiting);
    let answered = (0..100).any(|_| {
        std::thread::yield_now();
        bench.line().ask::<u64>(&Question::Daemon {}).is_ok()
    });
    assert!(answered, "there is room again");
}

#[test]
fn a_server_that_ends_takes_its_socket_along() {
    let mut bench = bench();
    let _mute = bench.raw();
    bench.server = None;
    assert!(matches!(Line::open(&bench.path), Err(ClientError::Nobody(_))));
    assert!(!bench.path.exists());
}

#[test]
fn root_and_the_daemons_user_may_change_things() {
    assert!(is_master(0, 0) && is_master(0, 997) && is_master(997, 997));
    assert!(!is_master(1000, 0) && !is_master(1000, 997));
}
