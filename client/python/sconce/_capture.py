"""From a Python object to a manifest and the bytes of its storages.

    captured = capture(model.state_dict())
    captured.manifest_bytes    # as PushCheckpoint and UploadChunks carry it
    captured.storages[0]       # bytes of the first bulk storage: the live memory, not a copy

Taken is what `torch.load(weights_only=True)` gives back, and numpy's scalars and arrays. Everything else is refused by one error that names the places,
before anything is sent. Nothing recurses: a tree may be as deep as it likes. PyTorch is looked at only where the object has something of it.
"""

from __future__ import annotations

import collections
import copyreg
import dataclasses
import enum
import sys
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, cast, overload

from sconce import _globals
from sconce._capture_storages import Source, StorageTable
from sconce._composite_rules import numpy_item_bytes
from sconce._errors import make_error
from sconce._manifest import encode
from sconce._manifest_rules import value_key
from sconce._nodes import INLINE_BYTES, MAX_RECORDS, Kind, Manifest, Node, Value, collector_paused, segment_of_key

__all__ = ["PLAIN_KEYS", "Captured", "Storages", "capture", "capture_into", "numpy_dtype_is_stored"]

_MAX_SHOWN = 20  # offenders that an error names
_MAX_KEY_BYTES = 1 << 20  # of a tuple that is a key or in a set


class Storages(Sequence[memoryview]):
    """The bytes of the bulk storages in the manifest's order, each as a read-only memoryview of bytes.

    On the CPU it is the live memory itself. Of another device an item is copied to the host when it is asked for, and only the last one is kept.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self.sources = sources

    @property
    def sizes(self) -> List[int]:
        """Of each, in bytes; without making copies."""
        return [source.nbytes for source in self.sources]

    def __len__(self) -> int:
        return len(self.sources)

    @overload
    def __getitem__(self, index: int) -> memoryview: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[memoryview]: ...

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return Storages(self.sources[index])
        source = self.sources[index]
        if source.is_host:
            return source.host_bytes()
        if self._last is None or self._last[0] is not source:
            self._last = (source, source.host_bytes())
        return self._last[1]

    _last: Optional[Tuple[Source, memoryview]] = None


@dataclasses.dataclass(frozen=True)
class Captured:
    """A checkpoint ready to be sent. It keeps the object's memory alive; what is written to a tensor meanwhile may or may not be sent."""

    manifest_bytes: bytes
    storages: Storages


def capture(obj: Any, *, keep_whole_storages: bool = False) -> Captured:
    """What `torch.save(obj)` would write. Of a storage that is seen only in part just the range is kept that the tensors together see (they
    still share it), unless `keep_whole_storages`. InvalidArgumentError names what cannot be stored."""
    with collector_paused():
        return capture_into(StorageTable(keep_whole_storages), obj)


def capture_into(table: StorageTable, obj: Any) -> Captured:
    """The same with a table of one's own for what becomes of storages. Leaves Python's collector as it is."""
    capturer = _Capturer(table)
    try:
        return capturer.run(obj)
    finally:
        capturer.let_go()


class _Ready(NamedTuple):
    """Among the values that a frame still has to visit: a node that is there already."""

    node: int


class _Frame:
    """A node whose children are being made."""

    __slots__ = ("kind", "value", "todo", "done", "identity", "close")

    def __init__(self, kind: int, value: Value, todo: Sequence[Any], identity: int, close: Optional[Callable[["_Frame"], None]] = None) -> None:
        self.kind = kind
        self.value = value
        self.todo = todo
        self.done: List[int] = []
        self.identity = identity
        self.close = close


_OPEN = -1  # in `memo`: being made
_DICTS = (Kind.DICT, Kind.ORDERED_DICT, Kind.COUNTER)
PLAIN_KEYS = frozenset([str, int, float, bool, bytes, complex, type(None)])
_Handler = Callable[["_Capturer", Any], Optional[int]]


