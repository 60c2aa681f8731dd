//! A decoded message: the fields that are set, by their position in the message's type.
//!
//! A field without presence is unset while it has its default value; `-0.0` is not the default
//! `0.0`. At most one field of a oneof is set.

use super::descriptor::{Field, MessageType, Shape};
use std::collections::BTreeMap;

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Tree {
    /// Ordered by number, as both codecs write them.
    fields: Vec<(u32, Value)>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Bool(bool),
    I32(i32),
    I64(i64),
    U32(u32),
    U64(u64),
    F32(f32),
    F64(f64),
    Enum(i32),
    String(Box<str>),
    Bytes(Box<[u8]>),
    Message(Tree),
    List(Vec<Value>),
    Map(BTreeMap<Key, Value>),
}

/// A map's key. Integers of all kinds are stored at the widest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Key {
    Bool(bool),
    I64(i64),
    U64(u64),
    String(Box<str>),
}

impl Value {
    /// Whether it equals the default, for which a field without presence counts as unset.
    pub(super) fn is_default(&self) -> bool {
        match self {
            Value::Bool(value) => !value,
            Value::I32(value) | Value::Enum(value) => *value == 0,
            Value::I64(value) => *value == 0,
            Value::U32(value) => *value == 0,
            Value::U64(value) => *value == 0,
            Value::F32(value) => value.to_bits() == 0,
            Value::F64(value) => value.to_bits() == 0,
            Value::String(value) => value.is_empty(),
            Value::Bytes(value) => value.is_empty(),
            Value::Message(_) => false,
            Value::List(values) => values.is_empty(),
            Value::Map(entries) => entries.is_empty(),
        }
    }
}

impl Tree {
    pub(super) fn iter(&self) -> impl Iterator<Item = (usize, &Value)> {
        self.fields
            .iter()
            .map(|(index, value)| (*index as usize, value))
    }

    pub(super) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(super) fn value(&self, index: usize) -> Option<&Value> {
        let place = self.place(index).ok()?;
        Some(&self.fields[place].1)
    }

    /// The index of a field, or where it belongs. Fields usually come in order.
    #[inline]
    fn place(&self, index: usize) -> Result<usize, usize> {
        let index = index as u32;
        match self.fields.last() {
            None => Err(0),
            Some((last, _)) if *last < index => Err(self.fields.len()),
            Some((last, _)) if *last == index => Ok(self.fields.len() - 1),
            Some(_) => self.fields.binary_search_by_key(&index, |(at, _)| *at),
        }
    }

    pub(super) fn remove(&mut self, index: usize) {
        if let Ok(place) = self.place(index) {
            self.fields.remove(place);
        }
    }

    pub(super) fn take(&mut self, index: usize) -> Option<Value> {
        let place = self.place(index).ok()?;
        Some(self.fields.remove(place).1)
    }

    /// Sets a field, and unsets the others of its oneof.
    pub(super) fn set(&mut self, message: &MessageType, index: usize, value: Value) {
        let field = &message.fields[index];
        if !field.has_presence && value.is_default() {
            return self.remove(index);
        }
        self.clear_others(message, field, index);
        match self.place(index) {
            Ok(place) => self.fields[place].1 = value,
            Err(place) => self.fields.insert(place, (index as u32, value)),
        }
    }

    /// Sets a list or a map; an empty one counts as unset.
    pub(super) fn set_whole(&mut self, message: &MessageType, index: usize, value: Value) {
        debug_assert!(message.fields[index].shape != Shape::Single);
        self.set(message, index, value);
    }

    /// A field's value for modification, `empty` if it was not set; unsets the others of its oneof.
    pub(super) fn entry(
        &mut self,
        message: &MessageType,
        index: usize,
        empty: impl FnOnce() -> Value,
    ) -> &mut Value {
        self.clear_others(message, &message.fields[index], index);
        let place = match self.place(index) {
            Ok(place) => place,
            Err(place) => {
                self.fields.insert(place, (index as u32, empty()));
                place
            }
        };
        &mut self.fields[place].1
    }

    #[inline]
    fn clear_others(&mut self, message: &MessageType, field: &Field, index: usize) {
        if field.oneof.is_some() {
            let is_other =
                |at: u32| at as usize != index && message.fields[at as usize].oneof == field.oneof;
            self.fields.retain(|(at, _)| !is_other(*at));
        }
    }
}
