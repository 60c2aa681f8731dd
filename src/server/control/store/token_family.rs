//! Refresh tokens: opaque, used once, kept as hashes.
//!
//! ```text
//!   AUTH by API key ─► family ─ T0 ──► T1 ──► T2 (latest)      T(n+1) = HMAC(secret, T(n))
//!                               used   used
//! ```
//!
//! A token is 32 bytes that nobody can guess. Using the latest one of a family produces its
//! successor; using one that was used within [`GRACE_S`] returns the same successor again: an
//! answer may have been lost, or two tasks of one client may have renewed at the same time.
//! Using it later ends the whole family: two parties have it, and one of them is a thief (RFC
//! 9700 §4.14.2).
//!
//! The store keeps only the SHA-256 of a token. To return the same successor twice without
//! storing it, successors are not random but derived from the token presented and a secret of
//! the store. Reading the store yields neither a token nor a way to one; the holder of a token
//! can get its successor only from the server, while that is allowed.
//!
//! A family lives as long as its latest token, remembers the last [`REMEMBERED`] used ones,
//! and each API key has at most [`FAMILIES_PER_KEY_MAX`]: a new one replaces the oldest.
//!
//! Times are Unix seconds. Setting the clock back does not extend the grace: differences count
//! in both directions.

use super::error::{StoreError, random};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redb::{ReadableTable, ReadableTableMetadata, Table, TableDefinition, WriteTransaction};

/// A token used twice within this time gives the same successor.
pub const GRACE_S: u64 = 10;
/// How many used tokens of a family are remembered, so that their reuse is noticed; ten days at the
/// usual renewal.
pub const REMEMBERED: u32 = 1000;
/// Token families of one API key: a fleet may share one.
pub const FAMILIES_PER_KEY_MAX: u64 = 10_000;
pub(super) type Hash = [u8; 32];
/// Not secret: access tokens contain it (see [`TokenFamilyId::of_token_id`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenFamilyId(pub(super) [u8; 16]);

/// Principal, API key's id, its fingerprint, number among the key's families, latest
/// token's number, when that was made, when it expires.
pub(super) type Row = (&'static str, &'static str, &'static str, u64, u32, u64, u64);
pub(super) const FAMILIES: TableDefinition<&[u8; 16], Row> = TableDefinition::new("families");
/// By hash: family, number in it, when it was used (0: not yet).
pub(super) const TOKENS: TableDefinition<&Hash, (&[u8; 16], u32, u64)> =
    TableDefinition::new("tokens");
/// The hash of each number of each family.
const CHAINS: TableDefinition<(&[u8; 16], u32), &Hash> = TableDefinition::new("chains");
/// The families of each API key, the oldest first.
const OF_KEY: TableDefinition<(&str, u64), &[u8; 16]> = TableDefinition::new("families_of_key");
/// Per API key: how many there are, and the next one's number.
const KEYS: TableDefinition<&str, (u64, u64)> = TableDefinition::new("keys");

/// A refresh token. It has no `Debug`: it is a credential.
pub struct Token([u8; 32]);

impl Token {
    /// From its wire form, 43 characters of base64url. `None`: not a token of this server.
    pub fn parse(text: &[u8]) -> Option<Token> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        Some(Token(bytes.try_into().ok()?))
    }

    pub fn text(&self) -> String {
        URL_SAFE_NO_PAD.encode(self.0)
    }

    pub(super) fn hash(&self) -> Hash {
        fixed(digest::digest(&digest::SHA256, &self.0).as_ref())
    }
}

/// SHA-256 and HMAC-SHA256 give 32 bytes.
fn fixed(bytes: &[u8]) -> [u8; 32] {
    let mut fixed = [0; 32];
    fixed.copy_from_slice(bytes);
    fixed
}

impl TokenFamilyId {
    /// A `jti` for an access token of this family; `number` distinguishes its tokens.
    pub fn token_id(self, number: &[u8; 16]) -> String {
        let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
        format!("{}.{}", part(&self.0), part(number))
    }

    /// The family of an access token with this `jti`, if this server issued it.
    pub fn of_token_id(token_id: &str) -> Option<TokenFamilyId> {
        let (family, _) = token_id.split_once('.')?;
        let bytes = URL_SAFE_NO_PAD.decode(family).ok()?;
        Some(TokenFamilyId(bytes.try_into().ok()?))
    }
}

/// The origin of a family: the API key that started it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    pub principal: String,
    /// The API key's id.
    pub key_id: String,
    /// SHA-256 of the key's secret in hexadecimal: another secret is another key.
    pub fingerprint: String,
}

