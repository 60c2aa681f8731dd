//! The types a single value can have: how each is read from TOML, printed, and described in errors.
//!
//! Not serde: its messages name Rust types ("expected u32") and repeat what was written,
//! secrets included; and it stops at the first error.

use std::fmt;
use std::net::SocketAddr;
use std::ops::RangeInclusive;

use toml::Value;
use toml::de::DeValue;

/// A type of value. To add one: describe it, read it, write it.
pub trait Setting: Clone + PartialEq {
    /// Completes "expected …".
    const EXPECTED: &'static str;
    /// What was written must not be repeated in a message.
    const SECRET: bool = false;
    /// Its key also exists as `KEY_file`, the path of a file that holds the value.
    const FROM_FILE: bool = false;

    fn read(value: &DeValue<'_>) -> Option<Self>;
    fn write(&self) -> Value;
}

macro_rules! integer {
    ($($type:ty: $expected:literal,)*) => {$(
        impl Setting for $type {
            const EXPECTED: &'static str = $expected;

            fn read(value: &DeValue<'_>) -> Option<Self> {
                let integer = value.as_integer()?;
                <$type>::from_str_radix(integer.as_str(), integer.radix()).ok()
            }

            fn write(&self) -> Value {
                Value::Integer(i64::try_from(*self).unwrap_or(i64::MAX))
            }
        }
    )*};
}

integer! {
    u32: "a whole number from 0 to 4294967295",
    u64: "a whole number, not negative",
}

impl Setting for f64 {
    const EXPECTED: &'static str = "a number";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        match value {
            DeValue::Float(float) => float.as_str().parse().ok(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str().parse().ok(),
            _ => None,
        }
    }

    fn write(&self) -> Value {
        Value::Float(*self)
    }
}

impl Setting for bool {
    const EXPECTED: &'static str = "true or false";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_bool()
    }

    fn write(&self) -> Value {
        Value::Boolean(*self)
    }
}

impl Setting for String {
    const EXPECTED: &'static str = "a string";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(str::to_owned)
    }

    fn write(&self) -> Value {
        Value::String(self.clone())
    }
}

impl Setting for SocketAddr {
    const EXPECTED: &'static str = "an IP address and a port, such as \"127.0.0.1:7411\"";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_str()?.parse().ok()
    }

    fn write(&self) -> Value {
        Value::String(self.to_string())
    }
}

impl Setting for Option<SocketAddr> {
    const EXPECTED: &'static str =
        "an IP address and a port, such as \"127.0.0.1:7412\", or \"\" for none";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        match value.as_str()? {
            "" => Some(None),
            address => address.parse().ok().map(Some),
        }
    }

    fn write(&self) -> Value {
        Value::String(self.map(|a| a.to_string()).unwrap_or_default())
    }
}

fn read_list<T: Setting>(value: &DeValue<'_>) -> Option<Vec<T>> {
    let items = value.as_array()?.iter();
    items.map(|item| T::read(item.get_ref())).collect()
}

fn write_list<T: Setting>(list: &[T]) -> Value {
    Value::Array(list.iter().map(Setting::write).collect())
}

impl Setting for Vec<String> {
    const EXPECTED: &'static str = "a list of strings, such as [\"a\", \"b\"]";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        read_list(value)
    }

    fn write(&self) -> Value {
        write_list(self)
    }
}

/// A secret text: printing it, in whatever way, shows only whether it is set. Empty means not set.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Secret(String);

impl Secret {
    /// The text itself; the caller must not let it leak.
    pub fn expose(&self) -> &str {
        &self.0
    }

    pub fn is_set(&self) -> bool {
        !self.0.is_empty()
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Secret {
        Secret(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_set() {
            "(redacted)"
        } else {
            "(unset)"
        })
    }
}

impl Setting for Secret {
    const EXPECTED: &'static str = "a string";
    const SECRET: bool = true;
    const FROM_FILE: bool = true;

    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(|text| Secret(text.to_owned()))
    }

    fn write(&self) -> Value {
        Value::from(if self.is_set() { "(redacted)" } else { "" })
    }
}

/// A public key in PEM.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Pem(pub String);

impl Setting for Pem {
    const EXPECTED: &'static str = "a string in PEM";
    const FROM_FILE: bool = true;

    fn read(value: &DeValue<'_>) -> Option<Self> {
        value.as_str().map(|text| Pem(text.to_owned()))
    }

    fn write(&self) -> Value {
        Value::String(self.0.clone())
    }
}

/// The cores that get a shard, one each, pinned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shards {
    /// Every core this process may run on.
    All,
    /// `"0-3"`, both included.
    Range(RangeInclusive<u32>),
    /// `[0, 2]`, in this order.
    List(Vec<u32>),
}

