//! Names of addresses by the system's resolver, which knows no time limit, within one.

use std::fmt::Display;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::Duration;

use crate::report::plain;

/// For one name: the resolver's own first try.
const PATIENCE: Duration = Duration::from_secs(5);
/// Threads that ask at a time: those that are waited for, and sixteen that were left to a resolver that does not answer. It
/// is asked no more until one of them ends.
const ASKING_MAX: usize = 24;
const NAME_CHARS_MAX: usize = 253;

/// The system's resolver, and how many questions it has not answered.
#[derive(Debug, Default)]
pub struct Resolver {
    asking: Arc<AtomicUsize>,
}

/// One question, until its thread ends.
struct Asking(Arc<AtomicUsize>);

impl Drop for Asking {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

impl Resolver {
    /// The name of an address; nothing if it has none.
    pub fn name(&self, address: IpAddr) -> Result<Option<String>, String> {
        self.ask(move || dns_lookup::lookup_addr(&address))
    }

    fn ask<E: Display + Send + 'static>(
        &self,
        look_up: impl FnOnce() -> Result<String, E> + Send + 'static,
    ) -> Result<Option<String>, String> {
        let asking = Asking(Arc::clone(&self.asking));
        if self.asking.fetch_add(1, Relaxed) >= ASKING_MAX {
            return Err("(the resolver does not answer)".to_owned());
        }
        let (answer, answered) = channel();
        let ask = move || {
            let found = look_up();
            drop(asking);
            // Nobody may wait for it any more.
            let _ = answer.send(found);
        };
        let thread = std::thread::Builder::new().name("ptr".to_owned()).spawn(ask);
        thread.map_err(|error| format!("({error})"))?;
        match answered.recv_timeout(PATIENCE) {
            // Without a name the resolver gives the address back.
            Ok(Ok(name)) if name.parse::<IpAddr>().is_ok() => Ok(None),
            Ok(Ok(name)) => Ok(Some(plain(name.trim_end_matches('.'), NAME_CHARS_MAX))),
            Ok(Err(error)) => Err(format!("({error})")),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
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
    }

    #[test]
    fn a_resolver_that_answers_again_is_asked_again() {
        let resolver = Resolver::default();
        let asking: Vec<Asking> = (0..ASKING_MAX)
            .map(|_| {
                resolver.asking.fetch_add(1, Relaxed);
                Asking(Arc::clone(&resolver.asking))
            })
            .collect();
        let ask = || resolver.ask(|| Ok::<_, String>("x.example.".to_owned()));
        assert!(ask().unwrap_err().contains("does not answer"));
        assert!(ask().is_err(), "and being told so leaves nothing behind");
        drop(asking);
        for _ in 0..2 * ASKING_MAX {
            assert_eq!(ask(), Ok(Some("x.example".to_owned())));
        }
        assert_eq!(resolver.asking.load(Relaxed), 0);
    }
}
