"""Device tags on the way out: what torch.load finds in the file, which storages were mapped, and what is refused."""

import io
import re

import grpc
import judge
import pytest
import stubs
import torch
from torch import serialization


@pytest.fixture
def mixed(rpc, run):
    """A checkpoint with storages on several devices. Only the tags differ from one without a GPU, so it is made by writing them."""
    tensors = {name: torch.full((300,), float(number)) for number, name in enumerate(["first", "second", "third", "fourth"])}
    tensors["view_of_first"] = tensors["first"][10:20]
    made = rpc.import_file(run, tagged({"net": tensors, "epoch": 3}, ["cuda:0", "cuda:1", "cpu", "mps"]))
    return made.name


def tagged(value, tags):
    """torch.save, with the storages' tags replaced in order of their appearance."""
    left, given, original = list(tags), {}, serialization.location_tag

    def location_tag(storage):
        return given.setdefault(storage._cdata, left.pop(0) if storage._cdata not in given and left else "cpu")

    file = io.BytesIO()
    serialization.location_tag = location_tag
    try:
        torch.save(value, file)
    finally:
        serialization.location_tag = original
    return file.getvalue()


def tags_of(rpc, tmp_path, name, **mapping):
    out = tmp_path / "mapped.pt"
    out.write_bytes(rpc.export_file(name, device_mapping=mapping) if mapping else rpc.export_file(name))
    return list(judge.device_tags(out).values()), out


def refusal(rpc, name, **request):
    with pytest.raises(grpc.RpcError) as error:
        rpc.export_file(name, **request)
    return stubs.reason_of(error.value), error.value.details()


def test_tags_stay_without_a_mapping(rpc, mixed, tmp_path):
    assert tags_of(rpc, tmp_path, mixed)[0] == ["cuda:0", "cuda:1", "cpu", "mps"]


def test_one_device(rpc, mixed, tmp_path):
    tags, out = tags_of(rpc, tmp_path, mixed, device="cpu")
    assert tags == ["cpu"] * 4
    loaded = torch.load(out)  # no map_location: this machine needs no GPU for it
    assert loaded["epoch"] == 3
    assert torch.equal(loaded["net"]["second"], torch.full((300,), 1.0))
    assert loaded["net"]["view_of_first"].storage().data_ptr() == loaded["net"]["first"].storage().data_ptr()


def test_remap_table(rpc, mixed, tmp_path):
    tags, _ = tags_of(rpc, tmp_path, mixed, remap={"cuda:0": "cuda:1", "cuda:1": "cuda:0"})
    assert tags == ["cuda:1", "cuda:0", "cpu", "mps"]


def test_rules_come_before_the_table_and_the_table_before_the_device(rpc, mixed, tmp_path):
    tags, _ = tags_of(
        rpc, tmp_path, mixed,
        rules=[{"pattern": "/net/*first", "device": "cuda:7"}], remap={"mps": "cpu"}, device="cuda:5",
    )
    assert tags == ["cuda:7", "cuda:5", "cuda:5", "cpu"]


def test_fallback_for_devices_the_reader_lacks(rpc, mixed, tmp_path):
    tags, _ = tags_of(rpc, tmp_path, mixed, available=["cpu", "cuda:0"], fallback="cpu")
    assert tags == ["cuda:0", "cpu", "cpu", "cpu"]


def test_the_answer_lists_what_was_mapped(rpc, mixed):
    request = stubs.transfer.ExportCheckpointRequest(name=mixed, device_mapping={"available": ["cpu", "cuda:0"], "fallback": "cpu"})
    header = next(iter(rpc.transfer.ExportCheckpoint(request, timeout=30))).header
    rows = {(getattr(m, "from"), m.to): m for m in header.mapped_devices}
    assert rows[("cuda:1", "cpu")].fell_back
    assert rows[("cuda:1", "cpu")].storage_count == 1
    assert rows[("cuda:1", "cpu")].size_bytes == 1200
    assert rows[("cuda:1", "cpu")].first_path == "/net/second"
    assert rows[("mps", "cpu")].fell_back


def test_without_a_fallback_it_is_refused(rpc, mixed):
    reason, sentence = refusal(rpc, mixed, device_mapping={"available": ["cpu"]})
    assert reason[:2] == ("FAILED_PRECONDITION", "DEVICE_UNAVAILABLE")
    assert "cuda:0" in sentence


@pytest.mark.parametrize("device", ["gpu0", "cuda:x", "cuda:-1", "cpu:"])
def test_what_torch_would_not_take_is_refused(rpc, mixed, device):
    reason, sentence = refusal(rpc, mixed, device_mapping={"device": device})
    assert reason[:2] == ("INVALID_ARGUMENT", "DEVICE_INVALID")
    assert device in sentence


def test_rules_that_split_a_storage_are_refused_naming_both_paths(rpc, mixed):
    rules = [{"pattern": "/net/first", "device": "cuda:0"}, {"pattern": "/net/view_of_first", "device": "cpu"}]
    reason, sentence = refusal(rpc, mixed, device_mapping={"rules": rules})
    assert reason[:2] == ("INVALID_ARGUMENT", "DEVICE_RULE_SPLITS_STORAGE")
    assert "/net/first" in sentence and "/net/view_of_first" in sentence


def test_one_branch(rpc, mixed, tmp_path):
    out = tmp_path / "branch.pt"
    out.write_bytes(rpc.export_file(mixed, selection={"root": "/net", "include": ["/second", "/third"]}, device_mapping={"device": "cpu"}))
    assert list(torch.load(out)) == ["second", "third"]
    assert refusal(rpc, mixed, selection={"root": "/nett"})[0][:2] == ("NOT_FOUND", "PATH_NOT_FOUND")


def test_describing_a_part_as_it_would_be_mapped(rpc, mixed):
    request = stubs.checkpoints.DescribeCheckpointRequest(
        name=mixed, selection={"root": "/net", "exclude": ["/f*"]}, device_mapping={"device": "cpu"}
    )
    answer = rpc.checkpoints.DescribeCheckpoint(request, timeout=10)
    assert [(one.path, one.device) for one in answer.entries if one.type == "tensor"] == [
        ("/second", "cpu"), ("/third", "cpu"), ("/view_of_first", "cpu"),
    ]
    assert answer.totals.tensor_count == 3
    assert {getattr(m, "from") for m in answer.mapped_devices} == {"cuda:0", "cuda:1"}


def test_the_tool_maps_too(server, rpc, mixed, run, tmp_path):
    out = tmp_path / "out.pt"
    result = server.sconce("pull", f"{run}@latest", "-o", out, "--map-location", "cpu")
    assert set(judge.device_tags(out).values()) == {"cpu"}
    assert re.search(r"cuda:0.*cpu", result.stdout + result.stderr), "it says what it mapped"
    out2 = tmp_path / "out2.pt"
    server.sconce("pull", f"{run}@latest", "-o", out2, "--map-location", "cpu", "--only", "/net/second")
    assert "second" in torch.load(out2)["net"] and "first" not in torch.load(out2)["net"]
