//! The guard's promise against a fake link: one answer for every packet, whatever happens.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;

use super::*;

/// A link that plays a script and writes down the answers.
#[derive(Clone, Default)]
struct Script {
    incoming: Rc<RefCell<VecDeque<Result<u32, i32>>>>,
    answers: Rc<RefCell<Vec<(u32, Disposition)>>>,
}

impl Link for Script {
    type Message = (u32, Vec<u8>);

    fn receive(&mut self) -> io::Result<Self::Message> {
        match self.incoming.borrow_mut().pop_front() {
            Some(Ok(id)) => Ok((id, vec![0x45])),
            Some(Err(errno)) => Err(io::Error::from_raw_os_error(errno)),
            None => Err(io::Error::from_raw_os_error(libc::EAGAIN)),
        }
    }

    fn answer(&mut self, (id, _): Self::Message, disposition: Disposition) -> io::Result<()> {
        self.answers.borrow_mut().push((id, disposition));
        Ok(())
    }

    fn id(message: &Self::Message) -> u32 {
        message.0
    }

    fn payload(message: &Self::Message) -> &[u8] {
        &message.1
    }
}

fn queue(
    incoming: &[Result<u32, i32>],
    unanswered: Disposition,
) -> (Queue<Script>, Script, Arc<QueueStats>) {
    let script = Script::default();
    script.incoming.borrow_mut().extend(incoming);
    let stats = Arc::new(QueueStats::default());
    (Queue::new(script.clone(), unanswered, Arc::clone(&stats)), script, stats)
}

fn next<'q>(queue: &'q mut Queue<Script>) -> Packet<'q, Script> {
    match queue.receive() {
        Received::Packet(packet) => packet,
        _ => panic!("a packet was due"),
    }
}

#[test]
fn a_packet_is_answered_once() {
    let (mut queue, script, _) = queue(&[Ok(1)], Disposition::Drop);
    next(&mut queue).answer(Disposition::Accept);
    drop(queue);
    assert_eq!(*script.answers.borrow(), [(1, Disposition::Accept)]);
}

#[test]
fn a_panic_while_judging_gives_the_default_answer_and_the_queue_goes_on() {
    for unanswered in [Disposition::Drop, Disposition::Accept] {
        let (mut queue, script, _) = queue(&[Ok(1), Ok(2)], unanswered);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            let packet = next(&mut queue);
            assert_eq!(packet.payload(), [0x45]);
            panic!("while judging packet {}", packet.id());
        }));
        assert!(caught.is_err());
        next(&mut queue).answer(Disposition::Accept);
        assert_eq!(*script.answers.borrow(), [(1, unanswered), (2, Disposition::Accept)]);
    }
}

#[test]
fn held_packets_are_answered_by_number_and_the_rest_when_the_queue_goes() {
    let (mut queue, script, _) = queue(&[Ok(1), Ok(2), Ok(3)], Disposition::Drop);
    for _ in 0..3 {
        next(&mut queue).hold();
    }
    assert_eq!(queue.held(), 3);
    assert!(queue.answer_held(2, Disposition::Accept));
    assert!(!queue.answer_held(2, Disposition::Refuse), "no second answer");
    drop(queue);
    let mut answers = script.answers.borrow().clone();
    answers.sort_by_key(|(id, _)| *id);
    assert_eq!(answers, [(1, Disposition::Drop), (2, Disposition::Accept), (3, Disposition::Drop)]);
}

#[test]
fn losses_are_counted_and_only_a_dead_socket_ends_the_link() {
    let script = [Err(libc::ENOENT), Err(libc::ENOBUFS), Err(libc::EINTR), Ok(1), Err(libc::EBADF)];
    let (mut queue, _, stats) = queue(&script, Disposition::Drop);
    for _ in 0..3 {
        assert!(matches!(queue.receive(), Received::Lost));
    }
    next(&mut queue).hold();
    assert!(matches!(queue.receive(), Received::Closed(_)));
    assert!(matches!(queue.receive(), Received::Empty));
    assert_eq!((stats.gone.load(Relaxed), stats.overruns.load(Relaxed)), (1, 1));
}
