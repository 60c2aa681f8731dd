//! What a pool needs of connections: how one is made, checked and ended.
//!
//! The pool itself (`stock`, `shared`, `lease`) knows no more of a connection than this, so that
//! its tests can use connections that fail and linger at will.

use super::status::Reason;
use std::time::Duration;

pub(super) trait Maker: Send + Sync + 'static {
    type Connection: Send + Sync + 'static;
    type Error: Send + Sync + 'static;

    /// Makes one, or returns the error, in bounded time.
    fn connect(&self) -> impl Future<Output = Result<Self::Connection, Self::Error>> + Send;

    /// Whether the same attempt may succeed a little later.
    fn may_pass(&self, error: &Self::Error) -> bool;

    /// Why this one must not be lent any more, as far as that is known without waiting.
    fn fault(&self, connection: &Self::Connection) -> Option<Reason>;

    /// Whether to check with the other side before relying on this one: it has been silent for this
    /// long, or has not answered a call since.
    fn is_in_doubt(&self, connection: &Self::Connection, after: Duration) -> bool;

    /// Checks whether the other side answers; the pool bounds the time.
    fn answers(&self, connection: &Self::Connection) -> impl Future<Output = bool> + Send;

    /// Ends one in an orderly way, in bounded time. Dropping ends it at once.
    fn close(&self, connection: Self::Connection) -> impl Future<Output = ()> + Send;
}
