//! The resolver of a simulated world: it answers, and writes its log as dnsmasq does with `log-queries=extra`.

use std::net::IpAddr;

use synhold::engine::Kind;

use super::cast::Entry;
use super::rng::Rng;
use super::step::{Dated, Fault, Key, Line, Micros, Says, Step, Value};

/// dnsmasq itself, and the process it forks for a query over TCP.
const PIDS: [u32; 2] = [100, 101];

/// A question with its answer.
pub struct Talk {
    asked: Micros,
    answered: Micros,
    client: (IpAddr, u16),
    pid: u32,
    qtype: &'static str,
    name: String,
    kind: Kind,
    records: Vec<(String, Value)>,
}

/// Everything that was asked, and what happens to the log of it.
#[derive(Default)]
pub struct Resolver {
    talks: Vec<Talk>,
    /// From when to when nothing is read.
    pub lags: Vec<(Micros, Micros)>,
    /// When dnsmasq starts anew, and whether it says so.
    pub restarts: Vec<(Micros, bool)>,
    /// Lines of a thousand that are lost, and that come twice.
    pub lost: u64,
    pub doubled: u64,
}

impl Resolver {
    /// A client asks; returns the addresses it gets.
    pub fn ask(
        &mut self,
        rng: &mut Rng,
        entry: &Entry,
        qtype: &'static str,
        client: IpAddr,
        (asked, answered): (Micros, Micros),
    ) -> Vec<IpAddr> {
        let mut records: Vec<(String, Value)> = Vec::new();
        let mut owner = mixed(rng, &entry.name);
        let name = owner.clone();
        for alias in &entry.aliases {
            records.push((std::mem::replace(&mut owner, alias.clone()), Value::Alias));
        }
        let of_family = |address: &IpAddr| (qtype == "A") == address.is_ipv4();
        let mut addresses: Vec<IpAddr> =
            entry.addresses.iter().copied().filter(of_family).collect();
        if entry.rotates && !addresses.is_empty() {
            addresses = vec![*rng.pick(&addresses)];
        }
        let values: Vec<Value> = match qtype {
            "A" | "AAAA" => addresses.iter().copied().map(Value::Address).collect(),
            "TXT" => entry.text.into_iter().map(Value::Address).collect(),
            _ => vec![Value::Other],
        };
        records.extend(values.into_iter().map(|value| (owner.clone(), value)));
        let pid = if rng.chance(10) { PIDS[1] } else { PIDS[0] };
        let kind = match entry.kind {
            Kind::Reply if rng.chance(40) => Kind::Cached,
            kind => kind,
        };
        let client = (client, u16::try_from(rng.between(1024, 65_000)).unwrap());
        self.talks.push(Talk { asked, answered, client, pid, qtype, name, kind, records });
        addresses
    }

    /// The log as it is read, with what happens to its source.
    pub fn log(mut self, rng: &mut Rng) -> Vec<Dated> {
        self.talks.sort_by_key(|talk| talk.asked);
        let mut batches: Vec<(Micros, Vec<Line>)> = Vec::new();
        let (mut serial, mut restarts) = (0, self.restarts.clone());
        restarts.sort();
        for (at, told) in &restarts {
            let pid = PIDS[0];
            let text = format!("dnsmasq[{pid}]: started, version 2.90 cachesize 150");
            let line = Line { text, says: Says::Started { pid } };
            batches.extend(told.then_some((*at, vec![line])));
        }
        let mut ahead = restarts.iter().map(|(at, _)| *at).peekable();
        for talk in &self.talks {
            while ahead.next_if(|at| *at <= talk.asked).is_some() {
                serial = 0;
            }
            serial += 1;
            let key = (serial, talk.pid);
            batches.push((talk.asked, vec![talk.question(key)]));
            // dnsmasq answers nothing that it was asked before it was started.
            if ahead.peek().is_none_or(|at| talk.answered < *at) {
                batches.push((talk.answered, talk.answer(key)));
            }
        }
        batches.sort_by_key(|(at, _)| *at);
        self.read(rng, batches)
    }

    /// Lines are read in their order, some late, some never, some twice.
    fn read(&self, rng: &mut Rng, batches: Vec<(Micros, Vec<Line>)>) -> Vec<Dated> {
        let (mut steps, mut last) = (Vec::new(), 0);
        for (at, lines) in batches {
            let lag = self.lags.iter().find(|(from, to)| (*from..*to).contains(&at));
            let read = lag.map_or(at, |(_, to)| *to).max(last);
            last = read;
            if read > at && rng.chance(70) {
                steps.push(Dated { at, step: Step::Source(Fault::Behind) });
            }
            for line in lines {
                if rng.below(1000) < self.lost {
                    if rng.chance(50) {
                        steps.push(Dated { at: read, step: Step::Source(Fault::Lost) });
                    }
                    continue;
                }
                let times = if rng.below(1000) < self.doubled { 2 } else { 1 };
                let step = Dated { at: read, step: Step::Line(line) };
                steps.extend(std::iter::repeat_n(step, times));
            }
            if read > at {
                steps.push(Dated { at: read, step: Step::Source(Fault::CaughtUp) });
            }
        }
        steps
    }
}

impl Talk {
    fn start(&self, key: Key) -> String {
        format!("dnsmasq[{}]: {} {}/{}", key.1, key.0, self.client.0, self.client.1)
    }

    fn question(&self, key: Key) -> Line {
        let Talk { client, qtype, name, .. } = self;
        let text = format!("{} query[{qtype}] {name} from {}", self.start(key), client.0);
        Line { text, says: Says::Query { key, client: *client, qtype, name: name.clone() } }
    }

    fn answer(&self, key: Key) -> Vec<Line> {
        let forwarded = format!("{} forwarded {} to 9.9.9.9", self.start(key), self.name);
        let mut lines = vec![Line { text: forwarded, says: Says::Nothing }];
        if self.records.is_empty() {
            let text = format!("{} reply {} is NODATA", self.start(key), self.name);
            lines.push(Line { text, says: Says::Nothing });
        }
        lines.extend(self.records.iter().map(|(owner, value)| self.record(key, owner, value)));
        lines
    }

    fn record(&self, key: Key, owner: &str, value: &Value) -> Line {
        let source = match self.kind {
            Kind::Reply => "reply",
            Kind::Cached => "cached",
            Kind::Hosts => "/etc/hosts",
            Kind::Config => "config",
        };
        let shown = match value {
            Value::Alias => "<CNAME>".to_owned(),
            Value::Address(address) => address.to_string(),
            Value::Other => "<HTTPS>".to_owned(),
        };
        let text = format!("{} {source} {owner} is {shown}", self.start(key));
        let (client, owner, value) = (self.client, owner.to_owned(), value.clone());
        Line { text, says: Says::Answer { key, client, owner, kind: self.kind, value } }
    }
}

/// The same name as a client may write it.
fn mixed(rng: &mut Rng, name: &str) -> String {
    if rng.chance(90) {
        return name.to_owned();
    }
    let turn = |c: char| if rng.chance(50) { c.to_ascii_uppercase() } else { c };
    name.chars().map(turn).collect()
}
