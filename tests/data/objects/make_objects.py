#!/usr/bin/env python3
"""Writes the files beside it, with PyTorch 2.14 or newer: what torch.load(weights_only=True) takes beside tensors and plain values, because
PyTorch itself adds it to its list: classes, exceptions, stack traces, mesh layouts; and, once torch.distributed.tensor, torch.nested and
torch._dynamo are imported, DTensors with all that they consist of, and jagged tensors with dynamic ranges."""

import collections
import os
import traceback

import torch
import torch._dynamo
import torch.distributed as dist
import torch.distributed.tensor as dtensor
from torch.distributed._mesh_layout import _FlatLayout, _MeshLayout
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor._dtensor_spec import ShardOrderEntry, TensorMeta
from torch.distributed.tensor.placement_types import _StridedShard


def exceptions():
    noted = ValueError("bad", 3)
    noted.add_note("a note")
    try:
        1 / 0
    except ZeroDivisionError as error:
        raised = error
    return [noted, raised, OSError(2, "none"), UnicodeDecodeError("utf8", b"ab", 0, 1, "odd"), ExceptionGroup("g", [ValueError(1)]), KeyError("k"),
            StopIteration(5), SystemExit(3), ImportError("x", name="n"), SyntaxError("m", ("f", 1, 2, "t")), NameError("x", name="n"), KeyboardInterrupt()]


def main():
    dist.init_process_group("gloo", rank=0, world_size=1, store=dist.HashStore())
    mesh = init_device_mesh("cpu", (1,), mesh_dim_names=("data",))
    whole = torch.arange(6.0).reshape(2, 3)
    sharded = dtensor.distribute_tensor(whole, mesh, [dtensor.Shard(0)])
    jagged = torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(4, 3)], layout=torch.jagged)
    torch._dynamo.mark_dynamic(jagged, 1, min=2, max=10)
    frames = [("train.py", 3, "main", "step()"), ("train.py", 1, "<module>", "main()")]
    files = {
        "classes": [torch.Tensor, torch.Size, torch.device, torch.nn.Parameter, collections.OrderedDict, collections.Counter, set, complex, bytearray,
                    torch.FloatTensor, torch.sparse.FloatTensor, torch.cuda.HalfTensor, torch.storage.UntypedStorage, torch.storage.TypedStorage,
                    torch.FloatStorage, torch.cuda.HalfStorage, torch._utils._rebuild_tensor_v2, ValueError, {torch.Tensor: "a key", torch.float16: 1}, {set}],
        "exceptions": exceptions(),
        "traces": [traceback.StackSummary.from_list(frames), traceback.StackSummary.from_list(frames)[0], traceback.StackSummary()],
        "mesh_layouts": [_FlatLayout((2, 3)), _MeshLayout((_FlatLayout((2, 3)), _FlatLayout((4,))))],
        "dtensors": {"sharded": sharded, "again": sharded, "local": sharded.to_local(),
                     "parameter": torch.nn.Parameter(dtensor.distribute_tensor(whole, mesh, [dtensor.Replicate()])), "mesh": mesh,
                     "parts": [dtensor.Shard(1), dtensor.Replicate(), dtensor.Partial("sum"), _StridedShard(0, split_factor=2), ShardOrderEntry(0, (1,)),
                               TensorMeta(torch.Size([2]), (1,), torch.float32)]},
        "jagged_ranges": [jagged],
    }
    for name, value in files.items():
        torch.save(value, os.path.join(os.path.dirname(os.path.abspath(__file__)), f"{name}.pt"))


if __name__ == "__main__":
    main()
