"""Payloads, and what Google's library makes of them: JSON of protobuf and protobuf of JSON.

Usage: mapping.py SET SEED COUNT -- SET is a FileDescriptorSet. Prints lines of JSON: a set as
{"set": BASE64}, then payloads of its messages as {"message": NAME, "codec": "json" | "protobuf",
"payload": BASE64, "wanted": BASE64 | null}, where "wanted" is the same in the other codec,
protobuf in the order of its numbers and keys, and null if it is refused. Payloads are random
messages, the inputs at the end of this script, and both kinds with a piece changed.

json_format is what it is compared with, but where `strict` below says otherwise.
"""
import base64, json, math, random, re, sys, warnings
from google.protobuf import (api_pb2, descriptor_pb2, descriptor_pool, json_format,
                             message_factory, type_pb2)
from google.protobuf.descriptor import FieldDescriptor as Field
from google.protobuf.internal import type_checkers, well_known_types


class Refused(ValueError):
    pass


def strict():
    """What Debian's json_format does, and we do not: later versions of it, or the library for C++,
    do not either."""
    parser, printer = json_format._Parser, json_format._Printer
    # A message that ends before its bytes do, by a key of 0 or a group's end.
    warnings.simplefilter("error")

    def wrap(owner, name, check):
        inner = getattr(owner, name)

        def checked(*args, **named):
            args = check(*args) or args
            return inner(*args, **named)
        setattr(owner, name, checked)

    # [] and "" have no names, and so would be messages.
    def is_object(parser, js, *_):
        if not isinstance(js, dict):
            raise Refused("no object")
    wrap(parser, "_ConvertFieldValuePair", is_object)

    # Letters that no base64 has are skipped, and enums are looked up by a number's last bits.
    def is_in_use(value, field, *_):
        if field.type == Field.TYPE_BYTES and not re.fullmatch(r"[A-Za-z0-9+/_-]*=*", value):
            raise Refused("no base64")
        if field.type == Field.TYPE_ENUM and isinstance(value, (int, float)) and abs(value) > 2**31:
            raise Refused("no number of an enum")
    wrap(json_format, "_ConvertScalarFieldValue", is_in_use)

    # What is written for the largest float is refused, and larger integers are infinities.
    type_checkers._FLOAT_MAX = math.nextafter(3.4028235677973366e38, 0)
    type_checkers._FLOAT_MIN = -type_checkers._FLOAT_MAX
    wrap(json_format, "_ConvertFloat", lambda value, field: (
        float(value) if isinstance(value, int) and not isinstance(value, bool) else value, field))

    # Beside `value` in an Any nothing is looked at.
    def has_value_alone(parser, value, *_):
        if isinstance(value, dict) and "@type" in value:
            name = value["@type"].split("/")[-1]
            wrapped = name.endswith("Value") and name.startswith("google.protobuf.")
            if (wrapped or name in json_format._WKTJSONMETHODS) and set(value) != {"@type", "value"}:
                raise Refused("fields of an Any")
    wrap(parser, "_ConvertAnyMessage", has_value_alone)

    # Infinities of a Value would be strings when they are read.
    def is_finite(parser, value, *_):
        if isinstance(value, float) and not math.isfinite(value):
            raise Refused("an infinite Value")
    wrap(parser, "_ConvertValueMessage", is_finite)
    wrap(printer, "_ValueMessageToJsonObject", lambda printer, value: is_finite(
        parser, value.number_value if value.WhichOneof("kind") == "number_value" else 0))

    # Nanoseconds outside a second, and years outside 1 to 9999.
    def is_in_range(at):
        if not (-62135596800 <= at.seconds <= 253402300799 and 0 <= at.nanos < 10**9):
            raise Refused("no timestamp")
    wrap(well_known_types.Timestamp, "ToJsonString", is_in_range)
    read = well_known_types.Timestamp.FromJsonString
    well_known_types.Timestamp.FromJsonString = lambda at, text: (read(at, text), is_in_range(at))


