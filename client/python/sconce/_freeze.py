"""An object as it is at this moment, taken as fast as its bytes can be copied; what it looks like as a checkpoint is found out later, on another thread.

    frozen = freeze(state)      # None where that cannot be told so quickly: then capture(state) does it
    frozen.root                 # the same object, of containers of its own and of tensors that are views of the same storages
    frozen.storages             # what capture(frozen.root) will want the bytes of, or more of it

Nothing that capture() refuses gets through: a type is on the short list of what is always stored, or the object is not frozen. So whoever freezes knows that
there is nothing to refuse. That list has what state_dicts are made of; the rest costs time, not rights.

A frozen tensor is an alias, not the tensor itself: `parameter.data = ...` or `requires_grad_()` afterwards do not show in it.
"""

from __future__ import annotations

import collections
import sys
from typing import Any, Callable, Dict, List, Optional

from sconce._capture import PLAIN_KEYS, numpy_dtype_is_stored
from sconce._nodes import DTYPES, MAX_RECORDS, collector_paused

__all__ = ["Frozen", "FrozenStorage", "freeze"]

_MAX_DEPTH = 100  # of containers in containers. Deeper ones, and those that contain themselves, are left to the walk that does not recurse
_MAX_NODES = MAX_RECORDS // 2  # so that there is no doubt that capture() takes as many
_MAX_RANK = 64  # of a tensor; a torch.Size may be longer
_ALIGNMENT = 16  # of a range that is kept: elements have up to so many bytes


class FrozenStorage:
    """A storage, and which part of it tensors see: from `first` up to `end`."""

    __slots__ = ("storage", "nbytes", "first", "end", "is_host")

    def __init__(self, storage: Any, nbytes: int, first: int, end: int, is_host: bool) -> None:
        self.storage = storage
        self.nbytes = nbytes
        self.first = first
        self.end = end
        self.is_host = is_host


class Frozen:
    """See above. `storages` by their `_cdata`."""

    def __init__(self, root: Any, storages: Dict[int, FrozenStorage]) -> None:
        self.root = root
        self.storages = storages


class _Thorough(Exception):
    """There is something that only capture() can judge."""


def freeze(obj: Any) -> Optional[Frozen]:
    """None if capture() must do it, and judge it."""
    freezer = _Freezer()
    try:
        with collector_paused():
            return Frozen(freezer.freeze(obj), freezer.storages)
    except _Thorough:
        return None
    finally:
        freezer.copiers.clear()  # which refer to it: a cycle, that would keep the object until the next collection


_Copier = Callable[[Any], Any]


