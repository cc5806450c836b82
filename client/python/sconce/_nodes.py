"""A checkpoint as data: the nodes, tensors and storages of a manifest. docs/formats/manifest.md says what each kind means.

Numbers are those of the format. Everything is an index into one of three tables, so that nothing here recurses however deep a tree is.
"""

from __future__ import annotations

import contextlib
import gc
import struct
from typing import Any, Dict, Iterator, List, NamedTuple, Sequence, Tuple, Union

CHUNK_BYTES = 4 << 20
INLINE_BYTES = 1024  # a storage of at most this size lives in the manifest itself
MAX_RECORDS = 1 << 22  # of nodes, of tensors, of storages
MAX_RANK = 64
MAX_SIZE = (1 << 63) - 1
NO_INDEX = -1

Dims = Tuple[int, ...]
Value = Union[None, bool, int, float, complex, str, bytes]


class Kind:
    """The kinds of nodes, by their numbers in the format. Plain ints: they are compared by the million."""

    NONE = 0
    BOOL = 1
    INT = 2
    FLOAT = 3
    COMPLEX = 4
    STR = 5
    BYTES = 6
    BYTEARRAY = 7
    LIST = 8
    TUPLE = 9
    SET = 10
    DICT = 11
    ORDERED_DICT = 12
    COUNTER = 13
    SIZE = 14
    DTYPE = 15
    DEVICE = 16
    LAYOUT = 17
    QSCHEME = 18
    NUMPY_SCALAR = 19
    NUMPY_ARRAY = 20
    TENSOR = 21
    SPARSE_TENSOR = 22
    QUANTIZED_TENSOR = 23
    NESTED_TENSOR = 24
    PARAMETER = 25
    TENSOR_SUBCLASS = 26
    STORAGE = 27
    SHARDED_TENSOR = 28
    GLOBAL = 29
    OBJECT = 30


KIND_NAMES = (
    "none bool int float complex str bytes bytearray list tuple set dict ordered_dict counter size dtype device layout qscheme numpy_scalar"
    " numpy_array tensor sparse_tensor quantized_tensor nested_tensor parameter tensor_subclass storage sharded_tensor global object"
).split()


class Layout(NamedTuple):
    """Which parts a node of one kind has."""

    payload: str  # "", "flag", "int", "real", "complex", "str" (UTF-8 with lone surrogates), "bytes" or "text"
    children: bool = False
    tensor: bool = False
    storage: bool = False


LAYOUTS: Tuple[Layout, ...] = (
    Layout(""),
    Layout("flag"),
    Layout("int"),
    Layout("real"),
    Layout("complex"),
    Layout("str"),
    Layout("bytes"),
    Layout("bytes"),
    *[Layout("", children=True)] * 7,  # list to Size
    *[Layout("text")] * 4,  # dtype, device, layout, qscheme
    *[Layout("", children=True)] * 2,  # numpy
    Layout("", tensor=True),
    Layout("", children=True),
    Layout("", children=True, tensor=True),
    Layout("", children=True),
    Layout("flag", children=True),
    Layout("text", children=True),
    Layout("text", storage=True),
    Layout("", children=True),
    Layout("text"),
    Layout("text", children=True),
)

# Constructor arguments of a tensor that is made of its attributes (DTensor): class, dtype, size, stride, offset, layout, device, requires_grad.
WRAPPER_ARGUMENTS = (Kind.GLOBAL, Kind.DTYPE, Kind.TUPLE, Kind.TUPLE, Kind.INT, Kind.LAYOUT, Kind.DEVICE, Kind.BOOL)


class _Record:
    __slots__: Tuple[str, ...] = ()

    def _fields(self) -> Tuple[Any, ...]:
        return tuple(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and isinstance(other, _Record) and self._fields() == other._fields()

    def __hash__(self) -> int:
        raise TypeError(f"a {type(self).__name__} can be changed, and so has no hash")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(f'{name}={getattr(self, name)!r}' for name in self.__slots__)})"


