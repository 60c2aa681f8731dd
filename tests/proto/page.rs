//! `src/proto/PROTOCOL.md` against the code. Each table of the page is read as it stands and
//! held in both directions: a row that is missing, one too many and one that says something
//! else all fail. What the code has in a table of its own is compared with that; what it
//! decides in passing (lengths, ranges, directions, flags) is asked of its parsers and of a
//! session. The conversation at the page's head is held, byte by byte, by two sessions.

use super::pair::{
    CLIENT_SEQ, End, SERVER_SEQ, ack, encoded, frame, options, rst, settings, start, syn,
};
use ringmail::Config;
use ringmail::auth::Method;
use ringmail::base::limits;
use ringmail::proto::envelope::{
    Codec, Envelope, FLAG_FAILED, FLAG_HEADERS, FLAG_RETAIN, Headers, SlowPolicy, header,
};
use ringmail::proto::error::Code;
use ringmail::proto::frame::{Frame, FrameType, Parsed};
use ringmail::proto::kind::Sender;
use ringmail::proto::message::{Header, Message, MessageType, open};
use ringmail::proto::option::{AUTH_OPTIONAL, FEATURE_CHECKSUM, KINDS, Options};
use ringmail::proto::session::{Event, Session, Step};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, LazyLock};

/// Read when the test runs, so that who writes the page need not build to hear what it misses.
static PAGE: LazyLock<String> = LazyLock::new(|| {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/proto/PROTOCOL.md");
    std::fs::read_to_string(path).expect("the page")
});
/// Lengths up to this are tried; what the page leaves open has to be accepted up to here.
const TRIED: usize = 300;

/// A row of a table: its cells by the heads of their columns.
struct Row(BTreeMap<&'static str, &'static str>);

impl Row {
    fn cell(&self, column: &str) -> &'static str {
        let cell = self.0.get(column);
        cell.unwrap_or_else(|| panic!("no column {column:?} beside {:?}", self.0.keys()))
    }

    fn number(&self, column: &str) -> u32 {
        let text = self.cell(column);
        let read = match text.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16),
            None => text.parse(),
        };
        read.unwrap_or_else(|_| panic!("{text:?} in column {column:?} is no number"))
    }

    fn byte(&self, column: &str) -> u8 {
        u8::try_from(self.number(column)).expect("a byte")
    }
}

fn cells(line: &'static str) -> Vec<&'static str> {
    let inner = line.trim().trim_matches('|');
    inner.split('|').map(str::trim).collect()
}

/// The table under a heading whose first column has this head.
fn table(heading: &str, first: &str) -> Vec<Row> {
    let mut lines = PAGE.lines().skip_while(|line| *line != heading).skip(1);
    let head = lines
        .by_ref()
        .take_while(|line| !line.starts_with("## ") && !line.starts_with("### "))
        .find(|line| line.starts_with('|') && cells(line)[0] == first);
    let heads = cells(head.unwrap_or_else(|| panic!("{heading}: no table that begins {first:?}")));
    let rows = lines.skip(1).take_while(|line| line.starts_with('|'));
    let row = |line| {
        let cells: Vec<_> = cells(line);
        assert_eq!(cells.len(), heads.len(), "{line}");
        Row(heads.iter().copied().zip(cells).collect())
    };
    let rows: Vec<Row> = rows.map(row).collect();
    assert!(!rows.is_empty(), "{heading}: no rows");
    rows
}

/// Numbers and names, as the page's rows have them, in its order.
fn named(rows: &[Row], number: &str) -> Vec<(u32, &'static str)> {
    let pair = |row: &Row| (row.number(number), row.cell("Name"));
    rows.iter().map(pair).collect()
}

/// Whether a size is one of those that the page names: `4`, `0–64`, `2–`, `1, 5, 9`.
fn is_among(sizes: &str, size: u64) -> bool {
    let parse = |text: &str| text.parse::<u64>().unwrap_or_else(|_| panic!("{sizes:?}"));
    sizes.split(", ").any(|one| match one.split_once('–') {
        None => parse(one) == size,
        Some((least, "")) => parse(least) <= size,
        Some((least, most)) => (parse(least)..=parse(most)).contains(&size),
    })
}

fn hold_sizes(what: &str, sizes: &str, most: usize, accepts: impl Fn(usize) -> bool) {
    for size in 0..=most {
        let said = is_among(sizes, size as u64);
        assert_eq!(accepts(size), said, "{what}: {size} bytes, page: {sizes}");
    }
}

fn sender(by_client: bool, by_server: bool) -> &'static str {
    match (by_client, by_server) {
        (true, true) => "both",
        (true, false) => "client",
        (false, true) => "server",
        (false, false) => panic!("nobody takes it"),
    }
}

