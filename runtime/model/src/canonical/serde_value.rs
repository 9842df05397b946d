//! Between serde and [`Value`]: what serde can say and the canonical domain cannot is refused, never rounded.

use std::fmt;

use serde::de::{self, MapAccess, SeqAccess, Visitor};
use serde::ser::{
    self, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple, SerializeTupleStruct,
    SerializeTupleVariant,
};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{CanonError, Integer, Object, Reason, Value};

impl ser::Error for CanonError {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Reason::Foreign(message.to_string()).into()
    }
}

fn foreign<T>(what: &str) -> Result<T, CanonError> {
    Err(Reason::Foreign(format!("{what} have no canonical form")).into())
}

fn integer<T: TryInto<i64>>(number: T) -> Result<Value, CanonError> {
    let number = number.try_into().map_err(|_| Reason::TooLarge)?;
    Ok(Value::Integer(Integer::try_from(number)?))
}

pub(super) struct ToValue;

macro_rules! integers {
    ($($name:ident: $kind:ty),*) => {$(
        fn $name(self, number: $kind) -> Result<Value, CanonError> {
            integer(number)
        }
    )*};
}

impl Serializer for ToValue {
    type Ok = Value;
    type Error = CanonError;
    type SerializeSeq = Items;
    type SerializeTuple = Items;
    type SerializeTupleStruct = Items;
    type SerializeTupleVariant = Items;
    type SerializeMap = Members;
    type SerializeStruct = Members;
    type SerializeStructVariant = Members;

    integers! {
        serialize_i8: i8, serialize_i16: i16, serialize_i32: i32, serialize_i64: i64, serialize_i128: i128,
        serialize_u8: u8, serialize_u16: u16, serialize_u32: u32, serialize_u64: u64, serialize_u128: u128
    }

    fn serialize_bool(self, truth: bool) -> Result<Value, CanonError> {
        Ok(Value::Bool(truth))
    }

    fn serialize_f32(self, _: f32) -> Result<Value, CanonError> {
        Err(Reason::Fraction.into())
    }

    fn serialize_f64(self, _: f64) -> Result<Value, CanonError> {
        Err(Reason::Fraction.into())
    }

    fn serialize_char(self, letter: char) -> Result<Value, CanonError> {
        Ok(Value::Text(letter.into()))
    }