class _Capturer:
    """Walks depth first with a stack of its own. A visit gives the value its node, or opens a frame for it and gives None."""

    def __init__(self, table: StorageTable) -> None:
        self.nodes: List[Node] = []
        self.memo: Dict[int, int] = {}  # id of what is an object of its own: its node
        self.kept: List[Any] = []  # so that no id is given out twice
        self.frames: List[_Frame] = []
        self.table = table
        self.offenders: List[Tuple[str, str]] = []
        self.more_offenders = 0
        self.handlers: Dict[type, _Handler] = dict(_HANDLERS)
        self.numpy_dtypes: Dict[str, int] = {}
        self.tensors: Any = None  # TensorCapture, once a tensor is met

    def run(self, obj: Any) -> Captured:
        self.visit(obj)
        while self.frames:
            frame = self.frames[-1]
            position = len(frame.done)
            if position == len(frame.todo):
                self.close(frame)
                continue
            value = frame.todo[position]
            if type(value) is _Ready:
                frame.done.append(value.node)
                continue
            node = self.visit(value)
            if node is not None:
                frame.done.append(node)
        self.refuse_offenders()
        storages, sources = self.table.finish()
        manifest = encode(Manifest(self.nodes, self.table.views, storages))
        return Captured(manifest, Storages(sources))

    def let_go(self) -> None:
        """Its handlers refer to it: without this the object and its bytes would stay until the next collection of cycles."""
        self.handlers.clear()
        self.tensors = None

    def visit(self, value: Any) -> Optional[int]:
        kind = type(value)
        handler = self.handlers.get(kind)
        if handler is None:
            handler = self.handlers[kind] = self.handler_of(kind)
        return handler(self, value)

    def add(self, kind: int, value: Value = None, children: Sequence[int] = (), tensor: int = -1, storage: int = -1) -> int:
        nodes = self.nodes
        if len(nodes) >= MAX_RECORDS:
            message = f"the tree has more than {MAX_RECORDS} objects; keep long lists of numbers in tensors"
            raise make_error("RESOURCE_EXHAUSTED", "INPUT_LIMIT_EXCEEDED", message)
        nodes.append(Node(kind, value, children, tensor, storage))
        return len(nodes) - 1

    def seen(self, value: Any) -> Optional[int]:
        """The node of an object that was met before; notes that it is met now."""
        node = self.memo.get(id(value))
        if node is None:
            self.memo[id(value)] = _OPEN
            self.kept.append(value)
        elif node == _OPEN:
            return self.refuse(value, "contains itself; remove the cycle before saving")
        return node

    def open(self, kind: int, value: Value, todo: Sequence[Any], identity: int, close: Optional[Callable[[_Frame], None]] = None) -> None:
        self.frames.append(_Frame(kind, value, todo, identity, close))

    def close(self, frame: _Frame) -> None:
        if frame.close is not None:
            frame.close(frame)
        node = self.add(frame.kind, frame.value, tuple(frame.done))
        self.frames.pop()
        self.memo[frame.identity] = node
        if self.frames:
            self.frames[-1].done.append(node)

    # What cannot be stored

    def refuse(self, value: Any, advice: str) -> int:
        """Notes an offender, and gives it a node so that the walk goes on and finds the others."""
        if len(self.offenders) < _MAX_SHOWN:
            kind = type(value)
            name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
            self.offenders.append((self.place(), f"{name}: {advice}"))
        else:
            self.more_offenders += 1
        node = self.add(Kind.NONE)
        self.memo[id(value)] = node
        self.kept.append(value)
        return node

    def place(self) -> str:
        """Where the walk is, as a path."""
        parts = []
        for frame in self.frames:
            position = len(frame.done)
            if frame.kind in _DICTS:
                if position == len(frame.todo) - 1 and position % 2 == 0:
                    parts.append(" (its __dict__)")
                elif position < len(frame.todo):
                    parts.append(_segment(frame.todo[position - position % 2]) if position % 2 else " (a key)")
            elif frame.kind in (Kind.LIST, Kind.TUPLE, Kind.SET):
                parts.append(f"/{position}")
            elif position == len(frame.todo) - 1:
                parts.append(" (its attributes)")
        path = "".join(parts).strip()
        return path if len(path) < 400 else path[:200] + "..." + path[-150:]

    def refuse_offenders(self) -> None:
        if not self.offenders:
            return
        lines = [f"  at {path or 'the top'}: {what}" for path, what in self.offenders]
        if self.more_offenders:
            lines.append(f"  and {self.more_offenders} more")
        message = "this object holds what cannot be stored, and nothing was sent:\n" + "\n".join(lines)
        raise make_error("INVALID_ARGUMENT", "FILE_UNSUPPORTED", message, {"paths": ", ".join(path for path, _ in self.offenders)})

    # Scalars and containers

    def take_none(self, _: Any) -> int:
        return self.add(Kind.NONE)

    def take_bool(self, value: Any) -> int:
        return self.add(Kind.BOOL, value)

    def take_int(self, value: Any) -> int:
        return self.add(Kind.INT, value)

    def take_float(self, value: Any) -> int:
        return self.add(Kind.FLOAT, value)

    def take_complex(self, value: Any) -> int:
        return self.add(Kind.COMPLEX, value)

    def take_str(self, value: Any) -> int:
        node = self.memo.get(id(value))
        if node is None:
            node = self.memo[id(value)] = self.add(Kind.STR, value)
            self.kept.append(value)
        return node

    def take_bytes(self, value: Any) -> int:
        node = self.memo.get(id(value))
        if node is None:
            node = self.memo[id(value)] = self.add(Kind.BYTES if type(value) is bytes else Kind.BYTEARRAY, bytes(value))
            self.kept.append(value)
        return node

    def take_sequence(self, value: Any) -> Optional[int]:
        node = self.seen(value)
        if node is None:
            if type(value) is list:
                self.open(Kind.LIST, None, list(value), id(value))  # a copy: the list may grow meanwhile
            else:
                self.open(Kind.TUPLE, None, value, id(value))
        return node

    def take_set(self, value: Any) -> Optional[int]:
        node = self.seen(value)
        if node is None:
            # Not in the order of hashes, which differs from process to process: the same set gives the same manifest.
            elements = sorted(value, key=lambda element: (type(element).__name__, repr(element)))
            self.open(Kind.SET, None, elements, id(value), self.close_set)
        return node

    def close_set(self, frame: _Frame) -> None:
        keyed: Dict[bytes, int] = {}
        for position, (value, node) in enumerate(zip(frame.todo, list(frame.done))):
            key = value_key(self.nodes, node, _MAX_KEY_BYTES)
            if key is None:
                del frame.done[position:]
                self.refuse(value, "cannot be stored in a set; use a list instead of the set")
                key = repr(position).encode()
            keyed.setdefault(key, node)
        frame.done = [keyed[key] for key in sorted(keyed)]

    def take_dict(self, value: Any) -> Optional[int]:
        node = self.seen(value)
        if node is not None:
            return node
        todo = [part for item in value.items() for part in item]
        kind = Kind.DICT
        if type(value) is collections.OrderedDict:
            kind = Kind.ORDERED_DICT
            if value.__dict__:
                todo.append(value.__dict__)
        elif type(value) is collections.Counter:
            kind = Kind.COUNTER
            if value.__dict__:
                return self.refuse(value, "a Counter with attributes; make a new one, Counter(x)")
        self.open(kind, None, todo, id(value), self.close_dict)
        return None

    def close_dict(self, frame: _Frame) -> None:
        for position in range(0, len(frame.todo) - 1, 2):
            key = frame.todo[position]
            if type(key) not in PLAIN_KEYS and value_key(self.nodes, frame.done[position], _MAX_KEY_BYTES) is None:
                del frame.done[position:]
                self.refuse(key, "cannot be a key; use a str, a number or a tuple of them" + _advice_on_key(key))
                frame.done.extend([0] * (len(frame.todo) - position))

    # Other values

    def handler_of(self, kind: type) -> _Handler:
        """How the values of a type are visited that is not one of Python's own."""
        module = kind.__module__.partition(".")[0]
        numpy = sys.modules.get("numpy") if module == "numpy" else None
        if numpy is not None and kind is numpy.ndarray:
            return _Capturer.take_numpy_array
        if numpy is not None and issubclass(kind, numpy.generic):
            return _Capturer.take_numpy_scalar
        torch = sys.modules.get("torch")
        if torch is not None:
            from sconce._capture_tensors import TensorCapture  # pylint: disable=import-outside-toplevel

            self.tensors = self.tensors or TensorCapture(self)
            handler = self.tensors.handler_of(kind)
            if handler is not None:
                return cast(_Handler, handler)
        if _globals.name_of(kind) in _globals.OBJECT_CLASSES:
            return _Capturer.take_object
        return _Capturer.take_other

    def take_object(self, value: Any) -> Optional[int]:
        node = self.seen(value)
        if node is not None:
            return node
        made = tuple(value.__reduce_ex__(2)) + (None, None, None)
        function, arguments, state, elements, items = made[:5]
        is_called = function is type(value)
        if not is_called:
            if getattr(copyreg, "__newobj__") is not function or items is not None:
                return self.refuse(value, _advice_on(value))
            arguments = arguments[1:]
        todo = [tuple(arguments), is_called, state, *(elements or ())]
        self.kept.append(todo)
        self.open(Kind.OBJECT, _globals.name_of(type(value)), todo, id(value))
        return None

    def take_other(self, value: Any) -> int:
        """Classes and functions of the list, by name; and everything that is refused."""
        if isinstance(value, type) or callable(value) or hasattr(value, "__name__"):
            name = _globals.name_of(value)
            if name is not None:
                try:
                    is_it = _globals.resolve(name) is value
                except (ImportError, AttributeError):
                    is_it = False
                if is_it:
                    return self.add(Kind.GLOBAL, name)
        return self.refuse(value, _advice_on(value))

    # numpy

    def numpy_dtype(self, value: Any) -> Optional[int]:
        """The node of an array's or scalar's dtype; None for one that is not stored."""
        dtype = value.dtype
        text = dtype.str
        node = self.numpy_dtypes.get(text)
        if not numpy_dtype_is_stored(dtype):
            return None
        if node is None:
            node = self.numpy_dtypes[text] = self.add(Kind.STR, text)
        return node

    def take_numpy_scalar(self, value: Any) -> int:
        dtype = self.numpy_dtype(value)
        if dtype is None:
            return self.refuse(value, _ADVICE_ON_NUMPY)
        return self.add(Kind.NUMPY_SCALAR, None, (dtype, self.add(Kind.BYTES, value.tobytes())))

    def take_numpy_array(self, value: Any) -> int:
        import numpy  # pylint: disable=import-outside-toplevel

        node = self.seen(value)
        if node is not None:
            return node
        dtype = self.numpy_dtype(value)
        if dtype is None:
            return self.refuse(value, _ADVICE_ON_NUMPY)
        is_fortran = bool(value.flags.f_contiguous and not value.flags.c_contiguous)
        shape = self.add(Kind.TUPLE, None, [self.add(Kind.INT, extent) for extent in value.shape])
        children = [dtype, shape, self.add(Kind.BOOL, is_fortran)]
        if value.nbytes <= INLINE_BYTES:
            children.append(self.add(Kind.BYTES, value.tobytes("F" if is_fortran else "C")))
        else:
            flat = numpy.ascontiguousarray(value.T if is_fortran else value).reshape(-1).view(numpy.uint8)
            children.append(self.add(Kind.STORAGE, "untyped", storage=self.table.add_array(flat)))
        node = self.memo[id(value)] = self.add(Kind.NUMPY_ARRAY, None, children)
        return node


