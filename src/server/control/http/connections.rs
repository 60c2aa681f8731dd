//! `GET /connections`: lists connections, a page at a time, in any order, so that the slow one
//! is found at once. `DELETE /connections/ID`: ends one.
//!
//! Each page is a separate listing: connections come and go between two of them. Sorted by id or
//! by age, each connection that stays appears exactly once.

use super::admin::Admin;
use super::answer::{Refusal, refuse};
use super::credential::{Changer, Reader};
use super::parameter::{Parameters, number};
use crate::base::id::{Key, ShardId};
use crate::base::limits::LISTED_CONNECTIONS_MAX;
use crate::server::control::listing::Late;
use crate::shard::{Query, Row, Sort};
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{delete, get};
use axum::{Json, Router};
use serde::Serialize;
use std::net::SocketAddr;
use std::sync::Arc;

/// Connections on a page, unless asked otherwise.
const LIMIT: usize = 50;

const SORTS: [(&str, Sort); 7] = [
    ("queued", Sort::Queued),
    ("age", Sort::Age),
    ("in", Sort::In),
    ("out", Sort::Out),
    ("oldest", Sort::Oldest),
    ("round_trip", Sort::RoundTrip),
    ("id", Sort::Id),
];

pub(super) fn routes() -> Router<Arc<Admin>> {
    Router::new()
        .route("/connections", get(list))
        .route("/connections/{id}", delete(kick))
}

/// The answer of `GET /connections`.
#[derive(Serialize)]
struct Page {
    /// Connections that match, on this page or not.
    total: u64,
    /// Sessions that wait for their clients; they do not count as connections.
    sessions_waiting: u64,
    connections: Vec<Connection>,
}

#[derive(Serialize)]
struct Connection {
    /// `shard-slot-generation`: unique among all connections.
    id: String,
    shard: u16,
    address: Option<SocketAddr>,
    principal: Option<Box<str>>,
    client_id: Option<Box<str>>,
    age_s: f64,
    messages_in: u64,
    bytes_in: u64,
    messages_out: u64,
    bytes_out: u64,
    queued_bytes: u64,
    oldest_queued_ms: f64,
    round_trip_us: Option<u64>,
    session: bool,
    state: &'static str,
}

impl From<Row> for Connection {
    fn from(row: Row) -> Connection {
        Connection {
            id: format!("{}-{}-{}", row.shard, row.key.slot, row.key.generation),
            shard: row.shard.0,
            address: row.address,
            principal: row.principal,
            client_id: row.client_id,
            age_s: row.age.as_secs_f64(),
            messages_in: row.messages_in,
            bytes_in: row.bytes_in,
            messages_out: row.messages_out,
            bytes_out: row.bytes_out,
            queued_bytes: row.queued_bytes,
            oldest_queued_ms: row.oldest_queued.as_secs_f64() * 1000.0,
            round_trip_us: row
                .round_trip
                .map(|took| u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            session: row.session,
            state: row.state.label(),
        }
    }
}

async fn list(
    _: Reader,
    State(admin): State<Arc<Admin>>,
    parameters: Parameters,
) -> Result<Json<Page>, Refusal> {
    let (query, offset) = query(parameters)?;
    let seen = admin.lister.connections(&query).await.map_err(late)?;
    let rows = seen.rows.into_iter().skip(offset);
    Ok(Json(Page {
        total: seen.total,
        sessions_waiting: seen.sessions_waiting,
        connections: rows.map(Connection::from).collect(),
    }))
}

/// The query, and the offset of its page.
fn query(parameters: Parameters) -> Result<(Query, usize), Refusal> {
    let mut query = Query::default();
    let (mut limit, mut offset, mut order) = (LIMIT, 0, None);
    for (name, value) in parameters.0 {
        match name.as_str() {
            "sort" => query.sort = sort(&value)?,
            "order" => order = Some(is_descending(&value)?),
            "limit" => limit = number(&name, &value, 1, LISTED_CONNECTIONS_MAX)?,
            "offset" => offset = number(&name, &value, 0, LISTED_CONNECTIONS_MAX - 1)?,
            "principal" => query.principal = Some(value.into()),
            "client_id" => query.client_id = Some(value.into()),
            _ => {
                let known = "sort, order, limit, offset, principal and client_id";
                return super::parameter::unknown(&name, known);
            }
        }
    }
    query.most = offset + limit;
    if query.most > LISTED_CONNECTIONS_MAX {
        return refuse(
            StatusCode::BAD_REQUEST,
            format!(
                "offset plus limit exceeds {LISTED_CONNECTIONS_MAX}; reverse the order with \
                 order=, or narrow the list down with principal= or client_id="
            ),
        );
    }
    // By default, ids ascend and everything else descends.
    query.descending = order.unwrap_or(query.sort != Sort::Id);
    Ok((query, offset))
}

fn sort(value: &str) -> Result<Sort, Refusal> {
    let known = SORTS.iter().find(|(name, _)| *name == value);
    known.map_or_else(
        || {
            let names = SORTS.map(|(name, _)| name).join(", ");
            refuse(
                StatusCode::BAD_REQUEST,
                format!("unknown sort; give one of {names}"),
            )
        },
        |&(_, sort)| Ok(sort),
    )
}

fn is_descending(value: &str) -> Result<bool, Refusal> {
    match value {
        "desc" => Ok(true),
        "asc" => Ok(false),
        _ => refuse(StatusCode::BAD_REQUEST, "unknown order; give asc or desc"),
    }
}

/// The answer of `DELETE /connections/ID`.
#[derive(Serialize)]
struct Kicked {
    id: String,
    closing: bool,
}

async fn kick(
    Changer(principal): Changer,
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Json<Kicked>, Refusal> {
    let Some((shard, key)) = parse_id(&id) else {
        return refuse(
            StatusCode::BAD_REQUEST,
            "this is not a connection id; give one as GET /connections shows it: \
             shard-slot-generation",
        );
    };
    if !admin.lister.kick(shard, key).await.map_err(late)? {
        return refuse(
            StatusCode::NOT_FOUND,
            "there is no such connection, or it is already ending; GET /connections lists those \
             that exist",
        );
    }
    tracing::info!(
        by = &*principal,
        shard = shard.0,
        connection = %key,
        "ended by an operator"
    );
    Ok(Json(Kicked { id, closing: true }))
}

/// Parses `shard-slot-generation`, only in the exact form in which it is written.
fn parse_id(id: &str) -> Option<(ShardId, Key)> {
    let mut parts = id.split('-');
    let shard = ShardId(parts.next()?.parse().ok()?);
    let key = Key {
        slot: parts.next()?.parse().ok()?,
        generation: parts.next()?.parse().ok()?,
    };
    (format!("{shard}-{}-{}", key.slot, key.generation) == id).then_some((shard, key))
}

pub(super) fn late(_: Late) -> Refusal {
    Refusal(
        StatusCode::SERVICE_UNAVAILABLE,
        "a shard did not answer in time: it is very busy, or there are many such requests; try \
         again"
            .into(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_as_it_is_written_and_in_no_other_way() {
        let key = Key {
            slot: 7,
            generation: 9,
        };
        assert_eq!(parse_id("1-7-9"), Some((ShardId(1), key)));
        for wrong in [
            "",
            "1",
            "1-7",
            "1-7-9-0",
            "01-7-9",
            "1-+7-9",
            "1-7-",
            "-7-9",
            "65536-7-9",
            "1-4294967296-9",
            "a-b-c",
        ] {
            assert_eq!(parse_id(wrong), None, "{wrong}");
        }
    }
}
