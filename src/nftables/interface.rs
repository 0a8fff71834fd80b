//! The name of an interface, as sets of the kernel hold it.

use std::fmt;

use super::encode::INTERFACE_LEN;

const LEN: usize = INTERFACE_LEN as usize;

/// An interface by its name: what the kernel compares is the name filled up with zeros.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Interface([u8; LEN]);

impl Interface {
    /// `None` for what can be no interface's name, or would mean something else in nft's own texts: more than 15 bytes, and
    /// anything but letters, digits and a few signs.
    pub fn new(name: &str) -> Option<Interface> {
        let fits = (1..LEN).contains(&name.len()) && name != "." && name != "..";
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.@+=#,~%".contains(&byte);
        let mut bytes = [0; LEN];
        bytes.iter_mut().zip(name.bytes()).for_each(|(place, byte)| *place = byte);
        (fits && name.bytes().all(plain)).then_some(Interface(bytes))
    }

    /// As the kernel gave it.
    pub(super) fn from_bytes(bytes: [u8; LEN]) -> Interface {
        Interface(bytes)
    }

    /// The name, filled up with zeros.
    pub fn bytes(&self) -> &[u8; LEN] {
        &self.0
    }
}

/// As nft writes it.
impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.split(|byte| *byte == 0).next().unwrap_or_default();
        write!(f, "\"{}\"", String::from_utf8_lossy(name))
    }
}

impl fmt::Debug for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interface({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_an_interface_can_be_called_is_a_name() {
        for name in ["docker0", "br-0123456789ab", "x", "a.b@c", "123456789012345"] {
            let interface = Interface::new(name).unwrap();
            assert_eq!(interface.to_string(), format!("\"{name}\""));
            assert_eq!(interface.bytes()[LEN - 1], 0, "ends with a zero");
        }
        for name in
            ["", ".", "..", "1234567890123456", "a b", "br*", "a\"", "a/b", "a:b", "ü", "a\0"]
        {
            assert_eq!(Interface::new(name), None, "{name}");
        }
    }
}
