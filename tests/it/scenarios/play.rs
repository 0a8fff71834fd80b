//! Plays a scenario: real log lines through the real parser, correlator and engine, in virtual time.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use synhold::daemon::replay::{Outcome, World};
use synhold::engine::decision::Decision;
use synhold::engine::health::Batch;
use synhold::engine::lists::{Lists, Side};
use synhold::engine::owner::{Owner, Owners};
use synhold::engine::policy::Policy;
use synhold::engine::rebind::Rebinding;
use synhold::engine::wish::Refusal;
use synhold::engine::{Flow, Name, Net, Settings, Wall};

use super::script::{Event, Expected, FlowLine, Label, Script, What};

const START: Wall = Wall(1_700_000_000_000_000);

/// A flow and what became of it.
pub struct Row {
    pub flow: String,
    pub label: Label,
    pub seen: Expected,
    pub expected: Expected,
}

/// A packet whose fate is still to be looked at.
struct Sent {
    ticket: usize,
    flow: Flow,
    shown: String,
    label: Label,
    /// Nothing is a copy.
    expected: Option<Expected>,
}

struct Play {
    settings: Settings,
    world: World,
    containers: BTreeMap<String, Vec<IpAddr>>,
    allow: Vec<String>,
    block: Vec<String>,
    own: Vec<IpAddr>,
    local: Vec<Name>,
    sent: Vec<Sent>,
    port: u16,
    rows: Vec<Row>,
}

/// Plays a whole scenario and gives what became of each flow.
pub fn play(script: &Script) -> Vec<Row> {
    let settings = script.settings;
    let world = World::new(settings, START);
    let (containers, allow, block, own, local, sent, rows) = Default::default();
    let mut play =
        Play { settings, world, containers, allow, block, own, local, sent, port: 40_000, rows };
    for event in &script.events {
        play.world.advance(START + event.at);
        play.act(event);
    }
    play.end();
    play.rows
}

impl Play {
    fn act(&mut self, event: &Event) {
        match &event.what {
            What::Container(name, addresses) => self.settle(name, addresses),
            What::Dns(line) => self.world.line(line.as_bytes()),
            What::Flow(line) => self.connect(line, event.at),
            What::Again(expected) => {
                let last = self.sent.last().unwrap_or_else(|| panic!("{}: of what?", event.text));
                let (flow, label) = (last.flow, last.label);
                self.send(flow, label, expected.clone(), event.at);
            }
            What::Word(word, rest) => self.word(word, rest),
        }
    }

    fn word(&mut self, word: &str, rest: &str) {
        let now = self.world.now();
        match word {
            "allow" => self.allow.push(rest.to_owned()),
            "block" | "block-domain" => self.block.push(rest.to_owned()),
            "host" => self.own.push(rest.parse().unwrap()),
            "local-domain" => self.local.push(Name::new(rest).unwrap()),
            "down" => self.world.source().mark_down(),
            "up" => self.world.source().mark_up(now.mono),
            "lost" => {
                let lost = Batch { lost: rest.parse().unwrap(), ..Batch::default() };
                self.world.source().count(lost, now);
            }
            "unhealthy" => self.world.set_trouble(Some(rest)),
            "healthy" => self.world.set_trouble(None),
            "grace" => self.world.engine().begin_grace(now.mono),
            "learn" => self.world.engine().set_learning(rest == "on"),
            "established" => {
                let (name, dst) = rest.split_once(" -> ").unwrap();
                let pair = (self.containers[name][0], dst.parse().unwrap());
                self.world.engine().set_established([pair], now.mono);
            }
            "alarm" => {
                let alarms = self.world.engine().registry().take_alarms();
                let raised: Vec<&str> = alarms.iter().map(|alert| alert.alarm.as_str()).collect();
                assert!(raised.contains(&rest), "{rest} is not among {raised:?}");
            }
            "none" => {
                let alarms = self.world.engine().registry().take_alarms();
                assert!(alarms.is_empty(), "{alarms:?}");
            }
            "restart" => return self.restart(),
            _ => {}
        }
        self.tell();
    }

