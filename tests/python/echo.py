"""An MCP client written from PROTOCOL.md alone: shakes hands, echoes, pings, says goodbye."""
import socket, struct, sys, zlib

def check(good, what):
    if not good:
        sys.exit("echo.py: " + what)

def receive(count):
    data = b""
    while len(data) < count:
        part = link.recv(count - len(data))
        check(part, f"the server hung up, {count - len(data)} bytes short")
        data += part
    return data

def frame(kind, seq, payload=b""):  # link phase (section 1)
    head = struct.pack(">2sBIH", b"MC", kind, seq, len(payload))
    return head + struct.pack(">I", zlib.crc32(head + bytes(4) + payload)) + payload

def exchange(kind, payload, answer):  # message phase (section 2): returns the answer's payload
    link.sendall(struct.pack(">2sBBI", b"MC", 1, kind, len(payload)) + payload)
    magic, version, got, length = struct.unpack(">2sBBI", receive(8))
    check((magic, version, got) == (b"MC", 1, answer), f"asked {kind:#x}, answered {got:#x}")
    return receive(length)

link = socket.create_connection(sys.argv[1].rsplit(":", 1), timeout=10)
link.sendall(frame(1, 0xFFFFFFFF))  # SYN without options; the numbers wrap
head = receive(13)
magic, kind, seq, length, crc = struct.unpack(">2sBIHI", head)
payload = receive(length)
check(frame(2, seq, payload) == head + payload, f"no good SYN-ACK: {(head + payload).hex()}")
check(payload[:4] == bytes(4), "the SYN-ACK does not acknowledge our number + 1")
link.sendall(frame(3, 0, struct.pack(">I", (seq + 1) % 2**32)))
# An envelope: id, flags, codec, length of the name; then name and payload.
answer = exchange(0x20, struct.pack(">IBBB", 7, 0, 0, 9) + b"$sys/echo" + b"hello", 0x21)
check(answer == struct.pack(">IBBB", 7, 0, 0, 0) + b"hello", f"echoed {answer!r}")
check(exchange(0x01, b"still there?", 0x02) == b"still there?", "PONG differs from PING")
check(exchange(0x03, struct.pack(">H", 0), 0x03)[:2] == bytes(2), "CLOSE was not answered NORMAL")
check(link.recv(1) == b"", "bytes after CLOSE")
print("ok")
