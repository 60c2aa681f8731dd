//! A configuration in TOML: what is refused is one line each, at a place that there is, with key
//! and remedy; what is accepted is written again as what it is, and reads as the same.
//!
//! A text is either the input's own, or built of it: known keys, each with a value that some key
//! takes. Of a built text it is known where each key stands, which is where it has to be refused,
//! and which number it was given, which is what has to be in force.

use super::Draw;
use ringmail::server::config::{Config, ConfigError, Origin};
use std::collections::BTreeMap;
use std::sync::LazyLock;

const KEYS_PER_TEXT_MAX: usize = 24;

#[rustfmt::skip]
const VALUES: &[&str] = &[
    "0", "1", "2", "8", "10", "11", "64", "256", "1000", "1024", "4096", "65535", "65536", "1048576",
    "4194304", "16777216", "86400000", "86400001", "4294967295", "4294967296", "17592186044416", "-1",
    "0x10", "1_000", "1.0", "0.5", "nan", "true", "false", "[]", "{}", "[0, 2]", "[1, 1]", "2026-01-01",
    "''", "'all'", "'0-1'", "'9-'", "'any'", "'x'", "'127.0.0.1:7411'", "'[::1]:0'", "'off'",
    "'none'", "'optional'", "'required'", "'least-connections'", "'reuseport'", "'drop-oldest'",
    "'latest-per-key'", "['HS256']", "['RS256', 'EdDSA']", "'auto'", "'json'", "'info'",
    "'info,x=debug'", "'info,x=loud'", "'http://127.0.0.1:4318'", "'grpc://x'", "'https://a/jwks'",
    "'http://a/jwks'", "['a/#', 'b/{principal}']", "['a/#/b']", "['r', 's']", "['10.0.0.0/8']",
    "['10.0.0.0/33']", "['::/0', '1.2.3.4']", "'a secret that is long enough for HS256'",
    "'0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'", "'0123'", "'e/#'",
    "'tests/schema/event.binpb'", "'mapping.Scalars'", "'site.Event'", "'-----BEGIN PUBLIC KEY-----'",
];

/// All keys, of two roles and of two shards.
static KEYS: LazyLock<Vec<String>> = LazyLock::new(|| {
    let two = |key: String| {
        let one = |name, number: &str| key.replace("NAME", name).replace(".N.", number);
        let [one, other] = [one("r", ".0."), one("s", ".7.")];
        [Some(one.clone()), (other != one).then_some(other)]
    };
    let keys = Config::known_keys().into_iter().flat_map(two);
    keys.flatten().collect()
});

pub fn run(input: &[u8]) {
    let mut draw = Draw::new(input);
    if !draw.bool() {
        if let Ok(text) = std::str::from_utf8(draw.rest()) {
            let _ = claims(text);
        }
        return;
    }
    let built = Built::new(&mut draw);
    match claims(&built.text) {
        Ok(config) => built.check_in_force(&config),
        Err(errors) => errors.iter().for_each(|error| built.check_place(error)),
    }
}

/// What holds for any text.
fn claims(text: &str) -> Result<Config, Vec<ConfigError>> {
    let config = match Config::from_toml(text) {
        Ok(config) => config,
        Err(errors) => {
            assert!(errors.iter().count() > 0, "refused for nothing");
            let lines = text.split('\n').count();
            errors.iter().for_each(|error| check(error, lines));
            let told = errors.to_string();
            assert_eq!(told.lines().count(), errors.iter().count(), "{told}");
            return Err(errors.iter().cloned().collect());
        }
    };
    let written = config.to_toml();
    // Secrets are not written, and without them not every configuration holds.
    if let Ok(again) = Config::from_toml(&written) {
        assert_eq!(again.to_toml(), written);
        assert_eq!(again.digest(), config.digest());
    } else {
        assert!(
            text.contains("auth"),
            "what was written is refused:\n{written}"
        );
    }
    if let Ok(cores) = config.cores_of(&[0, 1, 2, 3]) {
        assert!(!cores.is_empty() && cores.iter().all(|core| *core < 4));
    }
    Ok(config)
}

