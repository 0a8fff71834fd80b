//! The guard's promise against a fake link: one answer for every packet, whatever happens.

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::super::script::{Arrival, Script};
use super::*;

fn packets(ids: impl IntoIterator<Item = u32>) -> Script {
    Script::new(ids.into_iter().map(|id| Arrival::Packet(id, vec![0x45])))
}

fn queue(script: &Script, unanswered: Disposition) -> (Queue<Script>, Arc<QueueStats>) {
    let stats = Arc::new(QueueStats::default());
    (Queue::new(script.clone(), unanswered, Arc::clone(&stats)), stats)
}

fn next(queue: &mut Queue<Script>) -> Packet<'_, Script> {
    match queue.receive() {
        Received::Packet(packet) => packet,
        _ => panic!("a packet was due"),
    }
}

#[test]
fn a_packet_is_answered_once() {
    let script = packets([1]);
    let (mut queue, _) = queue(&script, Disposition::Drop);
    next(&mut queue).answer(Disposition::Accept);
    drop(queue);
    assert_eq!(script.answers(), [(1, Disposition::Accept)]);
}

#[test]
fn a_panic_while_judging_gives_the_default_answer_and_the_queue_goes_on() {
    for unanswered in [Disposition::Drop, Disposition::Accept] {
        let script = packets([1, 2]);
        let (mut queue, _) = queue(&script, unanswered);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let packet = next(&mut queue);
            assert_eq!(packet.payload(), [0x45]);
            panic!("while judging packet {}", packet.id());
        }));
        assert!(caught.is_err());
        next(&mut queue).answer(Disposition::Accept);
        assert_eq!(script.answers(), [(1, unanswered), (2, Disposition::Accept)]);
    }
}

#[test]
fn held_packets_are_answered_by_number_and_the_rest_when_the_queue_goes() {
    let script = packets([1, 2, 3]);
    let (mut queue, _) = queue(&script, Disposition::Drop);
    for _ in 0..3 {
        next(&mut queue).hold();
    }
    assert!(queue.answer_held(2, Disposition::Accept));
    assert!(!queue.answer_held(2, Disposition::Refuse), "no second answer");
    drop(queue);
    let mut answers = script.answers();
    answers.sort_by_key(|(id, _)| *id);
    assert_eq!(answers, [(1, Disposition::Drop), (2, Disposition::Accept), (3, Disposition::Drop)]);
}

#[test]
fn losses_are_counted_and_only_a_dead_socket_ends_the_link() {
    let errors = [libc::ENOENT, libc::ENOBUFS, libc::EINTR, libc::EBADF];
    let script = Script::new(errors.map(Arrival::Errno));
    let (mut queue, stats) = queue(&script, Disposition::Drop);
    for _ in 0..3 {
        assert!(matches!(queue.receive(), Received::Lost));
    }
    assert!(matches!(queue.receive(), Received::Closed(_)));
    assert!(matches!(queue.receive(), Received::Empty));
    assert_eq!((stats.gone.load(Relaxed), stats.overruns.load(Relaxed)), (1, 1));
}
