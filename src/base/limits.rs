//! Every bound that is not configuration, with its unit, its reason and its relations.
//!
//! Bounds that an operator may choose are in `server::config`; those that the protocol or the
//! design fixes are here. Their relations are asserted at compile time at the end of the file.

/// Bytes of a control frame's header (PROTOCOL.md §1).
pub const FRAME_HEADER_BYTES: usize = 13;
/// The most bytes of a control frame's payload (§1).
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 1024;
/// Bytes of a message's header (§2).
pub const MESSAGE_HEADER_BYTES: usize = 8;
/// Bytes that CHECKSUM adds at the end of a message's payload (§2).
pub const CHECKSUM_BYTES: usize = 4;
/// Bytes of an envelope before its name: id, flags, codec, name length (§2).
pub const ENVELOPE_FIXED_BYTES: usize = 7;
/// The most opaque bytes of a PING (§2).
pub const PING_BYTES_MAX: usize = 64;
/// Bytes of a topic, filter or service name (§2, Topics and filters).
pub const NAME_BYTES_MAX: usize = 255;
/// Levels of a topic or filter.
pub const NAME_LEVELS_MAX: usize = 32;
/// Characters of a CLIENT_ID (§1).
pub const CLIENT_ID_BYTES_MAX: usize = 64;
/// Bytes of a GROUP header's value (§2).
pub const GROUP_BYTES_MAX: usize = 64;
/// Bytes of a session's key (§2, Sessions).
pub const SESSION_KEY_BYTES: usize = 16;
/// The largest payload any configuration may allow: a length field is 32 bits, but one
/// message must fit a `usize` on every target and an outbox with room to spare.
pub const MESSAGE_BYTES_CEILING: u32 = 1 << 30;
/// The smallest `message_bytes_max` that still admits a CLOSE or ERROR with its text and an
/// envelope with the longest name.
pub const MESSAGE_BYTES_FLOOR: u32 = 1024;
/// Payload bytes of a message from a client that must authenticate and has not: an unauthenticated
/// client makes the server keep at most 4 KiB. Enough for any usual token.
pub const UNAUTHENTICATED_BYTES_MAX: u32 = 4096 - MESSAGE_HEADER_BYTES as u32;
/// Payload bytes of an AUTH, without a CRC: its method, and a credential of 16 KiB. Beyond the 4
/// KiB of other messages, memory is allocated only as bytes arrive, never in advance.
pub const AUTH_BYTES_MAX: u32 = 16_384 + 1;
/// A credential that was accepted although it had expired, within the leeway for clock skew, ends
/// its connection this many seconds after its expiry: nothing is delivered later than 30 s after
/// it.
pub const EXPIRY_GRACE_S: u64 = 25;
/// UTF-8 bytes of a reason or error text that this side sends.
pub const TEXT_BYTES_MAX: usize = 256;

/// Bytes of an access token: anything longer is refused unread.
pub const TOKEN_BYTES_MAX: usize = 8192;
/// Bytes of an API key, `id.secret`. Generated secrets have 43 characters.
pub const API_KEY_BYTES_MAX: usize = 512;
/// Bytes of a principal: one level of a topic, with room for the rest of the name.
pub const PRINCIPAL_BYTES_MAX: usize = 128;
/// Bytes of a token's id (`jti`) and of a key's name (`kid`).
pub const TOKEN_ID_BYTES_MAX: usize = 256;
pub const KEY_ID_BYTES_MAX: usize = 256;
/// Keys of one key set: providers publish two to five.
pub const KEYS_MAX: usize = 64;
/// Bytes of a key set's JSON: `KEYS_MAX` keys, each with a chain of certificates.
pub const KEY_SET_BYTES_MAX: usize = 1 << 20;
/// Bits of an RSA key's modulus. Below, it can be factored; above, verifying takes long.
pub const RSA_BITS_MIN: usize = 2048;
pub const RSA_BITS_MAX: usize = 8192;
/// Bytes of an HS256 secret below which it is called weak (RFC 7518 §3.2).
pub const SECRET_BYTES_MIN: usize = 32;
/// Revocations kept at a time: some tens of megabytes with the longest names.
pub const REVOCATIONS_MAX: usize = 100_000;
/// Sets of roles whose combined rights are cached.
pub const ROLE_SETS_MAX: usize = 256;
/// Addresses, and API keys claimed from them, whose recent connections and failures are counted: at
/// most about 2 MiB.
pub const PREFIXES_MAX: usize = 16_384;

/// Non-fatal ERRORs within one second before the next one is fatal (§3).
pub const ERRORS_PER_S_MAX: u32 = 10;
/// PINGs and other messages that only cause an answer, within one second, before they are answered
/// RATE_LIMITED: far above what a latency probe can send one by one over loopback (about 45,000),
/// far below what a flood sends.
pub const CONTROLS_PER_S_MAX: u32 = 100_000;

/// The shortest heartbeat interval a client may ask for, in milliseconds: a shorter one would only
/// cost the server work.
pub const HEARTBEAT_MS_MIN: u32 = 100;

