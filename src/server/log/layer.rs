//! The layer that formats events as lines and hands them to the writer's queue.

use super::line::{Layout, Line, Record};
use super::writer::Queue;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::thread;
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// The layer that formats events as lines.
pub(super) struct Lines {
    layout: Layout,
    queue: Queue,
}

impl Lines {
    pub(super) fn new(layout: Layout, queue: Queue) -> Lines {
        Lines { layout, queue }
    }
}

impl<S: Subscriber> Layer<S> for Lines {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut record = Record::new(*event.metadata().level(), event.metadata().target());
        event.record(&mut record);
        if !record.has("shard")
            && let Some(shard) = shard_of_thread()
        {
            record.put_shard(shard);
        }
        let mut same = DefaultHasher::new();
        event.metadata().callsite().hash(&mut same);
        record.hash_texts(&mut same);
        self.queue.push(Line {
            level: record.level(),
            same: same.finish(),
            text: record.written(self.layout),
        });
    }
}

/// The number in the name that boot gives to a shard's thread.
fn shard_of_thread() -> Option<u16> {
    let thread = thread::current();
    thread.name()?.strip_prefix("shard-")?.parse().ok()
}
