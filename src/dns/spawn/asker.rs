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
    /// It has answered once.
    answered: AtomicBool,
    /// Questions in a row that it did not answer, and not a line came either.
    unanswered: AtomicU32,
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
    /// Begins to ask a dnsmasq that has started.
    ///
    /// # Errors
    /// If the system gives no thread or descriptor.
    pub fn start(config: &SpawnConfig) -> io::Result<Asker> {
        let asker = Asker { state: Arc::default(), done: Stop::new()? };
        let (config, state, done) = (config.clone(), Arc::clone(&asker.state), asker.done.clone());
        std::thread::Builder::new()
            .name("dns-asker".to_owned())
            .spawn(move || keep_asking(&config, &state, &done))?;
        Ok(asker)
    }

    /// Its log gave something: it may be too busy to answer us, but it does not hang.
    pub fn heard(&self) {
        self.state.heard.fetch_add(1, Relaxed);
        self.state.unanswered.store(0, Relaxed);
    }

    /// Questions in a row without an answer; nothing while it has neither answered nor failed to.
    pub fn unanswered(&self) -> Option<u32> {
        let unanswered = self.state.unanswered.load(Relaxed);
        (unanswered > 0 || self.state.answered.load(Relaxed)).then_some(unanswered)
    }

    /// True if it hangs. One that never answered may be out of our reach instead: to start it anew would help nobody.
    pub fn is_hung(&self) -> bool {
        self.state.answered.load(Relaxed) && self.state.unanswered.load(Relaxed) >= UNANSWERED_MAX
    }
}

impl Drop for Asker {
    fn drop(&mut self) {
        self.done.raise();
    }
}

fn keep_asking(config: &SpawnConfig, state: &State, done: &Stop) {
    for id in (0..=u16::MAX).cycle() {
        let heard = state.heard.load(Relaxed);
        let pause = match ask(config, id, PATIENCE, done) {
            Reply::Stopped => return,
            Reply::Nowhere => EVERY,
            Reply::Answered => {
                state.unanswered.store(0, Relaxed);
                state.answered.store(true, Relaxed);
                EVERY
            }
            Reply::Unanswered if state.heard.load(Relaxed) != heard => EVERY,
            Reply::Unanswered => {
                state.unanswered.fetch_add(1, Relaxed);
                AGAIN
            }
        };
        if done.wait(pause) {
            return;
        }
    }
}

/// Asks on every address, and waits for the first answer.
fn ask(config: &SpawnConfig, id: u16, patience: Duration, done: &Stop) -> Reply {
    let Ok(port) = config.port() else { return Reply::Nowhere };
    let question = question(id);
    let sent = addresses(config).into_iter().filter_map(|address| {
        let socket = there(address, port).ok()?;
        // Refused by one that is not listened on, which is no answer.
        let _ = socket.send(&question);
        Some(socket)
    });
    let mut sockets: Vec<UdpSocket> = sent.take(ADDRESSES_MAX).collect();
    if sockets.is_empty() {
        return Reply::Nowhere;
    }
    let end = Instant::now() + patience;
    while !sockets.is_empty() {
        let left = end.saturating_duration_since(Instant::now());
        let fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd()).collect();
        let ready = done.poll(&fds, Some(left));
        if ready.stopped {
            return Reply::Stopped;
        }
        let mut buffer = [0; ANSWER_BYTES_MAX];
        let came = |socket: &UdpSocket, buffer: &mut [u8]| match socket.recv(buffer) {
            Ok(_) => buffer.get(..3).is_some_and(|head| is_answer(head, id)),
            Err(_) => false,
        };
        if sockets.iter().any(|socket| came(socket, &mut buffer)) {
            return Reply::Answered;
        }
        if left.is_zero() {
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
    fn only_one_that_has_answered_can_hang_and_a_line_of_its_log_is_a_sign_of_life() {
        let asker = Asker { state: Arc::default(), done: Stop::new().unwrap() };
        assert_eq!((asker.unanswered(), asker.is_hung()), (None, false));
        asker.state.unanswered.store(UNANSWERED_MAX, Relaxed);
        assert_eq!((asker.unanswered(), asker.is_hung()), (Some(UNANSWERED_MAX), false));
        asker.state.answered.store(true, Relaxed);
        assert!(asker.is_hung());
        asker.heard();
        assert_eq!((asker.unanswered(), asker.is_hung()), (Some(0), false));
    }
}
