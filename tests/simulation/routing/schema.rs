//! A topic with a schema on three shards: every subscriber gets its codec, in order, once, whatever
//! breaks; a message that does not conform goes to no one.

use super::super::server::{Guards, limits, ms};
use super::scene::Scene;
use ringmail::broker::{Demand, Schemas};
use ringmail::codec::Descriptors;
use ringmail::metrics::counter::Counter;
use ringmail::proto::envelope::{Codec, SlowPolicy};
use ringmail::proto::error::Code;
use ringmail::ring::sim::client::traffic::{Act, Command, Filter, Publish, Traffic};
use ringmail::ring::sim::client::{ClientId, Ending, Reading};
use ringmail::ring::sim::{Faults, RingSize};
use std::sync::Arc;

const SITE: &[u8] = include_bytes!("../../schema/site.binpb");

/// A server on which `s/#` has the schema of readings.
fn scene(seed: u64, faults: Faults) -> Scene {
    let demand = Arc::<Demand>::default();
    let make = move || {
        let schema = Descriptors::decode(SITE).unwrap().schema("site.Reading");
        let topics = vec![("s/#".to_owned(), schema.unwrap())];
        Schemas::new(topics, demand.clone(), 1 << 20)
    };
    let guards = Guards {
        schemas: Some(Arc::new(make)),
        // With tracing, the server adds a header to every message.
        trace: (seed % 4 == 1).then_some((1.0, 1 << 16)),
        ..Guards::default()
    };
    Scene::guarded(seed, faults, RingSize::default(), limits(), guards)
}

fn wanting(filter: &str, codec: Codec) -> Traffic {
    Traffic::of([Act::Subscribe(Filter::in_codec(filter, codec))])
}

/// The codecs of the messages a client received.
fn codecs(scene: &Scene, id: ClientId) -> Vec<Codec> {
    let delivered = scene.record(id).delivered;
    delivered.into_iter().map(|one| one.codec).collect()
}

/// In turn: small messages, large ones that a worker translates, and ones that are sent by
/// reference.
fn readings(topic: &str, count: usize) -> Vec<Act> {
    let sizes = [0, 40, 5000, 10, 40_000, 3, 3000, 6000, 1, 20_000];
    let codecs = [Codec::Json, Codec::Json, Codec::Protobuf];
    let act = |n: usize| {
        Act::Publish(Publish {
            bytes: sizes[n % sizes.len()],
            confirmed: n.is_multiple_of(2),
            ..Publish::in_codec(topic, codecs[n % codecs.len()])
        })
    };
    (0..count).map(act).collect()
}

#[test]
fn every_subscriber_gets_its_codec_in_the_order_of_publication() {
    for seed in 0..12 {
        let faults = match seed % 3 {
            0 => Faults::none(),
            _ => Faults::harmless(),
        };
        let mut scene = scene(seed, faults);
        let preferring = |codec| Traffic {
            codec: Some(codec),
            checksum: seed % 2 == 0,
            ..Traffic::of([Act::subscribe("s/+")])
        };
        let wanted = [
            Some(Codec::Json),
            Some(Codec::Protobuf),
            Some(Codec::Json),
            Some(Codec::Protobuf),
            Some(Codec::Protobuf),
            None,
        ];
        let readers = scene.enter_each([
            wanting("s/a", Codec::Json),
            wanting("s/#", Codec::Protobuf),
            preferring(Codec::Json),
            preferring(Codec::Protobuf),
            // The exact filter matches first, whatever codec the others ask for.
            Traffic::of([
                Act::Subscribe(Filter::in_codec("s/#", Codec::Json)),
                Act::Subscribe(Filter::in_codec("s/a", Codec::Protobuf)),
            ]),
            Traffic::of([Act::subscribe("#")]),
        ]);
        let writers = scene.enter_each([Traffic::default(), Traffic::default()]);
        for writer in writers {
            scene.act(writer, readings("s/a", 40));
        }
        scene.settle();
        // Messages are still on their way, late and in pieces.
        scene.run_for(ms(5000));
        for (index, (&reader, wanted)) in readers.iter().zip(wanted).enumerate() {
            for writer in writers {
                let numbers = scene.numbers(reader, writer, "s/a");
                let all: Vec<u32> = (0..40).collect();
                assert_eq!(numbers, all, "seed {seed}, reader {index}");
            }
            let codecs = codecs(&scene, reader);
            match wanted {
                Some(wanted) => assert!(codecs.iter().all(|&codec| codec == wanted)),
                None => assert!(
                    [Codec::Json, Codec::Protobuf]
                        .iter()
                        .all(|c| codecs.contains(c))
                ),
            }
        }
        // A message is translated once per codec, or once on each shard, however many subscribers
        // want it.
        let (server, published) = (&scene.server, 80);
        let made =
            server.count(Counter::TranslatedToJson) + server.count(Counter::TranslatedToProtobuf);
        assert!(
            (published..=3 * published).contains(&made),
            "{made} translations"
        );
        scene.finish();
    }
}

