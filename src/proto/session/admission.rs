//! What a server's session lets its client send before authentication, and while a full server
//! has room for it only if it resumes a session.

use super::Session;
use super::standing::Standing;
use crate::base::clock::Instant;
use crate::proto::error::{Code, Refusal};
use crate::proto::kind::{Admission, MessageType};

impl Session {
    /// Whether the client has authenticated, or need not.
    pub fn is_authenticated(&self) -> bool {
        matches!(self.standing, Standing::OnTrial | Standing::Admitted)
    }

    /// Whether the client may stay only if it resumes a session.
    pub fn is_on_trial(&self) -> bool {
        matches!(self.standing, Standing::StrangerOnTrial | Standing::OnTrial)
    }

    /// The owner has checked the client's credential: everything is allowed from now on.
    pub fn authenticate(&mut self) {
        match self.standing {
            Standing::StrangerOnTrial | Standing::OnTrial => self.standing = Standing::OnTrial,
            Standing::Stranger | Standing::Admitted => {
                self.standing = Standing::Admitted;
                self.auth_deadline = Instant::NEVER;
            }
        }
    }

    /// The owner has room for this client only if it resumes a session: anything else is refused,
    /// and so is a client that does not resume one within [`super::Settings::auth_timeout`].
    pub fn put_on_trial(&mut self, now: Instant) {
        self.standing = match self.is_authenticated() {
            true => Standing::OnTrial,
            false => Standing::StrangerOnTrial,
        };
        if self.is_established() {
            self.auth_deadline = now + self.settings.auth_timeout;
        }
    }

    /// The client has resumed a session.
    pub fn end_trial(&mut self) {
        if self.standing == Standing::OnTrial {
            self.standing = Standing::Admitted;
            self.auth_deadline = Instant::NEVER;
        }
    }

    /// The refusal for a connection for which there is no room.
    #[cold]
    pub fn full() -> Refusal {
        let text = "this server has reached its connection limit";
        Refusal::new(Code::TooManyConnections, text)
    }

    #[cold]
    pub(super) fn accept_by_rights(&self, kind: MessageType) -> Result<(), Refusal> {
        if kind == MessageType::Auth && self.settings.auth_methods == 0 {
            let text = "this server does not authenticate clients; send no AUTH";
            return Err(Refusal::new(Code::Unexpected, text));
        }
        match kind.admission() {
            Admission::Stranger => Ok(()),
            Admission::Trial if self.is_authenticated() => Ok(()),
            Admission::Trial | Admission::Member => Err(match self.is_authenticated() {
                true => Self::full(),
                false => Refusal::new(Code::AuthRequired, "the first message must be AUTH"),
            }),
        }
    }
}
