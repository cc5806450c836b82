"""Checkpoints that are large, or have very many tensors: constant memory in the server, whatever comes."""

import contextlib
import threading
import time

import pytest
import stubs
import torch

MIB = 1 << 20


@contextlib.contextmanager
def peak_memory(server):
    """Samples the server's own memory (RssAnon + RssShmem) while the block runs; yields a dict that gets `growth` at the end."""
    before = peak = server.own_memory_bytes()
    done, result = threading.Event(), {}

    def sample():
        nonlocal peak
        while not done.wait(0.02):
            peak = max(peak, server.own_memory_bytes())

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield result
    finally:
        done.set()
        sampler.join()
        result["growth"] = max(peak, server.own_memory_bytes()) - before


@pytest.fixture(scope="module")
def gibibyte(tmp_path_factory):
    """A checkpoint of 1 GiB: tensors of 64 MiB of random floats, no two alike."""
    path = tmp_path_factory.mktemp("gibibyte") / "big.pt"
    torch.save({"epoch": 1, "state": {f"layer{i}": torch.rand(16 * MIB) for i in range(16)}}, path)
    yield path
    path.unlink()


EXPORTS = {
    "export": {},
    "export as float16": {"cast": {"dtype": "float16"}},
    "export of safetensors": {"format": stubs.transfer.ExportCheckpointRequest.SAFETENSORS},
}


def export_bytes(server, request):
    name = "projects/default/runs/big/checkpoints/1"
    messages = server.stubs().transfer.ExportCheckpoint(stubs.transfer.ExportCheckpointRequest(name=name, **request), timeout=300)
    return sum(len(message.data) for message in messages)


def warm(server, sconce, tmp_path):
    """The allocator's and gRPC's own start-up costs are not what is measured: a small transfer goes first."""
    small = tmp_path / "small.pt"
    torch.save({"w": torch.rand(4 * MIB)}, small)
    sconce("push", small, "warm")
    sconce("pull", "warm@latest", "-o", tmp_path / "small_out.pt")


def test_a_gibibyte_moves_the_server_by_less_than_100_mib(server, sconce, gibibyte, tmp_path, record_property):
    warm(server, sconce, tmp_path)
    growths = {}
    with peak_memory(server) as push:
        began = time.monotonic()
        sconce("push", gibibyte, "big")
        push_seconds = time.monotonic() - began
    growths["push"] = push["growth"]
    out = tmp_path / "out.pt"
    with peak_memory(server) as fetch:
        began = time.monotonic()
        sconce("pull", "big@latest", "-o", out, "--map-location", "cpu")
        fetch_seconds = time.monotonic() - began
    growths["fetch"] = fetch["growth"]
    exported = {}
    for what, request in EXPORTS.items():
        with peak_memory(server) as export:
            exported[what] = export_bytes(server, request)
        growths[what] = export["growth"]
    print({k: f"{v / MIB:.1f} MiB" for k, v in growths.items()}, f"push {push_seconds:.2f} s, fetch {fetch_seconds:.2f} s")
    assert exported["export"] > 1 << 30 and exported["export of safetensors"] > 1 << 30
    assert 512 * MIB < exported["export as float16"] < 520 * MIB
    assert all(growth < 100 * MIB for growth in growths.values()), growths
    ours, theirs = torch.load(out), torch.load(gibibyte)
    assert all(torch.equal(ours["state"][k], v) for k, v in theirs["state"].items())
    out.unlink()


def test_import_of_a_gibibyte(server, rpc, sconce, gibibyte, tmp_path):
    warm(server, sconce, tmp_path)

    def messages():
        yield stubs.transfer.ImportCheckpointRequest(header={"push": {"parent": "projects/default/runs/imported"}})
        with open(gibibyte, "rb") as file:
            while piece := file.read(2 * MIB - 4096):
                yield stubs.transfer.ImportCheckpointRequest(data=piece)

    with peak_memory(server) as memory:
        made = rpc.transfer.ImportCheckpoint(messages(), timeout=300)
    print(f"import: {memory['growth'] / MIB:.1f} MiB")
    assert made.logical_bytes == 1 << 30
    assert memory["growth"] < 100 * MIB


def test_a_hundred_thousand_tensors(server, rpc, sconce, run, tmp_path):
    count = 100_000
    path, out = tmp_path / "many.pt", tmp_path / "out.pt"
    values = torch.arange(count, dtype=torch.float32)
    torch.save({"epoch": 2, "state": {f"layer{i}.weight": values[i : i + 1].clone() for i in range(count)}}, path)
    sconce("push", path, run)

    name = f"projects/default/runs/{run}/checkpoints/latest"
    seen, token, pages = [], "", 0
    while True:
        request = stubs.checkpoints.DescribeCheckpointRequest(name=name, page_size=1000, page_token=token)
        page = rpc.checkpoints.DescribeCheckpoint(request, timeout=60)
        if pages == 0:
            assert page.totals.tensor_count == count
            assert page.totals.storage_bytes == 4 * count
        assert len(page.entries) <= 1000
        seen += [entry.path for entry in page.entries if entry.type == "tensor"]
        pages, token = pages + 1, page.next_page_token
        if not token:
            break
    assert pages >= 100
    assert seen == [f"/state/layer{i}.weight" for i in range(count)]

    sconce("pull", f"{run}@latest", "-o", out)
    state = torch.load(out)["state"]
    assert torch.equal(torch.cat(list(state.values())), values)
    assert list(state) == [f"layer{i}.weight" for i in range(count)]
