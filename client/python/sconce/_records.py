"""The primitives that a manifest's bytes are made of."""

from __future__ import annotations

import struct

from sconce._nodes import LAYOUTS, Node


def put_varint(value: int, out: bytearray) -> None:
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def int_bytes(value: int) -> bytes:
    """Little-endian two's complement, as short as can be."""
    if value == 0:
        return b""
    return value.to_bytes(((value if value > 0 else ~value).bit_length() >> 3) + 1, "little", signed=True)


def put_leaf_record(node: Node, out: bytearray) -> None:
    """A node's record without what it refers to by distance: kind, payload, number of children and storage."""
    out.append(node.kind)
    payload, children, _, storage = LAYOUTS[node.kind]
    value = node.value
    if payload:
        if payload == "flag":
            out.append(1 if value else 0)
        elif payload == "real":
            out += struct.pack("<d", value)
        elif payload == "complex":
            assert isinstance(value, complex)
            out += struct.pack("<dd", value.real, value.imag)
        else:
            if payload == "int":
                assert isinstance(value, int)
                text = int_bytes(value)
            elif payload == "bytes":
                assert isinstance(value, bytes)
                text = value
            else:
                assert isinstance(value, str)
                text = value.encode("utf-8", "surrogatepass")
            put_varint(len(text), out)
            out += text
    if children:
        put_varint(len(node.children), out)
    if storage:
        put_varint(node.storage, out)
