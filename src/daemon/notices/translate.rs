//! Events as alerts: which are any, what makes two the same, and the sentence for a person.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::alert::{Notice, Severity};
use crate::daemon::clock;
use crate::daemon::shared::Shared;
use crate::engine::alert::{Key, Topic};
use crate::engine::event::{AlertBody, BlockBody, Body, Event, Health, VerdictBody};
use crate::engine::{Alarm, Reason, Verdict, Wall};
use crate::events::timestamp;
use crate::nftables::names;

/// How soon after it was told something may be well again without another word: it was put right at once.
const MENDED_AT_ONCE: Duration = Duration::from_secs(5);
/// Names shown with an alert.
const NAMES_MAX: usize = 5;
/// What health events are called that a failing sink makes.
const SINK: &str = "alert ";

/// An alert before the gates.
pub struct Draft {
    /// What makes it the same as another.
    pub key: Key,
    /// What it says.
    pub notice: Arc<Notice>,
    /// It says nothing that was not told, and counts only where it was.
    pub only_counts: bool,
}

/// What an event may be an alert of, if any. Asked for every event, so it looks at little.
pub fn topic(body: &Body) -> Option<Topic> {
    match body {
        Body::Verdict(verdict) if verdict.verdict == Verdict::Drop => topic_of(verdict),
        Body::Block(block) => topic_of_block(block),
        Body::Alert(alert) => topic_of_alarm(alert.alert),
        Body::Health(health) => topic_of_health(&health.what),
        _ => None,
    }
}

fn topic_of(verdict: &VerdictBody) -> Option<Topic> {
    match verdict.reason {
        Reason::NeverResolved => Some(Topic::NeverResolved),
        Reason::Blocklisted => Some(Topic::Blocklisted),
        _ => None,
    }
}

fn topic_of_block(block: &BlockBody) -> Option<Topic> {
    let of = |pair: names::Pair| pair.has(&block.set);
    match () {
        () if of(names::DENIED) => Some(Topic::NeverResolved),
        // Their source is forged, so they are nobody's.
        () if of(names::SPOOFS) => None,
        () if of(names::QUARANTINE) => Some(Topic::Quarantined),
        () => Some(Topic::Blocklisted),
    }
}

fn topic_of_alarm(alarm: Alarm) -> Option<Topic> {
    match alarm {
        Alarm::Rebinding => Some(Topic::Rebinding),
        Alarm::ManyAddresses => Some(Topic::ManyAddresses),
        Alarm::NameFlood => Some(Topic::NameFlood),
        // The refusal it is about is an alert already.
        Alarm::Finding => None,
    }
}

fn topic_of_health(what: &str) -> Option<Topic> {
    match what {
        "rules" => Some(Topic::Drift),
        "queue" | "worker" => Some(Topic::Queue),
        "registry" => Some(Topic::Disk),
        _ => what.starts_with(SINK).then_some(Topic::Sink),
    }
}

/// The alert that says whether alerts arrive.
pub fn test_notice(sink: &str) -> Notice {
    let message = format!("this is a test of the alert sink {sink}: nothing happened");
    let notice = Notice::new(Topic::Test, Severity::Info, &message);
    Letterhead::new().sign(notice, clock::wall())
}

/// What is on every alert.
struct Letterhead {
    host: Arc<str>,
    /// Before every id: no other run of ours has it.
    run: u64,
    count: AtomicU64,
}

impl Letterhead {
    fn new() -> Letterhead {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        let host = host.trim();
        let run = clock::wall().0 ^ (u64::from(std::process::id()) << 44);
        let host = if host.is_empty() { "localhost" } else { host }.into();
        Letterhead { host, run, count: AtomicU64::new(0) }
    }

    fn sign(&self, notice: Notice, time: Wall) -> Notice {
        let number = self.count.fetch_add(1, Relaxed);
        Notice {
            id: format!("{:016x}{number:08x}", self.run),
            time: timestamp(time).to_string(),
            host: Arc::clone(&self.host),
            ..notice
        }
    }
}

/// Writes alerts.
pub struct Scribe {
    shared: Arc<Shared>,
    head: Letterhead,
    wrong: Wrong,
}

/// When something of ours was last told to be wrong.
#[derive(Default)]
struct Wrong(Vec<(String, Instant)>);

impl Wrong {
    /// Whether it is worth a word that something is well, or is not.
    fn is_news(&mut self, what: &str, healthy: bool, now: Instant) -> bool {
        let place = self.0.iter().position(|(wrong, _)| wrong == what);
        let since = place.map(|place| self.0.swap_remove(place).1);
        if !healthy {
            self.0.push((what.to_owned(), now));
            return true;
        }
        // If nobody was told that it was wrong, or it was put right at once, all has been said.
        since.is_some_and(|since| now.duration_since(since) >= MENDED_AT_ONCE)
    }
}

