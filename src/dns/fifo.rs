//! A FIFO that dnsmasq writes to: made if need be, re-opened when its writers go, never left without a reader.

use std::fs::{File, OpenOptions};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::stat::Mode;

use super::framing::Framing;
use super::pump::{Pump, Read};
use super::{Sink, Status, Stop, persevere, wait};

/// How often it is checked that the path still leads to the FIFO being read.
const SAFETY_TICK: Duration = Duration::from_secs(1);

/// Reads the FIFO at `path` until `stop` is raised.
pub fn run(path: &Path, stop: &Stop, sink: &mut dyn Sink) {
    persevere(path, stop, sink, |pump, status, backoff, sink| match open(path) {
        Ok(fifo) => {
            backoff.reset();
            follow(path, fifo, stop, pump, status, sink)
        }
        Err(error) => error,
    });
}

/// Opens the FIFO, and makes it first if nothing is there.
fn open(path: &Path) -> std::io::Result<File> {
    match nix::unistd::mkfifo(path, Mode::S_IRUSR | Mode::S_IWUSR) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno.into()),
    }
    let fifo = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    if fifo.metadata()?.file_type().is_fifo() {
        return Ok(fifo);
    }
    Err(std::io::Error::other("is there and is not a FIFO (for a regular file use file:PATH)"))
}

/// Returns only with a failure, or when stopped.
fn follow(
    path: &Path,
    mut fifo: File,
    stop: &Stop,
    pump: &mut Pump,
    status: &mut Status,
    sink: &mut dyn Sink,
) -> std::io::Error {
    let mut framing = Framing::default();
    status.down("nothing has been written to it yet", sink);
    loop {
        let ready = wait(stop, &[fifo.as_fd()], Some(SAFETY_TICK), sink);
        if ready.stopped {
            return std::io::Error::other("stopped");
        }
        if ready.is_readable(0) {
            pump.behind(sink);
            status.up(sink);
            match drain(&fifo, pump, &mut framing, stop, sink) {
                Ok(()) => pump.caught_up(sink),
                Err(errno) => return errno.into(),
            }
        } else if ready.is_ended(0) {
            status.down("nobody writes to it any more", sink);
            framing.reset();
            // The new reader is there before the old one goes: a writer that comes in between finds one. It also does
            // not know of the writers that went, so that it waits for the next one instead of reporting them again.
            fifo = match open(path) {
                Ok(next) => next,
                Err(error) => return error,
            };
        } else if replaced(path, &fifo) {
            return std::io::Error::other("was replaced");
        }
    }
}

fn drain(
    fifo: &File,
    pump: &mut Pump,
    framing: &mut Framing,
    stop: &Stop,
    sink: &mut dyn Sink,
) -> Result<(), Errno> {
    while !stop.is_raised() {
        match pump.read(fifo, framing, sink)? {
            Read::Bytes(_) => {}
            Read::Nothing | Read::End => break,
        }
    }
    Ok(())
}

fn replaced(path: &Path, fifo: &File) -> bool {
    let same =
        |a: &std::fs::Metadata, b: &std::fs::Metadata| (a.dev(), a.ino()) == (b.dev(), b.ino());
    match (std::fs::metadata(path), fifo.metadata()) {
        (Ok(there), Ok(open)) => !same(&there, &open),
        _ => true,
    }
}
