//! JSON to a tree, by proto3's mapping as `google.protobuf.json_format` implements it.
//!
//! Fields are named as in JSON or as in the schema, extensions by their full names in brackets.
//! Null means an unset field, unless it is a value of its own. A key may not appear twice in an
//! object, nor two fields of one oneof. Only an object is a message, although that library
//! accepts `[]` and `""` as empty ones.

use super::decode::{as_key, unknown_type};
use super::descriptor::{Field, FieldName, Form, Kind, MessageType, Shape, TypeId, Types, place};
use super::encode::Encoder;
use super::fault::Fault;
use super::mask;
use super::moment::Moment;
use super::scalar;
use super::text::{Text, Token};
use super::tree::{Key, Tree, Value};
use crate::base::protobuf::Malformed;
use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

pub(super) struct Reader<'a> {
    types: &'a Types,
    text: Text<'a>,
    /// How many values have been read.
    pub(super) values: usize,
}

/// The fields and oneofs that an object has had.
#[derive(Default)]
struct Seen {
    /// The first 128, one bit each.
    first: u128,
    others: HashSet<usize>,
}

impl Seen {
    /// Returns whether it is new.
    #[inline]
    fn insert(&mut self, one: usize) -> bool {
        match 1u128.checked_shl(one as u32) {
            Some(bit) if one < 128 => {
                let is_new = self.first & bit == 0;
                self.first |= bit;
                is_new
            }
            _ => self.others.insert(one),
        }
    }
}

