"""Every rule of docs/formats/manifest.md that concerns more than one byte, held against a manifest that may come from anybody.

Nothing here recurses, and nothing looks at a shared node's content once per use: time stays linear however often nodes are shared.
"""

from __future__ import annotations

import math
from typing import Dict, List, Mapping, Optional, Set, Tuple

from sconce._composite_rules import problem_of_composite
from sconce._errors import SconceError, make_error
from sconce._globals import VALUE_CLASS
from sconce._nodes import (
    DTYPES,
    KIND_NAMES,
    LAYOUTS,
    MAX_RANK,
    MAX_RECORDS,
    MAX_SIZE,
    NO_INDEX,
    PACKED,
    Kind,
    Manifest,
    Node,
    contiguous_stride,
    element_count,
    view_end_bytes,
)
from sconce._records import put_leaf_record

# What Python hashes by content, and so can be a key or in a set: these kinds (a tuple of values only), and objects of one class.
_VALUE_KINDS = frozenset([*range(Kind.BYTES + 1), Kind.TUPLE, *range(Kind.SIZE, Kind.NUMPY_SCALAR + 1), Kind.GLOBAL])
_DICT_KINDS = frozenset([Kind.DICT, Kind.ORDERED_DICT, Kind.COUNTER])
# Most nodes of a tree are of these, for which the decoder has checked all there is.
_PLAIN_KINDS = frozenset([*range(Kind.TUPLE + 1)])


def invalid(message: str, metadata: Optional[Mapping[str, str]] = None) -> SconceError:
    return make_error("INVALID_ARGUMENT", "MANIFEST_INVALID", f"manifest is not valid: {message}", metadata)


def too_large(nodes: int, tensors: int, storages: int) -> SconceError:
    message = f"the manifest has {nodes} nodes, {tensors} tensors and {storages} storages; at most {MAX_RECORDS} of each are accepted"
    return make_error("RESOURCE_EXHAUSTED", "INPUT_LIMIT_EXCEEDED", message)


def validate(manifest: Manifest) -> None:
    """Raises InvalidArgumentError (MANIFEST_INVALID) for a manifest that breaks a rule, or that could be written in another way too."""
    _Validator(manifest).run()


def can_be_value_object(nodes: List[Node], node: Node) -> bool:
    if node.kind != Kind.OBJECT or len(node.children) != 3 or node.value != VALUE_CLASS:
        return False
    arguments, _, state = (nodes[child] for child in node.children)
    return arguments.kind == Kind.TUPLE and not arguments.children and state.kind == Kind.LIST


def value_key(nodes: List[Node], index: int, max_bytes: int) -> Optional[bytes]:
    """What values are ordered by: the record without references, then the keys of the children. None for what is no value, or too large."""
    out = bytearray()
    pending = [index]
    state = NO_INDEX  # of the object met last: a list that is part of a value
    while pending:
        at = pending.pop()
        node = nodes[at]
        is_object = can_be_value_object(nodes, node)
        if not (node.kind in _VALUE_KINDS or is_object or at == state):
            return None
        put_leaf_record(node, out)
        if is_object:
            state = node.children[2]
        # What is still pending costs at least one byte each.
        if len(out) + len(node.children) + len(pending) > max_bytes:
            return None
        pending.extend(reversed(node.children))
    return bytes(out)


def dict_key(nodes: List[Node], index: int, max_bytes: int) -> Optional[bytes]:
    """The same, but of a kind that is one for all numbers that Python takes for equal."""
    node = nodes[index]
    if node.kind == Kind.STR and isinstance(node.value, str):  # most keys are
        text = b"\x05" + node.value.encode("utf-8", "surrogatepass")
        return text if len(text) <= max_bytes else None
    if node.children:
        return value_key(nodes, index, max_bytes)
    kind, value = node.kind, node.value
    if kind == Kind.BOOL:
        kind, value = Kind.INT, int(bool(value))
    if kind == Kind.COMPLEX and isinstance(value, complex) and value.imag == 0:
        kind, value = Kind.FLOAT, value.real
    if kind == Kind.FLOAT and isinstance(value, float):
        if math.isnan(value):
            return f"nan {index}".encode()  # which equals nothing
        if abs(value) < 2.0**63 and value == math.trunc(value):
            kind, value = Kind.INT, math.trunc(value)
    return value_key([Node(kind, value)], 0, max_bytes)


