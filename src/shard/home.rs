//! Retained publications by way of their topic's home, so that all shards deliver those of
//! several publishers in one order, and the last of them is what is retained (see
//! `mesh::home`).

use super::confirmation::{Answer, Until};
use super::exchange::Exchange;
use super::fanout_queue::Fanning;
use super::mesh::{Cause, Terms, Ticket};
use super::parcel::Parcel;
use super::publication::{Origin, Publication, Sent, Translation};
use crate::base::id::Key;
use crate::base::limits::MESSAGE_HEADER_BYTES;
use crate::proto::envelope::Envelope;
use crate::proto::message::MessageType;

/// When a publication is queued for all who get it.
#[derive(Clone, Copy)]
pub(super) enum Reach {
    /// It is, but for a fan-out of its own.
    Here,
    /// When other shards have done what they were told.
    Everywhere,
    /// When its home has said so.
    Home(Ticket),
}

impl Exchange {
    /// Sends a publication that this connection makes to its topic's home, if it has to be
    /// delivered from there: it is retained, or comes behind one that is.
    pub(super) fn send_home(
        &mut self,
        by: Key,
        retain: bool,
        publication: &mut Publication<'_>,
    ) -> Option<Ticket> {
        let home = self.mesh.home(self.id, publication.envelope.name)?;
        if !retain && !self.mesh.has_homing(home, by) {
            return None;
        }
        let translation = publication.translation.as_ref();
        let (translation, translated) = translation.map_or((Sent::None, None), |t| t.sent());
        let terms = Terms {
            plain: false,
            retain,
            again: false,
            grown: false,
            translation,
            at: self.resources.now,
            expires: publication.expires,
        };
        let parcel = &mut publication.parcel;
        Some(self.mesh.send_home(home, by, parcel, terms, translated))
    }

    /// Delivers a publication of another shard's whose topic is at home here.
    pub(super) fn take_home(
        &mut self,
        cause: Cause<'_>,
        parcel: Parcel<'_>,
        terms: &Terms,
        translation: Option<Box<Translation>>,
    ) {
        let body = &parcel.message()[MESSAGE_HEADER_BYTES..];
        let Ok(envelope) = Envelope::parse(MessageType::Publish, body) else {
            debug_assert!(false, "another shard has checked it");
            return;
        };
        let bytes = parcel.len();
        let parcel = parcel.grown(terms.grown);
        let mut publication = self.publication(&envelope, parcel, terms.expires);
        publication.span = self.resources.begin_deliver(&envelope.headers);
        publication.translation = translation;
        self.spread(Origin::Home(cause.from), publication, Some(cause));
        if self.fanouts.fanning(cause.from) == Fanning::No {
            self.mesh.owe(cause.from, bytes);
        }
    }

    /// Confirms a PUBLISH when it has reached all.
    pub(super) fn confirm_reach(&mut self, key: Key, id: u32, reach: Reach) {
        match reach {
            Reach::Here => self.confirm_publish(key, id, false),
            Reach::Everywhere => self.confirm_publish(key, id, true),
            Reach::Home(ticket) => {
                let until = Until {
                    ticket: Some(ticket),
                    ..self.until_done()
                };
                self.answer_at(key, Answer::published(id), Some(until));
            }
        }
    }
}
