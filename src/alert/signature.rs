//! The signature of a webhook's body: whoever has the secret can tell that it is ours, and when it was made.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

/// The header it is in.
pub const HEADER: &str = "X-Synhold-Signature";

/// `t=UNIX,v1=HEX`: HMAC-SHA256 over the time in seconds, a dot, and the body.
pub fn sign(secret: &[u8], seconds: u64, body: &[u8]) -> String {
    let mut out = format!("t={seconds},v1=");
    // A key of any length will do.
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret) else { return out };
    mac.update(format!("{seconds}.").as_bytes());
    mac.update(body);
    for byte in mac.finalize().into_bytes() {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_openssl_says() {
        // printf '1767323045.{"a":1}' | openssl dgst -sha256 -hmac secret
        assert_eq!(
            sign(b"secret", 1_767_323_045, br#"{"a":1}"#),
            "t=1767323045,v1=5801ec7c2609536b21e872dabc58e02401283cba52f83527f288b9a0036a4941"
        );
    }
}
