//! Where in a protobuf payload the field is that does not fit: the library says what is
//! wrong, not where. Looked for only once a payload has been found wrong, and not too deep.

use prost::DecodeError;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use std::collections::HashMap;

/// A field that does not fit, and why.
pub(super) struct Fault {
    /// `values[3].celsius`; empty: no field of its own.
    pub(super) path: String,
    pub(super) problem: String,
}

impl Fault {
    fn new(field: String, error: &DecodeError) -> Fault {
        Fault {
            path: field,
            problem: problem(error),
        }
    }

    fn within(mut self, field: String) -> Fault {
        self.path = match self.path.as_str() {
            "" => field,
            inner => format!("{field}.{inner}"),
        };
        self
    }
}

/// The library's text without what it begins every one with.
pub(super) fn problem(error: &DecodeError) -> String {
    let text = error.to_string();
    let rest = text.strip_prefix("failed to decode Protobuf message: ");
    rest.unwrap_or(&text).to_owned()
}

/// The first field of a payload that does not fit, if it is one field's fault.
pub(super) fn locate(message: &MessageDescriptor, mut bytes: &[u8]) -> Option<Fault> {
    let mut counts: HashMap<u32, usize> = HashMap::new();
    while bytes.has_remaining() {
        let entry = bytes;
        let (number, wire_type) = match decode_key(&mut bytes) {
            Ok(key) => key,
            Err(error) => return Some(Fault::new(String::new(), &error)),
        };
        let mut value = bytes;
        let known = message.get_field(number);
        let count = counts.entry(number).or_default();
        let place = || match &known {
            Some(field) => name(field, *count),
            None => format!("field {number}"),
        };
        let skipped = skip_field(wire_type, number, &mut bytes, DecodeContext::default());
        if let Err(error) = skipped {
            return Some(Fault::new(place(), &error));
        }
        let Some(field) = &known else { continue };
        let entry = &entry[..entry.len() - bytes.len()];
        let inner = match field.kind() {
            Kind::Message(inner) if wire_type == WireType::LengthDelimited => {
                decode_varint(&mut value).ok()?;
                let value = &value[..value.len() - bytes.len()];
                locate(&inner, value).map(|fault| fault.within(place()))
            }
            _ => {
                let alone = DynamicMessage::decode(message.clone(), entry);
                alone.err().map(|error| Fault::new(place(), &error))
            }
        };
        if inner.is_some() {
            return inner;
        }
        *count += 1;
    }
    None
}

fn name(field: &FieldDescriptor, index: usize) -> String {
    match field.is_list() {
        true => format!("{}[{index}]", field.name()),
        false => field.name().to_owned(),
    }
}