class Node(_Record):
    """One value of the tree. `value` is the payload as Python has it; what a kind does not have is left as it is by default."""

    __slots__ = ("kind", "value", "children", "tensor", "storage")

    def __init__(self, kind: int, value: Value = None, children: Sequence[int] = (), tensor: int = NO_INDEX, storage: int = NO_INDEX) -> None:
        self.kind = kind
        self.value = value
        self.children: Sequence[int] = children
        self.tensor = tensor
        self.storage = storage

    def _fields(self) -> Tuple[Any, ...]:
        value: Any = self.value
        if isinstance(value, float):  # by its bits: a NaN equals itself, and the zeros differ
            value = struct.pack("<d", value)
        elif isinstance(value, complex):
            value = struct.pack("<dd", value.real, value.imag)
        return self.kind, type(self.value), value, tuple(self.children), self.tensor, self.storage


class TensorView(_Record):
    """A strided view of a storage; shape, stride and offset in elements."""

    __slots__ = ("dtype", "shape", "stride", "storage", "offset", "requires_grad", "conjugate", "negative")

    def __init__(
        self,
        dtype: str,
        shape: Dims,
        stride: Dims,
        storage: int = NO_INDEX,
        offset: int = 0,
        requires_grad: bool = False,
        conjugate: bool = False,
        negative: bool = False,
    ) -> None:
        self.dtype = dtype
        self.shape = shape
        self.stride = stride
        self.storage = storage  # NO_INDEX: a meta tensor without storage
        self.offset = offset
        self.requires_grad = requires_grad
        self.conjugate = conjugate
        self.negative = negative


class Storage(_Record):
    """Bytes that tensors are views of: in the manifest (inline), beside it (bulk), or nowhere (meta)."""

    __slots__ = ("size_bytes", "device", "inline_bytes", "chunks")

    def __init__(self, size_bytes: int, device: str = "cpu", inline_bytes: bytes = b"", chunks: bytes = b"") -> None:
        self.size_bytes = size_bytes
        self.device = device
        self.inline_bytes = inline_bytes
        self.chunks = chunks  # its part of the chunk table, as it stands there; empty while it is not known

    @property
    def is_meta(self) -> bool:
        return is_meta_device(self.device)

    @property
    def is_bulk(self) -> bool:
        return self.size_bytes > INLINE_BYTES and not is_meta_device(self.device)


class Manifest(_Record):
    """The three tables. Nodes come in post-order; the last one is the root."""

    __slots__ = ("nodes", "tensors", "storages", "derived")

    def __init__(self, nodes: List[Node], tensors: List[TensorView], storages: List[Storage], derived: bool = False) -> None:
        self.nodes = nodes
        self.tensors = tensors
        self.storages = storages
        self.derived = derived  # the result of a selection or a cast, not what was pushed


