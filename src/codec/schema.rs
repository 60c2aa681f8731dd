//! One message of a descriptor set: whether a payload fits it, and the same in the other
//! codec.

use super::bounded::Bounded;
use super::depth::{LEVELS_MAX, is_too_deep};
use super::locate::{Fault, locate, problem};
use crate::proto::envelope::Codec;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor};
use serde::Serialize;
use std::collections::HashSet;
use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Levels of JSON that are never too deep as protobuf, in which one level of a
/// `google.protobuf.Struct` is three, of the 100 there may be.
const JSON_LEVELS_SAFE: usize = 32;

/// How alike a name must be to be what was probably meant, from 0 to 1.
const LIKENESS_MIN: f64 = 0.5;

/// A descriptor set that cannot be used, or has not the message. Displayed it completes
/// "schema_file …" or "message …".
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    #[error("holds no FileDescriptorSet: {0}")]
    NotASet(String),
    #[error("holds no message at all")]
    Empty,
    #[error("is not among the {count} messages of its schema_file")]
    NoMessage {
        count: usize,
        /// What was probably meant.
        nearest: Option<String>,
    },
}

/// The messages of one FileDescriptorSet.
pub struct Descriptors(DescriptorPool);

impl Descriptors {
    /// # Errors
    /// They are not a set's bytes, or the set is not whole (imports are missing), or empty.
    pub fn decode(set: &[u8]) -> Result<Descriptors, SchemaError> {
        let pool = DescriptorPool::decode(set);
        let pool = pool.map_err(|error| SchemaError::NotASet(error.to_string()))?;
        if pool.all_messages().len() == 0 {
            return Err(SchemaError::Empty);
        }
        Ok(Descriptors(pool))
    }

    /// The schema of one message, by its full name, `site.Reading`.
    ///
    /// # Errors
    /// There is no such message.
    pub fn schema(&self, message: &str) -> Result<Schema, SchemaError> {
        match self.0.get_message_by_name(message) {
            Some(found) if !found.is_map_entry() => Ok(Schema::new(found)),
            _ => Err(self.no_message(message)),
        }
    }

    fn no_message(&self, message: &str) -> SchemaError {
        let messages = self.0.all_messages().filter(|one| !one.is_map_entry());
        let names: Vec<String> = messages.map(|one| one.full_name().to_owned()).collect();
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

/// Why a payload does not fit, for whoever sent it: the field's path first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Misfit {
    pub text: String,
}

/// The payload would be larger than was allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Untranslatable;

/// What the payloads of a topic are. Cheap to clone.
#[derive(Clone)]
pub struct Schema {
    message: MessageDescriptor,
    /// Of types that JSON has a form of its own for, not for each value: a timestamp beyond
    /// the year 9999. Then what came in protobuf is only known to fit once it is written.
    has_special_forms: bool,
}

impl Schema {
    fn new(message: MessageDescriptor) -> Schema {
        Schema {
            has_special_forms: has_special_forms(&message),
            message,
        }
    }

    /// The message's full name.
    pub fn name(&self) -> &str {
        self.message.full_name()
    }

    /// Whether a payload fits.
    ///
    /// # Errors
    /// Which field does not, and why.
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
        let message = match read_json(&self.message, payload) {
            Ok(message) => message,
            Err(_) => return Err(self.json_misfit(payload)),
        };
        if json_levels(payload) > JSON_LEVELS_SAFE {
            self.check_depth(&message.encode_to_vec())?;
        }
        Ok(Checked(message))
    }

    /// Reads it again, this time noting where.
    #[cold]
    fn json_misfit(&self, payload: &[u8]) -> Misfit {
        let mut json = serde_json::Deserializer::from_slice(payload);
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(&mut json, &mut track);
        match DynamicMessage::deserialize(self.message.clone(), tracked) {
            Err(error) => {
                let path = track.path().to_string();
                // A dot is the whole, a question mark what came no further.
                let path = path.trim_end_matches(['.', '?']);
                self.misfit(path, &error.to_string())
            }
            Ok(_) => {
                let error = json.end().err();
                self.misfit("", &error.map_or(String::new(), |error| error.to_string()))
            }
        }
    }

    fn check_depth(&self, protobuf: &[u8]) -> Result<(), Misfit> {
        match is_too_deep(&self.message, protobuf) {
            true => {
                let problem = format!("more levels than protobuf may have, {LEVELS_MAX}");
                Err(self.misfit("", &problem))
            }
            false => Ok(()),
        }
    }

    fn check_protobuf(&self, payload: &[u8]) -> Result<Checked, Misfit> {
        self.check_depth(payload)?;
        let message = DynamicMessage::decode(self.message.clone(), payload).map_err(|error| {
            let fault = locate(&self.message, payload).unwrap_or_else(|| Fault {
                path: String::new(),
                problem: problem(&error),
            });
            self.misfit(&fault.path, &fault.problem)
        })?;
        if self.has_special_forms {
            let mut json = serde_json::Serializer::new(io::sink());
            let written = message.serialize(&mut json);
            written.map_err(|error| self.misfit("", &error.to_string()))?;
        }
        Ok(Checked(message))
    }

    fn misfit(&self, path: &str, problem: &str) -> Misfit {
        let name = self.name();
        Misfit {
            text: match path {
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

/// A payload that fits, taken apart.
pub struct Checked(DynamicMessage);

impl Checked {
    /// Appends the payload in a codec (`Bytes`: nothing), `bytes_max` bytes of it at most.
    ///
    /// # Errors
    /// It would be larger; part of it may have been appended.
    pub fn write(
        &self,
        codec: Codec,
        bytes_max: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Untranslatable> {
        let write = || match codec {
            Codec::Bytes => Ok(()),
            Codec::Json => {
                let mut json = serde_json::Serializer::new(Bounded::new(out, bytes_max));
                self.0.serialize(&mut json).map_err(|_| Untranslatable)
            }
            Codec::Protobuf if self.0.encoded_len() > bytes_max => Err(Untranslatable),
            Codec::Protobuf => self.0.encode(out).map_err(|_| Untranslatable),
        };
        catch_unwind(AssertUnwindSafe(write)).unwrap_or(Err(Untranslatable))
    }
}

fn read_json(message: &MessageDescriptor, payload: &[u8]) -> serde_json::Result<DynamicMessage> {
    let mut json = serde_json::Deserializer::from_slice(payload);
    let read = DynamicMessage::deserialize(message.clone(), &mut json)?;
    json.end()?;
    Ok(read)
}

/// How deep lists and objects stand in each other.
fn json_levels(payload: &[u8]) -> usize {
    let (mut levels, mut most, mut quoted, mut escaped) = (0usize, 0, false, false);
    for byte in payload {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b'{' | b'[' if !quoted => {
                levels += 1;
                most = most.max(levels);
            }
            b'}' | b']' if !quoted => levels = levels.saturating_sub(1),
            _ => {}
        }
    }
    most
}

/// Whether one of Google's own types is in the message, or in one within it.
fn has_special_forms(message: &MessageDescriptor) -> bool {
    let mut seen = HashSet::new();
    let mut ahead = vec![message.clone()];
    while let Some(one) = ahead.pop() {
        if one.full_name().starts_with("google.protobuf.") {
            return true;
        }
        if seen.insert(one.full_name().to_owned()) {
            let inner = one.fields().filter_map(|field| match field.kind() {
                Kind::Message(inner) => Some(inner),
                _ => None,
            });
            ahead.extend(inner);
        }
    }
    false
}
