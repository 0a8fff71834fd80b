//! Every capacity and interval of the engine and its adapters, once, each with its reason.

use std::time::Duration;

/// Characters of a domain name in text form (RFC 1035 section 2.3.4, less the root dot).
pub const NAME_BYTES_MAX: usize = 253;
/// Names remembered for one address. A CDN address serves thousands; the newest few explain a verdict.
pub const NAMES_PER_ADDRESS_MAX: usize = 16;
/// Askers remembered for one address beside the first of each name, so that `scope = "container"` knows its own: every
/// container of a host may ask for the address of its image registry.
pub const ASKERS_PER_ADDRESS_MAX: usize = 256;
/// Bytes the registry takes for each address it may have, by its own estimate: twice what an address with two names of
/// usual length takes, so that the count is what bounds it on every host where nobody means ill.
pub const REGISTRY_BYTES_PER_ADDRESS: u64 = 768;
/// One asker may have one part in so many of the registry: three can fill theirs and leave others a quarter.
pub const ASKER_SHARE: usize = 4;
/// By one part in so many of its share an asker may exceed it until room is made, a second later.
pub const ASKER_SLACK: usize = 16;
/// Sixteenths of the registry from which on room is made: what is left takes more records than a second brings.
pub const ROOM_BEGINS: usize = 15;
/// Sixteenths down to which room is made, so that it is not made again at once.
pub const ROOM_UNTIL: usize = 14;
/// What was used since is not thrown out to make room: a program that connects daily need not resolve daily.
pub const USED_RECENTLY: Duration = Duration::from_secs(24 * 60 * 60);
/// What was seen since is not either: a packet may follow its answer late.
pub const SEEN_RECENTLY: Duration = Duration::from_secs(60 * 60);
/// Seconds a name, or who asked for it, is seen again without being worth writing down.
pub const SEEN_STEP: u32 = 5 * 60;
/// Seconds an address is used again without being worth writing down.
pub const USED_STEP: u32 = 60 * 60;
/// Changed addresses that are remembered until they are fetched, once a second or so: 4 MiB.
pub const DIRTY_MAX: usize = 262_144;
/// Clients remembered of whom something is known. As many as former tenants.
pub const ASKERS_MAX: usize = 65_536;
/// Parts of the table of clients that are locked apart.
pub const ASKER_SHARDS: usize = 64;
/// Addresses remembered unless configured: about 200 MB, and years of what one host resolves.
pub const REGISTRY_SIZE_DEFAULT: usize = 1_000_000;
/// Fewer addresses than that would be refusals in a day.
pub const REGISTRY_SIZE_MIN: usize = 1_000;
/// More addresses than that are no host's.
pub const REGISTRY_SIZE_MAX: usize = 10_000_000;
/// Parts of the registry that are locked apart, so that going through it holds up a record for microseconds only.
pub const REGISTRY_SHARDS: usize = 256;
/// Links kept of one CNAME chain. dnsmasq itself stops following at 10.
pub const CHAIN_MAX: usize = 10;
/// Names an event carries; the rest is a count.
pub const NAMES_PER_EVENT_MAX: usize = 4;

/// Destinations that one container may be allowed beside the lists. More belong into the allow list.
pub const ALLOW_PER_CONTAINER_MAX: usize = 256;
/// Labels of one container that are told as not followed. Whoever starts it decides how many there are.
pub const FAULTS_MAX: usize = 16;
/// Containers remembered, running or not. A host runs hundreds.
pub const CONTAINERS_MAX: usize = 16_384;
/// Addresses whose last owner is remembered, so that the next one inherits nothing.
pub const TENANTS_MAX: usize = 65_536;
/// Owners remembered after they gave their address up, so that what was in flight is told as theirs.
pub const PAST_OWNERS_MAX: usize = 4096;