impl Scribe {
    /// For this daemon.
    pub fn new(shared: Arc<Shared>) -> Scribe {
        Scribe { shared, head: Letterhead::new(), wrong: Wrong::default() }
    }

    /// Puts on what is on every alert.
    pub fn sign(&self, notice: Notice, time: Wall) -> Notice {
        self.head.sign(notice, time)
    }

    /// The alert that an event is, if it is one.
    pub fn draft(&mut self, event: &Event) -> Option<Draft> {
        let (who, mut notice, only_counts) = match &event.body {
            Body::Verdict(verdict) => self.verdict(verdict)?,
            Body::Block(block) => self.block(block)?,
            Body::Alert(alert) => self.alert(alert)?,
            Body::Health(health) => self.health(health)?,
            _ => return None,
        };
        notice.names.truncate(NAMES_MAX);
        let notice = self.sign(notice, event.time);
        let lost = notice.kind == Topic::Queue && notice.severity != Severity::Info;
        let repeats = notice.kind.is_traffic() || lost;
        let key = Key { topic: notice.kind, who, address: notice.address, repeats };
        Some(Draft { key, notice: Arc::new(notice), only_counts })
    }

    /// The alert that a change of state is.
    pub fn state(&self, severity: Severity, topic: Topic, who: &str, message: &str) -> Draft {
        let mut notice = self.sign(Notice::new(topic, severity, message), clock::wall());
        if topic == Topic::Quarantined {
            match who.parse() {
                Ok(address) => notice.source = Some(address),
                Err(_) => notice.container = Some(who.into()),
            }
        }
        let key = Key { topic, who: Some(who.into()), address: None, repeats: false };
        Draft { key, notice: Arc::new(notice), only_counts: false }
    }

    fn verdict(&self, verdict: &VerdictBody) -> Option<(Option<Arc<str>>, Notice, bool)> {
        let dst = verdict.dst?;
        let quarantined = verdict.src.is_some_and(|src| {
            self.shared.engine.lists().confines(src, verdict.container.as_deref())
        });
        let topic = match topic_of(verdict)? {
            Topic::Blocklisted if quarantined => Topic::Quarantined,
            topic => topic,
        };
        let who = who(verdict.container.as_ref(), verdict.src);
        let shown = who.as_deref().unwrap_or("somebody").to_owned();
        let to = match verdict.dport {
            Some(port) if dst.is_ipv6() => format!("[{dst}]:{port}"),
            Some(port) => format!("{dst}:{port}"),
            None => dst.to_string(),
        };
        let why = match topic {
            Topic::NeverResolved => "which no DNS answer named",
            Topic::Quarantined => "and is in quarantine",
            _ => "which is blocked",
        };
        let done = refused(verdict.enforced);
        let message = format!("{shown} dialled {to}, {why}: {done}");
        let notice = Notice {
            container: verdict.container.clone(),
            container_id: verdict.container_id.clone(),
            image: self.image(verdict.src, verdict.container_id.as_deref()),
            source: verdict.src,
            address: Some(dst),
            port: verdict.dport,
            proto: verdict.proto,
            names: verdict.names.clone(),
            reason: Some(verdict.reason),
            grade: Some(verdict.grade),
            held_us: Some(verdict.held_us),
            evidence: Some(verdict.evidence.clone()),
            enforced: Some(verdict.enforced),
            advice: Some(advice(dst, who.as_deref())),
            ..Notice::new(topic, Severity::Warning, &message)
        };
        Some((who, notice, false))
    }

    fn block(&self, block: &BlockBody) -> Option<(Option<Arc<str>>, Notice, bool)> {
        let topic = topic_of_block(block)?;
        // Its first packet was told, with why.
        let only_counts = topic == Topic::NeverResolved;
        let who = who(block.container.as_ref(), Some(block.src));
        let shown = who.as_deref().unwrap_or("somebody").to_owned();
        let entry = match (&block.list, &block.entry) {
            (Some(list), Some(entry)) => format!(", {entry} of list {list}"),
            _ => String::new(),
        };
        let (dst, done) = (block.dst, refused(block.enforced));
        let message = match topic {
            Topic::Quarantined => {
                format!("{shown}, to or in quarantine, dialled {dst}{entry}: {done}")
            }
            _ => format!("{shown} dialled {dst}, which is blocked{entry}: {done}"),
        };
        let notice = Notice {
            container: block.container.clone(),
            container_id: block.container_id.clone(),
            image: self.image(Some(block.src), block.container_id.as_deref()),
            source: Some(block.src),
            address: Some(dst),
            names: block.names.clone(),
            count: block.count,
            reason: Some(Reason::Blocklisted),
            enforced: Some(block.enforced),
            advice: Some(advice(dst, who.as_deref())),
            ..Notice::new(topic, Severity::Warning, &message)
        };
        Some((who, notice, only_counts))
    }

