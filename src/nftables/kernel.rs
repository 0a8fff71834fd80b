//! Reading, changing and removing our table in the kernel.

use rustables::sys;

use super::batch::{Batch, Ending};
use super::decode::{self, Edge};
use super::drift::{Drift, check};
use super::element;
use super::encode;
use super::error::Error;
use super::expr::Rule;
use super::names;
use super::options::{Options, QueueVia};
use super::plan::{Step, TableStep, Transaction, plan, wake};
use super::rules;
use super::ruleset::{Chain, INTERVAL, Key, Ruleset, Set};
use super::socket::{Answer, Channel};
use super::wire::{Attr, our_table};

/// How often a read is begun anew when rules change meanwhile. One takes well under a millisecond.
const READ_TRIES: usize = 32;

/// What [`apply`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Applied {
    /// What was not as wanted, and now is. Empty: nothing was touched.
    pub changes: Vec<Drift>,
}

/// Asks the kernel how it can queue packets. Nothing is changed: the transaction is never committed.
pub fn probe() -> Result<QueueVia, Error> {
    let mut channel = Channel::open()?;
    match channel.transact(&question(QueueVia::Native)) {
        Ok(()) => return Ok(QueueVia::Native),
        Err(Error::Unsupported { .. }) => {}
        Err(other) => return Err(other),
    }
    match channel.transact(&question(QueueVia::Compat)) {
        Ok(()) => Ok(QueueVia::Compat),
        Err(Error::Unsupported { errno, .. }) => {
            let what =
                "rules that queue packets, neither by nft_queue nor by nft_compat with xt_NFQUEUE"
                    .to_owned();
            Err(Error::Unsupported { what, errno })
        }
        Err(other) => Err(other),
    }
}

/// The smallest transaction that holds a queueing rule.
fn question(queue_via: QueueVia) -> Batch {
    const CHAIN: &str = "probe";
    // The last of the chain; those before it ask sets that are not there.
    let queueing = rules::verdict(&Options { queue_via, ..Options::default() }).pop();
    let steps = queueing.into_iter().map(|rule| Step::AddRule(CHAIN.to_owned(), rule)).collect();
    let chains = vec![Chain { name: CHAIN.to_owned(), hook: None, rules: Vec::new() }];
    Batch::new(&Transaction { table: TableStep::Add, chains, steps }, Ending::Abort)
}

/// The table as the kernel has it; `None` if there is none.
pub fn read() -> Result<Option<Ruleset>, Error> {
    let mut channel = Channel::open()?;
    for _ in 0..READ_TRIES {
        let before = generation_by(&mut channel)?;
        let Some(found) = read_once(&mut channel)? else { continue };
        // Several dumps make one picture only if nothing happened between them.
        if generation_by(&mut channel)? == before {
            return Ok(found);
        }
    }
    Err(Error::Busy("no quiet moment to read them"))
}

/// A number that changes with every change of any rules in this network namespace, ours or not.
pub fn generation() -> Result<Option<u32>, Error> {
    generation_by(&mut Channel::open()?)
}

pub(super) fn generation_by(channel: &mut Channel) -> Result<Option<u32>, Error> {
    let mut generation = None;
    channel.ask(sys::NFT_MSG_GETGEN, 0, &[], |attrs| {
        generation = attrs.be32(sys::NFTA_GEN_ID, "generation")?;
        Ok(())
    })?;
    Ok(generation)
}

/// One try; `None` is a torn one.
fn read_once(channel: &mut Channel) -> Result<Option<Option<Ruleset>>, Error> {
    let mut found = Ruleset::default();
    let table = [our_table(sys::NFTA_TABLE_NAME)];
    let answer = channel.ask(sys::NFT_MSG_GETTABLE, 0, &table, |attrs| {
        found.dormant = decode::table_dormant(attrs)?;
        Ok(())
    })?;
    match answer {
        Answer::Absent => return Ok(Some(None)),
        Answer::Torn => return Ok(None),
        Answer::Complete | Answer::Stopped => {}
    }
    let whole = read_chains(channel, &mut found)? && read_sets(channel, &mut found)?;
    Ok(whole.then_some(Some(found)))
}

/// Whether all chains and rules were seen.
fn read_chains(channel: &mut Channel, found: &mut Ruleset) -> Result<bool, Error> {
    let chains = &mut found.chains;
    let answer = channel.ask(sys::NFT_MSG_GETCHAIN, sys::NLM_F_DUMP, &[], |attrs| {
        let (table, chain) = decode::chain(attrs)?;
        if table == names::TABLE {
            chains.push(chain);
        }
        Ok(())
    })?;
    if answer != Answer::Complete {
        return Ok(false);
    }
    chains.sort_by(|a, b| {
        (names::chain_rank(&a.name), &a.name).cmp(&(names::chain_rank(&b.name), &b.name))
    });
    let mut rules: Vec<(String, Rule)> = Vec::new();
    let filter = [our_table(sys::NFTA_RULE_TABLE)];
    let answer = channel.ask(sys::NFT_MSG_GETRULE, sys::NLM_F_DUMP, &filter, |attrs| {
        rules.push(decode::rule(attrs)?);
        Ok(())
    })?;
    for (name, rule) in rules {
        if let Some(chain) = chains.iter_mut().find(|chain| chain.name == name) {
            chain.rules.push(rule);
        }
    }
    Ok(answer == Answer::Complete)
}

