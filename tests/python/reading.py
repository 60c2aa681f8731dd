"""A JSON device and a protobuf gateway against one schema, by Google's own library.

Usage: reading.py HOST:PORT SET — SET is the FileDescriptorSet that the server was given for the
topics site/+/reading, of message site.Reading. Everything of the protocol is from PROTOCOL.md.
"""
import json, socket, struct, sys, zlib
from google.protobuf import descriptor_pb2, descriptor_pool, json_format, message_factory

JSON, PROTOBUF = 1, 2


def check(good, what):
    if not good:
        sys.exit("reading.py: " + what)


def frame(kind, seq, payload=b""):
    head = struct.pack(">2sBIH", b"MC", kind, seq, len(payload))
    return head + struct.pack(">I", zlib.crc32(head + bytes(4) + payload)) + payload


class Connection:
    def __init__(self, address, codec):
        """Shakes hands; CODEC is option 5 of the SYN, and of the SYN-ACK."""
        self.link = socket.create_connection(address.rsplit(":", 1), timeout=30)
        self.link.sendall(frame(1, 41, struct.pack(">BBB", 5, 1, codec)))
        _, kind, seq, length, _ = struct.unpack(">2sBIHI", self.receive(13))
        options = self.receive(length)[4:]
        check(kind == 2 and struct.pack(">BBB", 5, 1, codec) in options, "the codec is not in force")
        self.link.sendall(frame(3, 42, struct.pack(">I", (seq + 1) % 2**32)))
        self.id = 0

    def receive(self, count):
        data = b""
        while len(data) < count:
            part = self.link.recv(count - len(data))
            check(part, "the server hung up")
            data += part
        return data

    def message(self):
        magic, version, kind, length = struct.unpack(">2sBBI", self.receive(8))
        check((magic, version) == (b"MC", 1), "no message")
        return kind, self.receive(length)

    def say(self, kind, name, codec=0, payload=b""):
        """An envelope: id, flags, codec, length of the name; then name and payload."""
        self.id += 1
        body = struct.pack(">IBBB", self.id, 0, codec, len(name)) + name.encode() + payload
        self.link.sendall(struct.pack(">2sBBI", b"MC", 1, kind, len(body)) + body)

    def subscribe(self, filter):
        self.say(0x11, filter)
        check(self.message() == (0x05, struct.pack(">I", self.id)), "SUBSCRIBE was not confirmed")

    def published(self, topic):
        """The codec and payload of the next message, which must be a PUBLISH on `topic`."""
        kind, body = self.message()
        _, flags, codec, length = struct.unpack(">IBBB", body[:7])
        check((kind, flags, body[7 : 7 + length]) == (0x10, 0, topic.encode()), f"{kind}: {body}")
        return codec, body[7 + length :]

    def close(self):
        self.link.sendall(struct.pack(">2sBBIH", b"MC", 1, 0x03, 2, 0))
        check(self.message()[0] == 0x03, "CLOSE was not answered")


address, path = sys.argv[1:]
pool = descriptor_pool.DescriptorPool()
with open(path, "rb") as file:
    for one in descriptor_pb2.FileDescriptorSet.FromString(file.read()).file:
        pool.Add(one)
described = pool.FindMessageTypeByName("site.Reading")
if hasattr(message_factory, "GetMessageClass"):
    Reading = message_factory.GetMessageClass(described)
else:
    Reading = message_factory.MessageFactory(pool).GetPrototype(described)

readings = [
    {"sensor": "t1", "sequence": "18446744073709551615", "values": [{"celsius": 21.5}]},
    {"state": "STATE_RUNNING", "labels": {"floor": "3", "wing": "é"}, "raw": "AAECAw==", "valid": False},
    {"sensor": "large", "values": [{"name": f"probe {n}", "celsius": n / 8 - 20} for n in range(2000)]},
    {"values": [{"celsius": "NaN"}, {"celsius": "-Infinity"}, {"celsius": 1e308}]},
    {},
]
topic = "site/7/reading"
device, gateway = Connection(address, JSON), Connection(address, PROTOBUF)
gateway.subscribe("site/+/reading")
for reading in readings:
    device.say(0x10, topic, JSON, json.dumps(reading).encode())
    codec, payload = gateway.published(topic)
    check(codec == PROTOBUF, f"codec {codec}")
    wanted = json_format.ParseDict(reading, Reading())
    # As bytes: NaN does not equal itself.
    same = Reading.FromString(payload).SerializeToString(deterministic=True)
    check(same == wanted.SerializeToString(deterministic=True), f"not {reading}")
    check(device.message()[0] == 0x05, "PUBLISH was not confirmed")

device.subscribe("site/+/reading")
for reading in readings:
    sent = json_format.ParseDict(reading, Reading())
    gateway.say(0x10, topic, PROTOBUF, sent.SerializeToString())
    codec, payload = device.published(topic)
    check(codec == JSON, f"codec {codec}")
    check(json_format.MessageToDict(json_format.Parse(payload, Reading())) == json_format.MessageToDict(sent)
          or "NaN" in payload.decode(), f"{payload} is not {reading}")
    # Its own, as it published it; then OK.
    check(gateway.published(topic) == (PROTOBUF, sent.SerializeToString()), "not the same bytes")
    check(gateway.message()[0] == 0x05, "PUBLISH was not confirmed")

device.say(0x10, topic, JSON, b'{"values": [{}, {"celsius": "warm"}]}')
kind, body = device.message()
code, number, fatal = struct.unpack(">HIB", body[:7])
check((kind, number, fatal) == (0x04, device.id, 0), f"refused by {kind}: {body}")
check(body[7:].startswith(b"values[1].celsius: "), f"no path: {body[7:]}")
device.close()
gateway.close()
print("ok")
