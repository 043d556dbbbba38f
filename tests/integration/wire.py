"""The bytes of jobs as they travel: msgpack payloads, and the envelope of a stream's entry
(common/codec/envelope.h), for tests that put entries in by hand or look into them."""
import struct

ENVELOPE = ("kind", "version", "key", "tenant", "attempt", "occurred_ms", "enqueued_ms", "trace", "payload")


def pack(value):
    """msgpack of None, int, str, bytes, list or dict."""
    if value is None:
        return b"\xc0"
    if isinstance(value, bool):
        return b"\xc3" if value else b"\xc2"
    if isinstance(value, int):
        if 0 <= value < 128:
            return bytes([value])
        return b"\xcf" + struct.pack(">Q", value) if value >= 0 else b"\xd3" + struct.pack(">q", value)
    if isinstance(value, str):
        raw = value.encode()
        return (bytes([0xa0 | len(raw)]) if len(raw) < 32 else b"\xdb" + struct.pack(">I", len(raw))) + raw
    if isinstance(value, (bytes, bytearray, memoryview)):
        return b"\xc6" + struct.pack(">I", len(value)) + bytes(value)
    if isinstance(value, dict):
        return b"\xde" + struct.pack(">H", len(value)) + b"".join(pack(k) + pack(v) for k, v in value.items())
    return b"\xdc" + struct.pack(">H", len(value)) + b"".join(map(pack, value))


def _unpack(data, at):
    first = data[at]
    at += 1
    if first <= 0x7f:
        return first, at
    if first >= 0xe0:
        return first - 256, at
    if 0x90 <= first <= 0x9f or first == 0xdc:
        count = first & 15
        if first == 0xdc:
            count, at = struct.unpack_from(">H", data, at)[0], at + 2
        members = []
        for _ in range(count):
            member, at = _unpack(data, at)
            members.append(member)
        return members, at
    if 0xa0 <= first <= 0xbf:
        end = at + (first & 31)
        return data[at:end].decode(), end
    sized = {0xd9: ">B", 0xda: ">H", 0xdb: ">I", 0xc4: ">B", 0xc5: ">H", 0xc6: ">I"}
    if first in sized:
        size = struct.unpack_from(sized[first], data, at)[0]
        at += struct.calcsize(sized[first])
        raw = data[at:at + size]
        return (raw if first < 0xc7 else raw.decode()), at + size
    numbers = {0xcc: ">B", 0xcd: ">H", 0xce: ">I", 0xcf: ">Q", 0xd0: ">b", 0xd1: ">h", 0xd2: ">i", 0xd3: ">q"}
    return struct.unpack_from(numbers[first], data, at)[0], at + struct.calcsize(numbers[first])


def envelope(**members):
    """The field `job` of an entry."""
    defaults = {"kind": "", "version": 1, "key": "k", "tenant": 1, "attempt": 0, "occurred_ms": 0,
                "enqueued_ms": 0, "trace": "", "payload": b""}
    return pack([{**defaults, **members}[name] for name in ENVELOPE])


def read_envelope(data):
    return dict(zip(ENVELOPE, _unpack(data, 0)[0]))
