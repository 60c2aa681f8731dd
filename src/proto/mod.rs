//! Layer 1: the wire protocol, without I/O, clocks or threads.
//!
//! Bytes and a clock value go in; messages, bytes to send and deadlines come out. The same
//! code is the server's side and the clients'.
//!
//! # Choices where the protocol is silent
//!
//! Link phase
//! - An option of the other direction (SHARD in a SYN) is checked like any known one, then
//!   ignored. MESSAGE_MAX 0 is out of range: MALFORMED.
//! - The heartbeat interval granted is what the client asks for, but at least 100 ms and at
//!   most half of the heartbeat timeout, so that a PING and its PONG fit before the end.
//! - CODEC is in the SYN-ACK only if it was in the SYN.
//! - An acknowledgement that is missing or cut short is a wrong one: UNEXPECTED. Behind the
//!   one of an ACK options may follow, as in a SYN-ACK; nobody needs them today.
//! - A client takes what a SYN-ACK grants as granted, asked for or not, and does without
//!   the options it does not find. Only the heartbeat interval it holds within the same
//!   bounds of its own (half of its timeout), so that it asks before it gives up.
//! - An RST is believed whatever its Seq, in any state of the link phase, and not answered.
//!   A client understands it after its ACK too (there it would be a message of version 4):
//!   the server may have given up while the ACK was on its way.
//! - A first byte 0x16 where TLS is off closes without RST: a TLS client could not read it.
//!
//! TLS
//! - Where TLS is required the first byte 0x4D is answered by RST TLS_REQUIRED, whatever
//!   follows it; any other but 0x16 is MALFORMED as ever.
//! - Who is refused before its first byte has come (too many connections, a server that
//!   ends) is told by a plain RST, so that nobody is refused at the cost of a handshake.
//! - A TLS handshake counts into the time of ours. One that fails ends with its alert.
//! - close_notify is a FIN: what was asked before it is answered. So is a FIN without it:
//!   messages say themselves whether they are whole. A record that has begun is a message
//!   that has begun: FRAME_TIMEOUT.
//! - The server says close_notify after its last message, then FIN.
//!
//! Messages
//! - Flags are strict for each type: RETAIN in a SUBSCRIBE is MALFORMED. So are a RESPONSE
//!   with a name, a boolean that is neither 0 nor 1, and bytes behind a body of fixed length.
//! - A header the protocol knows is MALFORMED when given twice or with a value out of range,
//!   and passed on where it means nothing (TIMEOUT_MS in a PUBLISH). Other keys below 0x40
//!   are passed on unread, and may repeat, like the application's own.
//! - A message of the other direction is UNEXPECTED, and so is AUTH at a server that asks
//!   for none. Methods of AUTH are the owner's to judge.
//! - RATE_LIMITED, when too many credentials were wrong, ends the connection as AUTH_FAILED
//!   and UNAVAILABLE do. What was wrong counts by address and API key; the same credential
//!   again counts against itself alone. A key that a token names and the key set has not is
//!   UNAVAILABLE until a fetch that began later has not brought it, AUTH_FAILED from then on.
//! - All that goes wrong with a REQUEST, BAD_NAME included, is answered by a RESPONSE with
//!   FAILED, never by ERROR: exactly one RESPONSE.
//! - Before AUTH no message may claim more than 4,088 bytes of payload, whatever MESSAGE_MAX
//!   says: AUTH_FAILED for an AUTH, AUTH_REQUIRED for what may not come yet, TOO_LARGE for
//!   CLOSE and the like. No AUTH in time is AUTH_REQUIRED.
//! - ERROR is the server's: a client that refuses what it receives says CLOSE with the code.
//! - A PUBLISH with id 0 that is refused is told by ERROR with id 0: silence helps nobody.
//! - Publishers who subscribe to what they publish receive it too.
//! - Retained messages go to every plain SUBSCRIBE, a repeated one included; not to members
//!   of groups, of whom one would get what another has had. The subscription begins when
//!   they are queued: until its OK, what is retained meanwhile comes, and other messages may
//!   not.
//! - GROUP in a SERVE means nothing: all servers of a service share its requests, whatever
//!   filters they serve it under.
//! - SUBSCRIBE again with the same filter and GROUP changes its codec and policy.
//! - Names that begin with `$` may be subscribed to, not published to, served or willed.
//! - A WILL becomes a PUBLISH with the same envelope, id included. It is published when the
//!   connection ends by anything but the client's CLOSE or the server's own end; with a
//!   session, when that ends without having been resumed.
//! - A message larger than a subscriber's MESSAGE_MAX is not delivered to it, and counted.
//! - What `$sys/time`, `$sys/info` and `$sys/stats` answer in protobuf is in `ringmail.proto`.
//! - TIMEOUT_MS 0 is the shortest there is, not the server's own.
//! - Reasons and error texts we send are cut at 256 bytes, between characters.
//!
//! Sessions
//! - SESSION comes once in a connection. One that resumes comes before any operation; both
//!   are UNEXPECTED otherwise. So is an ACK of more than was sent, or of less than before.
//! - A log that grows beyond `session.buffer_bytes_max` ends the session: at once while its
//!   client is away, else when the connection ends, which goes on until then.
//! - A connection that is taken over still gets what was queued for it, and SESSION_TAKEN
//!   behind that.
//! - What waits for a slow subscriber when it says UNSUBSCRIBE is still delivered.
//! - A CLOSE, or the end of a client's stream, is answered when nothing it asked for is
//!   unanswered, at the latest when its requests have timed out; its will waits for that.
//! - A group's message on its way to a shard whose members have just left goes on to another
//!   member, and may then be overtaken by a later one.
//! - EXPIRES_MS applies to what was never sent; what was sent once is sent again.
//!
//! Traces
//! - A message whose TRACEPARENT is sampled goes on with a span of the server's as its parent,
//!   if the server traces; so does a share of PUBLISHes and REQUESTs without one, which get
//!   one, unless the peer would not accept so large a message: it gets it as it came. All
//!   other bytes are the sender's. A TRACEPARENT of zeros is none, and passes untouched.
//! - A RESPONSE without TRACEPARENT gets none: what it answers has its own.
//!
//! Time and budgets
//! - One PING for each silence, never early. It is late by at most a sixteenth of the
//!   interval, each session by a share of its own, so that connections which began together
//!   drift apart; and by what rounds it up to a thirty-second (a second at most), so that
//!   idle connections wake their shard together. None after the peer's CLOSE.
//! - A session nobody called while its PING fell due and the timeout passed (a process
//!   stopped for an hour) sends the PING then, and waits what is left of the timeout.
//! - The error budget counts in windows of a second from the first error, not sliding ones:
//!   across a boundary a peer gains at most twice the bound.
//! - PINGs above 100,000 in a second are answered by RATE_LIMITED errors, which the error
//!   budget then makes fatal. A client says CLOSE to such a server.
//! - Once one side has sent CLOSE, whatever else the other sends is checked and dropped; two
//!   CLOSEs that cross answer each other.
mod body;
pub mod budget;
pub mod envelope;
pub mod error;
pub mod frame;
pub mod kind;
pub mod message;
pub mod name;
pub mod option;
pub mod output;
pub mod reassembly;
pub mod session;
pub mod sys;
pub mod trace;
