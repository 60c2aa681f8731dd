//! Google's well-known types: which messages of a set have a special form in JSON.

use super::descriptor::{Field, Form, Kind, MessageType, Shape, TypeId, Types};

/// The required type of a field of a well-known type.
#[derive(Clone, Copy)]
enum Wanted {
    Single(Kind),
    Strings,
    Enum(&'static str),
    Message(&'static str),
    Messages(&'static str),
    /// A map from strings to this message.
    Map(&'static str),
}

use Wanted::{Map, Message, Messages, Single, Strings};

const VALUE: &str = "google.protobuf.Value";

/// The well-known types and their fields, which are numbered 1, 2, and so on.
const TYPES: [(&str, Form, &[Wanted]); 16] = [
    (
        "google.protobuf.Any",
        Form::Any,
        &[Single(Kind::String), Single(Kind::Bytes)],
    ),
    ("google.protobuf.Duration", Form::Duration, MOMENT),
    ("google.protobuf.Timestamp", Form::Timestamp, MOMENT),
    ("google.protobuf.FieldMask", Form::FieldMask, &[Strings]),
    (
        "google.protobuf.ListValue",
        Form::ListValue,
        &[Messages(VALUE)],
    ),
    ("google.protobuf.Struct", Form::Struct, &[Map(VALUE)]),
    (
        VALUE,
        Form::Value,
        &[
            Wanted::Enum("google.protobuf.NullValue"),
            Single(Kind::Double),
            Single(Kind::String),
            Single(Kind::Bool),
            Message("google.protobuf.Struct"),
            Message("google.protobuf.ListValue"),
        ],
    ),
    (
        "google.protobuf.DoubleValue",
        Form::Wrapper,
        &[Single(Kind::Double)],
    ),
    (
        "google.protobuf.FloatValue",
        Form::Wrapper,
        &[Single(Kind::Float)],
    ),
    (
        "google.protobuf.Int64Value",
        Form::Wrapper,
        &[Single(Kind::Int64)],
    ),
    (
        "google.protobuf.UInt64Value",
        Form::Wrapper,
        &[Single(Kind::Uint64)],
    ),
    (
        "google.protobuf.Int32Value",
        Form::Wrapper,
        &[Single(Kind::Int32)],
    ),
    (
        "google.protobuf.UInt32Value",
        Form::Wrapper,
        &[Single(Kind::Uint32)],
    ),
    (
        "google.protobuf.BoolValue",
        Form::Wrapper,
        &[Single(Kind::Bool)],
    ),
    (
        "google.protobuf.StringValue",
        Form::Wrapper,
        &[Single(Kind::String)],
    ),
    (
        "google.protobuf.BytesValue",
        Form::Wrapper,
        &[Single(Kind::Bytes)],
    ),
];

const MOMENT: &[Wanted] = &[Single(Kind::Int64), Single(Kind::Int32)];

/// Gives well-known types their special forms.
///
/// # Errors
/// If a message has a well-known type's name but other fields.
pub(super) fn recognize(types: &mut Types) -> Result<(), String> {
    for (name, form, fields) in TYPES {
        let Some(&id) = types.names.get(name) else {
            continue;
        };
        let message = types.message(id);
        let is_like = fields.iter().enumerate().all(|(place, wanted)| {
            let field = message.fields.get(place);
            field.is_some_and(|field| {
                field.number as usize == place + 1 && is_like(types, field, *wanted)
            })
        });
        if !is_like || is_longer(message, fields.len()) {
            return Err(format!("its {name} differs from Google's definition"));
        }
        types.messages[id as usize].form = form;
    }
    mark_special(types);
    Ok(())
}

/// Whether it has more fields than that, without extensions.
fn is_longer(message: &MessageType, count: usize) -> bool {
    (message.fields.iter().skip(count)).any(|field| !field.name.starts_with('['))
}

fn is_like(types: &Types, field: &Field, wanted: Wanted) -> bool {
    let is_message = |kind: Kind, name: &str| matches!(kind, Kind::Message(id) if *types.message(id).name == *name);
    match (wanted, field.shape) {
        (Single(kind), Shape::Single) => field.kind == kind,
        (Strings, Shape::List) => field.kind == Kind::String,
        (Wanted::Enum(name), Shape::Single) => {
            matches!(field.kind, Kind::Enum(id) if *types.enumeration(id).name == *name)
        }
        (Message(name), Shape::Single) | (Messages(name), Shape::List) => {
            is_message(field.kind, name)
        }
        (Map(name), Shape::Map) => (types.entry(field))
            .is_some_and(|(key, value)| key.kind == Kind::String && is_message(value.kind, name)),
        _ => false,
    }
}

/// Marks the messages of which not every value has a JSON form, and those that contain one.
fn mark_special(types: &mut Types) {
    let mut holders: Vec<Vec<TypeId>> = vec![Vec::new(); types.messages.len()];
    for (id, message) in types.messages.iter().enumerate() {
        for held in message
            .fields
            .iter()
            .filter_map(|field| field.kind.message())
        {
            holders[held as usize].push(id as TypeId);
        }
    }
    let is_special = |form| {
        let forms = [
            Form::Any,
            Form::Duration,
            Form::FieldMask,
            Form::Timestamp,
            Form::Value,
        ];
        forms.contains(&form)
    };
    let ids = 0..types.messages.len() as TypeId;
    let mut ahead: Vec<TypeId> = ids
        .filter(|id| is_special(types.message(*id).form))
        .collect();
    while let Some(id) = ahead.pop() {
        let message = &mut types.messages[id as usize];
        if !std::mem::replace(&mut message.is_special, true) {
            ahead.extend(&holders[id as usize]);
        }
    }
}
