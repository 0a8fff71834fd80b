//! The kernel's own counters of every queue in this network namespace.

use std::io;

/// One line of `/proc/net/netfilter/nfnetlink_queue` (kernel: `net/netfilter/nfnetlink_queue.c`, `seq_show`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Queue number.
    pub queue: u16,
    /// Netlink port of the socket that serves it, most often the process id.
    pub port: u32,
    /// Packets waiting in the queue.
    pub waiting: u64,
    /// Packets dropped because the queue was full.
    pub queue_dropped: u64,
    /// Packets dropped because they could not be put into the socket's receive buffer.
    pub user_dropped: u64,
}

/// Reads the counters of the calling thread's network namespace.
///
/// # Errors
/// If procfs cannot be read; a kernel without a queue in use reads as empty.
pub fn read() -> io::Result<Vec<Counters>> {
    match std::fs::read_to_string("/proc/thread-self/net/netfilter/nfnetlink_queue") {
        Ok(text) => Ok(parse(&text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

fn parse(text: &str) -> Vec<Counters> {
    text.lines().filter_map(line).collect()
}

fn line(line: &str) -> Option<Counters> {
    let mut fields = line.split_ascii_whitespace();
    let queue = fields.next()?.parse().ok()?;
    let port = fields.next()?.parse().ok()?;
    let waiting = fields.next()?.parse().ok()?;
    let mut fields = fields.skip(2); // copy mode and copy range
    let queue_dropped = fields.next()?.parse().ok()?;
    let user_dropped = fields.next()?.parse().ok()?;
    Some(Counters { queue, port, waiting, queue_dropped, user_dropped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_lines_are_read_and_others_left_out() {
        let text = "    0   4711     3 2   256     7     2       99  1\n\n    1 4294963198     0 2   256     0     0        0  1\nnonsense\n";
        let first =
            Counters { queue: 0, port: 4711, waiting: 3, queue_dropped: 7, user_dropped: 2 };
        let second = Counters { queue: 1, port: 4_294_963_198, ..Counters::default() };
        assert_eq!(parse(text), [first, second]);
    }
}
