"""The classes and functions that a manifest may name: those of docs/formats/torch_file.md. Anything else is neither stored nor imported."""

from __future__ import annotations

import builtins
import importlib
from typing import Any, Dict, FrozenSet, Optional

_STORAGE_TYPES = (
    "FloatStorage DoubleStorage HalfStorage BFloat16Storage LongStorage IntStorage ShortStorage CharStorage ByteStorage BoolStorage"
    " ComplexFloatStorage ComplexDoubleStorage QInt8Storage QUInt8Storage QInt32Storage QUInt4x2Storage QUInt2x4Storage"
).split()
_TENSOR_TYPES = (
    "FloatTensor DoubleTensor HalfTensor BFloat16Tensor LongTensor IntTensor ShortTensor CharTensor ByteTensor BoolTensor"
).split()
_EXCEPTIONS = (
    "ArithmeticError AssertionError AttributeError BaseException BaseExceptionGroup BlockingIOError BrokenPipeError BufferError BytesWarning"
    " ChildProcessError ConnectionAbortedError ConnectionError ConnectionRefusedError ConnectionResetError DeprecationWarning EOFError"
    " EncodingWarning Exception ExceptionGroup FileExistsError FileNotFoundError FloatingPointError FutureWarning GeneratorExit ImportError"
    " ImportWarning IndentationError IndexError InterruptedError IsADirectoryError KeyError KeyboardInterrupt LookupError MemoryError"
    " ModuleNotFoundError NameError NotADirectoryError NotImplementedError OSError OverflowError PendingDeprecationWarning PermissionError"
    " ProcessLookupError PythonFinalizationError RecursionError ReferenceError ResourceWarning RuntimeError RuntimeWarning StopAsyncIteration"
    " StopIteration SyntaxError SyntaxWarning SystemError SystemExit TabError TimeoutError TypeError UnboundLocalError UnicodeDecodeError"
    " UnicodeEncodeError UnicodeError UnicodeTranslateError UnicodeWarning UserWarning ValueError Warning ZeroDivisionError _IncompleteInputError"
).split()
_NAMES: Dict[str, str] = {
    "collections": "OrderedDict Counter",
    "builtins": "set complex bytes bytearray",
    "_codecs": "encode",
    "torch": "Size device Tensor",
    "torch.serialization": "_get_layout",
    "torch._utils": "_rebuild_tensor _rebuild_tensor_v2 _rebuild_tensor_v3 _rebuild_meta_tensor_no_storage _rebuild_parameter"
    " _rebuild_parameter_with_state _rebuild_sparse_tensor _rebuild_sparse_csr_tensor _rebuild_qtensor _rebuild_nested_tensor"
    " _rebuild_device_tensor_from_cpu_tensor _rebuild_device_tensor_from_numpy _rebuild_wrapper_subclass",
    "torch.nn.parameter": "Parameter",
    "torch._tensor": "_rebuild_from_type_v2 _rebuild_from_type",
    "torch.nested._internal.nested_tensor": "_rebuild_njt NestedTensor",
    "numpy.core.multiarray": "scalar _reconstruct",
    "numpy._core.multiarray": "scalar _reconstruct",
    "numpy.core.numeric": "_frombuffer",
    "numpy._core.numeric": "_frombuffer",
    "numpy": "dtype ndarray",
    "torch.storage": "TypedStorage UntypedStorage",
    "torch.distributed.tensor": "DTensor",
}
_OBJECTS: Dict[str, str] = {
    "traceback": "FrameSummary StackSummary",
    "torch._dynamo.decorators": "_DimRange",
    "torch.distributed._mesh_layout": "_FlatLayout _MeshLayout",
    "torch.distributed.device_mesh": "DeviceMesh",
    "torch.distributed.tensor._dtensor_spec": "DTensorSpec ShardOrderEntry TensorMeta",
    "torch.distributed.tensor.placement_types": "Partial Replicate Shard _StridedShard",
}

LIST_CLASS = "traceback.StackSummary"  # objects that are a list
VALUE_CLASS = "torch._dynamo.decorators._DimRange"  # objects that are equal when what they hold is
WRAPPER_CLASS = "torch.distributed.tensor.DTensor"  # a tensor that is made of its attributes
JAGGED_CLASS = "torch.nested._internal.nested_tensor.NestedTensor"

# Classes of which there may be objects (kind 30).
OBJECT_CLASSES: FrozenSet[str] = frozenset(
    [f"{module}.{name}" for module, names in _OBJECTS.items() for name in names.split()] + [f"builtins.{name}" for name in _EXCEPTIONS]
)
# What may be named itself (kind 29).
GLOBALS: FrozenSet[str] = OBJECT_CLASSES.union(
    [f"{module}.{name}" for module, names in _NAMES.items() for name in names.split()],
    [f"{module}.{name}" for module in ("torch", "torch.cuda") for name in _STORAGE_TYPES],
    [f"{module}.{name}" for module in ("torch", "torch.cuda", "torch.sparse", "torch.cuda.sparse") for name in _TENSOR_TYPES],
)


def name_of(value: Any) -> Optional[str]:
    """The name on the list of a class or function; None for one that is not on it."""
    name = f"{getattr(value, '__module__', None)}.{getattr(value, '__qualname__', getattr(value, '__name__', None))}"
    return name if name in GLOBALS else None


def resolve(name: str) -> Any:
    """What a name on the list means here. AttributeError or ImportError where this Python or PyTorch does not have it."""
    if name not in GLOBALS:
        raise ImportError(f"{name} is not on the list of what a checkpoint may name")
    module, _, attribute = name.rpartition(".")
    if module == "builtins":
        return getattr(builtins, attribute)
    if module.startswith("numpy.") and "core" in module:  # numpy 1 and 2 have them under different names
        other = module.replace("numpy._core", "numpy.core") if "_core" in module else module.replace("numpy.core", "numpy._core")
        try:
            return getattr(importlib.import_module(module), attribute)
        except ImportError:
            return getattr(importlib.import_module(other), attribute)
    try:
        return getattr(importlib.import_module(module), attribute)
    except ImportError:  # torch.cuda.sparse and the like are attributes, not modules
        parent, _, leaf = module.rpartition(".")
        return getattr(getattr(importlib.import_module(parent), leaf), attribute)
