"""From a manifest and the bytes of its storages to a Python object, as `torch.load` would give it.

    restorer = Restorer(manifest_bytes, map_location="cpu")
    for buffer in restorer.buffers:       # in the order of the bulk stream
        stream.readinto(buffer)           # straight into the memory of the tensors
    state_dict = restorer.finish()

A manifest may come from anybody: what is imported or called is on a fixed list (sconce/_globals.py), and nothing recurses.
"""

from __future__ import annotations

import collections
import warnings
from typing import Any, Callable, Dict, List, Optional, Sequence, Set, Tuple, overload

from sconce import _globals
from sconce._errors import make_error
from sconce._manifest import Bytes, decode
from sconce._nodes import KIND_NAMES, NO_INDEX, Kind, Node, TensorView, collector_paused, first_paths

__all__ = ["Buffers", "Restorer"]


class Buffers(Sequence[memoryview]):
    """Writable bytes of the bulk storages, in the manifest's order. Each is allocated when it is first asked for, on the CPU as the final storage."""

    def __init__(self, restorer: "Restorer") -> None:
        self._restorer = restorer

    def __len__(self) -> int:
        return len(self._restorer.bulk)

    @overload
    def __getitem__(self, index: int) -> memoryview: ...

    @overload
    def __getitem__(self, index: slice) -> List[memoryview]: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        return self._restorer.host_memory(self._restorer.bulk[index]).view


class _Host:
    """The memory of one storage on the host."""

    __slots__ = ("owner", "view")

    def __init__(self, owner: Any, view: memoryview) -> None:
        self.owner = owner  # a tensor of bytes, or a numpy array of bytes
        self.view = view