impl Shards {
    /// How many shards this asks for; `None` with [`Shards::All`], whose number depends on the
    /// host.
    pub fn count(&self) -> Option<usize> {
        match self {
            Shards::All => None,
            Shards::Range(range) => Some(range.clone().count()),
            Shards::List(cores) => Some(cores.len()),
        }
    }
}

impl Setting for Shards {
    const EXPECTED: &'static str =
        "\"all\", a range of cores \"0-3\", one core \"2\" or a list of cores [0, 2]";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        if value.is_array() {
            return read_list(value).map(Shards::List);
        }
        if value.as_str()? == "all" {
            return Some(Shards::All);
        }
        // A single core, as typed on a command line, is a range of one.
        let text = value.as_str()?;
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Some(Shards::Range(first.parse().ok()?..=last.parse().ok()?))
    }

    fn write(&self) -> Value {
        match self {
            Shards::All => Value::from("all"),
            Shards::Range(range) => Value::from(format!("{}-{}", range.start(), range.end())),
            Shards::List(cores) => write_list(cores),
        }
    }
}

/// Where the control and stats threads run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlCore {
    /// On any core that no shard has taken.
    Any,
    Core(u32),
}

impl Setting for ControlCore {
    const EXPECTED: &'static str = "\"any\" or the number of a core";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        match value.as_str() {
            Some("any") => Some(ControlCore::Any),
            Some(_) => None,
            None => u32::read(value).map(ControlCore::Core),
        }
    }

    fn write(&self) -> Value {
        match self {
            ControlCore::Any => Value::from("any"),
            ControlCore::Core(core) => core.write(),
        }
    }
}

/// Enums that are written as one of a few words.
macro_rules! choice {
    ($($(#[$meta:meta])* $name:ident ($expected:literal) {
        $($(#[$doc:meta])* $variant:ident = $word:literal,)*
    })*) => {$(
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$doc])* $variant,)* }

        impl $name {
            /// The word for it in the configuration.
            pub const fn word(self) -> &'static str {
                match self { $($name::$variant => $word,)* }
            }
        }

        impl Setting for $name {
            const EXPECTED: &'static str = $expected;

            fn read(value: &DeValue<'_>) -> Option<Self> {
                match value.as_str()? {
                    $($word => Some($name::$variant),)*
                    _ => None,
                }
            }

            fn write(&self) -> Value {
                Value::from(self.word())
            }
        }
    )*};
}

choice! {
    /// Which shard gets a new connection.
    Balance("\"least-connections\" or \"reuseport\"") {
        /// A shard with clearly more connections than the emptiest passes it on.
        LeastConnections = "least-connections",
        /// Left to the kernel's hash.
        Reuseport = "reuseport",
    }
    /// What happens to a consumer whose outbox is full.
    Policy("\"disconnect\", \"drop-oldest\", \"drop-newest\" or \"latest-per-key\"") {
        Disconnect = "disconnect",
        DropOldest = "drop-oldest",
        DropNewest = "drop-newest",
        LatestPerKey = "latest-per-key",
    }
    /// Whether TLS is spoken (PROTOCOL.md §4).
    TlsMode("\"off\", \"optional\" or \"required\"") {
        Off = "off",
        /// Plain and TLS on the same port, told apart by the first byte.
        Optional = "optional",
        Required = "required",
    }
    /// Whether a client must authenticate.
    AuthMode("\"none\", \"optional\" or \"required\"") {
        None = "none",
        /// A client without a credential gets the roles of `auth.anonymous`; not supported yet.
        Optional = "optional",
        Required = "required",
    }
    /// Where shared durable and retained messages are stored.
    Engine("\"embedded\" or \"jetstream\"") {
        Embedded = "embedded",
        JetStream = "jetstream",
    }
    /// When what was stored is synced to the disk.
    Sync("\"always\" or \"interval\"") {
        Always = "always",
        Interval = "interval",
    }
    /// How access tokens are signed.
    Algorithm("\"HS256\", \"RS256\", \"ES256\" or \"EdDSA\"") {
        Hs256 = "HS256",
        Rs256 = "RS256",
        Es256 = "ES256",
        EdDsa = "EdDSA",
    }
    /// How a log line looks.
    LogFormat("\"auto\", \"json\" or \"text\"") {
        /// Text on a terminal, JSON otherwise.
        Auto = "auto",
        Json = "json",
        Text = "text",
    }
}

impl Setting for Vec<Algorithm> {
    const EXPECTED: &'static str = "a list of \"HS256\", \"RS256\", \"ES256\" and \"EdDSA\"";

    fn read(value: &DeValue<'_>) -> Option<Self> {
        read_list(value)
    }

    fn write(&self) -> Value {
        write_list(self)
    }
}
