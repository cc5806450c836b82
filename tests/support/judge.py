"""PyTorch's own opinion of a checkpoint file: what tests compare instead of bytes.

`described(path)` loads a file with torch and turns what it got into plain tuples, in which two files are equal exactly when torch
sees the same tree: types, values, dtypes, shapes, strides, bits, attributes, which tensors share a storage, and which tensors and
containers are one object. With `exact` also each storage's size, bytes and device tag, whatever the tensors see of it.
`device_tags(path)` reads the tags that the file itself has on its storages, which torch hides behind map_location.
"""

import collections
import contextlib
import hashlib
import importlib
import io
import pickle
import zipfile

import numpy
import torch

VERSION = tuple(int(part) for part in torch.__version__.split("+")[0].split("a")[0].split(".")[:2])


class _Describer:
    def __init__(self, exact=False, tags=None):
        self.exact = exact
        self.tags = tags or {}  # StorageImpl -> device tag in the file
        self.storages = {}  # StorageImpl -> number in order of appearance
        self.objects = {}  # id of what is an object of its own -> the same
        self.kept = []  # so that no id is given out twice

    def describe(self, value):
        if value is None or isinstance(value, (bool, int, str, bytes)) and not isinstance(value, numpy.generic):
            return (type(value).__name__, value)
        if isinstance(value, bytearray):
            return ("bytearray", bytes(value))
        if isinstance(value, numpy.generic):
            return ("numpy scalar", value.dtype.str, value.tobytes())
        if isinstance(value, float):
            return ("float", value.hex())
        if isinstance(value, complex):
            return ("complex", value.real.hex(), value.imag.hex())
        if isinstance(value, (torch.dtype, torch.device, torch.layout, torch.qscheme)):
            return (type(value).__name__, str(value))
        if isinstance(value, torch.storage.TypedStorage):
            return ("storage", str(value.dtype), *self.storage(value.untyped()), _sha(bytes(value.untyped())))
        if isinstance(value, getattr(torch, "UntypedStorage", ())):  # which torch.save makes one of uint8
            return ("storage", "torch.uint8", *self.storage(value), _sha(bytes(value)))
        if isinstance(value, type) or callable(value) and hasattr(value, "__qualname__"):
            return ("global", *_name_of(value))
        if type(value).__name__ == "StorageType":  # what weights_only makes of a storage class
            return ("global", "torch", str(value.dtype))
        if isinstance(value, (torch.Tensor, numpy.ndarray, list, dict, set, BaseException)):
            if id(value) in self.objects:
                return (type(value).__name__, "again", self.objects[id(value)])
            self.objects[id(value)] = len(self.objects)
            self.kept.append(value)
        if isinstance(value, torch.Tensor):
            return self.tensor(value)
        if isinstance(value, numpy.ndarray):
            value = value.astype(value.dtype.newbyteorder("="), order="K")  # which numpy does by itself in most of its pickles
            return ("numpy array", value.dtype.str, value.shape, value.flags.c_contiguous, value.flags.f_contiguous, value.tobytes("A"))
        if type(value) not in (dict, list, tuple, set, torch.Size, collections.OrderedDict, collections.Counter):
            return self.object(value)
        return self.container(value)

    def object(self, value):
        """What pickle would save of it."""
        made = value.__reduce_ex__(2)
        function, arguments = made[0].__name__, made[1]
        state, elements = (tuple(made[2:4]) + (None, None))[:2]
        return ("object", type(value).__module__, type(value).__qualname__, function, self.describe(tuple(arguments)), self.describe(state),
                self.describe(list(elements or ())))

    def container(self, value):
        kind = type(value).__name__
        if isinstance(value, dict):
            items = tuple((self.describe(k), self.describe(v)) for k, v in value.items())
            attributes = getattr(value, "__dict__", {}) if isinstance(value, collections.OrderedDict) else {}
            return (kind, items, self.describe(dict(attributes)) if attributes else ())
        if isinstance(value, (set, frozenset)):
            return (kind, tuple(sorted(map(repr, map(self.describe, value)))))
        if isinstance(value, (list, tuple)):
            return (kind, tuple(self.describe(v) for v in value))
        raise TypeError(f"the judge does not know {type(value)}")

    def storage(self, untyped):
        self.kept.append(untyped)
        is_new = untyped._cdata not in self.storages
        number = self.storages.setdefault(untyped._cdata, len(self.storages))
        if not (self.exact and is_new):
            return (number,)
        return (number, self.tags.get(untyped._cdata), untyped.nbytes(), _sha(_bytes_of(untyped)))

    def tensor(self, t):
        head = (type(t).__name__, str(t.dtype), str(t.layout), t.requires_grad)
        if type(t).__name__ == "DTensor":
            return head + (tuple(t.shape), t.stride(), str(t.device), self.describe(t._local_tensor), self.describe(t._spec))
        state = {k: v for k, v in t.__dict__.items() if k not in ("_size", "_strides")}  # of a jagged one: not saved
        if t.layout == getattr(torch, "jagged", None):
            return head + tuple(self.describe(state[key]) for key in sorted(state))
        head += (self.describe(state),) if state else ()
        if getattr(t, "is_nested", False):
            parts = (t.values(), t._nested_tensor_size(), t._nested_tensor_strides(), t._nested_tensor_storage_offsets())
            return head + tuple(map(self.strided, parts))
        t = t.detach()
        head += (tuple(t.shape),)
        if t.layout == torch.sparse_coo:
            return head + (t.is_coalesced(), self.strided(t._indices()), self.strided(t._values()))
        if t.layout in (torch.sparse_csr, torch.sparse_bsr):
            return head + tuple(map(self.strided, (t.crow_indices(), t.col_indices(), t.values())))
        if t.layout in (torch.sparse_csc, torch.sparse_bsc):
            return head + tuple(map(self.strided, (t.ccol_indices(), t.row_indices(), t.values())))
        return head + self.strided(t)

    def strided(self, t):
        head = (str(t.dtype), tuple(t.shape), t.stride(), t.storage_offset(), t.is_conj(), t.is_neg())
        if t.device.type == "meta":
            return head + ("meta",)
        untyped = t.untyped_storage() if hasattr(t, "untyped_storage") else t.storage().untyped()
        head += self.storage(untyped)
        if not t.is_quantized:
            return head + (_sha(_elements(t, untyped)),)
        scheme = str(t.qscheme())
        if "channel" in scheme:
            quantizer = (self.strided(t.q_per_channel_scales()), self.strided(t.q_per_channel_zero_points()), t.q_per_channel_axis())
        else:
            quantizer = (t.q_scale().hex(), t.q_zero_point())
        return head + (scheme, quantizer, _sha(t.int_repr().contiguous().numpy().tobytes()))