/// Whether all sets, and all elements of those that are ours to keep, were seen.
fn read_sets(channel: &mut Channel, found: &mut Ruleset) -> Result<bool, Error> {
    let sets = &mut found.sets;
    let filter = [our_table(sys::NFTA_SET_TABLE)];
    let answer = channel.ask(sys::NFT_MSG_GETSET, sys::NLM_F_DUMP, &filter, |attrs| {
        sets.extend(decode::set(attrs)?);
        Ok(())
    })?;
    sets.sort_by(|a, b| {
        (names::set_rank(&a.name), &a.name).cmp(&(names::set_rank(&b.name), &b.name))
    });
    for set in sets.iter_mut().filter(|set| names::is_managed(&set.name)) {
        if !read_elements(channel, set)? {
            return Ok(false);
        }
    }
    Ok(answer == Answer::Complete)
}

fn read_elements(channel: &mut Channel, set: &mut Set) -> Result<bool, Error> {
    let family = match set.key {
        Key::Address(family) if set.flags & INTERVAL != 0 => family,
        // Of a set of another type the elements are of no use.
        Key::Other { .. } => return Ok(true),
        _ => return read_plain(channel, set),
    };
    let mut edges = Vec::new();
    let filter: Vec<Attr> = encode::elements_of(&set.name);
    let answer = channel.ask(sys::NFT_MSG_GETSETELEM, sys::NLM_F_DUMP, &filter, |attrs| {
        edges.extend(decode::edges(attrs, family)?);
        Ok(())
    })?;
    set.catch_all = edges.contains(&Edge::CatchAll);
    let spans = decode::spans(&edges, family).into_iter();
    set.elements = Some(spans.map(|span| element::Key::Span(family, span)).collect());
    Ok(answer == Answer::Complete)
}

/// The elements of a set in which each is one, whatever it holds.
fn read_plain(channel: &mut Channel, set: &mut Set) -> Result<bool, Error> {
    let (mut keys, mut catch_all) = (Vec::new(), false);
    let filter: Vec<Attr> = encode::elements_of(&set.name);
    let answer = channel.ask(sys::NFT_MSG_GETSETELEM, sys::NLM_F_DUMP, &filter, |attrs| {
        for (_, bytes) in attrs.nest(sys::NFTA_SET_ELEM_LIST_ELEMENTS)?.iter() {
            match element::read(bytes, set.key, set.flags & INTERVAL != 0)? {
                Some(piece) => keys.push(piece.found.element.key),
                None => catch_all = true,
            }
        }
        Ok(())
    })?;
    keys.sort_unstable();
    (set.elements, set.catch_all) = (Some(keys), catch_all);
    Ok(answer == Answer::Complete)
}

/// Brings the kernel from `current`, as [`read`] gave it, to `wanted`, in one transaction or not at all; only
/// a table asleep without our base chain is woken before. Where nothing differs nothing is sent. Table and base
/// chains that exist stay, with all queued packets; elements of quarantine, allow, block and denied sets stay.
pub fn apply(wanted: &Ruleset, current: Option<&Ruleset>) -> Result<Applied, Error> {
    apply_by(&mut Channel::open()?, wanted, current)
}

/// [`apply`] through a channel that is there, in its network namespace, so that a monitor knows whose change it was.
///
/// # Errors
/// As [`apply`].
pub fn apply_by(
    channel: &mut Channel,
    wanted: &Ruleset,
    current: Option<&Ruleset>,
) -> Result<Applied, Error> {
    let changes = check(wanted, current);
    if !changes.is_empty() {
        let transaction = plan(wanted, current)?;
        if let Some(first) = wake(wanted, current) {
            channel.transact(&Batch::new(&first, Ending::Commit))?;
        }
        channel.transact(&Batch::new(&transaction, Ending::Commit))?;
    }
    Ok(Applied { changes })
}

/// Deletes our table and all in it; `false` if there was none. Packets waiting in any queue of this network
/// namespace are dropped by the kernel, so everything held has to be answered before.
pub fn remove() -> Result<bool, Error> {
    let mut channel = Channel::open()?;
    // Whatever is in it goes too, so it need not make sense to us.
    let table = [our_table(sys::NFTA_TABLE_NAME)];
    if channel.ask(sys::NFT_MSG_GETTABLE, 0, &table, |_| Ok(()))? == Answer::Absent {
        return Ok(false);
    }
    let transaction =
        Transaction { table: TableStep::Delete, chains: Vec::new(), steps: Vec::new() };
    channel.transact(&Batch::new(&transaction, Ending::Commit))?;
    Ok(true)
}
