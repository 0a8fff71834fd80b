//! Names of addresses by the system's resolver, which knows no time limit, within one.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::report::plain;

/// For one name: the resolver's own first try.
const PATIENCE: Duration = Duration::from_secs(5);
/// Threads that may be left waiting for a resolver that does not answer. It is asked no more then.
const LEFT_MAX: usize = 16;
const NAME_CHARS_MAX: usize = 253;

/// The system's resolver, and how many of its answers are still awaited by nobody.
#[derive(Debug, Default)]
pub struct Resolver {
    left: AtomicUsize,
}

impl Resolver {
    /// The name of an address; nothing if it has none.
    pub fn name(&self, address: IpAddr) -> Result<Option<String>, String> {
        if self.left.load(Relaxed) >= LEFT_MAX {
            return Err("(the resolver does not answer)".to_owned());
        }
        let (answer, answered) = channel();
        let ask = move || {
            // Nobody may wait for it any more.
            let _ = answer.send(dns_lookup::lookup_addr(&address));
        };
        let thread = std::thread::Builder::new().name("ptr".to_owned()).spawn(ask);
        thread.map_err(|error| format!("({error})"))?;
        match answered.recv_timeout(PATIENCE) {
            // Without a name the resolver gives the address back.
            Ok(Ok(name)) if name.parse::<IpAddr>().is_ok() => Ok(None),
            Ok(Ok(name)) => Ok(Some(plain(name.trim_end_matches('.'), NAME_CHARS_MAX))),
            Ok(Err(error)) => Err(format!("({error})")),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                self.left.fetch_add(1, Relaxed);
                Err("(no answer in time)".to_owned())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_comes_from_the_system() {
        // The hosts file of every machine has it.
        let name = Resolver::default().name("127.0.0.1".parse().unwrap()).unwrap();
        assert!(name.is_none_or(|name| name.contains("localhost") || !name.is_empty()));
        let silent = Resolver { left: AtomicUsize::new(LEFT_MAX) };
        assert!(silent.name("127.0.0.1".parse().unwrap()).is_err());
    }
}
