"""Safetensors in and out, by the tool and by plain RPC; the safetensors library is the judge where it is installed."""

import hashlib
import json
import struct

import conftest
import grpc
import pytest
import torch

FOLDER = conftest.DATA / "safetensors"
FILES = [pytest.param(p, id=p.name) for p in sorted(FOLDER.glob("*.safetensors"))]


def parsed(path):
    """Name -> (dtype, shape, SHA-256 of the bytes), and the metadata, by nothing but the format's description."""
    file = path.read_bytes()
    (length,) = struct.unpack("<Q", file[:8])
    header = json.loads(file[8 : 8 + length])
    metadata = header.pop("__metadata__", None)
    data = file[8 + length :]
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        tensors[name] = (entry["dtype"], entry["shape"], hashlib.sha256(data[begin:end]).hexdigest())
    return tensors, metadata


@pytest.mark.parametrize("path", FILES)
def test_a_file_of_the_library_comes_back_byte_for_byte(path, sconce, run, tmp_path):
    sconce("push", path, run)
    out = tmp_path / "out.safetensors"
    sconce("pull", f"{run}@latest", "-o", out)
    assert out.read_bytes() == path.read_bytes()


@pytest.mark.parametrize("path", FILES)
def test_an_import_tells_the_format_by_content(path, rpc, sconce, run, tmp_path):
    rpc.import_file(run, path.read_bytes(), sha256="")
    out = tmp_path / "out"
    sconce("pull", f"{run}@latest", "--format", "safetensors", "-o", out)
    assert out.read_bytes() == path.read_bytes()


def test_a_state_dict_goes_out_as_safetensors(sconce, run, tmp_path):
    model = torch.nn.Sequential(torch.nn.Linear(700, 300), torch.nn.BatchNorm1d(300))
    path, out = tmp_path / "in.pt", tmp_path / "out.safetensors"
    torch.save({"model": model.state_dict(), "epoch": 3}, path)
    sconce("push", path, run)
    sconce("pull", f"{run}@latest", "--root", "/model", "-o", out)
    tensors, metadata = parsed(out)
    assert metadata is None
    assert set(tensors) == set(model.state_dict())
    for name, value in model.state_dict().items():
        assert tensors[name][1] == list(value.shape)
        assert tensors[name][2] == hashlib.sha256(value.numpy().tobytes()).hexdigest()


def test_what_the_format_cannot_hold_is_said(sconce, sconce_json, run, tmp_path):
    weight = torch.arange(600000, dtype=torch.float32).reshape(1000, 600)
    path, out = tmp_path / "in.pt", tmp_path / "out.safetensors"
    torch.save({"w": weight, "tied": weight.t(), "epoch": 3, "nothing": None}, path)
    sconce("push", path, run)
    said = sconce("pull", f"{run}@latest", "-o", out).stdout
    tensors, metadata = parsed(out)
    assert metadata == {"epoch": "3"}
    assert tensors["tied"] == ("F32", [600, 1000], hashlib.sha256(weight.t().contiguous().numpy().tobytes()).hexdigest())
    assert tensors["w"] == ("F32", [1000, 600], hashlib.sha256(weight.numpy().tobytes()).hexdigest())
    for words in ("shares its storage", "not contiguous", "1 scalar", "/nothing"):
        assert words in said


def test_a_safetensors_file_becomes_a_state_dict(sconce, run, tmp_path):
    out = tmp_path / "out.pt"
    sconce("push", FOLDER / "small.safetensors", run)
    sconce("pull", f"{run}@latest", "-o", out)
    loaded = torch.load(out)
    assert loaded.safetensors_metadata == {"format": "pt", "epoch": "3"}
    assert [(k, tuple(v.shape)) for k, v in loaded.items()] == [("empty", (0, 4)), ("scalar", ()), ("w", (3, 5)), ("b", (5,))]
    model = torch.nn.Module()
    model.w = torch.nn.Parameter(torch.zeros(3, 5))
    missing, unexpected = model.load_state_dict(loaded, strict=False)
    assert missing == [] and sorted(unexpected) == ["b", "empty", "scalar"]


def test_the_library_reads_what_comes_out(sconce, run, tmp_path):
    library = pytest.importorskip("safetensors.torch", reason="the safetensors library is not installed: pip install safetensors")
    safetensors = pytest.importorskip("safetensors")
    path, out = tmp_path / "in.pt", tmp_path / "out.safetensors"
    weight = torch.randn(300, 400)
    tree = {"a": {"w": weight, "t": weight.t(), "half": weight.half(), "i": torch.arange(9)}, "list": [torch.tensor(True)], "step": 7}
    torch.save(tree, path)
    sconce("push", path, run)
    sconce("pull", f"{run}@latest", "-o", out)
    loaded = library.load_file(str(out))
    assert set(loaded) == {"a.w", "a.t", "a.half", "a.i", "list.0"}
    for name in ("w", "t", "half", "i"):
        assert torch.equal(loaded[f"a.{name}"], tree["a"][name]) and loaded[f"a.{name}"].dtype == tree["a"][name].dtype
    assert loaded["list.0"].item() is True
    with safetensors.safe_open(str(out), framework="pt") as file:
        assert file.metadata() == {"step": "7"}
    # Written by the library from the same tensors, the file is the same.
    theirs = tmp_path / "theirs.safetensors"
    library.save_file({k: v.contiguous() for k, v in loaded.items()}, str(theirs), metadata={"step": "7"})
    assert theirs.read_bytes() == out.read_bytes()


def test_a_cast_goes_into_the_file(sconce, run, tmp_path):
    path, out, back = tmp_path / "in.pt", tmp_path / "out.safetensors", tmp_path / "back.pt"
    weight = torch.randn(600, 500)
    torch.save({"w": weight, "tied": weight, "t": weight.t(), "small": torch.randn(9), "i": torch.arange(9)}, path)
    sconce("push", path, run)
    sconce("pull", f"{run}@latest", "-o", out, "--dtype", "float16")
    assert out.stat().st_size < 3 * weight.numel() * 2 + 4096
    sconce("push", out, f"{run}-back")
    sconce("pull", f"{run}-back@latest", "-o", back)
    loaded = torch.load(back)
    assert set(loaded) == {"w", "tied", "t", "small", "i"}
    for name, expected in torch.load(path).items():
        wanted = expected.half() if expected.is_floating_point() else expected
        assert loaded[name].dtype == wanted.dtype and torch.equal(loaded[name], wanted), name


def test_a_damaged_record_is_never_stored(rpc, sconce, run, tmp_path):
    path = tmp_path / "in.pt"
    torch.save({"w": torch.zeros(100000)}, path)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    assert "CRC-32" in sconce("push", path, run, check=False).stderr
    with pytest.raises(grpc.RpcError) as failed:
        rpc.import_file(run, bytes(damaged), sha256="")
    assert failed.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert "CRC-32" in failed.value.details()
    shown = sconce("show", f"{run}@latest", check=False)
    assert shown.returncode != 0 and "NOT_FOUND" in shown.stderr