#[test]
fn frame_types_are_those_of_the_page() {
    let rows = table("### Frame types", "Value");
    let of = |byte| FrameType::from_wire(byte).map(|kind| (byte, kind));
    let known: Vec<_> = (0..=u8::MAX).filter_map(of).collect();
    let name = |kind: FrameType| match kind {
        FrameType::Syn => "SYN",
        FrameType::SynAck => "SYN-ACK",
        FrameType::Ack => "ACK",
        FrameType::Rst => "RST",
    };
    let here: Vec<_> = known
        .iter()
        .map(|&(byte, kind)| (u32::from(byte), name(kind)))
        .collect();
    assert_eq!(named(&rows, "Value"), here);
    for (row, &(_, kind)) in rows.iter().zip(&known) {
        let takes = |mut end: End, seq, acknowledgement: u32| {
            end.forget();
            end.receive(&frame(kind, seq, &acknowledgement.to_be_bytes()), start());
            let refused = end.out.get(2) == Some(&(FrameType::Rst as u8));
            !refused || rst(&end.out).1 != Code::Unexpected.to_wire()
        };
        let (next, known) = (CLIENT_SEQ.wrapping_add(1), SERVER_SEQ.wrapping_add(1));
        let mut shaken = End::server(settings());
        shaken.receive(&syn(false), start());
        let by_server = takes(End::server(settings()), CLIENT_SEQ, known);
        let by_server = takes(shaken, next, known) || by_server;
        let client = End::client(settings(), &Options::default());
        let by_client = takes(client, SERVER_SEQ, next);
        assert_eq!(
            row.cell("Sent by"),
            sender(by_server, by_client),
            "{kind:?}"
        );
    }
}

#[test]
fn layouts_add_up_to_the_headers() {
    let rows = [
        ("### Control frames", limits::FRAME_HEADER_BYTES),
        ("### Message header", limits::MESSAGE_HEADER_BYTES),
    ];
    for (heading, header_bytes) in rows {
        let mut at = 0;
        for row in table(heading, "Offset") {
            assert_eq!(row.number("Offset"), at, "{heading}");
            if row.cell("Bytes") == "n" {
                assert_eq!(at as usize, header_bytes, "{heading}");
            } else {
                at += row.number("Bytes");
            }
        }
    }
}

/// One option of each kind, as both sides together may send them.
fn samples() -> BTreeMap<u8, Vec<u8>> {
    let all = options(&Options {
        heartbeat_ms: Some(15_000),
        message_max: Some(65_536),
        features: Some(FEATURE_CHECKSUM),
        client_id: Some("meter-17"),
        codec: Some(Codec::Json),
        server: Some("x"),
        auth: Some(1),
        shard: Some(7),
    });
    split_options(&all)
}

fn split_options(mut list: &[u8]) -> BTreeMap<u8, Vec<u8>> {
    let mut found = BTreeMap::new();
    while let [kind, length, ..] = *list {
        let (one, rest) = list.split_at(2 + usize::from(length));
        found.insert(kind, one.to_vec());
        list = rest;
    }
    found
}

/// What a SYN with these options makes of a server's session: its answer, and what it keeps.
fn understood(asked: &[u8]) -> (Vec<u8>, u32, bool, Option<String>, Codec) {
    let mut end = End::server(settings());
    end.receive(&frame(FrameType::Syn, CLIENT_SEQ, asked), start());
    let session = &end.session;
    let id = session.client_id().map(String::from);
    let most = session.peer_message_bytes_max();
    (
        end.out.clone(),
        most,
        session.has_checksum(),
        id,
        session.codec(),
    )
}

