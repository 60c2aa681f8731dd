//! Keys that this version knows but does not support yet.

/// Keys and sections that are read and checked, but whose features this version does not have yet:
/// any value but the default, or those listed beside it, is refused. Implementing a feature means
/// removing its line.
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