/// A refresh token just made, or made again.
pub struct Rotated {
    pub family: TokenFamilyId,
    pub origin: Origin,
    pub token: Token,
}

/// Why a refresh token is refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It was never issued, or its family has ended.
    Unknown,
    Expired,
    /// Used again after the grace: its family, of this origin, has ended now.
    Reused(Origin),
}

/// The tables, within a change.
pub struct TokenFamilies<'t> {
    families: Table<'t, &'static [u8; 16], Row>,
    tokens: Table<'t, &'static Hash, (&'static [u8; 16], u32, u64)>,
    chains: Table<'t, (&'static [u8; 16], u32), &'static Hash>,
    of_key: Table<'t, (&'static str, u64), &'static [u8; 16]>,
    keys: Table<'t, &'static str, (u64, u64)>,
    successor: &'t hmac::Key,
}

/// A row of `FAMILIES` that is no longer borrowed.
pub(super) struct TokenFamily {
    origin: Origin,
    number: u64,
    latest: u32,
    issued_at: u64,
    pub(super) expires: u64,
}

impl TokenFamily {
    fn of(
        (principal, key_id, fingerprint, number, latest, issued_at, expires): RowRef<'_>,
    ) -> TokenFamily {
        TokenFamily {
            origin: Origin {
                principal: principal.to_owned(),
                key_id: key_id.to_owned(),
                fingerprint: fingerprint.to_owned(),
            },
            number,
            latest,
            issued_at,
            expires,
        }
    }

    fn row(&self) -> RowRef<'_> {
        let origin = &self.origin;
        (
            &origin.principal,
            &origin.key_id,
            &origin.fingerprint,
            self.number,
            self.latest,
            self.issued_at,
            self.expires,
        )
    }
}

type RowRef<'a> = (&'a str, &'a str, &'a str, u64, u32, u64, u64);