fn check(error: &ConfigError, lines: usize) {
    assert!(
        !error.problem.is_empty() && !error.remedy.is_empty(),
        "{error}"
    );
    let told = error.to_string();
    assert!(!told.contains(char::is_control), "{told:?}");
    match &error.origin {
        Origin::File { line, column, .. } => {
            assert!(*line <= lines && (*line == 0 || *column > 0), "{told}");
        }
        Origin::Configuration => {}
        other => panic!("{other:?} has said nothing"),
    }
}

/// A text that is TOML, and the line of each key in it.
struct Built {
    text: String,
    lines: BTreeMap<String, usize>,
    /// Sections without rows, and what each of their keys was given.
    sections: BTreeMap<String, BTreeMap<String, &'static str>>,
}

impl Built {
    fn new(draw: &mut Draw<'_>) -> Built {
        let mut sections: BTreeMap<String, BTreeMap<String, &str>> = BTreeMap::new();
        let mut rows: Vec<(&str, BTreeMap<String, &str>)> = Vec::new();
        for _ in 0..KEYS_PER_TEXT_MAX {
            if draw.is_empty() {
                break;
            }
            let path = draw.pick(&KEYS);
            let (section, key) = path.rsplit_once('.').expect("each is in a section");
            let value = draw.word(VALUES);
            if !["topic", "auth.api_key"].contains(&section) {
                let section = sections.entry(section.to_owned()).or_default();
                section.insert(key.to_owned(), value);
                continue;
            }
            // A row has each key once: with the second another row begins.
            let mut known = rows.iter_mut().rev();
            match known.find(|row| row.0 == section && !row.1.contains_key(key)) {
                Some((_, row)) => drop(row.insert(key.to_owned(), value)),
                None => rows.push((section, BTreeMap::from([(key.to_owned(), value)]))),
            }
        }
        let mut built = Built {
            text: String::new(),
            lines: BTreeMap::new(),
            sections: BTreeMap::new(),
        };
        for (section, keys) in &sections {
            built.text.push_str(&format!("[{section}]\n"));
            built.add(section, keys);
        }
        let mut counts = BTreeMap::new();
        for (section, keys) in &rows {
            let count = counts.entry(section).or_insert(0);
            built.text.push_str(&format!("[[{section}]]\n"));
            built.add(&format!("{section}.{count}"), keys);
            *count += 1;
        }
        Built { sections, ..built }
    }

    fn add(&mut self, section: &str, keys: &BTreeMap<String, &str>) {
        for (key, value) in keys {
            self.text.push_str(&format!("{key} = {value}\n"));
            let line = self.text.lines().count();
            self.lines.insert(format!("{section}.{key}"), line);
        }
    }

    /// A key is refused where it stands.
    fn check_place(&self, error: &ConfigError) {
        if let Origin::File { line, .. } = &error.origin
            && let Some(expected) = self.lines.get(&error.key)
        {
            assert_eq!(line, expected, "{error}:\n{}", self.text);
        }
    }

    /// Numbers are in force as they were given; what a shard has is beside it.
    fn check_in_force(&self, config: &Config) {
        let written = config.to_toml();
        for (section, keys) in &self.sections {
            let header = format!("\n[{section}]\n");
            if section.starts_with("shard.") || !written.contains(&header) {
                continue;
            }
            let (_, rest) = written.split_once(&header).expect("it is there");
            let own = rest.split("\n[").next().unwrap_or(rest);
            for (key, value) in keys {
                let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
                let line = format!("{key} = {value}");
                assert!(
                    !is_number || own.lines().any(|one| one == line),
                    "{line} is not in force:\n{written}"
                );
            }
        }
    }
}
