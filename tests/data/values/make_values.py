#!/usr/bin/python3
"""Writes files with the kinds of values that torch.save takes, and what this PyTorch sees in them.

    make_values.py FOLDER

fills FOLDER/torch-<release>: *.pt and expected.json (in the form that ../README.md describes). What a release does not have, it leaves
out; the files beside this script were made by 1.13 (numpy 1.24), 2.6 (numpy 2.2) and 2.14 (numpy 2.4).
"""

import collections
import hashlib
import io
import json
import os
import sys
import warnings

import numpy as np
import torch

warnings.filterwarnings("ignore")
RELEASE = ".".join(torch.__version__.split("+")[0].split(".")[:2])
VERSION = tuple(int(part) for part in RELEASE.split("."))


class Describer:
    """What expected.json says of a tree. Storages get numbers in the order they are met."""

    def __init__(self):
        self.numbers = {}

    def node(self, value):
        for kind, name in ((bool, "bool"), (int, "int"), (float, "float"), (complex, "complex"), (str, "str"), (bytes, "bytes"),
                           (bytearray, "bytearray"), (torch.Size, "size"), (torch.dtype, "dtype"), (torch.device, "device"),
                           (torch.layout, "layout"), (torch.qscheme, "qscheme")):
            if type(value) is kind:
                return {"kind": name, "value": self.scalar(value)}
        if value is None:
            return {"kind": "none", "value": None}
        if isinstance(value, np.ndarray):
            fortran = value.flags.f_contiguous and not value.flags.c_contiguous
            return {"kind": "numpy_array", "dtype": value.dtype.str, "shape": list(value.shape), "fortran": fortran,
                    "data": value.tobytes("F" if fortran else "C").hex()}
        if isinstance(value, np.generic):
            return {"kind": "numpy_scalar", "dtype": value.dtype.str, "data": value.tobytes().hex()}
        if isinstance(value, (list, tuple)):
            return {"kind": type(value).__name__, "items": [self.node(item) for item in value]}
        if isinstance(value, set):
            return {"kind": "set", "items": [self.node(item) for item in sorted(value)]}
        for kind, name in ((collections.OrderedDict, "ordered_dict"), (collections.Counter, "counter"), (dict, "dict")):
            if type(value) is kind:
                return {"kind": name, "items": [[self.node(key), self.node(item)] for key, item in value.items()]}
        if isinstance(value, torch.Tensor):
            return self.any_tensor(value)
        assert hasattr(value, "data_ptr"), type(value)
        dtype = str(value.dtype)[6:] if hasattr(value, "dtype") else "untyped"
        number, raw = self.storage(value.untyped())
        return {"kind": "storage", "dtype": dtype, "data": raw.hex(), "storage": number}

    def scalar(self, value):
        if isinstance(value, bool):
            return value
        if isinstance(value, float):
            return value.hex()
        if isinstance(value, complex):
            return [value.real.hex(), value.imag.hex()]
        if isinstance(value, (bytes, bytearray)):
            return value.hex()
        return list(value) if isinstance(value, torch.Size) else str(value)

    def any_tensor(self, tensor):
        state = dict(tensor.__dict__)
        parameter = isinstance(tensor, torch.nn.Parameter)
        if type(tensor) is not torch.Tensor and not parameter:  # a jagged one
            for key in ("_size", "_strides"):
                del state[key]
            keywords = {"values": tensor._values, "offsets": tensor._offsets, "lengths": tensor._lengths,
                        "_ragged_idx": tensor._ragged_idx, "_metadata_cache": tensor._metadata_cache,
                        "requires_grad": tensor.requires_grad}
            name = f"{type(tensor).__module__}.{type(tensor).__name__}"
            return {"kind": "tensor_subclass", "class": name, "args": [self.node(keywords)], "state": self.node(state)}
        if parameter and VERSION >= (2, 0) and state:
            return {**self.tensor(tensor.data, tensor), "state": self.node(state)}
        if not parameter and VERSION >= (2, 0) and state:  # 1.13 drops attributes
            plain = self.tensor(tensor, tensor)
            return {"kind": "tensor_subclass", "class": "torch.Tensor", "args": [plain], "state": self.node(state)}
        return self.tensor(tensor.data if parameter else tensor, tensor)

    def tensor(self, tensor, outer):
        node = {"kind": "tensor", "requires_grad": outer.requires_grad, "parameter": isinstance(outer, torch.nn.Parameter),
                "dtype": str(tensor.dtype)[6:]}
        if tensor.layout != torch.strided:
            node.update(shape=list(tensor.shape), layout=str(tensor.layout)[6:], values=None, coalesced=None)
            parts = {torch.sparse_coo: ("_indices", "_values"), torch.sparse_csr: ("crow_indices", "col_indices", "values"),
                     torch.sparse_csc: ("ccol_indices", "row_indices", "values"),
                     torch.sparse_bsr: ("crow_indices", "col_indices", "values"),
                     torch.sparse_bsc: ("ccol_indices", "row_indices", "values")}[tensor.layout]
            for part in parts:
                name = part.strip("_")
                name = name[:-8] if name.endswith("_indices") else name
                node[name] = self.node(getattr(tensor, part)())
            if tensor.layout == torch.sparse_coo and VERSION >= (2, 1):
                node["coalesced"] = tensor.is_coalesced()
            return node
        if tensor.is_nested:
            parts = (tensor.values(), tensor._nested_tensor_size(), tensor._nested_tensor_strides(),
                     tensor._nested_tensor_storage_offsets())
            return {**node, "nested": [self.node(part) for part in parts]}
        node.update(shape=list(tensor.shape), stride=list(tensor.stride()), storage_offset=tensor.storage_offset(),
                    device=str(tensor.device))
        if tensor.device.type == "meta":
            return node
        if VERSION >= (2, 0):  # 1.13 saves no such bits
            node.update(conj=tensor.is_conj(), neg=tensor.is_neg())
        item = max(1, tensor.element_size())
        number, raw = self.storage(tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage().untyped())
        packed = str(tensor.dtype) == "torch.quint4x2"
        indices = [] if packed else np.ndindex(*tensor.shape)
        places = [tensor.storage_offset() + sum(i * s for i, s in zip(index, tensor.stride())) for index in indices]
        data = raw if packed else b"".join(raw[place * item:(place + 1) * item] for place in places)
        node.update(storage=number, sha256=hashlib.sha256(data).hexdigest())
        if tensor.is_quantized:
            scheme = tensor.qscheme()
            if scheme == torch.per_tensor_affine:
                node.update(qscheme=scheme, scale=tensor.q_scale(), zero_point=tensor.q_zero_point())
            else:  # PyTorch writes this scheme for all of them
                node.update(qscheme=torch.per_channel_affine, scale=tensor.q_per_channel_scales(),
                            zero_point=tensor.q_per_channel_zero_points(), axis=tensor.q_per_channel_axis())
            for key in ("qscheme", "scale", "zero_point", "axis"):
                if key in node:
                    node[key] = self.node(node[key])
        return node

    def storage(self, storage):
        number = self.numbers.setdefault(storage.data_ptr(), len(self.numbers))
        return number, bytes(storage.tolist()) if storage.nbytes() else b""


