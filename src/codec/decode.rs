//! Protobuf to a tree, as Google's libraries decode it: a field with the wrong wire type counts
//! as unknown, as does a number that a closed enum does not name; the last value of a field
//! wins, messages are merged, and lists and maps accumulate.

use super::descriptor::{Field, Kind, MessageType, Shape, TypeId, Types, place};
use super::fault::Fault;
use super::tree::{Key, Tree, Value};
use crate::base::protobuf::{Malformed, Reader, WireType, zigzag};
use std::collections::BTreeMap;

pub(super) struct Decoder<'a> {
    types: &'a Types,
    /// Values that were read.
    pub(super) values: usize,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(types: &'a Types) -> Decoder<'a> {
        Decoder { types, values: 0 }
    }

    /// Decodes a whole message, with this many levels below it.
    pub(super) fn message(
        &mut self,
        id: TypeId,
        bytes: &[u8],
        levels: usize,
    ) -> Result<Tree, Fault> {
        let mut tree = Tree::default();
        self.merge(id, &mut Reader::new(bytes), &mut tree, levels, None)?;
        Ok(tree)
    }

    /// Merges the rest of a message, or of the group with this number, into `tree`.
    fn merge(
        &mut self,
        id: TypeId,
        reader: &mut Reader<'_>,
        tree: &mut Tree,
        levels: usize,
        group: Option<u32>,
    ) -> Result<(), Fault> {
        let types = self.types;
        let message = types.message(id);
        let mut likely = 0;
        while !reader.is_empty() {
            let (number, wire_type) = reader.key()?;
            if wire_type == WireType::EndGroup {
                return match group == Some(number) {
                    true => Ok(()),
                    false => Err(Malformed::Group.into()),
                };
            }
            let Some(index) = message.find(number, likely) else {
                let skipped = reader.skip(number, wire_type, levels);
                skipped.map_err(|error| Fault::from(error).within(format!("field {number}")))?;
                continue;
            };
            // The next field follows, or another of a list.
            let field = &message.fields[index];
            likely = index + usize::from(field.shape == Shape::Single);
            self.field(message, index, wire_type, reader, tree, levels)
                .map_err(|fault| fault.within(name(field, index, tree)))?;
        }
        match group {
            None => Ok(()),
            Some(_) => Err(Malformed::Group.into()),
        }
    }

    fn field(
        &mut self,
        message: &MessageType,
        index: usize,
        wire_type: WireType,
        reader: &mut Reader<'_>,
        tree: &mut Tree,
        levels: usize,
    ) -> Result<(), Fault> {
        let field = &message.fields[index];
        if wire_type != own_wire_type(field.kind) {
            let is_packed = field.shape == Shape::List
                && field.kind.is_packable()
                && wire_type == WireType::Delimited;
            if !is_packed {
                return Ok(reader.skip(field.number, wire_type, levels)?);
            }
            return self.packed(message, index, reader.delimited()?, tree);
        }
        match (field.shape, field.kind) {
            (Shape::Map, _) => {
                if let Some((key, value)) = self.entry(field, reader, levels)? {
                    let map = tree.entry(message, index, || Value::Map(BTreeMap::new()));
                    if let Value::Map(entries) = map {
                        entries.insert(key, value);
                    }
                }
                Ok(())
            }
            (Shape::Single, Kind::Message(id) | Kind::Group(id)) => {
                self.values += 1;
                let inner = tree.entry(message, index, || Value::Message(Tree::default()));
                match inner {
                    Value::Message(inner) => self.inner(id, field, reader, inner, levels),
                    _ => Ok(()),
                }
            }
            (Shape::List, kind) => {
                let value = match kind.message() {
                    Some(id) => {
                        self.values += 1;
                        let mut inner = Tree::default();
                        self.inner(id, field, reader, &mut inner, levels)?;
                        Some(Value::Message(inner))
                    }
                    None => self.scalar(kind, reader)?,
                };
                if let Some(value) = value {
                    let list = tree.entry(message, index, || Value::List(Vec::new()));
                    if let Value::List(values) = list {
                        values.push(value);
                    }
                }
                Ok(())
            }
            (Shape::Single, kind) => {
                if let Some(value) = self.scalar(kind, reader)? {
                    tree.set(message, index, value);
                }
                Ok(())
            }
        }
    }

    /// Decodes a packed list.
    fn packed(
        &mut self,
        message: &MessageType,
        index: usize,
        bytes: &[u8],
        tree: &mut Tree,
    ) -> Result<(), Fault> {
        let mut reader = Reader::new(bytes);
        let list = tree.entry(message, index, || Value::List(Vec::new()));
        let Value::List(values) = list else {
            return Ok(());
        };
        while !reader.is_empty() {
            values.extend(self.scalar(message.fields[index].kind, &mut reader)?);
        }
        if values.is_empty() {
            tree.remove(index);
        }
        Ok(())
    }

    /// Decodes the message of a field, merging it with an earlier occurrence.
    fn inner(
        &mut self,
        id: TypeId,
        field: &Field,
        reader: &mut Reader<'_>,
        tree: &mut Tree,
        levels: usize,
    ) -> Result<(), Fault> {
        let levels = levels.checked_sub(1).ok_or(Malformed::TooDeep)?;
        match field.kind {
            Kind::Group(_) => self.merge(id, reader, tree, levels, Some(field.number)),
            _ => self.merge(
                id,
                &mut Reader::new(reader.delimited()?),
                tree,
                levels,
                None,
            ),
        }
    }

    /// Decodes a map's entry; `None`: its value is a number that a closed enum does not name.
    fn entry(
        &mut self,
        map: &Field,
        reader: &mut Reader<'_>,
        levels: usize,
    ) -> Result<Option<(Key, Value)>, Fault> {
        let types = self.types;
        let levels = levels.checked_sub(1).ok_or(Malformed::TooDeep)?;
        let (Some(entry), Some((key, value))) = (map.kind.message(), types.entry(map)) else {
            return Ok(None);
        };
        let entry = types.message(entry);
        let mut reader = Reader::new(reader.delimited()?);
        let mut tree = Tree::default();
        let mut is_named = true;
        while !reader.is_empty() {
            let (number, wire_type) = reader.key()?;
            let Some(index) = entry.find(number, place::KEY) else {
                reader.skip(number, wire_type, levels)?;
                continue;
            };
            let field = &entry.fields[index];
            let scalar = field.kind.message().is_none() && wire_type == own_wire_type(field.kind);
            let read = match scalar {
                true => self
                    .scalar(field.kind, &mut reader)
                    .map(|value| match value {
                        Some(value) => tree.set(entry, index, value),
                        None => is_named = false,
                    }),
                false => self.field(entry, index, wire_type, &mut reader, &mut tree, levels),
            };
            read.map_err(|fault| fault.within(&field.name))?;
        }
        let key_value = tree.take(place::KEY);
        let read = tree.take(place::ENTRY_VALUE);
        let key = as_key(key_value.unwrap_or_else(|| self.default_of(key.kind)));
        let read = read.unwrap_or_else(|| self.default_of(value.kind));
        Ok(is_named.then_some((key, read)))
    }

    fn default_of(&self, kind: Kind) -> Value {
        match kind {
            Kind::Double => Value::F64(0.0),
            Kind::Float => Value::F32(0.0),
            Kind::Int64 | Kind::Sfixed64 | Kind::Sint64 => Value::I64(0),
            Kind::Uint64 | Kind::Fixed64 => Value::U64(0),
            Kind::Int32 | Kind::Sfixed32 | Kind::Sint32 => Value::I32(0),
            Kind::Uint32 | Kind::Fixed32 => Value::U32(0),
            Kind::Bool => Value::Bool(false),
            Kind::String => Value::String(Box::default()),
            Kind::Bytes => Value::Bytes(Box::default()),
            Kind::Enum(id) => Value::Enum(self.types.enumeration(id).first),
            Kind::Message(_) | Kind::Group(_) => Value::Message(Tree::default()),
        }
    }

    /// `None`: a number that a closed enum does not name.
    #[inline]
    fn scalar(&mut self, kind: Kind, reader: &mut Reader<'_>) -> Result<Option<Value>, Fault> {
        self.values += 1;
        let value = match kind {
            Kind::Double => Value::F64(f64::from_bits(reader.fixed64()?)),
            Kind::Float => Value::F32(f32::from_bits(reader.fixed32()?)),
            Kind::Int64 => Value::I64(reader.varint()? as i64),
            Kind::Uint64 => Value::U64(reader.varint()?),
            Kind::Int32 => Value::I32(reader.varint()? as i32),
            Kind::Fixed64 => Value::U64(reader.fixed64()?),
            Kind::Fixed32 => Value::U32(reader.fixed32()?),
            Kind::Bool => Value::Bool(reader.varint()? != 0),
            Kind::String => match str::from_utf8(reader.delimited()?) {
                Ok(text) => Value::String(text.into()),
                Err(_) => return Err(Fault::new("it is not UTF-8")),
            },
            Kind::Bytes => Value::Bytes(reader.delimited()?.into()),
            Kind::Uint32 => Value::U32(reader.varint()? as u32),
            Kind::Sfixed32 => Value::I32(reader.fixed32()? as i32),
            Kind::Sfixed64 => Value::I64(reader.fixed64()? as i64),
            Kind::Sint32 => Value::I32(zigzag(reader.varint()? & u64::from(u32::MAX)) as i32),
            Kind::Sint64 => Value::I64(zigzag(reader.varint()?)),
            Kind::Enum(id) => {
                let number = reader.varint()? as i32;
                let takes = self.types.enumeration(id).takes(number);
                return Ok(takes.then_some(Value::Enum(number)));
            }
            Kind::Message(_) | Kind::Group(_) => Value::Message(Tree::default()),
        };
        Ok(Some(value))
    }
}

