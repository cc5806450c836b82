"""PyTorch's values among those that are captured: tensors of all kinds, storages, dtypes and their like. Imported only where PyTorch is."""

from __future__ import annotations

import functools
from typing import Any, Callable, Dict, List, Optional

import torch

from sconce import _globals
from sconce._map_location import WITHOUT_STORAGES
from sconce._nodes import DTYPES, NO_INDEX, Kind, TensorView
from sconce._shards import Shards

__all__ = ["TensorCapture"]

_Handler = Callable[[Any, Any], Optional[int]]


_HAS_NAMES = hasattr(torch.Tensor, "has_names")  # gone since 2.14
# Whether torch.save says if a sparse tensor is coalesced; a release that does not cannot load a file that says it.
_SAVES_COALESCED = tuple(int(part) for part in torch.__version__.split("+")[0].split("a")[0].split(".")[:2]) >= (2, 1)
# The storage of a strided tensor, under the names that it has had since 1.13.
untyped_storage_of: Callable[[Any], Any] = torch.Tensor.untyped_storage if hasattr(torch.Tensor, "untyped_storage") else torch.Tensor._storage


class TensorCapture:
    """Visits PyTorch's values for a _Capturer."""

    def __init__(self, capturer: Any) -> None:
        self.capturer = capturer
        self.table = capturer.table
        self.dtype_names: Dict[Any, Optional[str]] = {}
        self.tags: Dict[Any, str] = {}

    def handler_of(self, kind: type) -> Optional[_Handler]:
        """How a type's values are visited; None for what is not PyTorch's."""
        named = {torch.dtype: Kind.DTYPE, torch.layout: Kind.LAYOUT, torch.qscheme: Kind.QSCHEME}
        if kind is torch.Tensor:
            return self._tensor
        if kind is torch.nn.Parameter:
            return self._parameter
        if issubclass(kind, torch.Tensor):
            return self._subclass
        if kind is torch.Size:
            return self._size
        if kind is torch.device:
            return lambda capturer, value: int(capturer.add(Kind.DEVICE, str(value)))
        if kind is Shards:
            return self._sharded
        if kind in named:
            return functools.partial(self._named, named[kind])
        if kind.__name__ == "StorageType" and kind.__module__.startswith("torch."):
            return self._storage_class
        if kind is torch.storage.TypedStorage or kind.__name__ == "UntypedStorage" and kind.__module__.startswith("torch"):
            return self._storage
        return None

    def _named(self, kind: int, capturer: Any, value: Any) -> int:
        text = str(value)[len("torch.") :]
        if kind == Kind.DTYPE and text not in DTYPES:
            return int(capturer.refuse(value, f"the dtype {text} is newer than this package"))
        return int(capturer.add(kind, text))

    def _storage_class(self, capturer: Any, value: Any) -> int:
        """What torch.load(weights_only=True) makes of a storage class: an object that has nothing but its dtype."""
        name = torch.storage._dtype_to_storage_type_map().get(value.dtype)
        if name is None:
            return int(capturer.refuse(value, "PyTorch has no such storage class"))
        return int(capturer.add(Kind.GLOBAL, f"torch.{name}"))

    def _size(self, capturer: Any, value: Any) -> int:
        node = capturer.seen(value)
        if node is None:
            node = capturer.memo[id(value)] = self._ints(Kind.SIZE, value)
        return int(node)

    def _ints(self, kind: int, numbers: Any) -> int:
        return int(self.capturer.add(kind, None, [self.capturer.add(Kind.INT, int(number)) for number in numbers]))

    def _storage(self, capturer: Any, value: Any) -> int:
        node = capturer.seen(value)
        if node is not None:
            return int(node)
        dtype = "untyped"
        untyped = value
        if isinstance(value, torch.storage.TypedStorage):
            dtype = str(value.dtype)[len("torch.") :]
            untyped = value._untyped_storage if hasattr(value, "_untyped_storage") else value._storage
        index = self.table.add_storage(untyped, self._tag(untyped), whole=True)
        capturer.memo[id(value)] = capturer.add(Kind.STORAGE, dtype, storage=index)
        return int(capturer.memo[id(value)])

    def _tag(self, storage: Any) -> str:
        """The device tag that torch.save would write."""
        device = storage.device
        tag = self.tags.get(device)
        if tag is None:
            tag = self.tags[device] = "cpu" if device.type == "cpu" else str(torch.serialization.location_tag(storage))
        return tag

    # Tensors

    def _tensor(self, capturer: Any, value: Any) -> Optional[int]:
        node = capturer.seen(value)
        if node is not None:
            return int(node)
        state = value.__dict__
        if not state:
            node = capturer.memo[id(value)] = self._base(value)
            return int(node)
        self._open_with_state(capturer, value, "torch.Tensor", self._base(value), state)
        return None

    def _open_with_state(self, capturer: Any, value: Any, name: str, inner: int, state: Any) -> None:
        arguments = capturer.add(Kind.TUPLE, None, (inner,))
        capturer.open(Kind.TENSOR_SUBCLASS, name, [_ready(arguments), state], id(value))

    def _parameter(self, capturer: Any, value: Any) -> Optional[int]:
        node = capturer.seen(value)
        if node is not None:
            return int(node)
        data = value.data
        inner = self._base(data)
        if not value.__dict__:
            node = capturer.memo[id(value)] = capturer.add(Kind.PARAMETER, value.requires_grad, (inner,))
            return int(node)
        capturer.open(Kind.PARAMETER, value.requires_grad, [_ready(inner), value.__dict__], id(value))
        return None

    def _subclass(self, capturer: Any, value: Any) -> Optional[int]:
        """A DTensor or a jagged tensor, as PyTorch itself takes it apart: function, class, arguments, state."""
        node = capturer.seen(value)
        if node is not None:
            return int(node)
        name = _globals.name_of(type(value))
        if name not in (_globals.WRAPPER_CLASS, _globals.JAGGED_CLASS):
            advice = "save it as a plain tensor: x.detach().as_subclass(torch.Tensor), or the tensors it is made of"
            return int(capturer.refuse(value, advice))
        _, (_, _, arguments, state) = value.__reduce_ex__(2)
        capturer.kept.append((arguments, state))
        capturer.open(Kind.TENSOR_SUBCLASS, name, [tuple(arguments), state], id(value))
        return None

    def _base(self, value: Any) -> int:
        """The node of a tensor, whatever its class and attributes are."""
        if _HAS_NAMES and value.has_names():
            return self._refuse(value, "names of dimensions are not stored; save x.rename(None)")
        if value.is_nested:
            return self._nested(value)
        if value.layout is not torch.strided:
            return self._sparse(value)
        if value.is_quantized:
            return self._quantized(value)
        return self._strided(value)

    def _refuse(self, value: Any, advice: str) -> int:
        return int(self.capturer.refuse(value, advice))

    def _strided(self, value: Any) -> int:
        tensor = self._view(value)
        if tensor == NO_INDEX:
            return self._refuse(value, f"its dtype {value.dtype} is newer than this package")
        return int(self.capturer.add(Kind.TENSOR, tensor=tensor))

    def _view(self, value: Any) -> int:
        dtype = value.dtype
        name = self.dtype_names.get(dtype)
        if name is None:
            name = str(dtype)[len("torch.") :]
            if name not in DTYPES:
                return NO_INDEX
            self.dtype_names[dtype] = name
        device = value.device.type
        data, tag = value, None
        if device in WITHOUT_STORAGES or (device not in ("cpu", "cuda", "mps", "meta") and not torch._C._has_storage(value)):
            data, tag = value.detach().cpu(), str(value.device)
        view = TensorView(name, tuple(data.shape), data.stride(), NO_INDEX, 0, value.requires_grad, value.is_conj(), value.is_neg())
        if device != "meta":
            storage = untyped_storage_of(data)
            view.storage = self.table.add_storage(storage, tag or self._tag(storage))
            view.offset = data.storage_offset()
        return int(self.table.add_view(view))

    def _sharded(self, capturer: Any, value: Any) -> int:
        node = capturer.seen(value)
        if node is not None:
            return int(node)
        children = [self._ints(Kind.SIZE, value.size)]
        for offsets, piece in value.pieces:
            if piece.layout is not torch.strided or piece.is_quantized:
                return self._refuse(value, "only shards that are plain, strided tensors are stored; save the whole tensor instead")
            children += [self._ints(Kind.TUPLE, offsets), self._ints(Kind.TUPLE, piece.shape), self._strided(piece)]
        node = capturer.memo[id(value)] = capturer.add(Kind.SHARDED_TENSOR, None, children)
        return int(node)

    def _sparse(self, value: Any) -> int:
        layout = str(value.layout)[len("torch.") :]
        if layout == "sparse_coo":
            parts = [value._indices(), value._values()]
        elif layout in ("sparse_csr", "sparse_bsr"):
            parts = [value.crow_indices(), value.col_indices(), value.values()]
        elif layout in ("sparse_csc", "sparse_bsc"):
            parts = [value.ccol_indices(), value.row_indices(), value.values()]
        else:
            return self._refuse(value, f"a tensor of layout {layout} is not stored; save x.to_dense()")
        add = self.capturer.add
        children: List[int] = [add(Kind.LAYOUT, layout), self._ints(Kind.SIZE, value.shape)]
        children += map(self._strided, parts)
        says = layout == "sparse_coo" and _SAVES_COALESCED
        children.append(add(Kind.BOOL, value.is_coalesced()) if says else add(Kind.NONE))
        return int(add(Kind.SPARSE_TENSOR, None, children))

    def _quantized(self, value: Any) -> int:
        add = self.capturer.add
        scheme = str(value.qscheme())[len("torch.") :]
        if "symmetric" in scheme:
            return self._refuse(value, f"PyTorch cannot load a tensor of the scheme {scheme}; quantize it with an affine one")
        children: List[int] = [add(Kind.QSCHEME, scheme)]
        if scheme == "per_tensor_affine":
            children += [add(Kind.FLOAT, value.q_scale()), add(Kind.INT, value.q_zero_point())]
        else:
            children += [self._strided(value.q_per_channel_scales()), self._strided(value.q_per_channel_zero_points())]
            children.append(add(Kind.INT, value.q_per_channel_axis()))
        return int(add(Kind.QUANTIZED_TENSOR, None, children, tensor=self._view(value)))

    def _nested(self, value: Any) -> int:
        if not hasattr(value, "_nested_tensor_storage_offsets"):
            return self._refuse(value, "nested tensors are stored with PyTorch 2.1 or newer; save x.unbind()")
        parts = [value.values(), value._nested_tensor_size(), value._nested_tensor_strides(), value._nested_tensor_storage_offsets()]
        return int(self.capturer.add(Kind.NESTED_TENSOR, None, [self._strided(part) for part in parts]))


def _ready(node: int) -> Any:
    from sconce._capture import _Ready  # pylint: disable=import-outside-toplevel,cyclic-import

    return _Ready(node)
