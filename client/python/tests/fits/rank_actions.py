"""What the ranks of test_distributed.py do, and the state that they share by its seed."""

import collections
import os

import numpy
import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from sconce.distributed import SconceReader, SconceWriter
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor, Replicate, Shard


def whole_tensors():
    """The tensors of the state, whole. One row, or five, do not go evenly into the ranks, or not at all."""
    torch.manual_seed(7)
    made = {
        "rows": torch.rand(1000, 300),
        "columns": torch.rand(64, 50),
        "uneven": torch.rand(5, 700),
        "one row": torch.rand(1, 900),
        "replicated": torch.rand(400),
        "half": torch.rand(333, 10).to(torch.bfloat16),
        "flags": torch.rand(3001) > 0.5,
        "nothing": torch.empty(0, 4),
        "complex": torch.rand(70, 4, dtype=torch.complex64),
    }
    return made


PLACEMENTS = {"columns": 1, "complex": 0, "rows": 0, "uneven": 0, "one row": 0, "half": 0}
VALUES = {
    "step": 1000,
    "epoch": 3,
    "loss": 0.25,
    "name": "a run",
    "nothing": None,
    "scale": numpy.float64(1.5),
    "betas": (0.9, 0.99),
    "history": [1, 2.5, "three"],
    "groups": [{"lr": 0.1, "betas": (0.9, 0.999), "params": [0, 1]}, {"lr": 0.01, "betas": (0.8, 0.9), "params": []}],
}


def distribute(tensor, placement):
    """A tensor, which all ranks have, as one that is distributed over them. Without gloo, which cannot move all dtypes."""
    local = piece_of(tensor, placement).clone()
    mesh = init_device_mesh("cpu", (dist.get_world_size(),))
    return DTensor.from_local(local, mesh, [placement], run_check=False, shape=tensor.shape, stride=tensor.stride())


def piece_of(tensor, placement):
    """What this rank has of a distributed tensor."""
    if not placement.is_shard():
        return tensor
    pieces = tensor.chunk(dist.get_world_size(), placement.dim)
    return pieces[dist.get_rank()] if dist.get_rank() < len(pieces) else tensor.narrow(placement.dim, 0, 0)


def state(axis_of, fill=None):
    """The state dict as this rank has it; `fill`: in place of the values of the tensors."""
    model = collections.OrderedDict()
    for name, tensor in whole_tensors().items():
        if fill is not None:
            tensor = torch.full_like(tensor, fill)
        if name in axis_of:
            tensor = distribute(tensor, Shard(axis_of[name]))
        elif name == "replicated":
            tensor = distribute(tensor, Replicate())
        model[name] = tensor
    listed = [torch.arange(600.0).reshape(20, 30).t(), torch.ones(3)]
    if fill is not None:
        listed = [torch.full_like(tensor, fill) for tensor in listed]
    return {"model": model, "listed": listed, **(VALUES if fill is None else {name: _empty(value) for name, value in VALUES.items()})}


def _empty(value):
    """Of the same shape, without the values."""
    if isinstance(value, dict):
        return {key: _empty(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_empty(each) for each in value]
    return None


def _same(loaded, expected):
    if isinstance(loaded, DTensor):
        loaded, expected = loaded.to_local(), piece_of(expected, loaded.placements[0])
    assert loaded.dtype == expected.dtype and torch.equal(loaded, expected), (loaded, expected)


def check(loaded):
    """That a state dict has all that was saved."""
    for name, expected in whole_tensors().items():
        _same(loaded["model"][name], expected)
    for one, expected in zip(loaded["listed"], (torch.arange(600.0).reshape(20, 30).t(), torch.ones(3))):
        _same(one, expected)
    values = {name: value for name, value in loaded.items() if name in VALUES}
    assert values == VALUES, values


def save(run, rank):
    writer = SconceWriter(run, aliases=["saved"])
    dcp.save(state(PLACEMENTS), storage_writer=writer)
    assert (writer.checkpoint is not None) == (rank == 0)


def save_later(run, _):
    saved = dcp.async_save(state(PLACEMENTS), storage_writer=SconceWriter(run))
    saved.result()


def save_rows_only(run, _):
    dcp.save({"rows": state(PLACEMENTS)["model"]["rows"]}, storage_writer=SconceWriter(run))


def load(run, _):
    loaded = state(PLACEMENTS, fill=0)
    dcp.load(loaded, storage_reader=SconceReader(run))
    check(loaded)
    # And other pieces than any rank saved.
    loaded = state({"rows": 1, "columns": 0, "uneven": 1, "complex": 1}, fill=0)
    dcp.load(loaded, storage_reader=SconceReader(run, 1))
    check(loaded)


def refuse(run, rank):
    """One rank has what cannot be stored: no rank saves."""
    refused = {"value": object() if rank == 0 else None, "rows": state(PLACEMENTS)["model"]["rows"]}
    try:
        dcp.save(refused, storage_writer=SconceWriter(run))
    except dcp.api.CheckpointException as error:
        assert "/value: object" in str(error.failures[0]), error.failures
    except TypeError as error:  # PyTorch 2.6 cannot tell the others of an error where Python is 3.13
        assert "cannot pickle code objects" in str(error)
        os._exit(0)
    except RuntimeError:  # the other one is gone, as above
        os._exit(0)
    else:
        raise AssertionError("it was saved")


def _model():
    torch.manual_seed(3)
    model = torch.nn.Sequential(torch.nn.Linear(40, 60), torch.nn.ReLU(), torch.nn.Linear(60, 7))
    return model


def _train(model, optimizer):
    torch.manual_seed(4)
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.rand(16, 40)).square().sum().backward()
        optimizer.step()


def save_fsdp(run, rank):
    from torch.distributed.checkpoint.state_dict import get_state_dict
    from torch.distributed.fsdp import fully_shard

    model = fully_shard(_model(), mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    _train(model, optimizer)
    model_state, optimizer_state = get_state_dict(model, optimizer)
    dcp.save({"model": model_state, "optim": optimizer_state}, storage_writer=SconceWriter(run, step=3))
    whole = {name: tensor.full_tensor() for name, tensor in model_state.items()}
    if rank == 0:
        run.save(whole, labels={"whole": "yes"})


def load_fsdp(run, _):
    """In a plain model, or one that is sharded over another number of ranks; training goes on from there."""
    from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
    from torch.distributed.fsdp import fully_shard

    model = _model()
    if dist.get_world_size() > 1:
        model = fully_shard(model, mesh=init_device_mesh("cpu", (dist.get_world_size(),)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.5)
    model_state, optimizer_state = get_state_dict(model, optimizer)
    loaded = {"model": model_state, "optim": optimizer_state}
    dcp.load(loaded, storage_reader=SconceReader(run, 1))
    set_state_dict(model, optimizer, model_state_dict=loaded["model"], optim_state_dict=loaded["optim"])
    assert optimizer.param_groups[0]["lr"] == 0.01
    for name, expected in run.load(2).items():
        _same(model.state_dict()[name], expected)
    _train(model, optimizer)
    assert all(entry["step"] == 6 for entry in optimizer.state.values())