def in_order(value):
    return value.SerializePartialToString(deterministic=True)


def classes(files, names):
    """A pool and classes of these files; what is in an Any is written in order, too."""
    pool = descriptor_pool.DescriptorPool()
    for one in files:
        pool.Add(one)
    factory = message_factory.MessageFactory(pool)

    def made(type_url, _):
        try:
            held = factory.GetPrototype(pool.FindMessageTypeByName(type_url.split("/")[-1]))
        except KeyError:
            raise Refused(type_url)
        held.SerializeToString = in_order
        return held()
    json_format._CreateMessageFromTypeUrl = made
    return pool, [factory.GetPrototype(pool.FindMessageTypeByName(name)) for name in names]


def no_constant(name):
    raise Refused(name)


def pairs(found):
    if len({name for name, _ in found}) < len(found):
        raise Refused("a key stands twice")
    return dict(found)


def from_json(payload, kind):
    try:
        js = json.loads(payload.decode(), object_pairs_hook=pairs, parse_constant=no_constant)
        made = kind()
        json_format.ParseDict(js, made)
        return in_order(made)
    except Exception:  # whatever it is that it ends with: it does not take it
        return None


def to_json(payload, kind):
    try:
        read = kind.FromString(payload)
        return json.dumps(json_format.MessageToDict(read)).encode()
    except Exception:
        return None


FLOATS = [0.0, -0.0, 1.0, -1.5, 0.1, 1e21, 1e-7, 3.4028234663852886e38, 1.401298464324817e-45, math.inf,
          -math.inf, math.nan, 16777217.0]
DOUBLES = FLOATS + [1.7976931348623157e308, 5e-324, 2.0**53 + 2, 123456789.123456789]
STRINGS = ["", "a", "é", "\u0000\u001f\"\\/", "😀", "\u2028", "a" * 300, "true", "null", "1"]
PATHS = ["a", "a_b.c", "a.b_c", "", "aB", "a__b", "a_", "_a", "a_1", "é_é"]
TEXTS = [None, True, False, 0, 1, -1, 1.0, -0.0, 1.5, 1e2, 1e300, 2**31, -2**31 - 1, 2**32, 2**63, 2**64, 2**64 - 1,
         -2**63 - 1, 3.4028235e38, 3.5e38, 5, "", "a", "0", "-1", "+1", "01", "1_0", "1.0", "1e2", " 1", "NaN", "nan",
         "Infinity", "-Infinity", "inf", "true", "QQ", "QQ==", "-_", "!", "1s", "-1.5s", "1.0000000005s", ".5s",
         "315576000001s", "2026-01-31T12:00:00Z", "2026-02-29T12:00:00Z", "2024-02-29T23:59:59.999999999+01:30",
         "0001-01-01T00:00:00+00:01", "9999-12-31T23:59:59-00:01", "1-1-1T1:1:1Z", "2026-1-1T1:1:1.5-1:0",
         "2026-01-31t12:00:00Z", "2026-01-31T12:00:60Z", "a,bC", "a_b", "A", ",", "COLOR_RED", "COLOR_CRIMSON",
         "PHASE_ONE", "NULL_VALUE", [], {}, [None], [1], ["a"], [[]], [{}], {"a": 1}, {"1": 1}, {"true": None},
         {"": None}, {"@type": "x/mapping.Scalars", "aBool": True}, {"@type": "x/none"}, {"@type": 1}, {"value": 1},
         {"@type": "x/google.protobuf.Duration", "value": "1s"}, {"@type": "x/google.protobuf.BoolValue", "value": 1},
         {"@type": "google.protobuf.Value", "value": None}, {"@type": "/google.protobuf.Any", "value": {}},
         {"value": {"a": [1, {}]}, "@type": "x/google.protobuf.Struct"}]


