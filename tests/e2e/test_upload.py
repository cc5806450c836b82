"""`sconce push` as it is interrupted, repeated and shared: what is durable is not sent again, and one push makes one version."""

import json
import os
import subprocess
import time
import uuid

import grpc
import pytest
import sconced
import stubs
import torch
from test_lifecycle import call

MIB = 1 << 20
transfer = stubs.transfer


def save(path, mebibytes, **more):
    """A checkpoint of random tensors of 16 MiB."""
    torch.save({"epoch": 1, "state": {f"layer{i}": torch.rand(4 * MIB) for i in range(mebibytes // 16)}, **more}, path)
    return path


def wire_bytes(server, method="UploadChunks"):
    """What came in by this method, after the access log."""
    lines = (json.loads(line) for line in server.log.read_text(encoding="utf-8").splitlines() if line.startswith("{"))
    return sum(line["bytes_in"] for line in lines if line.get("rpc.method") == f"sconce.v1.TransferService/{method}")


def upload_bytes(server):
    """What lies in the server's files of open uploads."""
    total = 0
    for path in (server.data_dir / "uploads").rglob("*"):
        try:
            total += path.stat().st_blocks * 512 if path.is_file() else 0
        except FileNotFoundError:
            pass
    return total


def start_push(target, *arguments):
    environment = {**os.environ, "SCONCE_TARGET": target}
    command = [str(sconced.BIN / "sconce"), "push", *map(str, arguments), "-o", "json"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for_bytes(server, count, push):
    """Until so much of the push is on the disk; it must still be going on then."""
    give_up = time.monotonic() + 120
    while upload_bytes(server) < count:
        assert push.poll() is None, push.communicate()
        assert time.monotonic() < give_up
        time.sleep(0.005)
    assert push.poll() is None, "the push was done too soon"


def versions(server, run):
    """Of a run; none when there is no run, which an upload makes with its version only."""
    request = stubs.checkpoints.ListCheckpointsRequest(parent=f"projects/default/runs/{run}")
    try:
        answer = server.stubs().checkpoints.ListCheckpoints(request, timeout=30)
    except grpc.RpcError as error:
        assert stubs.reason_of(error)[1] == "RUN_NOT_FOUND"
        return []
    return [checkpoint.version for checkpoint in answer.checkpoints]


def assert_pulls(server, run, file, out):
    server.sconce("pull", f"{run}@latest", "-o", out)
    ours, theirs = torch.load(out), torch.load(file)
    assert all(torch.equal(ours["state"][name], tensor) for name, tensor in theirs["state"].items())


def test_a_second_push_makes_a_version_and_sends_no_tensor(new_server, tmp_path):
    server = new_server().start()
    file = save(tmp_path / "a.pt", 64)
    first = json.loads(server.sconce("push", file, "r", "-o", "json").stdout)
    assert (int(first["version"]), int(first["sentBytes"]), int(first["reusedBytes"])) == (1, 64 * MIB, 0)
    before = wire_bytes(server)
    second = json.loads(server.sconce("push", file, "r", "-o", "json").stdout)
    assert (int(second["version"]), int(second["sentBytes"]), int(second["reusedBytes"])) == (2, 0, 64 * MIB)
    assert int(second.get("storedBytes", 0)) == 0
    third = server.sconce("push", file, "other").stdout
    assert third.rstrip().endswith("; sent 0 B, 64.0 MiB already stored")
    server.stop()  # the log is whole
    assert wire_bytes(server) - before < 64 << 10


def test_only_what_changed_is_sent(server, tmp_path):
    file = tmp_path / "a.pt"
    state = {f"layer{i}": torch.rand(4 * MIB) for i in range(4)}
    torch.save({"state": state}, file)
    server.sconce("push", file, "frozen")
    state["layer3"] += 1
    torch.save({"state": state}, file)
    second = json.loads(server.sconce("push", file, "frozen", "-o", "json").stdout)
    assert (int(second["sentBytes"]), int(second["reusedBytes"])) == (16 * MIB, 48 * MIB)
    assert_pulls(server, "frozen", file, tmp_path / "out.pt")


def test_a_killed_push_goes_on_when_it_is_given_again(new_server, tmp_path):
    server = new_server().start()
    file = save(tmp_path / "a.pt", 512)
    push = start_push(server.target, file, "r")
    wait_for_bytes(server, 150 * MIB, push)
    push.kill()
    push.communicate()
    assert versions(server, "r") == []
    again = json.loads(server.sconce("push", file, "r", "-o", "json").stdout)
    assert int(again["version"]) == 1
    assert int(again["reusedBytes"]) >= 64 * MIB
    assert int(again["sentBytes"]) + int(again["reusedBytes"]) == 512 * MIB
    assert versions(server, "r") == [1]
    assert_pulls(server, "r", file, tmp_path / "out.pt")


def test_a_push_outlives_its_server(new_server, tmp_path):
    socket = tmp_path / "socket"
    server = new_server(flags=["--listen", f"unix:{socket}"]).start()
    file = save(tmp_path / "a.pt", 512)
    push = start_push(f"unix:{socket}", file, "r")
    wait_for_bytes(server, 150 * MIB, push)
    server.kill()
    assert push.poll() is None
    server.start()
    out, err = push.communicate(timeout=300)
    assert push.returncode == 0, err
    pushed = json.loads(out)
    assert int(pushed["version"]) == 1
    assert int(pushed["sentBytes"]) < 512 * MIB + 400 * MIB
    assert wire_bytes(server) < 512 * MIB  # the new server was sent the rest only; the killed one wrote no line
    assert versions(server, "r") == [1]
    assert_pulls(server, "r", file, tmp_path / "out.pt")


def test_a_request_id_makes_one_version(server, run, tmp_path):
    file = save(tmp_path / "a.pt", 16)
    request_id = str(uuid.uuid4())
    names = {server.sconce("push", file, run, "--request-id", request_id, "-o", "name").stdout for _ in range(3)}
    assert names == {f"projects/default/runs/{run}/checkpoints/1\n"}
    other = save(tmp_path / "b.pt", 16)
    refused = server.sconce("push", other, run, "--request-id", request_id, check=False)
    assert refused.returncode == 1
    assert "REQUEST_ID_REUSED" in refused.stderr


def test_ranks_push_one_version(server, run, tmp_path):
    files = []
    for rank in range(3):
        files.append(tmp_path / f"rank{rank}.pt")
        torch.save({"state": {f"rank{rank}.{name}": torch.rand(5 * MIB // 4) for name in "ab"}}, files[-1])

    def push(rank):
        return server.sconce("push", files[rank], run, "--part", f"{rank}/3", "--upload", "step-1", check=False)

    first = push(2)
    assert first.returncode == 0, first.stderr
    assert "part 2 of 3 is durable" in first.stdout
    assert "no version yet" in first.stderr
    assert versions(server, run) == []
    shown = server.sconce("upload", "show", f"{run}@step-1").stdout
    assert "open" in shown and "2 of 3" in shown
    push(0)
    last = push(1)
    assert last.stdout.startswith(f"{run}@1 "), last.stdout + last.stderr
    late = push(0)  # a rank that was restarted learns the version
    assert late.stdout.startswith(f"{run}@1 "), late.stdout + late.stderr
    assert f"became {run}@1" in server.sconce("upload", "show", f"{run}@step-1").stdout
    out = tmp_path / "out.pt"
    server.sconce("pull", f"{run}@1", "-o", out)
    state = torch.load(out)["state"]
    for file in files:
        for name, tensor in torch.load(file)["state"].items():
            assert torch.equal(state[name], tensor)


def test_an_aborted_upload_leaves_nothing(server, rpc, run, tmp_path):
    file = save(tmp_path / "a.pt", 16)
    server.sconce("push", file, run, "--part", "0/2", "--upload", "u")
    assert "aborted" in server.sconce("upload", "abort", f"{run}@u").stdout
    gone = server.sconce("upload", "show", f"{run}@u", check=False)
    assert gone.returncode == 1 and "UPLOAD_NOT_FOUND" in gone.stderr
    with pytest.raises(grpc.RpcError) as error:
        rpc.transfer.CommitUpload(transfer.CommitUploadRequest(name=f"projects/default/runs/{run}/uploads/u"), timeout=30)
    assert stubs.reason_of(error.value)[1] == "UPLOAD_NOT_FOUND"


def test_a_damaged_file_leaves_no_version(server, run, tmp_path):
    file = save(tmp_path / "a.pt", 16)
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    refused = server.sconce("push", file, run, check=False)
    assert refused.returncode == 1 and "FILE_MALFORMED" in refused.stderr


def test_grpcurl_calls_the_unary_ones(server, run):
    service = "sconce.v1.TransferService"
    name = f"projects/default/runs/{run}/uploads/by-hand"
    begun = call(
        server.target, "-d", json.dumps({"header": {"parent": f"projects/default/runs/{run}"}, "upload_id": "by-hand"}), f"{service}/BeginUpload"
    )
    assert begun.returncode == 0, begun.stderr
    upload = json.loads(begun.stdout)
    assert upload["name"] == name and upload["expectedParts"] == 1 and upload["expireTime"]
    got = call(server.target, "-d", json.dumps({"name": name}), f"{service}/GetUpload")
    assert json.loads(got.stdout)["name"] == name
    incomplete = call(server.target, "-d", json.dumps({"name": name}), f"{service}/CommitUpload")
    assert incomplete.returncode == 64 + 3 and "UPLOAD_INCOMPLETE" in incomplete.stderr
    assert call(server.target, "-d", json.dumps({"name": name}), f"{service}/AbortUpload").returncode == 0
    assert call(server.target, "-d", json.dumps({"name": name}), f"{service}/GetUpload").returncode == 64 + 5
