//! Which events somebody wants: by kind, by container, or refusals alone.

use std::net::IpAddr;

use crate::engine::Verdict;
use crate::engine::event::Body;

/// What is to be read. The default is everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pick {
    /// Only these kinds ([`Body::kind`]); empty means all.
    pub kinds: Vec<&'static str>,
    /// Only what is about this container.
    pub container: Option<Whose>,
    /// Only refusals, of ours or of the kernel's sets.
    pub refused: bool,
}

/// A container, as far as it is known.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Whose {
    /// Its name, or what somebody took for one.
    pub name: String,
    /// Its full id, where known.
    pub id: Option<String>,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Pick {
    /// Whether this is wanted.
    pub fn wants(&self, body: &Body) -> bool {
        (self.kinds.is_empty() || self.kinds.contains(&body.kind()))
            && (!self.refused || is_refusal(body))
            && self.container.as_ref().is_none_or(|whose| whose.is_of(body))
    }
}

fn is_refusal(body: &Body) -> bool {
    match body {
        Body::Verdict(verdict) => verdict.verdict == Verdict::Drop,
        Body::Block(_) => true,
        _ => false,
    }
}

impl Whose {
    fn is_of(&self, body: &Body) -> bool {
        match body {
            Body::Verdict(told) => {
                self.is(told.container.as_deref(), told.container_id.as_deref(), told.src)
            }
            Body::Block(told) => {
                self.is(told.container.as_deref(), told.container_id.as_deref(), Some(told.src))
            }
            Body::Container(told) => self.is(Some(&told.container), Some(&told.container_id), None),
            Body::Alert(told) => self.is(told.container.as_deref(), None, told.client),
            Body::Record(told) => self.is(None, None, told.client),
            Body::Ready(_) | Body::Learn(_) | Body::Health(_) | Body::Reload(_) | Body::Stop(_) => {
                false
            }
        }
    }

    /// The id decides where both sides know it, then the name; an address may have been another's before.
    fn is(&self, name: Option<&str>, id: Option<&str>, address: Option<IpAddr>) -> bool {
        match (id, &self.id, name) {
            (Some(id), Some(own), _) => id == own,
            (Some(id), None, _) if !self.name.is_empty() && id.starts_with(&self.name) => true,
            (_, _, Some(name)) if name == self.name => true,
            (_, _, Some(_)) if self.id.is_some() => false,
            _ => address.is_some_and(|address| self.addresses.contains(&address)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::verdict;
    use super::*;
    use crate::engine::event::{Health, RecordBody};
    use crate::engine::{Kind, Mode, Name, Reason};

    fn told(verdict_: Verdict, container: Option<(&str, &str)>) -> Body {
        let Body::Verdict(mut body) =
            verdict(verdict_, Reason::NeverResolved, Mode::Enforce, &[]).body
        else {
            panic!("a verdict")
        };
        body.container = container.map(|(name, _)| name.into());
        body.container_id = container.map(|(_, id)| id.into());
        Body::Verdict(body)
    }

    fn health() -> Body {
        let (what, message) = Default::default();
        Body::Health(Health { what, healthy: true, message })
    }

    #[test]
    fn kinds_and_refusals_are_picked() {
        let accept = told(Verdict::Accept, None);
        let refuse = told(Verdict::Drop, None);
        let all = Pick::default();
        assert!(all.wants(&accept) && all.wants(&refuse) && all.wants(&health()));
        let refused = Pick { refused: true, ..Pick::default() };
        assert!(refused.wants(&refuse) && !refused.wants(&accept) && !refused.wants(&health()));
        let kinds = Pick { kinds: vec!["health", "stop"], ..Pick::default() };
        assert!(kinds.wants(&health()) && !kinds.wants(&refuse));
    }

    #[test]
    fn a_container_is_known_by_id_then_name_then_address() {
        let web = told(Verdict::Drop, Some(("web", "a1b2c3d4e5f6")));
        let bare = told(Verdict::Drop, None);
        let wants = |whose: &Whose, body: &Body| {
            Pick { container: Some(whose.clone()), ..Pick::default() }.wants(body)
        };
        let at = || vec!["172.25.0.2".parse().unwrap()];
        let known = Whose { name: "web".into(), id: Some("a1b2c3d4e5f6".into()), addresses: at() };
        assert!(wants(&known, &web) && wants(&known, &bare) && !wants(&known, &health()));
        let heir = Whose { id: Some("ffff".into()), ..known.clone() };
        assert!(!wants(&heir, &web), "the address and the name were another's then");
        for name in ["web", "a1b2c3"] {
            let gone = Whose { name: name.into(), ..Whose::default() };
            assert!(wants(&gone, &web) && !wants(&gone, &bare), "{name}");
        }
        let address = Whose { addresses: at(), name: "172.25.0.2".into(), id: None };
        assert!(wants(&address, &web) && wants(&address, &bare));
        let record = Body::Record(RecordBody {
            address: "203.0.113.9".parse().unwrap(),
            name: Name::new("a.example").unwrap(),
            client: "172.25.0.2".parse().ok(),
            kind: Kind::Reply,
            chain: Vec::new(),
        });
        assert!(wants(&known, &record));
    }

    #[test]
    fn every_kind_has_its_word() {
        for body in [health(), told(Verdict::Drop, None)] {
            let json = serde_json::to_value(&body).unwrap();
            assert_eq!(json["event"], body.kind());
            assert!(Body::KINDS.contains(&body.kind()));
        }
    }
}
