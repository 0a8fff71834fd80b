//! Whose refusals are looked at: everybody's, or those of one container.

use std::net::IpAddr;
use std::sync::Arc;

/// One container, by name or address; by default everybody.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    container: Option<Arc<str>>,
    address: Option<IpAddr>,
}

impl Wanted {
    /// As it is written.
    pub(super) fn new(container: Option<&str>) -> Wanted {
        let address = container.and_then(|text| text.parse().ok());
        Wanted { container: container.map(Arc::from), address }
    }

    /// True if everybody is.
    pub(super) fn is_everybody(&self) -> bool {
        self.container.is_none()
    }

    /// True if a container with this name, where it is known, and this address is.
    pub(super) fn has(&self, name: Option<&Arc<str>>, address: IpAddr) -> bool {
        self.is_everybody() || self.address == Some(address) || self.is_called(name)
    }

    /// True if one of this name is.
    pub(super) fn is_called(&self, name: Option<&Arc<str>>) -> bool {
        self.is_everybody() || (name.is_some() && name == self.container.as_ref())
    }
}
