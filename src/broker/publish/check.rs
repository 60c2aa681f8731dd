//! Payloads that take long to check: a worker checks them, and also translates those wanted in the
//! other codec, so that the shard's other connections do not wait.
//!
//! ```text
//!   PUBLISH, WILL ─► copy ─► worker ─► mailbox ─► route, or refuse ─► the publisher continues
//!                    └────── the publisher is not read from ──────┘
//! ```
//!
//! So one connection's publications keep their order, and each connection has at most one message
//! with the workers. An accepted message is published even if its connection ends meanwhile, as it
//! would have been without the detour; and a session with a message at a worker is not taken over
//! before the message is back.

use crate::base::id::Key;
use crate::broker::Broker;
use crate::broker::mesh::confirmation::Answer;
use crate::broker::peers::transport::Stage;
use crate::broker::publish::finding::{Finding, Purpose};
use crate::broker::publish::parcel::Parcel;
use crate::broker::publish::publication::{Form, Origin, SchemaId, Translation, other};
use crate::codec::{Misfit, Schema};
use crate::proto::encoded::Encoded;
use crate::proto::envelope::{Codec, Envelope, FLAG_RETAIN};
use crate::wire::Received;
use bytes::Bytes;

/// A worker's task.
struct Task {
    schema: Schema,
    message: Bytes,
    /// The largest translated payload in bytes; `None`: no one wants a translation.
    payload_bytes_max: Option<usize>,
}

impl Task {
    fn run(&self) -> Result<Form, Misfit> {
        let Some(envelope) = Encoded::of(&self.message).envelope() else {
            return Ok(Form::TooLarge);
        };
        let checked = self.schema.check(envelope.codec, envelope.payload)?;
        let Some(most) = self.payload_bytes_max else {
            // Not worth passing the parsed payload on: freeing it costs as much as parsing it.
            return Ok(Form::Unmade(None));
        };
        let mut payload = Vec::new();
        match checked.write(other(envelope.codec), most, &mut payload) {
            Ok(()) => Ok(Form::Payload(payload)),
            Err(_) => Ok(Form::TooLarge),
        }
    }
}

impl Broker {
    /// Has a worker check a PUBLISH or WILL; `message` is all of it, as received. Once that is
    /// done, it is answered, and its connection is read from again.
    pub(in crate::broker) fn have_checked(
        &mut self,
        key: Key,
        purpose: Purpose,
        id: SchemaId,
        envelope: &Envelope<'_>,
        message: Received<'_>,
    ) {
        let (Some(connection), Some(schemas)) = (self.connections.get_mut(key), &self.schemas)
        else {
            return;
        };
        let message = Bytes::from(message.copied());
        let message = self.resources.pool.ledger.share(message);
        let is_kept = match purpose {
            Purpose::Publish => envelope.flags & FLAG_RETAIN != 0,
            Purpose::KeepWill => true,
        };
        let is_wanted = is_kept || schemas.is_wanted(other(envelope.codec));
        let task = Task {
            schema: schemas.schema(id).clone(),
            message: message.clone(),
            payload_bytes_max: (is_wanted && envelope.codec != Codec::Bytes)
                .then(|| schemas.payload_bytes_max(envelope)),
        };
        let tracer = self.resources.tracer.as_ref();
        let context = tracer.and_then(|tracer| tracer.received());
        connection.transport.principal_mut().checking = true;
        connection.transport.held = true;
        connection.member.answers_open += 1;
        let findings = self.findings.clone();
        self.resources.calls.work(move || {
            let found = task.run();
            drop(task);
            findings.post(Box::new(Finding {
                connection: key,
                purpose,
                message,
                context,
                schema: id,
                found,
            }));
        });
    }

    /// Handles the result of a worker.
    pub(crate) fn take_finding(&mut self, finding: Finding) {
        let key = finding.connection;
        let (mut origin, mut is_member) = (Origin::Nobody, false);
        if let Some(connection) = self.connections.get_mut(key) {
            let now = self.resources.now;
            connection.member.answers_open -= 1;
            let principal = connection.transport.principal_mut();
            principal.checking = false;
            connection.transport.held = principal.waits();
            is_member = matches!(connection.transport.stage, Stage::Running | Stage::Detached);
            if connection.transport.stage == Stage::Running {
                origin = Origin::Connection(key);
                // The time in which it was not read from does not count against it.
                connection.transport.session.restart_frame_clock(now);
                if !std::mem::replace(&mut connection.member.ready, true) {
                    self.lists.make_ready(key);
                }
            }
        }
        if self.deaf {
            return;
        }
        let Some(envelope) = Encoded::of(&finding.message).envelope() else {
            return;
        };
        match (finding.found, finding.purpose) {
            (Err(misfit), Purpose::Publish) => {
                let refusal = self.refuse_payload(misfit.text);
                self.answer(key, Answer::unpublished(envelope.id, refusal), false);
            }
            (Err(misfit), Purpose::KeepWill) => {
                let refusal = self.refuse_payload(misfit.text);
                self.answer(key, Answer::refused(envelope.id, refusal), true);
            }
            (Ok(form), Purpose::Publish) => {
                let translation = Some(Translation::new(finding.schema, form));
                let (parcel, context) = (Parcel::shared(&finding.message), finding.context);
                self.publish_parcel(origin, key, &envelope, parcel, translation, context);
            }
            (Ok(form), Purpose::KeepWill) if is_member => {
                let translation = Some(Translation::new(finding.schema, form));
                self.put_will(key, Encoded::of(&finding.message), translation);
                self.answer(key, Answer::ok(envelope.id), true);
            }
            // Its client state is gone, and the client was not told that the will is kept.
            (Ok(_), Purpose::KeepWill) => {}
        }
        self.touch(key);
    }
}