def numpy_values():
    rng = np.random.RandomState(7)
    shared = np.arange(6, dtype=np.int16).reshape(2, 3)
    return {
        "f8": np.float64(0.1), "f4": np.float32(-2.5), "f2": np.float16(1.5), "i8": np.int64(-(2 ** 40)), "u1": np.uint8(255),
        "b1": np.bool_(True), "c8": np.complex64(1 - 2j), "U": np.str_("épée"), "S": np.bytes_(b"a\xffb"),
        "c_order": np.arange(12, dtype=np.float32).reshape(3, 4), "f_order": np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        "0-dim": np.array(5.0), "empty": np.zeros((0, 3)), "big_endian": np.arange(4, dtype=">i4"), "bools": np.array([True, False]),
        "text": np.array(["a", "bcd"]), "raw": np.array([b"x", b"yz"]), "void": np.zeros(2, dtype="V3"), "sliced": shared[:, ::2],
        "shared": [shared, shared], "rng": (rng.get_state()[0], rng.get_state()[1][:40].copy(), 624, 0, 0.0),
        "keys": {np.int64(3): "three", np.str_("k"): np.float64(1), (np.int32(1), "x"): None},
    }


def python_values():
    ordered = collections.OrderedDict([("b", 1), ("a", None)])
    return {
        torch.Size([2, 3]): torch.Size([]), torch.float8_e4m3fn if VERSION >= (2, 1) else torch.float16: torch.bfloat16,
        torch.device("cuda", 1): torch.device("cpu"), (1, ("é", None)): [], None: {}, 1.5: float("-inf"), b"\x00\xff": b"",
        2 ** 70: -(2 ** 2100), 1j: complex(0.0, -0.0), "сет": {1, 2, 300}, "strs": {"a", "é"}, "counter": collections.Counter("abca"),
        "array": bytearray(b"\x80\x00"), "empty": bytearray(), "ordered": ordered, "layout": torch.sparse_csr,
        "qscheme": torch.per_channel_symmetric, "long": "x" * 300, "ints": [0, -1, 255, 256, 65536, -(2 ** 31), 2 ** 31, 2 ** 63, -(2 ** 63)],
        "again": [ordered, ordered], True: False,
    }


def sparse_values():
    coo = torch.sparse_coo_tensor([[0, 1, 1], [2, 0, 2]], [3.0, 4.0, 5.0], (2, 3))
    twice = torch.sparse_coo_tensor([[1, 1]], torch.ones(2, 2, dtype=torch.int64), (4, 2))
    dense = torch.tensor([[0.0, 1, 0, 0], [2, 0, 0, 0], [0, 0, 0, 3], [0, 0, 4, 5]])
    tree = {"coalesced": coo.coalesce(), "not": twice, "csr": dense.to_sparse_csr(), "parameter": torch.nn.Parameter(coo)}
    if VERSION >= (2, 0):
        tree.update(csc=dense.to_sparse_csc(), bsr=dense.to_sparse_bsr((2, 2)), bsc=dense.to_sparse_bsc((1, 2)))
    return tree


