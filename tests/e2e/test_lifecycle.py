"""Starting, health, reflection, draining and stopping, as an operator and a load balancer see them."""

import io
import json
import os
import pathlib
import queue
import shutil
import signal
import subprocess
import threading

import grpc
import pytest
import sconced
import stubs
import torch

SERVING, NOT_SERVING = b"\x08\x01", b"\x08\x02"
HEALTH = "/grpc.health.v1.Health/"


def as_is(data):
    return data


def check_health(channel, service=""):
    request = b"\x0a" + bytes([len(service)]) + service.encode() if service else b""
    return channel.unary_unary(HEALTH + "Check", as_is, as_is)(request, timeout=10)


def big_file(mebibytes):
    file = io.BytesIO()
    torch.save({"w": torch.rand(mebibytes << 18)}, file)
    return file.getvalue()


def test_the_ready_line_is_one_line_with_the_address(new_server):
    server = new_server().start()
    assert server.ready_line.count("\n") == 1
    assert server.target in server.ready_line


@pytest.mark.parametrize("service", ["", "sconce.v1.CheckpointService", "sconce.v1.TransferService", "inference.GRPCInferenceService"])
def test_healthy_when_ready(rpc, service):
    assert check_health(rpc.channel, service) == SERVING


def test_health_of_an_unknown_service(rpc):
    with pytest.raises(grpc.RpcError) as error:
        check_health(rpc.channel, "nope.Nope")
    assert error.value.code() is grpc.StatusCode.NOT_FOUND


def test_sigterm_drains(new_server):
    """NOT_SERVING is pushed to who watches, the transfer in flight is finished, and the exit code is 0."""
    server = new_server().start()
    rpc = server.stubs()
    data = big_file(64)
    name = rpc.import_file("run", data).name

    states = queue.Queue()
    watch = rpc.channel.unary_stream(HEALTH + "Watch", as_is, as_is)(b"")

    def follow():
        try:
            for state in watch:
                states.put(state)
        except grpc.RpcError:
            pass

    threading.Thread(target=follow, daemon=True).start()
    assert states.get(timeout=10) == SERVING

    export = rpc.transfer.ExportCheckpoint(stubs.transfer.ExportCheckpointRequest(name=name), timeout=60)
    next(export)  # the header: the transfer has begun
    server.process.terminate()
    assert states.get(timeout=10) == NOT_SERVING
    received = sum(len(message.data) for message in export)
    assert received > 64 << 20
    assert server.process.wait(60) == 0
    rpc.close()


def test_a_second_signal_ends_it_at_once(new_server):
    """The first one begins a grace period of an hour; the second one does not wait for it."""
    server = new_server(flags=["--grace-period", "1h"]).start()
    watch = server.stubs().channel.unary_stream(HEALTH + "Watch", as_is, as_is)(b"")
    assert next(watch) == SERVING
    server.process.terminate()
    assert next(watch) == NOT_SERVING
    assert check_health(server.stubs().channel) == NOT_SERVING, "it serves on"
    server.process.terminate()
    assert server.process.wait(30) == 128 + signal.SIGTERM


def test_a_second_server_on_the_same_folder_is_refused(new_server):
    server = new_server().start()
    command = [sconced.BIN / "sconced", "--data-dir", server.data_dir, "--listen", "127.0.0.1:0", "--metrics-listen", "127.0.0.1:0"]
    second = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert second.returncode != 0
    assert "DATA_DIR_LOCKED" in second.stderr
    assert server.process.poll() is None
    assert check_health(server.stubs().channel) == SERVING


def test_unix_sockets(new_server, tmp_path):
    socket = tmp_path / "s"
    server = new_server(flags=["--listen", f"unix:{socket}"]).start()
    assert check_health(grpc.insecure_channel(f"unix:{socket}")) == SERVING
    assert server.stop() == 0