#[test]
fn options_are_those_of_the_page() {
    let rows = table("### Options", "Kind");
    let known: Vec<_> = KINDS
        .iter()
        .map(|&(kind, name)| (u32::from(kind), name))
        .collect();
    assert_eq!(named(&rows, "Kind"), known);
    let samples = samples();
    for kind in 0..=u8::MAX {
        let twice = [kind, 1, 0, kind, 1, 0];
        let skipped = Options::parse(&twice).is_ok();
        assert_eq!(skipped, !samples.contains_key(&kind), "kind {kind}");
        assert_eq!(skipped, !known.iter().any(|one| one.0 == u32::from(kind)));
    }
    let answered = understood(&samples.values().flatten().copied().collect::<Vec<u8>>()).0;
    let granted = split_options(&answered[limits::FRAME_HEADER_BYTES + 4..]);
    for row in &rows {
        let (kind, sizes) = (row.byte("Kind"), row.cell("Bytes"));
        let accepts = |value: &[u8]| {
            let option = [&[kind, value.len() as u8], value].concat();
            Options::parse(&option).is_ok()
        };
        let fills = [0, 1, b'a'];
        hold_sizes(row.cell("Name"), sizes, 255, |size| {
            fills.iter().any(|&fill| accepts(&vec![fill; size]))
        });
        hold_values(row, &accepts);
        let heard = understood(&samples[&kind]) != understood(&[]);
        let meaning = match (heard, granted.contains_key(&kind)) {
            (true, true) => "both",
            (true, false) => "SYN",
            (false, true) => "SYN-ACK",
            (false, false) => "nothing",
        };
        assert_eq!(row.cell("Meaningful in"), meaning, "kind {kind}");
    }
}

/// A range of whole numbers, a set of characters, or UTF-8.
fn hold_values(row: &Row, accepts: &dyn Fn(&[u8]) -> bool) {
    let (values, name) = (row.cell("Value"), row.cell("Name"));
    if values == "UTF-8" {
        assert!(accepts("ü".as_bytes()) && !accepts(&[0xFF]), "{name}");
    } else if values.starts_with('A') {
        let said: BTreeSet<u8> = values
            .split(' ')
            .flat_map(|one| match one.split_once('–') {
                Some((least, most)) => least.as_bytes()[0]..=most.as_bytes()[0],
                None => one.as_bytes()[0]..=one.as_bytes()[0],
            })
            .collect();
        for byte in 0..=u8::MAX {
            assert_eq!(accepts(&[byte]), said.contains(&byte), "{name}: {byte}");
        }
    } else {
        let (least, most) = values.split_once('–').expect("a range");
        let (least, most): (u64, u64) = (least.parse().unwrap(), most.parse().unwrap());
        let size = row.number("Bytes") as usize;
        let tried = [
            0,
            1,
            least,
            most,
            most + 1,
            least.saturating_sub(1),
            (1 << (8 * size)) - 1,
        ];
        for value in tried.into_iter().filter(|value| value >> (8 * size) == 0) {
            let bytes = value.to_be_bytes();
            let is_said = (least..=most).contains(&value);
            assert_eq!(accepts(&bytes[8 - size..]), is_said, "{name}: {value}");
        }
    }
}

#[test]
fn bits_of_options_are_those_of_the_page() {
    let features = table("### Feature bits", "Bit");
    assert_eq!(named(&features, "Bit"), [(FEATURE_CHECKSUM, "CHECKSUM")]);
    let asked = options(&Options {
        features: Some(u32::MAX),
        ..Options::default()
    });
    let answer = understood(&asked).0;
    let granted = Options::parse(&answer[limits::FRAME_HEADER_BYTES + 4..]).unwrap();
    let bits = features.iter().map(|row| row.number("Bit"));
    assert_eq!(granted.features, Some(bits.sum()));

    let rows = table("### AUTH bits", "Bit");
    let (optional, methods) = rows.split_last().unwrap();
    let pair = (
        optional.byte("Bit"),
        optional.cell("Name"),
        optional.cell("AUTH method"),
    );
    assert_eq!(pair, (AUTH_OPTIONAL, "OPTIONAL", "–"));
    let row = |row: &Row| {
        (
            row.byte("AUTH method"),
            row.byte("Bit"),
            row.cell("Name").replace('_', ""),
        )
    };
    let known = (0..=u8::MAX).filter_map(|byte| {
        let method = Method::from_wire(byte)?;
        Some((byte, method.bit(), format!("{method:?}").to_uppercase()))
    });
    assert!(methods.iter().map(row).eq(known));
}