impl<'t> TokenFamilies<'t> {
    pub(super) fn open(
        transaction: &'t WriteTransaction,
        successor: &'t hmac::Key,
    ) -> Result<TokenFamilies<'t>, StoreError> {
        Ok(TokenFamilies {
            families: transaction.open_table(FAMILIES)?,
            tokens: transaction.open_table(TOKENS)?,
            chains: transaction.open_table(CHAINS)?,
            of_key: transaction.open_table(OF_KEY)?,
            keys: transaction.open_table(KEYS)?,
            successor,
        })
    }

    /// Starts a family with its first token, which lives for `ttl_s`.
    pub fn start(&mut self, origin: Origin, now: u64, ttl_s: u64) -> Result<Rotated, StoreError> {
        let (count, number) = self.key(&origin.key_id)?;
        if count >= FAMILIES_PER_KEY_MAX {
            self.end_oldest_of(&origin.key_id)?;
        }
        let (count, _) = self.key(&origin.key_id)?;
        let key_id = origin.key_id.as_str();
        self.keys.insert(key_id, (count + 1, number + 1))?;
        let family = TokenFamilyId(random()?);
        self.of_key.insert((key_id, number), &family.0)?;
        let token = Token(random()?);
        self.put_token(family, 0, &token)?;
        let row = TokenFamily {
            origin,
            number,
            latest: 0,
            issued_at: now,
            expires: now.saturating_add(ttl_s),
        };
        self.families.insert(&family.0, row.row())?;
        Ok(Rotated {
            family,
            origin: row.origin,
            token,
        })
    }

    /// Uses a token: returns its successor, which lives for `ttl_s`.
    pub fn rotate(
        &mut self,
        token: &Token,
        now: u64,
        ttl_s: u64,
    ) -> Result<Result<Rotated, Refused>, StoreError> {
        let hash = token.hash();
        let Some((id, number, used_at)) = self.token(&hash)? else {
            return Ok(Err(Refused::Unknown));
        };
        let Some(mut family) = self.family(id)? else {
            return Ok(Err(Refused::Unknown));
        };
        if family.expires <= now {
            self.end(id)?;
            return Ok(Err(Refused::Expired));
        }
        let next = Token(fixed(hmac::sign(self.successor, &token.0).as_ref()));
        if number == family.latest {
            self.tokens.insert(&hash, (&id.0, number, now))?;
            family.latest += 1;
            family.issued_at = now;
            family.expires = now.saturating_add(ttl_s);
            self.put_token(id, family.latest, &next)?;
            if let Some(oldest) = family.latest.checked_sub(REMEMBERED + 1) {
                self.forget(id, oldest)?;
            }
            self.families.insert(&id.0, family.row())?;
        } else if now.abs_diff(used_at) > GRACE_S {
            self.end(id)?;
            return Ok(Err(Refused::Reused(family.origin)));
        }
        Ok(Ok(Rotated {
            family: id,
            origin: family.origin,
            token: next,
        }))
    }

    /// Ends a family: its tokens are no longer known. Does nothing if it does not exist.
    pub fn end(&mut self, id: TokenFamilyId) -> Result<(), StoreError> {
        let Some(family) = self.family(id)? else {
            return Ok(());
        };
        self.families.remove(&id.0)?;
        let whole = (&id.0, 0)..=(&id.0, u32::MAX);
        let mut hashes = Vec::new();
        for entry in self.chains.range(whole.clone())? {
            hashes.push(*entry?.1.value());
        }
        for hash in &hashes {
            self.tokens.remove(hash)?;
        }
        self.chains.retain_in(whole, |_, _| false)?;
        let key_id = family.origin.key_id.as_str();
        self.of_key.remove((key_id, family.number))?;
        match self.key(key_id)? {
            (0 | 1, _) => drop(self.keys.remove(key_id)?),
            (count, next) => drop(self.keys.insert(key_id, (count - 1, next))?),
        }
        Ok(())
    }

    /// Ends the families of a principal whose latest token was made before `before`; returns how
    /// many. Looks at every family.
    pub fn end_of_principal(&mut self, principal: &str, before: u64) -> Result<usize, StoreError> {
        let mut ids = Vec::new();
        for entry in self.families.iter()? {
            let (id, row) = entry?;
            let family = row.value();
            if family.0 == principal && family.5 < before {
                ids.push(TokenFamilyId(*id.value()));
            }
        }
        self.end_all(&ids)
    }

    /// How many there are.
    pub fn count(&self) -> Result<u64, StoreError> {
        Ok(self.families.len()?)
    }

    fn end_all(&mut self, ids: &[TokenFamilyId]) -> Result<usize, StoreError> {
        for id in ids {
            self.end(*id)?;
        }
        Ok(ids.len())
    }

    fn end_oldest_of(&mut self, key_id: &str) -> Result<(), StoreError> {
        let oldest = {
            let mut range = self.of_key.range((key_id, 0)..=(key_id, u64::MAX))?;
            match range.next() {
                Some(entry) => Some(TokenFamilyId(*entry?.1.value())),
                None => None,
            }
        };
        oldest.map_or(Ok(()), |oldest| self.end(oldest))
    }

    fn put_token(
        &mut self,
        id: TokenFamilyId,
        number: u32,
        token: &Token,
    ) -> Result<(), StoreError> {
        let hash = token.hash();
        self.tokens.insert(&hash, (&id.0, number, 0))?;
        self.chains.insert((&id.0, number), &hash)?;
        Ok(())
    }

    /// Forgets that a token was ever one of the family's.
    fn forget(&mut self, id: TokenFamilyId, number: u32) -> Result<(), StoreError> {
        let hash = self
            .chains
            .remove((&id.0, number))?
            .map(|hash| *hash.value());
        if let Some(hash) = hash {
            self.tokens.remove(&hash)?;
        }
        Ok(())
    }

    fn token(&self, hash: &Hash) -> Result<Option<(TokenFamilyId, u32, u64)>, StoreError> {
        Ok(self.tokens.get(hash)?.map(|entry| {
            let (family, number, used_at) = entry.value();
            (TokenFamilyId(*family), number, used_at)
        }))
    }

    pub(super) fn family(&self, id: TokenFamilyId) -> Result<Option<TokenFamily>, StoreError> {
        Ok(self
            .families
            .get(&id.0)?
            .map(|entry| TokenFamily::of(entry.value())))
    }

    /// How many families a key has, and the number of the next.
    fn key(&self, key_id: &str) -> Result<(u64, u64), StoreError> {
        Ok(self.keys.get(key_id)?.map_or((0, 0), |entry| entry.value()))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Store;
    use super::*;
    use std::collections::HashSet;
    use tempfile::TempDir;

    const NOW: u64 = 1_000_000;
    const TTL: u64 = 3600;

    struct Fixture {
        store: Store,
        _directory: TempDir,
    }

    impl Fixture {
        fn new() -> Fixture {
            let directory = tempfile::tempdir().expect("a directory");
            Fixture {
                store: Store::open(directory.path()).expect("opens"),
                _directory: directory,
            }
        }

        fn change<R>(
            &self,
            work: impl FnOnce(&mut TokenFamilies<'_>) -> Result<R, StoreError>,
        ) -> R {
            let changed = self.store.change(|change| work(&mut change.families()?));
            changed.expect("a store")
        }

        fn start(&self, key_id: &str, now: u64) -> Rotated {
            self.change(|families| families.start(origin(key_id), now, TTL))
        }

        fn rotate(&self, token: &Token, now: u64) -> Result<Rotated, Refused> {
            self.change(|families| families.rotate(token, now, TTL))
        }

        /// Rows of all tables.
        fn rows(&self) -> [u64; 5] {
            self.change(|all| {
                Ok([
                    all.families.len()?,
                    all.tokens.len()?,
                    all.chains.len()?,
                    all.of_key.len()?,
                    all.keys.len()?,
                ])
            })
        }
    }

    fn origin(key_id: &str) -> Origin {
        Origin {
            principal: format!("{key_id}-device"),
            key_id: key_id.to_owned(),
            fingerprint: "00".repeat(32),
        }
    }

    #[test]
    fn each_token_is_new_and_gives_one_successor() {
        let fixture = Fixture::new();
        let mut latest = fixture.start("k", NOW);
        let mut seen = HashSet::from([latest.token.text()]);
        for step in 1..20 {
            latest = fixture
                .rotate(&latest.token, NOW + 100 * step)
                .expect("the latest");
            assert_eq!(latest.origin, origin("k"));
            assert!(seen.insert(latest.token.text()), "a token came twice");
        }
        assert_eq!(fixture.rows(), [1, 20, 20, 1, 1]);
    }

    #[test]
    fn a_used_token_gives_the_same_successor_within_the_grace() {
        let fixture = Fixture::new();
        let first = fixture.start("k", NOW).token;
        let second = fixture.rotate(&first, NOW).expect("the latest").token;
        // Even when the successor has been used meanwhile.
        let third = fixture.rotate(&second, NOW + 1).expect("the latest").token;
        for at in [NOW, NOW + GRACE_S, NOW - GRACE_S] {
            let again = fixture.rotate(&first, at).expect("within the grace").token;
            assert_eq!(again.text(), second.text());
        }
        assert!(
            fixture.rotate(&third, NOW + 1000).is_ok(),
            "the family lives"
        );
    }

    #[test]
    fn a_used_token_ends_its_family_after_the_grace_and_no_other() {
        for late in [NOW + GRACE_S + 1, NOW + 1000, NOW - GRACE_S - 1] {
            let fixture = Fixture::new();
            let other = fixture.start("k", NOW).token;
            let first = fixture.start("k", NOW).token;
            let second = fixture.rotate(&first, NOW).expect("the latest").token;
            let reused = fixture.rotate(&first, late).err();
            assert_eq!(reused, Some(Refused::Reused(origin("k"))));
            assert_eq!(
                fixture.rotate(&second, NOW + 1).err(),
                Some(Refused::Unknown)
            );
            assert_eq!(
                fixture.rotate(&first, NOW + 1).err(),
                Some(Refused::Unknown)
            );
            assert!(!fixture.store.knows(&second).expect("read"));
            assert!(fixture.rotate(&other, NOW + 1).is_ok());
            assert_eq!(fixture.rows(), [1, 2, 2, 1, 1]);
        }
    }

    #[test]
    fn at_once_from_many_threads_there_is_one_successor() {
        let fixture = Fixture::new();
        let first = fixture.start("k", NOW).token;
        let texts: HashSet<String> = std::thread::scope(|scope| {
            let use_it = || {
                fixture
                    .rotate(&first, NOW + 2)
                    .expect("in time")
                    .token
                    .text()
            };
            let all: Vec<_> = (0..8).map(|_| scope.spawn(use_it)).collect();
            all.into_iter()
                .map(|one| one.join().expect("no panic"))
                .collect()
        });
        assert_eq!(texts.len(), 1);
        assert_eq!(fixture.rows(), [1, 2, 2, 1, 1]);
    }

    #[test]
    fn an_expired_family_is_refused_and_swept() {
        let fixture = Fixture::new();
        let early = fixture.start("a", NOW).token;
        let late = fixture.start("b", NOW + 10);
        assert_eq!(
            fixture.rotate(&early, NOW + TTL).err(),
            Some(Refused::Expired)
        );
        assert_eq!(fixture.rows(), [1, 1, 1, 1, 1]);
        // Renewed, it expires later.
        let renewed = fixture.rotate(&late.token, NOW + 20).expect("the latest");
        assert_eq!(
            fixture.store.sweep_families(NOW + TTL + 10).expect("swept"),
            0
        );
        assert_eq!(
            fixture.store.sweep_families(NOW + TTL + 20).expect("swept"),
            1
        );
        assert_eq!(fixture.rows(), [0; 5]);
        assert!(!fixture.store.knows(&renewed.token).expect("read"));
    }

    #[test]
    fn only_so_many_used_tokens_are_remembered() {
        let fixture = Fixture::new();
        let first = fixture.start("k", NOW).token;
        let mut latest = Token(first.0);
        fixture.change(|families| {
            for step in 0..u64::from(REMEMBERED) + 5 {
                let rotated = families.rotate(&latest, NOW + step, TTL)?;
                latest = rotated.expect("the latest").token;
            }
            Ok(())
        });
        let kept = u64::from(REMEMBERED) + 1;
        assert_eq!(fixture.rows(), [1, kept, kept, 1, 1]);
        assert_eq!(fixture.rotate(&first, NOW).err(), Some(Refused::Unknown));
        assert!(
            fixture.rotate(&latest, NOW + 9999).is_err(),
            "expired by now"
        );
    }

    #[test]
    fn the_oldest_family_of_a_key_makes_way() {
        let fixture = Fixture::new();
        let other = fixture.start("other", NOW).token;
        let first = fixture.start("k", NOW).token;
        let second = fixture.start("k", NOW).token;
        fixture.change(|families| {
            for _ in 2..=FAMILIES_PER_KEY_MAX {
                families.start(origin("k"), NOW, TTL)?;
            }
            Ok(())
        });
        let known = |token| fixture.store.knows(token).expect("read");
        assert!(!known(&first) && known(&second) && known(&other));
        let count = FAMILIES_PER_KEY_MAX + 1;
        assert_eq!(fixture.rows(), [count, count, count, count, 2]);
    }

    #[test]
    fn a_principals_families_end_if_their_latest_token_is_older() {
        let fixture = Fixture::new();
        let old = fixture.start("k", NOW).token;
        let renewed = fixture.start("k", NOW).token;
        let renewed = fixture
            .rotate(&renewed, NOW + 10)
            .expect("the latest")
            .token;
        let other = fixture.start("other", NOW).token;
        let ended = fixture.change(|families| families.end_of_principal("k-device", NOW + 10));
        let known = |token| fixture.store.knows(token).expect("read");
        assert_eq!(ended, 1);
        assert!(!known(&old) && known(&renewed) && known(&other));
    }

    #[test]
    fn a_family_is_found_by_its_access_tokens() {
        let fixture = Fixture::new();
        let rotated = fixture.start("k", NOW);
        let id = rotated.family.token_id(&[7; 16]);
        assert_eq!(TokenFamilyId::of_token_id(&id), Some(rotated.family));
        fixture.change(|families| families.end(rotated.family));
        fixture.change(|families| families.end(rotated.family));
        assert_eq!(fixture.rows(), [0; 5]);
        for foreign in ["", ".", "x.y", "0b5c2b1e", "AAAA.BBBB", &"A".repeat(300)] {
            assert_eq!(TokenFamilyId::of_token_id(foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_token_of_another_form_is_not_parsed() {
        let token = Token([255; 32]);
        let text = token.text();
        assert_eq!(text.len(), 43);
        assert_eq!(
            Token::parse(text.as_bytes()).map(|token| token.0),
            Some([255; 32])
        );
        let padded = format!("{text}=");
        for bad in [
            "",
            "x",
            &text[1..],
            &padded,
            &text.replace('_', "/"),
            "\u{fffd}",
        ] {
            assert!(Token::parse(bad.as_bytes()).is_none(), "{bad}");
        }
        let fixture = Fixture::new();
        assert!(!fixture.store.knows(&token).expect("read"));
        assert_eq!(fixture.rotate(&token, NOW).err(), Some(Refused::Unknown));
    }

    #[test]
    fn no_token_is_in_the_store() {
        let fixture = Fixture::new();
        let first = fixture.start("k", NOW).token;
        let second = fixture.rotate(&first, NOW).expect("the latest").token;
        let file = fixture._directory.path().join(super::super::file::FILE);
        let bytes = std::fs::read(file).expect("readable");
        for token in [first, second] {
            let found = bytes.windows(32).any(|window| window == token.0);
            assert!(!found, "a token is in the file");
        }
    }
}