_HANDLERS: Dict[type, _Handler] = {
    type(None): _Capturer.take_none,
    bool: _Capturer.take_bool,
    int: _Capturer.take_int,
    float: _Capturer.take_float,
    complex: _Capturer.take_complex,
    str: _Capturer.take_str,
    bytes: _Capturer.take_bytes,
    bytearray: _Capturer.take_bytes,
    list: _Capturer.take_sequence,
    tuple: _Capturer.take_sequence,
    set: _Capturer.take_set,
    dict: _Capturer.take_dict,
    collections.OrderedDict: _Capturer.take_dict,
    collections.Counter: _Capturer.take_dict,
}

def numpy_dtype_is_stored(dtype: Any) -> bool:
    """Whether arrays and scalars of a dtype of numpy's are stored."""
    text = dtype.str
    if dtype.names is not None or dtype.subdtype is not None or dtype.hasobject or numpy_item_bytes(text) != dtype.itemsize:
        return False
    return bool(dtype.kind != "V" or sys.modules["numpy"].dtype(text) == dtype)  # an extension's, such as bfloat16, is not


_ADVICE_ON_NUMPY = "only numbers, str, bytes, void and dates of numpy are stored; save a structured or object array as lists, or one array for each field"


def _segment(key: Any) -> str:
    kind = Kind.STR if type(key) is str else Kind.INT if type(key) is int else Kind.NONE
    return "/" + segment_of_key(kind, key)