    fn alert(&self, alert: &AlertBody) -> Option<(Option<Arc<str>>, Notice, bool)> {
        let topic = topic_of_alarm(alert.alert)?;
        let who = who(alert.container.as_ref(), alert.client);
        let notice = Notice {
            container: alert.container.clone(),
            image: self.image(alert.client, None),
            source: alert.client,
            address: alert.address,
            names: alert.name.iter().cloned().collect(),
            count: alert.count,
            advice: alert.address.map(|address| advice(address, who.as_deref())),
            ..Notice::new(topic, Severity::Warning, &alert.message)
        };
        Some((who, notice, false))
    }

    fn health(&mut self, health: &Health) -> Option<(Option<Arc<str>>, Notice, bool)> {
        let topic = topic_of_health(&health.what)?;
        if !self.wrong.is_news(&health.what, health.healthy, Instant::now()) {
            return None;
        }
        let severity = match (health.healthy, topic) {
            (true, _) => Severity::Info,
            (false, Topic::Drift | Topic::Queue) => Severity::Critical,
            (false, _) => Severity::Warning,
        };
        let who = health.what.strip_prefix(SINK).unwrap_or(&health.what);
        Some((Some(who.into()), Notice::new(topic, severity, &health.message), false))
    }

    /// The image of the container that has the address, if it is that container.
    fn image(&self, address: Option<IpAddr>, id: Option<&str>) -> Option<Arc<str>> {
        let owner = self.shared.engine.owner(address?)?;
        id.is_none_or(|id| *owner.id == *id).then(|| Arc::clone(&owner.image))
    }
}

/// The container, or the address it has.
fn who(container: Option<&Arc<str>>, address: Option<IpAddr>) -> Option<Arc<str>> {
    container.cloned().or_else(|| Some(address?.to_string().into()))
}

fn refused(enforced: bool) -> &'static str {
    if enforced { "refused" } else { "enforcing would have refused it" }
}

fn advice(address: IpAddr, who: Option<&str>) -> String {
    match who {
        Some(who) => format!("synhold explain {address} --container {who}"),
        None => format!("synhold explain {address}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_right_at_once_is_told_once() {
        let (mut wrong, now) = (Wrong::default(), Instant::now());
        let later = |seconds| now + Duration::from_secs(seconds);
        assert!(!wrong.is_news("rules", true, now), "nobody was told otherwise");
        assert!(wrong.is_news("rules", false, now));
        assert!(!wrong.is_news("rules", true, later(1)));
        assert!(wrong.is_news("rules", false, later(2)) && wrong.is_news("queue", false, later(2)));
        assert!(wrong.is_news("rules", true, later(60)));
        assert!(!wrong.is_news("rules", true, later(61)));
        assert_eq!(wrong.0.len(), 1);
    }

    #[test]
    fn every_alert_has_an_id_of_its_own() {
        let head = Letterhead::new();
        let sign = || head.sign(Notice::new(Topic::Test, Severity::Info, "x"), clock::wall()).id;
        assert_ne!(sign(), sign());
        assert!(!head.host.is_empty() && !head.host.contains('\n'));
        assert_eq!(advice([203, 0, 113, 9].into(), None), "synhold explain 203.0.113.9");
    }

    #[test]
    fn only_what_can_be_an_alert_is_read() {
        use crate::daemon::findings::testing::block;
        let health = |what: &str| {
            let (what, message) = (what.to_owned(), String::new());
            topic(&Body::Health(Health { what, healthy: false, message })).is_some()
        };
        assert!(health("rules") && health("queue") && health("registry") && health("alert pager"));
        assert!(!health("source") && !health("metrics") && !health("docker"));
        let block = |set| topic(&block("web", "203.0.113.9", set, 1));
        assert_eq!(block("spoofs4"), None, "it would take the room of whose address was forged");
        assert_eq!(block("denied6"), Some(Topic::NeverResolved));
        assert_eq!(block("quarantine4"), Some(Topic::Quarantined));
        assert_eq!(block("block4"), Some(Topic::Blocklisted));
    }
}