class Restorer:
    """Makes one object. `map_location` has all the forms and the meaning that it has for `torch.load`; a device that only stands in the checkpoint
    and that this host lacks is replaced by the CPU, with one warning. `demanded`: tags that the server was asked to map to, which must be there.
    """

    def __init__(self, manifest_bytes: Bytes, *, map_location: Any = None, demanded: Sequence[str] = ()) -> None:
        self.manifest = decode(manifest_bytes)
        self.bulk = [index for index, storage in enumerate(self.manifest.storages) if storage.is_bulk]
        self._hosts: Dict[int, _Host] = {}
        self._placed: Dict[int, Any] = {}
        self._gone: Set[int] = set()  # storages that were let go
        self._find_uses()
        self._placer: Any = None
        self._tensors: Any = None
        if self._needs_torch:
            self._use_torch(map_location, demanded)
        self.buffers = Buffers(self)

    def _find_uses(self) -> None:
        """Which storages PyTorch will own; the others are of numpy arrays."""
        nodes = self.manifest.nodes
        self._of_torch = bytearray(len(self.manifest.storages))
        self._is_array_data = bytearray(len(nodes))  # storage nodes that only arrays hold
        self._of_arrays: Set[int] = set()
        self._needs_torch = bool(self.manifest.tensors)
        for view in self.manifest.tensors:
            if view.storage != NO_INDEX:
                self._of_torch[view.storage] = 1
        for node in nodes:
            if node.kind == Kind.NUMPY_ARRAY:
                self._is_array_data[node.children[3]] = 1
            elif node.kind in (Kind.SIZE, Kind.DTYPE, Kind.DEVICE, Kind.LAYOUT, Kind.QSCHEME):
                self._needs_torch = True
        bare = [index for index, node in enumerate(nodes) if node.kind == Kind.STORAGE]
        if not bare:
            return
        for node in nodes:
            if node.kind != Kind.NUMPY_ARRAY:
                for child in node.children:
                    self._is_array_data[child] = 0
        for index in bare:
            if self._is_array_data[index]:
                self._of_arrays.add(nodes[index].storage)
            else:
                self._of_torch[nodes[index].storage] = 1
                self._needs_torch = True

    def _use_torch(self, map_location: Any, demanded: Sequence[str]) -> None:
        try:
            import torch  # noqa: F401  pylint: disable=import-outside-toplevel,unused-import
        except ImportError as error:
            message = "this checkpoint holds tensors, and PyTorch is not installed here; install it, or fetch a part without tensors"
            raise make_error("FAILED_PRECONDITION", "FILE_UNSUPPORTED", message) from error
        from sconce._map_location import Placer  # pylint: disable=import-outside-toplevel
        from sconce._restore_tensors import TensorRestore  # pylint: disable=import-outside-toplevel

        self._placer = Placer(map_location, demanded)
        self._tensors = TensorRestore(self.manifest, self._placed, self._placer)
        missing = self._tensors.missing_dtypes()
        if missing:
            raise self._dtypes_are_missing(missing)

    def _dtypes_are_missing(self, missing: Dict[int, str]) -> Exception:
        paths = first_paths(self.manifest)
        lines = [f"  at {paths[node] or 'the top'}: {dtype}" for node, dtype in list(missing.items())[:20]]
        if len(missing) > len(lines):
            lines.append(f"  and {len(missing) - len(lines)} more")
        names = ", ".join(sorted(set(missing.values())))
        advice = "use a newer PyTorch, load only the other paths, or have float8 tensors converted on the way (dtype=\"float32\")"
        message = f"this PyTorch ({self._tensors.torch_version}) lacks the dtypes {names}; {advice}:\n" + "\n".join(lines)
        return make_error("INVALID_ARGUMENT", "FILE_UNSUPPORTED", message, {"dtypes": names, "paths": ", ".join(paths[node] for node in list(missing)[:20])})

    # Memory

    def host_memory(self, index: int) -> Any:
        """The memory on the host of a storage that has bytes, by its number in the manifest; inline bytes are in it already."""
        host = self._hosts.get(index)
        if host is None:
            storage = self.manifest.storages[index]
            owner: Any
            if self._of_torch[index]:
                target = self._placer.target(storage.device)[0]
                owner, view = self._tensors.new_memory(storage.size_bytes, pin=bool(target) and target.startswith("cuda"))
            else:
                import numpy  # pylint: disable=import-outside-toplevel

                owner = numpy.empty(storage.size_bytes, numpy.uint8)
                view = memoryview(owner)
            if not storage.is_bulk:
                view[:] = storage.inline_bytes
            host = self._hosts[index] = _Host(owner, view)
        return host

    def complete(self, number: int) -> None:
        """Says that buffer `number` is filled. One that is bound for another device goes there now, and its memory on the host is free again.
        Optional: finish() does it for all that are left, and for all at once where map_location is a callable."""
        index = self.bulk[number]
        if self._of_torch[index] and not self._placer.is_callable and self._placer.target(self.manifest.storages[index].device)[0] != "cpu":
            self._place(index)

    def _place(self, index: int) -> None:
        storage = self.manifest.storages[index]
        if index in self._placed:
            return
        if storage.is_meta:
            self._placed[index] = self._placer.place(self._tensors.new_meta_storage(storage.size_bytes), storage.device)
            return
        owner = self.host_memory(index).owner
        self._placed[index] = self._placer.place(self._tensors.storage_of(owner), storage.device)
        if self._tensors.is_elsewhere(self._placed[index]) and index not in self._of_arrays:
            del self._hosts[index]

    def use_memory(self, number: int, owner: Any, memory: Optional[memoryview] = None) -> None:
        """Buffer `number` is the memory of this tensor of bytes, in place of memory of its own; or with `memory` these bytes of any tensor that keeps them, if
        nobody wants a tensor_of() it."""
        self._hosts[self.bulk[number]] = _Host(owner, memoryview(owner.numpy()) if memory is None else memory)

    def let_go(self, number: int) -> None:
        """Frees buffer `number`: whoever needed its bytes has them. In what finish() gives, None stands for tensors and parameters of it; nothing else may be
        made of them."""
        index = self.bulk[number]
        del self._hosts[index]
        self._gone.add(index)

    def tensor_of(self, number: int, view: TensorView) -> Any:
        """A tensor on the host that looks at buffer `number`."""
        return self._tensors.tensor_of(view, self._tensors.storage_of(self.host_memory(self.bulk[number]).owner))

    # Objects

    def finish(self) -> Any:
        """The object, once all buffers are filled. Call it once."""
        with collector_paused():
            for index in range(len(self.manifest.storages)):
                if self._of_torch[index] and index not in self._gone:
                    self._place(index)
            result = self._build()
        absent = sorted(self._placer.absent) if self._placer is not None else []
        if absent:
            message = f"this host lacks {', '.join(absent)}: what was saved there is on the CPU now; give map_location to choose"
            warnings.warn(message, UserWarning, stacklevel=2)
        return result

    def _build(self) -> Any:
        makers: Dict[int, Callable[[Node, List[Any]], Any]] = dict(_MAKERS)
        makers[Kind.NUMPY_ARRAY] = self._numpy_array
        if self._tensors is not None:
            makers.update(self._tensors.makers())
        made: List[Any] = []
        index = 0
        try:
            for index, node in enumerate(self.manifest.nodes):
                if self._gone and self._is_gone(node, made):
                    made.append(None)
                elif node.kind == Kind.STORAGE and self._is_array_data[index]:
                    made.append(None)
                else:
                    made.append(makers[node.kind](node, made))
        except Exception as error:
            kind = KIND_NAMES[self.manifest.nodes[index].kind]
            message = f"at {first_paths(self.manifest)[index] or 'the top'}: this {kind} cannot be made here: {error}"
            raise make_error("INVALID_ARGUMENT", "FILE_UNSUPPORTED", message) from error
        return made[-1]

    def _is_gone(self, node: Node, made: List[Any]) -> bool:
        if node.kind == Kind.TENSOR:
            return self.manifest.tensors[node.tensor].storage in self._gone
        return node.kind == Kind.PARAMETER and made[node.children[0]] is None

    def _numpy_array(self, node: Node, made: List[Any]) -> Any:
        import numpy  # pylint: disable=import-outside-toplevel

        dtype, shape, is_fortran, data = (made[child] for child in node.children)
        if data is None:
            storage = self.manifest.nodes[node.children[3]].storage
            data = self.host_memory(storage).view if not self._of_torch[storage] else bytearray(self.host_memory(storage).view)
        else:
            data = bytearray(data)  # an array can be written to
        return numpy.ndarray(shape, numpy.dtype(dtype), data, order="F" if is_fortran else "C")


