//! Whether our own dnsmasq still answers: a thread of its own asks it, for a name that it answers by itself.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use nix::ifaddrs::getifaddrs;

use super::SpawnConfig;
use crate::dns::Stop;

/// What is asked for. RFC 2606: nobody else's; `--local` has dnsmasq say that there is none, and ask nobody.
pub const NAME: &str = "alive.synhold.invalid";
/// Questions in a row without an answer after which dnsmasq is taken to hang.
pub const UNANSWERED_MAX: u32 = 3;
/// Pause after an answer.
const EVERY: Duration = Duration::from_secs(5);
/// Pause after a question that nobody answered.
const AGAIN: Duration = Duration::from_secs(1);
/// How long an answer may take; it takes some hundred microseconds on an idle machine.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often the question is sent again meanwhile: who floods dnsmasq's socket has single datagrams lost.
const REPEAT: Duration = Duration::from_millis(50);
/// Addresses asked at a time: one that answers is enough.
const ADDRESSES_MAX: usize = 16;
const ANSWER_BYTES_MAX: usize = 512;

/// The running thread; it ends with this value.
pub struct Asker {
    state: Arc<State>,
    done: Stop,
}

#[derive(Debug, Default)]
struct State {
    /// How often its log gave something.
    heard: AtomicU64,
    /// A question has come to its end, whichever.
    asked: AtomicBool,
    /// It has answered once.
    answered: AtomicBool,
    /// Questions in a row that it did not answer, and not a line came either.
    unanswered: AtomicU32,
    /// The last of these, in a row, during which it did not work either.
    idle: AtomicU32,
}

impl State {
    /// Nothing is known against it, or any more.
    fn clear(&self) {
        self.unanswered.store(0, Relaxed);
        self.idle.store(0, Relaxed);
    }

    /// One more question without an answer, during which it used processor time or did not.
    fn missed(&self, worked: bool) {
        self.unanswered.fetch_add(1, Relaxed);
        if worked {
            self.idle.store(0, Relaxed);
        } else {
            self.idle.fetch_add(1, Relaxed);
        }
    }
}

/// What came of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reply {
    Answered,
    Unanswered,
    /// None of its addresses is there, so there is nobody to ask.
    Nowhere,
    /// It is time to end.
    Stopped,
}

impl Asker {
    /// Begins to ask a dnsmasq that has started as the process `pid`.
    ///
    /// # Errors
    /// If the system gives no thread or descriptor.
    pub fn start(config: &SpawnConfig, pid: u32) -> io::Result<Asker> {
        let asker = Asker { state: Arc::default(), done: Stop::new()? };
        let (config, state, done) = (config.clone(), Arc::clone(&asker.state), asker.done.clone());
        std::thread::Builder::new()
            .name("dns-asker".to_owned())
            .spawn(move || keep_asking(&config, pid, &state, &done))?;
        Ok(asker)
    }

    /// It wrote a line itself: it may be too busy to answer us, but it does not hang.
    pub fn heard(&self) {
        self.state.heard.fetch_add(1, Relaxed);
        self.state.clear();
    }

    /// Questions in a row without an answer; nothing before the end of the first.
    pub fn unanswered(&self) -> Option<u32> {
        self.state.asked.load(Relaxed).then(|| self.state.unanswered.load(Relaxed))
    }

    /// True if it hangs. One that never answered may be out of our reach instead, and one that works may have lost our
    /// questions in a flood: to start these anew would help nobody.
    pub fn is_hung(&self) -> bool {
        self.state.answered.load(Relaxed) && self.state.idle.load(Relaxed) >= UNANSWERED_MAX
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.done.raise();
    }
}

fn keep_asking(config: &SpawnConfig, pid: u32, state: &State, done: &Stop) {
    for id in (0..=u16::MAX).cycle() {
        let (heard, worked) = (state.heard.load(Relaxed), processor_time(pid));
        let pause = match ask(config, id, PATIENCE, done) {
            Reply::Stopped => return,
            Reply::Nowhere => {
                state.clear();
                EVERY
            }
            Reply::Answered => {
                state.clear();
                state.answered.store(true, Relaxed);
                EVERY
            }
            Reply::Unanswered if state.heard.load(Relaxed) != heard => EVERY,
            Reply::Unanswered => {
                state.missed(processor_time(pid) != worked);
                AGAIN
            }
        };
        state.asked.store(true, Relaxed);
        if done.wait(pause) {
            return;
        }
    }
}

