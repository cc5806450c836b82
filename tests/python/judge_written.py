#!/usr/bin/python3
"""PyTorch judges torch files of every kind of value that Sconce's writer knows, made by hand (tests/tools/write_kinds.cc).

    judge_written.py WRITE_TOOL        makes the files first
    judge_written.py --files FOLDER    they are in FOLDER

Each is loaded plainly, and, by a PyTorch that has them, with weights_only=True and with mmap=True. Exits 77 without PyTorch.
"""

import os
import subprocess
import sys
import tempfile
import warnings

try:
    import numpy
    import torch
except ImportError as error:
    print(f"skipped: {error} (apt-get install python3-torch python3-numpy)")
    sys.exit(77)

VERSION = tuple(int(part) for part in torch.__version__.split("+")[0].split("a")[0].split(".")[:2])
NEW = VERSION >= (2, 6)  # the 2.x releases that are judged; else 1.13


class Mismatch(Exception):
    pass


def same(got, expected):
    if type(got) is not type(expected) or got != expected:
        raise Mismatch(f"{got!r}, expected {expected!r}")


def raw(storage):
    return storage.untyped_storage() if hasattr(storage, "untyped_storage") else storage.storage()


def share(one, other):
    same(raw(one).data_ptr() == raw(other).data_ptr(), True)


def coo(loaded):
    plain, again, values, parameter = loaded
    same(plain.layout, torch.sparse_coo)
    same(plain.is_coalesced(), False)
    same(plain.to_dense().tolist(), [[0.0, 0.0, 1.0], [2.0, 0.0, 3.0]])
    same(again is plain, True)
    share(plain._values(), values)
    same(type(parameter), torch.nn.Parameter)
    same(parameter.to_dense().tolist(), plain.to_dense().tolist())


def coo_flagged(loaded):
    coalesced, not_coalesced, values = loaded
    same([coalesced.is_coalesced(), not_coalesced.is_coalesced()], [True, False])
    share(coalesced._values(), values)
    share(not_coalesced._values(), values)
    same(coalesced.to_dense().tolist(), [[0.0, 0.0, 1.0], [2.0, 0.0, 3.0]])


def compressed(loaded):
    layouts = [torch.sparse_csr, torch.sparse_csc, torch.sparse_bsr, torch.sparse_bsc]
    same([t.layout for t in loaded], layouts)
    for t in loaded:
        same((t.dtype, t.shape), (torch.float64, torch.Size([2, 2])))
        rows = t.layout in (torch.sparse_csr, torch.sparse_bsr)
        parts = (t.crow_indices(), t.col_indices()) if rows else (t.ccol_indices(), t.row_indices())
        same([p.tolist() for p in parts] + [t.values().flatten().tolist()], [[0, 1, 2], [1, 0], [5.0, 6.0]])


def quantized(loaded):
    per_tensor, per_channel, float_qparams, wide, scales, again, parameter = loaded
    same((per_tensor.dtype, per_tensor.qscheme(), per_tensor.q_scale(), per_tensor.q_zero_point()),
         (torch.quint8, torch.per_tensor_affine, 0.5, 3))
    same(per_tensor.int_repr().tolist(), [[0, 1], [2, 255]])
    same(again is per_tensor, True)
    same((per_channel.dtype, per_channel.qscheme(), per_channel.q_per_channel_axis()), (torch.qint8, torch.per_channel_affine, 0))
    same(per_channel.q_per_channel_scales().tolist(), [0.25, 2.0])
    same(per_channel.q_per_channel_zero_points().tolist(), [1, -1])
    same(per_channel.int_repr().tolist(), [[0, 1], [2, -1]])
    same(scales.tolist(), [0.25, 2.0])
    same((float_qparams.qscheme(), float_qparams.q_per_channel_axis()), (torch.per_channel_affine_float_qparams, 1))
    same(float_qparams.q_per_channel_zero_points().tolist(), [0.5, -1.0])
    same(float_qparams.int_repr().tolist(), [[9, 8], [7, 6]])
    same((wide.dtype, wide.int_repr().tolist()), (torch.qint32, [-70000]))
    same((type(parameter), parameter.requires_grad, parameter.int_repr().tolist()),
         (torch.nn.Parameter, False, [[0, 1], [2, 255]]))