def _payload(node: Node, _: List[Any]) -> Any:
    return node.value


def _items(node: Node, made: List[Any]) -> Dict[Any, Any]:
    children = [made[child] for child in node.children]
    return dict(zip(children[::2], children[1::2]))


def _ordered_dict(node: Node, made: List[Any]) -> Any:
    result = collections.OrderedDict(_items(node, made))
    if len(node.children) % 2:
        result.__dict__.update(made[node.children[-1]])
    return result


def _numpy_scalar(node: Node, made: List[Any]) -> Any:
    import numpy  # pylint: disable=import-outside-toplevel

    dtype = numpy.dtype(made[node.children[0]])
    if dtype.itemsize == 0:
        return dtype.type()
    return numpy.frombuffer(made[node.children[1]], dtype, 1)[0]


def _object(node: Node, made: List[Any]) -> Any:
    """What pickle would make of the same parts."""
    kind = _globals.resolve(str(node.value))
    arguments, is_called, state = (made[child] for child in node.children[:3])
    result = kind(*arguments) if is_called else kind.__new__(kind, *arguments)
    if len(node.children) > 3:
        result.extend(made[child] for child in node.children[3:])
    if state is not None:
        if hasattr(result, "__setstate__"):
            result.__setstate__(state)
        else:
            attributes, slots = split_state(state)
            if attributes:
                result.__dict__.update(attributes)
            for name, value in slots.items():
                setattr(result, name, value)
    return result


def split_state(state: Any) -> Tuple[Dict[str, Any], Dict[str, Any]]:
    """Attributes as pickle keeps them, in a dict or in a tuple of one and of another one for slots: both dicts."""
    attributes, slots = state if isinstance(state, tuple) and len(state) == 2 else (state, None)
    return attributes or {}, slots or {}


_MAKERS: Dict[int, Callable[[Node, List[Any]], Any]] = {
    Kind.NONE: _payload,
    Kind.BOOL: _payload,
    Kind.INT: _payload,
    Kind.FLOAT: _payload,
    Kind.COMPLEX: _payload,
    Kind.STR: _payload,
    Kind.BYTES: _payload,
    Kind.BYTEARRAY: lambda node, made: bytearray(node.value),  # type: ignore[arg-type]
    Kind.LIST: lambda node, made: [made[child] for child in node.children],
    Kind.TUPLE: lambda node, made: tuple([made[child] for child in node.children]),
    Kind.SET: lambda node, made: {made[child] for child in node.children},
    Kind.DICT: _items,
    Kind.ORDERED_DICT: _ordered_dict,
    Kind.COUNTER: lambda node, made: collections.Counter(_items(node, made)),
    Kind.NUMPY_SCALAR: _numpy_scalar,
    Kind.GLOBAL: lambda node, made: _globals.resolve(str(node.value)),
    Kind.OBJECT: _object,
}