/// Asks on every address, again and again, and waits for the first answer.
fn ask(config: &SpawnConfig, id: u16, patience: Duration, done: &Stop) -> Reply {
    let Ok(port) = config.port() else { return Reply::Nowhere };
    let there = addresses(config).into_iter().filter_map(|address| there(address, port).ok());
    let mut sockets: Vec<UdpSocket> = there.take(ADDRESSES_MAX).collect();
    if sockets.is_empty() {
        return Reply::Nowhere;
    }
    let question = question(id);
    let mut send = Instant::now();
    let end = send + patience;
    while !sockets.is_empty() {
        let now = Instant::now();
        if now >= send {
            sockets.retain(|socket| !is_refused(socket.send(&question)));
            send = now + REPEAT;
        }
        let fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        let ready = done.poll(&fds, Some(send.min(end).saturating_duration_since(now)));
        if ready.stopped {
            return Reply::Stopped;
        }
        if sockets.iter().any(|socket| is_answered(socket, id)) {
            return Reply::Answered;
        }
        if now >= end {
            break;
        }
        let mut nth = 0;
        sockets.retain(|_| {
            nth += 1;
            !ready.is_ended(nth - 1)
        });
    }
    Reply::Unanswered
}

/// Nobody listens there, which is no answer. Any other fault may pass.
fn is_refused(sent: io::Result<usize>) -> bool {
    sent.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Whether an answer waits.
fn is_answered(socket: &UdpSocket, id: u16) -> bool {
    let mut buffer = [0; ANSWER_BYTES_MAX];
    socket.recv(&mut buffer).is_ok() && buffer.get(..3).is_some_and(|head| is_answer(head, id))
}

/// What a process has used of the processors, in clock ticks; nothing if it is gone.
fn processor_time(pid: u32) -> Option<u64> {
    ticks(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `utime` and `stime` of proc_pid_stat(5), together. The second field is a name in parentheses, of any characters.
fn ticks(stat: &str) -> Option<u64> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

/// A socket from an address of this host to itself; an error if it has no such address.
fn there(address: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((address, 0))?;
    socket.connect((address, port))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Where dnsmasq listens, or would if the address were there.
fn addresses(config: &SpawnConfig) -> Vec<IpAddr> {
    let mut addresses: Vec<IpAddr> = config.listen.iter().map(|(address, _)| *address).collect();
    let interfaces = if config.interfaces.is_empty() { None } else { getifaddrs().ok() };
    for interface in interfaces.into_iter().flatten() {
        if !config.interfaces.iter().any(|pattern| fits(&interface.interface_name, pattern)) {
            continue;
        }
        let Some(address) = interface.address else { continue };
        addresses.extend(address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip())));
        // A link-local one is asked with its interface, and there are others.
        let v6 = address.as_sockaddr_in6().map(nix::sys::socket::SockaddrIn6::ip);
        addresses.extend(v6.filter(|v6| !v6.is_unicast_link_local()).map(IpAddr::V6));
    }
    addresses
}

fn fits(name: &str, pattern: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => name == pattern,
    }
}

/// A question for the A records of [`NAME`].
fn question(id: u16) -> Vec<u8> {
    let mut bytes = id.to_be_bytes().to_vec();
    // Recursion is wanted; one question.
    bytes.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in NAME.split('.') {
        bytes.extend(u8::try_from(label.len()));
        bytes.extend(label.as_bytes());
    }
    // The root, type A, class IN.
    bytes.extend([0, 0, 1, 0, 1]);
    bytes
}

/// Whether a message begins as the answer to our question does, whatever the answer is.
fn is_answer(head: &[u8], id: u16) -> bool {
    const RESPONSE: u8 = 0x80;
    matches!(head, [a, b, flags] if [*a, *b] == id.to_be_bytes() && flags & RESPONSE != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &[(&str, u16)]) -> SpawnConfig {
        let listen = listen.iter().map(|(text, port)| (text.parse().unwrap(), *port)).collect();
        SpawnConfig { listen, ..SpawnConfig::default() }
    }

    #[test]
    fn an_answer_is_one_to_our_question() {
        let asked = question(0x1234);
        assert_eq!(asked[..4], [0x12, 0x34, 1, 0]);
        assert!(asked.ends_with(b"\x05alive\x07synhold\x07invalid\0\0\x01\0\x01"));
        assert!(is_answer(&[0x12, 0x34, 0x81], 0x1234));
        assert!(!is_answer(&[0x12, 0x34, 0x01], 0x1234), "a question");
        assert!(!is_answer(&[0x12, 0x35, 0x81], 0x1234) && !is_answer(&[0x12, 0x34], 0x1234));
    }

    #[test]
    fn one_that_answers_is_told_from_one_that_does_not_and_from_none() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let at = server.local_addr().unwrap().port();
        // The second address is no address of this host's.
        let config = config(&[("127.0.0.1", at), ("192.0.2.1", at)]);
        let stop = Stop::new().unwrap();
        let answers = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let (count, from) = server.recv_from(&mut buffer).unwrap();
            buffer[2] |= 0x80;
            server.send_to(&buffer[..count], from).unwrap();
            server
        });
        let ask = |config, patience| ask(config, 7, Duration::from_millis(patience), &stop);
        assert_eq!(ask(&config, 20_000), Reply::Answered);
        let server = answers.join().unwrap();
        assert_eq!(ask(&config, 20), Reply::Unanswered, "it is there, and silent");
        drop(server);
        assert_eq!(ask(&config, 20_000), Reply::Unanswered, "nobody is there, which is told");
        let elsewhere = self::config(&[("192.0.2.1", 53)]);
        assert_eq!(ask(&elsewhere, 20_000), Reply::Nowhere);
        stop.raise();
        assert_eq!(ask(&config, 20_000), Reply::Stopped);
    }

    #[test]
    fn a_question_that_is_lost_is_sent_again() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let config = config(&[("127.0.0.1", server.local_addr().unwrap().port())]);
        let answers = std::thread::spawn(move || {
            let mut buffer = [0; 512];
            let mut next = || server.recv_from(&mut buffer).map(|(_, from)| from).unwrap();
            let from = (0..4).map(|_| next()).last().unwrap();
            server.send_to(&[0, 7, 0x81], from).unwrap();
        });
        let stop = Stop::new().unwrap();
        assert_eq!(ask(&config, 7, Duration::from_secs(20), &stop), Reply::Answered);
        answers.join().unwrap();
    }

    #[test]
    fn processor_time_is_read_whatever_the_process_is_called() {
        let stat = "7 (a) R 1 2) S 1 7 7 0 -1 4194560 95 0 0 0 17 25 3 4 20 0 1 0 99";
        assert_eq!((ticks(stat), ticks("7 (a) S 1"), ticks("")), (Some(42), None, None));
        assert!(processor_time(std::process::id()).is_some() && processor_time(0).is_none());
    }

    #[test]
    fn one_that_works_does_not_hang() {
        let asker = Asker { state: Arc::default(), done: Stop::new().unwrap() };
        asker.state.answered.store(true, Relaxed);
        asker.state.asked.store(true, Relaxed);
        let told = [false, false, true, false, false, false].map(|worked| {
            asker.state.missed(worked);
            asker.is_hung()
        });
        assert_eq!(told, [false, false, false, false, false, true]);
        assert_eq!(asker.unanswered(), Some(6), "that it does not answer is told");
        asker.state.clear();
        assert_eq!((asker.unanswered(), asker.is_hung()), (Some(0), false));
    }

    #[test]
    fn one_without_an_address_is_not_silent() {
        let (state, done) = (Arc::new(State::default()), Stop::new().unwrap());
        (0..UNANSWERED_MAX).for_each(|_| state.missed(false));
        let asker = Asker { state: Arc::clone(&state), done: done.clone() };
        let asks = std::thread::spawn(move || {
            keep_asking(&config(&[("192.0.2.1", 53)]), 0, &state, &done);
        });
        let end = Instant::now() + Duration::from_secs(20);
        while asker.unanswered().is_none() && Instant::now() < end {
            std::thread::yield_now();
        }
        assert_eq!(asker.unanswered(), Some(0));
        drop(asker);
        asks.join().unwrap();
    }

    #[test]
    fn only_one_that_has_answered_can_hang_and_a_line_of_its_log_is_a_sign_of_life() {
        let asker = Asker { state: Arc::default(), done: Stop::new().unwrap() };
        assert_eq!((asker.unanswered(), asker.is_hung()), (None, false));
        (0..UNANSWERED_MAX).for_each(|_| asker.state.missed(false));
        asker.state.asked.store(true, Relaxed);
        assert_eq!((asker.unanswered(), asker.is_hung()), (Some(UNANSWERED_MAX), false));
        asker.state.answered.store(true, Relaxed);
        assert!(asker.is_hung());
        asker.heard();
        assert_eq!((asker.unanswered(), asker.is_hung()), (Some(0), false));
    }
}