    /// What the user and the host say goes to the engine.
    fn tell(&mut self) {
        let lists =
            Lists { allow: side(&self.allow), block: side(&self.block), ..Lists::default() };
        self.world.set_lists(lists);
        let local_domains = self.local.iter().cloned().collect();
        let own = self.own.clone();
        self.world.engine().set_rebinding(Rebinding { own, local_domains });
        let owner = |name: &String| {
            Arc::new(Owner {
                id: name.as_str().into(),
                name: name.as_str().into(),
                image: "image".into(),
                policy: Arc::new(Policy::new(&self.settings, Refusal::Reset)),
                tally: Arc::default(),
            })
        };
        let places = self.containers.iter().flat_map(|(name, addresses)| {
            let owner = owner(name);
            addresses.iter().map(move |address| (*address, Arc::clone(&owner)))
        });
        let owners = Owners::new(places.collect(), Vec::new());
        self.world.set_owners(owners);
    }

    fn settle(&mut self, name: &str, addresses: &[IpAddr]) {
        let taken = |address: &IpAddr| addresses.contains(address);
        let before = self.containers.values().flatten().copied().filter(taken).collect();
        self.world.engine().registry().forget_askers(&before);
        self.containers.retain(|_, theirs| !theirs.iter().any(taken));
        self.containers.insert(name.to_owned(), addresses.to_vec());
        self.tell();
    }

    fn connect(&mut self, line: &FlowLine, at: Duration) {
        let FlowLine { label, container, dst, proto, expected } = line;
        let of_family = |address: &&IpAddr| address.is_ipv4() == dst.ip().is_ipv4();
        let addresses = &self.containers[container];
        let src = *addresses.iter().find(of_family).expect("the container has such an address");
        self.port += 1;
        let flow = Flow { proto: *proto, src: SocketAddr::new(src, self.port), dst: *dst };
        self.send(flow, *label, Some(expected.clone()), at);
    }

    fn send(&mut self, flow: Flow, label: Label, expected: Option<Expected>, at: Duration) {
        let ticket = self.world.packet(flow);
        let src = flow.src.ip();
        let named = self.containers.iter().find(|(_, addresses)| addresses.contains(&src));
        let name = named.map_or_else(|| src.to_string(), |(name, _)| name.clone());
        let (at, proto) = (at.as_secs_f64(), flow.proto.as_str());
        let shown = format!("{at:.3} {name} -> {} {proto}", flow.dst);
        self.sent.push(Sent { ticket, flow, shown, label, expected });
    }

    /// We stop and start again: what is known stays, the log begins anew.
    fn restart(&mut self) {
        self.look(false);
        let fresh = World::new(self.settings, self.world.now().wall);
        let (old, new) = (self.world.engine().registry(), fresh.engine().registry());
        for address in old.addresses() {
            new.restore(address, &old.saved(address).unwrap());
        }
        self.world = fresh;
        self.tell();
    }

    fn end(&mut self) {
        self.world.finish();
        self.look(true);
    }

    /// Takes up what became of the packets so far.
    fn look(&mut self, all: bool) {
        for sent in std::mem::take(&mut self.sent) {
            let Sent { ticket, shown, label, expected, .. } = sent;
            match (self.world.outcome(ticket), expected) {
                (Some(Outcome::Copy), None) => {}
                (Some(Outcome::Decided(decision)), Some(expected)) => {
                    let seen = seen(decision, expected.limit.clone());
                    self.rows.push(Row { flow: shown, label, seen, expected });
                }
                (None, _) if !all => panic!("{shown} waits while we stop: end it before"),
                (seen, expected) => panic!("{shown}: {seen:?}, not {expected:?}"),
            }
        }
    }
}

fn seen(decision: &Decision, limit: Option<String>) -> Expected {
    Expected {
        verdict: format!("{:?}", decision.verdict).to_lowercase(),
        reason: decision.reason.as_str().to_owned(),
        grade: decision.grade.as_str().to_owned(),
        held: decision.held,
        marks: decision.known.marks.iter().map(|mark| mark.as_str().to_owned()).collect(),
        limit,
    }
}

/// Addresses, networks and domains of one side of the lists.
fn side(items: &[String]) -> Side {
    let nets = items.iter().filter_map(|item| item.parse::<Net>().ok());
    let names = items.iter().filter(|item| item.parse::<Net>().is_err());
    let names = names.map(|name| Name::new(name).unwrap());
    Side::new(nets.map(|net| (net.family(), net.span())), [], names)
}