def _advice_on_key(key: Any) -> str:
    return " (for an optimizer's state: optimizer.state_dict())" if hasattr(key, "requires_grad") else ""


def _advice_on(value: Any) -> str:
    """What to do about a value that is not stored."""
    kind = type(value)
    if isinstance(value, type) or kind.__name__ in ("function", "builtin_function_or_method", "method"):
        return f"{getattr(value, '__qualname__', value)} itself, code, is not stored; remove it, or save its name"
    if kind.__module__.startswith("torch.jit"):
        return "save its state_dict(), or push the module's own file as a module"
    if callable(getattr(value, "state_dict", None)):
        return "save its state_dict() instead"
    if isinstance(value, enum.Enum):
        return "save its .value instead"
    if isinstance(value, frozenset):
        return "use a set or a list"
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return "save it as tuple(x) or x._asdict()"
    for base in (dict, list, tuple, set, str, bool, int, float, bytes):
        if isinstance(value, base):
            return f"save it as {base.__name__}(x)"
    if dataclasses.is_dataclass(value):
        return "save dataclasses.asdict(x) instead"
    if kind.__module__.startswith("numpy"):
        return "save numpy.asarray(x) for an array, or str(x) for a dtype"
    if kind.__module__ in ("argparse", "types") and hasattr(value, "__dict__"):
        return "save vars(x) instead"
    if kind.__name__ in ("range", "deque"):
        return "save list(x) instead"
    if kind.__module__ in ("datetime", "decimal", "fractions", "uuid") or hasattr(value, "__fspath__"):
        return "save str(x) instead"
    if hasattr(value, "get_state"):
        return "save its get_state() instead"
    return "save plain data of it: numbers, str, lists, dicts, tensors"