impl<'a> Reader<'a> {
    pub(super) fn new(types: &'a Types, payload: &'a str) -> Reader<'a> {
        Reader {
            types,
            text: Text::new(payload),
            values: 0,
        }
    }

    /// Reads the payload's only value.
    pub(super) fn whole(&mut self, id: TypeId, levels: usize) -> Result<Tree, Fault> {
        let mut tree = Tree::default();
        self.message(id, &mut tree, levels)?;
        self.text.end()?;
        Ok(tree)
    }

    fn message(&mut self, id: TypeId, tree: &mut Tree, levels: usize) -> Result<(), Fault> {
        self.values += 1;
        let message = self.types.message(id);
        if message.form == Form::Object {
            return match self.text.token()? {
                Token::Object => self.fields(message, tree, levels, false),
                other => Err(self.text.fault(scalar::unlike("an object", &other))),
            };
        }
        *tree = Tree::default();
        let token = self.text.token()?;
        match (message.form, token) {
            (Form::Wrapper, token) => {
                let value = self.scalar(message.fields[place::ONLY].kind, &token)?;
                tree.set(message, place::ONLY, value);
                Ok(())
            }
            (Form::Value, token) => self.value(message, token, tree, levels),
            (Form::Struct, Token::Object) => self.structure(message, tree, levels),
            (Form::ListValue, Token::List) => self.list_value(message, tree, levels),
            (Form::Any, Token::Object) => self.any(message, tree, levels),
            (Form::FieldMask, Token::String(paths)) => self.mask(message, &paths, tree),
            (Form::Timestamp, Token::String(text)) => {
                let wanted = "not a timestamp in the years 1 to 9999, such as \
                              \"2026-01-31T12:00:00.5Z\"";
                let moment = Moment::parse_timestamp(&text);
                let moment = moment.ok_or_else(|| self.text.fault(wanted))?;
                set_moment(message, moment, tree);
                Ok(())
            }
            (Form::Duration, Token::String(text)) => {
                let wanted = "not a duration of at most ten thousand years, such as \"1.5s\"";
                let moment = Moment::parse_duration(&text);
                let moment = moment.ok_or_else(|| self.text.fault(wanted))?;
                set_moment(message, moment, tree);
                Ok(())
            }
            (form, other) => {
                let wanted = match form {
                    Form::Struct | Form::Any => "an object",
                    Form::ListValue => "a list",
                    _ => "a string",
                };
                Err(self.text.fault(scalar::unlike(wanted, &other)))
            }
        }
    }

    /// Reads the rest of an object; the content of an Any also has `@type`.
    fn fields(
        &mut self,
        message: &'a MessageType,
        tree: &mut Tree,
        levels: usize,
        has_type: bool,
    ) -> Result<(), Fault> {
        let mut seen = Seen::default();
        let (mut is_first, mut likely) = (true, 0);
        let mut is_typed = !has_type;
        while let Some(name) = self.text.key(&mut is_first)? {
            match message.find_name(&name, likely) {
                Some(found) => {
                    likely = found.index as usize + 1;
                    self.member(message, found, tree, levels, &mut seen)
                        .map_err(|fault| fault.within(&name))?;
                }
                None if name == "@type" && !is_typed => {
                    is_typed = true;
                    self.text.skip()?;
                }
                None => return Err(self.unrecognized(&name)),
            }
        }
        Ok(())
    }

    #[cold]
    fn unrecognized(&self, name: &str) -> Fault {
        let problem = format_args!("unrecognized field name '{name}'");
        self.text.fault(problem)
    }

    fn member(
        &mut self,
        message: &'a MessageType,
        found: FieldName,
        tree: &mut Tree,
        levels: usize,
        seen: &mut Seen,
    ) -> Result<(), Fault> {
        let index = found.index as usize;
        let field = &message.fields[index];
        if !seen.insert(2 * index + usize::from(found.is_second)) {
            return Err(self.text.fault("it appears twice in its object"));
        }
        if self.text.peek() == Some(b'n') {
            self.text.token()?;
            return self.null(message, index, tree);
        }
        if let Some(oneof) = field.oneof
            && !seen.insert(2 * message.fields.len() + oneof as usize)
        {
            return Err(self
                .text
                .fault("another field of the same oneof is set too"));
        }
        match (field.shape, field.kind) {
            (Shape::Map, _) => {
                let entries = self.map(field, levels)?;
                tree.set_whole(message, index, Value::Map(entries));
            }
            (Shape::List, kind) => {
                let values = self.list(kind, levels)?;
                tree.set_whole(message, index, Value::List(values));
            }
            (Shape::Single, Kind::Message(id) | Kind::Group(id)) => {
                let levels = self.below(levels)?;
                let inner = tree.entry(message, index, || Value::Message(Tree::default()));
                if let Value::Message(inner) = inner {
                    self.message(id, inner, levels)?;
                }
            }
            (Shape::Single, kind) => {
                let token = self.text.token()?;
                let value = self.scalar(kind, &token)?;
                tree.set(message, index, value);
            }
        }
        Ok(())
    }

    /// Reads a null: the field is not set, unless null is a value of its type.
    fn null(&mut self, message: &MessageType, index: usize, tree: &mut Tree) -> Result<(), Fault> {
        let field = &message.fields[index];
        let null = match field.kind {
            Kind::Message(id) if self.types.message(id).form == Form::Value => {
                let mut value = Tree::default();
                value.set(self.types.message(id), place::VALUE_NULL, Value::Enum(0));
                Value::Message(value)
            }
            Kind::Enum(id) if *self.types.enumeration(id).name == *"google.protobuf.NullValue" => {
                Value::Enum(0)
            }
            _ => {
                tree.remove(index);
                return Ok(());
            }
        };
        match field.shape {
            Shape::Single => {
                self.values += 1;
                tree.set(message, index, null);
                Ok(())
            }
            // Ambiguous: an empty list, or a list with a null value.
            Shape::List | Shape::Map => Err(self.text.fault("expected a list, not null")),
        }
    }

    #[inline]
    fn scalar(&mut self, kind: Kind, token: &Token<'_>) -> Result<Value, Fault> {
        self.values += 1;
        let read = scalar::scalar(self.types, kind, token);
        read.map_err(|problem| self.text.fault(problem))
    }

    #[inline]
    fn below(&self, levels: usize) -> Result<usize, Fault> {
        (levels.checked_sub(1)).ok_or_else(|| self.text.fault(Malformed::TooDeep))
    }

    fn list(&mut self, kind: Kind, levels: usize) -> Result<Vec<Value>, Fault> {
        match self.text.token()? {
            Token::List => {}
            other => return Err(self.text.fault(scalar::unlike("a list", &other))),
        }
        let mut values = Vec::new();
        let mut is_first = true;
        while self.text.item(&mut is_first)? {
            let read = match kind.message() {
                Some(id) => self.below(levels).and_then(|levels| {
                    let mut inner = Tree::default();
                    self.message(id, &mut inner, levels)?;
                    Ok(Value::Message(inner))
                }),
                None => self
                    .text
                    .token()
                    .and_then(|token| self.scalar(kind, &token)),
            };
            let place = values.len();
            values.push(read.map_err(|fault| fault.within(format_args!("[{place}]")))?);
        }
        Ok(values)
    }

    fn map(&mut self, map: &Field, levels: usize) -> Result<BTreeMap<Key, Value>, Fault> {
        match self.text.token()? {
            Token::Object => {}
            other => return Err(self.text.fault(scalar::unlike("an object", &other))),
        }
        let mut entries = BTreeMap::new();
        let Some((key, value)) = self.types.entry(map) else {
            return Ok(entries);
        };
        let levels = self.below(levels)?;
        // "1" and "01" are the same key under two names.
        let mut names: HashSet<Cow<'a, str>> = HashSet::new();
        let mut is_first = true;
        while let Some(name) = self.text.key(&mut is_first)? {
            let read = scalar::key(key.kind, &name).map_err(|problem| self.text.fault(problem));
            let key = as_key(read.map_err(|fault| fault.within(&name))?);
            let is_new = match key {
                Key::String(_) | Key::Bool(_) => !entries.contains_key(&key),
                Key::I64(_) | Key::U64(_) => names.insert(name.clone()),
            };
            if !is_new {
                let fault = self.text.fault("it appears twice in its object");
                return Err(fault.within(&name));
            }
            let read = match value.kind.message() {
                Some(id) => self.below(levels).and_then(|levels| {
                    let mut inner = match entries.remove(&key) {
                        Some(Value::Message(before)) => before,
                        _ => Tree::default(),
                    };
                    self.message(id, &mut inner, levels)?;
                    Ok(Value::Message(inner))
                }),
                None => self
                    .text
                    .token()
                    .and_then(|token| self.scalar(value.kind, &token)),
            };
            entries.insert(key, read.map_err(|fault| fault.within(&name))?);
        }
        Ok(entries)
    }

    fn mask(&mut self, message: &MessageType, text: &str, tree: &mut Tree) -> Result<(), Fault> {
        if text.is_empty() {
            return Ok(());
        }
        let read = |path: &str| match mask::from_json(path) {
            Ok(path) => Ok(Value::String(path.into())),
            Err(problem) => Err(self.text.fault(problem)),
        };
        let paths = text.split(',').map(read).collect::<Result<Vec<_>, _>>()?;
        self.values += paths.len();
        tree.set_whole(message, place::ONLY, Value::List(paths));
        Ok(())
    }

    /// A `google.protobuf.Value`, whose token this is.
    fn value(
        &mut self,
        message: &'a MessageType,
        token: Token<'a>,
        tree: &mut Tree,
        levels: usize,
    ) -> Result<(), Fault> {
        let field = |place: usize| message.fields[place].kind.message();
        let (place, value) = match token {
            Token::Null => (place::VALUE_NULL, Value::Enum(0)),
            Token::Bool(value) => (place::VALUE_BOOL, Value::Bool(value)),
            Token::String(text) => (place::VALUE_STRING, Value::String(text.into())),
            Token::Number(_) => (place::VALUE_NUMBER, self.scalar(Kind::Double, &token)?),
            Token::List | Token::Object => {
                let mut inner = Tree::default();
                let levels = self.below(levels)?;
                let place = match token {
                    Token::List => place::VALUE_LIST,
                    _ => place::VALUE_STRUCT,
                };
                if let Some(id) = field(place) {
                    let inner_type = self.types.message(id);
                    match token {
                        Token::List => self.list_value(inner_type, &mut inner, levels)?,
                        _ => self.structure(inner_type, &mut inner, levels)?,
                    }
                }
                (place, Value::Message(inner))
            }
        };
        tree.set(message, place, value);
        Ok(())
    }

    /// The rest of a `google.protobuf.Struct`.
    fn structure(
        &mut self,
        message: &'a MessageType,
        tree: &mut Tree,
        levels: usize,
    ) -> Result<(), Fault> {
        let mut entries = BTreeMap::new();
        let map = &message.fields[place::ONLY];
        let id = self
            .types
            .entry(map)
            .and_then(|(_, value)| value.kind.message());
        let mut is_first = true;
        while let (Some(name), Some(id)) = (self.text.key(&mut is_first)?, id) {
            let mut value = Tree::default();
            let read = (self.below(levels).and_then(|levels| self.below(levels)))
                .and_then(|levels| self.message(id, &mut value, levels));
            read.map_err(|fault| fault.within(&name))?;
            let value = Value::Message(value);
            if entries.insert(Key::String((*name).into()), value).is_some() {
                let fault = self.text.fault("it appears twice in its object");
                return Err(fault.within(&name));
            }
        }
        tree.set_whole(message, place::ONLY, Value::Map(entries));
        Ok(())
    }

    /// The rest of a `google.protobuf.ListValue`.
    fn list_value(
        &mut self,
        message: &'a MessageType,
        tree: &mut Tree,
        levels: usize,
    ) -> Result<(), Fault> {
        let mut values = Vec::new();
        let id = message.fields[place::ONLY].kind.message();
        let mut is_first = true;
        while let (true, Some(id)) = (self.text.item(&mut is_first)?, id) {
            let mut value = Tree::default();
            let read = self
                .below(levels)
                .and_then(|levels| self.message(id, &mut value, levels));
            let at = values.len();
            read.map_err(|fault| fault.within(format_args!("[{at}]")))?;
            values.push(Value::Message(value));
        }
        tree.set_whole(message, place::ONLY, Value::List(values));
        Ok(())
    }

    /// The rest of a `google.protobuf.Any`: finds its `@type` first, since that gives the other
    /// members their meaning.
    fn any(&mut self, message: &MessageType, tree: &mut Tree, levels: usize) -> Result<(), Fault> {
        let start = self.text;
        let Some(type_url) = self.any_type()? else {
            return Ok(());
        };
        let Some(id) = self.types.held(&type_url) else {
            return Err(self.text.fault(unknown_type(&type_url).problem));
        };
        self.text = start;
        let levels = self.below(levels)?;
        let held = self.types.message(id);
        let mut content = Tree::default();
        match held.form {
            Form::Object => self.fields(held, &mut content, levels, true)?,
            _ => self.any_value(id, &mut content, levels)?,
        }
        let mut bytes = Vec::new();
        let encoded = Encoder::new(self.types, &mut bytes, usize::MAX).message(id, &content);
        debug_assert!(encoded.is_ok());
        tree.set(message, place::ANY_TYPE_URL, Value::String(type_url.into()));
        tree.set(message, place::ANY_VALUE, Value::Bytes(bytes.into()));
        Ok(())
    }

    /// `None`: the object is empty.
    fn any_type(&mut self) -> Result<Option<Cow<'a, str>>, Fault> {
        let mut is_first = true;
        let mut is_empty = true;
        while let Some(name) = self.text.key(&mut is_first)? {
            is_empty = false;
            if name == "@type" {
                return match self.text.token()? {
                    Token::String(type_url) => Ok(Some(type_url)),
                    other => Err(self.text.fault(scalar::unlike("a string", &other))),
                };
            }
            self.text.skip()?;
        }
        match is_empty {
            true => Ok(None),
            false => Err(self.text.fault("@type is missing")),
        }
    }

    /// A message with a special form is the member `value` beside `@type`.
    fn any_value(&mut self, id: TypeId, content: &mut Tree, levels: usize) -> Result<(), Fault> {
        let (mut is_typed, mut has_value, mut is_first) = (false, false, true);
        while let Some(name) = self.text.key(&mut is_first)? {
            match &*name {
                "@type" if !is_typed => {
                    is_typed = true;
                    self.text.skip()?;
                }
                "value" if !has_value => {
                    has_value = true;
                    let read = self.message(id, content, levels);
                    read.map_err(|fault| fault.within("value"))?;
                }
                name => return Err(self.unrecognized(name)),
            }
        }
        match has_value {
            true => Ok(()),
            false => Err(self.text.fault("value is missing")),
        }
    }
}

fn set_moment(message: &MessageType, moment: Moment, tree: &mut Tree) {
    tree.set(message, place::SECONDS, Value::I64(moment.seconds));
    tree.set(message, place::NANOS, Value::I32(moment.nanos));
}