    fn serialize_str(self, text: &str) -> Result<Value, CanonError> {
        Ok(text.into())
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<Value, CanonError> {
        foreign("raw bytes")
    }

    fn serialize_none(self) -> Result<Value, CanonError> {
        Ok(Value::Null)
    }

    fn serialize_some<T: ?Sized + Serialize>(self, value: &T) -> Result<Value, CanonError> {
        value.serialize(self)
    }

    fn serialize_unit(self) -> Result<Value, CanonError> {
        Ok(Value::Null)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Value, CanonError> {
        Ok(Value::Null)
    }

    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Value, CanonError> {
        Ok(variant.into())
    }

    fn serialize_newtype_struct<T: ?Sized + Serialize>(self, _: &'static str, value: &T) -> Result<Value, CanonError> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: ?Sized + Serialize>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Value, CanonError> {
        Ok(tagged(Some(variant), value.serialize(Self)?))
    }

    fn serialize_seq(self, length: Option<usize>) -> Result<Items, CanonError> {
        Ok(Items { tag: None, items: Vec::with_capacity(length.unwrap_or(0).min(1024)) })
    }

    fn serialize_tuple(self, length: usize) -> Result<Items, CanonError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_struct(self, _: &'static str, length: usize) -> Result<Items, CanonError> {
        self.serialize_seq(Some(length))
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Items, CanonError> {
        Ok(Items { tag: Some(variant), items: Vec::new() })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Members, CanonError> {
        Ok(Members::default())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Members, CanonError> {
        Ok(Members::default())
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        _: usize,
    ) -> Result<Members, CanonError> {
        Ok(Members { tag: Some(variant), ..Members::default() })
    }
}

fn tagged(tag: Option<&'static str>, value: Value) -> Value {
    match tag {
        None => value,
        Some(tag) => Value::Object([(tag.to_owned(), value)].into()),
    }
}

pub(super) struct Items {
    tag: Option<&'static str>,
    items: Vec<Value>,
}

macro_rules! items {
    ($($kind:ident $add:ident),*) => {$(
        impl $kind for Items {
            type Ok = Value;
            type Error = CanonError;

            fn $add<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), CanonError> {
                self.items.push(value.serialize(ToValue)?);
                Ok(())
            }

            fn end(self) -> Result<Value, CanonError> {
                Ok(tagged(self.tag, Value::List(self.items)))
            }
        }
    )*};
}
items!(SerializeSeq serialize_element, SerializeTuple serialize_element,
    SerializeTupleStruct serialize_field, SerializeTupleVariant serialize_field);

#[derive(Default)]
pub(super) struct Members {
    tag: Option<&'static str>,
    members: Object,
    key: Option<String>,
}

impl Members {
    fn add<T: ?Sized + Serialize>(&mut self, key: String, value: &T) -> Result<(), CanonError> {
        let value = value.serialize(ToValue)?;
        match self.members.insert(key.clone(), value) {
            None => Ok(()),
            Some(_) => Err(Reason::DuplicateKey(key).into()),
        }
    }

    fn finish(self) -> Value {
        tagged(self.tag, Value::Object(self.members))
    }
}

impl SerializeMap for Members {
    type Ok = Value;
    type Error = CanonError;

    fn serialize_key<T: ?Sized + Serialize>(&mut self, key: &T) -> Result<(), CanonError> {
        match key.serialize(ToValue)? {
            Value::Text(key) => self.key = Some(key),
            _ => return foreign("keys that are no text"),
        }
        Ok(())
    }

    fn serialize_value<T: ?Sized + Serialize>(&mut self, value: &T) -> Result<(), CanonError> {
        let key = self.key.take().expect("serde gives a map's key before its value");
        self.add(key, value)
    }

    fn end(self) -> Result<Value, CanonError> {
        Ok(self.finish())
    }
}

macro_rules! members {
    ($($kind:ident),*) => {$(
        impl $kind for Members {
            type Ok = Value;
            type Error = CanonError;

            fn serialize_field<T: ?Sized + Serialize>(&mut self, key: &'static str, value: &T) -> Result<(), CanonError> {
                self.add(key.to_owned(), value)
            }

            fn end(self) -> Result<Value, CanonError> {
                Ok(self.finish())
            }
        }
    )*};
}
members!(SerializeStruct, SerializeStructVariant);

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Null => serializer.serialize_unit(),
            Self::Bool(truth) => serializer.serialize_bool(*truth),
            Self::Integer(number) => serializer.serialize_i64(number.get()),
            Self::Text(text) => serializer.serialize_str(text),
            Self::List(items) => serializer.collect_seq(items),
            Self::Object(members) => serializer.collect_map(members),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(FromAny)
    }
}

struct FromAny;

impl<'de> Visitor<'de> for FromAny {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value of the canonical JSON domain")
    }

    fn visit_unit<E: de::Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: de::Error>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Value, E> {
        number.try_into().map_err(E::custom)
    }

    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Value, E> {
        number.try_into().map_err(E::custom)
    }

    fn visit_f64<E: de::Error>(self, _: f64) -> Result<Value, E> {
        Err(E::custom(Reason::Fraction))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element()? {
            items.push(item);
        }
        Ok(Value::List(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut members = Object::new();
        while let Some((key, value)) = access.next_entry::<String, Value>()? {
            if members.insert(key.clone(), value).is_some() {
                return Err(de::Error::custom(Reason::DuplicateKey(key)));
            }
        }
        Ok(Value::Object(members))
    }
}
