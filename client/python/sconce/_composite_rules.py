"""What the nodes of composite kinds must consist of: tensors of all sorts, numpy values, classes and objects."""

from __future__ import annotations

from typing import Optional, Sequence, Tuple

from sconce._globals import GLOBALS, LIST_CLASS, OBJECT_CLASSES, WRAPPER_CLASS
from sconce._nodes import DTYPES, MAX_RANK, MAX_SIZE, WRAPPER_ARGUMENTS, Kind, Manifest, Node, element_count

TENSOR_KINDS = frozenset(
    [Kind.TENSOR, Kind.SPARSE_TENSOR, Kind.QUANTIZED_TENSOR, Kind.NESTED_TENSOR, Kind.TENSOR_SUBCLASS]
)
COMPRESSED_LAYOUTS = frozenset(["sparse_csr", "sparse_csc", "sparse_bsr", "sparse_bsc"])
_PER_TENSOR = ("per_tensor_affine", "per_tensor_symmetric")
_PER_CHANNEL = ("per_channel_affine", "per_channel_symmetric", "per_channel_affine_float_qparams")
_NUMPY_SIZES = {"b": (1,), "i": (1, 2, 4, 8), "u": (1, 2, 4, 8), "f": (2, 4, 8, 16), "c": (8, 16, 32), "M": (8,), "m": (8,)}


def numpy_item_bytes(text: str) -> Optional[int]:
    """Bytes of an element of a numpy dtype, as numpy's `.str` gives it; None for one that is not stored."""
    if not 3 <= len(text) <= 32 or text[0] not in "<>|" or not text.isascii():
        return None
    kind, rest = text[1], text[2:]
    digits = len(rest) - len(rest.lstrip("0123456789"))
    unit = rest[digits:]  # "[ns]" of a date
    if not digits or (unit and (kind not in "Mm" or len(unit) < 3 or unit[0] != "[" or unit[-1] != "]")):
        return None
    size = int(rest[:digits])
    if size > 0x7FFFFFFF or (kind in _NUMPY_SIZES and size not in _NUMPY_SIZES[kind]) or (kind not in _NUMPY_SIZES and kind not in "SUV"):
        return None
    return 4 * size if kind == "U" else size


def problem_of_composite(manifest: Manifest, node: Node) -> str:
    """What is wrong with a node of a composite kind; empty when nothing is. Its children come before it and are valid."""
    return _Rules(manifest).problem(node)


