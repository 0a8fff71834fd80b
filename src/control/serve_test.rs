//! A server among well-behaved and hostile clients.

use std::io::{Read as _, Write as _};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde_json::Value;

use super::*;
use crate::control::{ClientError, Line, PATIENCE, Pending, Promise, QUESTION_BYTES_MAX, Said};

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
    let answerer = move |_: &Peer, question: Question| {
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

/// Lines of a kilobyte each: so many at once, or without end.
struct Tape {
    left: usize,
    missed: u64,
}

impl crate::control::Lines for Tape {
    fn take(&mut self, into: &mut Vec<u8>) {
        while self.left > 0 && into.len() < crate::control::LINES_BYTES {
            self.left -= 1;
            into.extend_from_slice(&[b'x'; 1023]);
            into.push(b'\n');
        }
    }

    fn missed(&mut self) -> u64 {
        std::mem::take(&mut self.missed)
    }
}

/// Followers get `tape()`, and whoever asks for the status waits until the returned sender says so.
fn live(tape: fn() -> Tape) -> (Bench, Bell, Promise) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.sock");
    let bell = Bell::new().unwrap();
    let (made, done) = Pending::new();
    let mut made = Some(made);
    let answerer = move |_: &Peer, question: Question| {
        Ok(match question {
            Question::Events(_) => Said::Lines {
                answer: Value::from(1),
                lines: b"{\"first\":1}\n".to_vec(),
                more: Some(Box::new(tape())),
            },
            Question::Status {} => Said::Later(made.take().unwrap()),
            _ => Said::Value(Value::from("at once")),
        })
    };
    let listener = Listener::bind(&path, None).unwrap();
    let server = Server::start(listener, bell.clone(), answerer).unwrap();
    let asked = Arc::default();
    (Bench { _dir: dir, path, server: Some(server), asked }, bell, done)
}

const FOLLOW: &[u8] = b"{\"v\":1,\"ask\":\"events\",\"follow\":true}\n";

#[test]
fn an_answer_in_the_making_keeps_nobody_else_waiting() {
    let (bench, bell, done) = live(|| Tape { left: 0, missed: 0 });
    let mut slow = bench.raw();
    slow.write_all(b"{\"v\":1,\"ask\":\"status\"}\n{\"v\":1,\"ask\":\"daemon\"}\n").unwrap();
    assert_eq!(bench.line().ask::<String>(&Question::Daemon {}).unwrap(), "at once");
    done.keep(Ok(Value::from("made")));
    bell.ring();
    slow.shutdown(std::net::Shutdown::Write).unwrap();
    let text = rest(&slow);
    assert_eq!(text, "{\"v\":1,\"answer\":\"made\"}\n{\"v\":1,\"answer\":\"at once\"}\n");
}