#[test]
fn message_types_are_those_of_the_page() {
    let rows = table("### Message types", "Value");
    let all = MessageType::ALL.iter();
    let known: Vec<_> = all.map(|kind| (*kind as u32, kind.name())).collect();
    assert_eq!(named(&rows, "Value"), known);
    for (row, &kind) in rows.iter().zip(MessageType::ALL) {
        let (client, server) = match kind.sender() {
            Sender::Client => (true, false),
            Sender::Server => (false, true),
            Sender::Both => (true, true),
        };
        assert_eq!(row.cell("Sent by"), sender(client, server), "{kind:?}");
        let is_envelope = row.cell("Body").starts_with("envelope: ");
        assert_eq!(is_envelope, kind.has_envelope(), "{kind:?}");
        // Zeros, or zeros but for one byte that says how long a field is.
        let parses = |body: &[u8]| Message::parse(kind, body).is_ok();
        let least = (0..).find(|&size| parses(&vec![0; size])).unwrap();
        let accepts = |size: usize| {
            let extra = u8::try_from(size.saturating_sub(least)).unwrap_or(0);
            let mut body = vec![0; size];
            parses(&body)
                || (0..size).any(|at| {
                    body[at] = extra;
                    let whole = extra > 0 && parses(&body);
                    body[at] = 0;
                    whole
                })
        };
        let most = least + usize::from(u8::MAX);
        hold_sizes(kind.name(), row.cell("Bytes"), most, accepts);
        let answers = row.cell("Answered by").split([' ', ',']);
        for answer in answers.filter(|word| word.len() > 3 && word.to_uppercase() == *word) {
            assert!(
                MessageType::ALL.iter().any(|one| one.name() == answer),
                "{answer}"
            );
        }
    }
}

fn envelope_types() -> impl Iterator<Item = MessageType> {
    let all = MessageType::ALL.iter().copied();
    all.filter(|kind| kind.has_envelope())
}

/// The types that a cell names: `any`, `never`, or by their names.
fn names_type(cell: &str, kind: MessageType) -> bool {
    cell == "any" || cell.split(", ").any(|name| name == kind.name())
}

#[test]
fn flags_are_those_of_the_page() {
    let rows = table("### Flags", "Bit");
    let known = [
        (u32::from(FLAG_RETAIN), "RETAIN"),
        (u32::from(FLAG_HEADERS), "HEADERS"),
        (u32::from(FLAG_FAILED), "FAILED"),
    ];
    assert_eq!(named(&rows, "Bit"), known);
    for kind in envelope_types() {
        for bit in (0..8).map(|shift| 1u8 << shift) {
            // No name, and an empty block of headers or an empty payload.
            let body = [0, 0, 0, 1, bit, 0, 0, 0, 0];
            let row = rows.iter().find(|row| row.byte("Bit") == bit);
            let is_said = row.is_some_and(|row| names_type(row.cell("On"), kind));
            assert_eq!(
                Envelope::parse(kind, &body).is_ok(),
                is_said,
                "{kind:?} {bit:#x}"
            );
        }
    }
}