@pytest.mark.parametrize("program", ["sconced", "sconce"])
def test_help_reads_well(program):
    result = subprocess.run([sconced.BIN / program, "--help"], capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode == 0
    assert not result.stderr
    assert max(map(len, result.stdout.splitlines())) <= 125
    for word in {"sconced": ["--data-dir", "--listen", "--metrics-listen", "127.0.0.1:7433"], "sconce": ["push", "pull", "show", "infer", "--target"]}[program]:
        assert word in result.stdout


@pytest.mark.parametrize(
    "flags, word",
    [(["--no-such-flag"], "no-such-flag"), (["--listen", "nonsense"], "nonsense"), (["--listen", "127.0.0.1:99999"], "99999")],
)
def test_bad_flags_are_named(tmp_path, flags, word):
    command = [sconced.BIN / "sconced", "--data-dir", tmp_path / "data", *flags]
    result = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert result.returncode != 0
    assert word in result.stderr
    assert not result.stdout


def test_the_tool_without_a_server(tmp_path):
    environment = {**os.environ, "SCONCE_TARGET": f"unix:{tmp_path}/nobody"}
    result = subprocess.run([sconced.BIN / "sconce", "runs"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode != 0
    assert "SERVER_UNREACHABLE" in result.stderr


def grpcurl():
    """A real grpcurl: on the PATH, or built once by scripts/grpcurl.sh where Go and its module proxy are there."""
    found = shutil.which("grpcurl")
    if found:
        return found
    built = subprocess.run([stubs.SOURCE / "scripts/grpcurl.sh"], capture_output=True, text=True, check=False)
    if built.returncode != 0:
        pytest.skip(f"no grpcurl, and it cannot be built here: {built.stderr.strip()[-300:]}")
    return built.stdout.strip()


def call(target, *arguments):
    return subprocess.run([grpcurl(), "-plaintext", *arguments[:-1], target, *arguments[-1:]], capture_output=True, text=True, timeout=60, check=False)


def test_grpcurl_lists_describes_and_calls(server, rpc, run):
    listed = call(server.target, "list")
    assert listed.returncode == 0, listed.stderr
    names = set(listed.stdout.split())
    assert {"sconce.v1.CheckpointService", "sconce.v1.TransferService", "sconce.v1.ModelService", "sconce.v1.AdminService"} <= names
    assert {"inference.GRPCInferenceService", "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection"} <= names
    assert "grpc.reflection.v1alpha.ServerReflection" in names
    for service in sorted(names):
        described = subprocess.run(
            [grpcurl(), "-plaintext", server.target, "describe", service], capture_output=True, text=True, timeout=60, check=False
        )
        assert described.returncode == 0 and "rpc " in described.stdout, f"{service}: {described.stderr}"

    file = io.BytesIO()
    torch.save({"epoch": 3, "loss": 0.5}, file)
    rpc.import_file(run, file.getvalue())
    got = call(server.target, "-d", json.dumps({"name": f"projects/default/runs/{run}/checkpoints/best"}), "sconce.v1.CheckpointService/GetCheckpoint")
    assert got.returncode == 0, got.stderr
    answer = json.loads(got.stdout)
    assert (answer["version"], answer["epoch"], answer["metrics"]) == ("1", "3", {"loss": 0.5})

    refused = call(server.target, "-d", json.dumps({"name": f"projects/default/runs/{run}/checkpoints/2"}), "sconce.v1.CheckpointService/GetCheckpoint")
    assert refused.returncode == 64 + 5, "NOT_FOUND"
    assert "google.rpc.ErrorInfo" in refused.stderr and "CHECKPOINT_NOT_FOUND" in refused.stderr

    healthy = call(server.target, "grpc.health.v1.Health/Check")
    assert json.loads(healthy.stdout) == {"status": "SERVING"}


def test_no_file_of_the_store_is_open_to_others(server, rpc, run):
    file = io.BytesIO()
    torch.save({"w": torch.rand(5000)}, file)
    rpc.import_file(run, file.getvalue())
    blobs = [p for p in pathlib.Path(server.data_dir, "blobs").rglob("*.blob")]
    assert blobs
    assert all(p.stat().st_mode & 0o337 == 0 for p in blobs), "sealed blobs are 0440"