class Maker:
    def __init__(self, pool, kinds, chance):
        self.pool, self.kinds, self.chance = pool, kinds, chance

    def scalar(self, field):
        pick, chance = self.chance.choice, self.chance
        bits = 64 if field.cpp_type in (Field.CPPTYPE_INT64, Field.CPPTYPE_UINT64) else 32
        if field.cpp_type in (Field.CPPTYPE_INT32, Field.CPPTYPE_INT64):
            return pick([0, 1, -1, 2**(bits - 1) - 1, -2**(bits - 1), chance.randrange(-2**(bits - 1), 2**(bits - 1))])
        if field.cpp_type in (Field.CPPTYPE_UINT32, Field.CPPTYPE_UINT64):
            return pick([0, 1, 127, 128, 2**bits - 1, chance.randrange(2**bits)])
        if field.cpp_type == Field.CPPTYPE_DOUBLE:
            return pick(DOUBLES + [chance.gauss(0, 1e6)])
        if field.cpp_type == Field.CPPTYPE_FLOAT:
            return pick(FLOATS + [chance.gauss(0, 1e6)])
        if field.cpp_type == Field.CPPTYPE_BOOL:
            return pick([True, False])
        if field.cpp_type == Field.CPPTYPE_ENUM:
            unknown = [12345, -5] if field.file.syntax == "proto3" else []
            return pick([value.number for value in field.enum_type.values] + unknown)
        if field.type == Field.TYPE_BYTES:
            return pick([b"", b"\x00\xff", chance.randbytes(chance.randrange(40)), b"#" * 250])
        return pick(STRINGS)

    def special(self, made, depth):
        """Whether it is one of Google's types, which is then filled."""
        pick, name = self.chance.choice, made.DESCRIPTOR.full_name
        if name == "google.protobuf.Timestamp":
            made.seconds = pick([0, 1, -1, 253402300799, -62135596800, self.chance.randrange(-2**35, 2**37), 2**62])
            made.nanos = pick([0, 1, 10**6, 10**3, 999999999, 10**9, -1])
        elif name == "google.protobuf.Duration":
            made.seconds = pick([0, 1, -1, 315576000000, -315576000001, self.chance.randrange(-10**9, 10**9)])
            made.nanos = pick([0, 0, 1, -1, 5 * 10**8, -10**6, 999999999, -10**9])
        elif name == "google.protobuf.FieldMask":
            made.paths.extend(pick(PATHS) for _ in range(self.chance.randrange(3)))
        elif name == "google.protobuf.Any":
            if self.chance.random() < 0.8:
                held = pick(self.kinds)()
                self.fill(held, depth - 1)
                made.value = in_order(held)
                made.type_url = pick(["type.googleapis.com/", "x/y/", "/", ""]) + held.DESCRIPTOR.full_name
            elif self.chance.random() < 0.5:
                made.type_url = pick(["x/none", "", "x/mapping.Color"])
                made.value = pick([b"", b"\x08\x01", b"\xff"])
        else:
            return False
        return True

    def fill(self, made, depth):
        if self.special(made, depth):
            return
        fields = list(made.DESCRIPTOR.fields)
        wanted = self.chance.choice([0, 1, 3, len(fields)])
        for field in self.chance.sample(fields, min(wanted, len(fields))):
            is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
            if depth <= 0 and field.cpp_type == Field.CPPTYPE_MESSAGE:
                continue
            if is_map:
                entry = field.message_type.fields_by_name
                for _ in range(self.chance.randrange(4)):
                    key = self.scalar(entry["key"])
                    if entry["value"].cpp_type == Field.CPPTYPE_MESSAGE:
                        self.fill(getattr(made, field.name)[key], depth - 1)
                    else:
                        getattr(made, field.name)[key] = self.scalar(entry["value"])
            elif field.label == Field.LABEL_REPEATED:
                for _ in range(self.chance.randrange(4)):
                    if field.cpp_type == Field.CPPTYPE_MESSAGE:
                        self.fill(getattr(made, field.name).add(), depth - 1)
                    else:
                        getattr(made, field.name).append(self.scalar(field))
            elif field.cpp_type == Field.CPPTYPE_MESSAGE:
                getattr(made, field.name).SetInParent()
                self.fill(getattr(made, field.name), depth - 1)
            else:
                setattr(made, field.name, self.scalar(field))
        for extension in self.pool.FindAllExtensions(made.DESCRIPTOR):
            if self.chance.random() < 0.3 and extension.label != Field.LABEL_REPEATED:
                if extension.cpp_type != Field.CPPTYPE_MESSAGE:
                    made.Extensions[extension] = self.scalar(extension)
                elif depth > 0:
                    made.Extensions[extension].SetInParent()
                    self.fill(made.Extensions[extension], depth - 1)

    def changed(self, js):
        """The same with another value at one place."""
        places = []

        def walk(one):
            for key in (one if isinstance(one, dict) else range(len(one)) if isinstance(one, list) else ()):
                places.append((one, key))
                walk(one[key])
        js = json.loads(json.dumps(js))
        walk(js)
        if not places or self.chance.random() < 0.05:
            return self.chance.choice(TEXTS)
        place, key = self.chance.choice(places)
        if isinstance(place, dict) and self.chance.random() < 0.15:
            place[self.chance.choice([key + "x", key.upper(), "", "@type", key.replace("_", "")])] = place.pop(key)
        else:
            # An extension that is null ends in an error of json_format's own.
            place[key] = self.chance.choice(TEXTS[str(key).startswith("["):])
        return js

    def spoiled(self, payload, letters):
        """The same with a byte or a stretch changed, twice there, or gone."""
        payload = bytearray(payload)
        for _ in range(self.chance.randrange(1, 3)):
            at = self.chance.randrange(len(payload) + 1)
            end = min(len(payload), at + self.chance.choice([1, 1, 2, 9]))
            letter = self.chance.choice(letters)
            payload[at:end] = self.chance.choice([b"", bytes([letter]), bytes(payload[at:end]) * 2,
                                                  bytes([letter]) + bytes(payload[at:end])])
        return bytes(payload)


