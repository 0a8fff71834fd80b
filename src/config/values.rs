//! Values that are more than a word or a number.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use crate::nftables::DnsRedirect;

/// How long an address stays blocked that was blocked by itself: a month outlives most campaigns, and no address
/// belongs to one tenant for ever.
const AUTO_BLOCK_FOR_DEFAULT: Duration = Duration::from_secs(30 * DAY);
/// Shorter than that, nobody would notice that it had been blocked.
const AUTO_BLOCK_FOR_MIN: Duration = Duration::from_secs(60);
/// Longer than that is for ever, which is what the block list is for.
const AUTO_BLOCK_FOR_MAX: Duration = Duration::from_secs(3_650 * DAY);
const DAY: u64 = 24 * 60 * 60;

/// `off`, `gateway`, or the address of a resolver, or one of each family.
pub fn dns_redirect(text: &str) -> Result<DnsRedirect> {
    match text {
        "off" => return Ok(DnsRedirect::Off),
        "gateway" => return Ok(DnsRedirect::Gateway),
        _ => {}
    }
    let (mut v4, mut v6) = (None, None);
    for word in text.split(',') {
        let address: IpAddr =
            word.trim().parse().context("write off, gateway, ADDRESS or ADDRESS,ADDRESS6")?;
        let nowhere = address.is_unspecified() || address.is_loopback() || address.is_multicast();
        ensure!(!nowhere, "containers reach no resolver at {address}");
        let known = match address {
            IpAddr::V4(address) => v4.replace(address).is_some(),
            IpAddr::V6(address) => v6.replace(address).is_some(),
        };
        if known {
            bail!("one address of each family is enough");
        }
    }
    Ok(DnsRedirect::To { v4, v6 })
}

/// A time as `12h` or `30d`.
pub fn auto_block_for(text: Option<&str>) -> Result<Duration> {
    let Some(text) = text else { return Ok(AUTO_BLOCK_FOR_DEFAULT) };
    let time = humantime::parse_duration(text).context("write a time as 12h or 30d")?;
    let bounds = AUTO_BLOCK_FOR_MIN..=AUTO_BLOCK_FOR_MAX;
    ensure!(bounds.contains(&time), "it must be between one minute and ten years");
    Ok(time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resolver_is_named_by_one_address_of_each_family() {
        let (v4, v6) = (Some([10, 0, 0, 53].into()), Some("fd00::53".parse().unwrap()));
        for (text, wanted) in [
            ("off", DnsRedirect::Off),
            ("gateway", DnsRedirect::Gateway),
            ("10.0.0.53", DnsRedirect::To { v4, v6: None }),
            ("fd00::53", DnsRedirect::To { v4: None, v6 }),
            ("fd00::53, 10.0.0.53", DnsRedirect::To { v4, v6 }),
        ] {
            assert_eq!(dns_redirect(text).unwrap(), wanted, "{text}");
        }
        for text in ["", "on", "10.0.0.53,", "10.0.0.53,10.0.0.54", "127.0.0.1", "::", "ff02::1"] {
            assert!(dns_redirect(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_block_lasts_a_minute_at_least() {
        assert_eq!(auto_block_for(None).unwrap(), AUTO_BLOCK_FOR_DEFAULT);
        assert_eq!(auto_block_for(Some("2h 30m")).unwrap(), Duration::from_secs(9_000));
        assert_eq!(auto_block_for(Some("1m")).unwrap(), AUTO_BLOCK_FOR_MIN);
        for text in ["59s", "0s", "11years", "30", "soon", ""] {
            assert!(auto_block_for(Some(text)).is_err(), "{text}");
        }
    }
}
