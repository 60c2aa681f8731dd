//! The messages and enums of a descriptor set, prepared for reading and writing payloads: fields by
//! number and by name, each with everything that can be decided in advance.

use std::collections::HashMap;

/// A message's or an enum's index in [`Types`].
pub(super) type TypeId = u32;

#[derive(Default)]
pub(super) struct Types {
    pub(super) messages: Vec<MessageType>,
    pub(super) enums: Vec<EnumType>,
    /// The messages by full name.
    pub(super) names: HashMap<Box<str>, TypeId>,
}

pub(super) struct MessageType {
    /// The full name.
    pub(super) name: Box<str>,
    pub(super) form: Form,
    pub(super) is_map_entry: bool,
    /// In the order of their numbers.
    pub(super) fields: Vec<Field>,
    /// Fields by what JSON may call them: their names in JSON and in the schema.
    pub(super) field_names: HashMap<Box<str>, FieldName>,
    /// Whether it is, or contains, a type of which not every value has a form in JSON.
    pub(super) is_special: bool,
}

#[derive(Clone, Copy)]
pub(super) struct FieldName {
    pub(super) index: u32,
    /// Whether it is the schema's name and JSON has another.
    pub(super) is_second: bool,
}

/// What a message is in JSON.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// An object with its fields.
    Object,
    Any,
    Duration,
    FieldMask,
    ListValue,
    Struct,
    Timestamp,
    Value,
    /// The form of its only value.
    Wrapper,
}

/// Indices of the fields of messages with a special form: their numbers in Google's files, less
/// one, which is checked before a message gets its form.
pub(super) mod place {
    pub(in super::super) const ANY_TYPE_URL: usize = 0;
    pub(in super::super) const ANY_VALUE: usize = 1;
    /// Of Duration and Timestamp.
    pub(in super::super) const SECONDS: usize = 0;
    pub(in super::super) const NANOS: usize = 1;
    /// Of FieldMask, ListValue, Struct and wrappers.
    pub(in super::super) const ONLY: usize = 0;
    pub(in super::super) const VALUE_NULL: usize = 0;
    pub(in super::super) const VALUE_NUMBER: usize = 1;
    pub(in super::super) const VALUE_STRING: usize = 2;
    pub(in super::super) const VALUE_BOOL: usize = 3;
    pub(in super::super) const VALUE_STRUCT: usize = 4;
    pub(in super::super) const VALUE_LIST: usize = 5;
    /// Of a map's entry.
    pub(in super::super) const KEY: usize = 0;
    pub(in super::super) const ENTRY_VALUE: usize = 1;
}

pub(super) struct Field {
    pub(super) number: u32,
    /// The schema's name; of an extension the full one, in brackets.
    pub(super) name: Box<str>,
    /// The name in JSON.
    pub(super) json_name: Box<str>,
    /// The same as a key in JSON: `"name":`.
    pub(super) json_key: Box<[u8]>,
    pub(super) kind: Kind,
    pub(super) shape: Shape,
    pub(super) is_packed: bool,
    /// Whether the field can be set to its default value, as distinct from not being set.
    pub(super) has_presence: bool,
    pub(super) oneof: Option<u32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Single,
    List,
    /// A list of entry messages with two fields, key and value.
    Map,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Double,
    Float,
    Int64,
    Uint64,
    Int32,
    Fixed64,
    Fixed32,
    Bool,
    String,
    Bytes,
    Uint32,
    Sfixed32,
    Sfixed64,
    Sint32,
    Sint64,
    Enum(TypeId),
    Message(TypeId),
    /// A message between a start key and an end key.
    Group(TypeId),
}

impl Kind {
    pub(super) fn message(self) -> Option<TypeId> {
        match self {
            Kind::Message(id) | Kind::Group(id) => Some(id),
            _ => None,
        }
    }

    /// Whether a list of it may be packed into one field.
    pub(super) fn is_packable(self) -> bool {
        !matches!(
            self,
            Kind::String | Kind::Bytes | Kind::Message(_) | Kind::Group(_)
        )
    }
}

pub(super) struct EnumType {
    /// The full name.
    pub(super) name: Box<str>,
    /// Whether numbers that it does not name are invalid.
    pub(super) is_closed: bool,
    /// The default: the number of the first value.
    pub(super) first: i32,
    pub(super) numbers: HashMap<Box<str>, i32>,
    /// The first name of each number, ordered by number.
    names: Vec<(i32, Box<str>)>,
}

impl EnumType {
    /// `values` are not empty.
    pub(super) fn new(name: &str, is_closed: bool, values: &[(&str, i32)]) -> EnumType {
        let mut names: Vec<(i32, Box<str>)> = values
            .iter()
            .map(|&(name, number)| (number, name.into()))
            .collect();
        names.sort_by_key(|(number, _)| *number);
        names.dedup_by_key(|(number, _)| *number);
        EnumType {
            name: name.into(),
            is_closed,
            first: values.first().map_or(0, |(_, number)| *number),
            numbers: values
                .iter()
                .map(|&(name, number)| (name.into(), number))
                .collect(),
            names,
        }
    }

    pub(super) fn name_of(&self, number: i32) -> Option<&str> {
        let place = self.names.binary_search_by_key(&number, |(at, _)| *at);
        place.ok().map(|place| &*self.names[place].1)
    }

    pub(super) fn takes(&self, number: i32) -> bool {
        !self.is_closed || self.name_of(number).is_some()
    }
}

impl Types {
    #[inline]
    pub(super) fn message(&self, id: TypeId) -> &MessageType {
        &self.messages[id as usize]
    }

    pub(super) fn enumeration(&self, id: TypeId) -> &EnumType {
        &self.enums[id as usize]
    }

    /// The type that an Any's URL names.
    pub(super) fn held(&self, type_url: &str) -> Option<TypeId> {
        let name = type_url.rsplit('/').next().unwrap_or_default();
        self.names.get(name).copied()
    }

    /// Key and value of a map's entries.
    pub(super) fn entry(&self, map: &Field) -> Option<(&Field, &Field)> {
        let entry = self.message(map.kind.message()?);
        Some((&entry.fields[place::KEY], &entry.fields[place::ENTRY_VALUE]))
    }
}

impl MessageType {
    /// The index of the field with this number, which is most often `likely`.
    #[inline]
    pub(super) fn find(&self, number: u32, likely: usize) -> Option<usize> {
        match self.fields.get(likely) {
            Some(field) if field.number == number => Some(likely),
            _ => (self.fields)
                .binary_search_by_key(&number, |field| field.number)
                .ok(),
        }
    }

    /// The same by a name in JSON.
    #[inline]
    pub(super) fn find_name(&self, name: &str, likely: usize) -> Option<FieldName> {
        if let Some(field) = self.fields.get(likely)
            && *field.json_name == *name
        {
            return Some(FieldName {
                index: likely as u32,
                is_second: false,
            });
        }
        self.field_names.get(name).copied()
    }
}
