"""What a run keeps, and what its watchers hear."""

import json
import os
import subprocess
import time

import grpc
import pytest
import sconced
import stubs
import torch

checkpoints = stubs.checkpoints


@pytest.fixture
def push(sconce, tmp_path):
    def call(run, loss, *options):
        file = tmp_path / "checkpoint.pt"
        torch.save({"w": torch.full((1000,), loss), "loss": loss}, file)
        return sconce("push", file, run, "-o", "name", *options).stdout.strip()

    return call


def versions(sconce_json, run):
    return sorted(int(c["version"]) for c in sconce_json("ls", run)["checkpoints"])


def test_a_policy_can_be_tried_set_and_is_kept(push, sconce, sconce_json, run):
    for loss in [0.5, 0.1, 0.4, 0.3]:
        push(run, loss)
    sconce("alias", run, "first", "1")
    preview = sconce_json("runs", "retention", run, "--keep-last", "1")
    assert [d.get("deleted", False) for d in preview["decisions"]] == [False, True, False, False]
    assert [d["reason"] for d in preview["decisions"]] == ["the newest version", "no rule keeps it", "what `best` means", "named by alias first"]
    assert versions(sconce_json, run) == [1, 2, 3, 4], "nothing was deleted"
    table = sconce("runs", "retention", run, "--keep-last", "1").stdout.splitlines()
    assert table[2].split() == [f"{run}@3", "deleted", "no", "rule", "keeps", "it"]
    sconce("runs", "set", run, "--keep-last", "1", "--keep-best", "2")
    push(run, 0.9)
    assert versions(sconce_json, run) == [1, 2, 4, 5]
    assert all(not d.get("deleted", False) for d in sconce_json("runs", "retention", run)["decisions"])


def wait_for_versions(sconce, sconce_json, run, expected):
    give_up = time.monotonic() + 60
    while versions(sconce_json, run) != expected:
        assert time.monotonic() < give_up, versions(sconce_json, run)
        sconce("admin", "gc")
        time.sleep(0.1)


def test_a_version_goes_when_its_time_has_come(push, sconce, sconce_json, run):
    for loss, expire in [(0.5, "3s"), (0.4, "2099-01-31T12:00:00Z"), (0.3, "never")]:
        push(run, loss, "--expire", expire)
    assert "expires 2099-01-31T12:00:00Z" in sconce("show", f"{run}@2").stdout.splitlines()[0]
    wait_for_versions(sconce, sconce_json, run, [2, 3])
    assert "expireTime" not in sconce_json("show", f"{run}@3")["checkpoint"]


def test_an_expire_time_can_be_set_and_taken_back(push, sconce, sconce_json, run):
    for loss in [0.5, 0.4, 0.3]:
        push(run, loss)
    assert "expires 2099-01-31T12:00:00Z" in sconce("update", f"{run}@1", "--expire", "2099-01-31T14:00:00+02:00").stdout
    assert sconce_json("show", f"{run}@1")["checkpoint"]["expireTime"] == "2099-01-31T12:00:00Z"
    assert "expires" not in sconce("update", f"{run}@1", "--expire", "never").stdout
    assert "expireTime" not in sconce_json("show", f"{run}@1")["checkpoint"]
    sconce("update", f"{run}@1", "--expire", "1s")
    wait_for_versions(sconce, sconce_json, run, [2, 3])
    refused = sconce("update", f"{run}@2", "--expire", "soon", check=False)
    assert refused.returncode != 0 and "--expire takes a time" in refused.stderr


def test_watch_prints_a_line_for_each_event_and_resumes(push, server, sconce, run):
    push(run, 0.5)
    command = [str(sconced.BIN / "sconce"), "watch", run, "--count", "3", "-o", "json"]
    environment = {**os.environ, "SCONCE_TARGET": server.target}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        begun = watch.stderr.readline()
        assert begun.startswith(f"watching {run} after revision ")
        revision = begun.split()[-1]
        push(run, 0.25)
        sconce("alias", run, "stable", "1")
        events = [json.loads(line) for line in watch.stdout]
        assert watch.wait() == 0
    assert [(e["event"], e["checkpoint"]["version"], e.get("alias")) for e in events] == [("COMMITTED", "2", None), ("ALIAS_MOVED", "2", "best"), ("ALIAS_MOVED", "1", "stable")]
    lines = sconce("watch", run, "--after", revision, "--count", "3").stdout.splitlines()
    assert [line.split()[0] for line in lines] == [e["revision"] for e in events]
    assert lines[0].endswith(f"{run}@2  committed  loss=0.25")
    assert lines[1].endswith(f"{run}@2  is now best")
    assert sconce("watch", f"{run}@stable", "--after", revision, "--count", "1").stdout.strip() == lines[2]


def test_a_watch_of_what_is_not_there_says_so(rpc, run):
    with pytest.raises(grpc.RpcError) as error:
        next(rpc.checkpoints.WatchCheckpoints(checkpoints.WatchCheckpointsRequest(parent=f"projects/default/runs/{run}"), timeout=10))
    assert error.value.code() == grpc.StatusCode.NOT_FOUND