def say(**line):
    print(json.dumps({key: base64.b64encode(value).decode() if isinstance(value, bytes) else value
                      for key, value in line.items()}))


def payloads(files, names, chance, count):
    pool, kinds = classes(files, names)
    say(set=descriptor_pb2.FileDescriptorSet(file=files).SerializeToString())
    maker = Maker(pool, kinds, chance)

    def both(kind, payload, is_json):
        wanted = (from_json if is_json else to_json)(payload, kind)
        say(message=kind.DESCRIPTOR.full_name, codec="json" if is_json else "protobuf", payload=payload, wanted=wanted)
        return wanted
    for kind in kinds:
        for _ in range(count):
            made = kind()
            maker.fill(made, 3)
            protobuf = in_order(made)
            wanted = both(kind, protobuf, False)
            both(kind, maker.spoiled(protobuf, range(256)), False)
            if wanted is None:
                continue
            js = json_format.MessageToDict(kind.FromString(protobuf), preserving_proto_field_name=chance.random() < 0.3)
            text = json.dumps(js, ensure_ascii=chance.random() < 0.5, indent=chance.choice([None, 1])).encode()
            both(kind, text, True)
            both(kind, maker.spoiled(text, b'{}[]",:0123456789eE+-. \n\ttrfalsnu_\\'), True)
            for _ in range(4):
                both(kind, json.dumps(maker.changed(js)).encode(), True)
        for one in TEXTS:
            both(kind, json.dumps(one).encode(), True)
            for field in kind.DESCRIPTOR.fields:
                both(kind, json.dumps({field.json_name: one}).encode(), True)
        for one in INPUTS:
            both(kind, one.encode(), True)


