"""Every checkpoint by a real PyTorch release goes in and comes out equal, by the tool and by plain RPC; what is no data is refused."""

import json
import os
import pathlib

import conftest
import grpc
import judge
import pytest
import stubs

SHARED = conftest.shared_fixtures()
ARCHIVES = {"bnnet_scripted_train_mode.pt", "bnnet_traced.pt"}
REFUSED = {"whole_model.pt": "TheModelClass", "evil_system.pt": "posix.system"}


def files():
    found = [p for p in sorted(conftest.DATA.iterdir()) if p.suffix in (".pt", ".pth", ".tar")]
    for release in ("torch-1.13", "torch-2.6", "torch-2.14"):
        if SHARED:
            found += [p for p in sorted((SHARED / release).iterdir()) if p.suffix != ".json"]
    return found


def label(path):
    return f"{path.parent.name}/{path.name}"


def some(names):
    return [pytest.param(p, id=label(p)) for p in files() if p.name in names]


CHECKPOINTS = [pytest.param(p, id=label(p)) for p in files() if p.name not in ARCHIVES | set(REFUSED)]


def description(path):
    """What torch sees, or None where Debian 12's torch cannot read what a newer one wrote."""
    try:
        return judge.described(path)
    except (AttributeError, ValueError):
        return None


def tags_in_order(path):
    return list(judge.device_tags(path).values())


def assert_same(path, out):
    if path.name == "sparse.pt" and judge.VERSION < (2, 0):
        return  # of compressed tensors no file is for both 1.13 and 2.x, for which ours are; test_judge.py shows them to 2.x
    expected = description(path)
    if expected is not None:
        assert judge.described(out) == expected
    if path.name not in ("no_crc.pt", "legacy_general.pt"):  # Python's zipfile refuses CRC fields of 0; the other is no zip
        assert tags_in_order(out) == tags_in_order(path)


@pytest.mark.parametrize("path", CHECKPOINTS)
def test_tool_round_trip(path, sconce, sconce_json, run, tmp_path):
    pushed = sconce_json("push", path, run)
    out = tmp_path / "out.pt"
    sconce("pull", f"{run}@latest", "-o", out)
    assert_same(path, out)

    # What came out is the same content: pushed again it has the same manifest, byte for byte, and stores nothing.
    again = sconce_json("push", out, run)
    assert again["version"] != pushed["version"]
    assert manifest_digest(again) == manifest_digest(pushed)
    assert int(again.get("storedBytes", 0)) == 0


def manifest_digest(checkpoint):
    digest = checkpoint.get("manifestSha256") or checkpoint.get("manifest_sha256")
    assert len(digest) == 64
    return digest


@pytest.mark.parametrize("path", CHECKPOINTS)
def test_rpc_round_trip(path, rpc, run, tmp_path):
    made = rpc.import_file(run, path.read_bytes(), sha256="")
    out = tmp_path / "out.pt"
    out.write_bytes(rpc.export_file(made.name))
    assert_same(path, out)
    assert rpc.export_file(made.name) == out.read_bytes(), "an export is the same bytes each time"


@pytest.mark.parametrize("path", some(REFUSED))
def test_code_is_refused_by_name(path, rpc, sconce, run):
    trace = pathlib.Path("/tmp/PWNED")  # what evil_system.pt would make
    assert not trace.exists()
    with pytest.raises(grpc.RpcError) as refused:
        rpc.import_file(run, path.read_bytes())
    assert stubs.reason_of(refused.value)[:2] == ("INVALID_ARGUMENT", "PICKLE_GLOBAL_REFUSED")
    assert REFUSED[path.name] in refused.value.details()

    by_tool = sconce("push", path, run, check=False)
    assert by_tool.returncode != 0
    assert REFUSED[path.name] in by_tool.stderr
    assert not trace.exists()

    with pytest.raises(grpc.RpcError) as missing:
        rpc.checkpoints.GetRun(stubs.checkpoints.GetRunRequest(name=f"projects/default/runs/{run}"), timeout=10)
    assert stubs.reason_of(missing.value)[:2] == ("NOT_FOUND", "RUN_NOT_FOUND")


@pytest.mark.parametrize("path", some(REFUSED))
def test_opaque_bytes_come_back_untouched(path, rpc, run):
    made = rpc.import_file(run, path.read_bytes(), opaque=True)
    assert made.kind == made.OPAQUE
    assert rpc.export_file(made.name) == path.read_bytes()
    with pytest.raises(grpc.RpcError) as refused:
        rpc.checkpoints.DescribeCheckpoint(stubs.checkpoints.DescribeCheckpointRequest(name=made.name), timeout=10)
    assert stubs.reason_of(refused.value)[:2] == ("FAILED_PRECONDITION", "CHECKPOINT_OPAQUE")


@pytest.mark.parametrize("path", some(ARCHIVES))
def test_modules_come_back_byte_for_byte(path, sconce, run, tmp_path):
    sconce("module", "push", path, f"{run}@net")
    out = tmp_path / "out.pt"
    sconce("module", "pull", f"{run}@net", "-o", out)
    assert out.read_bytes() == path.read_bytes()


def hostile():
    if not SHARED:
        return []
    expected = json.loads((SHARED / "hostile/expected.json").read_text(encoding="utf-8"))
    return [pytest.param(SHARED / "hostile" / name, entry, id=name) for name, entry in sorted(expected.items()) if name.endswith((".pt", ".pth"))]


@pytest.mark.parametrize("path, entry", hostile())
def test_hostile_files_change_nothing(path, entry, rpc, run):
    expected = entry["expect"] if isinstance(entry, dict) else entry
    refused = None
    try:
        rpc.import_file(run, path.read_bytes(), timeout=30)
    except grpc.RpcError as error:
        refused = error
    if expected == "error":
        assert refused is not None
    if expected == "ok":
        assert refused is None
    if refused is not None:
        code, reason, _ = stubs.reason_of(refused)
        assert code in ("INVALID_ARGUMENT", "RESOURCE_EXHAUSTED"), refused
        assert reason is not None
        listed = rpc.checkpoints.ListRuns(stubs.checkpoints.ListRunsRequest(page_size=1000), timeout=10)
        assert not any(one.name.endswith(f"/{run}") for one in listed.runs)


def test_the_fixtures_are_there():
    assert len(CHECKPOINTS) >= 3, "tests/data has real checkpoints of its own"
    if os.environ.get("CI") and SHARED:
        assert len(CHECKPOINTS) > 50
