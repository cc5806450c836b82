"""Bulk messages without a generated message in between: they are mostly one `bytes` field, which would be copied twice more.

    >>> encode_chunk_data(3, 0, [memoryview(b"ab"), memoryview(b"c")])
    b'(\\x03z\\x03abc'
    >>> [(number, value if isinstance(value, int) else bytes(value)) for number, value in fields(b'(\\x03z\\x03abc')]
    [(5, 3), (15, b'abc')]
"""

from __future__ import annotations

from typing import Iterator, Sequence, Tuple, Union

from sconce._errors import make_error

Buffer = Union[bytes, memoryview]

# Field numbers of UploadChunksRequest, and wire types.
_MANIFEST, _CHUNK, _OFFSET, _DATA = 2, 5, 6, 15
_VARINT, _I64, _LEN, _I32 = 0, 1, 2, 5


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _tag(number: int, wire_type: int) -> bytes:
    return _varint(number << 3 | wire_type)


def encode_manifest(piece: Buffer) -> bytes:
    """UploadChunksRequest with a piece of the manifest."""
    return b"".join((_tag(_MANIFEST, _LEN), _varint(len(piece)), piece))


def encode_chunk_data(chunk: int, offset: int, pieces: Sequence[memoryview]) -> bytes:
    """UploadChunksRequest with data that begins at `offset` in chunk `chunk`. The bytes are copied once, into the message."""
    head = b""
    if chunk:
        head += _tag(_CHUNK, _VARINT) + _varint(chunk)
    if offset:
        head += _tag(_OFFSET, _VARINT) + _varint(offset)
    head += _tag(_DATA, _LEN) + _varint(sum(map(len, pieces)))
    return b"".join((head, *pieces))


def fields(message: bytes) -> Iterator[Tuple[int, Union[int, memoryview]]]:
    """Number and value of each field: an int of a varint, the bytes of all else, where they are. InternalError when it is no message."""
    view = memoryview(message)
    at = 0
    while at < len(view):
        tag, at = _read_varint(view, at)
        wire_type = tag & 7
        if wire_type == _VARINT:
            value, at = _read_varint(view, at)
            yield tag >> 3, value
            continue
        if wire_type == _LEN:
            size, at = _read_varint(view, at)
        elif wire_type in (_I64, _I32):
            size = 8 if wire_type == _I64 else 4
        else:
            raise _malformed()
        if size > len(view) - at:
            raise _malformed()
        yield tag >> 3, view[at : at + size]
        at += size


def _read_varint(view: memoryview, at: int) -> Tuple[int, int]:
    value = shift = 0
    while at < len(view) and shift < 70:
        byte = view[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
    raise _malformed()


def _malformed() -> Exception:
    return make_error("INTERNAL", "INTERNAL_ERROR", "the server sent a message that cannot be read")
