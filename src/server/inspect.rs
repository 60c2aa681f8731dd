//! `ringmail check`: reads everything that a server reads before it starts, with the same
//! functions. It does not look at what depends on the host (cores, ports, the state directory),
//! and fetches nothing.

use super::boot::Error;
use super::config::{self, Config};
use super::{access, certificate, control, schema, trace};

/// Checks that a server can start with this configuration and the files it names. Returns warnings,
/// one line each.
///
/// # Errors
/// The error that the server would end with.
pub fn inspect(config: &Config) -> Result<Vec<String>, Error> {
    certificate::check(config)?;
    schema::load(config)?;
    let mut notes = control::inspect(config)?;
    notes.extend(config::warnings(config));
    notes.extend(certificate::warnings(config));
    notes.extend(access::warnings(config));
    notes.extend(trace::notes(config, trace::environment));
    notes.extend(trace::ignored(config, trace::environment));
    Ok(notes)
}
