//! A ruleset as nft text, for people: `synhold rules show` and `nft/synhold.nft`. Nothing parses it back.

use std::fmt::Write;

use super::names;
use super::phrase::phrase;
use super::ruleset::{CONCAT, Chain, DYNAMIC, Hook, INTERVAL, Key, Ruleset, Set, TIMEOUT};
use crate::engine::net::Family;

/// The table as text that `nft -f` reads, where nft has words for everything in it.
pub fn render(ruleset: &Ruleset) -> String {
    let mut text = format!("table inet {} {{\n", names::TABLE);
    if ruleset.dormant {
        text.push_str("\tflags dormant\n\n");
    }
    let sets = ruleset.sets.iter().map(set);
    let chains = ruleset.chains.iter().map(chain);
    text.push_str(&sets.chain(chains).collect::<Vec<String>>().join("\n"));
    text.push_str("}\n");
    text
}

fn set(set: &Set) -> String {
    let mut text = String::new();
    if let Some(meaning) = meaning(&set.name) {
        let _ = writeln!(text, "\t# {meaning}");
    }
    let _ = writeln!(text, "\tset {} {{\n\t\ttype {}", set.name, key(set.key));
    if set.flags != 0 {
        let _ = writeln!(text, "\t\tflags {}", flags(set.flags));
    }
    for property in properties(set) {
        let _ = writeln!(text, "\t\t{property}");
    }
    if let Some(keys) = set.elements.as_ref().filter(|keys| !keys.is_empty()) {
        let shown: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let _ = writeln!(text, "\t\telements = {{ {} }}", shown.join(",\n\t\t             "));
    }
    text.push_str("\t}\n");
    text
}

/// What a set is beside type, flags and elements, as nft writes it.
pub fn properties(set: &Set) -> Vec<String> {
    let mut words = Vec::new();
    if set.timeout_ms != 0 {
        words.push(format!("timeout {}", duration(set.timeout_ms)));
    }
    if set.gc_interval_ms != 0 {
        words.push(format!("gc-interval {}", duration(set.gc_interval_ms.into())));
    }
    if set.size != 0 {
        words.push(format!("size {}", set.size));
    }
    if !set.each.is_empty() {
        words.push(match phrase(&set.each) {
            Ok(each) | Err(each) => each,
        });
    }
    words
}

fn meaning(set: &str) -> Option<&'static str> {
    Some(match names::pair_of(set)? {
        names::CONTAINERS => "source networks that are judged",
        names::QUARANTINE => "sources that are refused everything",
        names::LOCAL => {
            "destinations that are not egress; cloud metadata addresses are left out on purpose"
        }
        names::ALLOW => "destinations that are always accepted; beats block",
        names::BLOCK => "destinations that are always refused",
        names::BLOCKHOSTS => "single destinations that are always refused",
        names::DENIED => "source and destination refused a moment ago",
        names::EXEMPT => "containers that are not judged; quarantine beats it",
        names::PERMITS => "source, and a network that it alone may reach; beats block",
        names::DRYRUN => "containers that are refused nothing but in quarantine; only noted",
        names::OTHERWAY => "containers that learn of a refusal the other way than the rest",
        names::HOMES => "interface, and the sources that belong on it",
        names::SPOOFS => "forged source and destination; the rules fill it",
        names::BRIDGES => {
            "interfaces of container networks, where only sources that belong there get in"
        }
        _ => "source and destination that met a list; the rules fill it",
    })
}

/// A set's element type as nft writes it.
pub fn key(key: Key) -> String {
    match key {
        Key::Address(Family::V4) => "ipv4_addr".to_owned(),
        Key::Address(Family::V6) => "ipv6_addr".to_owned(),
        Key::Pair(Family::V4) => "ipv4_addr . ipv4_addr".to_owned(),
        Key::Pair(Family::V6) => "ipv6_addr . ipv6_addr".to_owned(),
        Key::Interface => "ifname".to_owned(),
        Key::Home(Family::V4) => "ifname . ipv4_addr".to_owned(),
        Key::Home(Family::V6) => "ifname . ipv6_addr".to_owned(),
        Key::Other { kind, len } => format!("(type {kind}, {len} bytes)"),
    }
}

/// Set flags as nft writes them; those we never set, as a number.
pub fn flags(flags: u32) -> String {
    let known = [(INTERVAL, "interval"), (TIMEOUT, "timeout"), (DYNAMIC, "dynamic")];
    let mut words: Vec<String> = known
        .iter()
        .filter(|(bit, _)| flags & bit != 0)
        .map(|(_, word)| (*word).to_owned())
        .collect();
    // nft does not say it either: it follows from the type.
    let concat = if flags & INTERVAL != 0 { CONCAT } else { 0 };
    let rest = flags & !(INTERVAL | TIMEOUT | DYNAMIC | concat);
    if rest != 0 {
        words.push(format!("{rest:#x}"));
    }
    if words.is_empty() { "none".to_owned() } else { words.join(",") }
}

/// A timeout as nft writes it.
pub fn duration(ms: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(86_400_000, "d"), (3_600_000, "h"), (1_000, "s")];
    let unit = UNITS.iter().find(|(unit, _)| ms.is_multiple_of(*unit) && ms != 0);
    unit.map_or_else(|| format!("{ms}ms"), |(unit, word)| format!("{}{word}", ms / unit))
}

