//! A pull parser for JSON text (RFC 8259): the caller knows what to expect next.
//!
//! Numbers stay text, because their type depends on the field: 2^64 is not a 64-bit integer, but
//! it is a double.

use super::fault::Fault;
use std::borrow::Cow;

/// How deep lists and objects may nest.
const LEVELS_MAX: usize = 128;

#[derive(Clone, Copy)]
pub(super) struct Text<'a> {
    whole: &'a str,
    at: usize,
    levels: usize,
}

/// The beginning of a list or an object, or the whole of any other value.
pub(super) enum Token<'a> {
    Null,
    Bool(bool),
    Number(&'a str),
    String(Cow<'a, str>),
    List,
    Object,
}

impl<'a> Text<'a> {
    pub(super) fn new(whole: &'a str) -> Text<'a> {
        Text {
            whole,
            at: 0,
            levels: 0,
        }
    }

    /// A fault with the current position appended.
    #[cold]
    pub(super) fn fault(&self, problem: impl std::fmt::Display) -> Fault {
        let before = &self.whole.as_bytes()[..self.at.min(self.whole.len())];
        let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
        let start = before.iter().rposition(|byte| *byte == b'\n');
        let column = before.len() - start.map_or(0, |start| start + 1);
        Fault::new(format!("{problem} at line {line} column {column}"))
    }

    /// The next byte that is not white space.
    #[inline]
    pub(super) fn peek(&mut self) -> Option<u8> {
        let bytes = self.whole.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\t' | b'\r') => self.at += 1,
                next => return next.copied(),
            }
        }
    }

    #[cold]
    fn unexpected(&mut self, wanted: &str) -> Fault {
        match self.whole[self.at..].chars().next() {
            None => self.fault(format_args!("expected {wanted}, but the JSON ends")),
            Some(found) => self.fault(format_args!("expected {wanted} before {found:?}")),
        }
    }

    /// Checks that nothing but white space is left.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        match self.peek() {
            None => Ok(()),
            Some(_) => Err(self.fault("trailing characters")),
        }
    }

    fn open(&mut self) -> Result<(), Fault> {
        self.at += 1;
        self.levels += 1;
        match self.levels <= LEVELS_MAX {
            true => Ok(()),
            false => Err(self.fault(format_args!("nested more than {LEVELS_MAX} levels deep"))),
        }
    }

    fn close(&mut self) {
        self.at += 1;
        self.levels -= 1;
    }

    /// Begins a value. A list continues with `item`, an object with `key`.
    pub(super) fn token(&mut self) -> Result<Token<'a>, Fault> {
        match self.peek() {
            Some(b'"') => self.string().map(Token::String),
            Some(b'{') => self.open().map(|()| Token::Object),
            Some(b'[') => self.open().map(|()| Token::List),
            Some(b'-' | b'0'..=b'9') => self.number().map(Token::Number),
            Some(b't') => self.word("true").map(|()| Token::Bool(true)),
            Some(b'f') => self.word("false").map(|()| Token::Bool(false)),
            Some(b'n') => self.word("null").map(|()| Token::Null),
            _ => Err(self.unexpected("a value")),
        }
    }

    /// In an object: reads the next key; its value follows.
    pub(super) fn key(&mut self, is_first: &mut bool) -> Result<Option<Cow<'a, str>>, Fault> {
        let is_first = std::mem::take(is_first);
        match self.peek() {
            Some(b'}') => {
                self.close();
                return Ok(None);
            }
            Some(b',') if !is_first => self.at += 1,
            _ if is_first => {}
            _ => return Err(self.unexpected("a comma or }")),
        }
        if self.peek() != Some(b'"') {
            return Err(self.unexpected("a key in quotes"));
        }
        let key = self.string()?;
        if self.peek() != Some(b':') {
            return Err(self.unexpected("a colon"));
        }
        self.at += 1;
        Ok(Some(key))
    }

    /// In a list: whether another value follows.
    pub(super) fn item(&mut self, is_first: &mut bool) -> Result<bool, Fault> {
        let is_first = std::mem::take(is_first);
        match self.peek() {
            Some(b']') => {
                self.close();
                Ok(false)
            }
            _ if is_first => Ok(true),
            Some(b',') => {
                self.at += 1;
                Ok(true)
            }
            _ => Err(self.unexpected("a comma or ]")),
        }
    }

    /// Skips a value.
    pub(super) fn skip(&mut self) -> Result<(), Fault> {
        let mut is_first = true;
        match self.token()? {
            Token::List => {
                while self.item(&mut is_first)? {
                    self.skip()?;
                }
            }
            Token::Object => {
                while self.key(&mut is_first)?.is_some() {
                    self.skip()?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn word(&mut self, word: &str) -> Result<(), Fault> {
        match self.whole[self.at..].starts_with(word) {
            true => {
                self.at += word.len();
                Ok(())
            }
            false => Err(self.unexpected("a value")),
        }
    }

    fn digits(&mut self) -> usize {
        let rest = &self.whole.as_bytes()[self.at..];
        let count = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.at += count;
        count
    }

    fn take(&mut self, bytes: &[u8]) -> bool {
        let next = self.whole.as_bytes().get(self.at);
        let is_next = next.is_some_and(|next| bytes.contains(next));
        self.at += usize::from(is_next);
        is_next
    }

    fn number(&mut self) -> Result<&'a str, Fault> {
        let start = self.at;
        self.take(b"-");
        if !self.take(b"0") && self.digits() == 0 {
            return Err(self.unexpected("a digit"));
        }
        if self.take(b".") && self.digits() == 0 {
            return Err(self.unexpected("a digit"));
        }
        if self.take(b"eE") {
            self.take(b"+-");
            if self.digits() == 0 {
                return Err(self.unexpected("a digit"));
            }
        }
        Ok(&self.whole[start..self.at])
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Fault> {
        self.at += 1;
        let start = self.at;
        self.plain()?;
        let text = &self.whole[start..self.at];
        if self.take(b"\"") {
            return Ok(Cow::Borrowed(text));
        }
        let mut text = text.to_owned();
        loop {
            if self.take(b"\"") {
                return Ok(Cow::Owned(text));
            }
            self.at += 1;
            text.push(self.escaped()?);
            let start = self.at;
            self.plain()?;
            text.push_str(&self.whole[start..self.at]);
        }
    }

    /// Advances to the next quote or backslash.
    #[inline]
    fn plain(&mut self) -> Result<(), Fault> {
        let rest = &self.whole.as_bytes()[self.at..];
        let is_plain = |byte: &u8| *byte >= b' ' && *byte != b'"' && *byte != b'\\';
        let count = rest.iter().take_while(|byte| is_plain(byte)).count();
        self.at += count;
        match rest.get(count) {
            Some(b'"' | b'\\') => Ok(()),
            Some(_) => Err(self.fault("a control character in a string")),
            None => Err(self.unexpected("a quote")),
        }
    }

    /// Reads what follows a backslash.
    fn escaped(&mut self) -> Result<char, Fault> {
        let Some(&kind) = self.whole.as_bytes().get(self.at) else {
            return Err(self.unexpected("a quote"));
        };
        let plain = match kind {
            b'"' | b'\\' | b'/' => kind.into(),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                return self.unit();
            }
            _ => return Err(self.fault("an escape sequence that JSON does not have")),
        };
        self.at += 1;
        Ok(plain)
    }

    /// Reads the four digits of a character, or twice four of a surrogate pair.
    fn unit(&mut self) -> Result<char, Fault> {
        let first = self.four()?;
        if let Some(letter) = char::from_u32(first) {
            return Ok(letter);
        }
        if first < 0xdc00 && self.whole[self.at..].starts_with("\\u") {
            self.at += 2;
            let second = self.four()?;
            if (0xdc00..0xe000).contains(&second) {
                let both = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                return char::from_u32(both).ok_or_else(|| self.fault("no character"));
            }
        }
        Err(self.fault("an unpaired surrogate"))
    }

    fn four(&mut self) -> Result<u32, Fault> {
        let digits = (self.whole.as_bytes().get(self.at..self.at + 4))
            .filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))
            .and_then(|digits| str::from_utf8(digits).ok());
        let Some(digits) = digits else {
            return Err(self.fault("an escape sequence that JSON does not have"));
        };
        self.at += 4;
        u32::from_str_radix(digits, 16).map_err(|error| self.fault(error))
    }
}