@contextlib.contextmanager
def collector_paused() -> Iterator[None]:
    """Python's collector of cycles would look at all that is being made, over and over: half the time of making a large tree, for nothing."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def is_meta_device(tag: str) -> bool:
    return tag == "meta" or tag.startswith("meta:")


class DType(NamedTuple):
    """What the format knows of a dtype: its number, bytes of an element, and kind: f, i, u, b, c, q (quantized) or x (bits)."""

    number: int
    size: int
    kind: str


DTYPES: Dict[str, DType] = {
    name: DType(number, size, kind)
    for number, (name, size, kind) in enumerate(
        [
            ("float32", 4, "f"),
            ("float64", 8, "f"),
            ("float16", 2, "f"),
            ("bfloat16", 2, "f"),
            ("int64", 8, "i"),
            ("int32", 4, "i"),
            ("int16", 2, "i"),
            ("int8", 1, "i"),
            ("uint8", 1, "u"),
            ("bool", 1, "b"),
            ("complex64", 8, "c"),
            ("complex128", 16, "c"),
            ("complex32", 4, "c"),
            ("uint16", 2, "u"),
            ("uint32", 4, "u"),
            ("uint64", 8, "u"),
            ("float8_e4m3fn", 1, "f"),
            ("float8_e5m2", 1, "f"),
            ("float8_e4m3fnuz", 1, "f"),
            ("float8_e5m2fnuz", 1, "f"),
            ("float8_e8m0fnu", 1, "f"),
            ("float4_e2m1fn_x2", 1, "f"),
            ("qint8", 1, "q"),
            ("quint8", 1, "q"),
            ("qint32", 4, "q"),
            ("quint4x2", 1, "q"),
            ("quint2x4", 1, "q"),
            ("bits8", 1, "x"),
            ("bits16", 2, "x"),
            ("bits1x8", 1, "x"),
            ("bits2x4", 1, "x"),
            ("bits4x2", 1, "x"),
            *[(f"int{bits}", 1, "i") for bits in range(1, 8)],
            *[(f"uint{bits}", 1, "u") for bits in range(1, 8)],
            ("bcomplex32", 4, "c"),
        ],
        start=1,
    )
}
DTYPE_NAMES: Tuple[str, ...] = ("", *DTYPES)  # by number
PACKED = {"quint4x2": 2, "quint2x4": 4}  # how many elements share a byte


def element_count(shape: Dims) -> int:
    count = 1
    for extent in shape:
        count *= extent
    return count


def contiguous_stride(shape: Dims) -> Dims:
    """Strides of a row-major tensor without gaps, as PyTorch gives them: an extent of 0 counts as 1. Nothing wraps around."""
    if len(shape) < 2:
        return (1,) * len(shape)
    strides = [1]
    for extent in shape[:0:-1]:
        strides.append(strides[-1] * (extent or 1))
    strides.reverse()
    return tuple(strides)


def view_end_bytes(view: TensorView) -> int:
    """Bytes from the storage's start to the end of the last element that the view touches. Requires shape and stride of equal length."""
    shape = view.shape
    if 0 in shape:
        return 0
    if view.dtype in PACKED:
        row = shape[-1] if shape else 1
        return element_count(shape) // row * -(-row // PACKED[view.dtype]) if shape else 1
    last = view.offset
    for extent, step in zip(shape, view.stride):
        last += (extent - 1) * step
    return (last + 1) * DTYPES[view.dtype].size


def segment_of_key(kind: int, value: Any) -> str:
    """A dict key as paths have it. `value` is the key itself, or for a key of nodes any text that shows it."""
    if kind == Kind.STR:
        text = str(value)
        if not any("\ud800" <= c <= "\udfff" for c in text):
            return text.replace("~", "~0").replace("/", "~1")
        return "~k" + repr(text).replace("~", "~0").replace("/", "~1")
    if kind == Kind.INT:
        return str(value) if -(1 << 4000) < value < 1 << 4000 else "~kint"
    return "~k" + repr(value)[:512].replace("~", "~0").replace("/", "~1")


_MAX_PATH = 600  # of a path in a message: there may be a tree of a million levels


def first_paths(manifest: Manifest) -> List[str]:
    """Of each node a path, or that of the place it is a part of, at which a message can name it. For messages: costs as much as the tree is large."""
    paths = [""] * len(manifest.nodes)
    seen = [False] * len(manifest.nodes)
    # Parents stand behind their children, so going backwards each node is named before its children are.
    for index in range(len(manifest.nodes) - 1, -1, -1):
        for child, segment in _children(manifest, index):
            if not seen[child]:
                seen[child] = True
                path = paths[index] + segment
                paths[child] = path if len(path) < _MAX_PATH else paths[index][: _MAX_PATH - 4] + "/..."
    return paths


def _children(manifest: Manifest, index: int) -> Iterator[Tuple[int, str]]:
    node = manifest.nodes[index]
    if node.kind in (Kind.LIST, Kind.TUPLE):
        for at, child in enumerate(node.children):
            yield child, f"/{at}"
    elif node.kind in (Kind.DICT, Kind.ORDERED_DICT, Kind.COUNTER):
        for at in range(0, len(node.children) - 1, 2):
            key = manifest.nodes[node.children[at]]
            yield node.children[at + 1], "/" + segment_of_key(key.kind, key.value if not key.children else KIND_NAMES[key.kind])
    else:
        for child in node.children:
            yield child, ""
