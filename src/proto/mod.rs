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
//! - A header the protocol knows is MALFORMED when given twice (PROPERTY may be) or with a
//!   value out of range, and passed on where it means nothing (TIMEOUT_MS in a PUBLISH); only
//!   START and SEQ are MALFORMED from a client where the table does not list them. Other keys
//!   below 0x40 are passed on unread, and may repeat, like the application's own.
//! - START in a SUBSCRIBE means nothing while nothing is stored: what is live comes.
//! - CONTENT_TYPE, REPLY_TO, CORRELATION and PROPERTY are the applications' among themselves:
//!   passed on untouched, and a RESPONSE gets none of them from its REQUEST.
//! - A message of the other direction is UNEXPECTED, and so is AUTH at a server that asks
//!   for none. Methods of AUTH are the owner's to judge.
//! - RATE_LIMITED, when too many credentials were wrong, ends the connection as AUTH_FAILED
//!   and UNAVAILABLE do. What was wrong counts by address and API key; the same credential
//!   again counts against itself alone. A key that a token names and the key set has not is
//!   UNAVAILABLE until a fetch that began later has not brought it, AUTH_FAILED from then on.
//! - All that goes wrong with a REQUEST, BAD_NAME included, is answered by a RESPONSE with
//!   FAILED, never by ERROR: exactly one RESPONSE.
//! - Before AUTH no message may claim more than 4,088 bytes of payload, whatever MESSAGE_MAX
//!   says, and AUTH no more than a credential of 16 KiB: AUTH_FAILED for an AUTH,
//!   AUTH_REQUIRED for what may not come yet, TOO_LARGE for CLOSE and the like. No AUTH in
//!   time is AUTH_REQUIRED.
//! - A client with no credential goes on where AUTH has bit 7; one that has some shows it.
//! - A payload that does not fit its topic's schema is BAD_PAYLOAD, a WILL's too. Of the
//!   ERRORs that make the eleventh fatal, BAD_PAYLOAD, UNAVAILABLE, OVERLOADED and DRAINING
//!   are none: the peer could not know, or the server is at fault.
//! - The four bytes of a CRC count nowhere: not against a peer's MESSAGE_MAX, not against the
//!   server's own, not against what an AUTH may have. Only the 4,088 bytes before AUTH are all
//!   that is kept.
//! - ERROR is the server's: a client that refuses what it receives says CLOSE with the code.
//! - A PUBLISH with id 0 that is refused is told by ERROR with id 0: silence helps nobody.
//! - Publishers who subscribe to what they publish receive it too.
//! - Retained messages go to every plain SUBSCRIBE, a repeated one included; not to members
//!   of groups, of whom one would get what another has had. The subscription begins when
//!   they are queued: until its OK, what is retained meanwhile comes, and other messages may
//!   not.
//! - What several publish on a topic with RETAIN has one order on all shards, that in which the
//!   topic's home shard takes it; a PUBLISH that clears and a will are in it like others. It is
//!   what subscribers see last, unless a policy or its expiry dropped it.
//! - GROUP in a SERVE means nothing: all servers of a service share its requests, whatever
//!   filters they serve it under.
//! - SUBSCRIBE again with the same filter and GROUP changes its codec and policy.
//! - Names that begin with `$` may be subscribed to, not published to, served or willed.
//! - A WILL becomes a PUBLISH with the same envelope, id included. It is published when the
//!   connection ends by anything but the client's CLOSE or the server's own end; with a
//!   session, when that ends without having been resumed.
//! - A message larger than a subscriber's MESSAGE_MAX is not delivered to it, and counted.
//! - What `$sys/time`, `$sys/info` and `$sys/stats` answer in protobuf is in `ringmail.proto`.
//! - TIMEOUT_MS 0 is the shortest there is, not the server's own. More than
//!   `limits.request_timeout_max_ms` is taken for that; the header goes on as it came.
//! - Ids of REQUESTs that are forwarded rise one by one for each connection, or session, that
//!   answers, from a number of chance on; 0 is none of them.
//! - What a connection has asked is over when it ends, or its session does: its places are
//!   free, and an answer that still comes is dropped and counted. The service is not told.
//! - A connection may hold two calls for each that may still be opened on its shard: beyond is
//!   TOO_MANY_REQUESTS. A service may have so many requests to answer: beyond is OVERLOADED.
//! - A REQUEST that has timed out is not handed to a service whose session is resumed, unless
//!   it was sent before.
//! - An answer that is larger than the server accepts ends its connection, as any message does;
//!   who asked gets TOO_LARGE, others who wait for that service SERVICE_GONE.
//! - Reasons and error texts we send are cut at 256 bytes, between characters.
//!
//! Sessions
//! - SESSION comes once in a connection. One that resumes comes before any operation; both
//!   are UNEXPECTED otherwise. So is an ACK of more than was sent, or of less than before.
//! - Publications that find `session.buffer_bytes_max` full wait until the client acknowledges,
//!   as behind a slow reader: `limits.outbox_bytes_max` bounds them, and the slow-consumer
//!   policy decides. Requests and answers do not wait: they may fill the buffer up by as much
//!   again as `limits.outbox_bytes_max`; beyond that a client that does not acknowledge is a
//!   SLOW_CONSUMER.
//! - While its client is away all that waits is within the buffer, and the policy decides as
//!   well: under "disconnect" the session ends, and its key is SESSION_UNKNOWN.
//! - A REQUEST or RESPONSE that is too large for the connection that resumes is answered, or
//!   replaced, by a RESPONSE with FAILED and TOO_LARGE.
//! - The ids of 2^31 PUBLISHes count as before the last that was taken, the others as behind
//!   it. Of refused ids the last 1,024 are remembered.
//! - Where there are as many connections as may be, and sessions, a newcomer is let in to
//!   resume one: AUTH, PING, PONG, CLOSE and SESSION with a key. Anything else, or
//!   `limits.auth_timeout_ms` without it, is TOO_MANY_CONNECTIONS.
//! - Time in which the server's process was stopped does not count as linger.
//! - A connection that is taken over still gets what was queued for it, and SESSION_TAKEN
//!   behind that.
//! - What waits for a slow subscriber when it says UNSUBSCRIBE is still delivered.
//! - A CLOSE, or the end of a client's stream, is answered when nothing it asked for is
//!   unanswered, at the latest when its requests have timed out; its will waits for that.
//! - A group's message on its way to a shard whose members have just left goes on to another
//!   member, and may then be overtaken by a later one. So does what a member had not been
//!   sent, or its session not acknowledged, when it ends; sent is what its machine has
//!   acknowledged (TCP), and after a CLOSE what was written. A member that has the message
//!   by another of its filters does not get it again. When the server ends, nothing is
//!   handed on.
//! - EXPIRES_MS applies until a message has been sent, and once more when a session is
//!   resumed: what has expired by then is not sent again. Of what is queued only what goes
//!   with the next send does not expire any more.
//! - When the server ends, PUBLISHes are taken and confirmed until nobody has been heard on
//!   any shard for 100 ms, or three quarters of the time are gone; what comes later is not
//!   answered. Who subscribes or serves gets its CLOSE behind all that was confirmed.
//! - CLOSE with SHUTDOWN ends one connection: its reason says whether the server is ending
//!   or an operator has ended that connection alone.
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
pub mod header;
pub mod kind;
pub mod message;
pub mod name;
pub mod option;
pub mod outcome;
pub mod output;
pub mod reassembly;
pub mod session;
pub mod sys;
pub mod trace;
