//! A domain name as evidence: lower case, no trailing dot, bounded, shared by reference.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::limits::NAME_BYTES_MAX;

/// A normalised domain name (RFC 1035 section 3.1: at most 253 characters in text form).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(Arc<str>);

/// Why a text is no domain name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing is left once the trailing dot is gone.
    #[error("empty name")]
    Empty,
    /// Longer than [`NAME_BYTES_MAX`].
    #[error("name longer than {NAME_BYTES_MAX} characters")]
    TooLong,
    /// Holds a blank, a control character or a byte outside ASCII.
    #[error("name with a character that is not printable ASCII")]
    Unprintable,
}

/// Writes the normal form of `text` into `buffer` and returns it, so that a look-up needs no allocation.
///
/// # Errors
/// [`NameError`] when the text cannot be a domain name.
pub fn normalise<'b>(
    text: &str,
    buffer: &'b mut [u8; NAME_BYTES_MAX],
) -> Result<&'b str, NameError> {
    let bare = text.strip_suffix('.').unwrap_or(text);
    if bare.is_empty() {
        return Err(NameError::Empty);
    }
    let Some(target) = buffer.get_mut(..bare.len()) else {
        return Err(NameError::TooLong);
    };
    for (to, from) in target.iter_mut().zip(bare.bytes()) {
        if !from.is_ascii_graphic() {
            return Err(NameError::Unprintable);
        }
        *to = from.to_ascii_lowercase();
    }
    std::str::from_utf8(target).map_err(|_| NameError::Unprintable)
}

impl Name {
    /// Normalises and keeps `text`.
    ///
    /// # Errors
    /// [`NameError`] when the text cannot be a domain name.
    pub fn new(text: &str) -> Result<Name, NameError> {
        let mut buffer = [0; NAME_BYTES_MAX];
        normalise(text, &mut buffer).map(|name| Name(Arc::from(name)))
    }

    /// The name in its normal form.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::borrow::Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Name {
    type Error = NameError;
    fn try_from(text: String) -> Result<Name, NameError> {
        Name::new(&text)
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_and_the_trailing_dot_do_not_matter() {
        assert_eq!(Name::new("WWW.Example.COM.").unwrap(), Name::new("www.example.com").unwrap());
    }

    #[test]
    fn what_cannot_be_a_name_is_refused() {
        assert_eq!(Name::new("."), Err(NameError::Empty));
        assert_eq!(Name::new(""), Err(NameError::Empty));
        assert_eq!(Name::new("a b"), Err(NameError::Unprintable));
        assert_eq!(Name::new("ex\u{e4}mple"), Err(NameError::Unprintable));
        assert_eq!(Name::new(&"a".repeat(NAME_BYTES_MAX + 1)), Err(NameError::TooLong));
        assert!(Name::new(&"a".repeat(NAME_BYTES_MAX)).is_ok());
    }
}
