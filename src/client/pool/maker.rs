//! What a pool needs to know of connections: how one is made, judged and ended.
//!
//! The pool proper (`stock`, `shared`, `lease`) knows no more of a connection than this, so that
//! its tests can have connections that fail and linger at will.

use super::status::Reason;
use std::time::Duration;

pub(super) trait Maker: Send + Sync + 'static {
    type Connection: Send + Sync + 'static;
    type Error: Send + Sync + 'static;

    /// Makes one, or says why not, in bounded time.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Whether the same attempt may succeed a little later.
    fn may_pass(&self, error: &Self::Error) -> bool;

    /// Why nobody should have this one any more, as far as can be said without waiting.
    fn fault(&self, connection: &Self::Connection) -> Option<Reason>;

    /// Whether the other side is to be asked before this one is relied on: nothing was heard of
    /// it for so long, or somebody waited for an answer in vain since.
    fn is_in_doubt(&self, connection: &Self::Connection, after: Duration) -> bool;

    /// Asks the other side whether it is there; the pool bounds the time.
    fn answers(&self, connection: &Self::Connection) -> impl Future<Output = bool> + Send;

    /// Ends one in order, in bounded time. Dropping ends it at once.
    fn close(&self, connection: Self::Connection) -> impl Future<Output = ()> + Send;
}
