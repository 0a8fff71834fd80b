//! One transaction as bytes, and what each of its messages is for.

use rustables::{ChainPolicy, ChainType, MsgType, ProtocolFamily, sys};

use super::encode;
use super::error::Purpose;
use super::names;
use super::plan::{Step, TableStep, Transaction};
use super::ruleset::{Chain, Hook};
use super::wire::{self, Attr, GENMSG_LEN, HEADER_LEN};

/// Whether the kernel is to do it, or only to say whether it would.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Do it.
    Commit,
    /// Without its last message the kernel validates a transaction, answers, and takes it all back.
    Abort,
}

/// Bytes ready to be sent. Message `n` carries sequence number `n`.
#[derive(Clone, Debug)]
pub struct Batch {
    /// All messages, back to back.
    pub bytes: Vec<u8>,
    /// For each message, its purpose and its name in an error.
    pub messages: Vec<(Purpose, String)>,
}

impl Batch {
    /// Encodes a transaction. Table and chains are rustables' messages; what it has no words for follows in
    /// the same transaction.
    pub fn new(transaction: &Transaction, ending: Ending) -> Batch {
        let mut batch = head(transaction);
        for step in &transaction.steps {
            batch.push(step);
        }
        if ending == Ending::Commit {
            let seq = batch.next_seq();
            wire::put_batch_end(&mut batch.bytes, seq);
        }
        batch
    }

    fn next_seq(&self) -> u32 {
        u32::try_from(self.messages.len()).unwrap_or(u32::MAX)
    }

    fn push(&mut self, step: &Step) {
        let seq = self.next_seq();
        let (kind, flags, attrs) = message(step, seq);
        wire::put_message(&mut self.bytes, kind, flags | sys::NLM_F_ACK, seq, &attrs);
        let purpose = match step {
            Step::AddSet(_) | Step::AddRule(..) => Purpose::Add,
            Step::FlushChain(_) | Step::DeleteChain(_) | Step::DeleteSet(_) => Purpose::Other,
            Step::DeleteCatchAll(_) | Step::DeleteElements(..) | Step::AddElements(..) => {
                Purpose::Other
            }
        };
        self.messages.push((purpose, step.to_string()));
    }
}

/// The opening message, the table and the chains.
fn head(transaction: &Transaction) -> Batch {
    let mut batch = rustables::Batch::new();
    let mut messages = vec![(Purpose::Transaction, "the transaction".to_owned())];
    // Flags of zero wake a table that somebody put to sleep.
    let table =
        rustables::Table::new(ProtocolFamily::Inet).with_name(names::TABLE).with_flags(0_u32);
    let (kind, purpose) = match transaction.table {
        TableStep::Add => (MsgType::Add, Purpose::Add),
        TableStep::Delete => (MsgType::Del, Purpose::Other),
    };
    batch.add(&table, kind);
    messages.push((purpose, transaction.table.to_string()));
    for chain in &transaction.chains {
        batch.add(&rustables_chain(&table, chain), MsgType::Add);
        messages.push((Purpose::Add, format!("chain {}", chain.name)));
    }
    let mut bytes = batch.finalize();
    // rustables closes the transaction; ours goes on.
    bytes.truncate(bytes.len().saturating_sub(HEADER_LEN + GENMSG_LEN));
    Batch { bytes, messages }
}

fn rustables_chain(table: &rustables::Table, chain: &Chain) -> rustables::Chain {
    let regular = rustables::Chain::new(table).with_name(chain.name.as_str());
    let Some(Hook { kind, num, priority, policy_drop }) = &chain.hook else { return regular };
    let kind = if kind == "nat" { ChainType::Nat } else { ChainType::Filter };
    let policy = if *policy_drop { ChainPolicy::Drop } else { ChainPolicy::Accept };
    let hook = rustables::Hook::default().with_class(*num).with_priority(priority.cast_unsigned());
    regular.with_hook(hook).with_type(kind).with_policy(policy)
}

fn message(step: &Step, seq: u32) -> (u32, u32, Vec<Attr>) {
    match step {
        Step::FlushChain(chain) => (sys::NFT_MSG_DELRULE, 0, encode::rules_of(chain)),
        Step::DeleteChain(chain) => {
            let name = Attr::text(sys::NFTA_CHAIN_NAME, chain);
            (sys::NFT_MSG_DELCHAIN, 0, vec![wire::our_table(sys::NFTA_CHAIN_TABLE), name])
        }
        Step::DeleteSet(set) => (sys::NFT_MSG_DELSET, 0, encode::set_name(set)),
        Step::AddSet(set) => (sys::NFT_MSG_NEWSET, sys::NLM_F_CREATE, encode::set(set, seq)),
        Step::DeleteCatchAll(set) => (sys::NFT_MSG_DELSETELEM, 0, encode::catch_all(set)),
        Step::DeleteElements(set, keys) => {
            (sys::NFT_MSG_DELSETELEM, 0, encode::elements(set, keys))
        }
        Step::AddElements(set, keys) => {
            (sys::NFT_MSG_NEWSETELEM, sys::NLM_F_CREATE, encode::elements(set, keys))
        }
        Step::AddRule(chain, rule) => {
            (sys::NFT_MSG_NEWRULE, sys::NLM_F_CREATE | sys::NLM_F_APPEND, encode::rule(chain, rule))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nftables::options::Options;
    use crate::nftables::plan::plan;
    use crate::nftables::ruleset::Ruleset;

    #[test]
    fn every_message_carries_its_number_and_asks_for_an_answer() {
        let transaction = plan(&Ruleset::new(&Options::default()), None).unwrap();
        let batch = Batch::new(&transaction, Ending::Commit);
        let messages = wire::messages(&batch.bytes).unwrap();
        assert_eq!(messages.len(), batch.messages.len() + 1);
        for (place, message) in messages.iter().enumerate() {
            assert_eq!(message.seq as usize, place);
            let is_last = place == batch.messages.len();
            assert_eq!(message.flags & wire::flag(sys::NLM_F_ACK) == 0, is_last, "{place}");
        }
        assert_eq!(messages[0].kind, wire::flag(sys::NFNL_MSG_BATCH_BEGIN));
        assert_eq!(messages.last().unwrap().kind, wire::flag(sys::NFNL_MSG_BATCH_END));
        assert_eq!(messages[1].kind, wire::nft_type(sys::NFT_MSG_NEWTABLE));
    }

    #[test]
    fn a_question_has_no_last_message() {
        let transaction = plan(&Ruleset::new(&Options::default()), None).unwrap();
        let batch = Batch::new(&transaction, Ending::Abort);
        assert_eq!(wire::messages(&batch.bytes).unwrap().len(), batch.messages.len());
    }
}