#[test]
fn a_follower_gets_everything_and_is_told_when_the_server_ends() {
    let (mut bench, _, _done) = live(|| Tape { left: 1000, missed: 0 });
    let mut follower = bench.raw();
    follower.write_all(FOLLOW).unwrap();
    let head = b"{\"v\":1,\"answer\":1}\n{\"first\":1}\n";
    let mut begun = vec![0; head.len() + 1000 * 1024];
    follower.read_exact(&mut begun).unwrap();
    assert!(begun.starts_with(head));
    bench.server = None;
    let end = rest(&follower);
    assert!(end.lines().last().unwrap().contains(r#""kind":"stopping""#), "{end:?}");
}

#[test]
fn a_follower_that_is_behind_gets_what_is_left_and_the_number_it_missed() {
    let (bench, _, _done) = live(|| Tape { left: 3, missed: 17 });
    let mut follower = bench.raw();
    follower.write_all(FOLLOW).unwrap();
    let text = rest(&follower);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 1 + 1 + 3 + 1);
    assert!(lines[5].contains(r#""kind":"behind""#) && lines[5].contains("17 events"), "{text}");
}

#[test]
fn followers_that_do_not_read_are_let_go_and_leave_room_for_questions() {
    let (bench, _, _done) = live(|| Tape { left: usize::MAX, missed: 0 });
    let begun = Instant::now();
    let mut deaf: Vec<UnixStream> = (0..=FOLLOWERS_MAX).map(|_| bench.raw()).collect();
    for follower in &mut deaf {
        follower.write_all(FOLLOW).unwrap();
    }
    assert_eq!(bench.line().ask::<String>(&Question::Daemon {}).unwrap(), "at once");
    assert!(begun.elapsed() < PATIENCE, "answered while all of them stall");
    // One of them was too many, and was told so; to the others no more is sent than a socket holds.
    let said: Vec<String> = deaf.iter().map(stalled).collect();
    let busy = said.iter().filter(|text| text.contains(r#""kind":"busy""#)).count();
    assert_eq!(busy, 1);
    assert!(begun.elapsed() >= PATIENCE);
}

/// What was sent to a follower until it was let go, which it reads only then.
fn stalled(stream: &UnixStream) -> String {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    let mut hung_up = [PollFd::new(stream.as_fd(), PollFlags::empty())];
    let patience = PollTimeout::try_from(4 * PATIENCE).unwrap();
    assert_eq!(poll(&mut hung_up, patience), Ok(1), "it is let go");
    rest(stream)
}

#[test]
fn whoever_may_not_change_anything_is_told_what_to_do() {
    let (near, far) = UnixStream::pair().unwrap();
    far.set_nonblocking(true).unwrap();
    let mut asked = 0;
    let now = Instant::now();
    let mut member = Connection::new(far, somebody(&near, false), now);
    let mut near_end = &near;
    near_end
        .write_all(b"{\"v\":1,\"ask\":\"block\",\"entries\":[\"192.0.2.1\"]}\n{\"v\":1,\"ask\":\"daemon\"}\n")
        .unwrap();
    near.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answerer = |_: &Peer, question: Question| {
        asked += 1;
        assert!(!question.changes());
        Ok(Said::Value(Value::Null))
    };
    let turns = [(); 3].map(|()| member.turn(&mut answerer, now));
    assert_eq!((turns, asked), ([Turn::More, Turn::More, Turn::Over], 1));
    drop(member);
    let text = rest(&near);
    assert!(text.contains(r#""kind":"not-allowed""#) && text.contains("sudo"), "{text}");
}

#[test]
fn a_change_whose_client_has_gone_is_not_made() {
    let block: &[u8] = b"{\"v\":1,\"ask\":\"block\",\"entries\":[\"192.0.2.1\"]}\n";
    let daemon: &[u8] = b"{\"v\":1,\"ask\":\"daemon\"}\n";
    // One that asks nothing more still waits for what it asked.
    for (question, leaves, made) in [(block, true, 0), (block, false, 1), (daemon, true, 1)] {
        let (near, mut clients) = asking(&[true], question, 1);
        near[0].shutdown(std::net::Shutdown::Write).unwrap();
        let _stays = (!leaves).then_some(near);
        let mut asked = 0;
        let mut answerer = |_: &Peer, _: Question| {
            asked += 1;
            Ok(Said::Value(Value::Null))
        };
        serve_clients(&mut clients, &mut answerer, Instant::now());
        assert_eq!(asked, made, "{leaves}");
    }
}

fn somebody(stream: &UnixStream, may_change: bool) -> Peer {
    Peer { may_change, ..Peer::of(stream) }
}

/// Clients that have asked so often, each with its own end; true is one that may change things.
fn asking(who: &[bool], question: &[u8], times: usize) -> (Vec<UnixStream>, Vec<Connection>) {
    let pair = |may_change: &bool| {
        let (near, far) = UnixStream::pair().unwrap();
        far.set_nonblocking(true).unwrap();
        (&near).write_all(&question.repeat(times)).unwrap();
        let peer = somebody(&far, *may_change);
        (near, Connection::new(far, peer, Instant::now()))
    };
    who.iter().map(pair).unzip()
}

#[test]
fn members_of_the_group_have_one_question_a_round_and_whoever_may_change_things_is_first() {
    let (near, mut clients) = asking(&[false, false, true], b"{\"v\":1,\"ask\":\"daemon\"}\n", 10);
    let mut asked = 0_u64;
    let mut answerer = |_: &Peer, _: Question| {
        asked += 1;
        Ok(Said::Value(Value::from(asked)))
    };
    assert!(serve_clients(&mut clients, &mut answerer, Instant::now()), "there is more to do");
    drop(clients);
    let last = |stream: &UnixStream| rest(stream).lines().last().map(str::to_owned);
    let told = |number: u64| Some(format!("{{\"v\":1,\"answer\":{number}}}"));
    assert_eq!(last(&near[2]), told(10));
    assert_eq!([last(&near[0]), last(&near[1])], [told(11), told(12)]);
}

#[test]
fn members_of_the_group_leave_places_to_follow_for_those_who_may_change_things() {
    let members = [false; FOLLOWERS_MAX];
    let (near, mut clients) = asking(&members, FOLLOW, 1);
    let mut answerer = |_: &Peer, _: Question| {
        let more: Box<dyn crate::control::Lines> = Box::new(Tape { left: 0, missed: 0 });
        Ok(Said::Lines { answer: Value::Null, lines: Vec::new(), more: Some(more) })
    };
    let now = Instant::now();
    serve_clients(&mut clients, &mut answerer, now);
    let (masters, more) = asking(&[true; FOLLOWING_MASTERS_MIN], FOLLOW, 1);
    clients.extend(more);
    serve_clients(&mut clients, &mut answerer, now);
    drop(clients);
    let refused = |all: &[UnixStream]| all.iter().filter(|one| rest(one).contains("busy")).count();
    assert_eq!((refused(&near), refused(&masters)), (FOLLOWING_MASTERS_MIN, 0));
}
