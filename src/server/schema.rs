//! `[[topic]]`: loads the schemas that the configuration names, and reports everything wrong with
//! them.
//!
//! The same steps check the configuration (`config::check`) and start the server. The files are
//! read once at the start; each shard then builds its own schemas from their contents.

use super::access::Fault;
use super::config::{Config, ConfigError, ConfigErrors, Origin, Topic};
use crate::base::file;
use crate::broker::{Demand, Schemas};
use crate::codec::{Descriptors, Schema, SchemaError};
use crate::proto::name::check_filter;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

/// Bytes of a schema file: hundreds of times as many as a large project's file has.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// How to make a usable file.
const REMEDY: &str = "make it with `protoc --include_imports --descriptor_set_out=FILE NAME.proto`";

/// The topics that have schemas, ready to be built on each shard.
pub struct SchemaTopics {
    /// The contents of each file.
    sets: Vec<Vec<u8>>,
    topics: Vec<SchemaTopic>,
    demand: Arc<Demand>,
}

struct SchemaTopic {
    filter: String,
    /// Its index among the sets.
    set: usize,
    message: String,
}

impl SchemaTopics {
    /// One shard's schemas.
    ///
    /// # Errors
    /// Only errors that `load` would have found.
    pub(super) fn build(&self, message_bytes_max: u32) -> Result<Schemas, SchemaError> {
        let sets = self.sets.iter().map(|set| Descriptors::decode(set));
        let sets = sets.collect::<Result<Vec<_>, _>>()?;
        let built = |topic: &SchemaTopic| -> Result<(String, Schema), SchemaError> {
            Ok((
                topic.filter.clone(),
                sets[topic.set].schema(&topic.message)?,
            ))
        };
        let topics = self.topics.iter().map(built);
        let topics = topics.collect::<Result<Vec<_>, _>>()?;
        Ok(Schemas::new(topics, self.demand.clone(), message_bytes_max))
    }
}

/// Reads what `[[topic]]` names; `None`: no topic has a schema.
///
/// # Errors
/// Everything wrong with it.
pub fn load(config: &Config) -> Result<Option<SchemaTopics>, ConfigErrors> {
    let (topics, faults) = read(config);
    let errors: Vec<ConfigError> = faults
        .into_iter()
        .map(|(_, fault)| ConfigError {
            origin: Origin::Configuration,
            key: fault.key,
            problem: fault.problem,
            remedy: fault.remedy,
        })
        .collect();
    match errors.is_empty() {
        true => Ok(Some(topics).filter(|topics| !topics.topics.is_empty())),
        false => Err(ConfigErrors::new(errors)),
    }
}

/// Every fault, each with its row, `topic.0`.
pub(super) fn faults(config: &Config) -> Vec<(String, Fault)> {
    read(config).1
}

fn read(config: &Config) -> (SchemaTopics, Vec<(String, Fault)>) {
    let mut reader = Reading::default();
    for (index, topic) in config.topic.iter().enumerate() {
        reader.take(&format!("topic.{index}"), topic);
    }
    let topics = SchemaTopics {
        sets: reader.sets,
        topics: reader.topics,
        demand: Arc::default(),
    };
    (topics, reader.faults)
}

#[derive(Default)]
struct Reading<'a> {
    sets: Vec<Vec<u8>>,
    /// For each file: its index among the sets, and its messages. `None`: it is invalid, which has
    /// been reported.
    files: HashMap<&'a str, Option<(usize, Descriptors)>>,
    filters: HashMap<&'a str, String>,
    topics: Vec<SchemaTopic>,
    faults: Vec<(String, Fault)>,
}

impl<'a> Reading<'a> {
    fn take(&mut self, row: &str, topic: &'a Topic) {
        let filter = self.take_filter(row, &topic.filter);
        let Some(set) = self.take_set(row, &topic.schema_file, &topic.message) else {
            return;
        };
        if filter {
            self.topics.push(SchemaTopic {
                filter: topic.filter.clone(),
                set,
                message: topic.message.clone(),
            });
        }
    }

    fn fault(&mut self, row: &str, key: &str, problem: &str, remedy: impl Into<String>) {
        let key = format!("{row}.{key}");
        let fault = Fault {
            problem: format!("{key} {problem}"),
            key,
            remedy: remedy.into(),
        };
        self.faults.push((row.to_owned(), fault));
    }

    fn take_filter(&mut self, row: &str, filter: &'a str) -> bool {
        let remedy = "write a topic filter such as \"site/+/reading\"";
        if filter.is_empty() {
            self.fault(row, "filter", "is not set", remedy);
        } else if let Err(refusal) = check_filter(filter) {
            let problem = format!("{filter:?} is not a filter: {}", refusal.text);
            self.fault(row, "filter", &problem, remedy);
        } else if filter.starts_with('$') {
            let problem = format!(
                "{filter:?} starts with $, which is reserved for the server: \
                                   nobody can publish there"
            );
            self.fault(row, "filter", &problem, remedy);
        } else if let Some(first) = self.filters.get(filter) {
            let problem = format!("{filter:?} is already in {first}, which takes precedence");
            self.fault(row, "filter", &problem, "remove one of them");
        } else {
            self.filters.insert(filter, row.to_owned());
            return true;
        }
        false
    }

    /// The index of a file's set, if it has the message.
    fn take_set(&mut self, row: &str, path: &'a str, message: &str) -> Option<usize> {
        if path.is_empty() {
            let problem = "is not set";
            self.fault(row, "schema_file", problem, REMEDY);
            return None;
        }
        if !self.files.contains_key(path) {
            let read = self.read(row, path);
            self.files.insert(path, read);
        }
        let (set, descriptors) = self.files.get(path)?.as_ref()?;
        let set = *set;
        if let Err(error) = descriptors.schema(message) {
            let nearest = match &error {
                SchemaError::NoMessage { nearest, .. } => nearest.as_deref(),
                SchemaError::NotASet(_) | SchemaError::Empty | SchemaError::Contradicting(_) => {
                    None
                }
            };
            let remedy = match nearest {
                Some(nearest) => format!("did you mean {nearest:?}?"),
                None => "name a message with its package, such as \"site.Reading\"".to_owned(),
            };
            let problem = match message {
                "" => "is not set".to_owned(),
                name => format!("{name:?} {error}"),
            };
            self.fault(row, "message", &problem, remedy);
            return None;
        }
        Some(set)
    }

    fn read(&mut self, row: &str, path: &str) -> Option<(usize, Descriptors)> {
        let problem = match file::read(Path::new(path), FILE_BYTES_MAX) {
            Err(error) => format!("{path:?} cannot be read: {error}"),
            Ok(set) => match Descriptors::decode(&set) {
                Ok(descriptors) => {
                    self.sets.push(set);
                    return Some((self.sets.len() - 1, descriptors));
                }
                Err(error) => format!("{path:?} {error}"),
            },
        };
        self.fault(row, "schema_file", &problem, REMEDY);
        None
    }
}
