//! Keys that this version knows but does not support yet.

/// Keys and sections that are read and checked, but ask for what this version cannot do
/// yet: anything but the default, or one of the values beside it, is refused. Whoever
/// builds it takes its line out.
pub const NOT_YET: &[(&str, &[&str])] = &[
    ("server.advertise", &[]),
    ("auth.mode", &["required"]),
    ("auth.anonymous", &[]),
    ("mqtt", &[]),
    ("websocket", &[]),
    ("store", &[]),
    ("nats", &[]),
];

/// Whether the key or section at `path` has no meaning yet: then it is not printed either.
pub fn is_unsupported(path: &str) -> bool {
    NOT_YET
        .iter()
        .any(|(key, values)| *key == path && values.is_empty())
}
