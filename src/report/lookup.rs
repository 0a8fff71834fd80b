//! What others publish about addresses: the name, by the system's resolver; whose it is, by RDAP; its fame, by AbuseIPDB.
//!
//! Nobody is asked who was not wanted: every question tells others whom we look at. Several are asked at a time, each
//! within its time and all within theirs; a failure is text in a row and no error.

mod abuse;
mod http;
mod ptr;
mod rdap;

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

pub use abuse::{ABUSEIPDB, Reputation};
pub use http::Endpoint;
pub use rdap::{RDAP, Registration};

use ptr::Resolver;

/// Asked at a time: polite to those who answer, and eight times as fast.
const AT_A_TIME: usize = 8;
/// For all of them; what is not asked by then is asked next time.
const PATIENCE: Duration = Duration::from_secs(600);
/// What there is to say about what was not asked.
const TOO_LATE: &str = "(not asked: out of time)";

/// Whom to ask.
#[derive(Clone, Debug, Default)]
pub struct Lookups {
    /// The system's resolver.
    pub ptr: bool,
    /// An RDAP server, or one that knows them all.
    pub rdap: Option<Endpoint>,
    /// AbuseIPDB, with a key.
    pub abuse: Option<(Endpoint, String)>,
}

/// What to ask about one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Its name.
    pub ptr: bool,
    /// Whose it is.
    pub rdap: bool,
    /// Its fame.
    pub abuse: bool,
}

/// What was answered: nothing where nobody was asked, text where there was no answer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Its name, if it has one.
    pub ptr: Option<Result<Option<String>, String>>,
    /// Whose it is.
    pub rdap: Option<Result<Registration, String>>,
    /// Its fame.
    pub abuse: Option<Result<Reputation, String>>,
}

impl Lookups {
    /// True if nobody is to be asked.
    pub fn is_none(&self) -> bool {
        !self.ptr && self.rdap.is_none() && self.abuse.is_none()
    }

    /// Asks about all of them.
    pub fn ask(&self, wanted: Vec<(IpAddr, Wanted)>) -> Vec<(IpAddr, Found)> {
        let end = Instant::now() + PATIENCE;
        let workers = AT_A_TIME.min(wanted.len());
        let (queue, found) = (Mutex::new(VecDeque::from(wanted)), Mutex::new(Vec::new()));
        let resolver = Resolver::default();
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    while let Some((address, wanted)) = next() {
                        let answer = match Instant::now() < end {
                            true => self.one(address, wanted, &resolver),
                            false => too_late(wanted),
                        };
                        let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
                        found.push((address, answer));
                    }
                });
            }
        });
        found.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn one(&self, address: IpAddr, wanted: Wanted, resolver: &Resolver) -> Found {
        Found {
            ptr: (wanted.ptr && self.ptr).then(|| resolver.name(address)),
            rdap: self.rdap.as_ref().filter(|_| wanted.rdap).map(|at| rdap::ask(at, address)),
            abuse: self
                .abuse
                .as_ref()
                .filter(|_| wanted.abuse)
                .map(|(at, key)| abuse::ask(at, key, address)),
        }
    }
}

fn too_late(wanted: Wanted) -> Found {
    let late = || TOO_LATE.to_owned();
    Found {
        ptr: wanted.ptr.then(|| Err(late())),
        rdap: wanted.rdap.then(|| Err(late())),
        abuse: wanted.abuse.then(|| Err(late())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_asked_who_was_not_wanted() {
        let nobody = Lookups::default();
        let all = Wanted { ptr: true, rdap: true, abuse: true };
        let address: IpAddr = "203.0.113.9".parse().unwrap();
        assert!(nobody.is_none());
        assert_eq!(nobody.ask(vec![(address, all)]), [(address, Found::default())]);
    }
}
