//! Whom adapters that speak TLS trust instead of well-known authorities: the certificates of one file.

use std::path::Path;

use ureq::tls::{Certificate, PemItem, parse_pem};

/// The certificates in a PEM file, as DER.
///
/// # Errors
/// In one line: it cannot be read, or has none.
pub fn certificates(path: &Path) -> Result<Vec<Certificate<'static>>, String> {
    let wrong = |why: &dyn std::fmt::Display| format!("ca {}: {why}", path.display());
    let pem = std::fs::read(path).map_err(|error| wrong(&error))?;
    let found = parse_pem(&pem).filter_map(|item| match item {
        Ok(PemItem::Certificate(certificate)) => Some(certificate),
        _ => None,
    });
    let found: Vec<Certificate<'static>> = found.collect();
    if found.is_empty() { Err(wrong(&"no certificate in it")) } else { Ok(found) }
}
