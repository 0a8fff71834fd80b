//! What comes in about one name of one address: a record of now, one of history, or what was saved.

use std::net::IpAddr;

use super::entry::Seen;
use super::saved::Saved;
use crate::engine::name::Name;
use crate::engine::record::{Kind, Record};

/// One sighting. Times are seconds since the Unix epoch.
#[derive(Clone, Copy, Debug)]
pub(super) struct News<'a> {
    pub(super) name: &'a Name,
    pub(super) first: u32,
    pub(super) last: u32,
    pub(super) asker: Option<IpAddr>,
    /// On whose account it goes, where that is known.
    pub(super) payer: Option<IpAddr>,
    pub(super) kind: Kind,
    pub(super) chain: &'a [Name],
    pub(super) how: How,
}

/// Where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum How {
    /// It was resolved just now: thresholds count it.
    Live,
    /// It was resolved before we looked.
    History,
    /// It was kept: whoever had room for it has it again.
    Restored,
}

impl<'a> News<'a> {
    pub(super) fn of(record: &'a Record, how: How) -> News<'a> {
        let at = record.time.seconds();
        News {
            name: &record.name,
            first: at,
            last: at,
            asker: record.client,
            payer: None,
            kind: record.kind,
            chain: &record.chain,
            how,
        }
    }

    pub(super) fn paid_by(self, payer: Option<IpAddr>) -> News<'a> {
        News { payer, ..self }
    }

    /// One name of a whole address. Who asked last is among its askers, as a rule, with a time of its own.
    pub(super) fn saved(saved: &Saved, index: usize, seen: &'a Seen) -> News<'a> {
        let mut news = News::restored(seen);
        news.asker.take_if(|_| saved.askers.iter().any(|asker| usize::from(asker.name) == index));
        news
    }

    pub(super) fn restored(seen: &'a Seen) -> News<'a> {
        News {
            name: &seen.name,
            first: seen.first,
            last: seen.last,
            asker: seen.asker,
            payer: None,
            kind: seen.kind,
            chain: seen.chain.as_ref().map_or(&[], |chain| chain.as_slice()),
            how: How::Restored,
        }
    }
}
