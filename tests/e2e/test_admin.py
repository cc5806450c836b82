"""What operators do with `sconce admin`, on the real server."""

import json
import re
import shutil
import subprocess
import urllib.request

import numpy as np
import pytest
import torch


def checkpoint(path, seed, size=200_000, **scalars):
    """A file with one tensor of random numbers."""
    generator = np.random.default_rng(seed)
    torch.save({"w": torch.from_numpy(generator.standard_normal(size).astype(np.float32)), **scalars}, path)
    return path


@pytest.fixture
def push(sconce, tmp_path):
    def call(run, seed, **scalars):
        sconce("push", checkpoint(tmp_path / f"{run}-{seed}.pt", seed, **scalars), run)

    return call


def test_stats_have_two_names(sconce):
    assert "blobs" in sconce("admin", "stats").stdout
    assert "blobs" in sconce("stats").stdout


def test_gc_frees_what_was_deleted(push, sconce, sconce_json, run):
    push(run, 1)
    before = int(sconce_json("stats")["physicalBytes"])
    assert "freedBytes" not in sconce_json("admin", "gc", "--dry-run"), "nothing is garbage yet"
    sconce("runs", "rm", run, "--force")
    sconce("admin", "gc")
    assert int(sconce_json("stats").get("physicalBytes", 0)) <= before - 800_000


INTEGRITY = "sconce.v1.integrity"


def scrape(server):
    """The text that Prometheus would get."""
    address = re.search(r'"event":"metrics","address":"([^"]+)"', server.log.read_text())[1]
    with urllib.request.urlopen(f"http://{address}/metrics", timeout=30) as answer:
        return answer.read().decode()


def metrics(server):
    """What it would see in it: name -> {labels: value}."""
    parser = pytest.importorskip("prometheus_client.parser", reason="python3-prometheus-client is not installed")
    values = {}
    for family in parser.text_string_to_metric_families(scrape(server)):
        for sample in family.samples:
            values.setdefault(sample.name, {})[tuple(sorted(sample.labels.items()))] = sample.value
    return values


def flip(server, offset):
    """Flips a bit of the largest blob, as a failing disk would. The file is read-only; the tests run as its owner."""
    blob = max((server.data_dir / "blobs").rglob("*.blob"), key=lambda path: path.stat().st_size)
    blob.chmod(0o640)
    with open(blob, "r+b") as file:
        file.seek(offset)
        byte = file.read(1)
        file.seek(offset)
        file.write(bytes([byte[0] ^ 1]))


def test_damage_is_found_shown_and_healed(new_server, tmp_path):
    server = new_server(flags=["--scrub-rate", "0"]).start()
    checkpoint(tmp_path / "old.pt", 1, loss=0.5)
    checkpoint(tmp_path / "best.pt", 2, size=3_000_000, loss=0.1)
    server.sconce("push", tmp_path / "old.pt", "run")
    server.sconce("push", tmp_path / "best.pt", "run")
    assert "all is well" in server.sconce("admin", "verify").stdout
    assert server.sconce("health", "--service", INTEGRITY).stdout == "SERVING\n"
    assert metrics(server)["sconce_checkpoints"] == {(("state", "committed"),): 2, (("state", "quarantined"),): 0}

    flip(server, 5_000_000)
    found = server.sconce("admin", "verify", check=False)
    assert found.returncode == 1
    assert "run@2" in found.stdout and "run@1" not in found.stdout
    assert "CHUNK_CORRUPT" in found.stderr
    assert json.loads(server.sconce("ls", "run", "-o", "json").stdout)["checkpoints"][0]["state"] == "QUARANTINED"
    assert json.loads(server.sconce("show", "run@best", "-o", "json").stdout)["checkpoint"]["name"].endswith("/1")
    refused = server.sconce("pull", "run@2", "-o", tmp_path / "no.pt", check=False)
    assert refused.returncode == 1 and "CHECKPOINT_QUARANTINED" in refused.stderr
    assert server.sconce("health", "--service", INTEGRITY, check=False).returncode == 1
    assert server.sconce("health").returncode == 0, "the server as a whole goes on"
    values = metrics(server)
    assert values["sconce_checkpoints"][(("state", "quarantined"),)] == 1
    assert values["sconce_verify_failures_total"] == {(): 1}

    server.sconce("push", tmp_path / "best.pt", "elsewhere")
    assert "all is well" in server.sconce("admin", "verify").stdout
    assert server.sconce("health", "--service", INTEGRITY).returncode == 0
    assert json.loads(server.sconce("show", "run@best", "-o", "json").stdout)["checkpoint"]["name"].endswith("/2")
    server.sconce("pull", "run@2", "-o", tmp_path / "healed.pt")
    assert torch.equal(torch.load(tmp_path / "healed.pt")["w"], torch.load(tmp_path / "best.pt")["w"])
    assert server.stop() == 0


def test_the_scrub_finds_damage_by_itself(new_server, tmp_path):
    server = new_server(flags=["--scrub-rate", "0"]).start()
    server.sconce("push", checkpoint(tmp_path / "a.pt", 1, size=1_000_000), "run")
    assert server.stop() == 0
    flip(server, 100_000)
    server = new_server(flags=["--scrub-rate", "1GiB"]).start()  # never scrubbed before: a round begins at once
    rpc = server.stubs()
    request = b"\x0a" + bytes([len(INTEGRITY)]) + INTEGRITY.encode()
    states = rpc.channel.unary_stream("/grpc.health.v1.Health/Watch", bytes, bytes)(request, timeout=60)
    assert any(state == b"\x08\x02" for state in states), "NOT_SERVING is pushed to whoever watches"
    assert "CHECKPOINT_QUARANTINED" in server.sconce("pull", "run@1", "-o", tmp_path / "b.pt", check=False).stderr
    rpc.close()
    assert server.stop() == 0


def test_verify_takes_names(push, sconce, sconce_json, run):
    push(run, 1)
    push(run, 2)
    assert sconce_json("admin", "verify", f"{run}@1")["chunkCount"] == "1"
    assert sconce_json("admin", "verify", run)["chunkCount"] == "2"
    assert int(sconce_json("admin", "verify", "projects/default")["chunkCount"]) >= 2
    assert sconce("admin", "verify", "no-such-run", check=False).returncode == 1


def test_metrics_are_what_prometheus_expects(server, push, run):
    push(run, 1)
    values = metrics(server)
    for name in ("sconce_build_info", "sconce_blobs", "sconce_disk_free_bytes", "process_open_fds", "sconce_last_commit_timestamp_seconds"):
        assert len(values[name]) == 1, name
    assert values["sconce_committed_total"][()] >= 1
    assert values["sconce_upload_bytes_total"][(("result", "new"),)] >= 800_000
    handled = values["grpc_server_handled_total"]
    key = (("grpc_code", "OK"), ("grpc_method", "CommitUpload"), ("grpc_service", "sconce.v1.TransferService"), ("grpc_type", "unary"))
    assert handled[key] >= 1
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool (Debian's prometheus) is not installed: its check of names and types was not made")
    judged = subprocess.run([promtool, "check", "metrics"], input=scrape(server).encode(), capture_output=True, timeout=60, check=False)
    assert judged.returncode == 0, judged.stderr.decode()
