//! Parses a FileDescriptorSet (google/protobuf/descriptor.proto), as far as it matters here.
//! Names are not resolved yet: see `resolve`.
//!
//! The parser is our own, because a schema file is as hostile as any other input: existing
//! libraries trust that protoc made it, and panic if it did not.

use crate::base::protobuf::{Malformed, Reader, WireType};

#[cfg(test)]
mod tests;

/// How deep messages may nest. protoc allows 32.
const NESTED_MAX: usize = 64;

#[derive(Debug, thiserror::Error)]
pub(super) enum NotASet {
    #[error("{0}")]
    Malformed(#[from] Malformed),
    #[error("a name in it is not UTF-8")]
    NoText,
    #[error("messages are declared in each other more than {NESTED_MAX} deep")]
    TooDeep,
}

#[derive(Default)]
pub(super) struct RawFile<'a> {
    pub(super) name: &'a str,
    pub(super) package: &'a str,
    pub(super) dependencies: Vec<&'a str>,
    pub(super) messages: Vec<RawMessage<'a>>,
    pub(super) enums: Vec<RawEnum<'a>>,
    pub(super) extensions: Vec<RawField<'a>>,
    pub(super) features: RawFeatures,
    pub(super) syntax: &'a str,
    pub(super) edition: i32,
}

#[derive(Default)]
pub(super) struct RawMessage<'a> {
    pub(super) name: &'a str,
    pub(super) fields: Vec<RawField<'a>>,
    pub(super) messages: Vec<RawMessage<'a>>,
    pub(super) enums: Vec<RawEnum<'a>>,
    pub(super) extensions: Vec<RawField<'a>>,
    pub(super) oneofs: Vec<RawFeatures>,
    pub(super) is_map_entry: bool,
    pub(super) features: RawFeatures,
}

#[derive(Default)]
pub(super) struct RawField<'a> {
    pub(super) name: &'a str,
    pub(super) extendee: &'a str,
    pub(super) number: i32,
    pub(super) label: i32,
    pub(super) kind: i32,
    pub(super) type_name: &'a str,
    pub(super) json_name: Option<&'a str>,
    pub(super) oneof: Option<i32>,
    pub(super) is_proto3_optional: bool,
    pub(super) is_packed: Option<bool>,
    pub(super) features: RawFeatures,
}

#[derive(Default)]
pub(super) struct RawEnum<'a> {
    pub(super) name: &'a str,
    pub(super) values: Vec<(&'a str, i32)>,
    pub(super) features: RawFeatures,
}

/// The features of a FeatureSet that payloads depend on; 0: inherited from the enclosing scope.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct RawFeatures {
    pub(super) field_presence: i32,
    pub(super) enum_type: i32,
    pub(super) repeated_field_encoding: i32,
    pub(super) message_encoding: i32,
}

/// A field's value.
#[derive(Clone, Copy)]
enum Raw<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Raw<'a> {
    fn bytes(self) -> &'a [u8] {
        match self {
            Raw::Bytes(bytes) => bytes,
            Raw::Number(_) => &[],
        }
    }

    fn text(self) -> Result<&'a str, NotASet> {
        str::from_utf8(self.bytes()).map_err(|_| NotASet::NoText)
    }

    fn number(self) -> i32 {
        match self {
            Raw::Number(number) => number as i32,
            Raw::Bytes(_) => 0,
        }
    }

    fn flag(self) -> bool {
        self.number() != 0
    }
}

/// Calls `each` for every field; fields with other wire types than those used here are skipped.
fn each<'a>(
    bytes: &'a [u8],
    mut take: impl FnMut(u32, Raw<'a>) -> Result<(), NotASet>,
) -> Result<(), NotASet> {
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let (number, wire_type) = reader.key()?;
        match wire_type {
            WireType::Varint => take(number, Raw::Number(reader.varint()?))?,
            WireType::Delimited => take(number, Raw::Bytes(reader.delimited()?))?,
            _ => reader.skip(number, wire_type, NESTED_MAX)?,
        }
    }
    Ok(())
}

/// The set's files, each with its bytes.
pub(super) fn files(set: &[u8]) -> Result<Vec<(RawFile<'_>, &[u8])>, NotASet> {
    let mut files = Vec::new();
    each(set, |number, value| {
        if number == 1 {
            files.push((file(value.bytes())?, value.bytes()));
        }
        Ok(())
    })?;
    Ok(files)
}