#[test]
fn a_message_is_translated_only_if_a_subscriber_wants_another_codec() {
    let mut scene = scene(1, Faults::none());
    scene.enter_each([
        Traffic::of([Act::subscribe("s/#")]),
        wanting("other/#", Codec::Protobuf),
    ]);
    let small = Act::Publish(Publish::in_codec("s/a", Codec::Json));
    let plain = Act::publish("other/a");
    let [writer] = scene.enter_each([Traffic::of([small, plain])]);
    assert!(scene.record(writer).errors.is_empty());
    assert_eq!(scene.server.count(Counter::TranslatedToProtobuf), 0);
    assert_eq!(scene.server.count(Counter::TranslatedToJson), 0);
    scene.finish();
}

#[test]
fn small_or_large_messages_that_do_not_conform_are_refused_and_later_ones_delivered() {
    let mut scene = scene(2, Faults::none());
    let [reader] = scene.enter_each([wanting("s/#", Codec::Protobuf)]);
    let bytes = |bytes| {
        // Codec bytes where the schema requires a reading.
        Act::Publish(Publish {
            bytes,
            ..Publish::of("s/a")
        })
    };
    let will = Publish {
        bytes: 9000,
        ..Publish::of("s/w")
    };
    let acts = [
        bytes(10),
        bytes(100_000),
        Act::Publish(Publish::in_codec("s/a", Codec::Json)),
        Act::Will(will),
    ];
    let [writer] = scene.enter_each([Traffic::of(acts)]);
    let errors = scene.record(writer).errors;
    let codes: Vec<_> = errors.iter().map(|one| (one.0, one.1)).collect();
    let refused = [1, 2, 4].map(|id| (id, Code::BadPayload));
    assert_eq!(codes, refused);
    assert_eq!(scene.server.count(Counter::SchemaRefused), 3);
    assert_eq!(scene.numbers(reader, writer, "s/a"), [2]);
    scene.end(writer, Ending::Reset);
    scene.settle();
    assert_eq!(scene.record(reader).delivered.len(), 1, "no will");
    scene.finish();
}

#[test]
fn retained_messages_and_wills_come_in_the_subscribers_codec() {
    let mut scene = scene(3, Faults::none());
    let retained = |topic: &str, codec, bytes| {
        Act::Publish(Publish {
            bytes,
            retain: true,
            ..Publish::in_codec(topic, codec)
        })
    };
    let clear = Act::Publish(Publish {
        empty: true,
        ..Publish::retained("s/c")
    });
    let will = |bytes| Publish {
        bytes,
        ..Publish::in_codec("s/w", Codec::Json)
    };
    let [reader] = scene.enter_each([wanting("s/w", Codec::Protobuf)]);
    let [_, small, large] = scene.enter_each([
        Traffic::of([
            retained("s/a", Codec::Json, 10),
            retained("s/b", Codec::Protobuf, 30_000),
            retained("s/c", Codec::Json, 10),
            clear,
        ]),
        Traffic::of([Act::Will(will(10))]),
        Traffic::of([Act::Will(will(30_000))]),
    ]);
    scene.end(small, Ending::Reset);
    scene.end(large, Ending::Reset);
    scene.settle();
    assert_eq!(codecs(&scene, reader), [Codec::Protobuf; 2]);
    for codec in [Codec::Json, Codec::Protobuf] {
        // On all shards.
        let late = || wanting("s/+", codec);
        for reader in scene.enter_each([late(), late(), late()]) {
            assert_eq!(codecs(&scene, reader), [codec; 2]);
        }
    }
    scene.finish();
}

#[test]
fn groups_slow_readers_and_sessions_get_their_codec() {
    for seed in 0..8 {
        let mut scene = scene(seed, Faults::none());
        let member = || {
            let filter = Filter {
                codec: Codec::Protobuf,
                ..Filter::in_group("s/#", "g")
            };
            Traffic::of([Act::Subscribe(filter)])
        };
        let slow = Filter {
            codec: Codec::Json,
            ..Filter::with_policy("s/#", SlowPolicy::LatestPerKey)
        };
        let kept = Traffic {
            cuts: vec![(ms(30), Ending::Reset), (ms(60), Ending::Vanish)],
            ..Traffic::with_session([Act::Subscribe(Filter::in_codec("s/#", Codec::Protobuf))])
        };
        let readers = scene.enter_each([
            member(),
            member(),
            member(),
            Traffic::of([Act::Subscribe(slow)]),
            kept,
        ]);
        let [.., slow, kept] = readers;
        scene.world.command(slow, Command::Read(Reading::Never));
        let writing = Traffic {
            cuts: vec![(ms(25), Ending::Reset), (ms(70), Ending::Reset)],
            ..Traffic::with_session(readings("s/a", 30))
        };
        let [writer] = scene.enter_each([writing]);
        scene.world.command(slow, Command::Read(Reading::Eager));
        scene.settle();
        for (reader, codec) in readers.into_iter().zip([
            Codec::Protobuf,
            Codec::Protobuf,
            Codec::Protobuf,
            Codec::Json,
            Codec::Protobuf,
        ]) {
            let codecs = codecs(&scene, reader);
            assert!(
                codecs.iter().all(|&one| one == codec),
                "seed {seed}: {codecs:?}"
            );
        }
        let numbers = scene.numbers(kept, writer, "s/a");
        let confirmed = (0..30).step_by(2);
        assert!(
            confirmed.clone().all(|n| numbers.contains(&n)),
            "seed {seed}: {numbers:?}"
        );
        assert!(numbers.is_sorted(), "seed {seed}: {numbers:?}");
        scene.finish();
    }
}