class _Rules:
    def __init__(self, manifest: Manifest) -> None:
        self.manifest = manifest
        self.nodes = manifest.nodes

    def problem(self, node: Node) -> str:
        kind = node.kind
        if kind == Kind.TENSOR:
            return "a quantized dtype, without its scale" if DTYPES[self.manifest.tensors[node.tensor].dtype].kind == "q" else ""
        if kind == Kind.PARAMETER:
            return self.parameter(node)
        if kind == Kind.SIZE:
            return "" if all(map(self.is_extent, node.children)) else "not made of sizes"
        if kind in (Kind.NUMPY_SCALAR, Kind.NUMPY_ARRAY):
            return self.numpy(node)
        if kind == Kind.SPARSE_TENSOR:
            return self.sparse(node)
        if kind == Kind.QUANTIZED_TENSOR:
            return self.quantized(node)
        if kind == Kind.NESTED_TENSOR:
            return "" if self.kinds(node) == (Kind.TENSOR,) * 4 else "children are not four tensors"
        if kind == Kind.TENSOR_SUBCLASS:
            return self.subclass(node)
        if kind == Kind.SHARDED_TENSOR:
            return self.sharded(node)
        if kind == Kind.GLOBAL:
            return "" if node.value in GLOBALS else "not a name that a torch file may use"
        if kind == Kind.OBJECT:
            return self.object(node)
        return ""

    def kinds(self, node: Node) -> Tuple[int, ...]:
        return tuple(self.nodes[child].kind for child in node.children)

    def is_extent(self, index: int) -> bool:
        node = self.nodes[index]
        return node.kind == Kind.INT and isinstance(node.value, int) and 0 <= node.value <= MAX_SIZE

    def extents(self, index: int) -> Optional[Tuple[int, ...]]:
        """The sizes that a tuple or Size consists of; None when they are something else."""
        children = self.nodes[index].children
        if not all(map(self.is_extent, children)):
            return None
        return tuple(int(self.nodes[child].value or 0) for child in children)  # type: ignore[arg-type]

    def numpy(self, node: Node) -> str:
        kinds = self.kinds(node)
        if node.kind == Kind.NUMPY_SCALAR:
            fits = kinds == (Kind.STR, Kind.BYTES)
        else:
            fits = kinds[:3] == (Kind.STR, Kind.TUPLE, Kind.BOOL) and kinds[3:] in ((Kind.BYTES,), (Kind.STORAGE,))
        if not fits:
            return "children are not what this kind has"
        expected = numpy_item_bytes(str(self.nodes[node.children[0]].value))
        if expected is None:
            return "unknown numpy dtype"
        data = self.nodes[node.children[-1]]
        if data.kind == Kind.STORAGE:
            size = self.manifest.storages[data.storage].size_bytes
        else:
            assert isinstance(data.value, bytes)
            size = len(data.value)
        if node.kind == Kind.NUMPY_ARRAY:
            if len(self.nodes[node.children[1]].children) > MAX_RANK:
                return f"more than {MAX_RANK} dimensions"
            shape = self.extents(node.children[1])
            if shape is None:
                return "the shape is not made of sizes"
            expected *= element_count(shape)
            if max(expected, element_count(shape)) > MAX_SIZE:
                return "the shape overflows"
        return "" if size == expected else "has more or fewer bytes than its shape and dtype"

    def sparse(self, node: Node) -> str:
        kinds = self.kinds(node)
        if len(kinds) < 5 or kinds[:2] != (Kind.LAYOUT, Kind.SIZE):
            return "children are not what this kind has"
        if len(self.nodes[node.children[1]].children) > MAX_RANK:
            return f"more than {MAX_RANK} dimensions"
        layout = self.nodes[node.children[0]].value
        compressed = layout in COMPRESSED_LAYOUTS
        if not compressed and layout != "sparse_coo":
            return "unknown sparse layout"
        components = 3 if compressed else 2
        if len(kinds) != 2 + components + 1:
            return "the layout has another number of components"
        if kinds[2:-1] != (Kind.TENSOR,) * components:
            return "a component is not a strided tensor"
        return "" if kinds[-1] in (Kind.BOOL, Kind.NONE) else "coalesced is neither bool nor None"

    def quantized(self, node: Node) -> str:
        kinds = self.kinds(node)
        per_tensor = kinds == (Kind.QSCHEME, Kind.FLOAT, Kind.INT)
        per_channel = kinds in ((Kind.QSCHEME, Kind.TENSOR, Kind.TENSOR, Kind.INT), (Kind.QSCHEME, Kind.LIST, Kind.LIST, Kind.INT))
        if not per_tensor and not per_channel:
            return "children are not what this kind has"
        if self.nodes[node.children[0]].value not in (_PER_TENSOR if per_tensor else _PER_CHANNEL):
            return "the scheme does not go with its parameters"
        last = self.nodes[node.children[-1]].value
        if not isinstance(last, int) or not -MAX_SIZE - 1 <= last <= MAX_SIZE:
            return "zero point or axis out of range"
        view = self.manifest.tensors[node.tensor]
        if DTYPES[view.dtype].kind != "q":
            return "the integers are of a dtype that is not quantized"
        return "" if per_tensor else self.per_channel(node, last, view.shape)

    def per_channel(self, node: Node, axis: int, shape: Sequence[int]) -> str:
        """One scale and one zero point for each index along the axis."""
        if not 0 <= axis < len(shape):
            return "no such axis"
        for child in node.children[1:3]:
            values = self.nodes[child]
            if values.kind == Kind.LIST:
                if not all(self.is_number(self.nodes[value]) for value in values.children):
                    return "a list of scales or zero points with something else than numbers"
                count = len(values.children)
            else:
                count = element_count(self.manifest.tensors[values.tensor].shape)
            if count != shape[axis]:
                return "not one scale and zero point for each index along the axis"
        return ""

    @staticmethod
    def is_number(node: Node) -> bool:
        return node.kind == Kind.FLOAT or (node.kind == Kind.INT and isinstance(node.value, int) and -MAX_SIZE - 1 <= node.value <= MAX_SIZE)

    def parameter(self, node: Node) -> str:
        kinds = self.kinds(node)
        if not 1 <= len(kinds) <= 2 or kinds[0] not in TENSOR_KINDS:
            return "children are not a tensor and its state"
        return "" if len(kinds) == 1 or kinds[1] in (Kind.DICT, Kind.TUPLE) else "the state is neither a dict nor a tuple"

    def subclass(self, node: Node) -> str:
        if not node.value:
            return "the class has no proper name"
        if len(node.children) != 2 or self.nodes[node.children[0]].kind != Kind.TUPLE:
            return "children are not a tuple and a state"
        if node.value != WRAPPER_CLASS:
            return ""
        arguments = self.nodes[node.children[0]]
        if self.kinds(arguments) != WRAPPER_ARGUMENTS or self.nodes[arguments.children[0]].value != node.value:
            return "not made from class, dtype, size, stride, offset, layout, device and requires_grad"
        for dims in arguments.children[2:4]:
            if len(self.nodes[dims].children) > MAX_RANK:
                return f"more than {MAX_RANK} dimensions"
            if self.extents(dims) is None:
                return "the shape or the strides are not made of sizes"
        return ""

    def object(self, node: Node) -> str:
        if node.value not in OBJECT_CLASSES:
            return "not a class that a torch file may have objects of"
        if len(node.children) < 3 or self.kinds(node)[:2] != (Kind.TUPLE, Kind.BOOL):
            return "children are not a tuple, a bool and a state"
        return "elements of a class that is no list" if len(node.children) > 3 and node.value != LIST_CLASS else ""

    def sharded(self, node: Node) -> str:
        kinds = self.kinds(node)
        if len(kinds) % 3 != 1 or kinds[0] != Kind.SIZE:
            return "children are not a size and triples"
        if len(self.nodes[node.children[0]].children) > MAX_RANK:
            return f"more than {MAX_RANK} dimensions"
        whole = self.extents(node.children[0]) or ()
        if element_count(whole) > MAX_SIZE:
            return "the global shape overflows"
        for at in range(1, len(kinds), 3):
            if kinds[at : at + 3] != (Kind.TUPLE, Kind.TUPLE, Kind.TENSOR):
                return "a shard is not offsets, sizes and a tensor of the global rank"
            offsets, sizes = self.extents(node.children[at]), self.extents(node.children[at + 1])
            shape = self.manifest.tensors[self.nodes[node.children[at + 2]].tensor].shape
            if not len(self.nodes[node.children[at]].children) == len(self.nodes[node.children[at + 1]].children) == len(shape) == len(whole):
                return "a shard is not offsets, sizes and a tensor of the global rank"
            if offsets is None or sizes is None or sizes != shape or any(o + s > w for o, s, w in zip(offsets, sizes, whole)):
                return "a shard lies outside the global shape or its tensor has another shape"
        return ""
