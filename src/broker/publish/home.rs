//! Retained publications by way of their topic's home, so that all shards deliver those of
//! several publishers in one order, and the last of them is what is retained (see
//! `mesh::home`).

use crate::base::id::Key;
use crate::broker::Broker;
use crate::broker::mesh::confirmation::{Answer, Until};
use crate::broker::mesh::{Cause, Ticket};
use crate::broker::publish::fanout_queue::Fanning;
use crate::broker::publish::parcel::Parcel;
use crate::broker::publish::publication::{Origin, Publication, Terms, Translation};

/// When a publication is queued for all who get it.
#[derive(Clone, Copy)]
pub(in crate::broker) enum Reach {
    /// It is, but for a fan-out of its own.
    Here,
    /// When other shards have done what they were told.
    Everywhere,
    /// When its home has said so.
    Home(Ticket),
}

impl Broker {
    /// Sends a publication that this connection makes to its topic's home, if it has to be
    /// delivered from there: it is retained, or comes behind one that is.
    pub(in crate::broker) fn send_home(
        &mut self,
        by: Key,
        retain: bool,
        publication: &mut Publication<'_>,
    ) -> Option<Ticket> {
        let home = self.mesh.home(self.id, publication.envelope.name)?;
        if !retain && !self.mesh.has_homing(home, by) {
            return None;
        }
        let terms = publication.terms(retain, false, self.resources.now);
        let (parcel, translated) = publication.forms();
        Some(self.mesh.send_home(home, by, parcel, terms, translated))
    }

    /// Delivers a publication of another shard's whose topic is at home here.
    pub(in crate::broker) fn take_home(
        &mut self,
        cause: Cause<'_>,
        parcel: Parcel<'_>,
        terms: &Terms,
        translation: Option<Box<Translation>>,
    ) {
        let Some(envelope) = parcel.message().publication() else {
            return;
        };
        let bytes = parcel.len();
        let publication = self.publication_of_peer(&envelope, parcel, terms, translation);
        self.spread(Origin::Home(cause.from), publication, Some(cause));
        if self.fanouts.fanning(cause.from) == Fanning::No {
            self.mesh.owe(cause.from, bytes);
        }
    }

    /// Confirms a PUBLISH when it has reached all.
    pub(in crate::broker) fn confirm_reach(&mut self, key: Key, id: u32, reach: Reach) {
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
