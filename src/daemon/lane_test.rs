//! A verdict thread on a scripted queue: what the kernel is told in each mode, and what survives a failure.

use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use etherparse::PacketBuilder;

use super::*;
use crate::daemon::testing::Parts;
use crate::engine::health::{Batch, SourceHealth};
use crate::engine::hold::Bounds;
use crate::engine::{Engine, Kind, Name, Record, Settings, Wall};
use crate::events::EventWriter;
use crate::nfq::script::{Arrival, Script};

const PATIENCE: Duration = Duration::from_secs(10);

fn syn(port: u16, to: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let ip = PacketBuilder::ipv4([172, 17, 0, 2], [203, 0, 113, to], 64);
    ip.tcp(port, 443, 7, 1024).syn().write(&mut bytes, &[]).unwrap();
    bytes
}

fn record(to: u8) -> Record {
    Record {
        address: [203, 0, 113, to].into(),
        name: Name::new("a.example").unwrap(),
        client: None,
        kind: Kind::Reply,
        chain: vec![],
        time: Wall(1_000_000),
    }
}

/// A lane at work, with everything it was given.
struct Bench {
    shared: Arc<Shared>,
    scripts: Vec<Script>,
    drained: Receiver<()>,
    thread: Option<JoinHandle<()>>,
    _writer: EventWriter,
}

impl Bench {
    /// A lane in `mode` over sockets that play these scripts, one after the other.
    fn start(mode: Mode, unanswered: Verdict, hold_ms: u64, scripts: Vec<Script>) -> Bench {
        let source = Arc::new(SourceHealth::new("test"));
        source.mark_up(crate::engine::Mono(0));
        source.count(
            Batch { lines: 1, ..Batch::default() },
            crate::engine::Now { wall: Wall(1), ..Default::default() },
        );
        let bounds = Bounds { hold: Duration::from_millis(hold_ms), budget: 2, total: 8 };
        let engine = Engine::new(Settings { mode, bounds, ..Settings::default() }, vec![source]);
        engine.record(&record(1), clock::now());
        let mailboxes = vec![Mailbox::new().unwrap()];
        let parts = Parts { engine, mailboxes, unanswered, ..Parts::default() };
        let (shared, writer) = parts.shared();
        let shared = Arc::new(shared);
        let (tell, drained) = channel();
        let next = AtomicUsize::new(0);
        let sockets = scripts.clone();
        let open: Opener<Script> = Box::new(move || {
            let socket = sockets.get(next.fetch_add(1, SeqCst));
            socket.cloned().ok_or_else(|| io::Error::other("no more sockets"))
        });
        let lane = Lane::open(0, open, Arc::clone(&shared), tell).unwrap();
        let thread = Some(std::thread::spawn(move || lane.run()));
        Bench { shared, scripts, drained, thread, _writer: writer }
    }

    /// Waits until the lane has given `count` answers on socket `socket`.
    #[track_caller]
    fn answers(&self, socket: usize, count: usize) -> Vec<(u32, Disposition)> {
        let start = Instant::now();
        loop {
            self.shared.mailboxes[0].ring();
            let answers = self.scripts[socket].answers();
            if answers.len() >= count {
                return answers;
            }
            assert!(start.elapsed() < PATIENCE, "only {answers:?}");
            std::thread::yield_now();
        }
    }

    fn stop(mut self) -> Vec<Vec<(u32, Disposition)>> {
        self.shared.set_phase(Phase::Close);
        self.thread.take().unwrap().join().unwrap();
        self.scripts.iter().map(Script::answers).collect()
    }
}

fn one(mode: Mode, hold_ms: u64, arrivals: Vec<Arrival>) -> Bench {
    Bench::start(mode, Verdict::Drop, hold_ms, vec![Script::new(arrivals)])
}