class _Freezer:
    """Goes through an object once. What is one object stays one."""

    def __init__(self) -> None:
        self.storages: Dict[int, FrozenStorage] = {}
        self.memo: Dict[int, Any] = {}
        self.kept: List[Any] = []  # so that no id is given out twice
        self.depth = 0
        self.nodes = 0
        self.copiers: Dict[Any, Optional[_Copier]] = {
            **{kind: None for kind in PLAIN_KEYS},
            dict: self._dict,
            list: self._list,
            tuple: self._tuple,
            set: self._set,
            bytearray: self._bytearray,
            collections.OrderedDict: self._ordered_dict,
            collections.Counter: self._counter,
        }
        torch = sys.modules.get("torch")
        if torch is not None:
            self._add_torch(torch)

    def freeze(self, value: Any) -> Any:
        return self._all((value,))[0]

    def _unknown(self, kind: type) -> _Copier:
        numpy = sys.modules.get("numpy")
        if numpy is None:
            raise _Thorough
        if kind is numpy.ndarray:
            self.copiers[kind] = self._array
            return self._array
        if issubclass(kind, numpy.generic) and kind.__module__ == "numpy":
            self.copiers[kind] = self._numpy_scalar
            return self._numpy_scalar
        raise _Thorough

    # Containers

    def _all(self, values: Any) -> List[Any]:
        """Copies of all values of a container."""
        self.depth += 1
        self.nodes += len(values) + 1
        if self.depth > _MAX_DEPTH or self.nodes > _MAX_NODES:
            raise _Thorough
        # Here all the time goes that does not go into copying bytes.
        copiers, memo, keep = self.copiers, self.memo, self.kept.append
        copies = []
        for value in values:
            try:
                copier = copiers[type(value)]
            except KeyError:
                copier = self._unknown(type(value))
            if copier is not None:
                identity = id(value)
                known = memo.get(identity)
                if known is None:
                    known = memo[identity] = copier(value)
                    keep(value)
                copies.append(known)
            else:  # it cannot change
                copies.append(value)
        self.depth -= 1
        return copies

    def _keys(self, value: Any) -> List[Any]:
        keys = list(value)
        self.nodes += len(keys)
        if not PLAIN_KEYS.issuperset(map(type, keys)):
            raise _Thorough
        return keys

    def _dict(self, value: Any) -> Any:
        return dict(zip(self._keys(value), self._all(value.values())))

    def _ordered_dict(self, value: Any) -> Any:
        copy = collections.OrderedDict(zip(self._keys(value), self._all(value.values())))
        if value.__dict__:
            copy.__dict__.update(self.freeze(value.__dict__))
        return copy

    def _counter(self, value: Any) -> Any:
        if value.__dict__:
            raise _Thorough
        copy: Any = collections.Counter()
        dict.update(copy, self._dict(value))
        return copy

    def _list(self, value: Any) -> Any:
        return self._all(value)

    def _tuple(self, value: Any) -> Any:
        return tuple(self._all(value))

    def _set(self, value: Any) -> Any:
        return set(self._keys(value))

    @staticmethod
    def _bytearray(value: Any) -> Any:
        return bytearray(value)

    # numpy

    def _numpy_scalar(self, value: Any) -> Any:
        self.nodes += 3
        if not numpy_dtype_is_stored(value.dtype):
            raise _Thorough
        return value.copy() if value.dtype.kind == "V" else value  # others cannot change

    def _array(self, value: Any) -> Any:
        self.nodes += 5 + value.ndim
        if not numpy_dtype_is_stored(value.dtype):
            raise _Thorough
        return value.copy("F" if value.flags.f_contiguous and not value.flags.c_contiguous else "C")

    # PyTorch

    def _add_torch(self, torch: Any) -> None:
        from sconce._capture_tensors import untyped_storage_of  # pylint: disable=import-outside-toplevel

        self._strided = torch.strided
        self._dtypes = frozenset(getattr(torch, name, None) for name, dtype in DTYPES.items() if dtype.kind != "q")
        self._storage_of = untyped_storage_of
        self._has_names = hasattr(torch.Tensor, "has_names")
        self._make_parameter = torch.nn.Parameter
        plain = dict.fromkeys((torch.device, torch.layout, torch.qscheme))
        self.copiers.update({**plain, torch.dtype: self._dtype, torch.Size: self._size, torch.Tensor: self._tensor, torch.nn.Parameter: self._parameter})

    def _dtype(self, value: Any) -> Any:
        if value not in self._dtypes:
            raise _Thorough
        return value

    def _size(self, value: Any) -> Any:
        self.nodes += len(value)
        if len(value) > _MAX_RANK:
            raise _Thorough
        return value

    def _tensor(self, value: Any) -> Any:
        if (
            value.__dict__
            or value.layout is not self._strided
            or value.is_nested
            or value.dtype not in self._dtypes
            or not (value.is_cpu or value.is_cuda)
            or (self._has_names and value.has_names())
        ):
            raise _Thorough
        storage = self._storage_of(value)
        identity = storage._cdata
        size = value.numel() * value.element_size()
        known = self.storages.get(identity)
        if known is None:
            total = storage.nbytes()
            first, end = (0, total) if size == total else (total, 0)
            known = self.storages[identity] = FrozenStorage(storage, total, first, end, value.is_cpu)
        if known.end - known.first < known.nbytes:
            _see(known, value)
        alias = value.data
        return alias.requires_grad_() if value.requires_grad else alias

    def _parameter(self, value: Any) -> Any:
        if value.__dict__:
            raise _Thorough
        data = value.data
        self._tensor(data)
        return self._make_parameter(data, value.requires_grad)


def _see(storage: FrozenStorage, tensor: Any) -> None:
    """Makes the storage's range large enough for a tensor that sees some of it."""
    if not tensor.numel():
        return
    size = tensor.element_size()
    start = tensor.storage_offset()
    end = start + 1 + sum((extent - 1) * step for extent, step in zip(tensor.shape, tensor.stride()))
    storage.first = min(storage.first, start * size // _ALIGNMENT * _ALIGNMENT)
    storage.end = max(storage.end, min(-(-end * size // _ALIGNMENT) * _ALIGNMENT, storage.nbytes))
