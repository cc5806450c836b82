"""The bytes of a manifest, as docs/formats/manifest.md specifies them: encode() and decode() are each other's inverse.

Everything a record refers to by a small number is written as the distance from what one would guess. Decoding trusts nothing: counts are held
against the bytes that are left before memory is taken, and what was decoded must keep all rules (sconce/_manifest_rules.py).
"""

from __future__ import annotations

import struct
from typing import List, NoReturn, Sequence, Tuple, Union

from sconce._errors import make_error
from sconce._manifest_rules import invalid, too_large, validate
from sconce._nodes import (
    CHUNK_BYTES,
    DTYPE_NAMES,
    DTYPES,
    INLINE_BYTES,
    KIND_NAMES,
    LAYOUTS,
    MAX_RECORDS,
    MAX_SIZE,
    NO_INDEX,
    DType,
    Kind,
    Manifest,
    Node,
    Storage,
    TensorView,
    collector_paused,
    contiguous_stride,
    is_meta_device,
)
from sconce._records import int_bytes, put_leaf_record, put_varint

__all__ = ["DTYPES", "DType", "Kind", "Manifest", "Node", "Storage", "TensorView", "decode", "encode", "validate"]

MAGIC = b"SCMANIF"
VERSION = 1
_DERIVED, _CHUNK_TABLE = 1, 2
_NEXT_TENSOR = bytes([Kind.TENSOR, 0])  # a node of the tensor that follows that of the node before
_REQUIRES_GRAD, _CONJUGATE, _NEGATIVE, _NO_STORAGE, _CONTIGUOUS = 1, 2, 4, 8, 16
_CHUNK_RECORD_BYTES = 48

Bytes = Union[bytes, bytearray, memoryview]


def encode(manifest: Manifest) -> bytes:
    """The manifest's one encoding; with a chunk table when all bulk storages have their chunks, which a push does not. Requires a valid manifest."""
    bulk = [storage for storage in manifest.storages if storage.is_bulk]
    chunk_table = bool(bulk) and all(storage.chunks for storage in bulk)
    out = bytearray(MAGIC)
    out.append(VERSION)
    out.append((_DERIVED if manifest.derived else 0) | (_CHUNK_TABLE if chunk_table else 0))
    for count in (len(manifest.storages), len(manifest.tensors), len(manifest.nodes)):
        put_varint(count, out)
    _encode_storages(manifest.storages, out)
    _encode_tensors(manifest.tensors, out)
    _encode_nodes(manifest.nodes, out)
    if chunk_table:
        for storage in bulk:
            out += storage.chunks
    return bytes(out)


def decode(data: Bytes) -> Manifest:
    """The manifest of these bytes. InvalidArgumentError with the reason MANIFEST_INVALID names what is wrong and where."""
    with collector_paused():
        return _Decoder(bytes(data)).decode()


def _encode_storages(storages: Sequence[Storage], out: bytearray) -> None:
    device = None
    for storage in storages:
        put_varint(storage.size_bytes, out)
        tag = b"" if storage.device == device else storage.device.encode("ascii")
        device = storage.device
        put_varint(len(tag), out)
        out += tag
        out += storage.inline_bytes


def _put_distance(distance: int, out: bytearray) -> None:
    put_varint(distance << 1 if distance >= 0 else (-distance << 1) - 1, out)


def _encode_tensors(tensors: Sequence[TensorView], out: bytearray) -> None:
    expected = 0
    for view in tensors:
        contiguous = view.stride == contiguous_stride(view.shape) and (not view.stride or view.stride[0] <= MAX_SIZE)
        flags = _CONTIGUOUS if contiguous else 0
        if view.requires_grad:
            flags |= _REQUIRES_GRAD
        if view.conjugate:
            flags |= _CONJUGATE
        if view.negative:
            flags |= _NEGATIVE
        if view.storage == NO_INDEX:
            flags |= _NO_STORAGE
        out.append(DTYPES[view.dtype].number)
        out.append(flags)
        if view.storage != NO_INDEX:
            _put_distance(view.storage - expected, out)
            expected = view.storage + 1
        put_varint(view.offset, out)
        put_varint(len(view.shape), out)
        for number in view.shape if contiguous else view.shape + view.stride:
            put_varint(number, out)


def _encode_nodes(nodes: Sequence[Node], out: bytearray) -> None:
    expected_tensor = 0
    for index, node in enumerate(nodes):
        put_leaf_record(node, out)
        if node.tensor != NO_INDEX:
            _put_distance(node.tensor - expected_tensor, out)
            expected_tensor = node.tensor + 1
        expected = index - len(node.children)
        for child in node.children:
            distance = child - expected
            if 0 <= distance < 64:
                out.append(distance << 1)
            else:
                _put_distance(distance, out)
            expected = child + 1


