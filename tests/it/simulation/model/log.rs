//! What a log proves: an address answers a query for addresses of its family, and is credited to the name asked.

use std::net::IpAddr;

use crate::simulation::cast::{HOST, INSIDE, LOCAL_DOMAIN};
use crate::simulation::step::{Key, Says, Value};

/// Evidence.
pub struct Record {
    pub address: IpAddr,
    pub name: String,
    pub client: IpAddr,
    pub is_static: bool,
    pub chain: Vec<String>,
}

struct Query {
    key: Key,
    client: (IpAddr, u16),
    qtype: &'static str,
    name: String,
    chain: Vec<String>,
}

/// The queries that were read.
#[derive(Default)]
pub struct Log {
    queries: Vec<Query>,
}

impl Log {
    /// Takes in what a line says.
    pub fn read(&mut self, says: &Says) -> Option<Record> {
        match says {
            Says::Query { key, client, qtype, name } => {
                self.queries.retain(|query| query.key != *key);
                let (name, chain) = (name.to_lowercase(), Vec::new());
                self.queries.push(Query { key: *key, client: *client, qtype, name, chain });
                None
            }
            Says::Started { pid } => {
                self.queries.retain(|query| query.key.1 != *pid);
                None
            }
            Says::Answer { key, client, owner, kind, value } => {
                let same = |query: &&mut Query| query.key == *key && query.client == *client;
                let query = self.queries.iter_mut().find(same)?;
                let owner = owner.to_lowercase();
                if owner != query.name && query.chain.last() != Some(&owner) {
                    query.chain.push(owner);
                }
                let Value::Address(address) = *value else { return None };
                if query.qtype != if address.is_ipv4() { "A" } else { "AAAA" } {
                    return None;
                }
                let (name, client, chain) =
                    (query.name.clone(), query.client.0, query.chain.clone());
                let record = Record { address, name, client, is_static: kind.is_static(), chain };
                (!is_rebinding(&record)).then_some(record)
            }
            Says::Nothing => None,
        }
    }
}

/// A public name that answers with what no public service has.
fn is_rebinding(record: &Record) -> bool {
    let is_local = record.name.ends_with(LOCAL_DOMAIN);
    let is_public = record.name.contains('.') && !record.name.ends_with(".lan") && !is_local;
    let is_inside = record.address == HOST || INSIDE.contains(&record.address);
    is_public && is_inside && !record.is_static
}