fn chain(chain: &Chain) -> String {
    let mut text = String::new();
    if chain.name == names::OWNED {
        text.push_str(
            "\t# says that `synhold run` put these rules in and takes them away when it stops\n",
        );
    }
    if names::COPIES.iter().any(|(_, copy)| *copy == chain.name) {
        text.push_str("\t# what `synhold run` has changed in place and puts back when it stops\n");
    }
    let _ = writeln!(text, "\tchain {} {{", chain.name);
    if let Some(at) = &chain.hook {
        let _ = writeln!(text, "\t\t{}", hook(at));
    }
    for rule in &chain.rules {
        match phrase(&rule.exprs) {
            Ok(words) if rule.comment.is_empty() => {
                let _ = writeln!(text, "\t\t{words}");
            }
            Ok(words) => {
                let _ = writeln!(text, "\t\t{words} comment \"{}\"", rule.comment);
            }
            Err(words) => {
                let _ = writeln!(
                    text,
                    "\t\t# {words} comment \"{}\" (nft has no text for this rule)",
                    rule.comment
                );
            }
        }
    }
    text.push_str("\t}\n");
    text
}

/// A base chain's place as nft writes it.
pub fn hook(hook: &Hook) -> String {
    const HOOKS: [&str; 6] = ["prerouting", "input", "forward", "output", "postrouting", "ingress"];
    let place =
        usize::try_from(hook.num).ok().and_then(|num| HOOKS.get(num)).copied().unwrap_or("unknown");
    let (base, place_of_base) = match (hook.kind.as_str(), hook.priority) {
        ("nat", _) => ("dstnat", -100),
        (_, ..-150) => ("raw", -300),
        _ => ("filter", 0),
    };
    let priority = match hook.priority.saturating_sub(place_of_base) {
        0 => base.to_owned(),
        below if below < 0 => format!("{base} - {}", below.unsigned_abs()),
        above => format!("{base} + {above}"),
    };
    let policy = if hook.policy_drop { "drop" } else { "accept" };
    format!("type {} hook {place} priority {priority}; policy {policy};", hook.kind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::options::{DnsRedirect, Options, QueueVia, Refuse};

    const HEADER: &str = "\
# The rules of `synhold rules install` with default options, as text; `synhold rules show` prints yours.
# synhold itself talks netlink and never reads this file. A test keeps it in step: UPDATE_NFT=1 cargo test.
# Sets without elements are there to be filled.
";

    #[test]
    fn the_committed_text_is_what_is_installed() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/nft/synhold.nft");
        let wanted = format!("{HEADER}\n{}", render(&Ruleset::new(&Options::default())));
        if std::env::var_os("UPDATE_NFT").is_some() {
            std::fs::write(path, &wanted).unwrap();
        }
        let committed = std::fs::read_to_string(path).unwrap();
        assert_eq!(committed, wanted, "run the tests with UPDATE_NFT=1");
    }

    #[test]
    fn what_nft_cannot_say_is_a_comment() {
        let options = Options { queue_via: QueueVia::Compat, ..Options::default() };
        let text = render(&Ruleset::new(&options));
        let line = text.lines().find(|line| line.contains("ask the daemon")).unwrap();
        assert!(line.trim_start().starts_with("# counter xt target NFQUEUE to 0 "), "{line}");
    }

    #[test]
    fn a_resolver_is_named_in_nfts_words() {
        let dns_redirect =
            DnsRedirect::To { v4: Some([10, 0, 0, 53].into()), v6: "fd00::53".parse().ok() };
        let text = render(&Ruleset::new(&Options { dns_redirect, ..Options::default() }));
        for line in [
            "chain dns_redirect {",
            "type nat hook prerouting priority dstnat - 1; policy accept;",
            "ip saddr @quarantine4 return comment \"quarantined, IPv4\"",
            "ip saddr 10.0.0.53 return comment \"our resolver, IPv4\"",
            "ip6 daddr fd00::53 return comment \"asks our resolver, IPv6\"",
            "ip saddr @containers4 udp dport 53 counter dnat ip to 10.0.0.53 \
             comment \"dns over udp to our resolver, IPv4\"",
            "ip6 saddr @containers6 tcp dport 53 counter dnat ip6 to fd00::53 \
             comment \"dns over tcp to our resolver, IPv6\"",
        ] {
            assert!(text.contains(&format!("\t{line}\n")), "{line} in {text}");
        }
    }

    #[test]
    fn every_other_rule_has_words() {
        let to = |v4, v6| DnsRedirect::To { v4, v6 };
        let (v4, v6) = (Some([10, 0, 0, 53].into()), Some("fd00::53".parse().unwrap()));
        let redirects = [DnsRedirect::Off, DnsRedirect::Gateway, to(v4, None), to(v4, v6)];
        for refuse in [Refuse::Reset, Refuse::Drop] {
            for (queues, dns_redirect) in [1, 4, 1, 4].into_iter().zip(redirects) {
                let options = Options { refuse, queues, dns_redirect, ..Options::default() };
                let rules = Ruleset::new(&options).chains.into_iter().flat_map(|chain| chain.rules);
                for rule in rules {
                    assert!(phrase(&rule.exprs).is_ok(), "{rule:?}");
                }
            }
        }
    }
}
