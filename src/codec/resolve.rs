//! From the files of a descriptor set to [`Types`]: resolves names, applies editions and
//! syntaxes to each field, and reports contradictions.
//!
//! It accepts what protoc produces, in proto2, proto3 and editions 2023 and 2024, and refuses
//! what protoc would not produce if payloads could depend on it: types that are missing or
//! declared twice, numbers and names shared by two fields, malformed maps. It ignores what no
//! payload depends on, such as options, services and the order or cycles of imports.

use super::descriptor::{
    EnumType, Field, FieldName, Form, Kind, MessageType, Shape, TypeId, Types,
};
use super::set::{RawEnum, RawFeatures, RawField, RawFile, RawMessage};
use super::special;
use crate::base::protobuf::FIELD_NUMBER_MAX;
use std::collections::{HashMap, HashSet};
use std::ops::RangeInclusive;

/// Field numbers reserved for protobuf.
const RESERVED: RangeInclusive<u32> = 19_000..=19_999;

/// Bytes of a full name: more than any real one has.
const NAME_BYTES_MAX: usize = 4096;

/// The only label of a field that matters here.
const LABEL_REPEATED: i32 = 3;

#[derive(Clone, Copy)]
struct Features {
    has_presence: bool,
    is_closed: bool,
    is_packed: bool,
    /// Whether messages are encoded as groups.
    is_delimited: bool,
}

impl Features {
    fn of(file: &RawFile<'_>) -> Result<Features, String> {
        let features = |has_presence, is_closed, is_packed| Features {
            has_presence,
            is_closed,
            is_packed,
            is_delimited: false,
        };
        match (file.syntax, file.edition) {
            ("" | "proto2", _) => Ok(features(true, true, false)),
            ("proto3", _) => Ok(features(false, false, true)),
            ("editions", 1000 | 1001) => Ok(features(true, false, true).with(file.features)),
            ("editions", edition) => Err(format!(
                "{:?} uses edition number {edition}, which is not supported: use edition 2023 \
                 or 2024, or syntax \"proto2\" or \"proto3\"",
                file.name
            )),
            (syntax, _) => Err(format!(
                "{:?} uses syntax {syntax:?}, which is not supported: use \"proto2\", \
                 \"proto3\", or edition 2023 or 2024",
                file.name
            )),
        }
    }

    fn with(mut self, raw: RawFeatures) -> Features {
        let put = |value: &mut bool, is: i32, yes: &[i32]| {
            if is != 0 {
                *value = yes.contains(&is);
            }
        };
        put(&mut self.has_presence, raw.field_presence, &[1, 3]);
        put(&mut self.is_closed, raw.enum_type, &[2]);
        put(&mut self.is_packed, raw.repeated_field_encoding, &[1]);
        put(&mut self.is_delimited, raw.message_encoding, &[2]);
        self
    }
}

#[derive(Clone, Copy)]
enum Named {
    Message(TypeId),
    Enum(TypeId),
}

struct Declared<'a> {
    raw: &'a RawMessage<'a>,
    name: String,
    features: Features,
}

/// An extension and its scope.
struct Extension<'a> {
    raw: &'a RawField<'a>,
    scope: String,
    features: Features,
}

#[derive(Default)]
struct Resolver<'a> {
    names: HashMap<String, Named>,
    messages: Vec<Declared<'a>>,
    extensions: Vec<Extension<'a>>,
    types: Types,
}