def quantized_values():
    x = torch.linspace(-1, 1, 15).reshape(3, 5)
    scales, zeros = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5]), torch.tensor([0, 1, 2, 3, 4])
    whole = torch.quantize_per_tensor(x, 0.05, 3, torch.qint32)
    return {
        "quint8": torch.quantize_per_tensor(x, 0.1, 10, torch.quint8), "qint8": torch.quantize_per_tensor(x, 0.1, -3, torch.qint8),
        "qint32": whole, "view": whole[1:, ::2], "axis1": torch.quantize_per_channel(x, scales, zeros, 1, torch.qint8),
        "float": torch.quantize_per_channel(x, scales[:3], scales[:3], 0, torch.quint8),
        "packed": torch.quantize_per_channel(x, scales[:3], scales[:3], 0, torch.quint4x2),
    }


def attribute_values():
    tensor = torch.arange(3.0)
    tensor.note, tensor.other = "hello", torch.ones(2)
    parameter = torch.nn.Parameter(torch.zeros(2), requires_grad=False)
    parameter.group = ("a", 1)
    sparse = torch.sparse_coo_tensor([[0]], [1.0], (2,))
    sparse.note = None
    return {"tensor": tensor, "parameter": parameter, "sparse": sparse, "tied": [tensor, tensor]}


def bit_values():
    z = torch.tensor([1 + 2j, 3 - 4j])
    real = torch.arange(4.0)
    return {"conj": z.conj(), "neg": torch._neg_view(real), "imag": (z * 2).conj().imag, "plain": real}


def subbyte_values():
    raw = torch.arange(8, dtype=torch.uint8)
    names = [f"{sign}int{bits}" for sign in ("u", "") for bits in range(1, 8)]
    names += ["bits8", "bits1x8", "bits2x4", "bits4x2", "bits16", "float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz",
              "float8_e8m0fnu", "float4_e2m1fn_x2", "uint16", "uint32", "uint64", "complex32", "bcomplex32"]
    tree = {}
    for name in names:
        if not hasattr(torch, name):
            continue
        try:  # not every dtype that PyTorch loads can it make and save
            tensor = raw.clone().view(getattr(torch, name))
            torch.save(tensor, io.BytesIO())
            tree[name] = tensor
        except (RuntimeError, NotImplementedError, TypeError, KeyError) as error:
            print(f"no {name} here: {error}")
    return tree


def storage_values():
    x = torch.arange(6, dtype=torch.int32)
    tree = {"typed": x.storage() if not hasattr(x, "_typed_storage") else x._typed_storage(), "view": x[2:4]}
    if hasattr(x, "untyped_storage"):
        tree["untyped"] = torch.ones(2).untyped_storage()
    return tree


def main():
    folder = os.path.join(sys.argv[1], f"torch-{RELEASE}")
    os.makedirs(folder, exist_ok=True)
    expected = {}

    def save(name, tree, protocol=2, refused=None):
        path = os.path.join(folder, name + ".pt")
        try:
            torch.save(tree, path, pickle_protocol=protocol)
        except Exception as error:  # this release cannot
            print(f"{name}: not saved: {error!r}")
            if os.path.exists(path):
                os.remove(path)
            return
        expected[name + ".pt"] = {"refused": refused} if refused else {"tree": Describer().node(tree)}

    for protocol in (2, 3, 4, 5):
        if RELEASE != "2.6":
            save(f"numpy{protocol}", numpy_values(), protocol)
        if RELEASE == "2.14":
            save(f"python{protocol}", python_values(), protocol)
    if RELEASE == "2.6":
        if hasattr(torch, "nested"):
            values, offsets = torch.arange(9.0).reshape(3, 3), torch.tensor([0, 2, 3])
            save("jagged", torch.nested.nested_tensor_from_jagged(values, offsets))
    else:
        save("sparse", sparse_values())
        save("quantized", quantized_values())
        save("attributes", attribute_values())
        save("storages", storage_values())
        save("refused_object", np.array([None, 1]), refused="objects")
        save("refused_structured", np.zeros(2, dtype=[("a", "<i4"), ("b", "<f8")]), refused="structured")
        save("refused_date", np.array(["2020-01-01"], dtype="M8[D]"), refused="dates")
        save("refused_permuted", np.zeros((2, 3, 4)).transpose(1, 0, 2), 5, refused="permuted") if RELEASE == "2.14" else None
        save("refused_frozenset", frozenset([1]), 4, refused="frozenset")
    if RELEASE == "2.14":
        save("subbyte", subbyte_values())
        save("bits", bit_values())
        save("nested", {"nested": torch.nested.nested_tensor([torch.ones(2, 3), torch.zeros(1, 3)])})
        save("meta", {"meta": torch.empty(2, 3, device="meta"), "parameter": torch.nn.Parameter(torch.empty(4, device="meta"))})
    with open(os.path.join(folder, "expected.json"), "w") as out:
        lines = [json.dumps({name: entry}, ensure_ascii=False, separators=(",", ":"))[1:-1] for name, entry in expected.items()]
        out.write("{" + ",\n".join(lines) + "}\n")


main()