/// The message that an Any holds, with this many levels below the Any; `None`: it is empty.
pub(super) fn held(
    types: &Types,
    any: &Tree,
    levels: usize,
) -> Result<Option<(TypeId, Tree)>, Fault> {
    if any.is_empty() {
        return Ok(None);
    }
    let type_url = match any.value(place::ANY_TYPE_URL) {
        Some(Value::String(type_url)) => type_url,
        _ => "",
    };
    let Some(id) = types.held(type_url) else {
        return Err(unknown_type(type_url));
    };
    let levels = levels.checked_sub(1).ok_or(Malformed::TooDeep)?;
    let bytes: &[u8] = match any.value(place::ANY_VALUE) {
        Some(Value::Bytes(bytes)) => bytes,
        _ => &[],
    };
    let held = Decoder::new(types).message(id, bytes, levels)?;
    Ok(Some((id, held)))
}

#[cold]
pub(super) fn unknown_type(type_url: &str) -> Fault {
    Fault::new(format!(
        "an Any of type {type_url:?}, which is not in the schema"
    ))
}

/// The wire type of a single value of this kind.
pub(super) fn own_wire_type(kind: Kind) -> WireType {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => WireType::Fixed64,
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => WireType::Fixed32,
        Kind::String | Kind::Bytes | Kind::Message(_) => WireType::Delimited,
        Kind::Group(_) => WireType::StartGroup,
        Kind::Int64
        | Kind::Uint64
        | Kind::Int32
        | Kind::Bool
        | Kind::Uint32
        | Kind::Sint32
        | Kind::Sint64
        | Kind::Enum(_) => WireType::Varint,
    }
}

/// A value of a map's key.
pub(super) fn as_key(value: Value) -> Key {
    match value {
        Value::Bool(value) => Key::Bool(value),
        Value::I32(value) => Key::I64(value.into()),
        Value::I64(value) => Key::I64(value),
        Value::U32(value) => Key::U64(value.into()),
        Value::U64(value) => Key::U64(value),
        Value::String(value) => Key::String(value),
        _ => Key::Bool(false), // keys are nothing else: see `resolve`
    }
}

/// The field's name, with the index if it is an element of a list.
#[cold]
fn name(field: &Field, index: usize, tree: &Tree) -> String {
    let count = match tree.value(index) {
        Some(Value::List(values)) => values.len(),
        _ => 0,
    };
    match field.shape {
        Shape::List => format!("{}[{count}]", field.name),
        Shape::Single | Shape::Map => field.name.to_string(),
    }
}
