"""PyTorch's own opinion of a checkpoint file: what tests compare instead of bytes.

`described(path)` loads a file with torch and turns what it got into plain tuples, in which two files are equal exactly when torch
sees the same tree: types, values, dtypes, shapes, strides, bits, which tensors share a storage, and which containers are one object.
`device_tags(path)` reads the tags that the file itself has on its storages, which torch hides behind map_location.
"""

import collections
import hashlib
import io
import pickle
import zipfile

import numpy
import torch


class _Describer:
    def __init__(self):
        self.storages = {}  # StorageImpl -> number in order of appearance
        self.containers = {}  # id of a mutable container -> the same
        self.kept = []  # so that no id is given out twice

    def describe(self, value):
        if value is None or isinstance(value, (bool, int, str, bytes, bytearray)):
            return (type(value).__name__, bytes(value) if isinstance(value, bytearray) else value)
        if isinstance(value, float):
            return ("float", value.hex())
        if isinstance(value, complex):
            return ("complex", value.real.hex(), value.imag.hex())
        if isinstance(value, torch.Tensor):
            return self.tensor(value)
        if isinstance(value, torch.storage.TypedStorage):
            return ("storage", str(value.dtype), self.storage_number(value), _sha(bytes(value.untyped())))
        if isinstance(value, (torch.dtype, torch.device, torch.layout, torch.qscheme)):
            return (type(value).__name__, str(value))
        if isinstance(value, numpy.generic):
            return ("numpy scalar", value.dtype.str, value.tobytes())
        if isinstance(value, numpy.ndarray):
            return ("numpy array", value.dtype.str, value.shape, value.flags.f_contiguous, value.tobytes())
        return self.container(value)

    def container(self, value):
        kind = type(value).__name__
        if isinstance(value, (list, dict, set)):
            if id(value) in self.containers:
                return (kind, "again", self.containers[id(value)])
            self.containers[id(value)] = len(self.containers)
            self.kept.append(value)
        if isinstance(value, dict):
            items = tuple((self.describe(k), self.describe(v)) for k, v in value.items())
            attributes = getattr(value, "__dict__", {}) if isinstance(value, collections.OrderedDict) else {}
            return (kind, items, self.describe(dict(attributes)) if attributes else ())
        if isinstance(value, (set, frozenset)):
            return (kind, tuple(sorted(map(repr, map(self.describe, value)))))
        if isinstance(value, (list, tuple)):
            return (kind, tuple(self.describe(v) for v in value))
        raise TypeError(f"the judge does not know {type(value)}")

    def storage_number(self, storage):
        self.kept.append(storage)
        return self.storages.setdefault(storage._cdata, len(self.storages))

    def tensor(self, t):
        head = (type(t).__name__, str(t.dtype), tuple(t.shape), str(t.layout), t.requires_grad)
        t = t.detach()
        if t.is_sparse:
            parts = (t._indices(), t._values()) if t.layout == torch.sparse_coo else ()
            return head + (t.is_coalesced(), tuple(self.tensor(p) for p in parts))
        if t.layout in (torch.sparse_csr, torch.sparse_bsr):
            return head + tuple(self.tensor(p) for p in (t.crow_indices(), t.col_indices(), t.values()))
        if t.layout in (torch.sparse_csc, torch.sparse_bsc):
            return head + tuple(self.tensor(p) for p in (t.ccol_indices(), t.row_indices(), t.values()))
        head += (t.stride(), t.storage_offset())
        if t.device.type == "meta":
            return head + ("meta",)
        head += (self.storage_number(t.storage()),)
        if t.is_quantized:
            scheme = str(t.qscheme())
            if "channel" in scheme:
                scales = (tuple(t.q_per_channel_scales().tolist()), tuple(t.q_per_channel_zero_points().tolist()), t.q_per_channel_axis())
            else:
                scales = (t.q_scale(), t.q_zero_point())
            return head + (scheme, scales, _tensor_sha(t.int_repr()))
        return head + (t.is_conj(), t.is_neg(), _tensor_sha(t))


def _sha(data):
    return hashlib.sha256(data).hexdigest()


def _tensor_sha(t):
    flat = t.resolve_conj().resolve_neg().contiguous().reshape(-1)
    return _sha(flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b"")


def load(path_or_bytes):
    source = io.BytesIO(path_or_bytes) if isinstance(path_or_bytes, bytes) else path_or_bytes
    return torch.load(source, map_location="cpu")


def described(path_or_bytes):
    return _Describer().describe(load(path_or_bytes))


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
