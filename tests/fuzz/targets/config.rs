//! A configuration in TOML: what is refused is one line each, at a place that there is, with key
//! and remedy; what is accepted is written again as what it is, and reads as the same.

use ringmail::server::config::{Config, ConfigError, Origin};

pub fn run(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let config = match Config::from_toml(text) {
        Ok(config) => config,
        Err(errors) => {
            assert!(errors.iter().count() > 0, "refused for nothing");
            let lines = text.split('\n').count();
            errors.iter().for_each(|error| check(error, lines));
            let told = errors.to_string();
            assert_eq!(told.lines().count(), errors.iter().count(), "{told}");
            return;
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