class _Decoder:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def decode(self) -> Manifest:
        flags, counts = self.header()
        storages = self.storages(counts[0])
        tensors = self.tensors(counts[1], counts[0])
        nodes = self.nodes(counts[2], counts[1])
        if flags & _CHUNK_TABLE:
            self.chunks(storages)
        if self.at != len(self.data):
            self.bad(self.at, "end", "bytes after the manifest's end")
        manifest = Manifest(nodes, tensors, storages, bool(flags & _DERIVED))
        validate(manifest)
        return manifest

    # Primitives. `what` is named in errors.

    @staticmethod
    def bad(at: int, what: str, problem: str) -> NoReturn:
        raise invalid(f"{what} at byte {at}: {problem}", {"offset": str(at)})

    def byte(self, what: str) -> int:
        if self.at == len(self.data):
            self.bad(self.at, what, "the manifest ends here")
        self.at += 1
        return self.data[self.at - 1]

    def varint(self, what: str) -> int:
        data, start = self.data, self.at
        pair = data[start : start + 2]  # most numbers take one or two bytes
        if pair and pair[0] < 0x80:
            self.at = start + 1
            return pair[0]
        if len(pair) == 2 and 0 < pair[1] < 0x80:
            self.at = start + 2
            return pair[0] & 0x7F | pair[1] << 7
        value = shift = 0
        for at in range(start, min(start + 10, len(data))):
            byte = data[at]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0:
                    self.bad(start, what, "number written longer than needed")
                if value >> 64:
                    break
                self.at = at + 1
                return value
            shift += 7
        else:
            if len(data) - start < 10:
                self.bad(start, what, "the manifest ends inside this number")
        return self.bad(start, what, "number of more than 64 bits")

    def count(self, what: str, limit: int = MAX_SIZE) -> int:
        start = self.at
        value = self.varint(what)
        if value > limit:
            self.bad(start, what, f"{value} is more than the {limit} possible here")
        return value

    def reference(self, what: str, expected: int, limit: int) -> int:
        start = self.at
        raw = self.varint(what)
        target = expected + (raw >> 1 ^ -(raw & 1))
        if not 0 <= target < limit:
            self.bad(start, what, f"not one of the {limit} possible here")
        return target

    def raw(self, what: str, size: int) -> bytes:
        if size > len(self.data) - self.at:
            self.bad(self.at, what, f"{size} bytes announced, {len(self.data) - self.at} left")
        self.at += size
        return self.data[self.at - size : self.at]

    def text(self, what: str) -> bytes:
        return self.raw(what, self.count(what))

    # Sections

    def header(self) -> Tuple[int, Tuple[int, int, int]]:
        if self.data[: len(MAGIC)] != MAGIC:
            self.bad(0, "magic", "these bytes are not a manifest")
        self.at = len(MAGIC)
        version = self.byte("format version")
        if version != VERSION:
            message = f"the manifest has format version {version}, and only {VERSION} is known here; use a newer release of this package"
            raise make_error("INVALID_ARGUMENT", "MANIFEST_VERSION_UNSUPPORTED", message, {"version": str(version)})
        flags = self.byte("flags")
        if flags & ~(_DERIVED | _CHUNK_TABLE):
            self.bad(self.at - 1, "flags", "a flag that is not known")
        start = self.at
        storages, tensors, nodes = (self.count(f"number of {what}", len(self.data)) for what in ("storages", "tensors", "nodes"))
        # A storage takes at least two bytes, a tensor four, a node one and one more where its parent refers to it.
        if 2 * storages + 4 * tensors + 2 * nodes > len(self.data) - self.at + 1:
            self.bad(start, "counts", "more storages, tensors and nodes than the bytes that follow can hold")
        if max(storages, tensors, nodes) > MAX_RECORDS:
            raise too_large(nodes, tensors, storages)
        return flags, (storages, tensors, nodes)

    def storages(self, count: int) -> List[Storage]:
        storages = []
        device = ""
        for _ in range(count):
            size = self.count("storage size")
            start = self.at
            tag = self.text("storage device").decode("ascii", "replace")  # what is not ASCII is found to be wrong below
            if not tag and not device:
                self.bad(start, "storage device", "the first one has none")
            if tag and tag == device:
                self.bad(start, "storage device", "the device of the storage before is written again")
            device = tag or device
            inline = size <= INLINE_BYTES and not is_meta_device(device)
            storages.append(Storage(size, device, self.raw("inline storage", size) if inline else b""))
        return storages

    def tensors(self, count: int, storages: int) -> List[TensorView]:
        tensors = []
        expected = 0
        for _ in range(count):
            start = self.at
            number = self.byte("dtype")
            if not 0 < number < len(DTYPE_NAMES):
                self.bad(start, "dtype", f"no dtype has number {number}")
            flags = self.byte("tensor flags")
            if flags >= 2 * _CONTIGUOUS:
                self.bad(start + 1, "tensor flags", "a flag that is not known")
            storage = NO_INDEX
            if not flags & _NO_STORAGE:
                storage = self.reference("storage of a tensor", expected, storages)
                expected = storage + 1
            offset = self.count("tensor offset")
            start = self.at
            rank = self.count("tensor rank", len(self.data) - self.at)
            shape = tuple([self.count("tensor shape") for _ in range(rank)])
            stride = contiguous_stride(shape) if rank <= 64 else ()
            if flags & _CONTIGUOUS:
                if stride and stride[0] > MAX_SIZE:
                    self.bad(start, "tensor shape", "the strides of so large a shape do not fit into 64 bits")
            else:
                written = tuple([self.count("tensor stride") for _ in range(rank)])
                if written == stride:
                    self.bad(start, "tensor stride", "contiguous strides are written out")
                stride = written
            bits = [bool(flags & bit) for bit in (_REQUIRES_GRAD, _CONJUGATE, _NEGATIVE)]
            tensors.append(TensorView(DTYPE_NAMES[number], shape, stride, storage, offset, *bits))
        return tensors

    def nodes(self, count: int, tensors: int) -> List[Node]:
        nodes: List[Node] = []
        data = self.data
        expected_tensor = 0
        for index in range(count):
            start = self.at
            # Most nodes are keys and tensors, of which most take the two branches here; what is not as they expect is read, and judged, below.
            head = data[start : start + 2]
            if head == _NEXT_TENSOR and expected_tensor < tensors:
                self.at = start + 2
                nodes.append(Node(Kind.TENSOR, None, (), expected_tensor))
                expected_tensor += 1
                continue
            if len(head) == 2 and head[0] == Kind.STR and head[1] < 0x80:
                end = start + 2 + head[1]
                text = data[start + 2 : end]
                if end <= len(data) and text.isascii():
                    self.at = end
                    nodes.append(Node(Kind.STR, text.decode("ascii")))
                    continue
            kind = self.byte("node kind")
            if kind >= len(LAYOUTS):
                self.bad(start, "node kind", f"no kind has number {kind}")
            payload, has_children, has_tensor, has_storage = LAYOUTS[kind]
            node = Node(kind)
            if payload:
                self.payload(payload, node)
            children = self.count("number of children", len(data) - self.at) if has_children else 0
            if has_storage:
                node.storage = self.count("storage of a node", MAX_RECORDS)
            if has_tensor:
                node.tensor = self.reference("tensor of a node", expected_tensor, tensors)
                expected_tensor = node.tensor + 1
            if 0 < children <= index and data[self.at : self.at + children] == bytes(children):  # the nodes just before, in order: a tree without ties
                self.at += children
                node.children = tuple(range(index - children, index))
            elif children:
                expected = index - children
                found = []
                for _ in range(children):
                    expected = self.reference("child of a node", expected, index) + 1
                    found.append(expected - 1)
                node.children = tuple(found)
            nodes.append(node)
        return nodes

    def payload(self, payload: str, node: Node) -> None:
        start = self.at
        if payload == "flag":
            flag = self.byte("flag of a node")
            if flag > 1:
                self.bad(start, "flag of a node", "neither 0 nor 1")
            node.value = flag == 1
        elif payload == "int":
            text = self.text("int")
            node.value = int.from_bytes(text, "little", signed=True)
            if int_bytes(node.value) != text:
                self.bad(start, "int", "written longer than needed")
        elif payload == "real":
            (node.value,) = struct.unpack("<d", self.raw("float", 8))
        elif payload == "complex":
            node.value = complex(*struct.unpack("<dd", self.raw("complex", 16)))
        elif payload == "bytes":
            node.value = self.text("text of a node")
        else:
            try:
                node.value = self.text("text of a node").decode("utf-8", "surrogatepass" if payload == "str" else "strict")
            except UnicodeDecodeError:
                self.bad(start, f"text of a {KIND_NAMES[node.kind]}", "not UTF-8")

    def chunks(self, storages: Sequence[Storage]) -> None:
        bulk = [storage for storage in storages if storage.is_bulk]
        if not bulk:
            self.bad(self.at, "chunk table", "no storage has chunks")
        for storage in bulk:
            storage.chunks = self.raw("chunk table", -(-storage.size_bytes // CHUNK_BYTES) * _CHUNK_RECORD_BYTES)
