//! Retained publications go through their topic's home shard, so that all shards deliver those of
//! several publishers in one order, and keep the same last one (see `mesh::home`).

use crate::base::id::Key;
use crate::broker::Broker;
use crate::broker::mesh::confirmation::{Answer, Until};
use crate::broker::mesh::{Cause, Ticket};
use crate::broker::publish::fanout_queue::Fanning;
use crate::broker::publish::parcel::Parcel;
use crate::broker::publish::publication::{Origin, Publication, Terms, Translation};

/// When a publication counts as queued for everyone who gets it.
#[derive(Clone, Copy)]
pub(in crate::broker) enum Reach {
    /// At once, apart from its own fan-out.
    Here,
    /// When the other shards have done what this one has said.
    Everywhere,
    /// When its home has confirmed it.
    Home(Ticket),
}

impl Broker {
    /// Sends a publication of this connection to its topic's home if it must be delivered from
    /// there: it is retained, or follows one that is.
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
        let mut matches = std::mem::take(&mut self.matches);
        self.find(publication.envelope.name, &mut matches);
        let units = self.mesh.most_units(&matches);
        self.matches = matches;
        let terms = publication.terms(retain, false, self.resources.now);
        let (parcel, translated) = publication.forms();
        let ticket = self
            .mesh
            .send_home(home, by, parcel, terms, translated, units);
        Some(ticket)
    }

    /// Delivers a publication of another shard whose topic has its home here.
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

    /// Confirms a PUBLISH once it has reached everyone.
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