/// Messages of one connection handled in one turn of its shard, so that a full pipe does
/// not starve the others.
pub const MESSAGES_PER_TURN: u32 = 64;
/// The most connections in one listing: a page and those before it.
pub const LISTED_CONNECTIONS_MAX: usize = 1000;
/// The most bytes of records kept during a TLS handshake: more than any ClientHello of today, and
/// no more than any other unauthenticated client may make the server keep.
pub const HELLO_BYTES_MAX: usize = 4096;
/// Likewise where clients present a certificate, with its chain.
pub const HELLO_BYTES_MAX_CERTIFIED: usize = 20_480;
/// Bytes that an idle TLS connection takes beside its slot: rustls' state, keys and the
/// allocator's share, measured with TLS 1.3 (3,800) and rounded up.
pub const TLS_STATE_BYTES: usize = 4096;
/// Messages of ended group members looked at in one turn: most of them may wait for members that do
/// not keep up.
pub const LEGACIES_PER_TURN: usize = 256;
/// Bytes of an ended member's messages that are handed to others at a time. Twice as many beyond a
/// member's outbox limit do not make it a slow consumer.
pub const HANDED_ON_BYTES: usize = 16_384;
/// Bytes that the kernel may hold for a member of a group before it counts as stalled: a distant
/// reader usually has less in flight.
pub const MEMBER_HELD_BYTES_MAX: usize = 131_072;
/// Bytes sent to a member, or kept for it, per system call that asks the kernel how much it holds.
pub const TRAIL_ASK_BYTES: usize = 4096;
/// Bytes of group messages kept for one member while the kernel holds them.
pub const TRAIL_BYTES_MAX: usize = 1 << 20;
/// Retained messages checked for expiry in one turn.
pub const RETAINED_SWEPT: usize = 1024;
/// The largest payload with a schema that a shard checks and translates itself; a worker does
/// larger ones. JSON of this size takes some 30 µs to check and half as long again to translate
/// (benches/translate.rs), a Struct five times as long, for which all clients of the shard wait;
/// the way to a worker and back takes about as long.
pub const CHECKED_BYTES_MAX: usize = 4096;
/// Units of work for checking a payload or writing it in another codec: this many, and one more for
/// each `CHECKED_BYTES_PER_UNIT` bytes.
pub const CHECK_UNITS: usize = 4;
pub const CHECKED_BYTES_PER_UNIT: usize = 8;
/// Answers (OK, ERROR) that one connection may be waiting for; beyond, it is not read until half of
/// them are sent. More than it takes to fill a round trip between shards.
pub const ANSWERS_OPEN_MAX: u32 = 256;
/// Calls that one connection may hold per call slot that is still free. However many a few
/// connections hold, others find room: one connection holds at most two thirds of all slots, `n`
/// connections together 2n / (2n + 1). Likewise for the requests that one connection has to answer.
pub const CALLS_PER_PLACE_LEFT: u32 = 2;
/// A payload counts as at least this many bytes for each of its values: 4 KiB of protobuf may hold
/// five hundred values of a Struct, each with an allocation or two.
pub const CHECKED_BYTES_PER_VALUE: usize = 8;
/// Retained messages may take one in this many parts of what a shard may lend, in addition to it.
pub const RETAINED_SHARE: u64 = 4;
/// Bytes that a subscription is charged at its own shard: its entries at its connection and among
/// its filter's subscribers. The filter itself is charged for its memory in the router, on each
/// shard that knows it.
pub const SUBSCRIPTION_BYTES: usize = 96;
/// Bytes that a shared message takes beside its content: owner, counts, allocations.
pub const SHARED_MESSAGE_BYTES: usize = 112;
/// How long a connection that this side ends still reads and discards, in milliseconds, so that the
/// peer receives the reason rather than a TCP reset (§2, Ending).
pub const LINGER_MS: u64 = 1000;
/// Connections above `connections_max` that a shard holds briefly, to send them the reason for
/// their refusal. Any more are closed without it.
pub const REFUSALS_OPEN_MAX: u32 = 64;

/// Bytes of an outbox chunk: enough for the answers of a usual turn, few enough to lend one to each
/// of thousands of connections.
pub const CHUNK_BYTES: usize = 4096;
/// Bytes of the chunks a backlog is kept in: one send moves this much.
pub const CHUNK_LARGE_BYTES: usize = 65_536;

const _: () = {
    assert!(FRAME_HEADER_BYTES + FRAME_PAYLOAD_BYTES_MAX <= CHUNK_BYTES);
    assert!(MESSAGE_HEADER_BYTES + PING_BYTES_MAX + CHECKSUM_BYTES <= CHUNK_BYTES);
    assert!(ENVELOPE_FIXED_BYTES + NAME_BYTES_MAX < MESSAGE_BYTES_FLOOR as usize);
    assert!(NAME_BYTES_MAX <= u8::MAX as usize);
    assert!(PRINCIPAL_BYTES_MAX < NAME_BYTES_MAX);
    assert!(RSA_BITS_MIN < RSA_BITS_MAX);
    assert!(MESSAGE_BYTES_FLOOR < MESSAGE_BYTES_CEILING);
    assert!(CHUNK_BYTES < CHUNK_LARGE_BYTES);
    assert!(TRAIL_ASK_BYTES < MEMBER_HELD_BYTES_MAX && MEMBER_HELD_BYTES_MAX < TRAIL_BYTES_MAX);
    assert!(TEXT_BYTES_MAX + 7 < MESSAGE_BYTES_FLOOR as usize);
};
