"""What torch.distributed.checkpoint wants to know of a version: its tensors and values by flat names, and where a piece's bytes are."""

from __future__ import annotations

import collections
import itertools
from typing import Any, Dict, List, NamedTuple, Optional, Sequence, Tuple

import torch
from torch.distributed.checkpoint import metadata as dcp

from sconce._errors import make_error
from sconce._manifest import decode
from sconce._nodes import DTYPES, NO_INDEX, Kind, Node, TensorView, view_end_bytes

__all__ = ["Box", "CheckpointIndex", "Place"]

Dims = Tuple[int, ...]
_DICTS = (Kind.DICT, Kind.ORDERED_DICT, Kind.COUNTER)


class Box(NamedTuple):
    """A piece of a tensor that is wanted: of which saved chunk, from where in it, and how much."""

    fqn: str
    chunk: Dims  # where the chunk begins in the tensor
    offsets: Dims
    lengths: Dims


class Place(NamedTuple):
    """Where the elements of a box are: a view whose offset counts from byte `first` of a storage; `end` is behind its last byte."""

    storage: int
    first: int
    end: int
    view: TensorView


class CheckpointIndex:
    """A manifest, by the flat names that DCP uses. Immutable.

    flatten: nested dicts, and lists with tensors, count by what is in them, as DefaultLoadPlanner has it. Otherwise the top-level keys are the names.
    """

    def __init__(self, manifest_bytes: bytes, flatten: bool = True) -> None:
        self.manifest = decode(manifest_bytes)
        self.mappings: Optional[Dict[str, Any]] = None
        self.nodes: Dict[str, int] = {}  # by flat name
        self._chunks: Dict[str, Dict[Dims, TensorView]] = {}
        bulk = [storage.size_bytes if storage.is_bulk else 0 for storage in self.manifest.storages]
        self._bulk_starts = list(itertools.accumulate(bulk, initial=0))
        self._find_names(flatten)

    def metadata(self) -> Any:
        """As a torch.distributed.checkpoint.Metadata."""
        items = {fqn: self._storage_metadata(fqn, node) for fqn, node in self.nodes.items()}
        return dcp.Metadata(state_dict_metadata=items, planner_data=self.mappings)

    def bulk_start(self, storage: int) -> Optional[int]:
        """Where a storage begins in the bulk stream; None for one that is in the manifest itself."""
        return self._bulk_starts[storage] if self.manifest.storages[storage].is_bulk else None

    def place(self, box: Box) -> Optional[Place]:
        """Where a box's bytes are; None when it is empty. InvalidArgumentError for a tensor without bytes."""
        whole = self._chunks_of(box.fqn)[tuple(box.chunk)]
        if 0 in box.lengths:
            return None
        if whole.storage == NO_INDEX or self.manifest.storages[whole.storage].is_meta:
            raise make_error("INVALID_ARGUMENT", "FILE_UNSUPPORTED", f"{box.fqn} was saved on the meta device: it has no values to load")
        offset = whole.offset + sum(start * stride for start, stride in zip(box.offsets, whole.stride))
        view = TensorView(whole.dtype, tuple(box.lengths), whole.stride, whole.storage, offset, False, whole.conjugate, whole.negative)
        first, end = offset * DTYPES[whole.dtype].size, view_end_bytes(view)
        view.offset = 0
        return Place(whole.storage, first, end, view)

    # Names

    def _find_names(self, flatten: bool) -> None:
        skeleton = _Skeleton(self.manifest.nodes)
        root = skeleton.made[-1]
        if not isinstance(root, dict):
            message = "this version is not a dict of names to tensors and values, which torch.distributed.checkpoint loads"
            raise make_error("FAILED_PRECONDITION", "STATE_DICT_INVALID", message)
        if flatten:
            from torch.distributed.checkpoint._nested_dict import flatten_state_dict  # pylint: disable=import-outside-toplevel

            root, self.mappings = flatten_state_dict(root)
        self.nodes = {str(name): skeleton.node_of(value) for name, value in root.items()}

    def _storage_metadata(self, fqn: str, node: int) -> Any:
        size = _size_of(self.manifest.nodes, self.manifest.tensors, node)
        chunks = self._chunks_of(fqn) if size is not None else {}
        if size is None or not chunks:
            return dcp.BytesStorageMetadata()
        dtype = getattr(torch, next(iter(chunks.values())).dtype)
        return dcp.TensorStorageMetadata(
            properties=dcp.TensorProperties(dtype=dtype),
            size=torch.Size(size),
            chunks=[dcp.ChunkStorageMetadata(offsets=torch.Size(at), sizes=torch.Size(view.shape)) for at, view in chunks.items()],
        )

    def _chunks_of(self, fqn: str) -> Dict[Dims, TensorView]:
        """The pieces in which a tensor was saved, by where they begin."""
        chunks = self._chunks.get(fqn)
        if chunks is None:
            nodes = self.manifest.nodes
            node = nodes[_bare(nodes, self.nodes[fqn])]
            if node.kind == Kind.TENSOR:
                view = self.manifest.tensors[node.tensor]
                chunks = {(0,) * len(view.shape): view}
            else:
                chunks = {}
                for at in range(1, len(node.children), 3):
                    begin = _ints(nodes, node.children[at])
                    chunks[begin] = self.manifest.tensors[nodes[node.children[at + 2]].tensor]
            self._chunks[fqn] = chunks
        return chunks


class _Leaf:
    """Stands for a value."""


class _Skeleton:
    """The tree with stand-ins for what is not a dict or a list, as DCP's own rules of flattening are to see it."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self._nodes = nodes
        self._numbers: Dict[int, int] = {}
        self.made: List[Any] = []
        for index, node in enumerate(nodes):
            self.made.append(self._make(index, node))
            self._numbers.setdefault(id(self.made[-1]), index)

    def node_of(self, value: Any) -> int:
        """Which node a stand-in is of."""
        return self._numbers[id(value)]

    def _make(self, index: int, node: Node) -> Any:
        if node.kind in _DICTS:
            pairs = node.children[: len(node.children) // 2 * 2]
            kind = collections.OrderedDict if node.kind == Kind.ORDERED_DICT else dict
            return kind((self._key(pairs[at]), self.made[pairs[at + 1]]) for at in range(0, len(pairs), 2))
        if node.kind == Kind.LIST:
            return [self.made[child] for child in node.children]
        if _bare_kind(self._nodes, index) in (Kind.TENSOR, Kind.SHARDED_TENSOR):
            return torch.empty(0, device="meta")
        return _Leaf()

    def _key(self, index: int) -> Any:
        node = self._nodes[index]
        return f"~k{index}" if node.children else node.value


def _bare(nodes: Sequence[Node], index: int) -> int:
    """The tensor of a Parameter; anything else as it is."""
    return nodes[index].children[0] if nodes[index].kind == Kind.PARAMETER else index


def _bare_kind(nodes: Sequence[Node], index: int) -> int:
    return nodes[_bare(nodes, index)].kind


def _size_of(nodes: Sequence[Node], tensors: Sequence[TensorView], index: int) -> Optional[Dims]:
    """Of a tensor, plain or sharded; None for anything else."""
    node = nodes[_bare(nodes, index)]
    if node.kind == Kind.TENSOR:
        return tensors[node.tensor].shape
    return _ints(nodes, node.children[0]) if node.kind == Kind.SHARDED_TENSOR else None


def _ints(nodes: Sequence[Node], index: int) -> Dims:
    return tuple([int(nodes[child].value or 0) for child in nodes[index].children])  # type: ignore[arg-type]