/// Known, unknown, its copy, unreadable, two more unknown of which one is over the budget of two.
fn mixed() -> Vec<Arrival> {
    vec![
        Arrival::Packet(1, syn(1, 1)),
        Arrival::Packet(2, syn(2, 2)),
        Arrival::Packet(3, syn(2, 2)),
        Arrival::Packet(4, vec![0x45, 0]),
        Arrival::Packet(5, syn(3, 2)),
        Arrival::Packet(6, syn(4, 2)),
    ]
}

#[test]
fn enforcing_accepts_holds_joins_and_refuses() {
    let lane = one(Mode::Enforce, 900, mixed());
    use Disposition::{Accept, Drop, Refuse};
    assert_eq!(lane.answers(0, 4), [(1, Accept), (3, Drop), (4, Refuse), (6, Refuse)]);
    let released = lane.shared.engine.record(&record(2), clock::now()).released;
    lane.shared.deliver(released);
    let mut late = lane.answers(0, 6).split_off(4);
    late.sort_by_key(|(id, _)| *id);
    assert_eq!(late, [(2, Accept), (5, Accept)]);
    assert_eq!(lane.stop()[0].len(), 6, "one answer each");
}

#[test]
fn a_dry_run_accepts_everything_at_once() {
    let lane = one(Mode::DryRun, 50, mixed());
    let answers = lane.answers(0, 6);
    let ids: Vec<u32> = answers.iter().map(|(id, _)| *id).collect();
    assert_eq!(ids, [1, 2, 3, 4, 5, 6]);
    assert!(answers.iter().all(|(_, answer)| *answer == Disposition::Accept), "{answers:?}");
    assert_eq!(lane.stop()[0].len(), 6);
}

#[test]
fn time_up_is_a_refusal_as_configured() {
    let lane = one(Mode::Enforce, 20, vec![Arrival::Packet(9, syn(1, 2))]);
    assert_eq!(lane.answers(0, 1), [(9, Disposition::Refuse)]);
    lane.stop();
}

#[test]
fn a_refused_packet_that_comes_back_is_dropped_and_not_asked_about_again() {
    let lane = one(Mode::Enforce, 900, vec![Arrival::Refused(1, syn(1, 2))]);
    assert_eq!(lane.answers(0, 1), [(1, Disposition::Drop)]);
    assert_eq!(lane.shared.totals().unrefused, 1);
    lane.stop();
}

#[test]
fn draining_answers_what_is_held_in_silence_and_holds_nothing_more() {
    for (unanswered, answer) in
        [(Verdict::Drop, Disposition::Drop), (Verdict::Accept, Disposition::Accept)]
    {
        let script = Script::new([Arrival::Packet(1, syn(1, 2))]);
        let lane = Bench::start(Mode::Enforce, unanswered, 900, vec![script.clone()]);
        let start = Instant::now();
        while lane.shared.engine.held() == 0 {
            assert!(start.elapsed() < PATIENCE);
            std::thread::yield_now();
        }
        lane.shared.set_phase(Phase::Drain);
        lane.drained.recv_timeout(PATIENCE).unwrap();
        script.arrive(Arrival::Packet(2, syn(2, 2)));
        script.arrive(Arrival::Packet(3, syn(2, 1)));
        assert_eq!(lane.answers(0, 3), [(1, answer), (2, answer), (3, Disposition::Accept)]);
        lane.stop();
    }
}

#[test]
fn panics_are_survived_and_nothing_held_is_forgotten() {
    let arrivals =
        vec![Arrival::Packet(1, syn(1, 2)), Arrival::Panic, Arrival::Packet(2, syn(2, 1))];
    let lane = one(Mode::Enforce, 900, arrivals);
    assert_eq!(lane.answers(0, 1), [(2, Disposition::Accept)]);
    assert_eq!(lane.shared.totals().panics, 1);
    let released = lane.shared.engine.record(&record(2), clock::now()).released;
    lane.shared.deliver(released);
    assert_eq!(lane.answers(0, 2)[1], (1, Disposition::Accept));
    lane.stop();
}

