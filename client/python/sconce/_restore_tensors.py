"""PyTorch's values among those that are restored. Imported only where PyTorch is."""

from __future__ import annotations

import collections
from typing import Any, Callable, Dict, List, Tuple

import torch

from sconce import _globals
from sconce._capture_storages import memory_at
from sconce._capture_tensors import untyped_storage_of
from sconce._map_location import WITHOUT_STORAGES, Placer
from sconce._nodes import NO_INDEX, Kind, Manifest, Node, TensorView, element_count

__all__ = ["TensorRestore"]


class TensorRestore:
    """Makes the values whose storages are in `placed`, by number."""

    def __init__(self, manifest: Manifest, placed: Dict[int, Any], placer: Placer) -> None:
        self.manifest = manifest
        self.placer = placer
        self.moved = {  # storages whose tensors, made on the CPU, then go to their device as a whole
            index: storage.device
            for index, storage in enumerate(manifest.storages)
            if (placer.target(storage.device)[0] or storage.device).partition(":")[0] in WITHOUT_STORAGES
        }
        self.placed = placed
        self.dtypes: Dict[str, Any] = {}
        self.torch_version = torch.__version__

    def makers(self) -> Dict[int, Callable[[Node, List[Any]], Any]]:
        return {
            Kind.SIZE: lambda node, made: torch.Size([made[child] for child in node.children]),
            Kind.DTYPE: lambda node, made: self._dtype(str(node.value)),
            Kind.DEVICE: lambda node, made: torch.device(node.value),
            Kind.LAYOUT: lambda node, made: getattr(torch, str(node.value)),
            Kind.QSCHEME: lambda node, made: getattr(torch, str(node.value)),
            Kind.TENSOR: self._tensor,
            Kind.SPARSE_TENSOR: self._sparse,
            Kind.QUANTIZED_TENSOR: self._quantized,
            Kind.NESTED_TENSOR: self._nested,
            Kind.PARAMETER: self._parameter,
            Kind.TENSOR_SUBCLASS: self._subclass,
            Kind.STORAGE: self._storage,
            Kind.SHARDED_TENSOR: self._sharded,
        }

    def _dtype(self, name: str) -> Any:
        dtype = self.dtypes.get(name)
        if dtype is None:
            dtype = self.dtypes[name] = getattr(torch, name)
        return dtype

    def missing_dtypes(self) -> Dict[int, str]:
        """Nodes with a dtype that this PyTorch lacks."""
        used = {view.dtype for view in self.manifest.tensors}
        used.update(str(node.value) for node in self.manifest.nodes if node.kind in (Kind.DTYPE, Kind.STORAGE))
        lacking = {name for name in used if not isinstance(getattr(torch, name, None), torch.dtype)} - {"untyped"}
        missing: Dict[int, str] = {}
        if lacking:
            for index, node in enumerate(self.manifest.nodes):
                name = self.manifest.tensors[node.tensor].dtype if node.tensor != NO_INDEX else node.value
                if (node.tensor != NO_INDEX or node.kind in (Kind.DTYPE, Kind.STORAGE)) and name in lacking:
                    missing[index] = str(name)
        return missing

    # Memory

    @staticmethod
    def new_memory(size: int, pin: bool) -> Tuple[Any, memoryview]:
        """A tensor of bytes in the host's memory, and its bytes."""
        owner = torch.empty(size, dtype=torch.uint8, pin_memory=pin and torch.cuda.is_available())
        return owner, memory_at(owner.data_ptr(), size, owner)

    @staticmethod
    def storage_of(owner: Any) -> Any:
        return untyped_storage_of(owner)

    @staticmethod
    def new_meta_storage(size: int) -> Any:
        return torch.UntypedStorage(size, device="meta")

    @staticmethod
    def is_elsewhere(storage: Any) -> bool:
        return bool(storage.device.type != "cpu")

    # Tensors

    def tensor_of(self, view: TensorView, storage: Any) -> Any:
        """A tensor that looks so at a storage."""
        tensor = torch.empty(0, dtype=self._dtype(view.dtype), device=storage.device)
        tensor.set_(storage, view.offset, view.shape, view.stride)
        if view.conjugate:
            torch._C._set_conj(tensor, True)
        if view.negative:
            torch._C._set_neg(tensor, True)
        return tensor

    def _tensor(self, node: Node, _: List[Any]) -> Any:
        view = self.manifest.tensors[node.tensor]
        if view.storage == NO_INDEX:
            tensor = torch.empty_strided(view.shape, view.stride, dtype=self._dtype(view.dtype), device="meta")
        else:
            tensor = self.tensor_of(view, self.placed[view.storage])
        if view.storage in self.moved:
            tensor = tensor.to(self.placer.tensor_device(self.moved[view.storage]))
        if view.requires_grad:
            tensor.requires_grad_()
        return tensor

    def _typed(self, index: int, dtype: Any) -> Any:
        storage = self.placed[index]
        try:  # without the warning that the class is going away
            return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)
        except TypeError:
            return torch.storage.TypedStorage(wrap_storage=storage, dtype=dtype)

    def _storage(self, node: Node, _: List[Any]) -> Any:
        """An untyped storage comes back as one of uint8, as torch.load has it."""
        return self._typed(node.storage, torch.uint8 if node.value == "untyped" else self._dtype(str(node.value)))

    def _sparse(self, node: Node, made: List[Any]) -> Any:
        layout, size, *parts, is_coalesced = [made[child] for child in node.children]
        if layout == torch.sparse_coo:
            tensor = torch.sparse_coo_tensor(*parts, size)
            with torch.no_grad():
                if is_coalesced:
                    tensor._coalesced_(True)
            return tensor
        return torch.sparse_compressed_tensor(*parts, size, layout=layout)

    def _quantized(self, node: Node, made: List[Any]) -> Any:
        view = self.manifest.tensors[node.tensor]
        if view.storage == NO_INDEX:
            raise ValueError("a quantized tensor on the meta device")
        quantizer = tuple(made[child] for child in node.children)
        storage = self._typed(view.storage, self._dtype(view.dtype))
        arguments: Tuple[Any, ...] = (storage, view.offset, view.shape, view.stride, quantizer, view.requires_grad, collections.OrderedDict())
        return torch._utils._rebuild_qtensor(*arguments)

    def _nested(self, node: Node, made: List[Any]) -> Any:
        if not hasattr(torch._utils, "_rebuild_nested_tensor"):
            raise NotImplementedError(f"nested tensors need a newer PyTorch than {torch.__version__}")
        return torch._utils._rebuild_nested_tensor(*(made[child] for child in node.children))

    def _parameter(self, node: Node, made: List[Any]) -> Any:
        parameter = torch.nn.Parameter(made[node.children[0]], node.value)
        if len(node.children) > 1:
            _set_state(parameter, made[node.children[1]])
        return parameter

    def _subclass(self, node: Node, made: List[Any]) -> Any:
        name = str(node.value)
        arguments, state = (made[child] for child in node.children)
        if name in ("torch.Tensor", "torch.nn.parameter.Parameter") and len(arguments) == 1 and isinstance(arguments[0], torch.Tensor):
            kind = _globals.resolve(name)
            tensor = arguments[0] if type(arguments[0]) is kind else arguments[0].as_subclass(kind)
            _set_state(tensor, state)
            return tensor
        if name == _globals.JAGGED_CLASS:
            function = _globals.resolve("torch.nested._internal.nested_tensor._rebuild_njt")
        elif name == _globals.WRAPPER_CLASS:
            function = torch._utils._rebuild_wrapper_subclass
            arguments = (*arguments[:6], torch.device(self.placer.tensor_device(str(arguments[6]))), *arguments[7:])
        else:
            raise TypeError(f"a tensor of class {name}, which is not imported; only PyTorch's own are")
        return torch._tensor._rebuild_from_type_v2(function, _globals.resolve(name), arguments, state)

    def _sharded(self, node: Node, made: List[Any]) -> Any:
        """The whole tensor, put together from its shards: outside of a process group there is no other."""
        size, *shards = [made[child] for child in node.children]
        triples = list(zip(shards[::3], shards[1::3], shards[2::3]))
        if not triples or sum(element_count(sizes) for _, sizes, _ in triples) != element_count(size):
            raise ValueError("a sharded tensor of which some shards are missing")
        first = triples[0][2]
        whole = torch.empty(tuple(size), dtype=first.dtype, device=first.device)
        with torch.no_grad():
            for offsets, sizes, shard in triples:
                part = whole
                for axis, (offset, extent) in enumerate(zip(offsets, sizes)):
                    part = part.narrow(axis, offset, extent)
                part.copy_(shard)
        return whole.requires_grad_(first.requires_grad)


def _set_state(tensor: Any, state: Any) -> None:
    from sconce._restore import split_state  # pylint: disable=import-outside-toplevel,cyclic-import

    for attributes in split_state(state):
        for name, value in attributes.items():
            setattr(tensor, name, value)