fn file(bytes: &[u8]) -> Result<RawFile<'_>, NotASet> {
    let mut file = RawFile::default();
    each(bytes, |number, value| {
        match number {
            1 => file.name = value.text()?,
            2 => file.package = value.text()?,
            3 => file.dependencies.push(value.text()?),
            4 => file.messages.push(message(value.bytes(), NESTED_MAX)?),
            5 => file.enums.push(enumeration(value.bytes())?),
            7 => file.extensions.push(field(value.bytes())?),
            8 => file.features = features(value.bytes(), 50)?,
            12 => file.syntax = value.text()?,
            14 => file.edition = value.number(),
            _ => {}
        }
        Ok(())
    })?;
    Ok(file)
}

fn message(bytes: &[u8], levels: usize) -> Result<RawMessage<'_>, NotASet> {
    let levels = levels.checked_sub(1).ok_or(NotASet::TooDeep)?;
    let mut message = RawMessage::default();
    each(bytes, |number, value| {
        match number {
            1 => message.name = value.text()?,
            2 => message.fields.push(field(value.bytes())?),
            3 => {
                let inner = self::message(value.bytes(), levels)?;
                message.messages.push(inner);
            }
            4 => message.enums.push(enumeration(value.bytes())?),
            6 => message.extensions.push(field(value.bytes())?),
            7 => each(value.bytes(), |number, value| {
                match number {
                    7 => message.is_map_entry = value.flag(),
                    12 => message.features = feature_set(value.bytes())?,
                    _ => {}
                }
                Ok(())
            })?,
            8 => {
                let mut oneof = RawFeatures::default();
                each(value.bytes(), |number, value| {
                    if number == 2 {
                        oneof = features(value.bytes(), 1)?;
                    }
                    Ok(())
                })?;
                message.oneofs.push(oneof);
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok(message)
}

fn field(bytes: &[u8]) -> Result<RawField<'_>, NotASet> {
    let mut field = RawField::default();
    each(bytes, |number, value| {
        match number {
            1 => field.name = value.text()?,
            2 => field.extendee = value.text()?,
            3 => field.number = value.number(),
            4 => field.label = value.number(),
            5 => field.kind = value.number(),
            6 => field.type_name = value.text()?,
            8 => each(value.bytes(), |number, value| {
                match number {
                    2 => field.is_packed = Some(value.flag()),
                    21 => field.features = feature_set(value.bytes())?,
                    _ => {}
                }
                Ok(())
            })?,
            9 => field.oneof = Some(value.number()),
            10 => field.json_name = Some(value.text()?),
            17 => field.is_proto3_optional = value.flag(),
            _ => {}
        }
        Ok(())
    })?;
    Ok(field)
}

fn enumeration(bytes: &[u8]) -> Result<RawEnum<'_>, NotASet> {
    let mut enumeration = RawEnum::default();
    each(bytes, |number, value| {
        match number {
            1 => enumeration.name = value.text()?,
            2 => {
                let mut named = ("", 0);
                each(value.bytes(), |number, value| {
                    match number {
                        1 => named.0 = value.text()?,
                        2 => named.1 = value.number(),
                        _ => {}
                    }
                    Ok(())
                })?;
                enumeration.values.push(named);
            }
            3 => enumeration.features = features(value.bytes(), 7)?,
            _ => {}
        }
        Ok(())
    })?;
    Ok(enumeration)
}

/// The features in options, whose field number differs from one kind of options to another.
fn features(options: &[u8], wanted: u32) -> Result<RawFeatures, NotASet> {
    let mut features = RawFeatures::default();
    each(options, |number, value| {
        if number == wanted {
            features = feature_set(value.bytes())?;
        }
        Ok(())
    })?;
    Ok(features)
}

fn feature_set(bytes: &[u8]) -> Result<RawFeatures, NotASet> {
    let mut features = RawFeatures::default();
    each(bytes, |number, value| {
        match number {
            1 => features.field_presence = value.number(),
            2 => features.enum_type = value.number(),
            3 => features.repeated_field_encoding = value.number(),
            5 => features.message_encoding = value.number(),
            _ => {}
        }
        Ok(())
    })?;
    Ok(features)
}
