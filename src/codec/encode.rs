//! A tree to protobuf: fields sorted by number, maps by key, so that a tree always yields the
//! same bytes.

use super::decode::own_wire_type;
use super::descriptor::{Field, Kind, TypeId, Types};
use super::tree::{Key, Tree, Value};
use crate::base::protobuf::{WireType, put_key, put_length, put_varint, put_zigzag};

/// The output would exceed its limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooLarge;

pub(super) struct Encoder<'a> {
    types: &'a Types,
    out: &'a mut Vec<u8>,
    /// The limit on the length of `out`.
    bytes_max: usize,
}

impl<'a> Encoder<'a> {
    /// Appends at most `bytes_max` bytes, exceeded by at most one value before it stops.
    pub(super) fn new(types: &'a Types, out: &'a mut Vec<u8>, bytes_max: usize) -> Encoder<'a> {
        Encoder {
            types,
            bytes_max: out.len().saturating_add(bytes_max),
            out,
        }
    }

    pub(super) fn message(&mut self, id: TypeId, tree: &Tree) -> Result<(), TooLarge> {
        let message = self.types.message(id);
        for (index, value) in tree.iter() {
            self.field(&message.fields[index], value)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, value: &Value) -> Result<(), TooLarge> {
        match value {
            Value::List(values) if field.is_packed => {
                put_key(field.number, WireType::Delimited, self.out);
                let start = self.out.len();
                for value in values {
                    self.scalar(field.kind, value)?;
                }
                put_length(start, self.out);
            }
            Value::List(values) => {
                for value in values {
                    self.single(field, value)?;
                }
            }
            Value::Map(entries) => {
                let Some((key_field, value_field)) = self.types.entry(field) else {
                    return Ok(());
                };
                for (key, value) in entries {
                    put_key(field.number, WireType::Delimited, self.out);
                    let start = self.out.len();
                    self.key(key_field, key)?;
                    self.single(value_field, value)?;
                    put_length(start, self.out);
                }
            }
            value => self.single(field, value)?,
        }
        self.check()
    }

    #[inline]
    fn check(&self) -> Result<(), TooLarge> {
        match self.out.len() <= self.bytes_max {
            true => Ok(()),
            false => Err(TooLarge),
        }
    }

    fn single(&mut self, field: &Field, value: &Value) -> Result<(), TooLarge> {
        put_key(field.number, own_wire_type(field.kind), self.out);
        match (field.kind, value) {
            (Kind::Message(id), Value::Message(tree)) => {
                let start = self.out.len();
                self.message(id, tree)?;
                put_length(start, self.out);
                self.check()
            }
            (Kind::Group(id), Value::Message(tree)) => {
                self.message(id, tree)?;
                put_key(field.number, WireType::EndGroup, self.out);
                self.check()
            }
            (kind, value) => self.scalar(kind, value),
        }
    }

    fn key(&mut self, field: &Field, key: &Key) -> Result<(), TooLarge> {
        put_key(field.number, own_wire_type(field.kind), self.out);
        match (field.kind, key) {
            (_, Key::Bool(value)) => self.out.push((*value).into()),
            (Kind::Sint32 | Kind::Sint64, Key::I64(value)) => put_zigzag(*value, self.out),
            (Kind::Sfixed32, Key::I64(value)) => self.put(&(*value as i32).to_le_bytes()),
            (Kind::Sfixed64, Key::I64(value)) => self.put(&value.to_le_bytes()),
            (_, Key::I64(value)) => put_varint(*value as u64, self.out),
            (Kind::Fixed32, Key::U64(value)) => self.put(&(*value as u32).to_le_bytes()),
            (Kind::Fixed64, Key::U64(value)) => self.put(&value.to_le_bytes()),
            (_, Key::U64(value)) => put_varint(*value, self.out),
            (_, Key::String(value)) => self.delimited(value.as_bytes()),
        }
        self.check()
    }

    #[inline]
    fn scalar(&mut self, kind: Kind, value: &Value) -> Result<(), TooLarge> {
        match (value, kind) {
            (Value::Bool(value), _) => self.out.push((*value).into()),
            (Value::I32(value), Kind::Sint32) => put_zigzag((*value).into(), self.out),
            (Value::I32(value), Kind::Sfixed32) => self.put(&value.to_le_bytes()),
            // Negative numbers take as many bytes as 64-bit ones.
            (Value::I32(value) | Value::Enum(value), _) => {
                put_varint(i64::from(*value) as u64, self.out);
            }
            (Value::I64(value), Kind::Sint64) => put_zigzag(*value, self.out),
            (Value::I64(value), Kind::Sfixed64) => self.put(&value.to_le_bytes()),
            (Value::I64(value), _) => put_varint(*value as u64, self.out),
            (Value::U32(value), Kind::Fixed32) => self.put(&value.to_le_bytes()),
            (Value::U32(value), _) => put_varint((*value).into(), self.out),
            (Value::U64(value), Kind::Fixed64) => self.put(&value.to_le_bytes()),
            (Value::U64(value), _) => put_varint(*value, self.out),
            (Value::F32(value), _) => self.put(&value.to_le_bytes()),
            (Value::F64(value), _) => self.put(&value.to_le_bytes()),
            (Value::String(value), _) => self.delimited(value.as_bytes()),
            (Value::Bytes(value), _) => self.delimited(value),
            (Value::Message(_) | Value::List(_) | Value::Map(_), _) => {}
        }
        self.check()
    }

    fn put(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    fn delimited(&mut self, bytes: &[u8]) {
        put_varint(bytes.len() as u64, self.out);
        self.out.extend_from_slice(bytes);
    }
}