def nested(loaded):
    tensor, buffer = loaded
    same(tensor.is_nested, True)
    same([t.tolist() for t in tensor.unbind()], [[1.0, 2.0], [3.0, 4.0, 5.0]])
    share(tensor.unbind()[0], buffer)


def jagged(loaded):
    tensor, again, values = loaded
    same((tensor.layout, tensor.mark, again is tensor), (torch.jagged, 1, True))
    same([t.tolist() for t in tensor.unbind()], [[[1.0], [2.0]], [[3.0]]])
    share(tensor.values(), values)


def attributes(loaded):
    marked, again, tensor, two_part, parameter, sparse, note = loaded
    same((type(marked), marked.tolist(), marked.mark), (torch.Tensor, [1.0, 2.0], ["note"]))
    same([marked.mark is note, again is marked], [True, True])
    same(hasattr(tensor, "mark"), False)
    same(two_part.mark, 2)
    same(type(parameter), torch.nn.Parameter)
    for other in (marked, two_part, parameter):
        share(other, tensor)
    same((sparse.layout, sparse.mark, sparse.to_dense().tolist()), (torch.sparse_coo, 3, [0.0, 0.0, 0.0, 7.0]))


def state(loaded):
    same([type(p) for p in loaded], [torch.nn.Parameter] * 2)
    same([p.mark for p in loaded], [1, 2])
    same([p.tolist() for p in loaded], [[1.0, 2.0]] * 2)


def counting(storage, size):
    return (numpy.arange(size, dtype=numpy.int64) * 7 + storage).astype(numpy.uint8)


def numpy_values(loaded):
    def same_value(got, expected):
        same((type(got), got.dtype, got.shape), (type(expected), expected.dtype, expected.shape))
        same(got.tobytes("A"), expected.tobytes("A"))
        same((got.flags.c_contiguous, got.flags.f_contiguous), (expected.flags.c_contiguous, expected.flags.f_contiguous))

    scalars = [numpy.float64(2.5), numpy.float64(2.5), numpy.bool_(True), numpy.datetime64("2020-01-01"), numpy.timedelta64(4, "25s"),
               numpy.str_("a中"), numpy.bytes_(b"xyz"), numpy.void(b"\1\2"), numpy.dtype(">i4").type(256), numpy.complex128(1 - 2j)]
    same(len(loaded["scalars"]), len(scalars))
    for got, expected in zip(loaded["scalars"], scalars):
        same((type(got), got.dtype.newbyteorder("=")), (type(expected), expected.dtype.newbyteorder("=")))
        same(bool(got == expected), True)
    same(loaded["scalars"][0] is loaded["scalars"][1], True)
    same_value(loaded["array"], numpy.array([[1, 3, 5], [2, 4, 6]], numpy.float32, order="F"))
    same(loaded["again"] is loaded["array"], True)
    same_value(loaded["big-endian"], numpy.array([1, 256], numpy.int16))  # numpy makes it native
    same_value(loaded["empty"], numpy.zeros((0, 4), numpy.int64))
    same_value(loaded["none"], numpy.array(-5))
    same_value(loaded["text"], numpy.array(["b", "c"]))
    same_value(loaded["dates"], numpy.array(["1970-01-01", "NaT"], "M8[ns]"))
    same_value(loaded["inline"], numpy.array([0, 127, 128, 255], numpy.uint8))
    same_value(loaded["bulk"], counting(1, 300_000).reshape(300, 1000))
    same_value(loaded["bulk again"], counting(1, 300_000).view("<u2"))
    same_value(loaded["bulk too"], counting(2, 70_000))
    same(loaded[numpy.float64(2.5)], "a key")
    loaded["array"] += 1  # arrays that can be written to


def storages(loaded):
    bare, ints, floats, words, untyped, tail, halves_bare, halves, half_words = loaded
    same((bare.dtype, list(bare)), (torch.float32, [1.0, 2.0]))
    same((floats.dtype, floats.tolist()), (torch.float32, [1.0, 2.0]))
    same((ints.dtype, ints.tolist()), (torch.int32, [0x3F800000, 0x40000000]))
    same((words.dtype, words.int().tolist()), (torch.uint16, [0, 0x3F80, 0, 0x4000]))
    for tensor in (ints, words):
        share(tensor, floats)
    same(floats.data_ptr(), bare.data_ptr())
    same((untyped.dtype, bytes(untyped.untyped())), (torch.uint8, b"xxxxxxx"))
    same((tail.dtype, tail.data_ptr()), (torch.int16, untyped.data_ptr()))
    same((halves.tolist(), halves_bare.dtype), ([1.0, 2.0], torch.uint8))
    share(halves, half_words)
    same(halves.data_ptr(), halves_bare.data_ptr())


