//! A tree to JSON, by proto3's mapping as `google.protobuf.json_format` writes it: fields that
//! are set, in the order of their numbers, under their JSON names; 64-bit integers as strings;
//! well-known types in their special form.

use super::decode::held;
use super::descriptor::{Field, Form, Kind, Shape, TypeId, Types, place};
use super::encode::TooLarge;
use super::judge::moment;
use super::mask;
use super::tree::{Key, Tree, Value};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use std::io::Write;

pub(super) struct Writer<'a> {
    types: &'a Types,
    out: &'a mut Vec<u8>,
    /// The limit on the length of `out`.
    bytes_max: usize,
}

impl<'a> Writer<'a> {
    /// Appends at most `bytes_max` bytes, exceeded by at most one value before it stops.
    pub(super) fn new(types: &'a Types, out: &'a mut Vec<u8>, bytes_max: usize) -> Writer<'a> {
        Writer {
            types,
            bytes_max: out.len().saturating_add(bytes_max),
            out,
        }
    }

    /// Writes a message that `judge` has accepted, with this many levels below it.
    pub(super) fn message(
        &mut self,
        id: TypeId,
        tree: &Tree,
        levels: usize,
    ) -> Result<(), TooLarge> {
        let message = self.types.message(id);
        match message.form {
            Form::Object => {
                self.out.push(b'{');
                self.fields(id, tree, levels)?;
                self.out.push(b'}');
            }
            Form::Wrapper => match tree.value(place::ONLY) {
                Some(value) => self.value(message.fields[place::ONLY].kind, value, levels)?,
                None => self.default(message.fields[place::ONLY].kind),
            },
            Form::Value => match tree.iter().next() {
                Some((place::VALUE_NULL, _)) | None => self.put("null"),
                Some((place, value)) => self.value(message.fields[place].kind, value, levels)?,
            },
            Form::Struct => match tree.value(place::ONLY) {
                Some(value) => self.field(&message.fields[place::ONLY], value, levels)?,
                None => self.put("{}"),
            },
            Form::ListValue => match tree.value(place::ONLY) {
                Some(value) => self.field(&message.fields[place::ONLY], value, levels)?,
                None => self.put("[]"),
            },
            Form::Any => self.any(tree, levels)?,
            Form::Timestamp | Form::Duration => {
                let mut text = String::with_capacity(34);
                match message.form {
                    Form::Timestamp => moment(tree).write_timestamp(&mut text),
                    _ => moment(tree).write_duration(&mut text),
                }
                self.put(&text);
            }
            Form::FieldMask => self.mask(tree),
        }
        self.check()
    }

    fn fields(&mut self, id: TypeId, tree: &Tree, levels: usize) -> Result<(), TooLarge> {
        let message = self.types.message(id);
        let start = self.out.len();
        for (index, value) in tree.iter() {
            if self.out.len() > start {
                self.out.push(b',');
            }
            let field = &message.fields[index];
            self.out.extend_from_slice(&field.json_key);
            self.field(field, value, levels)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field, value: &Value, levels: usize) -> Result<(), TooLarge> {
        match value {
            Value::List(values) => {
                self.out.push(b'[');
                for (at, value) in values.iter().enumerate() {
                    if at > 0 {
                        self.out.push(b',');
                    }
                    self.value(field.kind, value, levels)?;
                }
                self.out.push(b']');
            }
            Value::Map(entries) => {
                let Some((_, of)) = self.types.entry(field) else {
                    return Ok(());
                };
                self.out.push(b'{');
                for (at, (key, value)) in entries.iter().enumerate() {
                    if at > 0 {
                        self.out.push(b',');
                    }
                    self.key(key);
                    self.out.push(b':');
                    self.value(of.kind, value, levels.saturating_sub(1))?;
                }
                self.out.push(b'}');
            }
            value => {
                debug_assert!(field.shape == Shape::Single);
                self.value(field.kind, value, levels)?;
            }
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

    fn put(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
    }

    /// Writes strings and finite numbers, which cannot fail in a buffer.
    fn plain(&mut self, value: impl Serialize) {
        let written = value.serialize(&mut serde_json::Serializer::new(&mut *self.out));
        debug_assert!(written.is_ok());
    }

    fn quoted(&mut self, value: impl std::fmt::Display) {
        let written = write!(self.out, "\"{value}\"");
        debug_assert!(written.is_ok());
    }

    fn key(&mut self, key: &Key) {
        match key {
            Key::String(text) => self.plain(text),
            other => self.quoted(other),
        }
    }

    #[inline]
    fn value(&mut self, kind: Kind, value: &Value, levels: usize) -> Result<(), TooLarge> {
        match (value, kind) {
            (Value::Bool(true), _) => self.put("true"),
            (Value::Bool(false), _) => self.put("false"),
            (Value::I32(value), _) => self.plain(value),
            (Value::U32(value), _) => self.plain(value),
            (Value::I64(value), _) => self.quoted(value),
            (Value::U64(value), _) => self.quoted(value),
            (Value::F32(value), _) if value.is_subnormal() => self.subnormal(*value),
            (Value::F32(value), _) if value.is_finite() => self.plain(value),
            (Value::F64(value), _) if value.is_finite() => self.plain(value),
            (Value::F32(value), _) => self.infinite((*value).into()),
            (Value::F64(value), _) => self.infinite(*value),
            (Value::Enum(number), Kind::Enum(id)) => self.enumerated(id, *number),
            (Value::String(text), _) => self.plain(text),
            (Value::Bytes(bytes), _) => self.bytes(bytes),
            (Value::Message(tree), Kind::Message(id) | Kind::Group(id)) => {
                return self.message(id, tree, levels.saturating_sub(1));
            }
            (Value::Enum(_) | Value::Message(_) | Value::List(_) | Value::Map(_), _) => {}
        }
        self.check()
    }

    /// Subnormals have fewer than six significant digits; written with six, as any float could be.
    #[cold]
    fn subnormal(&mut self, value: f32) {
        let precise = (5..9).map(|digits| format!("{value:.digits$e}"));
        let mut numbers = precise.filter_map(|text| text.parse::<f64>().ok());
        self.plain(
            numbers
                .find(|number| *number as f32 == value)
                .unwrap_or(value.into()),
        );
    }

    fn infinite(&mut self, value: f64) {
        self.put(match value {
            f64::INFINITY => "\"Infinity\"",
            f64::NEG_INFINITY => "\"-Infinity\"",
            _ => "\"NaN\"",
        });
    }

    fn enumerated(&mut self, id: TypeId, number: i32) {
        let enumeration = self.types.enumeration(id);
        match enumeration.name_of(number) {
            _ if *enumeration.name == *"google.protobuf.NullValue" => self.put("null"),
            Some(name) => self.plain(name),
            None => self.plain(number),
        }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.out.push(b'"');
        let start = self.out.len();
        let length = base64::encoded_len(bytes.len(), true).unwrap_or_default();
        self.out.resize(start + length, 0);
        let written = STANDARD.encode_slice(bytes, &mut self.out[start..]);
        debug_assert!(written.is_ok());
        self.out.push(b'"');
    }

    /// Writes the default of a wrapper whose value is absent.
    fn default(&mut self, kind: Kind) {
        self.put(match kind {
            Kind::Bool => "false",
            Kind::String | Kind::Bytes => "\"\"",
            Kind::Int64 | Kind::Uint64 => "\"0\"",
            Kind::Double | Kind::Float => "0.0",
            _ => "0",
        });
    }

    fn mask(&mut self, tree: &Tree) {
        let mut text = String::new();
        if let Some(Value::List(paths)) = tree.value(place::ONLY) {
            for (at, path) in paths.iter().enumerate() {
                if at > 0 {
                    text.push(',');
                }
                if let Value::String(path) = path {
                    let written = mask::to_json(path, &mut text);
                    debug_assert!(written.is_ok(), "it has been judged");
                }
            }
        }
        self.plain(text);
    }

    fn any(&mut self, tree: &Tree, levels: usize) -> Result<(), TooLarge> {
        let (Ok(Some((id, content))), Some(Value::String(type_url))) = (
            held(self.types, tree, levels),
            tree.value(place::ANY_TYPE_URL),
        ) else {
            self.put("{}");
            return Ok(());
        };
        let levels = levels.saturating_sub(1);
        self.put("{\"@type\":");
        self.plain(type_url);
        match self.types.message(id).form {
            Form::Object if content.is_empty() => {}
            Form::Object => {
                self.out.push(b',');
                self.fields(id, &content, levels)?;
            }
            _ => {
                self.put(",\"value\":");
                self.message(id, &content, levels)?;
            }
        }
        self.out.push(b'}');
        Ok(())
    }
}
