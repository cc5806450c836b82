"""Random manifests and random Python objects, by seed."""

import math
import struct

from sconce._globals import GLOBALS
from sconce._manifest_rules import value_key
from sconce._nodes import DTYPES, NO_INDEX, PACKED, Kind, Manifest, Node, Storage, TensorView, contiguous_stride, view_end_bytes

PLAIN_DTYPES = [name for name, dtype in DTYPES.items() if dtype.kind != "q"]
QUANTIZED = [name for name, dtype in DTYPES.items() if dtype.kind == "q"]
INTS = [0, 1, -1, 127, 128, -128, -129, 255, 2**31, 2**63 - 1, -(2**63), 2**63, 2**64, -(2**200), 10**40]
FLOATS = [0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 5e-324, 2.0**60, 1e300]
TEXTS = ["", "a", "weight", "épée", "сет", "\ud83d", "\udc00x", "\U0001f600", "~/", "0", "x" * 300]
DEVICES = ["cpu", "cpu", "cuda:0", "cuda:1", "mps", "meta"]


class ManifestMaker:
    def __init__(self, rng, bulk=True):
        self.rng = rng
        self.bulk = bulk
        self.nodes, self.tensors, self.storages = [], [], []

    def add(self, kind, value=None, children=(), **fields):
        self.nodes.append(Node(kind, value, tuple(children), **fields))
        return len(self.nodes) - 1

    def storage(self, at_least=0):
        """A storage of at least this many bytes, new or known."""
        fitting = [i for i, storage in enumerate(self.storages) if storage.size_bytes >= at_least]
        if fitting and self.rng.random() < 0.5:
            return self.rng.choice(fitting)
        size = at_least + self.rng.choice([0, 0, 1, 16])
        if self.bulk and self.rng.random() < 0.3:
            size += self.rng.choice([1025, 5000, (4 << 20) + 1])
        storage = Storage(size, self.rng.choice(DEVICES))
        if not storage.is_meta and not storage.is_bulk:
            storage.inline_bytes = self.rng.randbytes(size) if hasattr(self.rng, "randbytes") else bytes(size)
        self.storages.append(storage)
        return len(self.storages) - 1

    def view(self, dtype=None, shape=None, grad=False):
        rng = self.rng
        dtype = dtype or rng.choice(PLAIN_DTYPES)
        shape = tuple(rng.choice([0, 1, 2, 3, 3]) for _ in range(rng.randrange(4))) if shape is None else shape
        stride = contiguous_stride(shape)
        view = TensorView(dtype, shape, stride, requires_grad=grad and rng.random() < 0.5)
        if dtype not in PACKED:
            view.offset = rng.choice([0, 0, 1, 5])
            if rng.random() < 0.3:
                view.stride = tuple(rng.choice([0, 1, 2, 4]) for _ in shape)
            view.negative = rng.random() < 0.1
            view.conjugate = DTYPES[dtype].kind == "c" and rng.random() < 0.3
        if rng.random() < 0.05 and DTYPES[dtype].kind != "q":
            view.offset = 0
        else:
            view.storage = self.storage(view_end_bytes(view))
        self.tensors.append(view)
        return len(self.tensors) - 1

    def tensor(self, **options):
        return self.add(Kind.TENSOR, tensor=self.view(**options))

    def ints(self, kind, numbers):
        return self.add(kind, children=[self.add(Kind.INT, number) for number in numbers])

    def value(self, depth=1):
        """A node that can be a key."""
        rng = self.rng
        kind = rng.choice([Kind.NONE, Kind.BOOL, Kind.INT, Kind.FLOAT, Kind.COMPLEX, Kind.STR, Kind.STR, Kind.BYTES, Kind.TUPLE, Kind.SIZE, Kind.DTYPE,
                           Kind.DEVICE, Kind.LAYOUT, Kind.QSCHEME, Kind.NUMPY_SCALAR, Kind.GLOBAL])
        if kind == Kind.TUPLE:
            return self.add(kind, children=[self.value(depth - 1) for _ in range(rng.randrange(3))] if depth else [])
        if kind == Kind.SIZE:
            return self.ints(kind, [rng.choice([0, 1, 7, 2**63 - 1]) for _ in range(rng.randrange(3))])
        if kind == Kind.NUMPY_SCALAR:
            return self.add(kind, children=[self.add(Kind.STR, "<f4"), self.add(Kind.BYTES, struct.pack("<f", rng.choice(FLOATS[:3])))])
        return self.add(kind, {
            Kind.NONE: lambda: None,
            Kind.BOOL: lambda: rng.random() < 0.5,
            Kind.INT: lambda: rng.choice(INTS) + rng.randrange(3),
            Kind.FLOAT: lambda: rng.choice(FLOATS),
            Kind.COMPLEX: lambda: complex(rng.choice(FLOATS), rng.choice(FLOATS)),
            Kind.STR: lambda: rng.choice(TEXTS),
            Kind.BYTES: lambda: rng.choice([b"", b"\x00\xff", b"abc"]),
            Kind.DTYPE: lambda: rng.choice(list(DTYPES)),
            Kind.DEVICE: lambda: rng.choice(DEVICES),
            Kind.LAYOUT: lambda: "strided",
            Kind.QSCHEME: lambda: "per_tensor_affine",
            Kind.GLOBAL: lambda: rng.choice(sorted(GLOBALS)),
        }[kind]())

    def keys(self, count):
        """Different keys, as Python has it: a str each, by number, but for one of any kind."""
        keys = [self.add(Kind.STR, f"k{number}") for number in range(count)]
        if keys and self.rng.random() < 0.5:
            keys[self.rng.randrange(count)] = self.value()
        return keys

    def composite(self):
        rng = self.rng
        kind = rng.choice([Kind.SET, Kind.BYTEARRAY, Kind.NUMPY_ARRAY, Kind.TENSOR, Kind.TENSOR, Kind.SPARSE_TENSOR, Kind.QUANTIZED_TENSOR, Kind.NESTED_TENSOR,
                           Kind.PARAMETER, Kind.PARAMETER, Kind.TENSOR_SUBCLASS, Kind.STORAGE, Kind.SHARDED_TENSOR, Kind.OBJECT])
        if kind == Kind.BYTEARRAY:
            return self.add(kind, b"\x80\x00")
        if kind == Kind.SET:
            keyed = {}
            first = len(self.nodes)
            for _ in range(rng.randrange(4)):
                node = self.value()
                if value_key(self.nodes, node, 1 << 20) in keyed:
                    return self.add(Kind.LIST, children=self.loose(first))
                keyed[value_key(self.nodes, node, 1 << 20)] = node
            return self.add(kind, children=[keyed[key] for key in sorted(keyed)])
        if kind == Kind.NUMPY_ARRAY:
            shape = [rng.choice([0, 1, 3]) for _ in range(rng.randrange(3))]
            parts = [self.add(Kind.STR, "<i4"), self.ints(Kind.TUPLE, shape), self.add(Kind.BOOL, rng.random() < 0.5)]
            if self.bulk and rng.random() < 0.5:
                self.storages.append(Storage(4 * math.prod(shape), "cpu", bytes(4 * math.prod(shape))))
                return self.add(kind, children=[*parts, self.add(Kind.STORAGE, "untyped", storage=len(self.storages) - 1)])
            return self.add(kind, children=[*parts, self.add(Kind.BYTES, bytes(4 * math.prod(shape)))])
        if kind == Kind.SPARSE_TENSOR:
            layout = rng.choice(["sparse_coo", "sparse_csr", "sparse_bsc"])
            parts = [self.add(Kind.LAYOUT, layout), self.ints(Kind.SIZE, [4, 4])]
            parts += [self.tensor() for _ in range(2 if layout == "sparse_coo" else 3)]
            return self.add(kind, children=[*parts, self.add(Kind.NONE) if rng.random() < 0.5 else self.add(Kind.BOOL, True)])
        if kind == Kind.QUANTIZED_TENSOR:
            if rng.random() < 0.5:
                parts = [self.add(Kind.QSCHEME, "per_tensor_affine"), self.add(Kind.FLOAT, 0.5), self.add(Kind.INT, -3)]
            else:
                parts = [self.add(Kind.QSCHEME, "per_channel_affine"), self.tensor(dtype="float64", shape=(2,)), self.tensor(dtype="int64", shape=(2,)),
                         self.add(Kind.INT, 0)]
            return self.add(kind, children=parts, tensor=self.view(dtype=rng.choice(QUANTIZED), shape=(2, 3)))
        if kind == Kind.NESTED_TENSOR:
            return self.add(kind, children=[self.tensor() for _ in range(4)])
        if kind == Kind.PARAMETER:
            parts = [self.tensor(grad=True)]
            if rng.random() < 0.3:
                parts.append(self.add(Kind.DICT, children=[self.add(Kind.STR, "note"), self.value()]))
            return self.add(kind, rng.random() < 0.5, children=parts)
        if kind == Kind.TENSOR_SUBCLASS:
            return self.add(kind, "torch.Tensor", children=[self.add(Kind.TUPLE, children=[self.tensor()]), self.add(Kind.DICT)])
        if kind == Kind.STORAGE:
            return self.add(kind, "untyped", storage=self.storage(3))
        if kind == Kind.SHARDED_TENSOR:
            return self.add(kind, children=[self.ints(Kind.SIZE, [4]), self.ints(Kind.TUPLE, [2]), self.ints(Kind.TUPLE, [2]), self.tensor(shape=(2,))])
        if kind == Kind.OBJECT:
            parts = [self.add(Kind.TUPLE, children=[self.value()]), self.add(Kind.BOOL, True), self.add(Kind.NONE)]
            return self.add(kind, "builtins.ValueError", children=parts)
        return self.tensor(grad=True)

    def loose(self, first):
        """The nodes from `first` on that nothing refers to."""
        used = {child for node in self.nodes for child in node.children}
        return [i for i in range(first, len(self.nodes)) if i not in used]

    def tree(self, size):
        rng = self.rng
        kind = rng.choice([Kind.LIST, Kind.TUPLE, Kind.DICT, Kind.DICT, Kind.ORDERED_DICT, Kind.COUNTER])
        count = rng.randrange(1, 4)
        children = []
        for _ in range(count):
            draw = rng.random()
            if size > 0 and draw < 0.4:
                children.append(self.tree(size - 2))
            elif draw < 0.5 and children:
                children.append(rng.choice(children))
            else:
                children.append(self.value() if draw < 0.75 else self.composite())
        if kind in (Kind.LIST, Kind.TUPLE):
            return self.add(kind, children=children)
        items = [part for pair in zip(self.keys(count), children) for part in pair]
        if kind == Kind.ORDERED_DICT and rng.random() < 0.5:
            items.append(self.add(Kind.DICT, children=[self.add(Kind.STR, "_metadata"), self.add(Kind.ORDERED_DICT)]))
        return self.add(kind, children=items)


