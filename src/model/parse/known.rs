//! What a type knows: the fields of a struct or the variants of an enum at some
//! place inside it, asked from the type itself.
//!
//! serde's derived code tells its deserializer what it expects before it reads
//! anything. [`Probe`] is a deserializer without a document that walks to the
//! place in question, hears what is expected there, and stops.

use std::fmt;

use serde::de::value::StrDeserializer;
use serde::de::{
    DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer as _, MapAccess, SeqAccess,
    Visitor,
};
use serde::forward_to_deserialize_any;

use super::Step;

/// What is known at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is an object with these fields.
    Fields(&'static [&'static str]),
    /// It is one of these words.
    Variants(&'static [&'static str]),
    /// Neither, or there is no such place.
    Neither,
}

/// What `T` knows at `path`.
pub(super) fn known_at<T: DeserializeOwned>(path: &[Step]) -> Option<Known> {
    T::deserialize(Probe { path }).err().filter(|known| *known != Known::Neither)
}

/// The answer travels as an error: it ends the reading at once, from any depth.
impl serde::de::Error for Known {
    fn custom<M: fmt::Display>(_message: M) -> Self {
        Known::Neither
    }
}

impl std::error::Error for Known {}

impl fmt::Display for Known {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

struct Probe<'a> {
    path: &'a [Step],
}

impl<'a> Probe<'a> {
    fn inside(&self) -> Option<(&'a Step, Probe<'a>)> {
        self.path.split_first().map(|(step, path)| (step, Probe { path }))
    }
}

impl<'de> Deserializer<'de> for Probe<'_> {
    type Error = Known;

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Known> {
        if self.path.is_empty() {
            Err(Known::Fields(fields))
        } else {
            self.deserialize_map(visitor)
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _name: &'static str,
        variants: &'static [&'static str],
        _visitor: V,
    ) -> Result<V::Value, Known> {
        if self.path.is_empty() { Err(Known::Variants(variants)) } else { Err(Known::Neither) }
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Known> {
        match self.inside() {
            Some((Step::Key(key), inner)) => visitor.visit_map(Only { key: Some(key), inner }),
            _ => Err(Known::Neither),
        }
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Known> {
        match self.inside() {
            Some((Step::Index(_), inner)) => visitor.visit_seq(Only { key: None, inner }),
            _ => Err(Known::Neither),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Known> {
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Known> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _visitor: V) -> Result<V::Value, Known> {
        Err(Known::Neither)
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf unit
        unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// A map or sequence whose only entry lies on the way.
struct Only<'a> {
    key: Option<&'a str>,
    inner: Probe<'a>,
}

impl<'de> MapAccess<'de> for Only<'_> {
    type Error = Known;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Known> {
        let Some(key) = self.key.take() else { return Err(Known::Neither) };
        let key: StrDeserializer<'_, Known> = key.into_deserializer();
        seed.deserialize(key).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, Known> {
        seed.deserialize(Probe { path: self.inner.path })
    }
}

impl<'de> SeqAccess<'de> for Only<'_> {
    type Error = Known;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, Known> {
        seed.deserialize(Probe { path: self.inner.path }).map(Some)
    }
}
