#!/usr/bin/python3
"""What torch.save of this machine's PyTorch writes, for every kind of value that a torch file can hold today: rewritten by Sconce it must
load as the same tree, with the same things shared.

    judge_kinds.py REWRITE_TOOL          exits 77 without PyTorch
"""

import collections
import os
import pickle
import subprocess
import sys
import tempfile

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "support"))
try:
    import torch
    import judge
except ImportError as error:
    print(f"skipped: {error} (apt-get install python3-torch python3-numpy)")
    sys.exit(77)


def kinds():
    torch.manual_seed(1)
    shared = ["shared"]
    tensor = torch.randn(4, 5)
    ordered = collections.OrderedDict(b=shared, a=tensor)
    ordered._metadata = collections.OrderedDict({"": {"version": 2}})
    parameter = torch.nn.Parameter(tensor[1])
    parameter.mark = {"kept": (1, 2)}
    complexes = torch.randn(3, 3, dtype=torch.complex64)
    yield "scalars", [None, True, False, 0, -1, 255, 256, 65536, -(2**31), 2**31, 2**63 - 1, -(2**63), 2**63, -(2**100), 1 << 3000]
    yield "floats", [0.0, -0.0, 1e308, 5e-324, float("inf"), complex(1, -0.0)]
    yield "texts", ["", "é中😀", "\ud800", "x" * 70000, b"", b"\0\xff", b"x" * 70000, bytearray(), bytearray(b"\0\xfe")]
    yield "sets", [set(), {1, "a", (1, 2), None, 1.5, b"b"}, collections.Counter(), collections.Counter("abca")]
    yield "tuples", [(), (1,), (1, 2, 3), (1, 2, 3, 4, 5), torch.Size([]), torch.Size([2, 3, 4, 5])]
    yield "torch", [torch.bfloat16, torch.device("cuda", 1), torch.device("cpu"), torch.strided, torch.sparse_coo, torch.per_tensor_affine]
    yield "keys", {1: "int", "1": "str", None: 0, (1, ("a",)): 2, b"k": 3, 2.5: 4, True and "t": 5, torch.float32: 6}
    yield "shared", [shared, shared, ordered, ordered, tensor, tensor, tensor.t(), tensor[2:, ::2], parameter, parameter]
    yield "bits", [complexes, complexes.conj(), torch._neg_view(tensor), complexes.conj().t()]
    yield "grad", [torch.ones(2, requires_grad=True), torch.nn.Parameter(torch.ones(2), requires_grad=False)]
    yield "views", [tensor.expand(3, 4, 5), torch.empty(0, 3), torch.tensor(5), tensor[:0], torch.zeros(1).expand(1000)]
    yield "storages", [torch.FloatStorage(3).fill_(1.5), tensor.storage(), tensor]
    yield "long list", list(range(5000))
    yield "long dict", {f"layer.{i}": i for i in range(5000)}
    yield "nested", [[[[[[{"a": {"b": [(((),),)]}}]]]]]]


def main():
    tool = sys.argv[1]
    wrong = count = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, value in kinds():
            for protocol in range(2, min(pickle.HIGHEST_PROTOCOL, 5) + 1):
                count += 1
                original, written = os.path.join(folder, "original.pt"), os.path.join(folder, "written.pt")
                torch.save(value, original, pickle_protocol=protocol)
                subprocess.run([tool, original, written], check=True)
                expected, got = (judge._Describer().describe(load(path)) for path in (original, written))
                if got != expected:
                    wrong += 1
                    print(f"{name}, protocol {protocol}:\n  {str(got)[:2000]}\nexpected\n  {str(expected)[:2000]}")
    print(f"{count} files, {wrong} wrong, by PyTorch {torch.__version__}")
    return 1 if wrong else 0


def load(path):
    # These are our own files; the weights-only loader of old releases lacks some of the kinds.
    plain = {"weights_only": False} if hasattr(torch.serialization, "safe_globals") else {}
    return torch.load(path, map_location="cpu", **plain)


if __name__ == "__main__":
    sys.exit(main())