def _name_of(what):
    """Of a class or function; a storage class goes by its dtype, which is all that weights_only keeps of it."""
    dtype = getattr(what, "dtype", None)
    return ("torch", str(dtype)) if isinstance(dtype, torch.dtype) else (what.__module__, what.__qualname__)


def _sha(data):
    return hashlib.sha256(data).hexdigest()


def _view(untyped):
    return torch.tensor([], dtype=torch.uint8).set_(untyped, 0, (untyped.nbytes(),), (1,))


def _bytes_of(untyped):
    return _view(untyped).numpy().tobytes()


def _elements(t, untyped):
    """The bytes of a tensor's elements in order, read as bytes: few functions know all the dtypes."""
    if t.numel() == 0:
        return b""
    size = t.element_size()
    shape = tuple(t.shape) + (size,)
    strides = tuple(stride * size for stride in t.stride()) + (1,)
    parts = _view(untyped).as_strided(shape, strides, t.storage_offset() * size)
    return parts.contiguous().numpy().tobytes()


def load(path_or_bytes, **options):
    source = io.BytesIO(path_or_bytes) if isinstance(path_or_bytes, bytes) else path_or_bytes
    return torch.load(source, **{"map_location": "cpu", **options})


def described(path_or_bytes, exact=False, **options):
    """`options` are torch.load's."""
    tags = {}
    kept = []

    def keep_tag(storage, location):
        tags[storage._cdata] = location
        kept.append(storage)
        return storage

    value = load(path_or_bytes, map_location=keep_tag if exact else "cpu", **options)
    return _Describer(exact, tags).describe(value)


def allow_all():
    """Imports what puts more classes on the list of the weights-only loader, in the releases that have it."""
    for module in ("torch.nested", "torch._dynamo", "torch.distributed.tensor"):
        try:
            importlib.import_module(module)
        except ImportError:
            pass


@contextlib.contextmanager
def safe_numpy():
    """Lets the weights-only loader take numpy values, under either of the names that numpy's functions have."""
    from numpy.core import multiarray

    kinds = {type(numpy.dtype(kind)) for kind in "? b h i l q B H I L Q e f d g F D G M8 m8 S1 U1 V1".split()}
    functions = [(getattr(multiarray, name), f"numpy.{core}.multiarray.{name}") for name in ("_reconstruct", "scalar")
                 for core in ("core", "_core")]
    with torch.serialization.safe_globals([numpy.ndarray, numpy.dtype, *kinds, *functions]):
        yield


class _TagReader(pickle.Unpickler):
    """Walks a checkpoint's pickle and keeps the device tag of each storage; everything else becomes a husk."""

    def __init__(self, file):
        super().__init__(file)
        self.tags = {}

    def find_class(self, module, name):
        if (module, name) == ("collections", "OrderedDict"):
            return collections.OrderedDict

        class Husk(list):
            def __init__(self, *_):
                super().__init__()

            def __hash__(self):
                return id(self)

            def __setstate__(self, state):
                pass

        Husk.__name__ = f"{module}.{name}"
        return Husk

    def persistent_load(self, pid):
        _, _, key, location, _ = pid[:5]
        self.tags[key] = location
        return key


def device_tags(path):
    """{storage's record number: device tag}, as the file itself says."""
    with zipfile.ZipFile(path) as archive:
        name = next(n for n in archive.namelist() if n.endswith("/data.pkl"))
        reader = _TagReader(io.BytesIO(archive.read(name)))
        reader.load()
        return reader.tags
