//! Standard input: read until it ends, and then there is no evidence any more.

use std::os::fd::AsFd;
use std::time::Duration;

use super::framing::Framing;
use super::pump::{Pump, Read};
use super::{Sink, Status, Stop, wait};

/// Reads `input` until it ends, and waits for `stop` in any case.
pub fn run(input: impl AsFd, stop: &Stop, sink: &mut dyn Sink) {
    let (mut status, mut pump, mut framing) = (Status::new(), Pump::new(), Framing::default());
    status.up(sink);
    loop {
        let ready = wait(stop, &[input.as_fd()], None, sink);
        if ready.stopped {
            return;
        }
        pump.behind(sink);
        // The descriptor may be shared with a terminal or a shell, so it stays blocking: one read per wake-up.
        let why = match pump.read(&input, &mut framing, sink) {
            Ok(Read::Bytes(_) | Read::Nothing) => None,
            Ok(Read::End) => Some("standard input has ended".to_owned()),
            Err(errno) => Some(format!("standard input: {errno}")),
        };
        let more = stop.poll(&[input.as_fd()], Some(Duration::ZERO)).readable != 0;
        if why.is_some() || !more {
            pump.caught_up(sink);
        }
        if let Some(why) = why {
            break status.down(&why, sink);
        }
    }
    while !stop.poll(&[], None).stopped {}
}
