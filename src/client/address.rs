//! A server's address: `host:port`, optionally preceded by `ringmail://`, or `ringmails://` for
//! TLS.
//!
//! Syntax only: a name is resolved again for each connection.

use super::error::Error;

/// An address as the user wrote it, parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    /// A name or an IP address, without the brackets of IPv6.
    pub host: String,
    pub port: u16,
    /// TLS.
    pub secure: bool,
}

impl Address {
    /// Reads `host:port`, `[v6]:port`, `ringmail://host:port` or `ringmails://host:port`.
    ///
    /// # Errors
    /// [`Error::Invalid`], with what is expected.
    pub fn parse(text: &str) -> Result<Address, Error> {
        let bad = |problem: &str| {
            let expected = "an address is host:port, [IPv6]:port, ringmail://host:port or ringmails://host:port";
            // Possible secrets are not repeated: neither what precedes a host, nor what follows a
            // port.
            let whole = text.split(['?', '#']).next().unwrap_or_default();
            let shown = match (whole.rsplit_once('@'), whole.split_once("://")) {
                (Some((_, host)), Some((scheme, _))) => format!("{scheme}://…@{host}"),
                (Some((_, host)), None) => format!("…@{host}"),
                (None, _) => whole.to_owned(),
            };
            Error::invalid(format!("address {shown:?}: {problem}; {expected}"))
        };
        if text.contains('@') {
            return Err(bad(
                "an address must not contain a credential: give the token or API key separately",
            ));
        }
        let (secure, rest) = match text.split_once("://") {
            None => (false, text),
            Some(("ringmail", rest)) => (false, rest),
            Some(("ringmails", rest)) => (true, rest),
            Some(_) => return Err(bad("unknown scheme")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let Some((host, port)) = rest.rsplit_once(':') else {
            return Err(bad("the port is missing"));
        };
        let bracketed = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        if bracketed.is_none() && host.contains(':') {
            return Err(bad("an IPv6 address must be in brackets"));
        }
        let host = bracketed.unwrap_or(host);
        if host.is_empty() {
            return Err(bad("the host is missing"));
        }
        match port.parse() {
            Ok(port) if port > 0 => Ok(Address {
                host: host.to_owned(),
                port,
                secure,
            }),
            _ => Err(bad("the port is not a number from 1 to 65535")),
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.secure {
            f.write_str("ringmails://")?;
        }
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_with_and_without_its_scheme() {
        for (text, shown) in [
            ("127.0.0.1:7411", "127.0.0.1:7411"),
            ("ringmail://mail.example:80", "mail.example:80"),
            ("ringmail://mail.example:80/", "mail.example:80"),
            ("[::1]:7411", "[::1]:7411"),
            ("ringmail://[::1]:7411", "[::1]:7411"),
            ("ringmails://mail.example:80", "ringmails://mail.example:80"),
        ] {
            assert_eq!(Address::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn an_error_about_an_address_names_the_cause() {
        for (text, problem) in [
            ("", "port is missing"),
            ("localhost", "port is missing"),
            (":7411", "host is missing"),
            ("ringmail://:7411", "host is missing"),
            ("::1:7411", "brackets"),
            ("localhost:0", "from 1 to 65535"),
            ("localhost:65536", "from 1 to 65535"),
            ("localhost:port", "from 1 to 65535"),
            ("http://localhost:80", "scheme"),
        ] {
            let error = Address::parse(text).unwrap_err();
            assert!(error.to_string().contains(problem), "{text}: {error}");
            assert!(!error.is_retryable());
        }
    }

    #[test]
    fn possible_secrets_are_not_repeated() {
        for text in [
            "ringmail://user:hush@localhost:7411",
            "ringmail://hush@localhost:7411",
            "user:hush@localhost:7411",
            "http://user:hush@localhost:80",
            "ringmail://user:hush@localhost",
            "ringmail://user:hu@hush@localhost:1",
            "ringmail://localhost:7411?token=hush",
            "ringmail://localhost:7411/#hush",
        ] {
            let error = Address::parse(text).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
            assert!(error.contains("localhost"), "{error}");
            assert_eq!(text.contains('@'), error.contains("API key"), "{error}");
        }
    }
}
