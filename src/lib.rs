//! synhold: an inline egress firewall for container hosts. This page is its architecture.
//!
//! A container that connects to an address nobody ever resolved through DNS uses a hardcoded address, which is how
//! much malware calls home. nftables sends the first packet of each new container flow to an NFQUEUE; a verdict
//! thread answers accept or drop against a registry of DNS answers read from dnsmasq's log. Where no answer is
//! known yet, that one packet is held until the matching record is read, or a short bound passes.
//!
//! # Bird's eye
//!
//! ```text
//! container --first packet--> table "inet synhold" --NFQUEUE--> verdict thread --accept | refuse--> kernel
//!                                                                  |      ^
//!                                                            park  |      | answers, by mailbox
//!                                                                  v      |
//! dnsmasq --log line--> reader thread --record--> Engine { Registry, Hold, policy }
//!                                                                  |
//!                                            every verdict, with its proof: event thread --> stdout, --events FILE
//! ```
//!
//! # Code map
//!
//! | module | what it is |
//! |---|---|
//! | [`engine`] | decisions: packet to [`engine::Flow`], [`engine::registry`], [`engine::hold`], and [`engine::judge`], which joins them |
//! | [`nfq`] | adapter: the queue socket, and the guard that answers every packet once |
//! | [`nftables`] | adapter: the rules as plain data, one netlink transaction to put them in, read-back and comparison |
//! | `netlink` | framing for the adapters that speak netlink |
//! | `tls` | certificates for the adapters that speak TLS |
//! | [`lists`] | adapter: list files and feeds: read, fetched, watched, edited, compiled to [`engine::lists`] |
//! | [`conntrack`] | adapter: ends flows that stand |
//! | [`dns`] | adapter: dnsmasq's log from a file, a FIFO, standard input, a container or a dnsmasq of our own; parser and correlator |
//! | [`docker`] | adapter: the container engine: who is who, from its events and lists; a container's log |
//! | [`events`] | adapter: the event log, as JSON Lines and as lines for people |
//! | [`metrics`] | adapter: OpenMetrics, health and readiness over HTTP |
//! | [`alert`] | adapter: alerts to commands, webhooks, mail and syslog |
//! | [`control`] | adapter: the control socket: questions to a running daemon, and its answers |
//! | [`store`] | adapter: the registry on disk |
//! | [`opensnitch`] | adapter: the database of another firewall on the same host, read and never written |
//! | [`report`] | adapter: reports as CSV and as a page, and what others publish about addresses |
//! | [`host`] | adapter: this host's own interfaces, gateways and resolvers; the network namespace of the canary |
//! | [`config`] | the file under the command line, checked, with every default filled in |
//! | [`daemon`] | the only place that wires adapters to the engine, and the only reader of clocks |
//! | [`cli`] | parses, calls, prints |
//!
//! # The life of a packet
//!
//! 1. The rules (`nft/synhold.nft`; built in [`nftables::Ruleset`]) let go at once whatever is no first packet of a
//!    container's flow to the outside. The rest goes to a queue, by its native expression or through nft_compat.
//! 2. A verdict thread takes it behind a guard ([`nfq::Packet`]), reads its five-tuple ([`engine::packet`]) and asks
//!    [`engine::Engine::packet`]. A known destination is accepted on the spot: one look-up, no lock but the map's.
//! 3. An unknown one is parked. When its record is read, the reader thread takes it out of the hold and puts the
//!    answer into the verdict thread's mailbox; when its deadline passes, the verdict thread refuses it.
//! 4. A refusal goes back as NF_REPEAT with a mark; the first rules see the packet again and reject it by TCP reset
//!    or ICMP, so that an application fails at once.
//!
//! # The life of a list
//!
//! 1. A thread reads files and copies of feeds when they change, and compiles them ([`lists::compile`]).
//! 2. The engine gets them first ([`engine::Engine::set_lists`]): from then on verdicts follow, and what waits and is
//!    listed is decided.
//!    Whoever knows the containers passes them on, behind what single ones may reach in spite of them.
//! 3. The thread that keeps the kernel true sends the difference to the sets in one transaction, ends open flows that
//!    are now refused, and tells. What others change in our table it notices by the number of transactions, and puts back.
//! 4. Packets then meet the sets and reach no queue. The kernel counts whom it refused (`hits4/6`), and events tell.
//!
//! # The life of a container
//!
//! 1. The engine tells of it while it is made, and of its addresses before its process runs ([`docker::watch`]); its labels
//!    and the operator's sections make its policy ([`engine::policy`]).
//! 2. A thread keeps the books ([`engine::inventory`]): an address is its owner's who claimed it last. The engine of verdicts gets a
//!    table of owners, replaced whole ([`engine::owner`]); the kernel's sets get networks, bridges and policies.
//! 3. A packet is judged by its owner's policy and told under its name. One that outruns the news is judged at once by the
//!    host's policy; only its line in the log waits for the name.
//! 4. When it ends, its addresses are nobody's: its flows end, its refusals go, and whoever comes next is credited with no
//!    look-up of it, not even after a restart of ours.
//!
//! # The life of evidence
//!
//! 1. A source's thread reads dnsmasq's lines, ties answers to their questions ([`dns::correlate`]) and hands a [`engine::Record`] over.
//! 2. The engine refuses it if a public name answered with an address no public name has ([`engine::rebind`]); else the
//!    [`engine::registry`] takes it in: names, askers, times, within shares that no container can outgrow.
//! 3. A verdict asks for a [`engine::Grade`], with the container's addresses and the age that counts ([`engine::Inquiry`]), and the rules
//!    weigh it ([`engine::EvidenceRules`]).
//! 4. Before a packet that waited in vain is called hardcoded, `engine::judge::trust` looks at the health of the sources, at troubles
//!    beside them, and at the grace of a first start.
//! 5. A thread of its own writes what changed to a journal, and now and then a snapshot ([`store`]); nobody who reads or judges waits for it.
//! 6. [`daemon::replay`] runs the same engine in virtual time, over what events and logs tell.
//!
//! # The life of a question
//!
//! 1. What happens is an event; its writer hands it to whoever reads along, each behind a bounded queue of its own: followers
//!    on the control socket, late refusals for a status, alerts, findings ([`events`]). What is counted is counted by atomics
//!    once a packet has its answer ([`daemon::measures`]).
//! 2. A status, a metric or an explanation is made when somebody asks ([`control`], [`metrics`]). What is wrong is said by
//!    one function for all; why a packet would be refused is told by the code that refuses it ([`engine::trace`]).
//!    What takes time, as sets, lists, and the addresses of a name, is made beside, one answer at a time for those who may
//!    change things and one for all others, who need no right to the kernel for it.
//! 3. A change that is asked for runs through the code of the commands, on a thread of its own, and is answered when the
//!    kernel has it. An event tells who asked for it.
//! 4. A canary of our own is judged every minute, and a watchdog sees every thread move before systemd hears that we live.
//!
//! # Invariants
//!
//! Most say what does *not* happen; tests in `tests/` and beside the code hold them.
//!
//! - **The engine is pure.** Nothing in [`engine`] does IO, reads a clock, is async or keeps a global. Time comes in as
//!   [`engine::Now`]. What is decided can be replayed.
//! - **Adapters do not know each other.** They import [`engine`] and themselves.
//! - **Every queued packet gets exactly one answer**, on every path: the guard's drop gives the posture's default, a
//!   queue that is dropped answers what it held, a stop answers everything before the rules go.
//! - **No wake-up is lost.** A packet parks *before* it looks the registry up again; a record is written *before* its
//!   reader looks for parked packets; a full fence lies between the two steps on both sides.
//! - **One flow, one answer, one copy.** Retransmissions join the hold, whichever queue they come from.
//! - **The packet path never waits** for anything but its queue and its mailbox: no disk, no DNS, no `/proc`, no lock
//!   held across IO. Events that do not fit their queue are counted, not waited for.
//! - **Only A and AAAA answers are evidence**, credited to the name that was asked. A TXT answer that looks like an
//!   address is none.
//! - **Nobody is accused on bad evidence.** While a source is down or late, what is refused is refused as
//!   `unhealthy`, not as `never-resolved`.
//! - **A first start cuts nobody off** for what it could not see: open flows, the grace, the learning period.
//! - **Allow beats block**, in the rules, in the engine, and where a domain allows what an address blocks.
//! - **The engine knows the lists before the kernel does**, so that a set being loaded, or taken away, opens nothing.
//! - **No refusal outlives its record**: one noted in the kernel is looked at again after it was noted, and taken back
//!   before the reader of the record goes on.
//! - **We do not listen to nf_tables**: while anybody does, the kernel makes a notice of every element that any program
//!   on the machine loads.
//! - **OpenSnitch's database is left as it was**: no lock file, no journal, no byte; and what it says changes no verdict.
//! - **A report asks nobody** about an address unless the person who wants it says so.
//! - **Base chains are never re-created.** Deleting one drops every packet waiting in any queue of the namespace;
//!   rules are changed in place, in one transaction, and no table but ours is touched.
//! - **Nobody waits for an alert or a scrape.** Alerts read along with the events, and each sink has a queue and a thread of
//!   its own; metrics are gathered from what is counted anyway, when somebody asks.
//! - **No packet waits for the container engine.** It is asked on a thread of its own; verdict threads look into a table.
//! - **A label loosens only where labels are trusted**, and nothing a container says about itself ends its quarantine.
//! - **Whoever reads events keeps nobody waiting**: a reader has a bounded queue; what does not fit is counted and told, and a
//!   follower that lags is let go.
//! - **At INFO and above the diagnostics name no flow**; lines for people name only what was refused or is alarming.
//! - **The canary's packets are nobody's**: no total, event, registry file or list knows of them ([`daemon`]), and everybody
//!   else's pay one comparison for that.
//! - **Every capacity is a named constant with a reason**: what decides in [`engine::limits`], what only one adapter
//!   knows beside its use.

pub mod alert;
pub mod cli;
pub mod config;
pub mod conntrack;
pub mod control;
pub mod daemon;
pub mod dns;
pub mod docker;
pub mod engine;
pub mod events;
pub mod host;
pub mod lists;
pub mod metrics;
mod netlink;
pub mod nfq;
pub mod nftables;
pub mod opensnitch;
pub mod report;
pub mod store;
#[cfg(test)]
mod testing;
mod tls;
