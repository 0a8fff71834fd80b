//! The bare program synhold is measured against: takes a packet, says accept, takes the next.

use std::io::Write;

/// Serves queue `number` until killed.
pub fn run(number: u16) {
    let mut queue = nfq::Queue::open().expect("open a queue");
    queue.bind(number).expect("bind the queue");
    // As much as synhold copies of a packet.
    queue.set_copy_range(number, synhold::engine::limits::COPY_RANGE).expect("set the copy range");
    println!("ready");
    std::io::stdout().flush().expect("flush");
    loop {
        let mut message = queue.recv().expect("receive");
        message.set_verdict(nfq::Verdict::Accept);
        queue.verdict(message).expect("answer");
    }
}
