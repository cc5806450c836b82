"""Dtype casts on the way out: what PyTorch loads is what its own `.to(dtype)` gives; ties stay, integers and bool are not touched."""

import pytest
import torch


def saved(path):
    base = torch.randn(3000) * 100
    state = {
        "w": torch.nn.Parameter(base),
        "tied": base[10:40].reshape(5, 6).t(),
        "small": torch.randn(5),
        "double": torch.randn(700, dtype=torch.float64),
        "steps": torch.arange(500),
        "mask": torch.tensor([True, False]),
    }
    torch.save({"model": state, "lr": 0.1}, path)
    return state


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_pulled_tensors_are_what_to_gives(sconce, run, tmp_path, dtype):
    state = saved(tmp_path / "in.pt")
    sconce("push", tmp_path / "in.pt", run)
    out = tmp_path / "out.pt"
    sconce("pull", f"{run}@latest", "-o", out, "--dtype", dtype)
    loaded = torch.load(out)
    model = loaded["model"]
    assert loaded["lr"] == 0.1
    for name, tensor in state.items():
        wanted = tensor.to(getattr(torch, dtype)) if tensor.is_floating_point() else tensor
        assert model[name].dtype == wanted.dtype and torch.equal(model[name], wanted), name
        assert model[name].stride() == tensor.stride(), name
    assert isinstance(model["w"], torch.nn.Parameter)
    assert model["tied"].storage().data_ptr() == model["w"].storage().data_ptr()


def test_patterns_and_what_is_said(sconce, run, tmp_path):
    saved(tmp_path / "in.pt")
    sconce("push", tmp_path / "in.pt", run)
    out = tmp_path / "out.pt"
    result = sconce("pull", f"{run}@latest", "-o", out, "--dtype", "float16", "--dtype", "/model/small=keep", "--dtype", "/model/d*=bfloat16")
    model = torch.load(out)["model"]
    assert [model[k].dtype for k in ("w", "tied", "small", "double")] == [torch.float16, torch.float16, torch.float32, torch.bfloat16]
    assert "float64 -> bfloat16: 1 storage" in result.stdout + result.stderr