#[test]
fn a_socket_that_panics_for_ever_is_replaced() {
    let broken = Script::new(std::iter::repeat_n(Arrival::Panic, 100));
    let fresh = Script::new([Arrival::Packet(1, syn(1, 1))]);
    let lane = Bench::start(Mode::Enforce, Verdict::Drop, 900, vec![broken, fresh]);
    assert_eq!(lane.answers(1, 1), [(1, Disposition::Accept)]);
    lane.stop();
}

#[test]
fn a_dead_socket_is_replaced_and_a_late_answer_does_not_hit_a_packet_of_the_new_one() {
    let dead = Script::new([Arrival::Packet(1, syn(1, 2)), Arrival::Errno(libc::EBADF)]);
    let fresh = Script::new([Arrival::Packet(1, syn(1, 3))]);
    let lane = Bench::start(Mode::Enforce, Verdict::Drop, 900, vec![dead, fresh]);
    let start = Instant::now();
    while lane.shared.totals().reopened == 0 || lane.shared.engine.held() != 1 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    // The record of the old socket's packet 1 was being handled while the socket died.
    let decision = lane.shared.engine.stopping(
        crate::engine::packet::parse(&syn(1, 2)).unwrap(),
        0,
        Verdict::Accept,
        clock::now(),
    );
    let late = Ticket { generation: 0, packet: 1 };
    lane.shared.deliver(vec![Answer { ticket: late, decision }]);
    let start = Instant::now();
    while lane.shared.totals().accepted == 0 {
        assert!(start.elapsed() < PATIENCE, "the late answer is reported all the same");
        std::thread::yield_now();
    }
    let answers = lane.stop();
    assert_eq!(answers[1], [(1, Disposition::Drop)], "answered by the queue's end, not accepted");
}

#[test]
fn an_answer_still_on_its_way_from_a_reader_is_waited_for() {
    let lane = one(Mode::Enforce, 900, vec![Arrival::Packet(1, syn(1, 2))]);
    let start = Instant::now();
    while lane.shared.engine.held() == 0 {
        assert!(start.elapsed() < PATIENCE);
        std::thread::yield_now();
    }
    // The reader has taken the packet out of the hold and not yet delivered its answer.
    let released = lane.shared.engine.record(&record(2), clock::now()).released;
    lane.shared.set_phase(Phase::Drain);
    lane.answers(0, 0);
    assert!(lane.drained.try_recv().is_err(), "the packet is not answered yet");
    lane.shared.deliver(released);
    lane.drained.recv_timeout(PATIENCE).unwrap();
    assert_eq!(lane.stop()[0], [(1, Disposition::Accept)]);
}

#[test]
fn a_socket_that_never_runs_empty_does_not_keep_the_drain_from_ending() {
    let endless = (0..200_000u32).map(|id| Arrival::Packet(id, syn(1, 1)));
    let lane = one(Mode::Enforce, 900, endless.collect());
    lane.shared.set_phase(Phase::Drain);
    lane.drained.recv_timeout(PATIENCE).unwrap();
    lane.stop();
}

#[test]
fn the_beat_follows_the_bell_and_stops_with_the_thread() {
    let lane = one(Mode::Enforce, 900, vec![]);
    let mailbox = &lane.shared.mailboxes[0];
    let beats = |more: u64| {
        let (start, before) = (Instant::now(), mailbox.beat.get());
        while mailbox.beat.get() < before + more {
            mailbox.ring();
            assert!(start.elapsed() < PATIENCE, "it does not beat");
            std::thread::yield_now();
        }
    };
    beats(100);
    let stalled = lane.scripts[0].stall();
    // One turn may have begun before, and one begins now and gets no further.
    let before = mailbox.beat.get();
    for _ in 0..1_000 {
        mailbox.ring();
        std::thread::yield_now();
    }
    assert!(mailbox.beat.get() <= before + 2);
    drop(stalled);
    beats(100);
    lane.stop();
}