class _Validator:
    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.nodes = manifest.nodes
        self.storage_used = bytearray(len(manifest.storages))
        self.tensor_used = bytearray(len(manifest.tensors))
        self.node_used = bytearray(len(manifest.nodes))
        self.is_value = bytearray(len(manifest.nodes))
        self.holds_values = bytearray(len(manifest.nodes))  # lists that have nothing else
        self.key_budget = 0
        self.key_id: Dict[int, int] = {}
        self.key_ids: Dict[bytes, int] = {}

    def run(self) -> None:
        manifest = self.manifest
        if not self.nodes:
            raise invalid("it has no nodes, not even a root")
        if max(len(self.nodes), len(manifest.tensors), len(manifest.storages)) > MAX_RECORDS:
            raise too_large(len(self.nodes), len(manifest.tensors), len(manifest.storages))
        self.storages()
        self.tensors()
        self.all_nodes()
        for what, used in (("node", self.node_used[:-1]), ("tensor", self.tensor_used), ("storage", self.storage_used)):
            index = used.find(0)
            if index >= 0:
                raise invalid(f"{what} {index}: nothing refers to it")

    def storages(self) -> None:
        total = 0
        devices: Set[str] = set()
        with_chunks = bulk = 0
        for index, storage in enumerate(self.manifest.storages):
            if storage.device not in devices:
                if not is_tag(storage.device):
                    raise invalid(f"storage {index}: the device tag is not 1 to 64 printable ASCII characters")
                devices.add(storage.device)
            is_meta = storage.is_meta
            if not is_meta:
                total += storage.size_bytes
            if not 0 <= storage.size_bytes <= MAX_SIZE or total > MAX_SIZE:
                raise invalid(f"storage {index}: all together have more than 2^63 bytes, or one a negative size")
            is_bulk = storage.is_bulk
            if len(storage.inline_bytes) != (0 if is_bulk or is_meta else storage.size_bytes):
                raise invalid(f"storage {index}: size {storage.size_bytes} on {storage.device} with {len(storage.inline_bytes)} inline bytes")
            if storage.chunks and (not is_bulk or len(storage.chunks) != -(-storage.size_bytes // (4 << 20)) * 48):
                raise invalid(f"storage {index}: size {storage.size_bytes} with another number of chunks")
            bulk += is_bulk
            with_chunks += bool(storage.chunks)
        if with_chunks not in (0, bulk):
            raise invalid("some storages have their chunks and some have not")

    def tensors(self) -> None:
        for index, view in enumerate(self.manifest.tensors):
            dtype = DTYPES.get(view.dtype)
            if dtype is None:
                raise invalid(f"tensor {index}: unknown dtype")
            if view.conjugate and dtype.kind != "c":
                raise invalid(f"tensor {index}: conjugate, and its dtype is not complex")
            if len(view.shape) > MAX_RANK:
                raise invalid(f"tensor {index}: more than {MAX_RANK} dimensions")
            numbers = (view.offset, *view.shape, *view.stride)
            end = -1
            if len(view.shape) == len(view.stride) and min(numbers) >= 0 and max(numbers) <= MAX_SIZE:
                end = self.end_of(index)
            if end < 0:
                raise invalid(f"tensor {index}: shape, stride and offset are negative, of different length or overflow 64 bits")
            if view.storage == NO_INDEX:
                continue
            if not 0 <= view.storage < len(self.storage_used):
                raise invalid(f"tensor {index}: no such storage")
            self.storage_used[view.storage] = 1
            size = self.manifest.storages[view.storage].size_bytes
            if end > size:
                raise invalid(f"tensor {index}: reaches to byte {end} of storage {view.storage}, which has {size}")

    def end_of(self, index: int) -> int:
        """The end of a view in its storage; -1 for a number that the format's 64 bits do not hold."""
        view = self.manifest.tensors[index]
        if 0 not in view.shape and element_count(view.shape) > MAX_SIZE:
            return -1
        if view.dtype in PACKED and (view.offset or view.stride != contiguous_stride(view.shape)):
            return -1
        end = view_end_bytes(view)
        return end if end <= MAX_SIZE else -1

    def all_nodes(self) -> None:
        edges = text = 0
        for node in self.nodes:
            edges += len(node.children)
            if isinstance(node.value, (str, bytes)):
                text += len(node.value)
        self.key_budget = (1 << 20) + 64 * (edges + len(self.nodes)) + 4 * text
        node_used, is_value = self.node_used, self.is_value
        for index, node in enumerate(self.nodes):
            kind = node.kind
            if not 0 <= kind < len(LAYOUTS):
                raise invalid(f"node {index}: unknown kind")
            children = node.children
            for child in children:
                if not 0 <= child < index:
                    self.bad(index, f"child {child} does not come before it")
                node_used[child] = 1
            if kind in _VALUE_KINDS:
                is_value[index] = all(is_value[child] for child in children) if children else 1
            if kind not in _PLAIN_KINDS:
                self.uncommon(index, node)
            elif kind == Kind.LIST:
                self.holds_values[index] = all(is_value[child] for child in children)

    def uncommon(self, index: int, node: Node) -> None:
        _, _, has_tensor, has_storage = LAYOUTS[node.kind]
        if has_tensor:
            if not 0 <= node.tensor < len(self.tensor_used):
                self.bad(index, "no such tensor")
            if self.tensor_used[node.tensor]:
                self.bad(index, "its tensor is already another node's; share the node")
            self.tensor_used[node.tensor] = 1
        if has_storage:
            if not 0 <= node.storage < len(self.storage_used):
                self.bad(index, "no such storage")
            self.storage_used[node.storage] = 1
        if node.kind in _DICT_KINDS:
            self.dict(index, node)
        elif node.kind == Kind.SET:
            self.set(index, node)
        elif node.kind in (Kind.DEVICE, Kind.LAYOUT, Kind.QSCHEME):
            if not is_tag(str(node.value)):
                self.bad(index, "not 1 to 64 printable ASCII characters")
        elif node.kind in (Kind.DTYPE, Kind.STORAGE):
            if node.value not in DTYPES and (node.kind == Kind.DTYPE or node.value != "untyped"):
                self.bad(index, "unknown dtype")
        else:
            problem = problem_of_composite(self.manifest, node)
            if problem:
                self.bad(index, problem)
            if can_be_value_object(self.nodes, node):
                self.is_value[index] = self.is_value[node.children[1]] and self.holds_values[node.children[2]]

    def bad(self, index: int, what: str) -> None:
        raise invalid(f"node {index} ({KIND_NAMES[self.nodes[index].kind]}): {what}")

    def charge(self, key: Optional[bytes]) -> bytes:
        if key is None:
            raise make_error("RESOURCE_EXHAUSTED", "INPUT_LIMIT_EXCEEDED", "the tuples in this checkpoint's sets and keys are too large")
        self.key_budget -= len(key)
        return key

    def set(self, index: int, node: Node) -> None:
        previous: Optional[bytes] = None
        for child in node.children:
            if not self.is_value[child]:
                self.bad(index, f"a {KIND_NAMES[self.nodes[child].kind]} cannot be in a set")
            key = self.charge(value_key(self.nodes, child, self.key_budget))
            if previous is not None and key <= previous:
                self.bad(index, "the elements are not in ascending order")
            previous = key

    def dict(self, index: int, node: Node) -> None:
        children = node.children
        if len(children) % 2 and (node.kind != Kind.ORDERED_DICT or self.nodes[children[-1]].kind != Kind.DICT):
            self.bad(index, "a key without a value")
        seen: Set[int] = set()
        key_id = self.key_id
        for key in children[: len(children) // 2 * 2 : 2]:
            if not self.is_value[key]:
                self.bad(index, f"a {KIND_NAMES[self.nodes[key].kind]} cannot be a key")
            number = key_id.get(key)
            if number is None:
                number = key_id[key] = self.key_ids.setdefault(self.charge(dict_key(self.nodes, key, self.key_budget)), len(self.key_ids))
            if number in seen:
                self.bad(index, "two keys are equal")
            seen.add(number)


def is_tag(text: str) -> bool:
    return 0 < len(text) <= 64 and all("!" <= c <= "~" for c in text)


__all__: Tuple[str, ...] = ("dict_key", "invalid", "is_tag", "too_large", "validate", "value_key")
