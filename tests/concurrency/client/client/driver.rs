//! The client's task, and a server in the same task: what is written is read, answered and taken in,
//! in as many pieces as a schedule makes of it.

#[path = "../../../../src/client/driver/core.rs"]
mod core;

pub(in crate::client) use self::core::{Core, Shared};

use super::builder::Options;
use super::clock;
use super::conversation::Conversation;
use super::link::Link;
use crate::proto::envelope::Envelope;
use crate::proto::message::{Message, MessageType};
use crate::proto::reassembly::Reassembly;
use crate::proto::session::{Event, Session, Step};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

pub(super) fn start(options: Options) -> (Arc<Shared>, Task) {
    let settings = Arc::new(options.settings().unwrap());
    let link = Link::new(settings.clone(), &options.hello(), 1, clock::now());
    let conversation = Conversation::new(link, &options, None);
    let peer = SocketAddr::from(([127, 0, 0, 1], 1));
    let shared = Shared::new(Core::new(conversation, peer), options);
    let task = Task {
        shared: shared.clone(),
        session: Session::accept(settings, 2, clock::now()),
        input: Reassembly::default(),
        filters: BTreeSet::new(),
    };
    (shared, task)
}

pub(super) struct Task {
    shared: Arc<Shared>,
    session: Session,
    input: Reassembly,
    /// What the client is subscribed to.
    filters: BTreeSet<String>,
}

impl Task {
    /// Runs until the client has closed. Then the server has no subscription left.
    pub async fn run(mut self) {
        loop {
            let written = {
                let mut core = self.shared.lock();
                let written = core.conversation.unsent().to_vec();
                core.conversation.advance(written.len());
                written
            };
            if written.is_empty() {
                if self.shared.lock().conversation.is_over() {
                    break;
                }
                self.shared.wait_for_work().await;
                continue;
            }
            let mut answer = Vec::new();
            self.serve(&written, &mut answer);
            self.shared
                .lock()
                .conversation
                .receive(&answer, clock::now());
            self.shared.spread();
        }
        self.shared.abandon();
    }

    fn serve(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        loop {
            match self
                .session
                .handle(self.input.view(bytes), clock::now(), out)
            {
                Step::Incomplete { need } => {
                    if !self.input.fill(need, &mut bytes) {
                        return;
                    }
                }
                Step::Taken { used, event } => {
                    let said = match event {
                        Event::Message(Message::Envelope(kind, envelope)) => {
                            Some((kind, envelope.id, envelope.name.to_owned()))
                        }
                        Event::PeerClosed { .. } => {
                            self.session.finish(out);
                            None
                        }
                        _ => None,
                    };
                    self.input.consume(used, &mut bytes);
                    if let Some((kind, id, name)) = said {
                        self.answer(kind, id, name, out);
                    }
                    if self.session.is_ended() {
                        return;
                    }
                }
            }
        }
    }

    fn answer(&mut self, kind: MessageType, id: u32, name: String, out: &mut Vec<u8>) {
        if kind == MessageType::Publish {
            if self.filters.contains(&name) {
                let envelope = Envelope {
                    name: &name,
                    ..Envelope::default()
                };
                self.session.send(&Message::Envelope(kind, envelope), out);
            }
        } else if kind == MessageType::Subscribe {
            self.filters.insert(name);
        } else if kind == MessageType::Unsubscribe {
            self.filters.remove(&name);
        }
        if id != 0 {
            self.session.send(&Message::Ok { id }, out);
        }
    }
}