/// # Errors
/// What is wrong with the set, if protoc would not make it.
pub(super) fn resolve(files: &[(RawFile<'_>, &[u8])]) -> Result<Types, String> {
    let mut seen: HashMap<&str, &[u8]> = HashMap::new();
    let mut resolver = Resolver::default();
    for (file, bytes) in files {
        match seen.insert(file.name, bytes) {
            // Two concatenated sets may both contain a file that they import.
            Some(first) if first == *bytes => continue,
            Some(_) => return Err(format!("it contains the file {:?} twice", file.name)),
            None => resolver.declare(file)?,
        }
    }
    for (file, _) in files {
        let missing = (file.dependencies.iter()).find(|name| !seen.contains_key(**name));
        if let Some(missing) = missing {
            let name = file.name;
            return Err(format!("{name:?} imports {missing:?}, which is not in it"));
        }
    }
    resolver.build()
}

fn joined(scope: &str, name: &str) -> String {
    match scope {
        "" => name.to_owned(),
        scope => format!("{scope}.{name}"),
    }
}

impl<'a> Resolver<'a> {
    fn declare(&mut self, file: &'a RawFile<'a>) -> Result<(), String> {
        let features = Features::of(file)?;
        if file.package.len() > NAME_BYTES_MAX {
            let name = file.name;
            return Err(format!(
                "{name:?} has a package name of more than {NAME_BYTES_MAX} bytes"
            ));
        }
        for message in &file.messages {
            self.declare_message(message, file.package, features)?;
        }
        for one in &file.enums {
            self.declare_enum(one, file.package, features)?;
        }
        self.declare_extensions(&file.extensions, file.package, features);
        Ok(())
    }

    fn declare_message(
        &mut self,
        raw: &'a RawMessage<'a>,
        scope: &str,
        features: Features,
    ) -> Result<(), String> {
        let name = joined(scope, raw.name);
        let features = features.with(raw.features);
        let id = self.messages.len() as TypeId;
        self.declare_name(&name, raw.name, Named::Message(id))?;
        self.messages.push(Declared {
            raw,
            name: name.clone(),
            features,
        });
        for inner in &raw.messages {
            self.declare_message(inner, &name, features)?;
        }
        for inner in &raw.enums {
            self.declare_enum(inner, &name, features)?;
        }
        self.declare_extensions(&raw.extensions, &name, features);
        Ok(())
    }

    fn declare_enum(
        &mut self,
        raw: &RawEnum<'_>,
        scope: &str,
        features: Features,
    ) -> Result<(), String> {
        let name = joined(scope, raw.name);
        let id = self.types.enums.len() as TypeId;
        self.declare_name(&name, raw.name, Named::Enum(id))?;
        if raw.values.is_empty() {
            return Err(format!("enum {name} has no values"));
        }
        let is_closed = features.with(raw.features).is_closed;
        let declared = EnumType::new(&name, is_closed, &raw.values);
        if declared.numbers.len() < raw.values.len() {
            return Err(format!("enum {name} has two values with the same name"));
        }
        self.types.enums.push(declared);
        Ok(())
    }

    fn declare_extensions(
        &mut self,
        extensions: &'a [RawField<'a>],
        scope: &str,
        features: Features,
    ) {
        self.extensions
            .extend(extensions.iter().map(|raw| Extension {
                raw,
                scope: scope.to_owned(),
                features,
            }));
    }

    fn declare_name(&mut self, full: &str, own: &str, named: Named) -> Result<(), String> {
        if own.is_empty() {
            return Err(format!("a type in {full:?} has no name"));
        }
        if full.len() > NAME_BYTES_MAX {
            return Err(format!(
                "a type has a name of more than {NAME_BYTES_MAX} bytes"
            ));
        }
        match self.names.insert(full.to_owned(), named) {
            None => Ok(()),
            Some(_) => Err(format!("{full} is declared twice")),
        }
    }

    /// A type by the name in a field: `.site.Reading`, or `Reading` from within `site` or a scope
    /// inside it.
    fn find(&self, name: &str, mut scope: &str) -> Option<Named> {
        if let Some(full) = name.strip_prefix('.') {
            return self.names.get(full).copied();
        }
        loop {
            if let Some(found) = self.names.get(&joined(scope, name)) {
                return Some(*found);
            }
            if scope.is_empty() {
                return None;
            }
            scope = scope.rsplit_once('.').map_or("", |(outer, _)| outer);
        }
    }

    fn build(mut self) -> Result<Types, String> {
        let mut built = Vec::with_capacity(self.messages.len());
        for declared in &self.messages {
            built.push(self.message(declared)?);
        }
        for extension in &self.extensions {
            let name = joined(&extension.scope, extension.raw.name);
            let extended = extension.raw.extendee;
            let Some(Named::Message(id)) = self.find(extended, &extension.scope) else {
                let problem = "which is not a message in it";
                return Err(format!("extension {name} extends {extended:?}, {problem}"));
            };
            let mut field = self.field(extension.raw, &extension.scope, extension.features)?;
            field.name = format!("[{name}]").into();
            field.json_name = field.name.clone();
            field.has_presence = field.shape == Shape::Single;
            built[id as usize].fields.push(field);
        }
        for message in &mut built {
            finish(message)?;
        }
        for (id, declared) in self.messages.iter().enumerate() {
            let name = declared.name.as_str().into();
            self.types.names.insert(name, id as TypeId);
        }
        self.types.messages = built;
        self.check_maps()?;
        special::recognize(&mut self.types)?;
        Ok(self.types)
    }

    fn message(&self, declared: &Declared<'_>) -> Result<MessageType, String> {
        let Declared {
            raw,
            name,
            features,
        } = declared;
        let mut fields = Vec::with_capacity(raw.fields.len());
        for field in &raw.fields {
            let oneof = match field.oneof {
                None => None,
                Some(oneof) => match usize::try_from(oneof) {
                    Ok(oneof) if oneof < raw.oneofs.len() => Some(oneof),
                    _ => {
                        let problem = "is in a oneof that does not exist";
                        return Err(format!("{name}.{} {problem}", field.name));
                    }
                },
            };
            let features = match oneof {
                None => *features,
                Some(oneof) => features.with(raw.oneofs[oneof]),
            };
            let mut built = self.field(field, name, features)?;
            built.oneof = oneof.map(|oneof| oneof as u32);
            built.has_presence |= oneof.is_some();
            fields.push(built);
        }
        Ok(MessageType {
            name: name.as_str().into(),
            form: Form::Object,
            is_map_entry: raw.is_map_entry,
            fields,
            field_names: HashMap::new(),
            is_special: false,
        })
    }

    fn field(&self, raw: &RawField<'_>, scope: &str, features: Features) -> Result<Field, String> {
        let name = joined(scope, raw.name);
        let features = features.with(raw.features);
        let number = u32::try_from(raw.number).unwrap_or_default();
        if raw.name.is_empty() {
            return Err(format!("a field of {scope} has no name"));
        }
        if number == 0 || number > FIELD_NUMBER_MAX || RESERVED.contains(&number) {
            return Err(format!("{name} has the number {}", raw.number));
        }
        let kind = self.kind(raw, &name, scope, features)?;
        let is_entry =
            (kind.message()).is_some_and(|id| self.messages[id as usize].raw.is_map_entry);
        let shape = match (raw.label == LABEL_REPEATED, is_entry) {
            (false, false) => Shape::Single,
            (true, false) => Shape::List,
            (true, true) => Shape::Map,
            (false, true) => return Err(format!("{name} may be used only as a map entry")),
        };
        // Map entries are never groups.
        let kind = match (kind, shape) {
            (Kind::Group(entry), Shape::Map) => Kind::Message(entry),
            (kind, _) => kind,
        };
        let is_packed = raw.is_packed.unwrap_or(features.is_packed);
        let is_explicit = features.has_presence || raw.is_proto3_optional;
        let json_name = match raw.json_name {
            Some(given) => given.to_owned(),
            None => camel_case(raw.name),
        };
        Ok(Field {
            number,
            name: raw.name.into(),
            json_name: json_name.into(),
            json_key: Box::default(),
            kind,
            shape,
            is_packed: shape == Shape::List && kind.is_packable() && is_packed,
            has_presence: shape == Shape::Single && (is_explicit || kind.message().is_some()),
            oneof: None,
        })
    }

    fn kind(
        &self,
        raw: &RawField<'_>,
        name: &str,
        scope: &str,
        features: Features,
    ) -> Result<Kind, String> {
        let kind = match raw.kind {
            1 => Kind::Double,
            2 => Kind::Float,
            3 => Kind::Int64,
            4 => Kind::Uint64,
            5 => Kind::Int32,
            6 => Kind::Fixed64,
            7 => Kind::Fixed32,
            8 => Kind::Bool,
            9 => Kind::String,
            12 => Kind::Bytes,
            13 => Kind::Uint32,
            15 => Kind::Sfixed32,
            16 => Kind::Sfixed64,
            17 => Kind::Sint32,
            18 => Kind::Sint64,
            // Named: a group, a message, an enum, or (without a type) whichever the name resolves
            // to.
            given => {
                let wanted = raw.type_name;
                return match (given, self.find(wanted, scope)) {
                    (10, Some(Named::Message(id))) => Ok(Kind::Group(id)),
                    (11, Some(Named::Message(id))) if features.is_delimited => Ok(Kind::Group(id)),
                    (0 | 11, Some(Named::Message(id))) => Ok(Kind::Message(id)),
                    (0 | 14, Some(Named::Enum(id))) => Ok(Kind::Enum(id)),
                    (0 | 10 | 11 | 14, _) => Err(format!(
                        "{name} has the type {wanted:?}, which is not in it"
                    )),
                    (given, _) => Err(format!("{name} has an unknown type: {given}")),
                };
            }
        };
        Ok(kind)
    }

    /// Map entries have a key and a value, and nothing else.
    fn check_maps(&self) -> Result<(), String> {
        for message in self.types.messages.iter().filter(|one| one.is_map_entry) {
            let is_map = match &message.fields[..] {
                [key, value] => {
                    let is_key = !matches!(
                        key.kind,
                        Kind::Double | Kind::Float | Kind::Bytes | Kind::Enum(_)
                    );
                    (key.number, value.number) == (1, 2)
                        && (key.shape, value.shape) == (Shape::Single, Shape::Single)
                        && is_key
                        && key.kind.message().is_none()
                }
                _ => false,
            };
            if !is_map {
                return Err(format!("{} is not a map entry", message.name));
            }
        }
        Ok(())
    }
}

/// Sorts the fields, and indexes them by name.
fn finish(message: &mut MessageType) -> Result<(), String> {
    message.fields.sort_by_key(|field| field.number);
    let twice = (message.fields.windows(2)).find(|pair| pair[0].number == pair[1].number);
    if let Some([first, second]) = twice {
        return Err(format!(
            "{} and {} of {} have the same number, {}",
            first.name, second.name, message.name, first.number
        ));
    }
    let mut names = HashSet::new();
    for field in &message.fields {
        if !names.insert(&*field.name) {
            return Err(format!("{}.{} is declared twice", message.name, field.name));
        }
    }
    let named = |names: &mut HashMap<Box<str>, FieldName>, name: &str, index, is_second| {
        let index = index as u32;
        names.insert(name.into(), FieldName { index, is_second });
    };
    let mut field_names = HashMap::with_capacity(2 * message.fields.len());
    for (index, field) in message.fields.iter().enumerate() {
        named(&mut field_names, &field.name, index, true);
    }
    // JSON names take precedence.
    for (index, field) in message.fields.iter_mut().enumerate() {
        named(&mut field_names, &field.json_name, index, false);
        let mut key = serde_json::to_vec(&field.json_name).unwrap_or_default();
        key.push(b':');
        field.json_key = key.into();
    }
    message.field_names = field_names;
    Ok(())
}

/// A field's JSON name, unless the schema gives another.
fn camel_case(name: &str) -> String {
    let mut camel = String::with_capacity(name.len());
    let mut is_first = false;
    for letter in name.chars() {
        match letter {
            '_' => is_first = true,
            letter => {
                let letter = if is_first {
                    letter.to_ascii_uppercase()
                } else {
                    letter
                };
                camel.push(letter);
                is_first = false;
            }
        }
    }
    camel
}