#[test]
fn codecs_and_policies_are_those_of_the_page() {
    let codecs = named(&table("### Codecs", "Value"), "Value");
    let policies = named(&table("### Slow policies", "Value"), "Value");
    let said = |rows: &[(u32, &'static str)], value: u8| {
        let row = rows.iter().find(|row| row.0 == u32::from(value));
        row.map(|row| row.1.to_owned())
    };
    for value in 0..=u8::MAX {
        let codec = Codec::from_wire(value).map(|codec| format!("{codec:?}").to_lowercase());
        assert_eq!(codec, said(&codecs, value), "codec {value}");
        let label = SlowPolicy::from_wire(value).map(|policy| policy.label().to_owned());
        let allowed = Headers::check(&entry(header::SLOW_POLICY, &[value])).is_ok();
        let label = label.or(allowed.then(|| "–".to_owned()));
        assert_eq!(label, said(&policies, value), "policy {value}");
    }
}

fn entry(key: u8, value: &[u8]) -> Vec<u8> {
    let mut block = Vec::new();
    Headers::push(&mut block, key, value);
    block
}

/// Values of a length, one of which a header accepts if it accepts any.
fn values(size: usize) -> Vec<Vec<u8>> {
    let first = (0..=4).map(|first| {
        let mut value = vec![0; size];
        value.first_mut().into_iter().for_each(|byte| *byte = first);
        value
    });
    first.chain([vec![b'a'; size]]).collect()
}

#[test]
fn headers_are_those_of_the_page() {
    let rows = table("### Headers", "Key");
    let known: Vec<_> = header::KEYS
        .iter()
        .map(|&(key, name)| (u32::from(key), name))
        .collect();
    assert_eq!(named(&rows, "Key"), known);
    for row in &rows {
        let (key, name) = (row.byte("Key"), row.cell("Name"));
        let value = |size: usize| {
            let accepted = |value: &Vec<u8>| Headers::check(&entry(key, value)).is_ok();
            values(size).into_iter().find(accepted)
        };
        hold_sizes(name, row.cell("Bytes"), TRIED, |size| value(size).is_some());
        let one = (0..=TRIED).find_map(value).unwrap();
        let one = entry(key, &one);
        let repeats = Headers::check(&one.repeat(2)).is_ok();
        assert_eq!(
            row.cell("Repeats"),
            if repeats { "yes" } else { "no" },
            "{name}"
        );
        for kind in envelope_types() {
            let may = Headers::check_sent(&one, kind).is_ok();
            assert_eq!(
                may,
                names_type(row.cell("Client sends on"), kind),
                "{name} {kind:?}"
            );
        }
    }
    let starts = table("### START kinds", "Kind");
    for kind in 0..=u8::MAX {
        let row = starts.iter().find(|row| row.byte("Kind") == kind);
        let said = row.map(|row| match row.cell("Value") {
            "–" => 0,
            "u32" => 4,
            "u64" => 8,
            other => panic!("{other}"),
        });
        for size in 0..16 {
            let value = [vec![kind], vec![0; size]].concat();
            let accepted = Headers::check(&entry(header::START, &value)).is_ok();
            assert_eq!(accepted, said == Some(size), "START {kind}, {size} bytes");
        }
    }
}

#[test]
fn codes_are_those_of_the_page() {
    let rows = table("## 3. Codes", "Value");
    let of = |code: &Code| (u32::from(code.to_wire()), code.listed_name().unwrap());
    let mut known: Vec<_> = Code::LISTED.iter().map(of).collect();
    known.sort_unstable();
    assert_eq!(named(&rows, "Value"), known);
    let word = |is| if is { "yes" } else { "no" };
    for row in &rows {
        let code = Code::from_wire(row.number("Value") as u16);
        assert_eq!(row.cell("Fatal"), word(code.is_fatal()), "{code}");
        let counts = match code.is_fatal() || code == Code::Normal {
            true => "–",
            false => word(code.counts_as_error()),
        };
        assert_eq!(row.cell("Counts"), counts, "{code}");
        // And so a session has it.
        let mut end = End::open_server(settings(), false);
        for _ in 0..=limits::ERRORS_PER_S_MAX {
            end.session.error(code, 1, "", start(), &mut end.out);
        }
        assert!(
            counts == "–" || end.session.is_ended() == (counts == "yes"),
            "{code}"
        );
    }
}

#[test]
fn bounds_are_those_of_the_page() {
    let rows = table("## 5. Bounds", "Bound");
    let said: Vec<_> = rows
        .iter()
        .map(|row| (row.cell("Bound"), u64::from(row.number("Value"))))
        .collect();
    let fixed = [
        (
            "bytes of a control frame's payload",
            limits::FRAME_PAYLOAD_BYTES_MAX as u64,
        ),
        ("bytes of a PING's payload", limits::PING_BYTES_MAX as u64),
        ("bytes of a name", limits::NAME_BYTES_MAX as u64),
        ("levels of a name", limits::NAME_LEVELS_MAX as u64),
        ("bytes of a CLIENT_ID", limits::CLIENT_ID_BYTES_MAX as u64),
        ("bytes of a GROUP", limits::GROUP_BYTES_MAX as u64),
        ("bytes of a reason or text", limits::TEXT_BYTES_MAX as u64),
        (
            "bytes of any payload before AUTH",
            limits::UNAUTHENTICATED_BYTES_MAX.into(),
        ),
        ("bytes of an AUTH's payload", limits::AUTH_BYTES_MAX.into()),
        (
            "shortest heartbeat interval, ms",
            limits::HEARTBEAT_MS_MIN.into(),
        ),
        ("PINGs a second", limits::CONTROLS_PER_S_MAX.into()),
        ("non-fatal ERRORs a second", limits::ERRORS_PER_S_MAX.into()),
        (
            "largest message_bytes_max",
            limits::MESSAGE_BYTES_CEILING.into(),
        ),
        (
            "time the server reads on after its last message, ms",
            limits::LINGER_MS,
        ),
    ];
    assert_eq!(said, fixed);

    let config: toml::Table = Config::default().to_toml().parse().unwrap();
    for row in table("## 5. Bounds", "Key") {
        let key = row.cell("Key").trim_matches('`');
        let (section, name) = key.split_once('.').unwrap();
        let default = config[section].get(name).and_then(toml::Value::as_integer);
        assert_eq!(default, Some(row.number("Default").into()), "{key}");
    }
}

/// The page's first conversation: who says what, and its bytes.
fn conversation() -> Vec<(&'static str, Vec<u8>)> {
    let lines = PAGE
        .lines()
        .skip_while(|line| *line != "## A first conversation");
    let lines = lines.skip_while(|line| *line != "```text").skip(1);
    let mut said: Vec<(&str, Vec<u8>)> = Vec::new();
    for line in lines.take_while(|line| *line != "```") {
        if !line.starts_with(' ') {
            said.push((line, Vec::new()));
            continue;
        }
        // Behind two spaces or more stands what it means.
        let (fields, meaning) = line.trim_start().split_once("  ").unwrap_or((line, ""));
        let (_, whole) = said.last_mut().expect("who says it");
        let mut field = Vec::new();
        for digits in fields.split_whitespace() {
            let byte = |at: usize| u8::from_str_radix(&digits[at..at + 2], 16).expect(line);
            field = (0..digits.len()).step_by(2).map(byte).collect();
            whole.extend(&field);
        }
        if let Some(text) = meaning.split('"').nth(1) {
            assert_eq!(field, text.as_bytes(), "{line}");
        }
    }
    said
}

/// What a session takes as one step.
fn hear(session: &mut Session, bytes: &[u8], out: &mut Vec<u8>) -> Option<Vec<u8>> {
    let Step::Taken { used, event } = session.handle(bytes, start(), out) else {
        panic!("not whole");
    };
    assert_eq!(used, bytes.len());
    match event {
        Event::Message(message) => Some(encoded(&message, false)),
        Event::Handled | Event::Established(_) | Event::PeerClosed { .. } | Event::Ended(_) => None,
        Event::Refused { .. } => panic!("refused"),
    }
}

#[test]
fn the_first_conversation_is_one_byte_by_byte() {
    let said = conversation();
    let names: Vec<_> = said.iter().map(|one| one.0).collect();
    let wanted = "client SYN, server SYN-ACK, client ACK, client REQUEST, server RESPONSE, \
        client SUBSCRIBE, server OK, client PUBLISH, server PUBLISH, server OK, client CLOSE, \
        server CLOSE";
    assert_eq!(names.join(", "), wanted);
    let mut spoken = Vec::new();
    let settings = Arc::new(settings());
    let mut server = Session::accept(settings.clone(), 0x0A0B_0C0D, start());
    let mut client = Session::connect(
        settings,
        &Options::default(),
        0x0102_0304,
        start(),
        &mut spoken,
    );
    for (who, bytes) in &said {
        let (side, name) = who.split_once(' ').unwrap();
        let (speaker, listener) = match side {
            "client" => (&mut client, &mut server),
            _ => (&mut server, &mut client),
        };
        // The handshake and the answer to CLOSE are the sessions' own words.
        if let Ok(Some(header)) = Header::parse(bytes, 1 << 20) {
            assert_eq!(
                (header.kind.name(), header.message_bytes()),
                (name, bytes.len())
            );
            let message = Message::parse(header.kind, open(bytes, false).unwrap()).unwrap();
            match message {
                Message::Close { code, .. } if side == "client" => {
                    speaker.close(code, "", &mut spoken);
                }
                Message::Close { .. } => speaker.finish(&mut spoken),
                other => speaker.send(&other, &mut spoken),
            }
        } else {
            let parsed = Frame::parse(bytes).unwrap();
            assert!(matches!(parsed, Parsed::Whole { used, .. } if used == bytes.len()));
        }
        assert_eq!(&std::mem::take(&mut spoken), bytes, "{who}");
        let heard = hear(listener, bytes, &mut spoken);
        assert!(heard.is_none_or(|heard| heard == *bytes), "{who}");
    }
    assert!(client.is_ended() && server.is_ended() && spoken.is_empty());
    assert_ne!(ack(), said[2].1, "other numbers than the tests' own");
}