def random_manifest(rng, bulk=True, size=8):
    """A valid manifest. Its root is a list of what else would be loose."""
    maker = ManifestMaker(rng, bulk)
    maker.tree(size)
    maker.add(Kind.LIST, children=maker.loose(0))
    used = {view.storage for view in maker.tensors} | {node.storage for node in maker.nodes}
    assert used - {NO_INDEX} == set(range(len(maker.storages)))
    return Manifest(maker.nodes, maker.tensors, maker.storages)


class ObjectMaker:
    """Random Python objects as checkpoints have them: containers of tensors, views, ties, arrays and scalars."""

    def __init__(self, rng, torch, numpy):
        self.rng, self.torch, self.numpy = rng, torch, numpy
        self.known = []  # objects to be named again
        self.bases = [self.base() for _ in range(3)]

    def base(self):
        size = self.rng.choice([0, 7, 64, 600, 3000])
        dtype = self.rng.choice([self.torch.float32, self.torch.float64, self.torch.int64, self.torch.uint8, self.torch.bfloat16, self.torch.complex64])
        return (self.torch.arange(size) % 100).to(dtype)

    def tensor(self):
        rng, torch = self.rng, self.torch
        tensor = rng.choice(self.bases) if rng.random() < 0.6 else self.base()
        for _ in range(rng.randrange(3)):
            size = tensor.numel()
            kind = rng.randrange(6)
            if kind == 0 and tensor.dim() and size:
                first = rng.randrange(tensor.shape[0])
                tensor = tensor[first : first + 1 + rng.randrange(tensor.shape[0])]
            elif kind == 1 and tensor.dim() == 1 and size and size % 2 == 0:
                tensor = tensor.view(2, size // 2)
            elif kind == 2 and tensor.dim() == 2:
                tensor = tensor.t()
            elif kind == 3 and tensor.dim() and size:
                tensor = tensor[::2]
            elif kind == 4:
                tensor = tensor.expand(2, *tensor.shape)
            elif kind == 5 and tensor.is_complex():
                tensor = tensor.conj()
        draw = rng.random()
        if draw < 0.2 and (tensor.is_floating_point() or tensor.is_complex()):
            return torch.nn.Parameter(tensor, requires_grad=rng.random() < 0.5)
        if draw < 0.3 and tensor.is_floating_point():
            return tensor.detach().requires_grad_()
        if draw < 0.35:
            return torch.empty(2, 3, device="meta")
        if draw < 0.4:
            return torch.sparse_coo_tensor([[0, 1], [2, 0]], [3.0, 4.0], (2, 3))
        if draw < 0.45:
            return torch.quantize_per_tensor(torch.arange(6.0), 0.5, 2, torch.quint8)
        return tensor

    def array(self):
        rng, numpy = self.rng, self.numpy
        array = numpy.arange(rng.choice([0, 1, 6, 400])).astype(rng.choice(["<f4", ">i4", "u1", "<U3", "S2", "?", "c8"]))
        if array.size == 6 and rng.random() < 0.5:
            array = array.reshape(2, 3)
            array = rng.choice([array, numpy.asfortranarray(array), array[:, ::2]])
        return rng.choice([array, array[0] if array.size else array]) if array.ndim == 1 else array

    def scalar(self):
        rng, torch = self.rng, self.torch
        return rng.choice([None, True, False, *INTS, *FLOATS, *TEXTS, 1j, complex(math.nan, -0.0), b"", b"\xff\x00", torch.float16, torch.device("cuda", 1),
                           torch.strided, torch.per_channel_affine, torch.Size([2, 0]), torch.Size([]), ValueError, torch.Tensor])

    def key(self, depth=1):
        rng = self.rng
        if depth and rng.random() < 0.15:
            return tuple(self.key(depth - 1) for _ in range(rng.randrange(3)))
        value = self.scalar()
        return "nan" if value != value else value  # NaN is no key for a comparison

    def tree(self, depth):
        rng = self.rng
        if self.known and rng.random() < 0.15:
            return rng.choice(self.known)
        draw = rng.random()
        if depth == 0 or draw < 0.3:
            value = rng.choice([self.tensor, self.tensor, self.scalar, self.array, lambda: bytearray(b"\x00x"), lambda: {self.key() for _ in range(3)}])()
        else:
            import collections  # pylint: disable=import-outside-toplevel

            kind = rng.choice([list, tuple, dict, dict, collections.OrderedDict, collections.Counter])
            children = [self.tree(depth - 1) for _ in range(rng.randrange(5))]
            if kind in (list, tuple):
                value = kind(children)
            else:
                value = kind()
                for child in children:
                    value[self.key() if rng.random() < 0.3 else f"k{len(value)}"] = child
                if kind is collections.OrderedDict and rng.random() < 0.5:
                    value._metadata = collections.OrderedDict([("", {"version": 1})])
        if value is not None and not isinstance(value, (bool, int, float)):
            self.known.append(value)
        return value


def random_object(rng, torch, numpy):
    return ObjectMaker(rng, torch, numpy).tree(4)