def bits(loaded):
    plain, conj, both, half, half_conj, floats, negative, _, meta = loaded
    same([(t.is_conj(), t.is_neg()) for t in loaded],
         [(False, False), (True, False), (True, True), (False, False), (True, False), (False, False), (False, True), (False, False), (True, False)])
    same([plain.tolist(), conj.tolist(), both.tolist(), negative.tolist()],
         [[1 + 2j, 3 + 4j], [1 - 2j, 3 - 4j], [-1 + 2j, -3 + 4j], [-1.0, -2.0]])
    same((half.dtype, torch.view_as_real(half).tolist()), (torch.complex32, [[1.0, 2.0]]))
    share(negative, floats)
    for tensor in (conj, both):
        share(tensor, plain)
    share(half_conj, half)
    same((meta.device.type, meta.shape), ("meta", torch.Size([2])))


def devices(loaded):
    floats, ints, parameter = loaded
    same([t.device.type for t in loaded], ["cpu"] * 3)  # the judge has no such devices: the reader maps them
    same((floats.dtype, floats.tolist()), (torch.float32, [1.0, 2.0]))
    same((ints.dtype, ints.tolist()), (torch.int16, [[3, -4]]))
    same((type(parameter), parameter.tolist()), (torch.nn.Parameter, [1.0, 2.0]))


# name: (check, whether PyTorch 1.13 has the functions)
FILES = {
    "coo": (coo, True),
    "coo_flagged": (coo_flagged, False),
    "compressed": (compressed, False),
    "quantized": (quantized, True),
    "nested": (nested, False),
    "jagged": (jagged, False),
    "attributes": (attributes, False),
    "state": (state, False),
    "numpy": (numpy_values, True),
    "storages": (storages, False),
    "bits": (bits, False),
    "devices": (devices, False),
}


def safe_numpy():
    """What the weights-only loader must be told to take numpy values, under the names in our files."""
    from numpy.core import multiarray

    kinds = [type(numpy.dtype(kind)) for kind in ("f4", "f8", "b1", "i2", "i4", "i8", "u1", "u2", "c16", "M8", "m8", "U1", "S1", "V1")]
    functions = [(getattr(multiarray, name), f"numpy.core.multiarray.{name}") for name in ("_reconstruct", "scalar")]
    return torch.serialization.safe_globals([numpy.ndarray, numpy.dtype, *kinds, *functions])


def ways_of_loading(name, path):
    if name == "devices":
        yield "with weights_only and mapped to the CPU", lambda: torch.load(path, weights_only=True, map_location="cpu")
        return
    yield "plainly", lambda: torch.load(path, **({"weights_only": False} if NEW else {}))
    if not NEW:
        return
    if name == "numpy":
        def with_safe_globals():
            with safe_numpy():
                return torch.load(path, weights_only=True)

        yield "with safe_globals", with_safe_globals
        return
    yield "with weights_only", lambda: torch.load(path, weights_only=True)
    yield "mapped", lambda: torch.load(path, weights_only=True, mmap=True)


def judge(folder):
    wrong = count = 0
    for name, (check, is_old) in FILES.items():
        if not (NEW or is_old):
            continue
        for way, load in ways_of_loading(name, os.path.join(folder, name + ".pt")):
            count += 1
            try:
                check(load())
            except Exception as error:  # whatever a wrong tree does to a check
                wrong += 1
                print(f"{name}.pt, loaded {way} by PyTorch {torch.__version__}: {type(error).__name__}: {str(error)[:400]}")
    print(f"{count} loads, {wrong} wrong, by PyTorch {torch.__version__}")
    return 1 if wrong or not count else 0


def main():
    warnings.simplefilter("ignore")
    if sys.argv[1] == "--files":
        return judge(sys.argv[2])
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.argv[1], folder], check=True)
        return judge(folder)


if __name__ == "__main__":
    sys.exit(main())
