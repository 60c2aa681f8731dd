//! A client as its subscriptions see it: it asks once, for its connection does not break.

use crate::client::driver::{Core, Shared};
use crate::client::error::Error;
use crate::client::registry::Change;
use crate::proto::envelope::Envelope;
use crate::proto::message::MessageType;
use std::sync::Arc;

#[derive(Clone)]
pub struct Client(pub(in crate::client) Arc<Shared>);

impl Client {
    pub(in crate::client) fn shared(&self) -> &Arc<Shared> {
        &self.0
    }

    pub(in crate::client) async fn operate(
        &self,
        _: &'static str,
        kind: MessageType,
        envelope: Envelope<'_>,
        change: &Change,
    ) -> Result<(), Error> {
        let ask = |core: &mut Core| core.conversation.ask(kind, envelope, change.clone());
        let call = self
            .0
            .call(|core| core.admits_operation().then(|| ask(core)));
        call.await.map(drop)
    }
}
