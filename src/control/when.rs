//! Times on a line, as events write them.

use std::time::{Duration, UNIX_EPOCH};

use crate::engine::Wall;

/// The last moment that RFC 3339 can write.
const LAST_MICROS: u64 = 253_402_300_799 * 1_000_000;

/// A time as RFC 3339 has it, with microseconds.
pub fn show(time: Wall) -> String {
    let time = UNIX_EPOCH + Duration::from_micros(time.0.min(LAST_MICROS));
    humantime::format_rfc3339_micros(time).to_string()
}

fn read(text: &str) -> Option<Wall> {
    let since = humantime::parse_rfc3339(text).ok()?.duration_since(UNIX_EPOCH).ok()?;
    u64::try_from(since.as_micros()).ok().map(Wall)
}

/// In JSON.
pub(super) mod text {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::engine::Wall;

    pub fn serialize<S: Serializer>(time: &Wall, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&super::show(*time))
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Wall, D::Error> {
        let text = String::deserialize(from)?;
        super::read(&text).ok_or_else(|| D::Error::custom("not a time as RFC 3339 has it"))
    }
}

/// In JSON, where there may be none.
pub(super) mod maybe {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::engine::Wall;

    #[expect(clippy::ref_option, reason = "the signature serde asks for")]
    pub fn serialize<S: Serializer>(time: &Option<Wall>, to: S) -> Result<S::Ok, S::Error> {
        match time {
            Some(time) => super::text::serialize(time, to),
            None => to.serialize_none(),
        }
    }

    pub fn deserialize<'d, D: Deserializer<'d>>(from: D) -> Result<Option<Wall>, D::Error> {
        let Some(text) = Option::<String>::deserialize(from)? else { return Ok(None) };
        let time = super::read(&text);
        time.map(Some).ok_or_else(|| D::Error::custom("not a time as RFC 3339 has it"))
    }
}
