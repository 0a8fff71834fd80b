//! JSON of strangers, read into no more memory than one address of ours can need.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// Elements kept of one list, an address's or a chain's: many more than there are names and askers kept of one.
const ELEMENTS_MAX: usize = 512;
/// Values kept of one element: askers beyond those are nobody's that we would keep.
const VALUES_MAX: usize = 4096;
/// Longest text kept; no name, address or key is as long.
const TEXT_BYTES_MAX: usize = 512;

/// The elements of a list as far as they are kept, and how many are not.
pub(super) struct Elements {
    pub(super) kept: Vec<Value>,
    pub(super) beyond: u64,
}

/// Reads a list.
pub(super) struct List;

impl<'de> DeserializeSeed<'de> for List {
    type Value = Elements;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Elements, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for List {
    type Value = Elements;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of names")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Elements, A::Error> {
        let mut elements = Elements { kept: Vec::new(), beyond: 0 };
        while elements.kept.len() < ELEMENTS_MAX {
            let mut left = VALUES_MAX;
            let Some(value) = list.next_element_seed(Bounded { left: &mut left })? else {
                return Ok(elements);
            };
            // What is not there in full makes no sense.
            elements.kept.push(if left == 0 { Value::Null } else { value });
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            elements.beyond += 1;
        }
        Ok(elements)
    }
}

/// One value, as far as values are left to be kept.
struct Bounded<'a> {
    left: &'a mut usize,
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        *self.left = self.left.saturating_sub(1);
        if *self.left == 0 {
            return deserializer.deserialize_ignored_any(IgnoredAny).map(|_| Value::Null);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        Ok(if value.len() > TEXT_BYTES_MAX { Value::Null } else { value.into() })
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Value, A::Error> {
        let mut kept = Vec::new();
        while *self.left > 0 {
            let Some(value) = list.next_element_seed(Bounded { left: self.left })? else {
                return Ok(Value::Array(kept));
            };
            kept.push(value);
        }
        while list.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut kept = Map::new();
        while *self.left > 0 {
            let Some(key) = map.next_key::<String>()? else { return Ok(Value::Object(kept)) };
            let value = map.next_value_seed(Bounded { left: self.left })?;
            if key.len() <= TEXT_BYTES_MAX {
                kept.insert(key, value);
            }
        }
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }
}