/// How long a first packet is held unless configured. Below [`HOLD_MAX`].
pub const HOLD_DEFAULT: Duration = Duration::from_millis(750);
/// Longest hold that may be configured: a SYN is retransmitted after 1 s (RFC 6298 section 2.1), and the
/// answer must be there before.
pub const HOLD_MAX: Duration = Duration::from_millis(990);
/// Held packets of one source address, so that a container that dials dead addresses hurts only itself.
pub const HOLD_BUDGET_DEFAULT: usize = 256;
/// Held packets altogether. Each pins about 4 KiB of receive buffer: 32 MiB at the most.
pub const HELD_MAX: usize = 8192;
/// Shortest hold that measured delays lead to. What has been measured says little about a machine that stalls for a
/// moment, and a reader looks twice in that time (see [`LOOK_TICK`]).
pub const HOLD_MIN: Duration = Duration::from_millis(50);
/// Shortest hold for a source whose line may lie somewhere before it can be seen to be there: with a syslog daemon, in a
/// container's pipe, or in the journal's socket. Those pass lines on in a few milliseconds, but for a busy moment.
pub const HOLD_MIN_INDIRECT: Duration = Duration::from_millis(250);
/// How long the longest wait of a packet for its record is remembered.
pub const WAIT_MEMORY: Duration = Duration::from_secs(24 * 60 * 60);
/// Delays measured lately without which the hold stays as configured: fewer have no 99.9th percentile.
pub const DELAYS_MIN: u64 = 1_000;
/// The hold is this many times the delay that one record in a thousand exceeds, ...
pub const DELAY_MARGIN: u32 = 4;
/// ... and this many tenths of the longest delay measured lately: a source that was slow once is so again.
pub const DELAY_LONGEST_TENTHS: u32 = 15;
/// Delays are counted by spans of this length, and ...
pub const DELAY_SLOT: Duration = Duration::from_secs(5 * 60);
/// ... so many of them are looked at, the present one among them: what was slow is remembered for ten minutes, which
/// outlasts a nightly job's burst on the disk, and forgotten after fifteen.
pub const DELAY_SLOTS: usize = 3;
/// A record that is older than that when it is read was not delayed: the clock was set, or the log is history.
pub const DELAY_MAX: Duration = Duration::from_secs(10);
/// How often a reader that sleeps looks whether there is anything to be read, while the hold is shorter than configured.
pub const LOOK_TICK: Duration = Duration::from_millis(20);
/// How long an accepted flow is remembered, so that copies already queued behind it are not let through too.
pub const LINGER: Duration = Duration::from_millis(250);
/// Refusals remembered in case their record comes too late, which says how slow a source is. It takes few to know.
pub const LATE_MAX: usize = 1024;
/// Packets the kernel may queue: everything we may hold, and as many again still to be read.
pub const QUEUE_LEN_MAX: u32 = 16_384;
/// Queues one daemon may serve; the hold keeps a deadline list for each.
pub const QUEUES_MAX: u16 = 64;
/// Bytes of a packet copied to us: an IPv6 header and some 200 bytes of extension headers before the ports.
pub const COPY_RANGE: u16 = 256;
/// Receive buffer of a queue socket in bytes, as the other inline firewalls found they need.
pub const QUEUE_RCVBUF: usize = 8 << 20;
/// Packets refused in one go when their time is up, so that the hold's lock is never held for long.
pub const EXPIRE_BATCH: usize = 64;
/// How long after dnsmasq said that it lost log lines the absence of a record still proves nothing.
pub const LOSS_MEMORY: Duration = Duration::from_secs(60);
/// How long after dnsmasq started anew the absence of a record proves nothing: its last lines may have gone with it, and
/// what it had asked upstream is answered within ten seconds or never.
pub const RESTART_MEMORY: Duration = Duration::from_secs(10);
/// Questions in a row that our own dnsmasq does not answer before that is told: one may be lost on a busy machine.
pub const UNANSWERED_TOLD: u32 = 2;
/// Packets judged between two looks at the mailbox and the clock of the hold.
pub const PACKETS_PER_ROUND: usize = 64;

/// Bytes of one log line. dnsmasq's own limit is 1024 for the message; a syslog prefix comes on top.
pub const LINE_BYTES_MAX: usize = 2048;
/// Queries remembered while their answers are on the way. dnsmasq forwards at most 150 at a time by default.
pub const QUERIES_MAX: usize = 8192;
/// Addresses of one answer remembered in case it goes to several clients. A UDP answer holds about that many.
pub const ADDRESSES_PER_ANSWER_MAX: usize = 64;
/// Processes of dnsmasq whose answers may be interleaved in one log. It forks at most 20 at a time for TCP.
pub const WRITERS_MAX: usize = 32;
/// Bytes of an existing log file read at start, newest last: about 600,000 lines, read in about a second.
pub const BACKLOG_BYTES_MAX: u64 = 64 << 20;
/// How far back a container's log is read when nothing is known of it yet: a resolver lets an answer live for a day at
/// most by its usual cap, and a program may use it for as long again.
pub const LOG_HISTORY: Duration = Duration::from_secs(48 * 60 * 60);
/// First and longest pause before a source that failed is opened again.
pub const REOPEN_PAUSE_MIN: Duration = Duration::from_millis(50);
/// See [`REOPEN_PAUSE_MIN`].
pub const REOPEN_PAUSE_MAX: Duration = Duration::from_secs(5);

/// Steps of the age that counts in which the event log tells that evidence was seen again.
pub const AGE_STEPS: u32 = 64;
/// How long after a start with an empty registry nobody is accused: programs that run have resolved what they need, and
/// most answers are asked for again within five minutes.
pub const GRACE_DEFAULT: Duration = Duration::from_secs(5 * 60);
/// How long a container may open flows again to where it had one at our first start: it resolved that before us, and
/// asks again when the answer is too old, after an hour at most as a rule.
pub const ESTABLISHED_FOR: Duration = Duration::from_secs(60 * 60);
/// Such pairs remembered. More flows than that are open on no host we know of.
pub const ESTABLISHED_MAX: usize = 65_536;

/// Events waiting to be written. At 100,000 verdicts a second this is more than half a second of a stuck disk.
pub const EVENTS_QUEUED_MAX: usize = 65_536;
/// How long the event writer lets events gather once it has written: short for whoever reads along, and at 100,000
/// verdicts a second 500 of them, a small part of [`EVENTS_QUEUED_MAX`].
pub const EVENTS_NAP: Duration = Duration::from_millis(5);
/// Shortest time between two saves of the registry.
pub const SAVE_INTERVAL: Duration = Duration::from_secs(5);
/// How often kernel counters and source health are looked at.
pub const HEALTH_INTERVAL: Duration = Duration::from_secs(1);
/// Largest registry file read. 1 M addresses are about 150 MB.
pub const REGISTRY_FILE_BYTES_MAX: u64 = 2 << 30;
/// Largest configuration file read.
pub const CONFIG_BYTES_MAX: u64 = 1 << 20;

const _: () = assert!(HOLD_DEFAULT.as_millis() <= HOLD_MAX.as_millis());
const _: () = assert!(HOLD_MAX.as_millis() < 1_000);
const _: () = assert!(HOLD_MIN.as_millis() >= 2 * LOOK_TICK.as_millis());
const _: () = assert!(HELD_MAX < QUEUE_LEN_MAX as usize);
const _: () = assert!(HOLD_BUDGET_DEFAULT < HELD_MAX);
const _: () = assert!(LINE_BYTES_MAX > 1024 + NAME_BYTES_MAX);