#[test]
fn a_translation_that_is_too_large_is_counted_and_not_delivered() {
    let mut scene = scene(4, Faults::none());
    let [json, protobuf] =
        scene.enter_each([wanting("s/#", Codec::Json), wanting("s/#", Codec::Protobuf)]);
    // As base64 it is a third larger than the largest message the server accepts.
    let large = Act::Publish(Publish {
        bytes: 900_000,
        retain: true,
        ..Publish::in_codec("s/a", Codec::Protobuf)
    });
    let small = Act::Publish(Publish::in_codec("s/a", Codec::Protobuf));
    let [writer] = scene.enter_each([Traffic::of([large, small])]);
    assert_eq!(scene.numbers(protobuf, writer, "s/a"), [0, 1]);
    assert_eq!(scene.numbers(json, writer, "s/a"), [1]);
    assert_eq!(scene.server.count(Counter::DeliveriesTooLarge), 1);
    let [json, protobuf] =
        scene.enter_each([wanting("s/#", Codec::Json), wanting("s/#", Codec::Protobuf)]);
    assert_eq!(scene.numbers(protobuf, writer, "s/a"), [0]);
    assert_eq!(scene.record(json).delivered.len(), 0);
    assert_eq!(scene.server.count(Counter::DeliveriesTooLarge), 2);
    scene.close();
    scene.rest();
}

#[test]
fn hundreds_on_a_shard_get_their_codec_slice_by_slice() {
    // More on each shard than one slice delivers to.
    const READERS: usize = 3 * 300;
    let mut scene = scene(5, Faults::none());
    let codecs = [Codec::Json, Codec::Protobuf, Codec::Bytes];
    let readers: Vec<_> = (0..READERS)
        .map(|n| scene.enter(wanting("s/a", codecs[n % codecs.len()])))
        .collect();
    scene.settle();
    let acts = [
        (Codec::Json, 10),
        (Codec::Protobuf, 6000),
        (Codec::Json, 6000),
    ];
    let acts = acts.map(|(codec, bytes)| {
        Act::Publish(Publish {
            bytes,
            ..Publish::in_codec("s/a", codec)
        })
    });
    let [writer] = scene.enter_each([Traffic::of(acts)]);
    scene.run_for(ms(5000));
    for (n, reader) in readers.into_iter().enumerate() {
        assert_eq!(
            scene.numbers(reader, writer, "s/a"),
            [0, 1, 2],
            "reader {n}"
        );
        let wanted = match codecs[n % codecs.len()] {
            Codec::Bytes => vec![Codec::Json, Codec::Protobuf, Codec::Json],
            codec => vec![codec; 3],
        };
        assert_eq!(self::codecs(&scene, reader), wanted, "reader {n}");
    }
    // The large messages once, before they go to the other shards.
    let server = &scene.server;
    assert_eq!(server.count(Counter::TranslatedToJson), 1);
    assert!((2..=4).contains(&server.count(Counter::TranslatedToProtobuf)));
    scene.finish();
}

#[test]
fn a_connection_that_ends_while_a_worker_has_its_message_leaves_nothing_behind() {
    for seed in 0..40 {
        let mut scene = scene(seed, Faults::none());
        let [reader] = scene.enter_each([wanting("s/#", Codec::Protobuf)]);
        let large = |topic| Publish {
            bytes: 50_000,
            ..Publish::in_codec(topic, Codec::Json)
        };
        let ending = [Ending::Reset, Ending::Fin, Ending::Close][seed as usize % 3];
        let will = [Act::Will(large("s/w")), Act::End(ending)];
        let publish = [Act::Publish(large("s/a")), Act::End(ending)];
        let kept = Traffic {
            reconnect: None,
            ..Traffic::with_session(publish.clone())
        };
        scene.enter(Traffic::of(will));
        scene.enter(Traffic::of(publish));
        scene.enter(kept);
        scene.run_for(ms(2000));
        let codecs = codecs(&scene, reader);
        assert!(codecs.iter().all(|&codec| codec == Codec::Protobuf));
        scene.outlast();
        scene.close();
        scene.rest();
    }
}
