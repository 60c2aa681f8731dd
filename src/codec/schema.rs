//! One message of a descriptor set: checks payloads against it, and translates them into the
//! other codec.

use super::decode::Decoder;
use super::descriptor::{TypeId, Types};
use super::encode::Encoder;
use super::fault::Fault;
use super::judge::judge;
use super::read::Reader;
use super::tree::Tree;
use super::write::Writer;
use super::{resolve, set};
use crate::base::protobuf::LEVELS_MAX;
use crate::proto::envelope::Codec;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// How similar a name must be to be suggested, from 0 to 1.
const LIKENESS_MIN: f64 = 0.5;

/// A descriptor set that cannot be used, or that lacks the message. Displayed, it completes
/// "schema_file …" or "message …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("is not a FileDescriptorSet: {0}")]
    NotASet(String),
    #[error("defines no messages")]
    Empty,
    #[error("cannot be used: {0}")]
    Contradicting(String),
    #[error("is not one of the {count} messages in its schema_file")]
    NoMessage {
        count: usize,
        /// The most similar name.
        nearest: Option<String>,
    },
}

/// The messages of one FileDescriptorSet.
pub struct Descriptors(Arc<Types>);

impl Descriptors {
    /// # Errors
    /// If they are not a descriptor set, or the set is incomplete (imports are missing),
    /// contradicts itself, uses an unknown edition, or is empty.
    pub fn decode(set: &[u8]) -> Result<Descriptors, SchemaError> {
        let files = set::files(set).map_err(|error| SchemaError::NotASet(error.to_string()))?;
        let types = resolve::resolve(&files).map_err(SchemaError::Contradicting)?;
        match types.messages.is_empty() {
            true => Err(SchemaError::Empty),
            false => Ok(Descriptors(Arc::new(types))),
        }
    }

    /// The schema of one message, by its full name, `site.Reading`.
    ///
    /// # Errors
    /// If there is no such message.
    pub fn schema(&self, message: &str) -> Result<Schema, SchemaError> {
        match self.0.names.get(message) {
            Some(&id) if !self.0.message(id).is_map_entry => Ok(Schema {
                types: self.0.clone(),
                id,
            }),
            _ => Err(self.no_message(message)),
        }
    }

    fn no_message(&self, message: &str) -> SchemaError {
        let messages = self.0.messages.iter().filter(|one| !one.is_map_entry);
        let names: Vec<String> = messages.map(|one| one.name.to_string()).collect();
        let last = |name: &str| name.rsplit('.').next().unwrap_or_default().to_owned();
        let likeness = |name: &String| match last(name) == last(message) {
            true => 1.0,
            false => strsim::normalized_damerau_levenshtein(name, message),
        };
        let nearest = names
            .iter()
            .max_by(|a, b| likeness(a).total_cmp(&likeness(b)))
            .filter(|name| likeness(name) >= LIKENESS_MIN);
        SchemaError::NoMessage {
            count: names.len(),
            nearest: nearest.cloned(),
        }
    }
}

/// Why a payload does not conform, for its sender: starts with the field's path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    pub text: String,
}

/// The payload would exceed its size limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untranslatable;

/// The schema of a topic's payloads. Cheap to clone.
#[derive(Clone)]
pub struct Schema {
    types: Arc<Types>,
    id: TypeId,
}

impl Schema {
    /// The message's full name.
    pub fn name(&self) -> &str {
        &self.types.message(self.id).name
    }

    /// Checks that a payload conforms.
    ///
    /// # Errors
    /// Which field does not conform, and why.
    pub fn check(&self, codec: Codec, payload: &[u8]) -> Result<Checked, Misfit> {
        let check = || match codec {
            Codec::Bytes => Err(Misfit {
                text: format!(
                    "payloads on this topic are {}: publish it as JSON (codec 1) or protobuf \
                     (codec 2)",
                    self.name()
                ),
            }),
            Codec::Json => self.check_json(payload),
            Codec::Protobuf => self.check_protobuf(payload),
        };
        catch_unwind(AssertUnwindSafe(check)).unwrap_or_else(|_| {
            Err(Misfit {
                text: format!("{}: the payload cannot be read", self.name()),
            })
        })
    }

    fn check_json(&self, payload: &[u8]) -> Result<Checked, Misfit> {
        let Ok(text) = str::from_utf8(payload) else {
            return Err(self.misfit(Fault::new("it is not UTF-8")));
        };
        let mut reader = Reader::new(&self.types, text);
        let read = reader.whole(self.id, LEVELS_MAX);
        let tree = read.map_err(|fault| self.misfit(fault))?;
        Ok(self.checked(tree, reader.values))
    }

    fn check_protobuf(&self, payload: &[u8]) -> Result<Checked, Misfit> {
        let mut decoder = Decoder::new(&self.types);
        let tree = decoder
            .message(self.id, payload, LEVELS_MAX)
            .and_then(|tree| {
                judge(&self.types, self.id, &tree, LEVELS_MAX)?;
                Ok(tree)
            });
        let tree = tree.map_err(|fault| self.misfit(fault))?;
        Ok(self.checked(tree, decoder.values))
    }

    fn checked(&self, tree: Tree, values: usize) -> Checked {
        Checked {
            schema: self.clone(),
            tree,
            values,
        }
    }

    #[cold]
    fn misfit(&self, fault: Fault) -> Misfit {
        let (name, problem) = (self.name(), fault.problem);
        Misfit {
            text: match fault.path.as_str() {
                "" => format!("{name}: {problem}"),
                path => format!("{path}: {problem} (of {name})"),
            },
        }
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Schema({})", self.name())
    }
}

/// A payload that conforms, parsed.
pub struct Checked {
    schema: Schema,
    tree: Tree,
    values: usize,
}

impl Checked {
    /// How many values it has: the cost of checking it grows with these rather than with its bytes.
    pub fn values(&self) -> usize {
        self.values
    }

    /// Appends the payload in a codec (`Bytes`: nothing), at most `bytes_max` bytes. Fields that
    /// the schema does not know are left out.
    ///
    /// # Errors
    /// If it would be larger; then nothing is appended.
    pub fn write(
        &self,
        codec: Codec,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Untranslatable> {
        let Schema { types, id } = &self.schema;
        let start = out.len();
        let write = || match codec {
            Codec::Bytes => Ok(()),
            Codec::Json => Writer::new(types, out, bytes_max).message(*id, &self.tree, LEVELS_MAX),
            Codec::Protobuf => Encoder::new(types, out, bytes_max).message(*id, &self.tree),
        };
        let written = catch_unwind(AssertUnwindSafe(write));
        if matches!(written, Ok(Ok(()))) && out.len() - start <= bytes_max {
            return Ok(());
        }
        out.truncate(start);
        Err(Untranslatable)
    }
}