# From the conformance tests of protobuf, and what was wrong once: of mapping.Scalars, .Names and .Special.
INPUTS = [
    "", " ", "{", "{}", " {} ", "{},", "[]", "{}{}", '{"aBool": tru}', "{'aBool': true}", '{"aBool": true,}', "{aBool: true}",
    '{"aDouble": NaN}', '{"aDouble": Infinity}', '{"aDouble": 01}', '{"aDouble": +1}', '{"aDouble": .5}', '{"aDouble": 5.}',
    '{"aDouble": -0}', '{"aFloat": -0}', '{"aDouble": "-0"}', '{"value": -0}', '{"value": -0.0}', '{"aDouble": 1e400}', '{"aDouble": -1e-400}', '{"aDouble": 1e}', '{"aDouble": 1,"aDouble": 2}', '{"aDouble": "1e400"}',
    '{"aFloat": 3.4028235e38}', '{"aFloat": -3.4028235e+38}', '{"aFloat": 3.502823e38}', '{"aFloat": "3.5e38"}',
    '{"anInt32": 2147483647.0}', '{"anInt32": 2147483648}', '{"anInt32": 0.5}', '{"anInt32": "0x1"}', '{"anInt32": -0}',
    '{"anInt32": 1,"an_int32": 2}', '{"maybeInt32": 1,"maybe_int32": 2}', '{"maybeInt32": 0,"maybeDouble": null}',
    '{"anInt64": -9223372036854775809}', '{"anInt64": -9223372036854775808.0}', '{"anInt64": 9223372036854775807.0}',
    '{"aUint64": 18446744073709551616}', '{"aUint64": 1.8446744073709551615e19}', '{"aUint64": "18446744073709551615"}',
    '{"aString": "\\ud83d\\ude00"}', '{"aString": "\\ud83d"}', '{"aString": "\\ude00"}', '{"aString": "\\ud83d\\n"}',
    '{"aString": "\t"}', '{"aString": "\\x"}', '{"aString": "\\u00e"}', '{"aString": "\\u0000"}', '{"\\u0061Bool": true}',
    '{"ofInt": 1,"ofString": null}', '{"ofInt": 1,"ofString": ""}', '{"ofInt": 1,"ofValue": null}', '{"ofNull": null}',
    '{"ofNames": {"ofInt": 1},"plain": "a"}', '{"ofNames": null}', '{"another": "a"}', '{"given": "a"}',
    '{"@odd \\"name\\"": "a"}', '{"FIRST": "a"}', '{"First": "a"}', '{"ALLCAPS": "a"}',
    '{"any": {"aBool": true,"@type": "x/mapping.Scalars"}}', '{"any": {"@type": "x/mapping.Scalars","@type": "x"}}',
    '{"any": {"@type": "x/google.protobuf.Any","value": {"@type": "x/google.protobuf.Empty"}}}',
    '{"any": {"@type": "x/google.protobuf.Timestamp","value": "1970-01-01T00:00:00Z","more": 1}}',
    '{"value": 1e400}', '{"value": NaN}', '{"struct": {"a": 1,"a": 2}}', '{"struct": {"a": {"b": [1,{"b": 1}]}}}',
]

if __name__ == "__main__":
    strict()
    path, seed, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    with open(path, "rb") as file:
        given = descriptor_pb2.FileDescriptorSet.FromString(file.read()).file
    chance = random.Random(seed)
    names = ["Scalars", "Lists", "Maps", "Names", "Special", "Legacy"]
    payloads(list(given), ["mapping." + name for name in names], chance, count)
    # Schemas that others have made: of Google's own files.
    own = []

    def add(file):
        for needed in file.dependencies:
            add(needed)
        proto = descriptor_pb2.FileDescriptorProto()
        file.CopyToProto(proto)
        if proto not in own:
            own.append(proto)
    for module in (descriptor_pb2, api_pb2, type_pb2):
        add(module.DESCRIPTOR)
    names = ["FileDescriptorProto", "FieldDescriptorProto", "Api", "Type", "Field"]
    payloads(own, ["google.protobuf." + name for name in names], chance, count // 2)
