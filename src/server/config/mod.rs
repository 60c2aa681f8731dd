//! The configuration: TOML file, environment and flags become one checked [`Config`].
//!
//! - `schema`: the keys, one line each. The place to add one.
//! - `later`: keys that are known but not supported yet.
//! - `rule`: what a single value must be; `check`: what holds between keys; `unsupported`:
//!   what is not built yet.
//! - `setting`: the types of values; `section`: how the schema is read; `ledger`: the errors found;
//!   `source`: file, environment and flags; `tree`: printing; `error`: the form of an error.
//!
//! Precedence: flag > `RINGMAIL__SECTION__KEY` > file > OTEL_* (see `otel`) > default. `[shard.N.limits]` is laid
//! over `[limits]` whatever source that came from: the special beats the general. Each key whose
//! text someone may want to keep in a separate file also exists as `KEY_file` (a path, relative
//! to the working directory).
//!
//! Invariants: every error is reported, not only the first; no message repeats a secret;
//! no key is ignored.
//!
//! Of the host, it only reads the files of `[[topic]]`, because the message named there must be
//! in them. Whether the cores, the memory and the port are available is checked at boot
//! ([`Config::cores_of`], `server::budget`).

mod check;
mod error;
mod later;
mod ledger;
mod otel;
mod rule;
mod schema;
mod section;
mod setting;
mod source;
mod tree;
mod unsupported;

pub(super) use check::warnings;
pub use error::{ConfigError, ConfigErrors, Origin};
pub use rule::is_log_level;
pub use schema::*;
pub use setting::{
    Algorithm, AuthMode, Balance, ControlCore, LogFormat, Pem, Policy, Secret, Shards, TlsMode,
};
pub use source::{ENVIRONMENT_PREFIX, Flag, Sources};

use aws_lc_rs::digest::{SHA256, digest};
use ledger::Ledger;
use section::{Node, Reader};
use source::{Layer, same_line};
use toml::Spanned;
use toml::de::DeValue;

use crate::base::id::ShardId;

impl Config {
    /// Reads and checks all sources.
    ///
    /// # Errors
    /// All errors of all sources, in the order of their places.
    pub fn load(sources: &Sources) -> Result<Config, ConfigErrors> {
        let mut ledger = Ledger::default();
        let file = source::file(sources, &mut ledger);
        let mut layers = otel::layers(sources);
        if let Some((name, text)) = &file {
            layers.push(Layer::of_toml(name, text, &mut ledger));
        }
        layers.extend(source::texts(sources, &mut ledger));
        Config::merged(&layers, ledger)
    }

    /// Reads and checks one TOML text, without environment or flags.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn from_toml(text: &str) -> Result<Config, ConfigErrors> {
        let mut ledger = Ledger::default();
        let layer = Layer::of_toml("<toml>", text, &mut ledger);
        Config::merged(&[layer], ledger)
    }

    fn merged(layers: &[Layer<'_>], mut ledger: Ledger) -> Result<Config, ConfigErrors> {
        let mut config = Config::default();
        let syntax = ledger.errors.clone();
        for layer in layers {
            let part = only(&layer.table, |key| key != "shard");
            config.merge(
                &part,
                &mut Reader::new::<Config>(&layer.source, &mut ledger),
            );
        }
        config.shard.base = config.limits.clone();
        for layer in layers {
            let part = only(&layer.table, |key| key == "shard");
            config.merge(
                &part,
                &mut Reader::new::<Config>(&layer.source, &mut ledger),
            );
        }
        check::check(&config, syntax.is_empty(), &mut ledger);
        // An error that the parser derives from a line it did not understand is not reported.
        let is_guess = |error: &ConfigError| {
            !syntax.contains(error) && syntax.iter().any(|s| same_line(&s.origin, &error.origin))
        };
        ledger.errors.retain(|error| !is_guess(error));
        if ledger.errors.is_empty() {
            Ok(config)
        } else {
            Err(ConfigErrors::new(ledger.errors))
        }
    }

    /// The limits of one shard.
    pub fn limits_of(&self, shard: ShardId) -> &Limits {
        let special = self.shard.shards.get(&shard.0);
        special.map_or(&self.limits, |special| &special.limits)
    }

    /// The core of each shard, in the order of the shards, from the available cores.
    ///
    /// # Errors
    /// If a requested core does not exist, or a `[shard.N]` has no shard.
    pub fn cores_of(&self, available: &[u32]) -> Result<Vec<u32>, ConfigErrors> {
        let cores: Vec<u32> = match &self.server.shards {
            Shards::All => available.to_vec(),
            Shards::Range(range) => range.clone().collect(),
            Shards::List(cores) => cores.clone(),
        };
        let error = |key: &str, problem: String, remedy: String| ConfigError {
            origin: Origin::Configuration,
            key: key.to_owned(),
            problem,
            remedy,
        };
        let there = || format!("this process may run on cores {available:?}");
        let mut errors = Vec::new();
        for core in cores.iter().filter(|core| !available.contains(core)) {
            let problem = format!(
                "server.shards names core {core}, which this process does not \
                                   have"
            );
            errors.push(error("server.shards", problem, there()));
        }
        if let ControlCore::Core(core) = self.server.control_core
            && !available.contains(&core)
        {
            let problem = format!(
                "server.control_core is {core}, a core that this process does \
                                   not have"
            );
            errors.push(error("server.control_core", problem, there()));
        }
        for number in self.shard.shards.keys() {
            if usize::from(*number) >= cores.len() {
                let problem = format!("[shard.{number}] matches no shard");
                let remedy = format!("there are {} shards, numbered from 0", cores.len());
                errors.push(error(&format!("shard.{number}"), problem, remedy));
            }
        }
        if errors.is_empty() {
            Ok(cores)
        } else {
            Err(ConfigErrors::new(errors))
        }
    }

    /// The configuration in force as TOML, in the order of the schema, secrets redacted,
    /// without the keys that are not supported yet.
    pub fn to_toml(&self) -> String {
        self.tree().without(&unsupported::is_unsupported).to_toml()
    }

    /// A digest of this configuration, 16 hexadecimal digits: two servers with the same digest are
    /// configured alike, except for secrets, which are not in it.
    pub fn digest(&self) -> String {
        let digest = digest(&SHA256, self.to_toml().as_bytes());
        let bytes = digest.as_ref().iter().take(8);
        bytes.map(|byte| format!("{byte:02x}")).collect()
    }

    /// The full path of every key there is, `limits.connections_max`; NAME and N stand for
    /// what the operator names.
    pub fn known_keys() -> Vec<String> {
        let mut keys = Vec::new();
        <Config as Node>::keys("", &mut keys);
        keys
    }
}

/// The sections of `table` that `wanted` names.
fn only<'t>(table: &Spanned<DeValue<'t>>, wanted: impl Fn(&str) -> bool) -> Spanned<DeValue<'t>> {
    let sections = table.get_ref().as_table().into_iter().flatten();
    let part = sections
        .filter(|(key, _)| wanted(key.get_ref()))
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect();
    Spanned::new(table.span(), DeValue::Table(part))
}
